"""Objects, secrets, lines and statistics do what plain dicts do, whatever fails in between."""

from __future__ import annotations

import shutil
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from contracts import Clock
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from flowkit import limits
from flowkit.errors import BadRequest, NotFound, ServerError
from flowkit.server.store.base import Account, Commit, Secret, StoredObject
from flowkit.server.store.sqlite import FILE_NAME, open_store
from flowkit.server.store.verify import verify

HOUR_MS = 3_600_000
PATHS = ("/nora/a", "/nora/b", "/nora/c")
BACKLOG = 7


class Undo(Exception):
    """What a job raises that is to leave no trace."""


@dataclass
class Track:
    """What the model knows of a track; *waiting* holds the ids of drops."""

    found: StoredObject
    waiting: list[str] = field(default_factory=list)
    failures: int = 0
    skipped: int = 0
    last_failure: str | None = None

    @property
    def source(self) -> str | None:
        """The path that it watches, if it is enabled."""
        return None if self.found.doc.get("disabled") else self.found.doc["source"]


FATES = st.sampled_from(["kept", "kept", "kept", "raises", "lost"])


class StoreMachine(RuleBasedStateMachine):
    """A store beside plain dicts; jobs are kept, raise, or are lost with their commit."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.backlog, limits.track_backlog_max = limits.track_backlog_max, BACKLOG
        self.clock = Clock()
        self.store = open_store(self.folder, synchronous="OFF", clock_ms=self.clock, readers=1)
        self.nora, self.emil = (
            self.store.write(lambda w, n=name: w.create_account(n, n.encode()))
            for name in ("nora", "emil")
        )
        self.flows = {
            path: self.store.write(
                lambda w, p=path: w.create_flow({"path": p}, creator=self.nora.identity_id)
            )
            for path in PATHS
        }
        self.tracks: list[Track] = []
        self.groups: dict[str, StoredObject] = {}
        self.shares: dict[str, StoredObject] = {}
        self.tokens: dict[bytes, StoredObject] = {}
        self.counts: dict[tuple[str, str], dict[int, int]] = {}
        self.number = 0

    def teardown(self) -> None:
        """The file is sound at the end."""
        self.store.close()
        limits.track_backlog_max = self.backlog
        assert verify(self.folder / FILE_NAME) == []
        shutil.rmtree(self.folder)

    def do(self, job, fate: str):
        """Run *job* and let it meet its *fate*; its result, None if nothing of it is to stay."""

        def run(writer):
            result = job(writer)
            if fate == "raises":
                raise Undo
            if fate == "lost":
                writer._connection.set_commit_hook(lambda: True)
            return result

        if fate == "kept":
            return self.store.write(run)
        with pytest.raises(Undo if fate == "raises" else ServerError):
            self.store.write(run)
        if fate == "lost":
            self.store.write(lambda w: w._connection.set_commit_hook(None))
        return None

    def counted(self, kind: str, object_id: str, times: int = 1) -> None:
        """The model of a count."""
        hours = self.counts.setdefault((kind, object_id), {})
        hour = self.clock.ms // HOUR_MS
        hours[hour] = hours.get(hour, 0) + times

    # Tracks and what waits for them

    @rule(source=st.sampled_from(PATHS), disabled=st.sampled_from([None, True, False]), fate=FATES)
    def make_a_track(self, source, disabled, fate):
        """A new track begins at the end of its line."""
        members = {"source": source, "destination": "/nora/z", "disabled": disabled}
        me = self.nora.identity_id
        made = self.do(lambda w: w.create_object("track", "nora", members, creator=me), fate)
        if made is not None:
            self.tracks.append(Track(made))

    @precondition(lambda self: self.tracks)
    @rule(
        data=st.data(),
        changes=st.one_of(
            st.fixed_dictionaries({"disabled": st.sampled_from([None, True, False])}),
            st.fixed_dictionaries({"source": st.sampled_from(PATHS)}),
            st.fixed_dictionaries({"description": st.just("said again")}),
        ),
        fate=FATES,
    )
    def change_a_track(self, data, changes, fate):
        """It keeps its place unless it begins to watch something."""
        track = data.draw(st.sampled_from(self.tracks))
        before = track.source
        made = self.do(lambda w: w.update_object(track.found, changes, editor="i2"), fate)
        if made is not None:
            track.found = made
            if track.source != before:
                track.waiting = []

    @precondition(lambda self: self.tracks)
    @rule(data=st.data(), fate=FATES)
    def delete_a_track(self, data, fate):
        """Nothing of it stays."""
        track = data.draw(st.sampled_from(self.tracks))
        if self.do(lambda w: w.delete_object(track.found) or True, fate):
            self.tracks.remove(track)
            self.counts.pop(("trackHit", track.found.id), None)

    @rule(path=st.sampled_from(PATHS), times=st.integers(1, 4), fate=FATES)
    def write_drops(self, path, times, fate):
        """Each waits for every enabled track of its flow and is counted."""
        flow = self.flows[path]

        def job(writer):
            drops = []
            for n in range(times):
                written = writer.create_drop(
                    flow, {"elems": {"n": n}}, {"n": "length"}, creator="i1"
                )
                writer.route(flow, written.drop, hops=n)
                writer.count("flowDropAdded", flow.id)
                drops.append(written.drop.doc["id"])
            counted = writer.statistics("flowDropAdded", flow.id, 0, 10**9)
            before = self.counts.get(("flowDropAdded", flow.id), {})
            assert sum(counted.values()) == sum(before.values()) + times
            return drops

        drops = self.do(job, fate)
        if drops is not None:
            self.counted("flowDropAdded", flow.id, times)
            watching = [track for track in self.tracks if track.source == path]
            for track in watching:
                track.waiting += drops
            self.shorten(watching)

    @staticmethod
    def shorten(watching: list[Track]) -> None:
        """The oldest of a line that is too long are skipped by whom they still waited for."""
        line = max((track.waiting for track in watching), key=len, default=[])
        gone = set(line[: max(0, len(line) - BACKLOG)])
        for track in watching:
            track.skipped += len(gone.intersection(track.waiting))
            if gone.intersection(track.waiting):
                track.last_failure = "skipped"
            track.waiting = [each for each in track.waiting if each not in gone]

    @precondition(lambda self: any(track.waiting for track in self.tracks))
    @rule(data=st.data(), limit=st.integers(1, 5), failures=st.integers(0, 2), fate=FATES)
    def let_a_track_go_on(self, data, limit, failures, fate):
        """It takes the oldest of what waits, and is counted with its progress."""
        track = data.draw(st.sampled_from([each for each in self.tracks if each.waiting]))
        said = "it failed" if failures else None

        def job(writer):
            taken = writer.deliveries(track.found, limit)
            place = taken[-1].place
            writer.settle_track(track.found, place, failures=failures, last_failure=said)
            writer.count("trackHit", track.found.id, len(taken))
            return [each.drop.doc["id"] for each in taken]

        taken = self.do(job, fate)
        if taken is not None:
            assert taken == track.waiting[:limit]
            track.waiting = track.waiting[limit:]
            track.failures += failures
            track.last_failure = said or track.last_failure
            self.counted("trackHit", track.found.id, len(taken))

    # Groups, shares, tokens

    @rule(members=st.sets(st.sampled_from(["nora", "emil", "i9"])), fate=FATES)
    def make_a_group(self, members, fate):
        """Its members find it."""
        ids = [self.identity(name) for name in sorted(members)]
        made = self.do(
            lambda w: w.create_object("group", "nora", {"memberIds": ids}, creator="i1"), fate
        )
        if made is not None:
            self.groups[made.id] = made

    @precondition(lambda self: self.groups)
    @rule(data=st.data(), members=st.sets(st.sampled_from(["nora", "emil"])), fate=FATES)
    def change_or_delete_a_group(self, data, members, fate):
        """Other members find it then, or nobody."""
        group = self.groups[data.draw(st.sampled_from(sorted(self.groups)))]
        ids = [self.identity(name) for name in sorted(members)]
        if data.draw(st.booleans()):
            made = self.do(lambda w: w.update_object(group, {"memberIds": ids}, editor="i2"), fate)
            self.groups[group.id] = made or group
        elif self.do(lambda w: w.delete_object(group) or True, fate):
            del self.groups[group.id]

    def identity(self, name: str) -> str:
        """The identity of an account, or one that there is not."""
        return {"nora": self.nora.identity_id, "emil": self.emil.identity_id}.get(name, name)

    @rule(data=st.data(), fate=FATES)
    def make_or_delete_a_share(self, data, fate):
        """It reaches an identity, or all members of a group."""
        if self.shares and data.draw(st.booleans()):
            share = self.shares[data.draw(st.sampled_from(sorted(self.shares)))]
            if self.do(lambda w: w.delete_object(share) or True, fate):
                del self.shares[share.id]
            return
        to = data.draw(st.sampled_from([self.emil.identity_id, *sorted(self.groups)]))
        members = {"issuedTo": to, "paths": {"/nora/a": {"read": True}}}
        made = self.do(lambda w: w.create_object("share", "nora", members, creator="i1"), fate)
        if made is not None:
            self.shares[made.id] = made

    @rule(data=st.data(), fate=FATES)
    def make_or_delete_a_token(self, data, fate):
        """Its secret comes and goes with it."""
        if self.tokens and data.draw(st.booleans()):
            secret = data.draw(st.sampled_from(sorted(self.tokens)))
            if self.do(lambda w: w.delete_object(self.tokens[secret]) or True, fate):
                del self.tokens[secret]
            return
        self.number += 1
        secret = b"secret %d" % self.number

        def job(writer):
            state = {"kept": self.number}
            made = writer.create_object("token", "nora", {"paths": {}}, creator="i1", state=state)
            writer.create_credential(secret, "nora", made.id, self.number)
            return made

        made = self.do(job, fate)
        if made is not None:
            self.tokens[secret] = made

    # Counts beside writes, time, openings

    @rule(name=st.sampled_from(["nora", "i9"]))
    def count_a_read(self, name):
        """It is stored with the next commit, unless there is no such identity."""
        self.store.count_later("apiCallByIdentity", self.identity(name))
        if name == "nora":
            self.counted("apiCallByIdentity", self.nora.identity_id)

    @rule()
    def let_time_pass(self):
        """The next counts are of a later hour."""
        self.clock.ms += HOUR_MS // 2

    @rule()
    def reopen(self):
        """Everything is in the file."""
        self.store.close()
        assert verify(self.folder / FILE_NAME) == []
        self.store = open_store(self.folder, synchronous="OFF", clock_ms=self.clock, readers=1)

    # What is true all the time

    @invariant()
    def lines_are_as_they_should_be(self):
        """Deliveries, places and counts of every track; what waits at all; the tracks in memory."""
        self.store.write(lambda w: None)
        for track in self.tracks:
            found = self.store.read(lambda r, t=track: r.deliveries(t.found, 1_000))
            if track.source is not None:
                assert [each.drop.doc["id"] for each in found] == track.waiting
                assert all(each.drop.types == {"n": "length"} for each in found)
            state = self.store.read(lambda r, t=track: r.track_state(t.found.id))
            assert (state.failures, state.skipped) == (track.failures, track.skipped)
            assert (state.last_failure is None) == (track.last_failure is None)
        waiting = [each.found.id for each in self.tracks if each.source and each.waiting]
        assert self.store.read(lambda r: r.waiting_tracks()) == sorted(waiting)
        for path in PATHS:
            enabled = [each.found for each in self.tracks if each.source == path]
            assert self.store.read(lambda r, p=path: r.tracks_from(p)) == enabled
        assert self.store.read(lambda r: r.objects("track")) == [t.found for t in self.tracks]

    @invariant()
    def rights_are_found(self):
        """Groups by member, shares by receiver, tokens by secret."""
        emil = self.emil.identity_id
        groups = [g for g, found in sorted(self.groups.items()) if emil in found.doc["memberIds"]]
        assert self.store.read(lambda r: r.groups_of(emil)) == groups
        shares = [
            share
            for _, share in sorted(self.shares.items())
            if share.doc["issuedTo"] in (emil, *groups)
        ]
        assert self.store.read(lambda r: r.shares_to(emil)) == shares
        assert len(self.store.read(lambda r: r.objects("token"))) == len(self.tokens)
        for number in range(1, self.number + 1):
            token = self.tokens.get(b"secret %d" % number)
            found = self.store.read(lambda r, n=number: r.credential(b"secret %d" % n))
            assert found == (token and Secret(self.nora, token.id, number))

    @invariant()
    def statistics_are_exact(self):
        """Every count, in its hour."""
        self.store.write(lambda w: None)
        for (kind, object_id), hours in self.counts.items():
            found = self.store.read(lambda r, k=kind, o=object_id: r.statistics(k, o, 0, 10**9))
            assert found == hours


TestStoreMachine = StoreMachine.TestCase
TestStoreMachine.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)


@pytest.fixture
def clock():
    """A clock that stands."""
    return Clock()


@pytest.fixture
def store(tmp_path, clock):
    """A new store; sound after every test."""
    store = open_store(tmp_path / "data", synchronous="OFF", clock_ms=clock)
    yield store
    store.close()
    assert verify(tmp_path / "data" / FILE_NAME) == []


@pytest.fixture
def nora(store) -> Account:
    """An account."""
    return store.write(lambda w: w.create_account("nora", b"nora"))


def make(store, kind, account="nora", state=None, **members):
    """A new object."""
    return store.write(lambda w: w.create_object(kind, account, members, creator="i1", state=state))


def test_an_object_reads_back_in_the_order_of_its_resource(store, nora, clock):
    """Members that were named, the id with its prefix, the dates; the state beside them."""
    made = make(store, "track", state={"etag": "x"}, js=None, source="/nora/a", metadata={"b": [1]})
    clock.ms += 5
    edited = store.write(lambda w: w.update_object(made, {"source": "/nora/b"}, editor="i2"))

    assert list(edited.doc) == [
        "id", "creationDate", "creatorId", "lastEditDate", "lastEditorId", "source", "metadata",
    ]  # fmt: skip
    assert made.id[0] == "t"
    assert edited.doc["lastEditDate"] - edited.doc["creationDate"] == 5
    assert store.read(lambda r: r.object("track", made.id)) == edited
    assert edited.state == {"etag": "x"}
    assert store.read(lambda r: r.object("group", made.id)) is None


def test_the_server_keeps_an_object_up_to_date_without_an_edit(store, nora):
    """No date and no editor; the state is replaced when given."""
    made = make(store, "rss_task", url="u", destination="/nora/a")
    kept = store.write(
        lambda w: w.update_object(made, {"runCt": 1}, editor=None, state={"etag": "y"})
    )

    assert kept.doc == {**made.doc, "runCt": 1}
    assert kept.state == {"etag": "y"}


def test_an_object_that_is_gone_cannot_be_changed(store, nora):
    """Neither updated, deleted nor settled; the job leaves no trace."""
    track = make(store, "track", source="/nora/a")
    store.write(lambda w: w.delete_object(track))

    for job in (
        lambda w: w.update_object(track, {"description": "x"}, editor="i1"),
        lambda w: w.delete_object(track),
        lambda w: w.settle_track(track, 1),
    ):
        with pytest.raises(NotFound, match=track.id):
            store.write(job)


def test_members_that_a_resource_does_not_have_are_our_own_mistake(store, nora):
    """They raise instead of being lost; so does what the store itself sets."""
    for name in ("sauce", "id", "creationDate"):
        with pytest.raises(ValueError, match=name):
            make(store, "track", **{"source": "/nora/a", name: "x"})


def test_an_account_has_a_bounded_number_of_objects(store, nora, monkeypatch):
    """Of each kind; other accounts and other kinds do not count."""
    monkeypatch.setattr(limits, "objects_max", 2)
    store.write(lambda w: w.create_account("emil", b"emil"))
    first = make(store, "track", source="/nora/a")
    make(store, "track", source="/nora/a")
    make(store, "track", "emil", source="/nora/a")
    make(store, "group", memberIds=[])

    with pytest.raises(BadRequest, match="nora has 2 objects of this kind already"):
        make(store, "track", source="/nora/a")
    store.write(lambda w: w.delete_object(first))
    make(store, "track", source="/nora/a")


def test_a_deleted_account_leaves_nothing_behind(store, nora, clock):
    """Flows, objects, secrets, statistics, deliveries and shares issued to it are gone."""
    emil = store.write(lambda w: w.create_account("emil", b"emil"))
    flow = store.write(lambda w: w.create_flow({"path": "/nora/a"}, creator="i1"))
    track = make(store, "track", source="/nora/a", destination="/nora/b")
    theirs = make(store, "track", "emil", source="/nora/a", destination="/emil/b")
    token = make(store, "token", paths={})
    store.write(lambda w: w.create_credential(b"token", "nora", token.id, None))
    to_nora = make(store, "share", "emil", issuedTo=nora.identity_id, paths={})

    def put(writer):
        drop = writer.create_drop(flow, {"elems": {}}, {}, creator="i1").drop
        writer.route(flow, drop, hops=0)
        for kind, each in (("flowDropAdded", flow), ("trackHit", track)):
            writer.count(kind, each.id)
        writer.count("dropCreatedBy", nora.identity_id)

    store.write(put)
    store.count_later("apiCallByIdentity", nora.identity_id)

    def leave(writer):
        writer.count("dropCreatedBy", nora.identity_id)
        writer.delete_account("nora")

    store.write(leave)

    def look(reader):
        assert reader.accounts() == [emil]
        assert reader.account_of(nora.identity_id) is None
        assert reader.flow_at("/nora/a") is None
        assert [reader.credential(each) for each in (b"nora", b"token")] == [None, None]
        assert reader.objects("track") == [theirs]
        assert reader.object("share", to_nora.id) is None
        assert reader.waiting_tracks() == []
        for kind, each in (
            ("flowDropAdded", flow.id),
            ("trackHit", track.id),
            ("dropCreatedBy", nora.identity_id),
            ("apiCallByIdentity", nora.identity_id),
        ):
            assert reader.statistics(kind, each, 0, 10**9) == {}

    store.read(look)
    with pytest.raises(NotFound, match="no account nora"):
        store.write(lambda w: w.delete_account("nora"))


def test_a_lease_has_one_holder_until_it_ends(store, clock):
    """Its holder prolongs it, others wait for its end or for its return."""
    take = lambda who: store.write(lambda w: w.take_lease("tasks", who, 1_000))  # noqa: E731 - a shorthand

    assert (take("one"), take("two"), take("one")) == (True, False, True)
    clock.ms += 999
    assert not take("two")
    clock.ms += 1
    assert (take("two"), take("one")) == (True, False)
    store.write(lambda w: w.release_lease("tasks", "one"))
    assert not take("one")
    store.write(lambda w: w.release_lease("tasks", "two"))
    assert take("one")


def test_listeners_hear_of_commits_before_the_writers_are_answered(store, nora, caplog):
    """What changed, once per commit; a listener that fails disturbs nobody."""
    heard: list[Commit] = []

    def fail(changed):
        raise RuntimeError("this one always fails")

    store.on_commit(fail)
    store.on_commit(heard.append)
    flow = store.write(lambda w: w.create_flow({"path": "/nora/a"}, creator="i1"))
    make(store, "track", source="/nora/a")

    def put(writer):
        drop = writer.create_drop(flow, {"elems": {}}, {}, creator="i1").drop
        writer.route(flow, drop, hops=0)

    store.write(put)
    store.write(lambda w: w.create_drop(flow, {"elems": {}}, {}, creator="i1"))

    def undone(writer):
        put(writer)
        writer.create_object("group", "nora", {"memberIds": []}, creator="i1")
        raise Undo

    with pytest.raises(Undo):
        store.write(undone)

    none: frozenset[str] = frozenset()
    numbers = [(each.first, each.head) for told in heard for each in told.flows.values()]
    assert [(told.sources, told.kinds) for told in heard] == [
        (none, frozenset({"flow"})),
        (none, frozenset({"track"})),
        (frozenset({"/nora/a"}), none),
        (none, none),
    ]
    assert numbers == [(1, 1), (2, 2)]
    assert "this one always fails" in caplog.text


def test_a_count_without_a_write_is_stored_within_a_second(store, nora):
    """Nobody has to write for it; and counts of many threads are all there."""
    told = threading.Event()
    store.write(lambda w: w._connection.set_commit_hook(lambda: bool(told.set())))
    threads = [
        threading.Thread(
            target=lambda: [
                store.count_later("apiCallByIdentity", nora.identity_id) for _ in range(500)
            ]
        )
        for _ in range(4)
    ]
    told.clear()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert told.wait(1.5), "no commit came"
    store.write(lambda w: w._connection.set_commit_hook(None))

    found = store.read(lambda r: r.statistics("apiCallByIdentity", nora.identity_id, 0, 10**9))
    assert sum(found.values()) == 2_000


def test_counts_that_wait_are_stored_at_the_close(tmp_path, clock):
    """Also those of a commit that failed."""
    store = open_store(tmp_path / "data", synchronous="OFF", clock_ms=clock)
    nora = store.write(lambda w: w.create_account("nora", b"nora"))

    def refuse(writer):
        writer._connection.set_commit_hook(lambda: True)
        writer.create_flow({"path": "/nora/a"}, creator="i1")

    store.count_later("apiCallByIdentity", nora.identity_id)
    with pytest.raises(ServerError):
        store.write(refuse)
    store.count_later("apiCallByIdentity", nora.identity_id)
    store._session._connection.set_commit_hook(None)
    store.close()
    store = open_store(tmp_path / "data", clock_ms=clock)

    found = store.read(lambda r: r.statistics("apiCallByIdentity", nora.identity_id, 0, 10**9))
    assert sum(found.values()) == 2
    store.close()


def test_large_deliveries_are_taken_a_few_at_a_time(store, nora, monkeypatch):
    """At least one, so that the line always moves."""
    monkeypatch.setattr(limits, "track_batch_bytes_max", 2_500)
    flow = store.write(lambda w: w.create_flow({"path": "/nora/a"}, creator="i1"))
    track = make(store, "track", source="/nora/a")

    def put(writer, size):
        drop = writer.create_drop(flow, {"elems": {"text": "x" * size}}, {}, creator="i1").drop
        writer.route(flow, drop, hops=0)

    for size in (1_000, 1_000, 1_000, 5_000, 10):
        store.write(lambda w, s=size: put(w, s))
    taken = []
    while found := store.read(lambda r: r.deliveries(track, 100)):
        taken.append(len(found))
        store.write(lambda w, place=found[-1].place: w.settle_track(track, place))

    assert taken == [2, 2, 1]


def test_a_line_that_is_too_long_loses_its_oldest(store, nora, monkeypatch):
    """The writer is not refused; the track says how many it missed, and why."""
    monkeypatch.setattr(limits, "track_backlog_max", 3)
    flow = store.write(lambda w: w.create_flow({"path": "/nora/a"}, creator="i1"))
    track = make(store, "track", source="/nora/a")

    def put(writer, n):
        drop = writer.create_drop(flow, {"elems": {"n": n}}, {}, creator="i1").drop
        writer.route(flow, drop, hops=0)

    for n in range(5):
        store.write(lambda w, n=n: put(w, n))
    found = store.read(lambda r: r.deliveries(track, 100))
    state = store.read(lambda r: r.track_state(track.id))

    assert [each.drop.doc["elems"]["n"] for each in found] == [2, 3, 4]
    assert state.skipped == 2
    assert "Drops of /nora/a were skipped: more than 3 waited" in state.last_failure


def test_a_lease_ends_with_the_process_that_held_the_folder(tmp_path):
    """Nobody waits for a holder that died with its folder: who opens it next may take the lease."""
    store = open_store(tmp_path / "data", synchronous="OFF")
    assert store.write(lambda writer: writer.take_lease("tasks", "one", 3_600_000))
    store.close()

    store = open_store(tmp_path / "data", synchronous="OFF")
    try:
        assert store.write(lambda writer: writer.take_lease("tasks", "two", 1_000))
        assert not store.write(lambda writer: writer.take_lease("tasks", "one", 1_000))
    finally:
        store.close()
