"""The rate limit as arithmetic: buckets, what they say, whose they are."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowkit.errors import TooManyRequests
from flowkit.server.pace import Buckets, Budget, Pace


class Seconds:
    """A clock that moves when it is told to."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        """Now."""
        return self.now


@pytest.fixture
def clock():
    """Seconds that stand still."""
    return Seconds()


def taken(buckets, key, times=1):
    """How many of so many requests are let through."""
    return sum(buckets.take(key) is not None for _ in range(times))


# at so many seconds, requests that come, how many of them pass; 2 a second, 5 at once
TIMES = [
    [(0, 9, 5)],
    [(0, 5, 5), (0.4, 1, 0), (0.5, 2, 1), (1.5, 9, 2)],
    [(0, 1, 1), (60, 9, 5)],
    [(0, 5, 5), (100, 5, 5), (100.25, 1, 0), (100.5, 1, 1)],
]


@pytest.mark.parametrize("steps", TIMES)
def test_a_bucket_gives_what_it_holds_and_what_comes_back(clock, steps):
    """The burst at once, then the rate; never more than the burst after a pause."""
    buckets = Buckets(2, 5, clock=clock)
    begun = clock.now
    for at_s, asked, passed in steps:
        clock.now = begun + at_s
        assert taken(buckets, "k", asked) == passed


@given(
    st.floats(0.1, 1000),
    st.integers(1, 50),
    st.lists(st.tuples(st.floats(0, 5), st.integers(1, 20)), max_size=40),
)
def test_no_span_lets_through_more_than_burst_and_rate(per_s, burst, steps):
    """The promise of a token bucket, for any arrivals: burst + rate x time."""
    clock = Seconds()
    buckets, begun, passed = Buckets(per_s, burst, clock=clock), clock.now, 0
    for pause_s, asked in steps:
        clock.now += pause_s
        passed += taken(buckets, "k", asked)
        assert passed <= burst + (clock.now - begun) * per_s + 1e-3


def test_what_is_refused_costs_nothing(clock):
    """Knocking at an empty bucket does not keep it empty."""
    buckets = Buckets(1, 1, clock=clock)
    assert taken(buckets, "k", 100) == 1
    clock.now += 1

    assert taken(buckets, "k") == 1


def test_what_is_owed_is_waited_for(clock):
    """A batch of twenty passes a bucket of five, and the average holds."""
    buckets = Buckets(2, 5, clock=clock)
    buckets.take("k")
    buckets.take("k", 19, owing=True)

    assert buckets.look("k").left == -15
    assert buckets.look("k").wait_s == 8
    clock.now += 7.9
    assert taken(buckets, "k") == 0
    clock.now += 0.1
    assert taken(buckets, "k") == 1


def test_every_key_has_a_bucket_of_its_own(clock):
    """One that is empty says nothing about the others."""
    buckets = Buckets(1, 3, clock=clock)

    assert [taken(buckets, key, 9) for key in "abc"] == [3, 3, 3]


def test_full_buckets_are_forgotten_and_memory_has_a_bound(clock):
    """A crowd that comes once leaves nothing; a crowd that stays is bounded, oldest first."""
    buckets = Buckets(1, 2, keys_max=100, clock=clock)
    for key in range(1000):
        buckets.take(key)
        assert len(buckets) <= 100
    assert 999 in buckets
    assert 0 not in buckets
    clock.now += 10
    for key in range(100):
        buckets.take(("later", key))
        clock.now += 3
    assert len(buckets) <= 11
    assert 999 not in buckets


# what is left, the four headers of a limit of 20 and 10 a second
HEADERS = [
    (20.0, ("20", "20", "0", "20;w=2")),
    (19.0, ("20", "19", "1", "20;w=2")),
    (0.99, ("20", "0", "2", "20;w=2")),
    (-30.0, ("20", "0", "5", "20;w=2")),
]


@pytest.mark.parametrize(("left", "said"), HEADERS)
def test_the_headers_say_bound_rest_and_when_all_is_back(left, said):
    """Whole numbers, never more than there is, never too few seconds."""
    headers = Budget(20, 10.0, left).headers

    assert tuple(headers.values()) == said
    assert list(headers) == [
        f"x-ratelimit-{what}" for what in ("limit", "remaining", "reset", "policy")
    ]


def test_beyond_the_limit_the_sentence_names_limit_and_time(clock):
    """How much, how fast, when again; the header has the seconds."""
    pace = Pace(10, clock=clock)
    for _ in range(20):
        pace.admit(b"nora")
    with pytest.raises(TooManyRequests) as caught:
        pace.admit(b"nora")

    assert caught.value.errors == [
        "rate limit: 10 requests a second and 20 at once are allowed of one credential; "
        "the next one is in 0.1 s"
    ]
    assert caught.value.retry_after_s == pytest.approx(0.1)
    clock.now += 0.1
    pace.admit(b"nora")


def test_wrong_secrets_are_counted_by_address_and_take_nothing_from_anybody(clock):
    """A flood of them ends in 429; whoever has a good secret notices nothing."""
    pace = Pace(1, 3, clock=clock)
    for _ in range(3):
        pace.turn_away("192.0.2.1")
    with pytest.raises(TooManyRequests, match="without a good token"):
        pace.turn_away("192.0.2.1")

    pace.turn_away("192.0.2.2")
    pace.admit(b"nora")
    assert pace.headers(b"nora")["x-ratelimit-remaining"] == "2"


def test_a_batch_is_charged_for_what_it_is(clock):
    """Further requests are taken after the first, even beyond what is left."""
    pace = Pace(1, 5, clock=clock)
    pace.admit(b"nora")
    pace.charge(b"nora", 0)
    assert pace.credentials.look(b"nora").left == 4
    pace.charge(b"nora", 9)
    assert pace.credentials.look(b"nora").left == -5


def test_threads_share_a_bucket_exactly(clock):
    """Eight threads at one bucket: not one too many, not one too few."""
    buckets, passed = Buckets(1, 1000, clock=clock), []
    threads = [
        threading.Thread(target=lambda: passed.append(taken(buckets, "k", 500))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sum(passed) == 1000
