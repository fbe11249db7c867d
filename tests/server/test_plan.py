"""Plans: order, paging, what may be seen, and the index that each uses, on the store's tables."""

import functools

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from together import agreement

from flowkit.errors import BadRequest, FilterError
from flowkit.query import meaning
from flowkit.query.match import predicate
from flowkit.query.params import Query
from flowkit.query.parse import parse
from flowkit.server.plan import plan_find
from flowkit.server.store.base import StoredDrop

NOW_MS = agreement.NOW_MS


@pytest.fixture(scope="module")
def batch():
    """Eighty drops whose members mix all types."""
    return agreement.draw_batch(agreement.Draw("plans"), 80)


def plan(query: Query, **given):
    """A plan of the drops of the one flow."""
    given = {"now_ms": NOW_MS, "flow": agreement.FLOW, "places": agreement.places, **given}
    return plan_find("drop", query, **given)


def found(batch, query: Query) -> list[str]:
    """The ids that a plan finds, in order, paged as the store does it."""
    made = plan(query)
    objects = [made.document(row) for row in batch.connection.execute(*made.statement())]
    if made.remainder is not None:
        passed = [one for one in objects if made.remainder(one)]
        objects = passed[made.start : made.start + made.limit]
    return [one.doc["id"] for one in objects]


def rank(value) -> int:
    """Numbers, strings, false, true, everything else (3.6)."""
    if isinstance(value, bool):
        return 2 + value
    return 0 if isinstance(value, int | float) else 1 if isinstance(value, str) else 4


def expected_order(documents, path, order: str) -> list[str]:
    """The ids as protocol 3.6 sorts them, worked out in Python."""
    sign = -1 if order == "desc" else 1

    def compare(one, other) -> int:
        (left, left_id), (right, right_id) = one, other
        absent = [value is None or value is meaning.ABSENT for value in (left, right)]
        if any(absent) and not all(absent):
            return 1 if absent[0] else -1
        if not any(absent):
            if rank(left) != rank(right):
                return sign * (-1 if rank(left) < rank(right) else 1)
            if rank(left) < 2 and left != right:
                return sign * (-1 if left < right else 1)
        return sign * ((left_id > right_id) - (left_id < right_id))

    values = [(straight(doc, path), doc["id"]) for doc in documents]
    return [doc_id for _, doc_id in sorted(values, key=functools.cmp_to_key(compare))]


def straight(doc, path):
    """The value at a path that goes through maps and indexes only."""
    value = doc
    for segment in meaning.resolve(path, "drop"):
        if isinstance(value, list) and not meaning.is_index(segment):
            return meaning.ABSENT
        value = meaning.walk(value, (segment,))
    return value


SORTS = [
    "creationDate", "lastEditDate", "version", "fhash", "id", "path", "creatorId", "location",
    "location.lat", "a", "elems.a", "temp", "tags", "tags.0", "a.b", "b.1.c", "nothing",
    "version.x",
]  # fmt: skip


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("sort", SORTS)
def test_the_order_is_that_of_the_protocol(batch, sort, order):
    """Types in their order, absent and null last both ways, ties by id in the same direction."""
    documents = [doc for doc, _ in batch.documents]
    path = tuple(sort.split("."))

    asked = Query(limit=100, sort=sort, order=order)
    assert found(batch, asked) == expected_order(documents, path, order)


@settings(max_examples=60)
@given(st.integers(0, 90), st.integers(0, 90), st.integers(0, 10**9), st.sampled_from(SORTS))
def test_a_page_is_a_slice_of_the_whole(batch, start, limit, seed, sort):
    """Start and limit cut the same piece, whoever counts: SQL or the scan."""
    asked = agreement.Draw(seed).filter()
    documents = [doc for doc, _ in batch.documents]
    types = {doc["id"]: types for doc, types in batch.documents}
    passes = predicate(asked)
    matching = [doc for doc in documents if passes(doc, NOW_MS, agreement.places, types[doc["id"]])]

    whole = expected_order(matching, tuple(sort.split(".")), "desc")
    page = found(batch, Query(filter=asked, start=start, limit=limit, sort=sort))
    assert page == whole[start : start + limit]


def test_only_live_rows_of_the_flow_are_found(batch):
    """Ended rows and the drops of other flows are never candidates."""
    batch.connection.execute("SAVEPOINT other")
    try:
        batch.connection.execute("UPDATE drop_row SET until = 1000 + seq, flow = 2 WHERE seq <= 10")
        batch.connection.execute("UPDATE drop_row SET until = 1000 + seq WHERE seq <= 20")
        batch.connection.execute("UPDATE drop_row SET flow = 2 WHERE seq <= 30")
        assert len(found(batch, Query(limit=100))) == 50
    finally:
        batch.connection.execute("ROLLBACK TO other")
        batch.connection.execute("RELEASE other")


INDEXES = [
    ("", "creationDate", "live_by_date (flow=?)", False),
    ("a == 1", "creationDate", "live_by_date (flow=?)", False),
    ("a.b == c", "creationDate", "live_by_date (flow=?)", False),
    ("creationDate > 5", "creationDate", "live_by_date (flow=? AND creation_date>?)", False),
    ("fhash == 'k'", "creationDate", "live_by_fhash (flow=? AND fhash=?)", None),
    ("a == 1 && fhash == 'k' && b == 2", "a", "live_by_fhash (flow=? AND fhash=?)", None),
    ("", "temp", "PRIMARY KEY (flow=?)", True),
]


@pytest.mark.parametrize(("text", "sort", "index", "sorts"), INDEXES)
def test_a_plan_uses_the_index_that_it_names(batch, text, sort, index, sorts):
    """SQLite's own account names that index; the default order needs no sorting."""
    made = plan(Query(filter=parse(text), sort=sort))
    sql, params = made.statement()

    told = [row[3] for row in batch.connection.execute(f"EXPLAIN QUERY PLAN {sql}", params)]
    assert index in told[0]
    assert (made.index or "PRIMARY KEY") in told[0]
    if sorts is not None:
        assert any("TEMP B-TREE" in line for line in told) is sorts


def test_a_flow_is_found_under_whole_segments_only():
    """``/nora/home`` covers itself and what is below it, not ``/nora/homework`` (1.3)."""
    paths = ["/nora/home", "/nora/home/a", "/nora/homework", "/nora/hom", "/nora/home-b", "/bob/x"]
    flows = [
        {"id": f"f{at}", "path": path, "capacity": 1, "creationDate": at}
        for at, path in enumerate(paths)
    ]
    batch = agreement.Batch("flow", [(flow, {}) for flow in flows])

    def seen(under):
        made = plan_find("flow", Query(order="asc"), now_ms=NOW_MS, under=under)
        rows = batch.connection.execute(*made.statement())
        return [made.document(row)["path"] for row in rows]

    assert seen(["/nora/home"]) == ["/nora/home", "/nora/home/a"]
    assert seen(["/nora/home", "/bob"]) == ["/nora/home", "/nora/home/a", "/bob/x"]
    assert seen(["/nora"]) == paths[:5]
    assert seen([]) == []


def test_identities_are_found_among_those_named():
    """Without a list of ids nobody is found; with one, only they."""
    opened = apsw.Connection(":memory:")
    agreement.schema.create_tables(opened, ":memory:")
    agreement.functions.install(opened)
    for name in ("nora", "bob"):
        opened.execute(
            "INSERT INTO identity (id, name, creation_date) VALUES (?, ?, 5)", (f"i-{name}", name)
        )

    def seen(under, text=""):
        asked = Query(filter=parse(text))
        made = plan_find("identity", asked, now_ms=NOW_MS, under=under)
        return [made.document(row)["name"] for row in opened.execute(*made.statement())]

    assert seen(["i-nora"]) == ["nora"]
    assert seen(["i-nora", "i-bob"], "name =~ /^b/") == ["bob"]
    assert seen(["i-nora"], "name == 'bob'") == []
    assert seen([]) == []


def test_a_flow_document_leaves_out_what_is_unset():
    """Unset members are absent to filters and in answers, not null."""
    flow = {"id": "f1", "path": "/nora/a", "capacity": 1, "creationDate": 5, "public": False}
    batch = agreement.Batch("flow", [(flow, {})])

    assert batch.by_plan(batch.plan(parse("description == null && public == false"))) == {"f1"}
    assert batch.by_plan(batch.plan(parse("public != true && public != 0"))) == {"f1"}
    made = batch.plan(parse(""))
    assert [made.document(row) for row in batch.connection.execute(*made.statement())] == [flow]


def test_a_plan_tells_what_it_does():
    """The answer to explain=1 names what SQL does, what Python does, and the index."""
    told = plan(Query(filter=parse("temp > 20 && a.b == c"))).describe()

    assert told["filterInPython"] == "a.b == c"
    assert "json_type(elems" in told["filterInSql"]
    assert told["limitIn"] == "python"
    assert told["index"] == "live_by_date"
    assert told["sql"].startswith("SELECT ")
    assert told["parameters"] == 3


def test_a_plan_without_remainder_limits_in_sql(batch):
    """What SQL says whole it also counts out."""
    made = plan(Query(filter=parse("EXISTS elems"), limit=3))

    assert made.remainder is None
    assert len(batch.connection.execute(*made.statement()).fetchall()) == 3
    assert isinstance(
        made.document(batch.connection.execute(*made.statement()).fetchone()), StoredDrop
    )


def test_what_cannot_be_planned_is_refused():
    """An unknown postal code and a bad pattern are refused before a row is read."""
    for text in (
        "a.b == c && a WITHIN 1 KM OF [ZIP=99999]",
        "a.b == c || a WITHIN 1 KM OF [ZIP=1]",
    ):
        with pytest.raises(FilterError, match="is not known"):
            plan(Query(filter=parse(text)))
        with pytest.raises(FilterError, match="ZIP lookup is not available"):
            plan(Query(filter=parse(text)), places=None)
    with pytest.raises(FilterError, match="look-ahead"):
        plan(Query(filter=parse("a.b == c || a =~ /(?=x)/"))).accepts(lambda *_: True)
    with pytest.raises(BadRequest, match="sort"):
        plan(Query(sort="a.1.2.3.4.5"))


def test_the_remainder_counts_the_time_of_patterns(batch):
    """A search of the server's own is asked for every pattern that Python looks for."""
    seen = []

    def search(compiled, text):
        seen.append(text)
        return True

    made = plan(Query(filter=parse("path =~ /x/ || (a.b != c && path =~ /nora/)")))
    passes = made.accepts(search)
    row = batch.connection.execute(*made.statement()).fetchone()

    assert passes(made.document(row))
    assert seen == [agreement.FLOW.path]
