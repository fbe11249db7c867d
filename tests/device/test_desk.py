"""The desk of a sender: pauses that grow, with chance in them, and who does what meanwhile."""

from __future__ import annotations

from email.utils import formatdate
from time import time

import pytest

from flowkit.device import Outbox, bounds
from flowkit.device.desk import Desk
from flowkit.device.link import retry_after_s
from flowkit.device.pauses import about_s, backoff_s


@pytest.fixture
def box(tmp_path):
    """An outbox with two streams."""
    with Outbox(str(tmp_path / "box.db"), durable=False) as opened:
        opened.put("a", {"n": 1})
        opened.put("b", {"n": 2})
        yield opened


def test_pauses_double_up_to_a_bound_and_are_never_the_same_twice():
    """Between half and the whole of the back-off."""
    for level in range(1, 40):
        most_s = min(bounds.sender_retry_max_s, bounds.sender_retry_first_s * 2 ** (level - 1))
        assert backoff_s(level, lambda: 0.0) == most_s / 2
        assert backoff_s(level, lambda: 1.0) == most_s
    assert len({backoff_s(5) for _ in range(50)}) > 40
    assert 75 <= about_s(100) <= 125


def test_a_server_that_asks_to_wait_is_obeyed(box):
    """Never sooner than asked, and not for ever."""
    desk = Desk(box, chance=lambda: 0.0)
    assert desk.pause(None) == bounds.sender_retry_first_s / 2
    assert desk.pause(7.5) == 7.5
    assert 7.0 < desk.held_s() <= 7.5
    assert desk.take(waits=False) is None
    assert desk.pause(1e9) == bounds.sender_retry_after_max_s


def test_lanes_that_failed_together_pause_once(box):
    """The second one hears what is left of the pause of the first."""
    desk = Desk(box, chance=lambda: 1.0)
    first_s = desk.pause(None)
    assert 0 < desk.pause(None) <= first_s
    desk.resume()
    desk.hurry()
    assert desk.pause(None) == first_s


def test_after_a_pause_one_lane_tries_while_the_others_wait(box):
    """It is let go, and the next one may."""
    desk = Desk(box)
    desk.pause(None)
    desk.hurry()
    assert desk.take(waits=False) == []  # to ask for the marks
    assert desk.take(waits=False) is None
    desk.release([])
    taken = desk.take(waits=False)
    assert sorted(taken) == ["a", "b"]


def test_a_stream_is_with_one_lane_at_a_time(box):
    """And one that rests is with none."""
    desk = Desk(box)
    assert desk.take(waits=False) == []
    assert sorted(desk.take(waits=False)) == ["a", "b"]
    assert desk.take(waits=False) is None
    assert desk.take_idle(["a", "b", "c"]) == ["c"]
    desk.rest("a")
    desk.release(["a", "b", "c"])
    assert desk.take(waits=False) == ["b"]
    desk.calm("a")
    assert desk.take(waits=False) == ["a"]
    desk.close()
    assert desk.take() is None


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        (None, None),
        ("", None),
        ("3", 3.0),
        ("2.5", 2.5),
        ("-1", 0.0),
        ("soon", None),
        (formatdate(0, usegmt=True), 0.0),
    ],
)
def test_retry_after_is_read_in_both_its_forms(said, seconds):
    """Seconds, also with a fraction, or a date."""
    assert retry_after_s({} if said is None else {"retry-after": said}) == seconds


def test_a_date_in_the_future_is_waited_for():
    """Within the second that a date can say."""
    found = retry_after_s({"retry-after": formatdate(time() + 60, usegmt=True)})
    assert 58 <= found <= 60
