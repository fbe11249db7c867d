"""Aggregation over HTTP's hinge, and its meaning where the protocol leaves it to us."""

import json

import pytest

from flowkit import limits
from flowkit.errors import BadRequest
from flowkit.server.aggregate import Groups
from flowkit.server.aggregate_plan import aggregate_in
from flowkit.server.auth import credential_of
from flowkit.server.selectors import read_aggregation

NOW_MS = 1_512_837_350_000


def rows_of(body, *drops):
    """The rows over elements, the newest first."""
    groups = Groups(read_aggregation(body), now_ms=NOW_MS)
    for elems in drops:
        groups.add({"creationDate": NOW_MS, "elems": elems})
    return groups.rows()


@pytest.fixture
def flow(nora):
    """A flow with five drops of two benches."""
    flow_id = nora.ask("POST", "/flow", {"path": "/nora/green"}).body["id"]
    for number in range(5):
        elems = {"bench": str(number % 2), "temp": 20 + number, "tags": ["a", number]}
        body = {"elems": elems, "location": {"lat": 59.91, "lon": 10.75 + number}}
        assert nora.ask("POST", f"/drop/{flow_id}", body).status == 201
        nora.clock.now_ms += 1000
    return flow_id


CASES = [
    ("$sum:a", [{"a": 1}, {"a": 2}], 3),
    ("$sum:a", [{"a": 1}, {"a": True}, {"a": "2"}, {"a": [3]}, {}], 1),
    ("$sum:a", [{}], 0),
    ("$sum:a", [{"a": 2**62}] * 2, float(2**63)),
    ("$sum:a", [{"a": 2**62}] * 2 + [{"a": -1}], 2**63 - 1),
    ("$sum:a", [{"a": 0.1}] * 10, 1.0),
    ("$sum:a", [{"a": 1e308}, {"a": 1e308}, {"a": -1e308}], 1e308),
    ("$sum:a", [{"a": 1e308}] * 2, None),
    ("$sum:a", [{"a": 2**53 + 1}, {"a": 0.0}], float(2**53)),
    ("$avg:a", [{"a": 1}, {"a": 2}, {"a": "x"}], 1.5),
    ("$avg:a", [{"a": 1e308}] * 2, 1e308),
    ("$min:a", [{"a": "x"}, {"a": 3}, {"a": True}], 3),
    ("$max:a", [{"a": "x"}, {"a": 3}, {"a": [9]}], "x"),
    ("$max:a", [{"a": 1.0}, {"a": 1}], 1),
    ("$min:a", [{"a": "b"}, {"a": "a"}], "a"),
    ("$max:a", [{"a": "\uffff"}, {"a": "😀"}], "😀"),
    ("$min:a", [{"a": -0.0}], 0.0),
    ("$unique:a", [{"a": 1}, {"a": True}, {"a": 1.0}, {"a": "1"}, {"a": None}], [1, True, "1"]),
    ("$unique:a", [{"a": [1]}, {"a": [1.0]}, {"a": {"b": 1}}], [[1], {"b": 1}]),
    ("$all:a", [{"a": 2}, {"a": 1}, {"a": 2}, {}], [2, 1, 2]),
    ("$all:a.b", [{"a": [{"b": 1}, {"b": 2}]}, {"a": [{"b": 3}]}], [[1, 2], 3]),
    ("$sum:a.b", [{"a": [{"b": 1}, {"b": 2}]}, {"a": [{"b": 3}]}], 3),
    ("$unique:a", [{}], []),
    ("$day", [{}], 9),
    ("$month:a", [{"a": "x"}, {"a": -1}, {"a": 0}], 12),
    ("$hour:a", [{"a": -0.5}], 23),
]


@pytest.mark.parametrize(("selector", "drops", "value"), CASES)
def test_what_a_selector_gives(selector, drops, value):
    """One row with that value, of that very type."""
    assert json.dumps(rows_of({"output": [selector]}, *drops)) == json.dumps([{selector: value}])


@pytest.mark.parametrize("selector", ["$avg:a", "$min:a", "$max:a", "$year:a"])
def test_what_nothing_is_left_for_is_left_out(selector):
    """A mean, an extreme or a date of nothing is absent from the row."""
    assert rows_of({"output": [selector, "$count"]}, {"a": [1]}) == [{"$count": 1}]


def test_keys_are_equal_by_value_and_kind():
    """1 and 1.0 are one key, shown whole; true and "1" are others; null and absent are one."""
    drops = [{"a": value} for value in (1.0, 1, True, "1", None, [1], [1.0])]

    assert rows_of({"output": ["$count"], "groupBy": ["a"]}, *drops, {}) == [
        {"a": 1, "$count": 2},
        {"a": "1", "$count": 1},
        {"a": True, "$count": 1},
        {"a": [1], "$count": 2},
        {"a": None, "$count": 2},
    ]


def test_rows_are_sorted_and_what_is_missing_comes_last():
    """Several sorts in their order; only a final :desc is a direction; null is last either way."""
    drops = [{"a": "x", "n": 1}, {"a": "y", "n": 3}, {"a": "z"}, {"n": 3}]
    body = {"groupBy": ["a"], "output": ["$max:n"], "sorts": ["$max:n:desc", "a:desc"]}

    assert [row["a"] for row in rows_of(body, *drops)] == ["y", None, "x", "z"]


def test_the_answer_is_named_as_it_was_asked(nora, flow):
    """Keys first, then outputs; SQL and Python give the same rows, the plan says which it was."""
    body = {
        "filter": "temp > 20",
        "rules": {"hot": "temp >= 23", "near": "location WITHIN 100 KM OF [59.91,10.75]"},
        "groupBy": ["elems.bench", "$day"],
        "output": ["$count", "$avg:hot", "$sum:temp"],
        "sorts": ["$avg:hot:desc", "elems.bench:asc"],
    }
    address = f"/drop/{flow}/aggregate?explain=1"

    quick = nora.ask("POST", address, body)
    slow = nora.ask("POST", address, {**body, "output": [*body["output"], "$all:temp"]})

    assert quick.body == [
        {"elems.bench": "0", "$day": 9, "$count": 2, "$avg:hot": 0.5, "$sum:temp": 46},
        {"elems.bench": "1", "$day": 9, "$count": 2, "$avg:hot": 0.5, "$sum:temp": 44},
    ]
    assert [list(row) for row in quick.body] == [["elems.bench", "$day", *body["output"]]] * 2
    assert [row.pop("$all:temp") for row in slow.body] == [[24, 22], [23, 21]]
    assert slow.body == quick.body
    assert (quick.head["plan"]["groupsIn"], slow.head["plan"]["groupsIn"]) == ("sql", "python")


def test_an_array_as_a_key_goes_to_python(nora, flow):
    """SQL finds out by itself that it cannot compare it."""
    body = {"groupBy": ["tags"], "output": ["$count"]}
    found = nora.ask("POST", f"/drop/{flow}/aggregate?explain=1", body)

    assert [row["tags"] for row in found.body] == [["a", number] for number in range(5)]
    assert found.head["plan"]["why"] == "a member holds an array or a map"


def test_distances_are_in_the_unit_of_the_rule(nora, flow):
    """With and without a dollar; of the newest drop of the group."""
    rules = {"r": "location WITHIN 1 MILES OF [59.91,10.75]"}
    body = {"rules": rules, "output": ["distance:r", "$distance:r"]}
    (row,) = nora.ask("POST", f"/drop/{flow}/aggregate", body).body

    assert row["distance:r"] == row["$distance:r"] == pytest.approx(138.6, abs=0.2)


def test_no_drop_gives_a_row_only_without_keys(nora, flow):
    """[] with groupBy, a count of 0 without."""
    address, body = f"/drop/{flow}/aggregate", {"filter": "a == 1", "output": ["$count", "$max:a"]}

    assert nora.ask("POST", address, body).body == [{"$count": 0}]
    assert nora.ask("POST", address, {**body, "groupBy": ["a"]}).body == []


def test_every_fault_is_told(nora, flow):
    """One sentence each, the entry first; what is not known becomes a note of a good answer."""
    body = {
        "output": ["$count:x", "temp", "$sum", 3, "$foo:a", "distance:r"],
        "groupBy": ["$count", "", "$day:"],
        "filter": "a ==",
        "rules": {"$a": "b == 1", "c": "d =", "r": "a == 1"},
        "sorts": ["zz:desc"],
    }
    refused = nora.ask("POST", f"/drop/{flow}/aggregate", body)

    assert refused.status == 400
    assert [each.split(":")[0] for each in refused.errors] == [
        "filter",
        "rules",
        "rules.c",
        *(f"groupBy.{at}" for at in range(3)),
        *(f"output.{at}" for at in range(6)),
        "sorts.0",
    ]
    noted = nora.ask(
        "POST", f"/drop/{flow}/aggregate?limit=1", {"output": ["$count"], "outputs": []}
    )
    assert (noted.status, len(noted.notes)) == (200, 2)


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ([], "body: must be an object"),
        ({}, "output: is required"),
        ({"output": []}, "output: is empty"),
        ({"output": "$count"}, "output: must be an array of texts"),
        ({"output": ["$count"], "groupBy": "a"}, "groupBy: must be an array of texts"),
        ({"output": ["$count"], "rules": []}, "rules: must be an object"),
        ({"output": ["$count"] * 101}, "output: has 101 entries, the limit is 100"),
        ({"output": ["$count"], "filter": ["a == 1"]}, "filter: must be a filter as a text"),
        ({"output": ["$count"], "filter": "a =~ /(/"}, "filter: "),
        ({"output": ["$count"], "rules": {"a": None}}, "rules.a: must be a filter as a text"),
    ],
)
def test_what_is_no_request(body, sentence):
    """400 with one sentence."""
    with pytest.raises(BadRequest) as caught:
        read_aggregation(body)

    assert len(caught.value.errors) == 1
    assert caught.value.errors[0].startswith(sentence)


def test_lists_and_rows_are_bounded(monkeypatch):
    """Too large a list, and too many rows, are refused."""
    asked = read_aggregation({"output": ["$all:a"], "groupBy": ["b"]})
    small = Groups(asked, now_ms=0, bytes_max=100)
    with pytest.raises(BadRequest, match="larger than"):
        small.add({"elems": {"a": "x" * 100}})

    monkeypatch.setattr(limits, "aggregate_rows_max", 2)
    groups = Groups(asked, now_ms=0)
    groups.add({"elems": {"b": 1}})
    groups.add({"elems": {"b": 2}})
    with pytest.raises(BadRequest, match="more than 2 rows"):
        groups.add({"elems": {"b": 3}})


def test_too_many_rows_are_refused_by_sql_too(nora, flow, monkeypatch):
    """The same sentence as in Python."""
    monkeypatch.setattr(limits, "aggregate_rows_max", 2)
    for output in (["$count"], ["$all:bench"]):
        refused = nora.ask(
            "POST", f"/drop/{flow}/aggregate", {"output": output, "groupBy": ["temp"]}
        )
        assert refused.errors == ["groupBy: makes more than 2 rows: use a filter or fewer keys"]


def test_who_may_not_read_drops_gets_nothing(nora, bob, flow):
    """404 for strangers; a Token needs dropRead, a public flow is for all accounts."""
    body, paths = {"output": ["$count"]}, {"/nora/green": {"dropRead": True}}
    address = f"/drop/{flow}/aggregate"
    token = nora.ask("POST", "/token", {"paths": paths}).body["tokenString"]
    writes = nora.ask("POST", "/token", {"paths": {"/nora/green": {"dropWrite": True}}})

    assert bob.ask("POST", address, body).status == 404
    header = {"x-auth-token": token}
    assert nora.ask("POST", address, body, headers=header).body == [{"$count": 5}]
    header = {"x-auth-token": writes.body["tokenString"]}
    assert nora.ask("POST", address, body, headers=header).status == 403
    nora.ask("PUT", f"/flow/{flow}", {"public": True})
    assert bob.ask("POST", address, body).body == [{"$count": 5}]


def test_a_caller_in_this_process_gets_the_same(nora, flow):
    """By id or path, with the rights of a credential."""

    def job(reader):
        who = credential_of(reader, reader.account("nora"), NOW_MS)
        return [
            aggregate_in(reader, who, place, {"output": ["$count"]}, now_ms=NOW_MS, places=None)
            for place in (flow, "/nora/green")
        ]

    assert nora.app.store.read(job) == [[{"$count": 5}]] * 2
