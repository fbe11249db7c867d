"""Changes handed out with each commit, and read back from the rows."""

from __future__ import annotations

import tempfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowkit import limits
from flowkit.server.store.base import Commit
from flowkit.server.store.sqlite import open_store


@pytest.fixture
def store(tmp_path):
    """A store with one account."""
    opened = open_store(tmp_path, synchronous="OFF")
    opened.write(lambda writer: writer.create_account("nora", b"x"))
    yield opened
    opened.close()


def make_flow(store, **members):
    """A flow of account nora."""
    return store.write(
        lambda writer: writer.create_flow({"path": "/nora/a", **members}, creator="i1")
    )


def put(writer, flow_id, value, fhash=None):
    """Write one drop."""
    members = {"elems": {"v": value}, "fhash": fhash}
    return writer.create_drop(writer.flow(flow_id), members, {}, creator="i1")


def value_of(drop):
    """The value of a drop, None for no drop."""
    return None if drop is None else drop.doc["elems"]["v"]


def told_of(commit: Commit, flow_id):
    """Number, kind, new and old value of the changes that a commit hands out."""
    return [
        (change.seq, change.kind, value_of(change.new), value_of(change.old))
        for each in [commit.flows.get(flow_id)]
        if each is not None
        for change in each.changes or ()
    ]


def states_of(store, flow_id, page):
    """The drops as of now, by pages of so many; a page of one byte holds one."""
    found, after, is_last = [], 0, False
    while not is_last:
        more, is_last = store.read(
            lambda r, after=after: r.states(r.flow(flow_id), r.flow(flow_id).head, after, page, 200)
        )
        assert is_last or 0 < len(more) <= page
        found += more
        after = more[-1][0] if more else after
    return found


def read_back(store, flow_id, *, after=0, page=100):
    """The same of the changes that the rows hold, in pages of *page*, and E and V."""

    def job(reader):
        flow = reader.flow(flow_id)
        found, place = [], after
        while True:
            changes, is_whole = reader.changes(flow, place, page, 1_000_000)
            found += changes
            if is_whole:
                return found, flow.mark_e, flow.mark_v
            place = changes[-1].seq

    changes, mark_e, mark_v = store.read(job)
    log = [(each.seq, each.kind, value_of(each.new), value_of(each.old)) for each in changes]
    return log, mark_e, mark_v


def test_the_changes_of_unwatched_flows_are_named_by_their_numbers_alone(store):
    """A commit says from where to where; the changes stand in the store."""
    heard: list[Commit] = []
    flow = make_flow(store)
    store.on_commit(heard.append)
    store.write(lambda writer: [put(writer, flow.id, value) for value in range(3)])
    assert heard[0].flows[flow.id].changes is None
    assert (heard[0].flows[flow.id].first, heard[0].flows[flow.id].head) == (1, 3)
    assert heard[0].epoch == store.epoch


def test_a_job_that_fails_leaves_no_change_behind(store):
    """Its numbers belong to the next one."""
    heard: list[Commit] = []
    flow = make_flow(store)
    store.watch(frozenset({flow.id}))
    store.on_commit(heard.append)

    def fail(writer):
        put(writer, flow.id, 1)
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        store.write(fail)
    store.write(lambda writer: put(writer, flow.id, 2))
    assert [told_of(each, flow.id) for each in heard] == [[(1, "create", 2, None)]]


def test_a_deleted_flow_is_told_as_gone(store):
    """Whoever reads it must end."""
    heard: list[Commit] = []
    flow = make_flow(store)
    store.on_commit(heard.append)
    store.write(lambda writer: (put(writer, flow.id, 1), writer.delete_flow(flow)))
    assert heard[0].flows[flow.id].is_gone


def test_a_commit_with_very_many_changes_names_their_numbers_alone(store, monkeypatch):
    """They would all be held in memory at once."""
    monkeypatch.setattr(limits, "commit_changes_max", 5)
    heard: list[Commit] = []
    flow = make_flow(store)
    store.watch(frozenset({flow.id}))
    store.on_commit(heard.append)
    store.write(lambda writer: [put(writer, flow.id, value) for value in range(6)])
    store.write(lambda writer: writer.clear(writer.flow(flow.id)))
    assert [each.flows[flow.id].changes for each in heard] == [None, None]
    assert heard[1].flows[flow.id].head == 12


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(0, 9), st.sampled_from([None, None, "a", "b"])),
        st.tuples(st.just("update"), st.integers(0, 5), st.integers(0, 9)),
        st.tuples(st.just("delete"), st.integers(0, 5), st.booleans()),
        st.tuples(st.just("clear"), st.just(0), st.just(0)),
        st.tuples(st.just("capacity"), st.integers(0, 4), st.just(0)),
    ),
    max_size=25,
)


def apply(writer, flow_id, operation):
    """Do one thing to the flow."""
    name, first, second = operation
    flow = writer.flow(flow_id)
    live = sorted(key for key in apply.made if writer.drops(flow, [key]))
    if name == "put":
        apply.made.add(put(writer, flow_id, first, second).drop.doc["id"])
    elif name == "clear":
        writer.clear(flow)
    elif name == "capacity":
        writer.update_flow(flow, {"capacity": first}, editor="i1")
    elif live and name == "update":
        changes = {"elems": {"v": second}}
        writer.update_drop(flow, live[first % len(live)], changes, None, editor="i1")
    elif live:
        writer.delete_drop(flow, live[first % len(live)], forget=second)


@settings(max_examples=60, deadline=None)
@given(
    batches=st.lists(OPERATIONS, min_size=1, max_size=4),
    capacity=st.integers(0, 4),
    history=st.sampled_from([0, 1, 3, 50]),
    page=st.integers(1, 4),
)
def test_what_the_rows_hold_is_what_the_commits_told(batches, capacity, history, page):
    """After E with the new values, after V with the old ones too; whatever the size of a page."""
    apply.made = set()
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(folder, synchronous="OFF", readers=1)
        store.write(lambda writer: writer.create_account("nora", b"x"))
        flow = make_flow(store, capacity=capacity, history=history)
        heard: list[Commit] = []
        store.watch(frozenset({flow.id}))
        store.on_commit(heard.append)
        for batch in batches:
            store.write(lambda writer, batch=batch: [apply(writer, flow.id, op) for op in batch])
        log = [change for commit in heard for change in told_of(commit, flow.id)]
        held, mark_e, mark_v = read_back(store, flow.id, page=page)
        states = states_of(store, flow.id, page)
        live = store.read(lambda r: r.drops(r.flow(flow.id), sorted(apply.made)))
        store.close()
    assert [number for number, *_ in log] == list(range(1, len(log) + 1))
    assert [each for each in held if each[0] > mark_v] == log[mark_v:]
    begun = [each[:3] for each in log[mark_e:] if each[2] is not None]
    assert [each[:3] for each in held if each[0] > mark_e and each[2] is not None] == begun
    assert {drop.doc["id"]: drop for _, drop in states} == live
