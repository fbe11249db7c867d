"""Drops over the protocol."""

import json

import pytest

from flowkit import limits
from flowkit.protocol.envelope import CREATED, NOT_LOCATED, PROCESSED
from flowkit.server.ingest import REFUSED_BY_FILTER

GONE = "d" + "0" * 24
OSLO = {"lat": 59.91, "lon": 10.75, "specifiers": {"city": "Oslo"}}

FAULTS = [
    ({}, ["elems: is required"]),
    ({"elems": None}, ["elems: is required"]),
    ({"elems": []}, ["elems: must be an object"]),
    ({"elems": {}, "fhash": 5}, ["fhash: must be a string"]),
    ({"elems": {}, "fhash": "x" * 1025}, ["fhash: must have at most 1024 characters"]),
    ({"elems": {}, "location": {"lat": 91, "lon": 0}}, ["location.lat: must be a number from"]),
    ({"elems": {}, "location": {"lat": 0}}, ["location.lon: must be a number from"]),
    ({"elems": {}, "location": 5}, ["location: must be an object"]),
    ({"elems": {}, "location": {"lat": 1, "lon": 1, "specifiers": 5}}, ["location.specifiers: "]),
    ({"elems": {}, "path": "x"}, ["path: must be"]),
    ({"elems": {}, "flowId": "x"}, ["flowId: must be an id"]),
    ({"elems": 5, "fhash": 5}, ["elems: ", "fhash: "]),
    ("x", ["body: must be an object"]),
    (b'{"elems": {"t": NaN}}', ["elems.t: NaN is not a JSON number"]),
    (b'{"elems": {"n": 9223372036854775808}}', ["elems.n: whole numbers must fit into 64 bits"]),
    (b'{"elems": {"s": "\\ud800"}}', ["elems.s: holds half of a surrogate pair"]),
    (b'{"elems": ' + b'{"a":' * 100 + b"1" + b"}" * 101, ["body: is nested more than 100"]),
    (b'{"elems":', ["body: is not JSON: "]),
    (b"", ["body: is empty, JSON is expected"]),
]


@pytest.fixture
def flow(nora):
    """A flow of nora's."""
    return nora.flow("/nora/greenhouse")


def test_a_drop_is_made_by_path_and_by_id(nora, flow):
    """201 with the whole drop; the server fills in what is its own."""
    sent = {"fhash": "bench-3", "location": OSLO, "elems": {"temp": 21.4, "tags": ["n", "g"]}}
    for target, body in [
        ("/drop", sent | {"path": "/Nora/Greenhouse/"}),
        ("/drop", {"elems": {"x": 1}, "flowId": flow["id"]}),
        (f"/drop/{flow['id']}/", {"elems": {}}),
    ]:
        made = nora.ask("POST", target, body)
        assert made.status == 201
        assert made.head["messages"] == [CREATED]
        assert made.body["flowId"] == flow["id"]
        assert made.body["path"] == "/nora/greenhouse"
        assert made.body["version"] == 0
        assert made.body["creatorId"] == flow["creatorId"]
        assert made.body["creationDate"] == nora.clock.now_ms
        assert all(
            made.body[name] == body[name] for name in ("elems", "fhash", "location") if name in body
        )
        assert nora.ask("GET", f"/drop/{flow['id']}/{made.body['id']}").body == made.body


@pytest.mark.parametrize(("body", "sentences"), FAULTS, ids=[str(body)[:50] for body, _ in FAULTS])
def test_a_bad_drop_is_refused_with_a_sentence_per_fault(nora, flow, body, sentences):
    """400; nothing is stored."""
    refused = nora.ask("POST", f"/drop/{flow['id']}", body)

    assert refused.status == 400
    assert len(refused.errors) == len(sentences)
    for said, expected in zip(refused.errors, sentences, strict=True):
        assert said.startswith(expected)
    assert nora.ask("GET", f"/drop/{flow['id']}").body == []


def test_a_drop_needs_to_say_where(nora, flow):
    """Without a flow in the address the body names one."""
    assert nora.ask("POST", "/drop", {"elems": {}}).errors == ["path: is required"]
    assert nora.ask("POST", "/drop", {}).errors == ["path: is required", "elems: is required"]


def test_the_flow_in_the_address_wins_over_the_body(nora, flow):
    """A path or id that names another flow is ignored, with a note (1.4)."""
    other = nora.flow("/nora/other")

    made = nora.ask("POST", f"/drop/{flow['id']}", {"elems": {}, "path": "/nora/other"})
    by_id = nora.ask("POST", "/drop", {"elems": {}, "path": "/nora/other", "flowId": flow["id"]})

    assert made.body["flowId"] == by_id.body["flowId"] == flow["id"]
    assert made.notes == by_id.notes == ["path: names another Flow and was ignored"]
    assert nora.ask("GET", f"/drop/{other['id']}").body == []


def test_writing_where_there_is_no_flow_is_404_and_elsewhere_403(nora, bob):
    """404 in the own namespace, 403 under a path that may not be written (3.4)."""
    bob.flow("/bob/x")

    missing = nora.ask("POST", "/drop", {"path": "/nora/none", "elems": {}})
    foreign = nora.ask("POST", "/drop", {"path": "/bob/x", "elems": {}})
    nowhere = nora.ask("POST", "/drop", {"path": "/bob/none", "elems": {}})

    assert (missing.status, missing.errors[0]) == (404, NOT_LOCATED)
    assert (foreign.status, nowhere.status) == (403, 403)


def test_an_fhash_that_is_held_replaces(nora, flow):
    """200: the same id and creation date, the version one higher, everything else new (1.4)."""
    first = nora.ask(
        "POST", f"/drop/{flow['id']}", {"elems": {"a": 1}, "fhash": "k", "location": OSLO}
    )
    nora.clock.now_ms += 5

    second = nora.ask("POST", f"/drop/{flow['id']}", {"elems": {"b": 2}, "fhash": "k"})

    assert (second.status, second.head["messages"]) == (200, [PROCESSED])
    assert second.body == {
        name: value for name, value in first.body.items() if name != "location"
    } | {
        "elems": {"b": 2},
        "version": 1,
        "lastEditDate": nora.clock.now_ms,
        "lastEditorId": flow["creatorId"],
    }
    assert nora.ask("GET", f"/drop/{flow['id']}").body == [second.body]


def test_a_flow_holds_no_more_than_its_capacity(nora):
    """The oldest goes; with capacity 0 nothing is stored and 201 is answered all the same."""
    small, none = nora.flow("/nora/small", capacity=2), nora.flow("/nora/none", capacity=0)
    drops = [nora.drop(small, n=n) for n in range(4)]

    assert nora.ask("GET", f"/drop/{small['id']}").body == [drops[3], drops[2]]
    assert nora.drop(none, n=1)["elems"] == {"n": 1}
    assert nora.ask("GET", f"/drop/{none['id']}").body == []
    nora.ask("PUT", f"/flow/{small['id']}", {"capacity": 1})
    assert nora.ask("GET", f"/drop/{small['id']}").body == [drops[3]]


def test_the_filter_of_a_flow_decides_what_is_written(nora):
    """Create, array and update: 400 with the known sentence; what is stored stays (1.5)."""
    flow = nora.flow("/nora/warm", filter="temp > 20")
    target = f"/drop/{flow['id']}"
    warm = nora.drop(flow, temp=21)

    cold = nora.ask("POST", target, {"elems": {"temp": 19}})
    assert (cold.status, cold.errors) == (400, [REFUSED_BY_FILTER])
    cooled = nora.ask("PUT", f"{target}/{warm['id']}", {"elems": {"temp": 19}})
    assert (cooled.status, cooled.errors) == (400, [REFUSED_BY_FILTER])
    both = nora.ask("POST", target, [{"elems": {"temp": 1}}, {"elems": {"temp": 22}}])
    assert both.status == 207
    assert both.body[0] == {"status": 400, "errors": [REFUSED_BY_FILTER]}
    nora.ask("PUT", f"/flow/{flow['id']}", {"filter": "temp > 100"})
    assert len(nora.ask("GET", target).body) == 2


def test_the_filter_of_a_flow_sees_the_members_and_types(nora):
    """Path, location and the types of elements count, not only elements."""
    flow = nora.flow(
        "/nora/x", filter="HAS date && path == '/nora/x' && location WITHIN 5 KM OF [59.91, 10.75]"
    )
    elems = {"when": {"type": "date", "value": 5}}
    body = {"elems": elems, "location": OSLO}
    old = nora.as_version("v0.1")

    assert old.ask("POST", f"/drop/{flow['id']}", body).status == 201
    assert old.ask("POST", f"/drop/{flow['id']}", {"elems": elems}).status == 400
    assert nora.ask("POST", f"/drop/{flow['id']}", body).status == 400


def test_an_update_replaces_the_members_that_it_names(nora, flow):
    """``elems`` is replaced whole, null unsets, the version counts up (1.4)."""
    made = nora.ask(
        "POST", f"/drop/{flow['id']}", {"elems": {"a": 1, "b": 2}, "location": OSLO}
    ).body
    target = f"/drop/{flow['id']}/{made['id']}"
    nora.clock.now_ms += 7

    one = nora.ask("PUT", target, {"id": made["id"], "elems": {"a": 5}})
    two = nora.ask("PUT", target, {"location": None, "fhash": "k"})

    assert one.status == 200
    assert one.body["elems"] == {"a": 5}
    assert (one.body["location"], one.body["version"]) == (OSLO, 1)
    assert one.body["lastEditDate"] == nora.clock.now_ms
    assert "location" not in two.body
    assert (two.body["fhash"], two.body["version"], two.body["elems"]) == ("k", 2, {"a": 5})
    assert nora.ask("GET", target).body == two.body
    assert nora.ask("PUT", target, {"elems": None}).errors == ["elems: cannot be unset"]
    assert nora.ask("PUT", target, two.body).notes == [], "resending the whole drop is quiet"
    assert nora.ask("PUT", target, {"path": "/nora/y"}).errors == [
        "path: cannot be changed, it is /nora/greenhouse"
    ]
    assert nora.ask("PUT", f"/drop/{flow['id']}/{GONE}", {"elems": {}}).status == 404


def test_one_member_of_a_drop_is_updated_by_its_own_address(nora, flow):
    """The body names the member, the answer holds it alone."""
    made = nora.drop(flow, a=1)
    target = f"/drop/{flow['id']}/{made['id']}"

    assert nora.ask("PUT", f"{target}/elems", {"elems": {"b": 2}}).body == {"elems": {"b": 2}}
    assert nora.ask("PUT", f"{target}/location", {"location": OSLO}).body == {"location": OSLO}
    assert nora.ask("PUT", f"{target}/location", {"location": None}).body == {}
    assert nora.ask("PUT", f"{target}/version", {"version": 9}).errors == [
        "version: is set by the server"
    ]


def test_updating_many_drops_is_all_or_nothing(nora, flow):
    """One unknown id is 404 for all; one refused change leaves all as they were."""
    one, two = nora.drop(flow, n=1), nora.drop(flow, n=2)
    target = f"/drop/{flow['id']}"
    changes = {one["id"]: {"elems": {"n": 10}}, two["id"]: {"elems": {"n": 20}}}

    assert nora.ask("MPUT", target, changes | {GONE: {"elems": {}}}).status == 404
    elsewhere = changes | {two["id"]: {"path": "/nora/y"}}
    assert nora.ask("MPUT", target, elsewhere).status == 400
    assert nora.ask("MPUT", target, elsewhere | {GONE: {}}).status == 404, "the objects come first"
    assert nora.ask("GET", f"{target}/{one['id']}").body == one
    changed = nora.ask("MPUT", target, changes)
    assert {key: drop["elems"]["n"] for key, drop in changed.body.items()} == {
        one["id"]: 10,
        two["id"]: 20,
    }
    assert nora.ask("MPUT", target, {}).body == {}


def test_drops_are_deleted_one_by_one_and_all_at_once(nora, flow):
    """DELETE answers ``{}``; a second one is 404; the flow stays."""
    drops = [nora.drop(flow, n=n) for n in range(3)]
    target = f"/drop/{flow['id']}"

    assert nora.ask("DELETE", f"{target}/{drops[0]['id']}", {"any": "body"}).body == {}
    assert nora.ask("DELETE", f"{target}/{drops[0]['id']}").status == 404
    assert nora.ask("DELETE", f"{target}/{drops[1]['id']}?forget=1").body == {}
    assert nora.ask("GET", target).body == [drops[2]]
    assert nora.ask("DELETE", f"{target}?forget=true").body == {}
    assert nora.ask("GET", target).body == []
    assert nora.ask("DELETE", f"{target}?forget=maybe").errors == [
        "forget: 0, 1, true or false is needed, not 'maybe'"
    ]


def test_reading_many_drops_leaves_out_what_is_not_there(nora, flow):
    """A map by id."""
    one, two = nora.drop(flow, n=1), nora.drop(flow, n=2)

    many = nora.ask("MGET", f"/drop/{flow['id']}", [one["id"], GONE, two["id"]])

    assert many.body == {one["id"]: one, two["id"]: two}
    assert nora.ask("MGET", f"/drop/{flow['id']}", []).body == {}


def test_find_takes_every_parameter(nora, flow):
    """Filter, sort, order, limit, start, skip and only, as 3.6 says."""
    drops = []
    for n in range(6):
        nora.clock.now_ms += 10
        drops.append(nora.drop(flow, n=n % 3, m={"k": n}))
    ids = [drop["id"] for drop in drops]

    def found(query):
        return [
            ids.index(drop["id"]) for drop in nora.ask("GET", f"/drop/{flow['id']}?{query}").body
        ]

    assert found("") == [5, 4, 3, 2, 1, 0]
    assert found("order=asc") == [0, 1, 2, 3, 4, 5]
    assert found("sort=n&order=desc") == [5, 2, 4, 1, 3, 0]
    assert found("sort=elems.n&order=ASC") == [0, 3, 1, 4, 2, 5]
    assert found("filter=n%20%3E%201") == [5, 2]
    assert found("filter=n%20%3E%201%20%7C%7C%20m.k%20==%200&start=1") == [2, 0]
    assert found("skip=2&limit=2") == [3, 2]
    assert found("limit=0") == []
    shown = nora.ask("GET", f"/drop/{flow['id']}?only=elems.m.k,version&limit=1").body
    assert shown == [{"id": ids[5], "elems": {"m": {"k": 5}}, "version": 0}]


def test_only_shows_the_same_parts_in_find_read_and_mget(nora, flow):
    """One meaning of ``only`` for every route, bare element names and ways into lists included."""
    rows = [{"x": 1, "y": 2}, 7, [{"x": 9}], {"x": 3}]
    made = nora.drop(flow, temp=1, stats={"a": 1, "b": 2}, rows=rows)
    query = "only=temp,elems.stats.b,elems.rows.x"
    expected = {
        "id": made["id"],
        "elems": {"temp": 1, "stats": {"b": 2}, "rows": [{"x": 1}, {"x": 3}]},
    }

    assert nora.ask("GET", f"/drop/{flow['id']}?{query}").body == [expected]
    assert nora.ask("GET", f"/drop/{flow['id']}/{made['id']}?{query}").body == expected
    made_again = nora.ask("POST", f"/drop/{flow['id']}?{query}", [{"elems": made["elems"]}]).body[0]
    assert made_again == expected | {"id": made_again["id"]}
    nora.ask("DELETE", f"/drop/{flow['id']}/{made_again['id']}")
    assert nora.ask("MGET", f"/drop/{flow['id']}?{query}", [made["id"]]).body == {
        made["id"]: expected
    }


@pytest.mark.parametrize(
    "query",
    [
        "limit=-1",
        "limit=x",
        "start=-1",
        "order=geo",
        "sort=a,b",
        "filter=x%20%3E",
        "hints=2",
        "pretty=x",
    ],
)
def test_a_bad_parameter_is_400_and_named(nora, flow, query):
    """The sentence opens with the parameter."""
    refused = nora.ask("GET", f"/drop/{flow['id']}?{query}")

    assert refused.status == 400
    assert refused.errors[0].startswith(query.split("=")[0] + ":")


def test_several_bad_parameters_are_several_sentences(nora, flow):
    """All faults at once."""
    refused = nora.ask("GET", f"/drop/{flow['id']}?limit=-1&order=up&refs=maybe")

    assert len(refused.errors) == 3


def test_unknown_parameters_are_ignored_and_named(nora, flow):
    """200 and a note for each, also for parameters that other routes have."""
    asked = nora.ask("GET", f"/drop/{flow['id']}?colour=red&forget=1")

    assert asked.status == 200
    assert asked.notes == [
        "colour: is not a parameter here and was ignored",
        "forget: is not a parameter here and was ignored",
    ]


def test_find_by_path(nora, flow):
    """``GET /drop?path=`` is the find in the flow there, in any spelling."""
    made = nora.drop(flow, n=1)

    assert nora.ask("GET", "/drop?path=/Nora//greenhouse").body == [made]
    assert nora.ask("GET", "/drop?path=/nora/none").status == 404
    assert nora.ask("GET", "/drop?path=x").errors[0].startswith("path: must be")
    assert nora.ask("GET", "/drop").errors == [
        "path: is required, or the id of a Flow in the address"
    ]


def test_find_in_several_flows(nora, bob, flow):
    """A map by flow; unknown and unreadable flows are left out; each has its own parameters."""
    other, theirs = nora.flow("/nora/other"), bob.flow("/bob/x")
    drops = [nora.drop(flow, n=n) for n in range(3)]
    entries = [
        {"flowId": flow["id"], "params": {"limit": 1, "filter": "n < 2"}},
        {"flowId": other["id"]},
        {"flowId": theirs["id"]},
        {"flowId": "f" + "0" * 24, "params": None},
    ]

    found = nora.ask("MGET", "/drop?refs=1&positions=1&explain=1", entries)

    assert found.body == {flow["id"]: [drops[1]], other["id"]: []}
    assert found.head["references"][flow["id"]]["path"] == "/nora/greenhouse"
    assert set(found.head["positions"]) == set(found.head["plans"]) == set(found.body)


def test_faults_in_a_find_in_several_flows_name_the_entry(nora, flow):
    """Position of the entry first, then the member."""
    refused = nora.ask(
        "MGET",
        "/drop",
        [
            {"flowId": flow["id"], "params": {"limit": -1, "order": "up"}},
            {},
            5,
            {"flowId": flow["id"]},
            {"flowId": "f1", "params": 5},
        ],
    )

    assert refused.status == 400
    assert [said.split(":")[0] for said in refused.errors] == [
        "0.limit",
        "0.order",
        "1.flowId",
        "2.flowId",
        "4.params",
    ]
    twice = nora.ask("MGET", "/drop", [{"flowId": flow["id"]}, {"flowId": flow["id"]}])
    assert twice.errors == ["1.flowId: stands in this request twice"]
    assert nora.ask("MGET", "/drop", {}).errors == ["body: must be an array of {flowId, params}"]


def test_an_array_is_created_in_order(nora, flow):
    """201 and as many drops as were sent, in the same order."""
    made = nora.ask("POST", f"/drop/{flow['id']}", [{"elems": {"n": n}} for n in range(5)])

    assert made.status == 201
    assert [drop["elems"]["n"] for drop in made.body] == [0, 1, 2, 3, 4]
    assert nora.ask("GET", f"/drop/{flow['id']}?order=asc").body == made.body


def test_entries_of_an_array_fail_alone(nora, bob, flow):
    """207: each entry is a drop or ``{status, errors}``; ``head.ok`` is true (12)."""
    bob.flow("/bob/x")
    entries = [
        {"path": "/nora/greenhouse", "elems": {"n": 1}},
        {"path": "/nora/greenhouse"},
        {"elems": {}},
        {"path": "/bob/x", "elems": {}},
        {"path": "/nora/none", "elems": {}},
        5,
        {"path": "/nora/greenhouse", "elems": {"n": 2}, "colour": 1},
    ]

    made = nora.ask("POST", "/drop?positions=1", entries)

    assert made.status == 207
    assert made.head["ok"] is True
    assert [entry.get("status", 201) for entry in made.body] == [201, 400, 400, 403, 404, 400, 201]
    assert made.body[1]["errors"] == ["elems: is required"]
    assert made.notes == ["colour: is not a member of a drop and was ignored"]
    stored = nora.ask("GET", f"/drop/{flow['id']}?order=asc&positions=1")
    assert stored.body == [made.body[0], made.body[6]]
    assert made.head["positions"] == {flow["id"]: stored.head["position"]}


def test_an_entry_that_may_not_be_stored_fails_alone(nora, flow):
    """NaN, a long number, half a surrogate pair, 101 levels: the others are stored (2.1, 12)."""
    bad = [b"NaN", b"9223372036854775808", b'"\\ud800"', b"[" * 99 + b"]" * 99]
    good = [b"9223372036854775807", b"[" * 98 + b"]" * 98]
    entries = [b'{"elems": {"v": %s}}' % value for value in (*bad, *good)]

    made = nora.ask("POST", f"/drop/{flow['id']}", b"[%s, NaN]" % b", ".join(entries))

    assert made.status == 207
    assert [entry.get("status", 201) for entry in made.body] == [400] * 4 + [201] * 2 + [400]
    assert [entry["errors"] for entry in made.body if "errors" in entry] == [
        ["elems.v: NaN is not a JSON number"],
        ["elems.v: whole numbers must fit into 64 bits"],
        ["elems.v: holds half of a surrogate pair"],
        ["body: is nested more than 100 levels deep"],
        ["body: NaN is not a JSON number"],
    ]
    assert nora.ask("GET", f"/drop/{flow['id']}?order=asc").body == made.body[4:6]
    assert nora.ask("MGET", f"/drop/{flow['id']}", b"[NaN]").status == 400


def test_an_array_for_a_flow_that_is_not_there_is_refused_whole(nora):
    """The address counts for all entries."""
    assert nora.ask("POST", "/drop/f" + "0" * 24, [{"elems": {}}]).status == 404
    assert nora.ask("POST", "/drop", []).body == []


def test_an_array_has_a_bound(nora, flow):
    """413 beyond 10,000 entries."""
    body = b"[" + b"{}," * limits.array_create_entries_max + b"{}]"

    assert nora.ask("POST", f"/drop/{flow['id']}", body).status == 413


def test_positions_name_the_change(nora, flow):
    """``positions=1`` answers the position of the write, or where a find was read (2.7)."""
    target = f"/drop/{flow['id']}"

    def seq(method, address, body=b""):
        position = nora.ask(method, f"{address}?positions=1", body).head["position"]
        kind, flow_id, _, number = position.split(".")
        assert (kind, flow_id) == ("p1", flow["id"])
        return int(number)

    assert seq("GET", target) == 0
    made = nora.drop(flow, n=1)
    assert seq("POST", target, {"elems": {}}) == 2
    assert seq("POST", target, [{"elems": {}}, {"elems": {}}]) == 4
    one = f"{target}/{made['id']}"
    assert seq("PUT", one, {"elems": {}}) == 5
    assert seq("PUT", f"{one}/elems", {"elems": {}}) == 6
    assert seq("MPUT", target, {made["id"]: {"elems": {}}}) == 7
    assert seq("MPUT", target, {}) == 7
    assert seq("GET", one) == seq("MGET", target, [made["id"]]) == seq("GET", target) == 7
    assert seq("DELETE", one) == 8
    assert seq("DELETE", target) == 11
    assert "position" not in nora.ask("GET", target).head


def test_references_hold_the_creator_and_the_flow(nora, flow):
    """``refs=1`` on find, read, create; also with ``only``."""
    made = nora.drop(flow, n=1)
    for asked in (
        nora.ask("GET", f"/drop/{flow['id']}?refs=1&only=elems"),
        nora.ask("GET", f"/drop/{flow['id']}/{made['id']}?refs=1"),
        nora.ask("POST", f"/drop/{flow['id']}?refs=1", {"elems": {}}),
        nora.ask("MGET", f"/drop/{flow['id']}?refs=1", [made["id"]]),
        nora.ask("MPUT", f"/drop/{flow['id']}?refs=1", {made["id"]: {"elems": {}}}),
        nora.ask("PUT", f"/drop/{flow['id']}/{made['id']}?refs=1", {"elems": {}}),
        nora.ask("POST", f"/drop/{flow['id']}?refs=1&only=elems", [{"elems": {}}]),
    ):
        assert asked.head["references"][flow["id"]] == flow
        assert asked.head["references"][flow["creatorId"]]["name"] == "nora"


def test_elements_are_typed_in_and_out_under_v0(nora, flow):
    """Typed by default under ``v0.*``, plain with ``hints=0`` and under every other version."""
    old = nora.as_version("v0.1")
    target = f"/drop/{flow['id']}"
    sent = {"when": {"type": "date", "value": 5}, "temp": 21.5}

    made = old.ask("POST", target, {"elems": sent})

    shown = {"when": {"type": "date", "value": 5}, "temp": {"type": "float", "value": 21.5}}
    plain = {"when": 5, "temp": 21.5}
    one = f"{target}/{made.body['id']}"
    assert made.body["elems"] == shown
    assert old.ask("GET", one).body["elems"] == shown
    assert old.ask("GET", target).body[0]["elems"] == shown
    assert old.ask("GET", f"{one}?hints=0").body["elems"] == plain
    assert nora.ask("GET", one).body["elems"] == plain
    assert nora.ask("GET", f"{one}?hints=1").body["elems"] == shown
    assert old.ask("GET", f"{target}?filter=HAS%20date").body[0]["id"] == made.body["id"]
    assert old.ask("GET", f"{target}?filter=when%20%3C%206&only=when").body[0]["elems"] == {
        "when": shown["when"]
    }
    assert old.ask("PUT", one, {"location": OSLO}).body["elems"] == shown, "types are kept"
    assert old.ask("PUT", one, {"elems": {"when": 5}}).body["elems"] == {
        "when": {"type": "integer", "value": 5}
    }


def test_an_unknown_element_type_is_refused_under_v0_and_a_map_elsewhere(nora, flow):
    """Versions without types store what came (2.2)."""
    sent = {"elems": {"x": {"type": "colour", "value": 1}}}
    target = f"/drop/{flow['id']}"

    refused = nora.as_version("v0.1").ask("POST", target, sent)

    assert refused.status == 400
    assert refused.errors == ["elems.x: Unknown element type: colour"]
    assert nora.ask("POST", target, sent).body["elems"] == sent["elems"]


def test_numbers_keep_their_kind(nora, flow):
    """Whole numbers of 64 bits, floats, empty names and odd text come back as they went in."""
    elems = {
        "big": 2**63 - 1,
        "low": -(2**63),
        "f": 1.0,
        "e": 1e300,
        "": {"a.b": "\u0000é\U0001f600"},
    }

    made = nora.drop(flow, **elems)

    stored = nora.ask("GET", f"/drop/{flow['id']}/{made['id']}")
    assert json.dumps(stored.body["elems"]) == json.dumps(elems)
