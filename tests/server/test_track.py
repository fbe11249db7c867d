"""Tracks as objects, and what their definition has to say; simulation and backtest."""

import pytest

from flowkit import limits
from flowkit.server.handlers.track import LOOPS, OTHERS_SCRIPT
from tests.server.visitor import visiting, wait_for_tracks

TRIPLE = "function (d) { d.elems.b = d.elems.a * 3; return d; }"


@pytest.fixture
def flows(nora):
    """Three flows: /nora/a, /nora/b, /nora/c."""
    return {name: nora.flow(f"/nora/{name}") for name in "abc"}


def shared(nora, bob, path, **rights):
    """Nora's share of *path* to bob."""
    body = {"issuedTo": bob.ask("GET", "/identity").body[0]["id"], "paths": {path: rights}}
    made = nora.ask("POST", "/share", body)
    assert made.status == 201, made.errors
    return made.body


# Saving


@pytest.mark.parametrize("destination", ["/nora/b", ["/nora/b"], ["/nora/b", "/nora/c"]])
def test_a_destination_comes_back_as_it_was_given(nora, flows, destination):
    """A string as a string, a list as a list (1.6)."""
    made = nora.track("/nora/a", destination)

    assert made["destination"] == destination
    assert nora.ask("GET", f"/track/{made['id']}").body["destination"] == destination


def test_metadata_is_kept_as_it_is(nora, flows):
    """Whatever a graphical editor stores."""
    metadata = {"nodes": [{"x": 1.5, "$odd.name": None}], "version": 3}
    made = nora.track("/nora/a", "/nora/b", metadata=metadata)

    assert nora.ask("GET", f"/track/{made['id']}").body["metadata"] == metadata


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({"source": "/nora/a"}, "destination: is required where there is no js"),
        ({"destination": "/nora/b"}, "source: is required"),
        ({"source": "/nora/none", "destination": "/nora/b"}, "source: there is no Flow at"),
        ({"source": "/nora/a", "destination": "/nora/none"}, "destination: there is no Flow at"),
        ({"source": "/nora/a", "destination": []}, "destination: names no path"),
        ({"source": "/nora/a", "destination": 5}, "destination: "),
        ({"source": "/nora/a", "destination": ["/nora/b", 5]}, "destination: "),
        ({"source": "/nora/a", "destination": "/nora/b", "filter": "a >"}, "filter: "),
        (
            {"source": "/nora/a", "destination": [f"/nora/x{n}" for n in range(101)]},
            "destination: has 101 paths, the limit is 100",
        ),
        (
            {"source": "/nora/a", "js": "x" * (limits.script_chars_max + 1)},
            f"js: must have at most {limits.script_chars_max} characters",
        ),
    ],
)
def test_what_a_definition_may_not_say(nora, flows, body, sentence):
    """One sentence with the member first, and nothing is stored."""
    refused = nora.ask("POST", "/track", body)

    assert refused.status == 400
    assert any(each.startswith(sentence) for each in refused.errors), refused.errors
    assert nora.ask("GET", "/track").body == []


@pytest.mark.parametrize(
    ("rights", "status"),
    [
        ({"read": True, "dropRead": True}, 201),
        ({"read": True}, 403),
        ({"read": True, "dropWrite": True}, 403),
    ],
)
def test_a_source_needs_the_right_to_read_it(nora, bob, flows, rights, status):
    """``dropRead``, whatever else there is (8.2)."""
    shared(nora, bob, "/nora/a", **rights)
    bob.flow("/bob/mine")

    asked = bob.ask("POST", "/track", {"source": "/nora/a", "destination": "/bob/mine"})

    assert asked.status == status
    if status == 403:
        assert "dropRead at /nora/a" in asked.errors[0]


@pytest.mark.parametrize(
    ("rights", "status"),
    [({"read": True, "dropWrite": True}, 201), ({"read": True, "dropRead": True}, 403)],
)
def test_a_destination_needs_the_right_to_write_it(nora, bob, flows, rights, status):
    """``dropWrite`` on each of them."""
    shared(nora, bob, "/nora/b", **rights)
    bob.flow("/bob/mine")

    body = {"source": "/bob/mine", "destination": ["/bob/mine", "/nora/b"]}

    assert bob.ask("POST", "/track", body).status == status


def test_an_old_track_can_be_changed_though_its_flows_are_gone(nora, flows):
    """A Flow that it names already may be missing (1.5); a newly named one may not."""
    track = nora.track("/nora/a", "/nora/b")
    nora.ask("DELETE", f"/flow/{flows['b']['id']}")
    target = f"/track/{track['id']}"

    assert nora.ask("PUT", target, {"description": "x"}).status == 200
    assert nora.ask("PUT", target, {"filter": "n > 1"}).status == 200
    assert nora.ask("PUT", target, {"disabled": True}).status == 200
    assert nora.ask("PUT", target, {"destination": "/nora/none"}).status == 400


def test_without_its_script_a_track_needs_a_destination(nora, flows):
    """The last word that says where to write cannot go."""
    track = nora.track("/nora/a", js="function (d) { return {'/nora/b': d}; }")

    refused = nora.ask("PUT", f"/track/{track['id']}", {"js": None})

    assert refused.status == 400
    assert refused.errors == ["destination: is required where there is no js"]


def test_who_may_write_at_the_source_changes_it_but_for_its_script(nora, bob, flows):
    """A script runs with its maker's rights, so it would lend them to whoever writes it."""
    shared(nora, bob, "/nora/a", read=True, write=True, dropRead=True)
    shared(nora, bob, "/nora/b", read=True, dropWrite=True)
    track = nora.track("/nora/a", "/nora/b", js=TRIPLE)
    target = f"/track/{track['id']}"

    assert bob.ask("PUT", target, {"description": "hot"}).status == 200
    assert bob.ask("PUT", target, {"filter": "a > 1"}).status == 200
    refused = bob.ask("PUT", target, {"js": "function (d) { return null; }"})
    assert refused.status == 403
    assert refused.errors == [OTHERS_SCRIPT]
    assert bob.ask("PUT", target, {"js": TRIPLE}).status == 200
    assert bob.ask("PUT", target, {"js": None}).status == 200


def test_a_change_by_another_keeps_within_the_makers_rights(nora, bob, flows):
    """Bob may write to his own flow, nora may not, and it is her Track."""
    shared(nora, bob, "/nora/a", read=True, write=True, dropRead=True)
    bob.flow("/bob/mine")
    track = nora.track("/nora/a", "/nora/b")

    refused = bob.ask("PUT", f"/track/{track['id']}", {"destination": "/bob/mine"})

    assert refused.status == 403
    assert "made this Track" in refused.errors[0]


@pytest.mark.parametrize(
    ("first", "second", "warned"),
    [
        (None, ("/nora/a", "/nora/a"), True),
        (("/nora/b", "/nora/a"), ("/nora/a", "/nora/b"), True),
        (("/nora/b", "/nora/c"), ("/nora/a", "/nora/b"), False),
        (("/nora/strict", "/nora/a"), ("/nora/a", "/nora/strict"), False),
    ],
)
def test_a_track_that_can_only_loop_is_saved_with_a_warning(nora, flows, first, second, warned):
    """In ``head.messages``; a Flow on the way that has a filter may stop it."""
    nora.flow("/nora/strict", filter="n > 1")
    if first:
        nora.track(*first)
    source, destination = second

    made = nora.ask("POST", "/track", {"source": source, "destination": destination})

    assert made.status == 201
    assert (LOOPS in made.notes) is warned
    changed = nora.ask("PUT", f"/track/{made.body['id']}", {"description": "x"})
    assert (LOOPS in changed.notes) is warned


def test_where_scripts_cannot_run_a_strict_server_refuses_them(tmp_path, monkeypatch):
    """400 in the words of the protocol; a lenient one stores them (6.3)."""
    for strict, status in ((True, 400), (False, 201)):
        with visiting(tmp_path / f"strict-{strict}", strict_scripts=strict) as (nora, _bob):
            monkeypatch.setitem(nora.app.scripts.pool.__dict__, "is_available", False)
            nora.flow("/nora/a")
            body = {"source": "/nora/a", "destination": "/nora/a", "js": TRIPLE}
            asked = nora.ask("POST", "/track", body)

            assert asked.status == status
            if strict:
                assert asked.errors == ["js: JavaScript Tracks are not enabled"]


# Simulation


def simulated(visitor, **body):
    """The answer of a simulation."""
    answer = visitor.ask("POST", "/track/simulate", body)
    assert answer.status == 200, answer.errors
    return answer.body


def test_a_simulation_as_the_protocol_shows_it(nora):
    """The example of 6.6."""
    js = "function (d) { d.elems.b = d.elems.a * 3; return d; }"

    assert simulated(nora, drop={"elems": {"a": 1}}, js=js) == {
        "drops": [{"elems": {"a": 1, "b": 3}}],
        "log": [],
        "errors": [],
    }


@pytest.mark.parametrize(
    ("body", "drops", "error"),
    [
        ({"js": TRIPLE, "filter": "a > 5"}, [], None),
        ({"js": "function (d) { return null; }"}, [], None),
        ({"js": "function (d) { return [d, d]; }"}, [{"elems": {"a": 1}}] * 2, None),
        (
            {"js": "function (d) { return {'/nora/x': [d]}; }"},
            [{"path": "/nora/x", "elems": {"a": 1}}],
            None,
        ),
        (
            {"js": "function (d) { return {'/nora/x': d}; }", "destination": "/nora/b"},
            [],
            "not a destination",
        ),
        ({"js": "function (d) { throw new Error('no luck'); }"}, [], "no luck"),
        ({"js": "function (d) { return 5; }"}, [], "a number, not a Drop"),
        ({"js": "5"}, [], "no function"),
        ({"js": "function ("}, [], "SyntaxError"),
        (
            {"js": "function (d) { Flow.Http.get('http://example.org/'); return d; }"},
            [],
            "Flow.Http.get is not done while a script is only tried",
        ),
        ({"filter": "a > 0", "destination": "/nora/b"}, [{"elems": {"a": 1}}], None),
    ],
)
def test_what_a_simulation_answers(nora, body, drops, error):
    """The Drops, or what went wrong; always 200."""
    answer = simulated(nora, drop={"elems": {"a": 1}}, **body)

    assert answer["drops"] == drops
    if error is None:
        assert answer["errors"] == []
    else:
        assert len(answer["errors"]) == 1
        assert error in answer["errors"][0]


def test_a_simulation_has_what_the_script_logged(nora):
    """Entry by entry."""
    js = "function (d) { console.log('a is', d.elems.a); return d; }"

    assert simulated(nora, drop={"elems": {"a": 1}}, js=js)["log"] == [{"message": "a is 1"}]


def test_a_simulation_under_v0_is_typed(nora):
    """Both ways."""
    js = "function (d) { d.elems.b = d.elems.a.value + 1; return d; }"
    answer = simulated(nora.as_version("v0.1"), drop={"elems": {"a": 1}}, js=js)

    assert answer["errors"] == []
    assert answer["drops"][0]["elems"]["b"]["value"] == 2


@pytest.mark.parametrize(
    ("body", "sentences"),
    [
        ({"js": TRIPLE}, ["drop: is required"]),
        ({"drop": {"elems": {}}}, ["js: is required, or a filter or a destination"]),
        ({"drop": {}, "js": TRIPLE}, ["elems: is required"]),
        ({"drop": {"elems": {}}, "js": 5}, ["js: "]),
        ({"drop": {"elems": {}}, "js": TRIPLE, "filter": "a >"}, ["filter: "]),
    ],
)
def test_what_a_simulation_needs(nora, body, sentences):
    """A Drop and something to run."""
    refused = nora.ask("POST", "/track/simulate", body)

    assert refused.status == 400
    assert len(refused.errors) == len(sentences)
    pairs = zip(refused.errors, sentences, strict=True)
    assert all(error.startswith(start) for error, start in pairs), refused.errors


# Backtest


def backtested(visitor, **body):
    """The answer of a backtest."""
    answer = visitor.ask("POST", "/track/backtest", body)
    assert answer.status == 200, answer.errors
    return answer.body


def test_a_backtest_says_what_would_have_happened(nora, flows):
    """What passed, what a destination refuses, what failed and why; the oldest first."""
    strict = nora.flow("/nora/strict", filter="n > 3")
    ids = [nora.drop(flows["a"], n=n)["id"] for n in range(1, 6)]
    js = "function (d) { if (d.elems.n === 2) throw new Error('no luck'); return d; }"
    answer = backtested(
        nora,
        source="/nora/a",
        destination=["/nora/b", "/nora/strict"],
        filter="n < 5",
        js=js,
    )

    assert answer["seen"] == 5
    assert answer["passed"] == 3
    assert answer["stopped"] == 1
    assert answer["failed"] == 1
    assert answer["delivered"] == {"/nora/b": 3, "/nora/strict": 1}
    assert answer["refused"] == {"/nora/strict": 2}
    assert answer["failures"] == [{"dropId": ids[1], "error": answer["failures"][0]["error"]}]
    assert "no luck" in answer["failures"][0]["error"]
    assert answer["drops"] == [
        {"dropId": ids[0], "path": "/nora/b", "elems": {"n": 1}},
        {"dropId": ids[2], "path": "/nora/b", "elems": {"n": 3}},
        {"dropId": ids[3], "path": "/nora/b", "elems": {"n": 4}},
        {"dropId": ids[3], "path": "/nora/strict", "elems": {"n": 4}},
    ]
    assert answer["complete"] is True
    assert nora.drops(flows["b"]) == nora.drops(strict) == []


def test_a_backtest_says_what_the_track_then_does(nora, flows):
    """The same drops, written again with the Track in place, arrive as it said."""
    js = "function (d) { return d.elems.n % 2 ? {'/nora/b': d} : [d, d]; }"
    given = {"source": "/nora/a", "destination": ["/nora/b", "/nora/c"], "js": js}
    for n in range(6):
        nora.drop(flows["a"], n=n)
    said = backtested(nora, **given)
    nora.track(given["source"], given["destination"], js=js)
    for n in range(6):
        nora.drop(flows["a"], n=n)

    assert {f"/nora/{name}": len(nora.drops(flows[name])) for name in "bc"} == said["delivered"]


def test_a_stored_track_is_tested_even_if_it_is_disabled(nora, flows):
    """By its id, over the newest drops."""
    track = nora.track("/nora/a", "/nora/b", filter="n > 1", disabled=True)
    for n in range(5):
        nora.drop(flows["a"], n=n)

    answer = backtested(nora, track=track["id"], limit=2)

    assert (answer["seen"], answer["passed"]) == (2, 2)
    assert [drop["elems"]["n"] for drop in answer["drops"]] == [3, 4]


def test_a_backtest_counts_nothing(nora, flows):
    """No hit, no pass, no failure of the Track."""
    track = nora.track("/nora/a", "/nora/b", js="function (d) { throw 1; }", disabled=True)
    nora.drop(flows["a"], n=1)
    assert backtested(nora, track=track["id"])["failed"] == 1

    wait_for_tracks(nora.app)
    assert "failureCt" not in nora.ask("GET", f"/track/{track['id']}").body
    assert sum(nora.ask("GET", f"/statistics/trackHit/{track['id']}?level=YEAR").body) == 0


def test_a_backtest_ends_in_time(nora, flows, monkeypatch):
    """What it has by then is its answer, and it says that it is not all."""
    monkeypatch.setattr(limits, "backtest_time_s", 0.0)
    for n in range(3):
        nora.drop(flows["a"], n=n)

    answer = backtested(nora, source="/nora/a", destination="/nora/b", js=TRIPLE)

    assert answer["complete"] is False
    assert answer["seen"] == 1


def test_a_backtest_shows_a_bounded_part(nora, flows, monkeypatch):
    """All are counted."""
    monkeypatch.setattr(limits, "backtest_shown_max", 2)
    for n in range(4):
        nora.drop(flows["a"], n=n)

    answer = backtested(nora, source="/nora/a", destination=["/nora/b", "/nora/c"])

    assert len(answer["drops"]) == 2
    assert answer["delivered"] == {"/nora/b": 4, "/nora/c": 4}


@pytest.mark.parametrize(
    ("body", "status", "sentence"),
    [
        ({}, 400, "source: is required"),
        ({"track": 5}, 400, "track: must be the id of a Track"),
        ({"track": "f" + "0" * 24}, 400, "track: must be the id of a Track"),
        ({"track": "t" + "0" * 24}, 404, ""),
        ({"source": "/nora/a", "destination": "/nora/b", "limit": -1}, 400, "limit: "),
        ({"source": "/nora/a", "destination": "/nora/b", "limit": True}, 400, "limit: "),
        ({"source": "/nora/a", "destination": "/nora/b", "limit": 10_001}, 400, "limit: "),
        ({"source": "/nora/none", "destination": "/nora/b"}, 400, "source: there is no Flow"),
        ({"source": "/nora/a"}, 400, "destination: is required"),
        ({"source": "/bob/x", "destination": "/nora/b"}, 403, "path: "),
    ],
)
def test_what_a_backtest_needs(nora, flows, body, status, sentence):
    """A stored Track, or the definition of one that could be saved."""
    refused = nora.ask("POST", "/track/backtest", body)

    assert refused.status == status
    assert refused.errors[0].startswith(sentence)


def test_another_accounts_track_is_tested_with_ones_own_rights(nora, bob, flows):
    """Who may see it but not its destination cannot learn what that one's filter refuses."""
    shared(nora, bob, "/nora/a", read=True, dropRead=True)
    track = nora.track("/nora/a", "/nora/b")

    assert bob.ask("POST", "/track/backtest", {"track": track["id"]}).status == 403


def test_a_backtest_lends_nobody_the_rights_of_the_tracks_maker(nora, bob, flows):
    """What nora's script reads for her it does not read for bob."""
    shared(nora, bob, "/nora/a", read=True, dropRead=True)
    nora.drop(flows["c"], secret=1)
    js = "function (d) { return {'/nora/b': Flow.Drop.find('/nora/c', {})}; }"
    track = nora.track("/nora/a", js=js, disabled=True)
    nora.drop(flows["a"], n=1)

    for_nora = backtested(nora, track=track["id"])
    for_bob = backtested(bob, track=track["id"])

    assert [drop["elems"] for drop in for_nora["drops"]] == [{"secret": 1}]
    assert for_bob["drops"] == []
    assert for_bob["failed"] == 1


def test_a_backtest_under_v0_shows_types(nora, flows):
    """As any answer of that generation."""
    typed = nora.as_version("v0.1")
    nora.drop(flows["a"], n=1)

    answer = backtested(typed, source="/nora/a", destination="/nora/b")

    assert answer["drops"][0]["elems"] == {"n": {"type": "integer", "value": 1}}
