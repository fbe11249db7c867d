"""What every implementation must do: one class per interface, run by each implementation's tests.

A test class inherits the contract and adds the fixtures that it names.
"""

from __future__ import annotations

import re
from typing import Any

import pytest

from flowkit.errors import BadRequest, NotFound
from flowkit.server.store.base import Secret

NOW_MS = 1_512_837_350_000


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.ms = NOW_MS

    def __call__(self) -> int:
        """Milliseconds since 1970."""
        return self.ms


def seq_of(position: str) -> int:
    """The number in a position."""
    return int(position.rsplit(".", 1)[1])


class StoreContract:
    """A ``flowkit.server.store.base.Store``. Fixtures: ``store`` (new and empty), ``clock``."""

    @pytest.fixture
    def account(self, store):
        """The account nora."""
        return store.write(lambda w: w.create_account("nora", b"hash of nora"))

    @pytest.fixture
    def flow(self, store, account):
        """A flow for three drops."""
        return self.new_flow(store, capacity=3)

    @staticmethod
    def new_flow(store, path: str = "/nora/greenhouse", **members: Any):
        """A new flow."""
        return store.write(lambda w: w.create_flow({"path": path, **members}, creator="i1"))

    @staticmethod
    def put(store, flow, temp: object = 21, types=None, **members: Any):
        """Write one drop."""
        members = {"elems": {"temp": temp}, **members}
        return store.write(lambda w: w.create_drop(flow, members, types or {}, creator="i1"))

    @staticmethod
    def live(store, flow, *written):
        """The live drops among those written, by id."""
        return store.read(lambda r: r.drops(flow, [each.drop.doc["id"] for each in written]))

    @staticmethod
    def again(store, flow):
        """The flow as it is now."""
        return store.read(lambda r: r.flow(flow.id))

    # Accounts

    def test_an_account_is_found_by_its_name_and_by_its_secret(self, store, account):
        """Name and hash of the token lead to the same account and identity."""
        assert store.read(lambda r: r.account("nora")) == account
        assert store.read(lambda r: r.credential(b"hash of nora")) == Secret(account)
        assert re.fullmatch("i[0-9a-f]{24}", account.identity_id)

    def test_unknown_names_and_secrets_lead_nowhere(self, store, account):
        """What was never made is None."""
        assert store.read(lambda r: r.account("emil")) is None
        assert store.read(lambda r: r.credential(b"another hash")) is None
        assert store.read(lambda r: r.identity("i0")) is None

    def test_a_name_is_taken_once(self, store, account):
        """A second account of the same name is refused and changes nothing."""
        with pytest.raises(BadRequest, match="an account nora exists"):
            store.write(lambda w: w.create_account("nora", b"thief"))

        assert store.read(lambda r: r.credential(b"thief")) is None

    def test_a_new_secret_ends_the_old_one(self, store, account):
        """After a rotation only the new token works."""
        store.write(lambda w: w.set_secret("nora", b"new"))

        assert store.read(lambda r: r.credential(b"hash of nora")) is None
        assert store.read(lambda r: r.credential(b"new")) == Secret(account)

    def test_a_secret_needs_an_account(self, store):
        """A rotation for nobody is an error."""
        with pytest.raises(NotFound, match="no account emil"):
            store.write(lambda w: w.set_secret("emil", b"x"))

    def test_an_identity_is_edited_by_member(self, store, account, clock):
        """Members change, None unsets, and the edit is dated."""
        edit = {"firstName": "Nora", "icon": "a.png"}
        me = account.identity_id
        store.write(lambda w: w.update_identity(me, edit, editor=me))
        clock.ms += 5
        found = store.write(lambda w: w.update_identity(me, {"icon": None}, editor=me))

        assert found == store.read(lambda r: r.identity(me))
        assert found == {
            "id": me,
            "name": "nora",
            "firstName": "Nora",
            "creationDate": NOW_MS,
            "creatorId": "i000000000000000000000001",
            "lastEditDate": NOW_MS + 5,
            "lastEditorId": me,
        }

    # Flows

    def test_a_flow_reads_back_as_it_was_made(self, store, account):
        """By id, by path and among others; unset members are left out, defaults are filled in."""
        made = self.new_flow(store, description="glass", filter="", public=True)

        assert made.doc == {
            "id": made.id,
            "path": "/nora/greenhouse",
            "capacity": 1000,
            "description": "glass",
            "filter": "",
            "public": True,
            "creationDate": NOW_MS,
            "creatorId": "i1",
        }
        assert (made.account, made.head, made.mark_e, made.mark_v) == ("nora", 0, 0, 0)
        assert self.again(store, made) == made
        assert store.read(lambda r: r.flow_at("/nora/greenhouse")) == made
        assert store.read(lambda r: r.flows([made.id, "f0"])) == {made.id: made}
        assert store.read(lambda r: r.flow_at("/nora/other")) is None

    def test_a_path_is_taken_once(self, store, flow):
        """A second flow on the same path is refused in the platform's words."""
        with pytest.raises(BadRequest, match="A Flow already exists with path /nora/greenhouse"):
            self.new_flow(store)

    def test_an_updated_flow_keeps_what_was_not_named(self, store, flow, clock):
        """Named members change, None unsets, the rest stays."""
        store.write(lambda w: w.update_flow(flow, {"description": "old"}, editor="i2"))
        clock.ms += 7
        changes = {"description": None, "capacity": 5}
        updated = store.write(lambda w: w.update_flow(flow, changes, editor="i2"))

        assert updated == self.again(store, flow)
        assert updated.doc == {
            **flow.doc,
            "capacity": 5,
            "lastEditDate": NOW_MS + 7,
            "lastEditorId": "i2",
        }

    def test_a_deleted_flow_takes_its_drops_along(self, store, flow):
        """Its path is free at once, and a flow made there later is another and empty."""
        first = self.put(store, flow)
        store.write(lambda w: w.delete_flow(flow))
        later = self.new_flow(store)

        assert self.again(store, flow) is None
        assert later.id != flow.id
        assert later.head == 0
        assert self.live(store, later, first) == {}
        with pytest.raises(NotFound, match=flow.id):
            self.put(store, flow)

    # Drops

    def test_a_drop_reads_back_as_it_was_written(self, store, flow):
        """Every member and the types beside it; values of every kind are unchanged."""
        members = {
            "elems": {
                "text": "é\n\x00'\"\\",
                "odd name": [1, 1.0, -0.5, True, None, {}, [], {"a": {"b": [2**63 - 1]}}],
                "least": -(2**63),
                "tiny": 5e-324,
            },
            "location": {"lat": 52.5, "lon": 13, "specifiers": {"city": "Berlin"}},
            "fhash": "one",
            "parentDropId": {"flowId": "f1", "dropId": "d1"},
        }
        types = {"elems.text": "email"}
        written = store.write(lambda w: w.create_drop(flow, members, types, creator="i1"))
        found = self.live(store, flow, written)[written.drop.doc["id"]]

        assert written.kind == "create"
        assert written.old is None
        assert found == written.drop
        assert found.types == types
        assert repr(found.doc["elems"]) == repr(members["elems"])
        assert found.doc == {
            "id": found.doc["id"],
            "flowId": flow.id,
            "path": "/nora/greenhouse",
            **members,
            "version": 0,
            "creationDate": NOW_MS,
            "creatorId": "i1",
        }

    def test_changes_are_numbered_without_holes(self, store, flow):
        """Create, update, delete and eviction take one number each."""
        first, second, third = (self.put(store, flow, n) for n in range(3))
        update = {"elems": {"temp": 9}}
        changed = store.write(
            lambda w: w.update_drop(flow, second.drop.doc["id"], update, None, editor="i2")
        )
        gone = store.write(lambda w: w.delete_drop(flow, third.drop.doc["id"]))
        self.put(store, flow, 4)
        evicting = self.put(store, flow, 5)

        written = (first, second, third, changed, gone, evicting)
        assert [seq_of(each.position) for each in written] == [1, 2, 3, 4, 5, 8]
        assert self.again(store, flow).position == evicting.position

    def test_a_full_flow_evicts_its_oldest_drop(self, store, flow):
        """Oldest is the smallest birth: an update does not save a drop."""
        drops = [self.put(store, flow, n) for n in range(3)]
        oldest = drops[0].drop.doc["id"]
        store.write(lambda w: w.update_drop(flow, oldest, {"elems": {}}, None, editor="i1"))
        drops.append(self.put(store, flow, 3))

        live = self.live(store, flow, *drops)
        assert list(live) == [each.drop.doc["id"] for each in drops[1:]]

    def test_a_held_fhash_replaces_in_place(self, store, flow, clock):
        """Same id and creation date, version counted up, elements and location replaced whole."""
        old = self.put(store, flow, 1, {"elems.temp": "long"}, fhash="a", location={"lat": 1})
        clock.ms += 3
        new = store.write(
            lambda w: w.create_drop(flow, {"elems": {"x": 2}, "fhash": "a"}, {}, creator="i2")
        )

        assert new.kind == "replace"
        assert new.old == old.drop
        assert new.drop.types == {}
        assert new.drop.doc == {
            "id": old.drop.doc["id"],
            "flowId": flow.id,
            "path": flow.path,
            "elems": {"x": 2},
            "fhash": "a",
            "version": 1,
            "creationDate": NOW_MS,
            "creatorId": "i1",
            "lastEditDate": NOW_MS + 3,
            "lastEditorId": "i2",
        }
        assert self.live(store, flow, old) == {new.drop.doc["id"]: new.drop}
        assert seq_of(new.position) == 2

    def test_an_fhash_is_free_again_after_its_drop(self, store, flow):
        """A deleted drop's fhash makes a new drop; the same fhash in another flow always does."""
        first = self.put(store, flow, fhash="a")
        other = self.put(store, self.new_flow(store, "/nora/b"), fhash="a")
        store.write(lambda w: w.delete_drop(flow, first.drop.doc["id"]))
        second = self.put(store, flow, fhash="a")

        assert [first.kind, other.kind, second.kind] == ["create"] * 3
        assert len({each.drop.doc["id"] for each in (first, other, second)}) == 3

    def test_an_update_changes_what_it_names(self, store, flow, clock):
        """Other members and the types stay, None unsets, the version counts up."""
        old = self.put(store, flow, 1, {"elems.temp": "long"}, fhash="a", location={"lat": 1})
        clock.ms += 3
        changes = {"location": None, "fhash": "b"}
        new = store.write(
            lambda w: w.update_drop(flow, old.drop.doc["id"], changes, None, editor="i2")
        )

        assert (new.kind, new.old) == ("update", old.drop)
        assert new.drop.types == {"elems.temp": "long"}
        assert new.drop.doc == {
            **{name: value for name, value in old.drop.doc.items() if name != "location"},
            "fhash": "b",
            "version": 1,
            "lastEditDate": NOW_MS + 3,
            "lastEditorId": "i2",
        }
        assert self.live(store, flow, old) == {new.drop.doc["id"]: new.drop}

    def test_an_update_may_replace_the_types(self, store, flow):
        """An empty map unsets them."""
        old = self.put(store, flow, 1, {"elems.temp": "long"})
        new = store.write(
            lambda w: w.update_drop(flow, old.drop.doc["id"], {"elems": {}}, {}, editor="i2")
        )

        assert new.drop.types == {}

    def test_an_update_cannot_take_the_fhash_of_another_drop(self, store, flow):
        """It is refused by name; its own fhash may be named again."""
        self.put(store, flow, fhash="a")
        mine = self.put(store, flow, fhash="b").drop.doc["id"]

        with pytest.raises(BadRequest, match="fhash: 'a' belongs to another Drop"):
            store.write(lambda w: w.update_drop(flow, mine, {"fhash": "a"}, None, editor="i1"))
        same = store.write(lambda w: w.update_drop(flow, mine, {"fhash": "b"}, None, editor="i1"))
        assert same.drop.doc["version"] == 1

    def test_an_update_that_changes_nothing_is_a_change(self, store, flow):
        """It takes a number and counts the version up."""
        old = self.put(store, flow).drop.doc["id"]
        new = store.write(lambda w: w.update_drop(flow, old, {}, None, editor="i1"))

        assert (seq_of(new.position), new.drop.doc["version"]) == (2, 1)

    def test_writes_to_absent_drops_do_nothing(self, store, flow):
        """Update and delete answer None, and no number is taken, also for a deleted drop."""
        gone = self.put(store, flow).drop.doc["id"]
        store.write(lambda w: w.delete_drop(flow, gone))

        assert store.write(lambda w: w.update_drop(flow, gone, {}, None, editor="i1")) is None
        assert store.write(lambda w: w.delete_drop(flow, "d0")) is None
        assert self.again(store, flow).head == 2

    def test_a_flow_of_capacity_zero_passes_drops_on(self, store, account):
        """Nothing is stored, each write is a change, and nothing of it is held."""
        flow = self.new_flow(store, capacity=0)
        passed = [self.put(store, flow, fhash="a") for _ in range(2)]

        assert [each.kind for each in passed] == ["pass", "pass"]
        assert self.live(store, flow, *passed) == {}
        after = self.again(store, flow)
        assert (after.head, after.mark_e, after.mark_v) == (2, 2, 2)

    def test_a_flow_of_capacity_zero_with_history_keeps_what_passed(self, store, account):
        """The marks stay behind as far as the history reaches."""
        flow = self.new_flow(store, capacity=0, history=2)
        for _ in range(5):
            self.put(store, flow)

        after = self.again(store, flow)
        assert (after.head, after.mark_e, after.mark_v) == (5, 3, 3)

    def test_lowering_the_capacity_evicts_the_oldest_at_once(self, store, account):
        """Each eviction takes its own number; what is over the history is forgotten."""
        flow = self.new_flow(store, capacity=10, history=1)
        drops = [self.put(store, flow, n) for n in range(5)]
        lowered = store.write(lambda w: w.update_flow(flow, {"capacity": 2}, editor="i1"))

        assert (lowered.head, lowered.mark_e, lowered.mark_v) == (8, 2, 7)
        assert list(self.live(store, flow, *drops)) == [d.drop.doc["id"] for d in drops[3:]]

    def test_lowering_the_history_forgets_at_once(self, store, flow):
        """E is the begin and V the end of the last row that was forgotten."""
        drops = [self.put(store, flow).drop.doc["id"] for _ in range(3)]
        for each in drops:
            store.write(lambda w, each=each: w.delete_drop(flow, each))
        less = store.write(lambda w: w.update_flow(flow, {"history": 1}, editor="i1"))

        assert (less.head, less.mark_e, less.mark_v) == (6, 2, 5)

    def test_clear_deletes_each_drop_on_its_own(self, store, flow):
        """Every drop takes a number; the answer says how many there were."""
        drops = [self.put(store, flow) for _ in range(3)]

        assert store.write(lambda w: w.clear(flow)) == 3
        assert store.write(lambda w: w.clear(flow)) == 0
        after = self.again(store, flow)
        assert (after.head, after.mark_e, after.mark_v) == (6, 0, 0)
        assert self.live(store, flow, *drops) == {}

    def test_clear_with_forget_leaves_nothing_to_replay(self, store, flow):
        """The marks are at the last begin and at the head."""
        for _ in range(3):
            self.put(store, flow)
        store.write(lambda w: w.clear(flow, forget=True))

        after = self.again(store, flow)
        assert (after.head, after.mark_e, after.mark_v) == (6, 3, 6)

    def test_delete_with_forget_raises_the_marks(self, store, flow):
        """All states of the drop are gone at once, whatever is kept of others."""
        self.put(store, flow)
        second = self.put(store, flow).drop.doc["id"]
        store.write(lambda w: w.update_drop(flow, second, {}, None, editor="i1"))
        gone = store.write(lambda w: w.delete_drop(flow, second, forget=True))

        after = self.again(store, flow)
        assert gone.kind == "delete"
        assert (after.head, after.mark_e, after.mark_v) == (4, 3, 4)

    # Transactions

    def test_a_job_that_raises_leaves_no_trace(self, store, flow):
        """No drop, no number, no flow: the next job goes on as if it had never run."""
        written: list[Any] = []

        def job(writer):
            written.append(writer.create_drop(flow, {"elems": {}}, {}, creator="i1"))
            writer.create_flow({"path": "/nora/new"}, creator="i1")
            writer.delete_flow(flow)
            raise BadRequest("changed my mind")

        with pytest.raises(BadRequest, match="changed my mind"):
            store.write(job)

        assert self.live(store, flow, *written) == {}
        assert store.read(lambda r: r.flow_at("/nora/new")) is None
        assert seq_of(self.put(store, flow).position) == 1

    def test_a_job_sees_what_it_has_written(self, store, account):
        """Flow, drop and head are there before the commit."""

        def job(writer):
            flow = writer.create_flow({"path": "/nora/new"}, creator="i1")
            drop = writer.create_drop(flow, {"elems": {}}, {}, creator="i1").drop
            found = writer.drops(flow, [drop.doc["id"]])
            at_path = writer.flow_at("/nora/new")
            return flow, drop, found, at_path

        flow, drop, found, at_path = store.write(job)
        assert found == {drop.doc["id"]: drop}
        assert (at_path.id, at_path.head) == (flow.id, 1)

    def test_an_answer_is_kept_for_its_window(self, store, account, clock):
        """The same account and request get it back until the window is over."""
        store.write(lambda w: w.keep_answer("nora", "r1", 201, b"{}"))

        def seen(name, request_id):
            return store.read(lambda r: r.answer(name, request_id))

        assert seen("nora", "r1") == (201, b"{}")
        assert seen("emil", "r1") is None
        assert seen("nora", "r2") is None
        clock.ms += 600_000
        assert seen("nora", "r1") is None

    def test_an_answer_goes_with_the_job_that_failed(self, store, account):
        """It is kept in the commit of what it answers, or not at all."""

        def job(writer):
            writer.keep_answer("nora", "r1", 201, b"{}")
            raise NotFound("no")

        with pytest.raises(NotFound):
            store.write(job)
        assert store.read(lambda r: r.answer("nora", "r1")) is None

    def test_ids_rise_in_the_order_of_writing(self, store, flow, clock):
        """Also when the clock steps back."""
        ids = [self.put(store, flow).drop.doc["id"]]
        clock.ms -= 3_600_000
        ids += [self.put(store, flow).drop.doc["id"] for _ in range(3)]

        assert ids == sorted(set(ids))
