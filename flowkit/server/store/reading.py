"""The verbs of a reading transaction on SQLite, and the session that a reader thread drives.

Rules: every statement is fetched to its end or closed; no query outlives its deadline; what a job
collects is counted in bytes while it runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import apsw
import orjson

from flowkit import limits
from flowkit.errors import BadRequest, ServerError
from flowkit.green import monotonic, sleep
from flowkit.protocol.envelope import too_large
from flowkit.server.store import counts, functions, lines, replay
from flowkit.server.store.base import (
    Account,
    Change,
    Delivery,
    Found,
    Reader,
    Secret,
    StoredDrop,
    StoredFlow,
    StoredObject,
    TrackState,
)
from flowkit.server.store.fleet import Fleet
from flowkit.server.store.marks import Marks
from flowkit.server.store.messages import Messages
from flowkit.server.store.objects import Objects
from flowkit.server.store.pieces import Pieces
from flowkit.server.store.rows import (
    DROP_COLUMNS,
    FLOW_COLUMNS,
    IDENTITY_COLUMNS,
    answer_name,
    drop_from_row,
    flow_from_row,
    identity_from_row,
)
from flowkit.server.store.sifter import Sifter

if TYPE_CHECKING:
    from flowkit.server.plan import Plan

__all__ = ["House", "Reading", "ReaderSession", "Show"]

T = TypeVar("T")

Show = Callable[[Any], Any]
"""Makes of a found object what its caller gets to see."""

_STEPS_BETWEEN_LOOKS = 20_000
"""Steps of SQLite's machine between two looks at the clock: some tenths of a millisecond."""

_OBJECT_BYTES = 160
"""What dates and member names of one object add to its own texts in an answer, at the least."""


NEWEST_ROW = (
    f"SELECT until, seq, born, bytes, {DROP_COLUMNS} FROM drop_row INDEXED BY row_by_id"
    " WHERE flow = ? AND id = ? ORDER BY seq DESC LIMIT 1"
)
"""The newest state of a drop. Left to itself SQLite walks the whole flow to avoid a sort of few."""


@dataclass(frozen=True, slots=True)
class House:
    """What all transactions of one opened store share.

    Attributes:
        epoch: the name of this opening (``positions`` 5).
        clock_ms: now, in milliseconds since 1970-01-01 UTC.
        query_timeout_s: seconds that the queries of one job may take.
        answer_bytes_max: most bytes that a job may collect.
    """

    epoch: str
    clock_ms: Callable[[], int]
    query_timeout_s: float = limits.query_timeout_s
    answer_bytes_max: int = limits.answer_bytes_max


class Reading:
    """The verbs of ``base.Reader`` on one connection; used by one thread only."""

    def __init__(self, connection: apsw.Connection, house: House) -> None:
        self._connection = connection
        self._house = house
        self._budget = functions.install(connection)
        self._late_at = math.inf
        self._bytes_left = house.answer_bytes_max
        self._objects = Objects(connection, self._count)
        self._uncounted = Objects(connection, _ignore)
        self.marks = Marks(connection, self._count)
        self.pieces = Pieces(connection)
        self.messages = Messages(connection, self.pieces)
        self.fleet = Fleet(connection)
        self.sifter = Sifter(
            self._uncounted,
            self._paced,
            counted=self._counted,
            count=self._count,
            search=self._budget.search,
        )
        connection.set_progress_handler(self._is_late, _STEPS_BETWEEN_LOOKS)

    def _is_late(self) -> bool:
        return monotonic() > self._late_at

    def _paced(self, things: Iterable[T]) -> Iterator[T]:
        """The *things*, with a look at the clock and a pause for other threads after each turn.

        What Python does with them keeps the interpreter from everybody else, the event loop first.
        """
        until = monotonic() + limits.reader_turn_s
        for each in things:
            yield each
            now = monotonic()
            if now < until:
                continue
            if now > self._late_at:
                raise apsw.InterruptError
            sleep(limits.reader_pause_s)
            until = monotonic() + limits.reader_turn_s

    @contextmanager
    def deadline(self, timeout_s: float | None) -> Iterator[None]:
        """End every query inside after *timeout_s* seconds, at most the house's bound.

        Raises:
            BadRequest: the time was up.
        """
        bound = self._house.query_timeout_s
        timeout_s = bound if timeout_s is None else min(timeout_s, bound)
        self._late_at = monotonic() + timeout_s
        self._bytes_left = self._house.answer_bytes_max
        self._budget.start()
        try:
            yield
        except apsw.InterruptError:
            raise _too_long(timeout_s) from None
        finally:
            self._late_at = math.inf

    @contextmanager
    def _counted(self) -> Iterator[None]:
        """What is collected inside counts against the bound of the job, unless it is refused."""
        left = self._bytes_left
        try:
            yield
        except BadRequest:
            self._bytes_left = left
            raise

    def _count(self, size: int) -> None:
        self._bytes_left -= size
        if self._bytes_left < 0:
            raise too_large(self._house.answer_bytes_max)

    def account(self, name: str) -> Account | None:
        """The account of that name."""
        found = self._one("SELECT name, id FROM identity WHERE name = ?", name)
        return Account(*found) if found else None

    def accounts(self) -> list[Account]:
        """Every account, oldest first."""
        found: list[Any] = self._connection.execute(
            "SELECT name, id FROM identity ORDER BY id"
        ).fetchall()
        return [Account(*row) for row in found]

    def account_of(self, identity_id: str) -> Account | None:
        """The account that an identity owns."""
        found = self._one("SELECT name, id FROM identity WHERE id = ?", identity_id)
        return Account(*found) if found else None

    def credential(self, secret_hash: bytes) -> Secret | None:
        """What the secret with that hash stands for, expired or not."""
        return self._objects.credential(secret_hash)

    def identity(self, identity_id: str) -> dict[str, Any] | None:
        """An Identity's members, without secrets."""
        found = self._one(f"SELECT {IDENTITY_COLUMNS} FROM identity WHERE id = ?", identity_id)
        return identity_from_row(found) if found else None

    def flow(self, flow_id: str) -> StoredFlow | None:
        """The flow with that id."""
        return self._flow("id", flow_id)

    def flow_at(self, path: str) -> StoredFlow | None:
        """The flow at that (normalised) path."""
        return self._flow("path", path)

    def flows(self, flow_ids: Sequence[str]) -> dict[str, StoredFlow]:
        """The flows among those ids that exist."""
        flows: dict[str, StoredFlow] = {}
        with self._counted():
            for flow_id in flow_ids:
                flow = self.flow(flow_id)
                if flow is not None:
                    self._count(_text_bytes(flow.doc.values()))
                    flows[flow_id] = flow
        return flows

    def _flow(self, column: str, value: str) -> StoredFlow | None:
        found = self._one(
            f"SELECT (SELECT name FROM epoch WHERE epoch.flow = flow.key"
            f" ORDER BY first_seq DESC LIMIT 1), {FLOW_COLUMNS} FROM flow WHERE {column} = ?",
            value,
        )
        return flow_from_row(found[1:], found[0] or self._house.epoch) if found else None

    def drops(self, flow: StoredFlow, drop_ids: Sequence[str]) -> dict[str, StoredDrop]:
        """The live drops of *flow* among those ids."""
        drops: dict[str, StoredDrop] = {}
        with self._counted():
            for drop_id in drop_ids:
                row = self._live_row(flow.key, drop_id)
                if row is not None:
                    self._count(row[2])
                    drops[drop_id] = drop_from_row(row[3:], flow.id, flow.path)
        return drops

    def _live_row(self, key: int, drop_id: str) -> tuple[Any, ...] | None:
        """``seq``, ``born``, ``bytes`` and ``DROP_COLUMNS`` of a live drop."""
        found = self._one(NEWEST_ROW, key, drop_id)
        return found[1:] if found is not None and found[0] is None else None

    # Changes

    def epochs(self, flow: StoredFlow) -> list[tuple[str, int]]:
        """Name and first number of each epoch of *flow* that is known, oldest first."""
        found: list[Any] = self._connection.execute(
            "SELECT name, first_seq FROM epoch WHERE flow = ? ORDER BY first_seq", (flow.key,)
        ).fetchall()
        return found

    def changes(
        self, flow: StoredFlow, after: int, limit: int, bytes_max: int
    ) -> tuple[list[Change], bool]:
        """The held changes of *flow* after that number, in order, and whether they are all."""
        return replay.changes(self._connection, flow, after, limit, bytes_max)

    def states(
        self, flow: StoredFlow, at: int, after: int, limit: int, bytes_max: int
    ) -> tuple[list[tuple[int, StoredDrop]], bool]:
        """The drops of *flow* as they were at the number *at*, and whether they are all."""
        return replay.states(self._connection, flow, (at, after), limit, bytes_max)

    # Objects, tracks, statistics

    def object(self, kind: str, object_id: str) -> StoredObject | None:
        """The object of that kind with that id."""
        with self._counted():
            return self._objects.get(kind, object_id)

    def objects(self, kind: str, *, account: str | None = None) -> list[StoredObject]:
        """The objects of a kind, oldest first: those of one account, or all."""
        with self._counted():
            return self._objects.of_kind(kind, account)

    def groups_of(self, identity_id: str) -> list[str]:
        """The ids of the groups that an identity is a member of, whoever made them."""
        return self._objects.groups_of(identity_id)

    def shares_to(self, identity_id: str) -> list[StoredObject]:
        """The shares issued to an identity or to a group that it is in, expired ones included."""
        return self._uncounted.shares_to(identity_id)

    def tracks_from(self, path: str) -> list[StoredObject]:
        """The enabled tracks whose source is that path, in the order of their creation."""
        with self._counted():
            return self._objects.tracks_from(path)

    def track_state(self, track_id: str) -> TrackState:
        """How far a track has come."""
        return lines.track_state(self._connection, track_id)

    def deliveries(self, track: StoredObject, limit: int) -> list[Delivery]:
        """The drops that wait for *track*, oldest first, at most *limit*; fewer if large."""
        return lines.deliveries(self._connection, track, limit)

    def waiting_tracks(self) -> list[str]:
        """The ids of enabled tracks for which drops wait."""
        return lines.waiting_tracks(self._connection)

    def waiting_drops(self) -> int:
        """How many drops wait for tracks."""
        return lines.waiting_drops(self._connection)

    def statistics(self, kind: str, object_id: str, since: int, until: int) -> dict[int, int]:
        """Counts by hour, from *since* up to, not including, *until*."""
        return counts.statistics(self._connection, kind, object_id, since, until)

    def answer(self, account: str, request_id: str) -> tuple[int, bytes] | None:
        """Status and body of the answer already given to that request, within the replay window."""
        since = self._house.clock_ms() - int(limits.replay_window_s * 1000)
        found = self._one(
            "SELECT status, body FROM answer WHERE name = ? AND at > ?",
            answer_name(account, request_id),
            since,
        )
        return (found[0], found[1]) if found else None

    def find(self, plan: Plan, show: Show | None = None) -> Found:
        """Run a find; *show* makes of each object what is kept of it, as JSON text."""
        sql, params = plan.statement()
        position = None
        if plan.flow is not None:
            now = self.flow(plan.flow.id)
            position = now.position if now else None
        cursor = self._connection.execute(sql, params)
        try:
            with self._counted():
                objects, scanned = self._collect(cursor, plan, show)
        finally:
            cursor.close(True)
        return Found(objects, position, scanned)

    def _collect(self, cursor: apsw.Cursor, plan: Plan, show: Show | None) -> tuple[list[Any], int]:
        """The objects of *cursor* that pass the remainder, within the bound in bytes."""
        remainder = plan.accepts(self._budget.search)
        first, last = (0, math.inf) if remainder is None else (plan.start, plan.start + plan.limit)
        objects: list[Any] = []
        scanned = passed = 0
        for row in self._paced(cursor):
            if passed >= last:
                break
            scanned += 1
            found = plan.document(row)
            if remainder is not None and not remainder(found):
                continue
            passed += 1
            if passed <= first:
                continue
            if show is None:
                self._count(_text_bytes(row))
                objects.append(found)
            else:
                text = orjson.dumps(show(found))
                self._count(len(text))
                objects.append(orjson.Fragment(text))
        return objects, scanned

    def _one(self, sql: str, *params: Any) -> tuple[Any, ...] | None:
        """The only row of a query, fetched to its end; None if there is none."""
        rows: list[Any] = self._connection.execute(sql, params).fetchall()
        return rows[0] if rows else None


class ReaderSession:
    """A connection that a reader thread drives: each job in a transaction of its own."""

    def __init__(self, connection: apsw.Connection, house: House) -> None:
        self._connection = connection
        self._reading = Reading(connection, house)

    def run(self, job: Callable[[Reader], T], timeout_s: float | None) -> T:
        """Run *job* on a snapshot; what SQLite says against it becomes a ``ServerError``."""
        connection = self._connection
        connection.execute("BEGIN")
        try:
            with self._reading.deadline(timeout_s):
                return job(self._reading)
        except apsw.Error as error:
            raise ServerError(f"The store could not read: {error}") from error
        finally:
            if connection.in_transaction:
                connection.execute("COMMIT")

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def _ignore(_size: int) -> None:
    """What decides about rights is no part of an answer and is not bounded like one."""


def _too_long(timeout_s: float) -> BadRequest:
    return BadRequest(
        f"The query took longer than {timeout_s:g} s and was ended:"
        " use a narrower filter, or fewer results without sort"
    )


def _text_bytes(values: Iterable[Any]) -> int:
    """What the texts and blobs among *values* and the rest of an object take, at the least."""
    return _OBJECT_BYTES + sum(len(value) for value in values if isinstance(value, str | bytes))
