"""The end of what works in the background: all of it at once, within a bound, whatever hangs."""

import threading

from flowkit.green import monotonic
from flowkit.server.stopping import stop_within


class Part:
    """A part that ends as it is told to."""

    def __init__(self, ending):
        self.ending = ending

    def close(self):
        """End."""
        self.ending()


def test_parts_are_closed_and_waited_for():
    """When it returns, they have ended; parts that are not there are no matter."""
    ended = []
    stop_within({"a": Part(lambda: ended.append("a")), "b": None}, 10)

    assert ended == ["a"]


def test_parts_end_side_by_side():
    """One that waits for the other does not wait for ever."""
    met = threading.Barrier(2, timeout=10)
    stop_within({"a": Part(met.wait), "b": Part(met.wait)}, 10)

    assert not met.broken


def test_a_part_that_hangs_is_left_behind_and_named(caplog):
    """The bound holds for all of them together; the log says who it was."""
    never, begun = threading.Event(), monotonic()
    stop_within({"a": Part(lambda: never.wait(30)), "b": Part(lambda: never.wait(30))}, 0.1)

    assert monotonic() - begun < 5
    assert caplog.messages == [
        "a: not stopped within 0.1 s, left behind",
        "b: not stopped within 0.1 s, left behind",
    ]
    never.set()


def test_a_part_that_fails_stops_nobody_else(caplog):
    """Its error is logged, and the rest ends in order."""
    ended = []

    def fail():
        raise OSError("no such process")

    stop_within({"scripts": Part(fail), "tasks": Part(lambda: ended.append(1))}, 10)

    assert ended == [1]
    assert caplog.messages == ["scripts: not stopped in order: no such process"]
