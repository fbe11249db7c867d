"""Turns: one at a time for each thing, side by side for several, fair within a lane."""

from collections import Counter

import pytest

from flowkit.green import Cell, NativeLock
from flowkit.server.turns import Turns

WAIT_S = 10.0


class Work:
    """Things with so many turns to do; notes who had them, and whether two overlapped."""

    def __init__(self, turns, lanes):
        self.left = dict(turns)
        self.order = []
        self.busy = Counter()
        self.overlapped = False
        self.is_done = Cell()
        self.lock = NativeLock()
        self.turns = Turns(self.turn, lanes)

    def turn(self, thing, lane):
        """One turn; goes on while there is something left."""
        with self.lock:
            self.busy[thing] += 1
            self.overlapped = self.overlapped or self.busy[thing] > 1
            self.order.append(thing)
            self.left[thing] -= 1
            goes_on = self.left[thing] > 0
            self.busy[thing] -= 1
            # a thing that was asked for late has more turns than it needs
            if max(self.left.values()) <= 0 and not self.is_done.is_ready:
                self.is_done.set(None)
        return lane if goes_on else None


def test_things_take_turns():
    """In a lane of one thread nobody has two turns while another waits."""
    gate, entered = Cell(), Cell()
    order = []
    is_done = Cell()

    def turn(thing, lane):
        order.append(thing)
        if thing == "first":
            entered.set(None)
            gate.get(WAIT_S)
            return None
        if len(order) == 7:
            is_done.set(None)
        return lane if order.count(thing) < 3 else None

    turns = Turns(turn, {"x": 1})
    turns.put("first", "x")
    entered.get(WAIT_S)
    turns.put("a", "x")
    turns.put("b", "x")
    gate.set(None)
    is_done.get(WAIT_S)
    turns.close()

    assert order == ["first", "a", "b", "a", "b", "a", "b"]


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_a_thing_has_one_turn_at_a_time(threads):
    """However many threads there are and however often it is asked for, in both lanes."""
    names = [f"t{n}" for n in range(6)]
    work = Work(dict.fromkeys(names, 50), {"x": threads, "y": threads})
    for _ in range(20):
        for number, name in enumerate(names):
            work.turns.put(name, "xy"[number % 2])
    work.is_done.get(WAIT_S)
    work.turns.close()

    assert not work.overlapped
    assert all(Counter(work.order)[name] >= 50 for name in names)


def test_who_is_put_during_its_turn_has_another():
    """What came in after the turn looked is not forgotten."""
    begun, go_on, second = Cell(), Cell(), Cell()
    count = []

    def turn(_thing, _lane):
        count.append(1)
        if len(count) == 1:
            begun.set(None)
            go_on.get(WAIT_S)
        else:
            second.set(None)

    turns = Turns(turn, {"x": 1})
    turns.put("t", "x")
    begun.get(WAIT_S)
    turns.put("t", "x")
    go_on.set(None)
    second.get(WAIT_S)
    turns.close()

    assert len(count) == 2


def test_a_slow_lane_holds_up_no_other():
    """A turn that hangs in one lane, and a turn in the other ends."""
    hang, done = Cell(), Cell()

    def turn(_thing, lane):
        if lane == "slow":
            hang.get(WAIT_S)
        else:
            done.set(None)

    turns = Turns(turn, {"slow": 1, "quick": 1})
    turns.put("a", "slow")
    turns.put("b", "quick")
    try:
        assert done.wait(WAIT_S)
    finally:
        hang.set(None)
        turns.close()


def test_a_thing_may_change_its_lane():
    """A turn says where it has to go on."""
    seen, done = [], Cell()

    def turn(_thing, lane):
        seen.append(lane)
        if lane == "x":
            return "y"
        done.set(None)
        return None

    turns = Turns(turn, {"x": 1, "y": 1})
    turns.put("t", "x")
    done.get(WAIT_S)
    turns.close()

    assert seen == ["x", "y"]


def test_a_turn_that_fails_ends_nothing_else():
    """The lane goes on with the next."""
    done = Cell()

    def turn(thing, _lane):
        if thing == "bad":
            raise RuntimeError(thing)
        done.set(None)

    turns = Turns(turn, {"x": 1})
    turns.put("bad", "x")
    turns.put("good", "x")
    try:
        assert done.wait(WAIT_S)
    finally:
        turns.close()


def test_nothing_begins_after_the_end():
    """Closing waits for the turn under way and starts no other."""
    begun, seen = Cell(), []

    def turn(thing, lane):
        seen.append(thing)
        if not begun.is_ready:
            begun.set(None)
        return lane

    turns = Turns(turn, {"x": 1})
    turns.put("t", "x")
    begun.get(WAIT_S)
    turns.close()
    had = len(seen)
    turns.put("u", "x")

    assert len(seen) == had
