"""Scripts on a platform: both generations of elements, and the Flow library with its rights."""

from __future__ import annotations

import pytest

pytest.importorskip("quickjs", reason="scripts need the extra: pip install 'flowkit[js]'")


def tried(who, js, elems=None, **members):
    """What ``simulate`` answers."""
    body = {"drop": {"elems": elems or {"a": 1}}, "js": js, **members}
    answer = who.ask("POST", "/track/simulate", body)
    assert answer.status == 200, answer.errors
    return answer.body


def value_of(who, expression):
    """The value of an expression in a script, or its error."""
    shown = tried(who, f"function (d) {{ return {{elems: {{v: {expression}}}}}; }}")
    return shown["errors"] or shown["drops"][0]["elems"].get("v")


@pytest.fixture
def house(nora):
    """A flow with three drops, the second with an fhash."""
    flow = nora.flow("/nora/house")
    for n in range(3):
        body = {
            "elems": {"n": n, "kind": "x" if n else "y"},
            **({"fhash": "k'ey"} if n == 1 else {}),
        }
        assert nora.ask("POST", f"/drop/{flow['id']}", body).status == 201
    return flow


@pytest.mark.parametrize("by", ["path", "id"])
@pytest.mark.parametrize(
    ("call", "value"),
    [
        ("Flow.Drop.find(FLOW).map(function (d) { return d.elems.n; })", [2, 1, 0]),
        ("Flow.Drop.find(FLOW, {limit: 1, order: 'asc'})[0].elems.n", 0),
        ("Flow.Drop.find(FLOW, {filter: 'n > 0', sort: 'n', start: 1})[0].elems.n", 1),
        ("Flow.Drop.findOne(FLOW, {filter: 'n == 1'}).elems.n", 1),
        ("Flow.Drop.findOne(FLOW, {filter: 'n == 9'})", None),
        ('Flow.Drop.findFHash(FLOW, "k\'ey").elems.n', 1),
        ("Flow.Drop.findFHash(FLOW, 'none')", None),
        ("Flow.Drop.aggregate(FLOW, {output: ['$count'], groupBy: ['kind']}).length", 2),
    ],
)
def test_the_library_reads_drops_by_path_and_by_id(nora, house, by, call, value):
    """As the API does (6.4)."""
    assert value_of(nora, call.replace("FLOW", repr(house[by]))) == value


def test_the_library_reads_flows_tracks_and_single_drops(nora, house):
    """By id, and by a find."""
    nora.flow("/nora/other")
    track = nora.track("/nora/house", "/nora/other", disabled=True)
    drop = nora.ask("GET", f"/drop/{house['id']}?limit=1").body[0]

    assert value_of(nora, "Flow.Flow.find({filter: 'path =~ /house/'}).length") == 1
    assert value_of(nora, f"Flow.Flow.get('{house['id']}').path") == "/nora/house"
    assert value_of(nora, f"Flow.Track.get('{track['id']}').source") == "/nora/house"
    assert value_of(nora, "Flow.Track.find().length") == 1
    assert value_of(nora, f"Flow.Drop.get('{house['id']}', '{drop['id']}').elems.n") == 2


@pytest.mark.parametrize(
    "call",
    [
        "Flow.Drop.find('/bob/secret')",
        "Flow.Drop.find(SECRET)",
        "Flow.Flow.get(SECRET)",
        "Flow.Drop.aggregate('/bob/secret', {output: ['$count']})",
    ],
)
def test_a_script_reads_only_what_its_account_may(nora, bob, call):
    """What is another's is not there, whether or not it exists."""
    secret = bob.flow("/bob/secret")
    bob.drop(secret, n=1)

    (error,) = value_of(nora, call.replace("SECRET", repr(secret["id"])))

    assert "could not be located" in error


def test_what_is_shared_with_the_account_is_shared_with_its_scripts(nora, bob):
    """Rights are those of the account, Shares included."""
    nora_id = nora.ask("GET", "/identity").body[0]["id"]
    shared = bob.flow("/bob/shared")
    bob.drop(shared, n=7)
    paths = {"/bob/shared": {"read": True, "dropRead": True}}
    assert bob.ask("POST", "/share", {"issuedTo": nora_id, "paths": paths}).status == 201

    assert value_of(nora, "Flow.Drop.find('/bob/shared')[0].elems.n") == 7


def test_a_bad_option_is_thrown_with_every_sentence(nora, house):
    """Message and details are those of the API."""
    said = value_of(
        nora,
        "(function () { try { Flow.Drop.find('/nora/house', {limit: -1, order: 'up'}); }"
        " catch (e) { return [e instanceof Flow.Error, e.details.length]; } })()",
    )

    assert said == [True, 2]


def test_a_track_of_the_first_generation_sees_typed_elements(nora):
    """And may write either form; one of the later generation sees them plain (2.3)."""
    old = nora.as_version("v0.1")
    source, typed, plain = (nora.flow(f"/nora/{name}") for name in ("a", "typed", "plain"))
    js = (
        "function (d) { d.elems.b = d.elems.a.value * 2;"
        " d.elems.c = {type: 'date', value: 5}; return d; }"
    )
    made = old.ask("POST", "/track", {"source": "/nora/a", "destination": "/nora/typed", "js": js})
    assert made.status == 201, made.errors
    nora.track("/nora/a", "/nora/plain", js="function (d) { return {elems: {b: d.elems.a * 2}}; }")
    nora.drop(source, a=21)

    assert nora.elems(typed, "b") == [42]
    assert nora.elems(plain, "b") == [42]
    assert nora.elems(typed, "c") == [5]
    (shown,) = old.ask("GET", f"/drop/{typed['id']}").body
    assert shown["elems"]["c"] == {"type": "date", "value": 5}
