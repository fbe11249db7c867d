"""Tracks at work: each drop once through each, in order, and failures that stay where they are."""

import logging

import pytest

from flowkit import limits
from flowkit.green import Cell
from flowkit.server.router import Router
from flowkit.server.runs import Ran
from tests.server.visitor import visiting, wait_for_tracks

WAIT_S = 10.0
DOUBLE = "function (drop) { drop.elems.n = drop.elems.n * 2; return drop; }"


@pytest.fixture
def flows(nora):
    """Three flows: /nora/a, /nora/b, /nora/c."""
    return {name: nora.flow(f"/nora/{name}") for name in "abc"}


def count_of(nora, kind, object_id):
    """What the statistics say, over all time."""
    year = nora.ask("GET", f"/statistics/{kind}/{object_id}?level=YEAR")
    assert year.status == 200, year.errors
    return sum(year.body)


def track_of(nora, track):
    """A track as it is shown now, after all drops that waited."""
    wait_for_tracks(nora.app)
    return nora.ask("GET", f"/track/{track['id']}").body


# What is written


def test_a_drop_goes_on_to_every_destination(nora, flows):
    """With its elements, key and place, under a new id, and with its parent."""
    nora.track("/nora/a", ["/nora/b", "/nora/c"])
    body = {"elems": {"n": 1}, "fhash": "k", "location": {"lat": 1, "lon": 2}}
    made = nora.ask("POST", f"/drop/{flows['a']['id']}", body).body

    for name in "bc":
        (copy,) = nora.drops(flows[name])
        assert copy["elems"] == {"n": 1}
        assert copy["fhash"] == "k"
        assert copy["location"] == {"lat": 1, "lon": 2}
        assert copy["parentDropId"] == {"flowId": flows["a"]["id"], "dropId": made["id"]}
        assert copy["id"] != made["id"]
        assert copy["path"] == f"/nora/{name}"
        assert copy["creatorId"] == made["creatorId"]


def test_a_filter_decides(nora, flows):
    """Only what it lets through goes on."""
    nora.track("/nora/a", "/nora/b", filter="n > 2")
    for n in (1, 3, 2, 4):
        nora.drop(flows["a"], n=n)

    assert nora.elems(flows["b"]) == [3, 4]


def test_types_of_elements_go_on(nora, flows):
    """What was written with a type is read with it behind a track."""
    typed = nora.as_version("v0.1")
    nora.track("/nora/a", "/nora/b")
    body = {"elems": {"n": {"type": "date", "value": 1_500_000_000_000}}}
    typed.ask("POST", f"/drop/{flows['a']['id']}", body)

    (copy,) = typed.drops(flows["b"])
    assert copy["elems"]["n"] == {"type": "date", "value": 1_500_000_000_000}


@pytest.mark.parametrize(
    ("js", "b", "c"),
    [
        (DOUBLE, [2, 4], [2, 4]),
        ("function named(d) { return {elems: {n: d.elems.n + 10}}; };", [11, 12], [11, 12]),
        ("function (d) { return null; }", [], []),
        ("function (d) { }", [], []),
        ("function (d) { if (d.elems.n > 1) return d; }", [2], [2]),
        ("function (d) { return [d, {elems: {n: 7}}]; }", [1, 7, 2, 7], [1, 7, 2, 7]),
        ("function (d) { return {'/nora/c': d}; }", [], [1, 2]),
        (
            "function (d) { return {'/nora/b': [d, d], '/nora/c': [{elems: {n: 0}}]}; }",
            [1, 1, 2, 2],
            [0, 0],
        ),
        ("function (d) { return {elems: {n: _.max([d.elems.n, 2])}}; }", [2, 2], [2, 2]),
    ],
)
def test_a_script_decides_what_is_written(nora, flows, js, b, c):
    """A Drop, several, a map of paths, or nothing (6.2); in the order of the source."""
    track = nora.track("/nora/a", ["/nora/b", "/nora/c"], js=js)
    nora.drop(flows["a"], n=1)
    nora.drop(flows["a"], n=2)

    assert nora.elems(flows["b"]) == b
    assert nora.elems(flows["c"]) == c
    assert "failureCt" not in track_of(nora, track)


def test_a_script_may_say_the_paths_alone(nora, flows):
    """Without a destination every path is open that its creator may write."""
    nora.track("/nora/a", js="function (d) { return {'/nora/c': [d]}; }")
    nora.drop(flows["a"], n=1)

    assert nora.elems(flows["c"]) == [1]


def test_a_script_saved_under_v0_sees_types(nora, flows):
    """It reads ``value``; what it assigns plainly is plain (6.2)."""
    js = "function (d) { d.elems.m = d.elems.n.value + 1; return d; }"
    nora.as_version("v0.1").track("/nora/a", "/nora/b", js=js)
    nora.drop(flows["a"], n=1)

    assert nora.elems(flows["b"], "m") == [2]
    assert nora.elems(flows["b"], "n") == [1]


def test_a_script_asks_with_the_rights_of_its_creator(nora, flows):
    """``Flow.Drop.find`` answers what the account may read, and throws for the rest."""
    js = "function (d) { return {elems: {n: Flow.Drop.find('/nora/c', {}).length}}; }"
    nora.track("/nora/a", "/nora/b", js=js)
    nora.drop(flows["c"], n=0)
    nora.drop(flows["a"], n=1)

    assert nora.elems(flows["b"]) == [1]


def test_order_is_that_of_the_source(nora, flows):
    """Through a script and a second track, over several batches."""
    nora.track("/nora/a", "/nora/b")
    nora.track("/nora/b", "/nora/c", js=DOUBLE)
    count = limits.track_batch_deliveries_max + 50
    body = [{"path": "/nora/a", "elems": {"n": n}} for n in range(count)]
    assert nora.ask("POST", "/drop", body).status < 300

    assert nora.elems(flows["b"]) == list(range(count))
    assert nora.elems(flows["c"]) == [2 * n for n in range(count)]


def test_a_flow_that_holds_nothing_still_has_tracks(nora, flows):
    """With capacity 0 drops pass through (1.5)."""
    through = nora.flow("/nora/through", capacity=0)
    nora.track("/nora/through", "/nora/b")
    nora.ask("POST", f"/drop/{through['id']}", {"elems": {"n": 1}})

    assert nora.elems(flows["b"]) == [1]
    assert nora.drops(through) == []


def test_changes_and_deletions_run_no_tracks(nora, flows):
    """A replacement by ``fhash`` does (1.4)."""
    nora.track("/nora/a", "/nora/b")
    target = f"/drop/{flows['a']['id']}"
    made = nora.ask("POST", target, {"elems": {"n": 1}}).body
    nora.ask("PUT", f"{target}/{made['id']}", {"elems": {"n": 2}})
    nora.ask("DELETE", f"{target}/{made['id']}")
    nora.ask("POST", target, {"elems": {"n": 3}, "fhash": "k"})
    nora.ask("POST", target, {"elems": {"n": 4}})
    nora.ask("POST", target, {"elems": {"n": 5}, "fhash": "k"})

    assert nora.elems(flows["b"]) == [1, 5, 4]  # what replaces keeps its place, there too


# Loops


def test_a_loop_ends_at_the_bound(nora, flows, caplog):
    """Its sixteenth round is stored, runs nothing, and is logged (6.5)."""
    nora.track("/nora/a", "/nora/a")
    with caplog.at_level(logging.WARNING, "flowkit.server.ingest"):
        nora.drop(flows["a"], n=1)
        assert nora.elems(flows["a"]) == [1] * (limits.track_hops_max + 1)

    assert f"has come through {limits.track_hops_max} Tracks" in caplog.text


def test_a_loop_over_two_flows_ends_too(nora, flows):
    """Hops are counted over all Tracks on the way."""
    nora.track("/nora/a", "/nora/b")
    nora.track("/nora/b", "/nora/a")
    nora.drop(flows["a"], n=1)

    assert len(nora.drops(flows["a"])) == 1 + limits.track_hops_max // 2
    assert len(nora.drops(flows["b"])) == limits.track_hops_max // 2


# Failures


def test_what_the_filter_of_a_destination_refuses_is_no_failure(nora, flows):
    """It is dropped in silence, a hit and no pass; other destinations get theirs (1.5)."""
    strict = nora.flow("/nora/strict", filter="n > 1")
    track = nora.track("/nora/a", ["/nora/strict", "/nora/b"])
    alone = nora.track("/nora/a", "/nora/strict")
    nora.drop(flows["a"], n=1)

    assert nora.elems(flows["b"]) == [1]
    assert nora.drops(strict) == []
    assert "failureCt" not in track_of(nora, track)
    assert [count_of(nora, "trackHit", one["id"]) for one in (track, alone)] == [1, 1]
    assert [count_of(nora, "trackPass", one["id"]) for one in (track, alone)] == [1, 0]


FAILING = [
    ("function (d) { throw new Error('no luck'); }", "no luck"),
    ("function (d) { return 5; }", "a number, not a Drop"),
    ("function (d) { return {elems: 5}; }", "no object elems"),
    ("function (d) { return {elems: {n: 1}, location: 5}; }", "location"),
    ("function (d) { return {'/nora/none': d}; }", "which is not a destination"),
    ("function (d) { return {'/nora/b': d, '/nora/none': d}; }", "which is not a destination"),
    ("function (d) { return [d, 5]; }", "a number, not an object"),
    ("function (", "SyntaxError"),
    ("5", "no function"),
]


@pytest.mark.parametrize(("js", "sentence"), FAILING)
def test_a_failure_concerns_one_track_and_one_drop(nora, flows, caplog, js, sentence):
    """Nothing of it is written; it is logged and counted; writer and other tracks go on."""
    bad = nora.track("/nora/a", "/nora/b", js=js)
    nora.track("/nora/a", "/nora/c")
    with caplog.at_level(logging.WARNING, "flowkit.server.router"):
        nora.drop(flows["a"], n=1)
        nora.drop(flows["a"], n=2)
        shown = track_of(nora, bad)

    assert nora.drops(flows["b"]) == []
    assert nora.elems(flows["c"]) == [1, 2]
    assert shown["failureCt"] == 2
    assert sentence in shown["lastFailure"]
    assert shown["lastFailureDate"] == nora.clock.now_ms
    assert f"track {bad['id']} failed with drop" in caplog.text
    assert count_of(nora, "trackHit", bad["id"]) == 2
    assert count_of(nora, "trackPass", bad["id"]) == 0


def test_all_outputs_of_a_drop_or_none(nora, flows):
    """One missing destination, and the others get nothing either."""
    js = "function (d) { return {'/nora/b': d, '/nora/gone': d}; }"
    track = nora.track("/nora/a", js=js)
    nora.drop(flows["a"], n=1)
    shown = track_of(nora, track)

    assert nora.drops(flows["b"]) == []
    assert "no Flow at /nora/gone" in shown["lastFailure"]

    gone = nora.flow("/nora/gone")
    nora.drop(flows["a"], n=2)
    assert nora.elems(flows["b"]) == [2]
    assert nora.elems(gone) == [2]


def test_a_deleted_destination_fails_until_it_is_back(nora, flows):
    """The Track stays, and says what is missing."""
    track = nora.track("/nora/a", "/nora/b")
    nora.ask("DELETE", f"/flow/{flows['b']['id']}")
    nora.drop(flows["a"], n=1)
    assert "no Flow at /nora/b" in track_of(nora, track)["lastFailure"]

    again = nora.flow("/nora/b")
    nora.drop(flows["a"], n=2)
    assert nora.elems(again) == [2]


def test_a_good_drop_behind_a_bad_one_goes_on(nora, flows):
    """A failure holds up nothing."""
    js = "function (d) { if (d.elems.n % 2) throw 'odd'; return d; }"
    track = nora.track("/nora/a", "/nora/b", js=js)
    body = [{"path": "/nora/a", "elems": {"n": n}} for n in range(10)]
    nora.ask("POST", "/drop", body)

    assert nora.elems(flows["b"]) == [0, 2, 4, 6, 8]
    assert track_of(nora, track)["failureCt"] == 5


def shared(nora, bob, path, **rights):
    """Nora's share of *path* to bob."""
    body = {"issuedTo": bob.ask("GET", "/identity").body[0]["id"], "paths": {path: rights}}
    made = nora.ask("POST", "/share", body)
    assert made.status == 201, made.errors
    return made.body


def test_rights_are_those_of_the_moment(nora, bob, flows):
    """A share lets bob's Track run; once it is revoked the Track fails and says why (8.2)."""
    share = shared(nora, bob, "/nora/a", read=True, dropRead=True)
    mine = bob.flow("/bob/mine")
    track = bob.track("/nora/a", "/bob/mine")
    nora.drop(flows["a"], n=1)
    assert bob.elems(mine) == [1]

    nora.ask("DELETE", f"/share/{share['id']}")
    nora.drop(flows["a"], n=2)

    assert bob.elems(mine) == [1]
    assert "dropRead at /nora/a" in track_of(bob, track)["lastFailure"]


def test_a_lost_right_to_write_fails_the_run(nora, bob, flows):
    """The destination's share is gone: nothing is written, and the Track says so."""
    share = shared(bob, nora, "/bob", read=True, dropWrite=True)
    theirs = bob.flow("/bob/theirs")
    track = nora.track("/nora/a", "/bob/theirs")
    nora.drop(flows["a"], n=1)
    assert bob.elems(theirs) == [1]

    bob.ask("DELETE", f"/share/{share['id']}")
    nora.drop(flows["a"], n=2)

    assert bob.elems(theirs) == [1]
    assert "dropWrite" in track_of(nora, track)["lastFailure"]


def test_a_public_flow_may_be_a_source(nora, bob):
    """Whoever may read it may have a Track on it."""
    public = nora.flow("/nora/public", public=True)
    mine = bob.flow("/bob/mine")
    bob.track("/nora/public", "/bob/mine")
    nora.drop(public, n=1)

    assert bob.elems(mine) == [1]


def test_without_the_engine_each_run_is_a_failure(nora, flows, monkeypatch):
    """The script is stored and each skipped run reported (6.3)."""
    monkeypatch.setitem(nora.app.scripts.pool.__dict__, "is_available", False)
    track = nora.track("/nora/a", "/nora/b", js=DOUBLE)
    nora.drop(flows["a"], n=1)
    shown = track_of(nora, track)

    assert shown["js"] == DOUBLE
    assert shown["failureCt"] == 1
    assert "not enabled" in shown["lastFailure"]


# While it runs: a router of the test's own, whose scripts are told when to answer


class Scripts:
    """Scripts that wait for a word: ``begun`` is set when one is at work, ``go_on`` lets it end."""

    def __init__(self, value):
        self.value = value
        self.begun = Cell()
        self.go_on = Cell()
        self.runs = 0

    def __call__(self, _track, _drop):
        """Run one."""
        self.runs += 1
        if not self.begun.is_ready:
            self.begun.set(None)
        self.go_on.get(WAIT_S)
        return self.value


@pytest.fixture
def held(nora):
    """The platform with a router whose scripts wait."""
    nora.app.router.close()
    scripts = Scripts(Ran({"elems": {"n": 9}}))
    nora.app.router = Router(nora.app.store, clock_ms=nora.clock, run_script=scripts)
    nora.app.router.start()
    yield scripts
    if not scripts.go_on.is_ready:
        scripts.go_on.set(None)


def test_a_hung_script_delays_no_writer_and_no_track_without_one(nora, flows, held):
    """While it hangs, writes are answered and the other Track has written them."""
    nora.track("/nora/a", "/nora/b", js="function (d) { return d; }")
    plain = nora.track("/nora/a", "/nora/c")
    nora.drop(flows["a"], n=1)
    held.begun.get(WAIT_S)
    for n in range(2, 6):
        nora.drop(flows["a"], n=n)

    def is_left():
        return nora.app.store.read(lambda reader: plain["id"] in reader.waiting_tracks())

    waited = Cell()
    for _ in range(2_000):
        if not is_left():
            break
        waited.wait(0.005)
    found = nora.ask("GET", f"/drop/{flows['c']['id']}?limit=100").body

    assert sorted(drop["elems"]["n"] for drop in found) == [1, 2, 3, 4, 5]
    assert nora.ask("GET", f"/drop/{flows['b']['id']}").body == []
    held.go_on.set(None)
    assert nora.elems(flows["b"]) == [9] * 5


@pytest.mark.parametrize(
    ("change", "b", "c"),
    [
        ({"destination": "/nora/c"}, [], [9]),
        ({"js": None}, [1], []),
        ({"filter": "n > 5"}, [], []),
        ({"disabled": True}, [], []),
        ({"description": "x"}, [9], []),
    ],
)
def test_a_track_that_changed_while_it_ran_runs_again(nora, flows, held, change, b, c):
    """What is written is what the Track says at that moment; nothing twice."""
    track = nora.track("/nora/a", "/nora/b", js="function (d) { return d; }")
    nora.drop(flows["a"], n=1)
    held.begun.get(WAIT_S)
    nora.clock.now_ms += 1
    assert nora.ask("PUT", f"/track/{track['id']}", change).status == 200
    held.go_on.set(None)

    assert nora.elems(flows["b"]) == b
    assert nora.elems(flows["c"]) == c


def test_a_track_that_was_deleted_while_it_ran_writes_nothing(nora, flows, held):
    """And what waited for it is gone."""
    track = nora.track("/nora/a", "/nora/b", js="function (d) { return d; }")
    nora.drop(flows["a"], n=1)
    held.begun.get(WAIT_S)
    nora.ask("DELETE", f"/track/{track['id']}")
    held.go_on.set(None)
    nora.app.router.close()

    assert nora.drops(flows["b"]) == []


def test_a_right_that_goes_while_it_runs_is_gone(nora, bob, flows):
    """Rights are looked at again in the job that writes."""
    nora.app.router.close()
    scripts = Scripts(Ran({"elems": {"n": 9}}))
    nora.app.router = Router(nora.app.store, clock_ms=nora.clock, run_script=scripts)
    nora.app.router.start()
    share = shared(nora, bob, "/nora/a", read=True, dropRead=True)
    mine = bob.flow("/bob/mine")
    track = bob.track("/nora/a", "/bob/mine", js="function (d) { return d; }")
    nora.drop(flows["a"], n=1)
    scripts.begun.get(WAIT_S)
    nora.ask("DELETE", f"/share/{share['id']}")
    scripts.go_on.set(None)

    assert bob.drops(mine) == []
    assert "dropRead at /nora/a" in track_of(bob, track)["lastFailure"]


def test_two_routers_write_a_drop_once(nora, flows):
    """The job that writes sees that another has dealt with its drops."""
    second = Router(nora.app.store, clock_ms=nora.clock, run_script=nora.app.scripts.run)
    second.start()
    try:
        nora.track("/nora/a", "/nora/b")
        nora.track("/nora/b", "/nora/c", js=DOUBLE)
        for start in range(0, 300, 10):
            body = [{"path": "/nora/a", "elems": {"n": start + n}} for n in range(10)]
            nora.ask("POST", "/drop", body)

        assert nora.elems(flows["b"]) == list(range(300))
        assert nora.elems(flows["c"]) == [2 * n for n in range(300)]
    finally:
        second.close()


def test_what_a_stop_interrupts_runs_again(nora, flows, held):
    """A run that fails while the server ends is no failure: the next start does it."""
    held.value = Ran(error="the server is stopping")
    track = nora.track("/nora/a", "/nora/b", js="function (d) { return d; }")
    nora.drop(flows["a"], n=1)
    held.begun.get(WAIT_S)
    nora.app.router._is_closing = True  # as close() does first, which then waits for the run
    held.go_on.set(None)
    nora.app.router.close()
    assert nora.app.store.read(lambda reader: reader.waiting_tracks()) == [track["id"]]

    held.value = Ran({"elems": {"n": 7}})
    nora.app.router = Router(nora.app.store, clock_ms=nora.clock, run_script=held)
    nora.app.router.start()

    assert nora.elems(flows["b"]) == [7]
    assert "failureCt" not in track_of(nora, track)


def test_a_fault_of_ours_is_that_drops_failure(nora, flows, held):
    """Even an exception that nobody foresaw holds up no drop behind it."""
    held.go_on.set(None)
    held.value = Ran({"elems": {"n": object()}})  # no script can return this
    track = nora.track("/nora/a", "/nora/b", js="function (d) { return d; }")
    nora.drop(flows["a"], n=1)
    shown = track_of(nora, track)
    held.value = Ran({"elems": {"n": 3}})
    nora.drop(flows["a"], n=2)

    assert shown["failureCt"] == 1
    assert nora.elems(flows["b"]) == [3]


def test_a_platform_without_tracks_has_no_threads_for_them(tmp_path):
    """Writing and reading start none."""
    with visiting(tmp_path / "data") as (nora, _bob):
        nora.drop(nora.flow("/nora/a"), n=1)

        assert not nora.app.router._is_started


def test_what_waits_and_what_is_lost_stand_on_the_page_of_figures(
    nora, flows, held, monkeypatch, caplog
):
    """A Track that is too far behind loses the oldest drops, says so, and goes on (6.1)."""
    monkeypatch.setattr(limits, "track_backlog_max", 3)
    track = nora.track("/nora/a", "/nora/b", js="function (d) { return d; }")
    metrics = nora.app.router._metrics
    nora.drop(flows["a"], n=1)
    held.begun.get(WAIT_S)
    for n in range(2, 6):
        nora.drop(flows["a"], n=n)
    assert "flowkit_deliveries_waiting 3.0" in metrics.page().decode()
    held.go_on.set(None)
    shown = track_of(nora, track)
    nora.app.router.close()

    assert shown["skippedCt"] == 2
    assert metrics.value("flowkit_track_skipped_total") == 2
    assert nora.elems(flows["b"]) == [9] * 4  # the one under way was counted, and came through
    assert "too far behind" in caplog.text


def test_counts_are_those_of_what_happened(nora, flows):
    """Hits, passes, drops that left, and what came in at the destinations (10)."""
    track = nora.track("/nora/a", ["/nora/b", "/nora/c"], filter="n > 1")
    for n in (1, 2, 3):
        nora.drop(flows["a"], n=n)
    wait_for_tracks(nora.app)

    assert count_of(nora, "trackHit", track["id"]) == 3
    assert count_of(nora, "trackPass", track["id"]) == 2
    assert count_of(nora, "flowTracked", flows["a"]["id"]) == 2
    assert [count_of(nora, "flowDropAdded", flows[name]["id"]) for name in "abc"] == [3, 2, 2]


def test_a_new_track_begins_with_the_next_drop(nora, flows):
    """What was written before, or while it was disabled, does not come through."""
    nora.drop(flows["a"], n=1)
    track = nora.track("/nora/a", "/nora/b")
    nora.drop(flows["a"], n=2)
    assert nora.elems(flows["b"]) == [2]
    nora.ask("PUT", f"/track/{track['id']}", {"disabled": True})
    nora.drop(flows["a"], n=3)
    nora.ask("PUT", f"/track/{track['id']}", {"disabled": False})
    nora.drop(flows["a"], n=4)

    assert nora.elems(flows["b"]) == [2, 4]
