"""The changes of a flow: how rows begin and end, and how the numbers, marks and bounds move.

Every change takes the next number of its flow. A change that ends a row keeps it as an **ended
row** until the flow's history is over its bound; forgetting goes in the order of ``until``, at the
end of the same transaction, and raises the marks E and V.

Source: ``positions`` 2 (what is numbered), 3 (what is kept), 5.1 (epochs); protocol 1.4
(``fhash``). Rules: one ``Changes`` is used by one thread; nothing here decides by a clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import apsw

from flowkit import limits
from flowkit.errors import BadRequest
from flowkit.server.ids import Ids
from flowkit.server.store.base import Change, StoredDrop, StoredFlow, Written
from flowkit.server.store.news import News
from flowkit.server.store.pieces import Pieces
from flowkit.server.store.reading import House
from flowkit.server.store.rows import DROP_COLUMNS, checksum, drop_from_row, drop_values

__all__ = ["Changes", "Ledger"]

_COLUMNS = f"flow, seq, born, until, at, began, ended, ended_at, {DROP_COLUMNS}, bytes, crc"
_INSERT = f"INSERT INTO drop_row ({_COLUMNS}) VALUES (?{', ?' * _COLUMNS.count(',')})"
_END = "UPDATE drop_row SET until = ?, ended = ?, ended_at = ? WHERE flow = ? AND seq = ?"
REMOVE_OLDEST = "DELETE FROM drop_row WHERE flow = ? AND until IS NULL AND born <= ?"
OLDEST = (
    "SELECT seq, born, bytes FROM drop_row WHERE flow = ? AND until IS NULL ORDER BY born LIMIT ?"
)
OLDEST_WHOLE = (
    f"SELECT seq, born, bytes, {DROP_COLUMNS} FROM drop_row"
    " WHERE flow = ? AND until IS NULL ORDER BY born LIMIT ?"
)
EARLIEST_ENDED = (
    "SELECT until, bytes FROM drop_row WHERE flow = ? AND until IS NOT NULL ORDER BY until"
)
BY_FHASH = (
    f"SELECT seq, born, bytes, {DROP_COLUMNS} FROM drop_row"
    " WHERE flow = ? AND fhash = ? AND until IS NULL"
)
FORGET = "DELETE FROM drop_row WHERE flow = ? AND {} RETURNING seq, until, bytes, id"
STATES_OF_DROP = "seq IN (SELECT seq FROM drop_row INDEXED BY row_by_id WHERE flow = ? AND id = ?)"


@dataclass(slots=True)
class Ledger:
    """What the writer keeps in memory of a flow; written to its row once per commit.

    Attributes:
        key, doc: as in ``StoredFlow``; *doc* is replaced, never changed.
        head: the newest change; E and V are the marks.
        epoch: the epoch of the newest change, None for none yet.
        epochs: entries in the flow's list of epochs.
        live, ended, ended_bytes: how many rows of each kind, and the bytes of the ended ones.
    """

    key: int
    doc: dict[str, Any]
    head: int
    epoch: str | None
    epochs: int
    mark_e: int
    mark_v: int
    live: int
    ended: int
    ended_bytes: int

    @property
    def capacity(self) -> int:
        """Most live rows."""
        return int(self.doc["capacity"])

    @property
    def history(self) -> int:
        """Most ended rows (``positions`` 3.1)."""
        history = self.doc.get("history")
        if history is None:
            return min(self.capacity, limits.flow_history_default_max)
        return int(history)

    def stored(self, epoch: str) -> StoredFlow:
        """The flow as the verbs give it; *epoch* is the store's present one."""
        return StoredFlow(
            self.key, dict(self.doc), self.head, self.epoch or epoch, self.mark_e, self.mark_v
        )

    def copy(self) -> Ledger:
        """The numbers as they are now."""
        return Ledger(
            self.key,
            self.doc,
            self.head,
            self.epoch,
            self.epochs,
            self.mark_e,
            self.mark_v,
            self.live,
            self.ended,
            self.ended_bytes,
        )

    def raise_marks(self, seq: int, until: int) -> None:
        """A row of that *seq* and *until* has been forgotten."""
        self.mark_e = max(self.mark_e, seq)
        self.mark_v = max(self.mark_v, until)


class Changes:
    """Makes the changes of drops on one connection, inside the writer's transaction."""

    def __init__(self, connection: apsw.Connection, house: House, ids: Ids, news: News) -> None:
        self._news = news
        self._execute = connection.execute
        self._changed = connection.changes
        self._pieces = Pieces(connection)
        self._epoch = house.epoch
        self._clock_ms = house.clock_ms
        self._ids = ids

    def create(
        self, flow: Ledger, members: Mapping[str, Any], types: Mapping[str, str], creator: str
    ) -> Written:
        """Create, replace (by ``fhash``) or pass a drop; a full flow evicts first."""
        now = self._clock_ms()
        if not flow.doc["capacity"]:
            return self._pass(flow, self._new_drop(flow, members, types, creator, now), now)
        fhash = members.get("fhash")
        if fhash is not None:
            held = self._live_by_fhash(flow, fhash)
            if held is not None:
                return self._replace(flow, held, members, types, creator)
        over = flow.live - flow.doc["capacity"] + 1
        if over > 0:
            self.end_oldest(flow, over, "evict")
        drop = self._new_drop(flow, members, types, creator, now)
        seq = self._next_seq(flow)
        self._begin(flow, seq, seq, "create", drop)
        self._tell(flow, "create", now, drop, None)
        return Written("create", drop, None, self._position(flow))

    def _new_drop(
        self,
        flow: Ledger,
        members: Mapping[str, Any],
        types: Mapping[str, str],
        creator: str,
        now: int,
    ) -> StoredDrop:
        doc = _document(self._ids.next("d"), flow.doc, members)
        doc["version"] = 0
        doc["creationDate"] = now
        doc["creatorId"] = creator
        return StoredDrop(doc, types)

    def _pass(self, flow: Ledger, drop: StoredDrop, now: int) -> Written:
        """A write into a flow of capacity 0: a row that ends at once, kept only as history."""
        seq = self._next_seq(flow)
        if flow.history:
            values = drop_values(drop)
            crc = checksum((seq, seq, now, "pass", *values[:-1]))
            self._execute(
                _INSERT, (flow.key, seq, seq, seq, now, "pass", "pass", now, *values, crc)
            )
            flow.ended += 1
            flow.ended_bytes += values[-1]
        else:
            flow.raise_marks(seq, seq)
        self._tell(flow, "pass", now, drop, None)
        return Written("pass", drop, None, self._position(flow))

    def _replace(
        self,
        flow: Ledger,
        held: tuple[Any, ...],
        members: Mapping[str, Any],
        types: Mapping[str, str],
        editor: str,
    ) -> Written:
        """Write over the drop with the same ``fhash``: it keeps id, dates and place."""
        old = drop_from_row(held[3:], flow.doc["id"], flow.doc["path"])
        doc = _document(old.doc["id"], flow.doc, members)
        drop = _edited(StoredDrop(doc, types), old, editor, self._clock_ms())
        return self._supersede(flow, held, "replace", old, drop)

    def update(
        self,
        flow: Ledger,
        row: tuple[Any, ...],
        changes: Mapping[str, Any],
        types: Mapping[str, str] | None,
        editor: str,
    ) -> Written:
        """Change members of the live drop in *row* (``seq``, ``born``, ``bytes``, its columns)."""
        old = drop_from_row(row[3:], flow.doc["id"], flow.doc["path"])
        members = old.doc | dict(changes)
        fhash = members.get("fhash")
        if fhash is not None and fhash != old.doc.get("fhash"):
            self._refuse_held_fhash(flow, fhash)
        doc = _document(old.doc["id"], flow.doc, members)
        now = self._clock_ms()
        drop = _edited(StoredDrop(doc, old.types if types is None else types), old, editor, now)
        return self._supersede(flow, row, "update", old, drop)

    def _supersede(
        self,
        flow: Ledger,
        row: tuple[Any, ...],
        kind: str,
        old: StoredDrop,
        drop: StoredDrop,
    ) -> Written:
        """One change that ends the *row* of *old* and begins that of *drop*."""
        now = drop.doc["lastEditDate"]
        number = self._end(flow, row, kind, now)
        self._begin(flow, number, row[1], kind, drop)
        self._tell(flow, kind, now, drop, old)
        return Written(kind, drop, old, self._position(flow))

    def delete(self, flow: Ledger, row: tuple[Any, ...], *, forget: bool) -> Written:
        """End the live drop in *row*; *forget* forgets all its states at once."""
        drop = drop_from_row(row[3:], flow.doc["id"], flow.doc["path"])
        now = self._clock_ms()
        self._end(flow, row, "delete", now)
        self._tell(flow, "delete", now, None, drop)
        if forget:
            # Its earlier states have smaller numbers: the marks are the same with or without.
            self._forget(flow, STATES_OF_DROP, flow.key, drop.doc["id"])
        return Written("delete", drop, None, self._position(flow))

    def clear(self, flow: Ledger, *, forget: bool) -> int:
        """Delete every drop, oldest first; *forget* forgets them and all ended rows at once."""
        count = flow.live
        self.end_oldest(flow, count, "delete")
        if forget:
            self._forget(flow, "until IS NOT NULL")
        return count

    def end_oldest(self, flow: Ledger, count: int, how: str) -> None:
        """End the *count* oldest live rows, each with a number of its own.

        Rows that the history would forget in this same transaction are removed without a detour.
        """
        now = self._clock_ms()
        first = flow.head + 1
        removed = count - min(count, flow.history)
        is_told = self._is_watched(flow) and count <= limits.commit_changes_max
        which = OLDEST_WHOLE if is_told else OLDEST
        oldest: list[Any] = self._execute(which, (flow.key, count)).fetchall()
        if removed:
            self._remove_oldest(flow, oldest[:removed])
        for row in oldest[removed:]:
            self._end(flow, row, how, now)
        if is_told:
            for seq, row in enumerate(oldest, first):
                old = drop_from_row(row[3:], flow.doc["id"], flow.doc["path"])
                self._news.add(flow.doc["id"], Change(seq, how, now, None, old))

    def _remove_oldest(self, flow: Ledger, oldest: list[Any]) -> None:
        """End and forget the *oldest* live rows in one statement; each still takes its number."""
        last = oldest[-1][1]
        if self._pieces.has_payloads(flow.key):
            gone: list[Any] = self._execute(
                f"{REMOVE_OLDEST} RETURNING id", (flow.key, last)
            ).fetchall()
            self._pieces.forget_payloads(flow.key, [drop_id for (drop_id,) in gone])
        else:
            self._execute(REMOVE_OLDEST, (flow.key, last))
        flow.live -= len(oldest)
        self._next_seq(flow)
        flow.head += len(oldest) - 1
        flow.raise_marks(max(row[0] for row in oldest), flow.head)

    def _is_watched(self, flow: Ledger) -> bool:
        return flow.doc["id"] in self._news.watched

    def _tell(
        self, flow: Ledger, kind: str, at: int, new: StoredDrop | None, old: StoredDrop | None
    ) -> None:
        """The newest change of *flow*, for those who watch it."""
        if self._is_watched(flow):
            self._news.add(flow.doc["id"], Change(flow.head, kind, at, new, old))

    def settle(self, flow: Ledger) -> None:
        """At the end of a transaction: forget what is over the bounds, then drop old epochs."""
        if flow.ended > flow.history or flow.ended_bytes > limits.flow_history_bytes_max:
            until = self._forget_up_to(flow)
            self._forget(flow, "until <= ?", until)
        if flow.epochs > 1:
            # An entry goes when its last change is before E: a reader at E still finds its own.
            self._execute(
                "DELETE FROM epoch WHERE flow = ?1 AND first_seq <"
                " (SELECT max(first_seq) FROM epoch WHERE flow = ?1 AND first_seq <= ?2)",
                (flow.key, flow.mark_e),
            )
            flow.epochs -= self._changed()

    def _forget_up_to(self, flow: Ledger) -> int:
        """The ``until`` of the last ended row that is over a bound."""
        rows_left, bytes_left, last = flow.ended, flow.ended_bytes, 0
        cursor = self._execute(EARLIEST_ENDED, (flow.key,))
        for until, size in cursor:
            if rows_left <= flow.history and bytes_left <= limits.flow_history_bytes_max:
                break
            rows_left -= 1
            bytes_left -= size
            last = until
        cursor.close(True)
        return last

    def _forget(self, flow: Ledger, which: str, *params: Any) -> None:
        """Remove the ended rows that *which* names, and raise the marks."""
        if not flow.ended:
            return
        gone: list[Any] = self._execute(
            FORGET.format(which),
            (flow.key, *params),
        ).fetchall()
        for seq, until, size, _ in gone:
            flow.raise_marks(seq, until)
            flow.ended -= 1
            flow.ended_bytes -= size
        if gone and self._pieces.has_payloads(flow.key):
            self._pieces.forget_payloads(flow.key, [row[3] for row in gone])

    def _next_seq(self, flow: Ledger) -> int:
        """The next number; the first one under a new epoch enters that in the flow's list."""
        flow.head += 1
        if flow.epoch != self._epoch:
            self._execute(
                "INSERT INTO epoch (flow, name, first_seq) VALUES (?, ?, ?)",
                (flow.key, self._epoch, flow.head),
            )
            flow.epoch = self._epoch
            flow.epochs += 1
        return flow.head

    def _begin(self, flow: Ledger, seq: int, born: int, kind: str, drop: StoredDrop) -> None:
        """A live row of *drop* from *seq* on; the time of its change is that of the drop."""
        at = drop.doc.get("lastEditDate", drop.doc["creationDate"])
        values = drop_values(drop)
        crc = checksum((seq, born, at, kind, *values[:-1]))
        self._execute(_INSERT, (flow.key, seq, born, None, at, kind, None, None, *values, crc))
        flow.live += 1

    def _end(self, flow: Ledger, row: tuple[Any, ...], how: str, at: int) -> int:
        """End the *row* (``seq``, …, ``bytes`` third) with the next number, which is returned."""
        until = self._next_seq(flow)
        self._execute(_END, (until, how, at, flow.key, row[0]))
        flow.live -= 1
        flow.ended += 1
        flow.ended_bytes += row[2]
        return until

    def _live_by_fhash(self, flow: Ledger, fhash: str) -> tuple[Any, ...] | None:
        rows: list[Any] = self._execute(BY_FHASH, (flow.key, fhash)).fetchall()
        return rows[0] if rows else None

    def _refuse_held_fhash(self, flow: Ledger, fhash: str) -> None:
        if self._live_by_fhash(flow, fhash) is not None:
            raise BadRequest(f"fhash: {fhash!r} belongs to another Drop of {flow.doc['path']}")

    def _position(self, flow: Ledger) -> str:
        return f"p1.{flow.doc['id']}.{self._epoch}.{flow.head}"


def _document(drop_id: str, flow: Mapping[str, Any], members: Mapping[str, Any]) -> dict[str, Any]:
    """The members that a writer gives, in the order of a Drop's document, without unset ones."""
    doc = {
        "id": drop_id,
        "flowId": flow["id"],
        "path": flow["path"],
        "elems": members["elems"],
    }
    for name in ("location", "fhash", "parentDropId"):
        value = members.get(name)
        if value is not None:
            doc[name] = value
    return doc


def _edited(drop: StoredDrop, old: StoredDrop, editor: str, now: int) -> StoredDrop:
    """*drop* with what an edit keeps of the *old* state and what it counts up."""
    drop.doc["version"] = old.doc["version"] + 1
    drop.doc["creationDate"] = old.doc["creationDate"]
    if "creatorId" in old.doc:
        drop.doc["creatorId"] = old.doc["creatorId"]
    drop.doc["lastEditDate"] = now
    drop.doc["lastEditorId"] = editor
    return drop
