"""The parameters of a find."""

from __future__ import annotations

import pytest
import strategies
from hypothesis import given
from hypothesis import strategies as st

from flowkit import limits
from flowkit.errors import BadRequest, FilterError
from flowkit.query import mem
from flowkit.query.nodes import Everything
from flowkit.query.params import Query


def test_nothing_given_is_the_defaults():
    """Twenty objects, newest first (protocol 3.6)."""
    query = Query.from_wire({})

    assert query == Query()
    assert (query.start, query.limit, query.sort, query.order) == (0, 20, "creationDate", "desc")
    assert (query.filter, query.only, query.hints, query.unknown) == (Everything(), None, None, ())
    assert query.to_wire() == {}


@pytest.mark.parametrize(
    ("params", "member", "value"),
    [
        ({"filter": "temp > 20"}, "filter", mem.temp > 20),
        ({"filter": ""}, "filter", Everything()),
        ({"start": "3"}, "start", 3),
        ({"skip": 3}, "start", 3),
        ({"skip": "3", "start": 3}, "start", 3),
        ({"limit": "0"}, "limit", 0),
        ({"limit": limits.find_limit_max}, "limit", limits.find_limit_max),
        ({"limit": None}, "limit", 20),
        ({"sort": "elems.temp"}, "sort_path", ("elems", "temp")),
        ({"order": "ASC"}, "order", "asc"),
        ({"only": "id, elems.temp,id"}, "only", ("id", "elems.temp")),
        ({"only": ["a", "b"]}, "only", ("a", "b")),
        ({"only": ","}, "only", None),
        ({"refs": "True"}, "refs", True),
        ({"refs": 0}, "refs", False),
        ({"hints": "false"}, "hints", False),
        ({"hints": True}, "hints", True),
        ({"pretty": "TRUE"}, "pretty", True),
        ({"explain": 1}, "explain", True),
        ({"positions": "1"}, "positions", True),
        ({"path": "/nora/a"}, "path", "/nora/a"),
        ({"zig": "1", "limit": "1", "Limit": "2"}, "unknown", ("zig", "Limit")),
    ],
)
def test_each_parameter_is_read(params, member, value):
    """As texts of a URL and as values of a JSON body."""
    assert getattr(Query.from_wire(params), member) == value


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ({"filter": "a == "}, "filter: expected a value at column 6"),
        ({"filter": "a = 1"}, "filter: expected an operator after the member at column 3 (equ"),
        ({"filter": 5}, "filter: a text is needed, not 5"),
        ({"filter": "NOT " * 70}, "filter: the nesting of the filter is 66 groups"),
        ({"limit": "-1"}, "limit: a whole number from 0 is needed, not '-1'"),
        ({"limit": "x"}, "limit: a whole number from 0 is needed, not 'x'"),
        ({"limit": True}, "limit: a whole number from 0 is needed, not True"),
        ({"limit": 2.5}, "limit: a whole number from 0 is needed, not 2.5"),
        ({"limit": "9" * 5000}, "limit: a whole number from 0 is needed, not '999"),
        ({"limit": 100_001}, "limit: 100001 is more than the most allowed, 100000"),
        ({"start": []}, "start: a whole number from 0 is needed, not []"),
        ({"start": 1, "skip": 2}, "skip and start are the same and differ here"),
        ({"sort": "a,b"}, "sort: one member only, not 'a,b'"),
        ({"sort": "a..b"}, "sort: 'a..b' names no member: a part of it is empty"),
        ({"sort": 5}, "sort: the name of a member is needed, not 5"),
        ({"order": "geo"}, "order: sorting by distance (geo) is not available, use asc or desc"),
        ({"order": "up"}, "order: asc or desc is needed, not 'up'"),
        ({"only": 5}, "only: names with commas between are needed, not 5"),
        ({"only": [5]}, "only: the name of a member is needed, not 5"),
        ({"refs": "yes"}, "refs: 0, 1, true or false is needed, not 'yes'"),
        ({"refs": 2}, "refs: 0, 1, true or false is needed, not 2"),
        ({"path": 5}, "path: a path is needed, not 5"),
    ],
)  # fmt: skip
def test_each_fault_has_one_sentence(params, sentence):
    """The sentence names the parameter and what was given."""
    with pytest.raises(BadRequest) as caught:
        Query.from_wire(params)

    assert len(caught.value.errors) == 1
    assert caught.value.errors[0].startswith(sentence)


def test_every_fault_is_told_at_once():
    """A caller need not repair one to learn of the next."""
    with pytest.raises(BadRequest) as caught:
        Query.from_wire({"filter": "a", "limit": "x", "order": "up", "zig": 1})

    assert [error.partition(":")[0] for error in caught.value.errors] == [
        "filter",
        "limit",
        "order",
    ]


def test_a_filter_with_an_unknown_value_cannot_be_sent():
    """The client resolves it first."""

    class Late:
        __flowkit_thunk__ = True

    with pytest.raises(FilterError, match="not known yet"):
        Query(filter=mem.a == Late()).to_wire()


NAMES = st.sampled_from(["id", "temp", "elems.temp", "größe", "odd name"])


@given(
    st.builds(
        Query,
        filter=strategies.filters(),
        start=st.integers(0, 2**62),
        limit=st.integers(0, limits.find_limit_max),
        sort=NAMES,
        order=st.sampled_from(["asc", "desc"]),
        only=st.none() | st.lists(NAMES, min_size=1, unique=True).map(tuple),
        refs=st.booleans(),
        hints=st.none() | st.booleans(),
        path=st.none() | st.just("/nora/a"),
        explain=st.booleans(),
        positions=st.booleans(),
        pretty=st.booleans(),
    )
)
def test_what_is_written_reads_back_as_the_same_query(query):
    """from_wire(to_wire()) is the query again, and all of it is text."""
    wire = query.to_wire()

    assert all(type(value) is str for value in wire.values())
    assert Query.from_wire(wire) == query


JSON = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.lists(st.text())
)


@given(st.dictionaries(st.sampled_from([*Query.__slots__, "skip"]), JSON))
def test_any_parameters_are_read_or_refused(params):
    """Whatever comes, a query or a BadRequest with sentences."""
    told = ["read"]
    try:
        Query.from_wire(params)
    except BadRequest as refused:
        told = refused.errors
    assert told
