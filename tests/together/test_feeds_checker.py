"""The checker of histories finds every way in which a reader can be told less, more or else.

A pretend server of a few lines makes any history, and the transcript of a reader who was served as
the contract says; that one passes. Then one thing in it is broken, and the checker names it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from tests.together.feeds.checker import Asked, Heard, Transcript, check
from tests.together.feeds.history import BEGINS, Happened, History, View, apply

FLOW = "f" + "0" * 24
SEEDS = range(12)
ALL = frozenset({"create", "replace", "update", "delete", "evict"})
MARK = 20
BACK = 22
"""In the first era everything up to MARK is forgotten in the end; the second goes on after BACK."""
FIXED = {15: 9, 42: 0}
"""Changes that every history has: a create that matches and is forgotten, and one that does not."""


def hot(doc: Mapping[str, Any]) -> bool:
    """The filter of these readers."""
    return bool(doc["n"] >= 4)


LISTENER = Asked("a listener", hot, ALL)
VIEW = Asked("a view", hot, live=True)


def changes(
    chance: random.Random, before: list[Happened], epoch: str, count: int
) -> list[Happened]:
    """*before* and *count* further changes under an epoch."""
    live: View = {}
    for change in before:
        apply(live, change, lambda _doc: True)
    made = list(before)
    for _ in range(count):
        seq = len(made) + 1
        drop_id = (seq not in FIXED and chance.choice(["", *live])) or f"d{epoch}{seq}"
        old = live.get(drop_id)
        kind = "create" if old is None else chance.choice(["update", "replace", "delete", "evict"])
        number = FIXED.get(seq, chance.randrange(10))
        new = {"id": drop_id, "n": number, "v": seq} if kind in BEGINS else None
        made.append(Happened(epoch, seq, frozenset({kind}), drop_id, old, new))
        apply(live, made[-1], lambda _doc: True)
    return made


class Server:
    """Serves one reader as the contract says, and keeps what it said."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.era = 1
        self.heard: list[Heard] = []
        self.place: str | None = None
        self.view: View = {}

    def at(self, seq: int) -> str:
        """The position of that change."""
        epoch = self.history.in_era(self.era)[seq - 1].epoch if seq else "a"
        return f"p1.{FLOW}.{epoch}.{seq}"

    def reply(self, seq: int, mode: str) -> None:
        """The reply to a subscribe from the reader's place."""
        said = {"sub": "x", "resource": FLOW, "position": self.at(seq), "mode": mode}
        self.heard.append(Heard(self.era, said, self.place, is_reply=True))
        if mode == "live":
            self.place = self.at(seq)

    def say(self, kind: str, seq: int | None = None, **members: Any) -> None:
        """One message, with the position of a change or without one."""
        said = {"type": kind, "resource": FLOW, **members}
        if seq is not None:
            said["position"] = self.place = self.at(seq)
        self.heard.append(Heard(self.era, said))

    def tell(self, first: int, last: int, chance: random.Random | None = None) -> None:
        """The changes of a range to a listener; given *chance*, those that happen to be held."""
        for change in self.history.in_era(self.era)[first - 1 : last]:
            (kind,) = change.kinds
            if chance and (chance.random() < 0.5 or change.seq in FIXED):
                continue
            if hot(change.value):
                self.say("message", change.seq, change=kind, value=change.value)

    def snapshot(self, seq: int) -> None:
        """A snapshot as of that number."""
        self.reply(seq, "snapshot")
        self.say("snapshot", state="begin")
        self.view = {}
        for change in self.history.in_era(self.era)[:seq]:
            apply(self.view, change, hot)
        for doc in self.view.values():
            self.say("item", value=doc)
        self.say("snapshot", seq, state="end")

    def move(self, first: int, last: int) -> None:
        """The changes of a range to a view."""
        for change in self.history.in_era(self.era)[first - 1 : last]:
            was = change.drop_id in self.view
            apply(self.view, change, hot)
            if change.drop_id in self.view:
                self.say("update" if was else "enter", change.seq, value=change.new)
            elif was:
                (kind,) = change.kinds
                reason = {"delete": "deleted", "evict": "evicted"}.get(kind, "changed")
                self.say("leave", change.seq, id=change.drop_id, reason=reason)


Made = tuple[Transcript, dict[str, History]]


def made_history(chance: random.Random) -> History:
    """Thirty changes; then a copy of the first 22 is put back, and twenty others follow."""
    first = changes(chance, [], "a", 30)
    return History(FLOW, {1: first, 2: changes(chance, first[:BACK], "b", 20)}, {MARK}, {MARK})


def listener(seed: int) -> Made:
    """A listener over four connections, a gap and a roll-back in between; served right."""
    chance = random.Random(seed)
    history = made_history(chance)
    server = Server(history)
    server.reply(0, "live")
    server.tell(1, 9)
    place = server.place
    assert place is not None
    seq = int(place.rpartition(".")[2])
    server.reply(seq, "replay")
    server.say("gap", reason="forgotten", **{"from": place, "to": server.at(MARK)})
    server.tell(seq + 1, MARK, chance)
    server.tell(MARK + 1, 30)
    server.say("position", 30)
    server.era = 2
    server.reply(BACK, "replay")
    lost, back = str(server.place), server.at(BACK)
    server.say("gap", BACK, reason="rolled-back", **{"from": lost, "to": back})
    server.tell(BACK + 1, 42)
    server.say("position", 42)
    return Transcript(LISTENER, server.heard, progress_max=1), {FLOW: history}


def view(seed: int, slow: str = "disconnect") -> Made:
    """A view over four connections and a roll-back; served right."""
    history = made_history(random.Random(seed))
    server = Server(history)
    server.snapshot(10)
    server.move(11, 18)
    server.say("position", 18)
    server.reply(18, "replay")
    server.move(19, 24)
    server.snapshot(26)
    server.era = 2
    server.snapshot(30)
    server.move(31, 42)
    server.say("position", 42)
    asked = replace(VIEW, slow=slow)
    return Transcript(asked, server.heard, dict(server.view), progress_max=1), {FLOW: history}


@pytest.mark.parametrize("seed", range(60))
def test_a_reader_who_was_served_right_passes(seed):
    """No violation in any history: neither for the listener nor for the view."""
    assert check(*listener(seed)) == []
    assert check(*view(seed)) == []
    assert check(*view(seed, "squash")) == []


def positions(transcript: Transcript, **members: Any) -> list[int]:
    """Where in the transcript such messages are."""
    return [
        at
        for at, heard in enumerate(transcript.heard)
        if not heard.is_reply and members.items() <= heard.said.items()
    ]


def changed(heard: Heard, **members: Any) -> Heard:
    """An entry with other members."""
    return replace(heard, said={**heard.said, **members})


def number(heard: Heard) -> int:
    """The number in its position."""
    return int(heard.said["position"].rpartition(".")[2])


Break = Callable[[list[Heard], int], object]


class CannotError(Exception):
    """This message cannot be broken that way, or it would be no violation."""


def lose(heard: list[Heard], at: int) -> None:
    """Remove it."""
    del heard[at]


def lose_uncovered(heard: list[Heard], at: int) -> None:
    """Remove it, unless a gap says that it may be missing."""
    is_covered = any(each.said.get("reason") == "forgotten" for each in heard[:at])
    if is_covered and heard[at].era == 1 and number(heard[at]) <= MARK:
        raise CannotError
    del heard[at]


def lose_last(heard: list[Heard], at: int) -> None:
    """Remove it if it is the very last."""
    if at + 1 < len(heard):
        raise CannotError
    del heard[at]


def double(heard: list[Heard], at: int) -> None:
    """Repeat it."""
    heard.insert(at, heard[at])


def late(heard: list[Heard], at: int) -> None:
    """Put it behind the next message of its connection."""
    if heard[at + 1].said.get("type") != "message":
        raise CannotError
    heard[at], heard[at + 1] = heard[at + 1], heard[at]


def said(**members: Any) -> Break:
    """Give it other members."""

    def breaks(heard: list[Heard], at: int) -> None:
        heard[at] = changed(heard[at], **members)

    return breaks


def another_value(heard: list[Heard], at: int) -> None:
    """Give it another state of its drop."""
    value = heard[at].said["value"]
    heard[at] = changed(heard[at], value={**value, "v": -1})


def other_epoch(heard: list[Heard], at: int) -> None:
    """Name a change that never was."""
    heard[at] = changed(heard[at], position=heard[at].said["position"].replace(".b.", ".c."))


def gap_before(reason: str, back: int = 0, *, placed: bool = False) -> Break:
    """Put a gap before it that reaches up to its change or some before."""

    def breaks(heard: list[Heard], at: int) -> None:
        head, to_seq = heard[at].said["position"].rpartition(".")[0], number(heard[at]) - back
        if to_seq < 1 or to_seq == MARK:
            raise CannotError
        if placed and heard[at].era == 2 and to_seq <= BACK:
            raise CannotError  # its place would be of the epoch before
        first, to = f"{head}.{to_seq - 1}", f"{head}.{to_seq}"
        more = {"position": to} if placed else {}
        message = {"type": "gap", "resource": FLOW, "reason": reason, "from": first, "to": to}
        heard.insert(at, Heard(heard[at].era, {**message, **more}))

    return breaks


def no_filter(heard: list[Heard], at: int) -> None:
    """Make it of a drop that does not match."""
    heard[at] = changed(heard[at], value={**heard[at].said["value"], "n": 0})


OF_LISTENERS = [
    ("a message is lost", {"type": "message"}, lose_uncovered, {"I3 missed"}),
    ("a message comes twice", {"type": "message"}, double, {"I3 twice"}),
    ("two messages change places", {"type": "message"}, late, {"I3 order"}),
    ("a value is not that of the change", {"type": "message"}, another_value, {"I6 value"}),
    ("a kind is another", {"change": "create"}, said(change="replace"), {"I3 kind"}),
    ("a position names no change", {"type": "message"}, other_epoch, {"I3 position"}),
    ("a message has no position", {"type": "message"}, said(position=None), {"wire position"}),
    ("a message is of another flow", {"type": "message"}, said(resource="f1"), {"wire resource"}),
    ("a gap is not told", {"reason": "forgotten"}, lose, {"I3 missed"}),
    ("a gap is told twice", {"reason": "forgotten"}, double, {"I4 gap"}),
    ("a gap is too short", {"reason": "forgotten"}, said(to=f"p1.{FLOW}.a.12"), {"I4 gap"}),
    ("a gap where nothing is missing", {"type": "message"}, gap_before("forgotten", 1), {"I4 gap"}),
    ("a roll-back is not told", {"reason": "rolled-back"}, lose, {"I4 gap"}),
    (
        "a roll-back that was none",
        {"type": "message"},
        gap_before("rolled-back", 1, placed=True),
        {"I4 gap"},
    ),
    (
        "a slow gap nobody asked for",
        {"type": "message"},
        gap_before("slow", 1, placed=True),
        {"I4 gap"},
    ),
    ("the place is never told", {"type": "position"}, lose_last, {"I4 progress"}),
    ("a message of a view", {"type": "position"}, said(type="enter"), {"wire type"}),
    ("an end for a fault", {"type": "position"}, said(type="end", reason="fault"), {"wire end"}),
]

OF_VIEWS = [
    ("an enter is lost", {"type": "enter"}, lose, {"I5 missed"}),
    ("an update is lost", {"type": "update"}, lose, {"I5 missed"}),
    ("a leave is lost", {"type": "leave"}, lose, {"I5 missed"}),
    ("an enter comes twice", {"type": "enter"}, double, {"I5 word", "I5 order"}),
    ("an item is another", {"type": "item"}, another_value, {"I5 view"}),
    ("an item is lost", {"type": "item"}, lose, {"I5 view"}),
    ("an item comes twice", {"type": "item"}, double, {"I5 item"}),
    ("an update is called enter", {"type": "update"}, said(type="enter"), {"I5 word"}),
    ("a reason is another", {"reason": "deleted"}, said(reason="changed"), {"I5 reason"}),
    ("a snapshot does not end", {"state": "end"}, lose, {"I5 rest", "wire view"}),
    ("a snapshot does not begin", {"state": "begin"}, lose, {"wire snapshot"}),
    ("a gap is told", {"type": "position"}, said(type="gap"), {"wire type"}),
]


def broken(made: Made, where: dict[str, Any], breaks: Break) -> list[set[str]]:
    """The rules that are named for each message of that form that is broken."""
    transcript, histories = made
    named = []
    for at in positions(transcript, **where):
        heard = list(transcript.heard)
        try:
            breaks(heard, at)
        except CannotError:
            continue
        if heard != transcript.heard:
            found = check(replace(transcript, heard=heard), histories)
            named.append({violation.rule for violation in found})
    return named


ROWS = [(listener, *row) for row in OF_LISTENERS] + [(view, *row) for row in OF_VIEWS]


@pytest.mark.parametrize(
    ("make", "where", "breaks", "rules"), [(r[0], *r[2:]) for r in ROWS], ids=[r[1] for r in ROWS]
)
def test_what_is_broken_is_found(make, where, breaks, rules):
    """Wherever such a thing is broken, the checker names the rule, in all these histories.

    A reader that had not heard its last message would have come back from an earlier place: that
    the place does not fit is then what is found.
    """
    tries = [named for seed in SEEDS for named in broken(make(seed), where, breaks)]

    assert len(tries) >= len(SEEDS) / 2
    assert [named for named in tries if not named & (rules | {"wire since"})] == []
