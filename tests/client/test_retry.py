"""When a call is made again, and after how long."""

from heapq import heappop, heappush
from itertools import count
from math import ceil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowkit import limits
from flowkit.client.retry import Pace, Repeat, Retry
from flowkit.errors import (
    BadRequest,
    ConnectError,
    ConnectionLost,
    DeadlineExceeded,
    ProtocolError,
    ServerError,
    TooManyRequests,
)
from flowkit.server.pace import Buckets

READ, WRITE, ONCE = Repeat.ALWAYS, Repeat.IF_REPLAYED, Repeat.NEVER

# error, what kind of call, does the server replay, is it repeated
RULES = [
    (ConnectionLost("x"), READ, False, True),
    (ConnectionLost("x"), WRITE, False, False),
    (ConnectionLost("x"), WRITE, True, True),
    (ConnectionLost("x"), ONCE, True, False),
    (ConnectError("x"), WRITE, False, True),  # nothing was sent
    (ConnectError("x"), ONCE, True, False),
    (DeadlineExceeded("x"), READ, True, False),
    (ProtocolError("x"), READ, True, False),
    (ServerError("x", status=503), READ, False, True),
    (ServerError("x", status=503), WRITE, False, False),
    (ServerError("x", status=503), WRITE, True, True),
    (ServerError("x", status=502), READ, False, True),
    (ServerError("x", status=504), READ, False, True),
    (ServerError("x", status=500), READ, True, False),
    (TooManyRequests("x"), READ, False, True),
    (TooManyRequests("x"), WRITE, False, True),  # the limit refused it: nothing was done
    (TooManyRequests("x"), ONCE, True, False),
    (BadRequest("x"), READ, True, False),
]


@pytest.mark.parametrize(("error", "repeat", "replays", "wanted"), RULES)
def test_a_call_is_repeated_when_that_is_worth_it_and_safe(error, repeat, replays, wanted):
    """The table of failures, kinds of calls and servers."""
    assert Retry().may_repeat(repeat, error, replays=replays) is wanted


# attempt, jitter, asked by the server, seconds
DELAYS = [
    (2, 1.0, None, 0.1),
    (2, 0.0, None, 0.05),
    (3, 1.0, None, 0.2),
    (4, 1.0, None, 0.4),
    (2, 1.0, 7.0, 7.0),
    (2, 1.0, 0.01, 0.1),
    (5, 1.0, None, None),
]


@pytest.mark.parametrize(("attempt", "jitter", "asked_s", "wanted_s"), DELAYS)
def test_each_wait_is_twice_the_one_before(attempt, jitter, asked_s, wanted_s):
    """The schedule of three repetitions, and what the server asks for."""
    assert Retry(3, 0.1, 10.0).delay_s(attempt, jitter, asked_s) == wanted_s


@given(st.integers(2, 10_000), st.floats(0, 1), st.none() | st.floats(0, 1e6, allow_nan=False))
def test_no_wait_is_longer_than_allowed_or_shorter_than_asked(attempt, jitter, asked_s):
    """Whatever the attempt and the chance, the bounds hold."""
    delay_s = Retry(10_000, 0.1, 10.0).delay_s(attempt, jitter, asked_s)

    assert (asked_s or 0.0) <= delay_s <= max(10.0, asked_s or 0.0)


def test_no_repetitions_means_none():
    """``retries=0`` gives up at once."""
    assert Retry(0).delay_s(2, 0.5) is None


def test_a_refusal_by_the_rate_limit_holds_back_the_calls_beside_it():
    """The longest request of the server for quiet counts, and it ends."""
    pace = Pace()
    pace.hold(TooManyRequests("slow down", retry_after_s=5.0), now_s=100.0)
    pace.hold(TooManyRequests("slow down", retry_after_s=1.0), now_s=101.0)
    pace.hold(ServerError("x", status=503, retry_after_s=60.0), now_s=101.0)

    assert pace.held_s(102.0) == pace.take(102.0) == pytest.approx(3.0)
    assert pace.held_s(106.0) == pace.take(106.0) == 0.0


def test_one_wrong_header_does_not_hold_back_an_api_for_ever():
    """The hold of the calls beside it is bounded."""
    pace = Pace()
    pace.hold(TooManyRequests("slow down", retry_after_s=1e12), now_s=0.0)

    assert pace.take(0.0) == limits.pace_hold_max_s


# --- the budget of a server -----------------------------------------------------------------------


def told(limit, left, per_s, **more):
    """The headers of an answer."""
    return {
        "x-ratelimit-limit": str(limit),
        "x-ratelimit-remaining": str(left),
        "x-ratelimit-reset": str(ceil((limit - left) / per_s)),
        "x-ratelimit-policy": f"{limit};w={limit / per_s:.9g}",
        **more,
    }


def call(pace, now_s, headers):
    """One whole turn; how long it had to wait."""
    wait_s = pace.take(now_s)
    pace.go()
    pace.done()
    pace.learn(headers, now_s + wait_s, 1.8e9)
    return wait_s


def test_without_headers_nothing_ever_waits():
    """A server that says nothing of limits is asked as fast as before."""
    pace = Pace()

    assert [pace.take(0.0) for _ in range(1000)] == [0.0] * 1000


def test_what_is_left_goes_at_once_and_the_rest_in_turn():
    """Three left of a limit of 20 and 10 a second: three go, then one each tenth of a second."""
    pace = Pace()
    call(pace, 100.0, told(20, 3, 10.0))

    waits = [pace.take(100.0) for _ in range(6)]
    assert waits == pytest.approx([0, 0, 0, 0.1, 0.2, 0.3], abs=0.01)


def test_requests_that_are_out_are_thought_of():
    """Two that the server may not have counted yet: only one of its three is free."""
    pace = Pace()
    for _ in range(3):
        pace.take(0.0)
        pace.go()
    pace.done()
    pace.learn(told(20, 3, 10.0), 0.0, 1.8e9)

    assert [pace.take(0.0) for _ in range(2)] == pytest.approx([0, 0.1], abs=0.01)


def test_who_gives_up_waiting_gives_the_turn_back():
    """The next one waits no longer for it."""
    pace = Pace()
    call(pace, 0.0, told(20, 0, 10.0))
    assert pace.take(0.0) == pytest.approx(0.1, abs=0.01)
    pace.done(sent=False)

    assert pace.take(0.0) == pytest.approx(0.1, abs=0.01)


def test_what_others_use_of_the_same_credential_is_seen():
    """The server's word counts where it says less than was thought."""
    pace = Pace()
    call(pace, 0.0, told(20, 20, 10.0))
    call(pace, 0.0, told(20, 0, 10.0))

    assert [pace.take(0.0) for _ in range(2)] == pytest.approx([0, 0.1], abs=0.01)
    assert pace.take(0.0) > 0.1


def test_a_debt_is_waited_for():
    """A batch took 30 of 20: the next call waits until it may go, and not for a second word."""
    pace = Pace()
    call(pace, 0.0, told(20, 0, 10.0) | {"x-ratelimit-reset": "3"})

    assert 1.0 <= pace.take(0.0) <= 1.2


def test_a_limit_that_ends_is_forgotten():
    """Once the server speaks no more of it, nothing waits."""
    pace = Pace()
    call(pace, 0.0, told(20, 0, 10.0))
    pace.forget()

    assert pace.take(0.0) == 0.0


# what a server without a policy says, at a time of 1,800,000,000 s: how long all calls hold back
WINDOWS = [
    ({"x-ratelimit-remaining": "1", "x-ratelimit-reset": "30"}, 0.0),
    ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "30"}, 30.0),
    ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1800000030"}, 30.0),
    ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1700000000"}, 0.0),
    ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "9e7"}, limits.pace_hold_max_s),
    ({"x-ratelimit-remaining": "0"}, 0.0),
    ({"x-ratelimit-remaining": "none", "x-ratelimit-reset": "30"}, 0.0),
    ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "nan"}, 0.0),
    ({"x-ratelimit-remaining": "inf", "x-ratelimit-policy": "1;w=0"}, 0.0),
    ({"x-ratelimit-remaining": "0", "x-ratelimit-limit": "-5", "x-ratelimit-policy": "5;w=1"}, 0.0),
]


@pytest.mark.parametrize(("headers", "held_s"), WINDOWS)
def test_other_servers_limits_are_kept_as_far_as_they_are_told(headers, held_s):
    """A span or a time until the window ends; nonsense holds nobody back."""
    pace = Pace()
    call(pace, 0.0, headers)

    assert pace.take(0.0) == pytest.approx(held_s)


@given(
    per_s=st.sampled_from([5.0, 20.0, 300.0]),
    burst=st.integers(1, 40),
    callers=st.integers(1, 40),
    there_s=st.floats(0.0, 0.2),
    back_s=st.floats(0.0, 0.2),
)
@settings(max_examples=60)
def test_once_a_limit_is_known_nothing_runs_into_it_and_little_is_wasted(
    per_s, burst, callers, there_s, back_s
):
    """A server played through in time: callers that ask again and again, any delays both ways."""
    server, pace = Buckets(per_s, burst, clock=lambda: at_s[0]), Pace()
    at_s, refused, served, order = [0.0], 0, 0, count()
    call(pace, 0.0, told(burst, burst - 1, per_s) if server.take("k") else {})
    events = [(0.0, next(order), "ask", None) for _ in range(callers)]
    until_s = 60 * callers / per_s + 20 * (there_s + back_s)
    while events:
        at_s[0], _, what, headers = heappop(events)
        now_s = at_s[0]
        if what == "ask" and now_s < until_s:
            event = (now_s + pace.take(now_s), "go", None)
        elif what == "go":
            pace.go()
            event = (now_s + there_s, "arrive", None)
        elif what == "arrive":
            budget = server.take("k")
            refused, served = refused + (budget is None), served + (budget is not None)
            event = (now_s + back_s, "answer", server.look("k").headers)
        elif what == "answer":
            pace.done()
            pace.learn(headers, now_s, 1.8e9)
            event = (now_s, "ask", None)
        else:
            continue
        heappush(events, (event[0], next(order), *event[1:]))

    assert refused == 0
    at_most = min(until_s * per_s, until_s / max(there_s + back_s, 1e-9) * callers)
    assert served >= 0.9 * at_most - 2
