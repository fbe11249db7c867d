"""When a call is made again, and after how long."""

import pytest
from hypothesis import given
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

    assert pace.wait_s(102.0) == pytest.approx(3.0)
    assert pace.wait_s(106.0) == 0.0


def test_one_wrong_header_does_not_hold_back_an_api_for_ever():
    """The hold of the calls beside it is bounded."""
    pace = Pace()
    pace.hold(TooManyRequests("slow down", retry_after_s=1e12), now_s=0.0)

    assert pace.wait_s(0.0) == limits.pace_hold_max_s
