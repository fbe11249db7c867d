"""One flow against a plain model of ``positions`` 2, 3 and 5: whatever is done, in whatever order.

The model is written from the page, not from the store: lists, no SQL, no counters. After every step
the rows, marks and epochs of the store are those of the model, ``verify`` finds nothing, and the
state of the flow can be rebuilt from its rows at every position from V on, as it was when that
position was the head.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import apsw
from contracts import Clock
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from flowkit.server.store.sqlite import FILE_NAME, open_store
from flowkit.server.store.verify import verify

capacities = st.sampled_from([0, 1, 2, 3, 5])
histories = st.sampled_from([None, 0, 1, 2, 3, 8])
fhashes = st.sampled_from([None, None, "a", "b"])
values = st.integers(min_value=0, max_value=9)


@dataclass(frozen=True)
class Row:
    """One state of one drop."""

    drop: str
    seq: int
    born: int
    began: str
    value: int
    fhash: str | None
    until: int | None = None
    ended: str | None = None


class Model:
    """A flow as the page describes it."""

    def __init__(self, capacity: int, history: int | None) -> None:
        self.capacity, self.history = capacity, history
        self.rows: list[Row] = []
        self.head = self.mark_e = self.mark_v = 0
        self.epochs: list[tuple[str, int]] = []
        self.epoch = ""
        self.states: dict[int, dict[str, int]] = {0: {}}

    @property
    def live(self) -> list[Row]:
        """Live rows, oldest first."""
        return sorted((row for row in self.rows if row.until is None), key=lambda row: row.born)

    @property
    def ended(self) -> list[Row]:
        """Ended rows in the order of their end."""
        ended = [row for row in self.rows if row.until is not None]
        return sorted(ended, key=lambda row: row.until or 0)

    def number(self) -> int:
        """The next number."""
        self.head += 1
        if not self.epochs or self.epochs[-1][0] != self.epoch:
            self.epochs.append((self.epoch, self.head))
        return self.head

    def seen(self) -> None:
        """Note the state at the head."""
        self.states[self.head] = {row.drop: row.value for row in self.live}

    def end(self, row: Row, how: str, *, until: int) -> None:
        """A row ends."""
        self.rows[self.rows.index(row)] = replace(row, until=until, ended=how)

    def end_oldest(self, most: int, how: str) -> None:
        """Rows over *most* end, oldest first, each with its own number."""
        while len(self.live) > most:
            self.end(self.live[0], how, until=self.number())
            self.seen()

    def put(self, drop: str, value: int, fhash: str | None) -> str:
        """A write; *drop* is the id that the store gave."""
        held = next((row for row in self.live if fhash is not None and row.fhash == fhash), None)
        if self.capacity == 0:
            n = self.number()
            self.rows.append(Row(drop, n, n, "pass", value, fhash, n, "pass"))
            kind = "pass"
        elif held:
            self.supersede(held, "replace", value)
            kind = "replace"
        else:
            self.end_oldest(self.capacity - 1, "evict")
            n = self.number()
            self.rows.append(Row(drop, n, n, "create", value, fhash))
            kind = "create"
        self.seen()
        self.forget()
        return kind

    def supersede(self, row: Row, kind: str, value: int) -> None:
        """One number that ends a row and begins the next of the same drop."""
        n = self.number()
        self.end(row, kind, until=n)
        self.rows.append(Row(row.drop, n, row.born, kind, value, row.fhash))
        self.seen()

    def forget(self) -> None:
        """Ended rows over the history go, in the order of their end."""
        history = min(self.capacity, 1000) if self.history is None else self.history
        for row in self.ended[: max(0, len(self.ended) - history)]:
            self.drop_row(row)
        while len(self.epochs) > 1 and self.epochs[1][1] <= self.mark_e:
            self.epochs.pop(0)

    def drop_row(self, row: Row) -> None:
        """A row is forgotten."""
        self.rows.remove(row)
        self.mark_e = max(self.mark_e, row.seq)
        self.mark_v = max(self.mark_v, row.until or 0)


class FlowMachine(RuleBasedStateMachine):
    """Drives a store and the model side by side."""

    @initialize(capacity=capacities, history=histories)
    def begin(self, capacity: int, history: int | None) -> None:
        """A new store with one flow."""
        self.folder = Path(tempfile.mkdtemp())
        self.clock = Clock()
        self.model = Model(capacity, history)
        self.dropped: list[str] = []
        self.open()
        members = {"path": "/nora/a", "capacity": capacity, "history": history}
        self.flow = self.store.write(lambda w: w.create_flow(members, creator="i1"))

    def open(self) -> None:
        """Open the store: a new epoch."""
        self.store = open_store(self.folder, synchronous="OFF", clock_ms=self.clock, readers=1)
        self.model.epoch = self.store.epoch

    def teardown(self) -> None:
        """Close it and throw it away."""
        if hasattr(self, "store"):
            self.store.close()
            shutil.rmtree(self.folder)

    def pick(self, index: int) -> Row:
        """One of the live rows."""
        live = self.model.live
        return live[index % len(live)]

    def has_drops(self) -> bool:
        """Whether there is a live drop."""
        return hasattr(self, "model") and bool(self.model.live)

    @rule(value=values, fhash=fhashes)
    def put(self, value: int, fhash: str | None) -> None:
        """A write creates, replaces or passes, as the model says."""
        members = {"elems": {"v": value}, "fhash": fhash}
        written = self.store.write(lambda w: w.create_drop(self.flow, members, {}, creator="i1"))
        kind = self.model.put(written.drop.doc["id"], value, fhash)

        assert written.kind == kind
        assert written.position == f"p1.{self.flow.id}.{self.store.epoch}.{self.model.head}"

    @precondition(has_drops)
    @rule(index=values, value=values)
    def update(self, index: int, value: int) -> None:
        """An update supersedes, also when it changes nothing."""
        row = self.pick(index)
        changes = {"elems": {"v": value}}
        written = self.store.write(
            lambda w: w.update_drop(self.flow, row.drop, changes, None, editor="i1")
        )
        self.model.supersede(row, "update", value)
        self.model.forget()

        assert written.old.doc["elems"] == {"v": row.value}
        assert written.drop.doc["elems"] == {"v": value}

    @precondition(has_drops)
    @rule(index=values, forget=st.booleans())
    def delete(self, index: int, forget: bool) -> None:
        """A deletion ends a row; with forget, every state of the drop goes at once."""
        row = self.pick(index)
        self.store.write(lambda w: w.delete_drop(self.flow, row.drop, forget=forget))
        self.model.end(row, "delete", until=self.model.number())
        self.model.seen()
        if forget:
            for each in [each for each in self.model.ended if each.drop == row.drop]:
                self.model.drop_row(each)
        self.model.forget()

    @rule(forget=st.booleans())
    def clear(self, forget: bool) -> None:
        """Every drop is deleted, oldest first; with forget, all that has ended goes at once."""
        count = self.store.write(lambda w: w.clear(self.flow, forget=forget))
        assert count == len(self.model.live)
        self.model.end_oldest(0, "delete")
        if forget:
            for each in self.model.ended:
                self.model.drop_row(each)
        self.model.forget()

    @rule(capacity=capacities, history=histories)
    def reshape(self, capacity: int, history: int | None) -> None:
        """Another capacity and history evict and forget at once."""
        changes = {"capacity": capacity, "history": history}
        self.store.write(lambda w: w.update_flow(self.flow, changes, editor="i1"))
        self.model.capacity, self.model.history = capacity, history
        self.model.end_oldest(capacity, "evict")
        self.model.forget()

    @rule(value=values)
    def fail(self, value: int) -> None:
        """A job that writes and then raises changes nothing."""

        def job(writer):
            writer.create_drop(self.flow, {"elems": {"v": value}, "fhash": "a"}, {}, creator="i1")
            writer.clear(self.flow, forget=True)
            raise LookupError

        try:
            self.store.write(job)
        except LookupError:
            return
        raise AssertionError("the error was lost")

    @rule()
    def several(self) -> None:
        """Writes of one job are numbered as if they came alone."""

        def job(writer):
            return [
                writer.create_drop(self.flow, {"elems": {"v": n}}, {}, creator="i1")
                for n in range(3)
            ]

        for n, written in enumerate(self.store.write(job)):
            self.model.put(written.drop.doc["id"], n, None)

    @rule()
    def reopen(self) -> None:
        """Closed and opened: the same flow under a new epoch."""
        self.store.close()
        self.open()

    @rule(step_ms=st.integers(min_value=-5_000, max_value=5_000))
    def move_the_clock(self, step_ms: int) -> None:
        """No rule reads the clock."""
        self.clock.ms += step_ms

    @invariant()
    def the_store_is_the_model(self) -> None:
        """Rows, head, marks and epochs are the model's, and nothing is broken."""
        if not hasattr(self, "store"):
            return
        flow = self.store.read(lambda r: r.flow(self.flow.id))
        model = self.model
        assert (flow.head, flow.mark_e, flow.mark_v) == (model.head, model.mark_e, model.mark_v)
        last = model.epochs[-1][0] if model.epochs else self.store.epoch
        assert flow.epoch == last
        connection = apsw.Connection(str(self.folder / FILE_NAME), flags=apsw.SQLITE_OPEN_READONLY)
        try:
            assert verify(connection) == []
            found = connection.execute(
                "SELECT id, seq, born, began, elems ->> 'v', fhash, until, ended FROM drop_row"
                " ORDER BY seq"
            ).fetchall()
            assert [Row(*row) for row in found] == sorted(model.rows, key=lambda row: row.seq)
            epochs = connection.execute("SELECT name, first_seq FROM epoch ORDER BY 2").fetchall()
            assert epochs == model.epochs
            self.check_states(connection)
        finally:
            connection.close()

    def check_states(self, connection: apsw.Connection) -> None:
        """``seq <= p < until`` is the state at p, for every p from V to the head."""
        model = self.model
        for position in range(model.mark_v, model.head + 1):
            state = connection.execute(
                "SELECT id, elems ->> 'v' FROM drop_row WHERE seq <= ?1"
                " AND (until IS NULL OR ?1 < until)",
                (position,),
            ).fetchall()
            assert dict(state) == model.states[position]


TestFlowMachine = FlowMachine.TestCase
TestFlowMachine.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def broken(folder: Path, *statements: str) -> list[str]:
    """What verify says of a sound store after *statements* have damaged it."""
    store = open_store(folder, synchronous="OFF")
    flow = store.write(
        lambda w: w.create_flow({"path": "/nora/a", "capacity": 3, "history": 2}, creator="i1")
    )
    for n in range(6):
        store.write(lambda w, n=n: w.create_drop(flow, {"elems": {"v": n}}, {}, creator="i1"))
    store.close()
    assert verify(folder / FILE_NAME) == []
    connection = apsw.Connection(str(folder / FILE_NAME))
    for statement in statements:
        connection.execute(statement)
    connection.close()
    return verify(folder / FILE_NAME)


CHANGES = "UPDATE drop_row SET {} WHERE seq = (SELECT max(seq) FROM drop_row)"
FLOW = "UPDATE flow SET {}"
DAMAGE = {
    "a lost row": ("DELETE FROM drop_row WHERE until IS NULL AND seq = 9", "changes after V"),
    "a number above the head": (FLOW.format("head = head - 1"), "the head is 8"),
    "a hole at the head": (FLOW.format("head = head + 1"), "changes after V"),
    "marks the wrong way": (FLOW.format("mark_e = mark_v + 1"), "E "),
    "a wrong count of live rows": (FLOW.format("live = 2"), "3 live rows, counted 2"),
    "a wrong count of ended rows": (FLOW.format("ended = 1"), "2 ended rows, counted 1"),
    "a wrong count of bytes": (FLOW.format("ended_bytes = 1"), "ended bytes, counted 1"),
    "more live rows than capacity": (FLOW.format("capacity = 2"), "the capacity is 2"),
    "more ended rows than history": (FLOW.format("history = 1"), "the history is 1"),
    "an end without a reason": (
        "UPDATE drop_row SET ended = 'update' WHERE ended = 'evict'",
        "do not say how they ended",
    ),
    "a birth after the row": (CHANGES.format("born = seq + 1"), "contradict themselves"),
    "a row of another size": (CHANGES.format("bytes = 1"), "contradict themselves"),
    "elements that are no JSONB": (CHANGES.format("elems = x'ff'"), "contradict themselves"),
    "one id twice": ("UPDATE drop_row SET id = 'd1' WHERE until IS NULL", "drops live twice"),
    "rows of no flow": ("DELETE FROM flow", "belong to no flow"),
    "no epoch": ("DELETE FROM epoch", "no epoch"),
    "an epoch too late": ("UPDATE epoch SET first_seq = 9", "have no epoch"),
}


def test_verify_sees_every_kind_of_damage(tmp_path) -> None:
    """Each invariant that is broken in a file is named, and a sound file is silent."""
    for name, (statement, said) in DAMAGE.items():
        found = broken(tmp_path / name, statement)
        assert any(said in fault for fault in found), (name, found)
