"""The verbs of a writing transaction on SQLite.

The writer is alone, so it keeps the numbers of each flow in memory (``Ledger``) and writes them to
the flow's row once per commit. A job that fails puts back the ledgers it touched; a commit that
fails forgets them all, and they are read again from the file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import apsw

from flowkit import limits
from flowkit.errors import BadRequest, NotFound
from flowkit.protocol.resources import PREFIXES
from flowkit.server.ids import Ids
from flowkit.server.store.base import (
    Account,
    Commit,
    Found,
    StoredDrop,
    StoredFlow,
    StoredObject,
    Written,
)
from flowkit.server.store.changes import Changes, Ledger
from flowkit.server.store.counts import Counting, Later
from flowkit.server.store.lines import Lines
from flowkit.server.store.news import News
from flowkit.server.store.objects import Making
from flowkit.server.store.reading import House, Reading, Show
from flowkit.server.store.replays import Replays
from flowkit.server.store.rows import (
    FLOW_COLUMNS,
    FLOW_MEMBERS,
    IDENTITY_MEMBERS,
    flow_from_row,
)

if TYPE_CHECKING:
    from flowkit.server.plan import Plan

__all__ = ["Writing"]

PLATFORM_ID = "i000000000000000000000001"
"""The identity of the platform itself (protocol 1.2)."""

_FLOW_CHANGES = frozenset({"capacity", "description", "filter", "public", "history"})
_IDENTITY_CHANGES = frozenset(IDENTITY_MEMBERS) - {"id", "name", "creationDate", "creatorId"}

_FOLLOWERS = frozenset({"track", "mqtt_task"})
"""What drops of a flow can wait for."""


class Writing(Reading):
    """The verbs of ``base.Writer`` on one connection; used by one thread only."""

    def __init__(self, connection: apsw.Connection, house: House, ids: Ids, later: Later) -> None:
        super().__init__(connection, house)
        self._ids = ids
        self.news = News()
        self._changes = Changes(connection, house, ids, self.news)
        self._ledgers: dict[str, Ledger] = {}
        self._before: dict[str, Ledger | None] = {}
        self._dirty: set[str] = set()
        self._replays = Replays(connection, house.clock_ms)
        self._making = Making(connection, ids, house.clock_ms)
        self._lines = Lines(connection, house.clock_ms)
        self._counting = Counting(connection, house.clock_ms, later)
        self._kinds_in_job: set[str] = set()
        self._kinds: set[str] = set()

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
            self.news.touch(flow_id, ledger.head if ledger else 0)
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
        self._kinds_in_job.add("identity")
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
        self._kinds_in_job.add("identity")

    def delete_account(self, name: str) -> None:
        """Remove an account with everything in its namespace and all that it made."""
        account = self.account(name)
        if account is None:
            raise NotFound(f"There is no account {name}")
        execute = self._connection.execute
        flows: list[Any] = execute("SELECT id FROM flow WHERE account = ?", (name,)).fetchall()
        for (flow_id,) in flows:
            flow = self.flow(flow_id)
            assert flow is not None
            self.delete_flow(flow)
        owned: list[Any] = execute(
            "SELECT kind, id FROM object WHERE account = ?1 OR"
            " (kind = 'share' AND json_extract(doc, '$.issuedTo') = ?2)",
            (name, account.identity_id),
        ).fetchall()
        for kind, object_id in owned:
            self._delete_object(kind, object_id)
        execute("DELETE FROM credential WHERE account = ?", (name,))
        execute("DELETE FROM identity WHERE id = ?", (account.identity_id,))
        self._counting.forget(account.identity_id)
        self._forget_scope(f"/{name}")
        self._kinds_in_job.add("identity")

    def update_identity(
        self, identity_id: str, changes: Mapping[str, Any], *, editor: str
    ) -> dict[str, Any]:
        """Change members of an identity (None unsets)."""
        _check_members(changes, _IDENTITY_CHANGES)
        edit = {"lastEditDate": self._house.clock_ms(), "lastEditorId": editor}
        self._kinds_in_job.add("identity")
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
        self._kinds_in_job.add("flow")
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
        self._kinds_in_job.add("flow")
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
        self.pieces.forget_flow(ledger.key)
        del self._ledgers[flow.id]
        self._lines.forget_source(flow.path)
        self._counting.forget(flow.id)
        self.news.gone(flow.id)
        self._kinds_in_job.add("flow")

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

    # Objects

    def create_credential(
        self, secret_hash: bytes, account: str, object_id: str, expires_at: int | None
    ) -> None:
        """The secret of a Token; it goes with the object of that id."""
        self._making.keep_secret(secret_hash, account, object_id, expires_at)

    def create_object(
        self,
        kind: str,
        account: str,
        members: Mapping[str, Any],
        *,
        creator: str,
        state: Mapping[str, Any] | None = None,
    ) -> StoredObject:
        """A new object with a new id; raises ``BadRequest`` when the account has too many."""
        made = self._making.create(kind, account, members, creator=creator, state=state)
        self._object_changed(made.id, None, made)
        return made

    def update_object(
        self,
        found: StoredObject,
        changes: Mapping[str, Any],
        *,
        editor: str | None,
        state: Mapping[str, Any] | None = None,
    ) -> StoredObject:
        """Change members (None unsets) of the object as it is now; *state* None keeps the state."""
        now = self._present(found.kind, found.id)
        made = self._making.update(now, changes, editor=editor, state=state)
        self._object_changed(made.id, now, made)
        return made

    def delete_object(self, found: StoredObject) -> None:
        """Remove an object, with its secret, its place or whatever else hangs on it."""
        self._delete_object(found.kind, found.id)

    def _forget_scope(self, scope: str) -> None:
        self.marks.forget(scope)
        self.pieces.forget(scope)
        self.messages.forget(scope)

    def _delete_object(self, kind: str, object_id: str) -> None:
        now = self._present(kind, object_id)
        self._making.delete(object_id)
        self._counting.forget(object_id)
        self._forget_scope(object_id)
        self._object_changed(object_id, now, None)

    def _present(self, kind: str, object_id: str) -> StoredObject:
        """The object as it is now, whatever the caller has read before."""
        now = self._uncounted.get(kind, object_id)
        if now is None:
            raise NotFound(f"There is no {kind} {object_id} any more")
        return now

    def _object_changed(
        self, object_id: str, before: StoredObject | None, now: StoredObject | None
    ) -> None:
        kind = PREFIXES[object_id[0]]
        if kind in _FOLLOWERS:
            self._lines.track_changed(object_id, before, now)
        self._kinds_in_job.add(kind)

    # Deliveries, statistics, leases

    def route(self, flow: StoredFlow, drop: StoredDrop, *, hops: int) -> None:
        """Let *drop* wait for every enabled track of its flow, if there is any."""
        self._lines.add(flow, drop, hops)

    def settle_track(
        self, track: StoredObject, place: int, *, failures: int = 0, last_failure: str | None = None
    ) -> None:
        """Everything up to *place* has been dealt with; drops that nobody waits for any more go."""
        self._lines.settle(track, place, failures, last_failure)

    def count(self, kind: str, object_id: str, times: int = 1) -> None:
        """Count something for the statistics (10), in the commit of what is counted."""
        self._counting.count(kind, object_id, times)

    def statistics(self, kind: str, object_id: str, since: int, until: int) -> dict[int, int]:
        """Counts by hour, with what this transaction has counted so far."""
        return self._counting.statistics(kind, object_id, since, until)

    def take_lease(self, name: str, holder: str, duration_ms: int) -> bool:
        """Take or prolong a lease; False while another holder has it."""
        return self._making.take_lease(name, holder, duration_ms)

    def release_lease(self, name: str, holder: str) -> None:
        """Give a lease back, if *holder* has it."""
        self._making.release_lease(name, holder)

    # Answers, and finds on the writer's connection

    def keep_answer(self, account: str, request_id: str, status: int, body: bytes) -> None:
        """Remember an answer for the replay window, in the commit of what it answers."""
        self._replays.keep(account, request_id, status, body)

    def find(self, plan: Plan, show: Show | None = None) -> Found:
        """Run a find; ending it at its deadline takes nothing of the batch with it."""
        with self.deadline(None):
            return super().find(plan, show)

    # The life of a batch

    def begin_job(self) -> None:
        """Forget what earlier jobs of the batch touched; theirs stands."""
        self._before.clear()
        self._bytes_left = self._house.answer_bytes_max

    def keep_job(self) -> None:
        """The job is done: what it has changed stands."""
        self._lines.keep_job()
        self._counting.keep_job()
        self._replays.keep_job()
        self.news.keep_job()
        if self._kinds_in_job:
            self._kinds |= self._kinds_in_job
            self._kinds_in_job.clear()

    def undo_job(self) -> None:
        """Put back every ledger that the failed job touched, and what else is in memory."""
        self._lines.undo_job()
        self._counting.undo_job()
        self._replays.undo_job()
        self.news.undo_job()
        self._kinds_in_job.clear()
        for flow_id, ledger in self._before.items():
            if ledger is None:
                self._ledgers.pop(flow_id, None)
            else:
                self._ledgers[flow_id] = ledger
        self._before.clear()

    def write_out(self, later: Later) -> Commit:
        """Write what is in memory before a commit; what the batch has changed."""
        heads = {
            flow_id: ledger.head
            for flow_id in self._dirty
            if (ledger := self._ledgers.get(flow_id)) is not None
        }
        self._write_ledgers()
        self._counting.write_out(later)
        self._replays.sweep()
        changed = Commit(
            self._lines.write_out(),
            frozenset(self._kinds),
            self.news.take(heads),
            self._house.epoch,
        )
        self._kinds.clear()
        return changed

    def _write_ledgers(self) -> None:
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

    def committed(self, flows_max: int) -> None:
        """After a commit: keep no more than *flows_max* ledgers in memory."""
        self._counting.committed()
        if len(self._ledgers) > flows_max:
            self._ledgers.clear()

    def forget_all(self, later: Later) -> None:
        """The batch was undone: what is in memory may be wrong."""
        self._ledgers.clear()
        self._before.clear()
        self._dirty.clear()
        self._lines.forget_all()
        self.news.forget_all()
        self._counting.forget_all(later)
        self._kinds_in_job.clear()
        self._kinds.clear()


def _check_members(changes: Mapping[str, Any], allowed: frozenset[str]) -> None:
    unknown = sorted(set(changes) - allowed)
    if unknown:
        raise ValueError(f"the store cannot change {', '.join(unknown)}")
