"""A log of all changes that the database keeps itself, by triggers, in the commit that makes them.

It knows nothing of how flowkit tells subscribers, it survives ``kill -9`` with the commit or not at
all, and a restored copy of the data folder holds the log of that copy. ``install`` puts it into the
file of a running server; ``read`` makes the history of each flow of it.

What the rows do not tell: live rows that a flow without history ends are removed without a number
(they come in the order of birth), and whether that was a delete or an eviction is left open; a drop
that passed a flow of capacity 0 and history 0 was never stored: the numbers that nothing else has
are those drops, and their values come from the answers to the writers (*passed*).

Source: ``positions`` 1 to 3, 5.1; ``flowkit/server/store/schema.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw

from flowkit.server.showing import shown_drop
from flowkit.server.store.rows import DROP_COLUMNS, drop_from_row
from tests.together.feeds.history import Happened, History, Key

__all__ = ["Passed", "heads", "install", "paths", "read"]

Passed = Mapping[tuple[str, Key], Mapping[str, Any]]
"""What was answered to writers of drops, by flow and change."""

_NAMES = DROP_COLUMNS.replace(" ", "").split(",")
_COLUMNS = ", ".join(f"d_{name}" for name in _NAMES)
_NEW = ", ".join(f"NEW.{name}" for name in _NAMES)
_OLD = ", ".join(f"OLD.{name}" for name in _NAMES)
_INTO = "INSERT INTO proof (flow, what, seq, born, kind"
_DROP = f"{_INTO}, {_COLUMNS})"

_MADE = (
    "CREATE TABLE proof (n INTEGER PRIMARY KEY, flow INTEGER, what TEXT, seq INTEGER,"
    f" born INTEGER, kind TEXT, mark_e INTEGER, mark_v INTEGER, {_COLUMNS})",
    "CREATE TRIGGER proof_began AFTER INSERT ON drop_row BEGIN"
    f" {_DROP} VALUES (NEW.flow, 'began', NEW.seq, NEW.born, NEW.began, {_NEW}); END",
    "CREATE TRIGGER proof_ended AFTER UPDATE OF until ON drop_row WHEN NEW.until IS NOT NULL BEGIN"
    f" {_DROP} VALUES (NEW.flow, 'ended', NEW.until, NEW.born, NEW.ended, {_NEW}); END",
    "CREATE TRIGGER proof_removed AFTER DELETE ON drop_row WHEN OLD.until IS NULL BEGIN"
    f" {_DROP} VALUES (OLD.flow, 'removed', NULL, OLD.born, NULL, {_OLD}); END",
    "CREATE TRIGGER proof_epoch AFTER INSERT ON epoch BEGIN"
    f" {_INTO}) VALUES (NEW.flow, 'epoch', NEW.first_seq, NULL, NEW.name); END",
    "CREATE TRIGGER proof_made AFTER INSERT ON flow BEGIN"
    f" {_INTO}) VALUES (NEW.key, 'made', 0, NULL, NEW.id || ' ' || NEW.path); END",
    "CREATE TRIGGER proof_settled AFTER UPDATE ON flow BEGIN"
    f" {_INTO}, mark_e, mark_v)"
    " VALUES (NEW.key, 'settled', NEW.head, NULL, NULL, NEW.mark_e, NEW.mark_v); END",
    "CREATE TRIGGER proof_gone AFTER DELETE ON flow BEGIN"
    f" {_INTO}) VALUES (OLD.key, 'gone', OLD.head, NULL, NULL); END",
)


def install(file: Path) -> None:
    """Begin the log in the file of a server that runs; it must not have flows yet."""
    connection = apsw.Connection(str(file))
    connection.set_busy_timeout(10_000)
    try:
        connection.execute("BEGIN IMMEDIATE").fetchall()
        for statement in _MADE:
            connection.execute(statement).fetchall()
        connection.execute("COMMIT").fetchall()
    finally:
        connection.close()


def heads(file: Path) -> dict[str, int]:
    """The newest number of each flow that is there now."""
    return dict(_rows(file, "SELECT id, head FROM flow"))


def paths(file: Path) -> set[str]:
    """The paths at which there is a flow now."""
    return {path for (path,) in _rows(file, "SELECT path FROM flow")}


def _rows(file: Path, query: str) -> list[Any]:
    connection = apsw.Connection(str(file))
    connection.set_busy_timeout(10_000)
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


def read(file: Path, histories: dict[str, History], era: int, passed: Passed) -> None:
    """Add what happened up to now to *histories*, as that of *era*."""
    entries = _rows(
        file,
        f"SELECT flow, what, seq, born, kind, mark_e, mark_v, {_COLUMNS} FROM proof ORDER BY n",
    )
    flows: dict[int, _Flow] = {}
    for key, what, *rest in entries:
        if what == "made":
            flow_id, _, path = rest[2].partition(" ")
            history = histories.setdefault(flow_id, History(flow_id))
            flows[key] = _Flow(history, path)
            history.is_gone = False
        elif key in flows:
            flows[key].note(what, *rest)
    for flow in flows.values():
        flow.history.eras[era] = flow.made(passed)


@dataclass(slots=True)
class _Flow:
    """One flow while its entries are read.

    Attributes:
        history: where the outcome goes.
        path: of the flow.
        began, ended: states by number of the change that began or ended them, with its kind.
        removed: live rows that went without a number, since the last entry that had one.
        last: the last number that is accounted for.
    """

    history: History
    path: str
    began: dict[int, tuple[str, Mapping[str, Any]]] = field(default_factory=dict)
    ended: dict[int, tuple[str, Mapping[str, Any]]] = field(default_factory=dict)
    taken: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    removed: list[tuple[int, Mapping[str, Any]]] = field(default_factory=list)
    epochs: list[tuple[int, str]] = field(default_factory=list)
    last: int = 0

    def note(
        self, what: str, seq: int, born: int, kind: str, mark_e: int, mark_v: int, *columns: Any
    ) -> None:
        """The next entry."""
        if what == "removed":
            self.removed.append((born, self._doc(columns)))
            return
        if what == "epoch":
            self.epochs.append((seq, kind))
            return
        if what == "gone":
            self.removed.clear()
            self.history.is_gone = True
            return
        self._number_removed()
        if what == "began":
            self.began[seq] = kind, self._doc(columns)
        elif what == "ended":
            self.ended[seq] = kind, self._doc(columns)
        else:
            self.history.marks_e.add(mark_e)
            self.history.marks_v.add(mark_v)
        self.last = max(self.last, seq)

    def _number_removed(self) -> None:
        for _, doc in sorted(self.removed, key=lambda each: each[0]):
            self.last += 1
            self.taken[self.last] = doc
        self.removed.clear()

    def _doc(self, columns: Any) -> Mapping[str, Any]:
        stored = drop_from_row(tuple(columns), self.history.flow_id, self.path)
        return shown_drop(stored, typed=False, only=None)

    def made(self, passed: Passed) -> list[Happened]:
        """The changes, in order."""
        self._number_removed()
        found: list[Happened] = []
        epochs = sorted(self.epochs)
        for seq in range(1, self.last + 1):
            epoch = [name for first, name in epochs if first <= seq][-1]
            found.append(self._change(epoch, seq, passed))
        return found

    def _change(self, epoch: str, seq: int, passed: Passed) -> Happened:
        began, ended = self.began.get(seq), self.ended.get(seq)
        if seq in self.taken:
            gone = self.taken[seq]
            return Happened(epoch, seq, frozenset({"delete", "evict"}), gone["id"], gone, None)
        if began is None and ended is None:
            new = passed.get((self.history.flow_id, (epoch, seq)))
            kinds = frozenset({"pass", "lost"} if new is None else {"pass"})
            return Happened(epoch, seq, kinds, "" if new is None else new["id"], None, new)
        kind = (began or ended or ("", {}))[0]
        new, old = began and began[1], ended and ended[1]
        drop_id = (new or old or {})["id"]
        return Happened(epoch, seq, frozenset({kind}), drop_id, old, new)
