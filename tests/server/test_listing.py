"""A find over documents in Python, against the one that SQL does over the same flows."""

import hypothesis.strategies as st
from hypothesis import given, settings

from flowkit.query.params import Query
from flowkit.query.parse import parse
from flowkit.query.patterns import search
from flowkit.server.listing import look, members_of
from flowkit.server.plan import plan_find
from flowkit.server.store.sqlite import open_store

FLOWS = st.lists(
    st.fixed_dictionaries(
        {"path": st.integers(0, 99).map("/nora/f{}".format), "capacity": st.integers(0, 5)},
        optional={
            "description": st.sampled_from(["", "a", "b", "\u00e9", "\U0001f600"]),
            "public": st.booleans(),
            "history": st.integers(0, 3),
        },
    ),
    max_size=8,
    unique_by=lambda flow: flow["path"],
)
ASKED = st.fixed_dictionaries(
    {},
    optional={
        "sort": st.sampled_from(
            ["capacity", "description", "public", "history", "path", "nothing"]
        ),
        "order": st.sampled_from(["asc", "desc"]),
        "start": st.integers(0, 3),
        "limit": st.integers(0, 9),
        "filter": st.sampled_from(
            ["capacity > 2", "EXISTS description", "path =~ /f[0-4]/", "public == true", "AGE > 0"]
        ),
    },
)


def look_at(docs, asked):
    """What ``look`` answers."""
    return look(docs, asked, "flow", now_ms=2_000, places=None, search=search)


@settings(deadline=None, max_examples=60)
@given(flows=FLOWS, asked=ASKED)
def test_documents_are_found_as_sql_finds_them(tmp_path_factory, flows, asked):
    """Filter, order, ties, start and limit are those of a find in the store."""
    query = Query.from_wire(asked)
    store = open_store(tmp_path_factory.mktemp("store"), synchronous="OFF", clock_ms=lambda: 1_000)
    try:
        store.write(lambda writer: [writer.create_flow(one, creator="i" * 25) for one in flows])
        plan = plan_find("flow", query, now_ms=2_000, under=["/nora"])
        wanted = store.read(lambda reader: reader.find(plan)).objects
        everything = plan_find("flow", Query.from_wire({"limit": 100}), now_ms=0, under=["/nora"])
        docs = store.read(lambda reader: reader.find(everything)).objects
    finally:
        store.close()

    assert look_at(docs, query) == wanted


def test_a_sort_reaches_into_maps_and_arrays():
    """A dotted name leads into maps, a number into arrays; what is not there comes last."""
    docs = [
        {"id": "t1", "metadata": {"rows": [{"x": 2}]}},
        {"id": "t2", "metadata": {"rows": []}},
        {"id": "t3", "metadata": {"rows": [{"x": 1}]}},
    ]
    asked = Query.from_wire({"sort": "metadata.rows.0.x", "order": "asc"})
    found = look(docs, asked, "track", now_ms=0, places=None, search=search)

    assert [doc["id"] for doc in found] == ["t3", "t1", "t2"]


def test_the_members_of_a_filter_are_those_of_all_its_rules():
    """Both sides of a comparison; a rule about no member has none."""
    asked = parse("NOT (a.b == 1 || EXISTS c) && d < e && AGE > 5 && MATCHES /x/")

    assert set(members_of(asked)) == {("a", "b"), ("c",), ("d",), ("e",)}
    assert list(members_of(parse(""))) == []
