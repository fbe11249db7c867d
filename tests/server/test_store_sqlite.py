"""The store on a data folder keeps the contract of every store, and its own promises."""

from __future__ import annotations

import os
import resource
import threading
from dataclasses import replace

import apsw
import pytest
from contracts import Clock, StoreContract, seq_of

from flowkit import limits
from flowkit.errors import BadRequest, ServerError, SettingsError
from flowkit.query.params import Query
from flowkit.server.plan import plan_find
from flowkit.server.store import changes, reading
from flowkit.server.store.schema import SCHEMA_VERSION
from flowkit.server.store.sqlite import FILE_NAME, open_store
from flowkit.server.store.verify import verify


@pytest.fixture
def clock():
    """A clock that stands."""
    return Clock()


@pytest.fixture
def folder(tmp_path):
    """A data folder that does not exist yet."""
    return tmp_path / "data"


@pytest.fixture
def store(folder, clock):
    """A new store; sound after every test."""
    store = open_store(folder, synchronous="OFF", clock_ms=clock)
    yield store
    store.close()
    assert verify(folder / FILE_NAME) == []


class TestSqliteStore(StoreContract):
    """SQLite keeps the contract."""


new_flow = StoreContract.new_flow
put = StoreContract.put


def rows(folder, sql: str):
    """What a query on the file answers, beside the open store."""
    connection = apsw.Connection(str(folder / FILE_NAME), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


def test_a_second_opening_is_told_who_holds_the_folder(store, folder):
    """It names the process and since when."""
    with pytest.raises(SettingsError, match=f"process {os.getpid()} .* since 2017-12-09 16:35:50"):
        open_store(folder)


def test_a_closed_store_lets_the_folder_go(store, folder, clock):
    """Closing twice is closing once; what was written is there for the next one."""
    flow = new_flow(store)
    store.close()
    store.close()
    again = open_store(folder, clock_ms=clock)

    assert again.read(lambda r: r.flow(flow.id)).doc == flow.doc
    again.close()


def test_a_closed_store_refuses_by_name(store):
    """Reading and writing after the close raise at once."""
    store.close()

    with pytest.raises(ServerError, match="store is closed") as caught:
        store.read(lambda r: r.account("nora"))
    assert caught.value.status == 503
    with pytest.raises(ServerError, match="store is closed"):
        store.write(lambda w: w.create_account("nora", b""))


def test_a_closed_folder_holds_one_whole_file(store, folder):
    """The write-ahead log has been merged into the file."""
    new_flow(store)
    store.close()

    assert sorted(os.listdir(folder)) == [FILE_NAME, "lock"]


def test_a_newer_schema_is_refused(store, folder):
    """The error says which version was found and which are known."""
    store.close()
    connection = apsw.Connection(str(folder / FILE_NAME))
    newer = SCHEMA_VERSION + 1
    connection.execute("UPDATE meta SET value = ? WHERE name = 'schema_version'", (newer,))
    connection.close()

    with pytest.raises(SettingsError, match=f"version {newer}.*knows up to {SCHEMA_VERSION}"):
        open_store(folder)
    connection = apsw.Connection(str(folder / FILE_NAME))
    connection.execute("UPDATE meta SET value = ? WHERE name = 'schema_version'", (SCHEMA_VERSION,))
    connection.close()


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"no database at all, but long enough to be read " * 20, "is not a database")],
)
def test_a_foreign_file_is_refused_and_left_alone(folder, content, said):
    """It is not written to, and the folder is let go."""
    folder.mkdir()
    (folder / FILE_NAME).write_bytes(content)

    for _ in range(2):
        with pytest.raises(SettingsError, match=said):
            open_store(folder)
    assert (folder / FILE_NAME).read_bytes() == content


def test_a_foreign_database_is_refused(folder):
    """Tables of something else are not ours to add to."""
    folder.mkdir()
    connection = apsw.Connection(str(folder / FILE_NAME))
    connection.execute("CREATE TABLE theirs (a)")
    connection.close()

    with pytest.raises(SettingsError, match="is not a flowkit store"):
        open_store(folder)
    assert rows(folder, "SELECT name FROM sqlite_schema") == [("theirs",)]


def test_an_unknown_level_is_refused(folder):
    """The error lists the levels."""
    with pytest.raises(SettingsError, match="FULL"):
        open_store(folder, synchronous="ON")


def test_each_opening_is_an_epoch_of_its_own(store, folder, clock):
    """A flow lists it from its first change under it; reading adds nothing."""
    flow = new_flow(store)
    first = put(store, flow)
    epochs = [store.epoch]
    store.close()
    for write in (False, True):
        again = open_store(folder, clock_ms=clock)
        assert again.read(lambda r: r.flow(flow.id)).epoch == epochs[0]
        if write:
            second = put(again, flow)
            epochs.append(again.epoch)
        again.close()

    assert epochs[0] != epochs[1]
    assert first.position == f"p1.{flow.id}.{epochs[0]}.1"
    assert second.position == f"p1.{flow.id}.{epochs[1]}.2"
    assert rows(folder, "SELECT name, first_seq FROM epoch ORDER BY first_seq") == [
        (epochs[0], 1),
        (epochs[1], 2),
    ]


def test_epochs_go_when_all_their_changes_are_forgotten(folder, clock):
    """The newest never goes, and the one of the mark E itself stays."""
    for n in range(6):
        store = open_store(folder, clock_ms=clock)
        flow = store.read(lambda r: r.flow_at("/nora/a")) or new_flow(
            store, "/nora/a", capacity=1, history=0
        )
        put(store, flow, n)
        store.close()

    # The changes are create 1, evict 2, create 3, evict 4 … create 11: E is 9, begun under epoch 5.
    assert rows(folder, "SELECT mark_e, mark_v, head FROM flow") == [(9, 10, 11)]
    assert rows(folder, "SELECT first_seq FROM epoch ORDER BY first_seq") == [(8,), (10,)]
    assert verify(folder / FILE_NAME) == []


def test_ids_go_on_rising_after_a_restart_with_an_older_clock(folder, clock):
    """The last id is kept in the commit that used it."""
    ids = []
    for _ in range(3):
        store = open_store(folder, clock_ms=clock)
        ids.append(new_flow(store, f"/nora/{len(ids)}").id)
        store.close()
        clock.ms -= 60_000

    assert ids == sorted(set(ids))


def test_ended_rows_are_bounded_in_bytes(store, folder, monkeypatch):
    """Whatever the history allows, the oldest ended rows go when the bytes are too many."""
    monkeypatch.setattr(limits, "flow_history_bytes_max", 4_000)
    flow = new_flow(store, capacity=1, history=100)
    for _ in range(10):
        put(store, flow, "x" * 1_000)
        assert verify(folder / FILE_NAME) == []

    assert rows(folder, "SELECT ended, ended_bytes < 4000, live FROM flow") == [(3, 1, 1)]


def test_a_reader_is_not_stopped_by_the_writer(store):
    """While a job writes, another reads the state before it."""
    flow = new_flow(store)
    begun, done = threading.Event(), threading.Event()

    def slow(writer):
        put_in = writer.create_drop(flow, {"elems": {}}, {}, creator="i1")
        begun.set()
        assert done.wait(10)
        return put_in

    thread = threading.Thread(target=store.write, args=(slow,))
    thread.start()
    assert begun.wait(10)
    seen = store.read(lambda r: r.flow(flow.id).head)
    done.set()
    thread.join()

    assert seen == 0
    assert store.read(lambda r: r.flow(flow.id).head) == 1


def test_a_read_is_one_snapshot(store):
    """What is committed while a job reads is not seen by it."""
    flow = new_flow(store)

    def job(reader):
        before = reader.flow(flow.id).head
        put(store, flow)
        return before, reader.flow(flow.id).head

    assert store.read(job) == (0, 0)
    assert store.read(lambda r: r.flow(flow.id).head) == 1


def test_old_answers_are_swept(store, folder, clock):
    """Answers beyond the window leave the file with a later write."""
    store.write(lambda w: w.keep_answer("nora", "r1", 201, b"{}"))
    clock.ms += int(limits.replay_window_s * 1000)
    store.write(lambda w: w.keep_answer("nora", "r2", 201, b'{"n": 2}'))

    assert rows(folder, "SELECT body FROM answer") == [(b'{"n": 2}',)]


def test_a_full_disk_fails_the_write_and_nothing_else(store, folder):
    """The callers get a server error, nothing is half there, and the store goes on when it can."""
    flow = new_flow(store)
    put(store, flow)

    def fill(writer):
        writer._connection.execute(
            "PRAGMA max_page_count = 1"
        ).fetchall()  # clamps to the present size
        for _ in range(1_000):
            writer.create_drop(flow, {"elems": {"text": "x" * 1_000}}, {}, creator="i1")

    with pytest.raises(ServerError, match="nothing of it was stored"):
        store.write(fill)
    assert store.read(lambda r: r.flow(flow.id).head) == 1

    store.write(lambda w: w._connection.execute("PRAGMA max_page_count = 1000000").fetchall())
    assert seq_of(put(store, flow).position) == 2


def test_a_commit_that_is_refused_fails_all_its_writes(store):
    """Drops of the batch are gone, their numbers are free, and the next batch works."""
    flow = new_flow(store)

    def refuse(writer):
        writer._connection.set_commit_hook(lambda: True)
        return writer.create_drop(flow, {"elems": {}}, {}, creator="i1")

    with pytest.raises(ServerError, match="nothing of it was stored"):
        store.write(refuse)
    store.write(lambda w: w._connection.set_commit_hook(None))

    assert seq_of(put(store, flow).position) == 1


def test_a_flow_is_found_again_after_the_cache_was_emptied(folder, clock, monkeypatch):
    """The writer's memory of flows is bounded; their numbers come back from the file."""
    monkeypatch.setattr(limits, "store_flows_cached", 2)
    store = open_store(folder, synchronous="OFF", clock_ms=clock)
    flows = [new_flow(store, f"/nora/{n}", capacity=2) for n in range(5)]
    written = [put(store, flow, n) for n in range(3) for flow in flows]
    store.close()

    assert [seq_of(each.position) for each in written[-5:]] == [4] * 5
    assert verify(folder / FILE_NAME) == []


def test_members_that_the_store_does_not_know_are_our_own_mistake(store):
    """They raise instead of being lost."""
    flow = new_flow(store)

    with pytest.raises(ValueError, match="capcity"):
        store.write(lambda w: w.update_flow(flow, {"capcity": 5}, editor="i1"))


def test_greenlets_and_threads_write_side_by_side(store):
    """Every write is there, each with a number of its own."""
    import gevent

    flow = new_flow(store)
    seen: list[int] = []

    def write() -> None:
        seen.extend(seq_of(put(store, flow).position) for _ in range(20))

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    gevent.joinall([gevent.spawn(write) for _ in range(4)], raise_error=True)
    for thread in threads:
        thread.join()

    assert sorted(seen) == list(range(1, 161))


def find(store, flow, **params):
    """A find of drops in one flow."""

    def job(reader):
        now = reader.flow(flow.id)
        return reader.find(plan_find("drop", Query.from_wire(params), now_ms=0, flow=now))

    return store.read(job)


@pytest.fixture
def ten(store, clock):
    """A flow of ten drops, each a millisecond younger than the one before."""
    flow = new_flow(store, capacity=10)
    for n in range(10):
        put(store, flow, n)
        clock.ms += 1
    return flow


def temps(found):
    """What was found, by its temperature."""
    return [each.doc["elems"]["temp"] for each in found.objects]


def test_a_find_gives_the_newest_first_and_where_it_was_read(store, ten):
    """Deleted drops are not found; the position is that of the snapshot."""
    newest = find(store, ten, limit=1).objects[0].doc["id"]
    store.write(lambda w: w.delete_drop(ten, newest))
    found = find(store, ten, filter="temp > 2", limit=3)

    assert temps(found) == [8, 7, 6]
    assert found.position == f"p1.{ten.id}.{store.epoch}.11"
    assert found.objects[0] == store.read(
        lambda r: r.drops(ten, [found.objects[0].doc["id"]])[found.objects[0].doc["id"]]
    )


@pytest.mark.parametrize(
    ("filter_text", "scanned"), [("temp < 9 && temp > 3", 2), ("a.b.c.d.e == 1 || temp < 9", 4)]
)
def test_start_and_limit_are_the_same_with_and_without_a_remainder(
    store, ten, filter_text, scanned
):
    """The database counts where it can; otherwise the store counts what passed."""
    found = find(store, ten, filter=filter_text, start=1, limit=2)

    assert temps(found) == [7, 6]
    assert found.scanned == scanned


def test_a_writing_job_finds_what_it_has_written(store, ten):
    """Find and position are of the transaction itself."""

    def job(writer):
        writer.create_drop(ten, {"elems": {"temp": 99}}, {}, creator="i1")
        flow = writer.flow(ten.id)
        plan = plan_find("drop", Query.from_wire({"limit": 1}), now_ms=0, flow=flow)
        return writer.find(plan)

    found = store.write(job)
    assert temps(found) == [99]
    assert seq_of(found.position) == 12


def test_an_answer_that_is_too_large_is_refused(folder, clock):
    """The error says what to do about it."""
    store = open_store(folder, synchronous="OFF", clock_ms=clock, answer_bytes_max=2_000)
    flow = new_flow(store)
    for _ in range(10):
        put(store, flow, "x" * 100)

    assert len(find(store, flow, limit=5).objects) == 5
    with pytest.raises(BadRequest, match="use only or limit"):
        find(store, flow, limit=10)
    store.close()


SLOW = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"


@pytest.mark.parametrize("verb", ["read", "write"])
def test_a_query_is_ended_at_its_deadline(folder, clock, verb):
    """It raises for its caller; the thread and the jobs around it go on."""
    store = open_store(folder, synchronous="OFF", clock_ms=clock, query_timeout_s=0.05)
    flow = new_flow(store)

    def job(session):
        plan = plan_find("drop", Query.from_wire({}), now_ms=0, flow=session.flow(flow.id))
        return session.find(replace(plan, sql=SLOW, params=()))

    with pytest.raises(BadRequest, match=r"longer than 0.05 s and was ended"):
        getattr(store, verb)(job)

    assert seq_of(put(store, flow).position) == 1
    assert store.read(lambda r: r.flow(flow.id).head) == 1
    store.close()


def test_a_caller_may_ask_for_a_shorter_deadline(store):
    """The shorter of the two bounds counts."""
    flow = new_flow(store)

    def job(reader):
        plan = plan_find("drop", Query.from_wire({}), now_ms=0, flow=flow)
        return reader.find(replace(plan, sql=SLOW, params=()))

    with pytest.raises(BadRequest, match=r"longer than 0.02 s"):
        store.read(job, timeout_s=0.02)


STATEMENTS = {
    "a drop by id": (reading.NEWEST_ROW, "INDEX row_by_id (flow=? AND id=?)"),
    "the oldest drops": (changes.OLDEST, "INDEX live_by_born (flow=?)"),
    "removing the oldest": (changes.REMOVE_OLDEST, "INDEX live_by_born (flow=? AND born<?)"),
    "the first to be forgotten": (changes.EARLIEST_ENDED, "INDEX ended_by_until (flow=?"),
    "a drop by fhash": (changes.BY_FHASH, "INDEX live_by_fhash (flow=? AND fhash=?)"),
    "forgetting by end": (changes.FORGET.format("until <= ?"), "INDEX ended_by_until (flow=?"),
    "forgetting one drop": (
        changes.FORGET.format(changes.STATES_OF_DROP),
        "PRIMARY KEY (flow=? AND seq=?)",
    ),
}


@pytest.mark.parametrize("name", STATEMENTS)
def test_no_statement_of_a_drop_walks_the_whole_flow(store, folder, name):
    """SQLite's own account of each statement names the index that goes straight to the rows."""
    sql, index = STATEMENTS[name]
    connection = apsw.Connection(str(folder / FILE_NAME))
    steps = connection.execute(f"EXPLAIN QUERY PLAN {sql}", [1] * sql.count("?")).fetchall()
    connection.close()

    said = [step[3] for step in steps]
    assert any(index in each for each in said), said
    assert not any("SCAN" in each or "TEMP B-TREE" in each for each in said), said


def test_a_commit_that_the_disk_refuses_is_told_to_everyone(store, folder):
    """The file may not grow: all callers of the batch get a server error; later writes go on."""
    flow = new_flow(store)
    put(store, flow)
    log_bytes = (folder / f"{FILE_NAME}-wal").stat().st_size
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (log_bytes + 4_096, unlimited[1]))
    try:
        with pytest.raises(ServerError, match="nothing of it was stored"):
            put(store, flow, "x" * 100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)

    assert store.read(lambda r: r.flow(flow.id).head) == 1
    assert seq_of(put(store, flow, "x" * 100_000).position) == 2


class _Disk(apsw.VFS):
    """The default way to files, with an fsync that can be made to fail."""

    def __init__(self) -> None:
        super().__init__("failing", "", makedefault=True)
        self.fails = False

    def xOpen(self, name, flags):  # noqa: N802 - SQLite's name
        """A file of this disk."""
        return _File(self, name, flags)


class _File(apsw.VFSFile):
    """A file whose fsync fails when its disk does."""

    def __init__(self, disk: _Disk, name, flags) -> None:
        super().__init__("unix", name, flags)
        self._disk = disk

    def xSync(self, flags) -> None:  # noqa: N802 - SQLite's name
        """As SQLite's own VFS reports it."""
        if self._disk.fails:
            error = apsw.IOError("disk I/O error")
            error.extendedresult = apsw.SQLITE_IOERR_FSYNC
            raise error
        super().xSync(flags)


def test_after_a_failed_fsync_nothing_more_is_written(folder, clock):
    """What was acknowledged before is there, the store refuses writes by name, reads go on."""
    disk = _Disk()
    try:
        store = open_store(folder, clock_ms=clock)
        flow = new_flow(store)
        put(store, flow)
        disk.fails = True
        with pytest.raises(ServerError, match="shows at the next start"):
            put(store, flow)
        disk.fails = False
        with pytest.raises(ServerError, match="no writes until the server starts again") as caught:
            put(store, flow)

        assert caught.value.status == 503
        assert store.read(lambda r: r.flow(flow.id).head) == 1
        store.close()
        again = open_store(folder, clock_ms=clock)
        assert again.read(lambda r: r.flow(flow.id).head) in {1, 2}
        assert seq_of(put(again, flow).position) in {2, 3}
        again.close()
    finally:
        disk.unregister()
    assert verify(folder / FILE_NAME) == []
