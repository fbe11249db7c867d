"""The verbs of a writing transaction on SQLite, and the session that the writer thread drives.

The writer is alone, so it keeps the numbers of each flow in memory (``Ledger``) and writes them to
the flow's row once per commit. A job that fails puts back the ledgers it touched; a commit that
fails forgets them all, and they are read again from the file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import apsw

from flowkit import limits
from flowkit.errors import BadRequest, NotFound, ServerError
from flowkit.server.ids import Ids
from flowkit.server.store.base import Account, Found, StoredFlow, Writer, Written
from flowkit.server.store.changes import Changes, Ledger
from flowkit.server.store.reading import House, Reading, Show
from flowkit.server.store.rows import (
    FLOW_COLUMNS,
    FLOW_MEMBERS,
    IDENTITY_MEMBERS,
    answer_name,
    flow_from_row,
)
from flowkit.server.store.schema import get_meta, set_meta
from flowkit.server.store.workers import BatchLost

if TYPE_CHECKING:
    from flowkit.server.plan import Plan

__all__ = ["WriterSession", "Writing"]

T = TypeVar("T")

PLATFORM_ID = "i000000000000000000000001"
"""The identity of the platform itself (protocol 1.2)."""

_FLOW_CHANGES = frozenset({"capacity", "description", "filter", "public", "history"})
_IDENTITY_CHANGES = frozenset(IDENTITY_MEMBERS) - {"id", "name", "creationDate", "creatorId"}


class Writing(Reading):
    """The verbs of ``base.Writer`` on one connection; used by one thread only."""

    def __init__(self, connection: apsw.Connection, house: House, ids: Ids) -> None:
        super().__init__(connection, house)
        self._ids = ids
        self._changes = Changes(connection, house, ids)
        self._ledgers: dict[str, Ledger] = {}
        self._before: dict[str, Ledger | None] = {}
        self._dirty: set[str] = set()
        self._sweep_at_ms = 0

    # The flow's row lags behind within a batch, so flows come from the ledgers.

    def _flow(self, column: str, value: str) -> StoredFlow | None:
        if column != "id":
            found = self._one(f"SELECT id FROM flow WHERE {column} = ?", value)
            if found is None:
                return None
            value = found[0]
        ledger = self._ledger(value)
        return ledger.stored(self._house.epoch) if ledger else None

    def _ledger(self, flow_id: str) -> Ledger | None:
        """The ledger of a flow, from memory or from its row."""
        ledger = self._ledgers.get(flow_id)
        if ledger is None:
            found = self._one(
                f"SELECT live, ended, ended_bytes, {FLOW_COLUMNS} FROM flow WHERE id = ?",
                flow_id,
            )
            if found is None:
                return None
            flow = flow_from_row(found[3:], "")
            epochs: list[Any] = self._connection.execute(
                "SELECT name FROM epoch WHERE flow = ? ORDER BY first_seq", (flow.key,)
            ).fetchall()
            ledger = self._ledgers[flow_id] = Ledger(
                flow.key,
                flow.doc,
                flow.head,
                epochs[-1][0] if epochs else None,
                len(epochs),
                flow.mark_e,
                flow.mark_v,
                *found[:3],
            )
        return ledger

    def _touch(self, flow: StoredFlow) -> Ledger:
        """The ledger of *flow*, about to change; raises ``NotFound`` if the flow is gone."""
        ledger = self._ledger(flow.id)
        if ledger is None or ledger.key != flow.key:
            raise NotFound(f"There is no Flow {flow.id} any more")
        self._remember(flow.id, ledger)
        return ledger

    def _remember(self, flow_id: str, ledger: Ledger | None) -> None:
        """Keep how a ledger was before this job, and write it out with the commit."""
        if flow_id not in self._before:
            self._before[flow_id] = ledger.copy() if ledger else None
        self._dirty.add(flow_id)

    # Accounts and identities

    def create_account(self, name: str, secret_hash: bytes) -> Account:
        """A new account with its identity and master token."""
        if self.account(name) is not None:
            raise BadRequest(f"name: an account {name} exists already")
        identity_id = self._ids.next("i")
        self._connection.execute(
            "INSERT INTO identity (id, name, creation_date, creator_id) VALUES (?, ?, ?, ?)",
            (identity_id, name, self._house.clock_ms(), PLATFORM_ID),
        )
        self.set_secret(name, secret_hash)
        return Account(name, identity_id)

    def set_secret(self, account: str, secret_hash: bytes) -> None:
        """Replace the master token of an account; the old one stops working with the commit."""
        if self.account(account) is None:
            raise NotFound(f"There is no account {account}")
        self._connection.execute(
            "DELETE FROM credential WHERE account = ? AND kind = 'master'", (account,)
        )
        self._connection.execute(
            "INSERT INTO credential (secret_hash, account, kind, creation_date)"
            " VALUES (?, ?, 'master', ?)",
            (secret_hash, account, self._house.clock_ms()),
        )

    def update_identity(
        self, identity_id: str, changes: Mapping[str, Any], *, editor: str
    ) -> dict[str, Any]:
        """Change members of an identity (None unsets)."""
        _check_members(changes, _IDENTITY_CHANGES)
        edit = {"lastEditDate": self._house.clock_ms(), "lastEditorId": editor}
        self._set("identity", IDENTITY_MEMBERS, {**changes, **edit}, "id", identity_id)
        found = self.identity(identity_id)
        if found is None:
            raise NotFound(f"There is no Identity {identity_id}")
        return found

    def _set(
        self, table: str, columns: Mapping[str, str], values: Mapping[str, Any], *key: Any
    ) -> None:
        """``UPDATE table SET …`` for the members in *values*, where column *key[0]* is *key[1]*."""
        sets = ", ".join(f"{columns[name]} = ?" for name in values)
        self._connection.execute(
            f"UPDATE {table} SET {sets} WHERE {key[0]} = ?",
            (*values.values(), key[1]),
        )

    # Flows

    def create_flow(self, members: Mapping[str, Any], *, creator: str) -> StoredFlow:
        """A new flow; raises ``BadRequest`` when the path is taken."""
        path = members["path"]
        if self._one("SELECT 1 FROM flow WHERE path = ?", path) is not None:
            raise BadRequest(f"A Flow already exists with path {path}")
        _check_members(members, _FLOW_CHANGES | {"path"})
        values = {
            "id": self._ids.next("f"),
            **{name: value for name, value in members.items() if value is not None},
            "creationDate": self._house.clock_ms(),
            "creatorId": creator,
        }
        values.setdefault("capacity", limits.flow_capacity_default)
        columns = ["account", *(FLOW_MEMBERS[name] for name in values)]
        self._connection.execute(
            f"INSERT INTO flow ({', '.join(columns)}) VALUES (?{', ?' * len(values)})",
            (path.split("/", 2)[1], *values.values()),
        )
        self._remember(values["id"], None)
        flow = self.flow(values["id"])
        assert flow is not None
        return flow

    def update_flow(
        self, flow: StoredFlow, changes: Mapping[str, Any], *, editor: str
    ) -> StoredFlow:
        """Change members (None unsets); a lowered capacity or history evicts or forgets at once."""
        _check_members(changes, _FLOW_CHANGES)
        ledger = self._touch(flow)
        edit = {"lastEditDate": self._house.clock_ms(), "lastEditorId": editor}
        values = {**changes, **edit}
        if "capacity" in values and values["capacity"] is None:
            values["capacity"] = limits.flow_capacity_default
        self._set("flow", FLOW_MEMBERS, values, "key", ledger.key)
        doc = ledger.doc | values
        ledger.doc = {name: doc[name] for name in FLOW_MEMBERS if doc.get(name) is not None}
        over = ledger.live - ledger.capacity
        if over > 0:
            self._changes.end_oldest(ledger, over, "evict")
        self._changes.settle(ledger)
        return ledger.stored(self._house.epoch)

    def delete_flow(self, flow: StoredFlow) -> None:
        """Remove the flow and everything it held."""
        ledger = self._touch(flow)
        for table, column in (("drop_row", "flow"), ("epoch", "flow"), ("flow", "key")):
            self._connection.execute(f"DELETE FROM {table} WHERE {column} = ?", (ledger.key,))
        del self._ledgers[flow.id]

    # Drops

    def create_drop(
        self,
        flow: StoredFlow,
        members: Mapping[str, Any],
        types: Mapping[str, str],
        *,
        creator: str,
    ) -> Written:
        """Add a drop, evicting the oldest of a full flow, or replace the one with its ``fhash``."""
        return self._changes.create(self._touch(flow), members, types, creator)

    def update_drop(
        self,
        flow: StoredFlow,
        drop_id: str,
        changes: Mapping[str, Any],
        types: Mapping[str, str] | None,
        *,
        editor: str,
    ) -> Written | None:
        """Change members of a drop (None unsets, *types* None keeps); None if there is none."""
        ledger = self._touch(flow)
        row = self._live_row(ledger.key, drop_id)
        if row is None:
            return None
        return self._changes.update(ledger, row, changes, types, editor)

    def delete_drop(
        self, flow: StoredFlow, drop_id: str, *, forget: bool = False
    ) -> Written | None:
        """End a drop; None if there is none. *forget* forgets all its states at once."""
        ledger = self._touch(flow)
        row = self._live_row(ledger.key, drop_id)
        return None if row is None else self._changes.delete(ledger, row, forget=forget)

    def clear(self, flow: StoredFlow, *, forget: bool = False) -> int:
        """Delete every drop, oldest first, each with a number of its own; how many there were."""
        return self._changes.clear(self._touch(flow), forget=forget)

    # Answers, and finds on the writer's connection

    def keep_answer(self, account: str, request_id: str, status: int, body: bytes) -> None:
        """Remember an answer for the replay window, in the commit of what it answers."""
        self._connection.execute(
            "INSERT OR REPLACE INTO answer (name, at, status, body) VALUES (?, ?, ?, ?)",
            (answer_name(account, request_id), self._house.clock_ms(), status, body),
        )

    def find(self, plan: Plan, show: Show | None = None) -> Found:
        """Run a find; ending it at its deadline takes nothing of the batch with it."""
        with self.deadline(None):
            return super().find(plan, show)

    # The life of a batch

    def begin_job(self) -> None:
        """Forget what earlier jobs of the batch touched; theirs stands."""
        self._before.clear()
        self._bytes_left = self._house.answer_bytes_max

    def undo_job(self) -> None:
        """Put back every ledger that the failed job touched."""
        for flow_id, ledger in self._before.items():
            if ledger is None:
                self._ledgers.pop(flow_id, None)
            else:
                self._ledgers[flow_id] = ledger
        self._before.clear()

    def write_out(self) -> None:
        """Settle and write every ledger that the batch touched, and sweep old answers."""
        for flow_id in self._dirty:
            ledger = self._ledgers.get(flow_id)
            if ledger is None:
                continue
            self._changes.settle(ledger)
            self._connection.execute(
                "UPDATE flow SET head = ?, mark_e = ?, mark_v = ?,"
                " live = ?, ended = ?, ended_bytes = ? WHERE key = ?",
                (
                    ledger.head,
                    ledger.mark_e,
                    ledger.mark_v,
                    ledger.live,
                    ledger.ended,
                    ledger.ended_bytes,
                    ledger.key,
                ),
            )
        self._dirty.clear()
        self._sweep_answers()

    def _sweep_answers(self) -> None:
        now = self._house.clock_ms()
        if now >= self._sweep_at_ms:
            self._sweep_at_ms = now + int(limits.answer_sweep_s * 1000)
            self._connection.execute(
                "DELETE FROM answer WHERE at <= ?", (now - int(limits.replay_window_s * 1000),)
            )

    def trim(self, flows_max: int) -> None:
        """After a commit: keep no more than *flows_max* ledgers in memory."""
        if len(self._ledgers) > flows_max:
            self._ledgers.clear()

    def forget_all(self) -> None:
        """The batch was undone: what is in memory may be wrong."""
        self._ledgers.clear()
        self._before.clear()
        self._dirty.clear()


class WriterSession:
    """The connection that the writer drives: a transaction per batch, a savepoint per job."""

    def __init__(self, connection: apsw.Connection, house: House) -> None:
        self._connection = connection
        self._last_id = str(get_meta(connection, "last_id") or "")
        node = str(get_meta(connection, "node"))
        self._ids = Ids(node, clock_ms=house.clock_ms, last=self._last_id)
        self._writing = Writing(connection, house, self._ids)
        self._broken: str | None = None

    def begin(self) -> None:
        """Begin the transaction of a batch."""
        if self._broken:
            raise ServerError(self._broken, status=503)
        self._connection.execute("BEGIN IMMEDIATE")

    def run(self, job: Callable[[Writer], T]) -> T:
        """Run *job* in a savepoint; a job that raises leaves no trace."""
        execute = self._connection.execute
        execute("SAVEPOINT job")
        self._writing.begin_job()
        try:
            value = job(self._writing)
        except BaseException as error:
            self._undo(error)
            if isinstance(error, apsw.Error):
                raise ServerError(f"The store could not do this: {error}") from error
            raise
        execute("RELEASE job")
        return value

    def _undo(self, error: BaseException) -> None:
        """Undo the job; some errors (a full disk) have undone the whole transaction already."""
        if not self._connection.in_transaction:
            raise BatchLost from error
        self._writing.undo_job()
        self._connection.execute("ROLLBACK TO job")
        self._connection.execute("RELEASE job")

    def commit(self) -> None:
        """Make the batch durable, or raise with nothing of it stored."""
        self._writing.write_out()
        if self._ids.last != self._last_id:
            set_meta(self._connection, "last_id", self._ids.last)
        try:
            self._connection.execute("COMMIT")
        except apsw.IOError as error:
            if getattr(error, "extendedresult", 0) != apsw.SQLITE_IOERR_FSYNC:
                raise
            # After a failed fsync the kernel may have dropped what it could not write: a later
            # commit could succeed on top of a hole. Only a new start reads what is there.
            self._broken = f"The disk failed ({error}): no writes until the server starts again"
            raise ServerError(
                f"The disk failed ({error}): whether this was stored shows at the next start"
            ) from error
        self._last_id = self._ids.last
        self._writing.trim(limits.store_flows_cached)

    def abandon(self) -> None:
        """Undo the batch after ``begin`` or ``commit`` failed; never raises."""
        self._writing.forget_all()
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except apsw.Error as error:
            self._broken = (
                f"A failed commit could not be undone ({error}): no writes until the next start"
            )

    def close(self) -> None:
        """Checkpoint, so that the folder holds one whole file, and close."""
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        self._connection.close()


def _check_members(changes: Mapping[str, Any], allowed: frozenset[str]) -> None:
    unknown = sorted(set(changes) - allowed)
    if unknown:
        raise ValueError(f"the store cannot change {', '.join(unknown)}")
