"""Filters as SQL: what goes to the database, what stays, and that both say the same."""

import apsw
import pytest
import strategies
import truth
from hypothesis import given, settings
from hypothesis import strategies as st
from together import agreement

from flowkit.errors import FilterError
from flowkit.query.match import matches
from flowkit.query.nodes import And, Comparison, Contains, Filter, In, MemberComparison, Not, Or
from flowkit.query.params import Query
from flowkit.query.parse import parse
from flowkit.server.plan import plan_find
from flowkit.server.sql import Parameters, Translator, conjunction
from flowkit.server.sql.values import disjunction

CONSTANTS = {"flowId": agreement.FLOW.id, "path": agreement.FLOW.path}


def split(text: str | Filter, resource: str = "drop"):
    """The conditions and the rest of a filter."""
    whole = parse(text) if isinstance(text, str) else text
    translator = Translator(
        resource, Parameters(), constants=CONSTANTS, now_ms=truth.NOW_MS, places=None
    )
    return translator.split(whole)


@pytest.mark.parametrize("case", truth.cases(), ids=lambda case: f"{case.text} | {case.written}")
def test_the_truth_table_holds_in_sql(case):
    """Every line of the truth table is what a plan finds, for a drop stored as the store does."""
    doc = {"id": "d1", "version": 0, "creationDate": 0, **case.drop}
    flow = agreement.FLOW
    doc |= {"flowId": flow.id, "path": doc.get("path", flow.path)}
    flow = type(flow)(1, {**flow.doc, "path": doc["path"]}, 0, "e", 0, 0)
    batch = agreement.Batch("drop", [(doc, {})])

    plan = plan_find("drop", Query(filter=parse(case.text)), now_ms=truth.NOW_MS, flow=flow)
    assert (batch.by_plan(plan) == {"d1"}) is case.holds


SAID_IN_SQL = [
    "temp > 20", "temp == null", "temp != true", "a.b.c == 1", "list.0 == 'a'", "a.0.b != 1",
    "temp IN [1,'a',null]", "tags CONTAINS ['a',1]", "tags CONTAINS []", "EXISTS a.b",
    "EXISTS elems",
    "EXISTS location", "location == null", "text =~ /a/i", "MATCHES /a/", "HAS integer", "HAS odd",
    "AGE < 5", "AGE('a') < 5.5", "AGE('lastEditDate') > 5", "location WITHIN 5 KM OF [1,2]",
    "a.b WITHIN 5 KM OF [1,2]", "serial % 3 == 1", "serial % 2.5 != 1", "a == b",
    "a < version",
    "path == fhash", "path =~ /nora/", "flowId == 'f1'", "creationDate > 5", "fhash IN ['a','b']",
    "a == 1 || b == 2", "NOT (a == 1 && b.c == 2)", "['odd name'] == 1", "seq == 1",
    "version.x == 1",
    "location.lat > 5", "parentDropId.flowId == 'x'", "fhash == 5", "version == 'x'", "",
]  # fmt: skip


@pytest.mark.parametrize("text", SAID_IN_SQL)
def test_sql_says_all_of_these(text):
    """What SQL can say exactly leaves nothing to Python."""
    assert split(text)[1] == []


LEFT = ["a.b.c.d == 1", "a.b == c", "elems == location", "['a\"b'] == 1", "elems CONTAINS ['a']"]


@pytest.mark.parametrize("text", LEFT[:2] + LEFT[3:])
def test_python_says_these(text):
    """What SQL cannot say exactly is left as it is."""
    assert split(text) == ([], [parse(text)])


def test_values_that_sqlite_cannot_hold_are_left():
    """Half a surrogate pair cannot be bound; long lists of CONTAINS cost less in Python."""
    half = Comparison(("a",), "==", "\ud800")
    many = Contains(("a",), tuple(range(101)))

    assert split(half) == ([], [half])
    assert split(many) == ([], [many])
    assert split("AGE < 9223372036854775807 && AGE > -9223372036854775807")[1] == [
        parse("AGE > -9223372036854775807")
    ]


def test_an_and_is_shared():
    """Conjuncts that SQL can say go to SQL, the others stay together."""
    conditions, rest = split("temp > 20 && a.b == c && EXISTS d && x.y == z")

    assert len(conditions) == 2
    assert rest == [parse("a.b == c"), parse("x.y == z")]


def test_an_or_goes_whole_or_not_at_all():
    """One branch that SQL cannot say keeps the whole OR, and a NOT, in Python."""
    assert split("temp > 20 || a.b == c") == ([], [parse("temp > 20 || a.b == c")])
    assert split("NOT (temp > 20 && a.b == c)") == ([], [parse("NOT (temp > 20 && a.b == c)")])


def test_rules_on_flow_and_path_of_a_drop_are_answered_once():
    """All drops of a find share them, so that their rules are constants."""
    assert split("path == '/nora/north'") == (["1"], [])
    assert split("path =~ /south/") == (["0"], [])
    assert split("NOT path =~ /south/") == (["NOT 0"], [])


HOSTILE = ["'; DROP TABLE flow; --", '" OR 1=1', "?1", ":x", "{}", "a\x00b", "$.a", "%s", "\\", "%"]


@pytest.mark.parametrize("text", HOSTILE, ids=repr)
def test_nothing_that_users_write_is_part_of_a_statement(text):
    """Names, values, patterns and types travel as parameters."""
    whole = And(
        (
            Comparison((text,), "==", text),
            Comparison(("a", text), "==", text),
            In((text,), (text, 5)),
            Contains((text,), (text,)),
            MemberComparison((text,), "==", (text,)),
            parse(f"HAS {'odd'}"),
        )
    )
    plan = agreement.Batch("drop", []).plan(whole)

    for part in ("DROP TABLE", "OR 1=1", ":x", "\x00", "$.a", "%s", "odd"):
        assert part not in plan.sql


@settings(max_examples=50)
@given(strategies.filters())
def test_any_filter_makes_a_statement_that_runs(whole):
    """Whatever a filter holds, its plan is a statement of SQLite that runs."""
    batch = agreement.Batch("drop", [(agreement.Draw(1).drop(1).doc, {})])
    try:
        plan = batch.plan(whole)
    except FilterError:
        return
    batch.budget.start()

    batch.connection.execute(*plan.statement()).fetchall()


def test_the_largest_filters_run():
    """A filter at the bounds of the language stays within SQLite's own."""
    drop = agreement.Draw(1).drop(1)
    drop.doc["elems"] = {f"m{n}": n for n in range(1_000)}
    batch = agreement.Batch("drop", [(drop.doc, {})])
    rules = tuple(Comparison((f"m{n}",), "==", n) for n in range(1_000))
    nested: Filter = rules[0]
    for _ in range(31):
        nested = Not(nested)
    listed = In(("m5",), tuple(range(10_000)))

    for whole, holds in ((And(rules), True), (Or(rules), True), (nested, False), (listed, True)):
        plan = batch.plan(whole)
        assert plan.rest is None
        assert bool(batch.by_plan(plan)) is holds is matches(whole, drop.doc)


@given(st.lists(st.sampled_from(["0", "1"]), max_size=40))
def test_chains_are_balanced(conditions):
    """Joined conditions mean all or any of them, in a tree whose depth is a logarithm."""
    opened = apsw.Connection(":memory:")
    every, some = conjunction(conditions), disjunction(conditions)

    assert opened.execute(f"SELECT {every}").get == ("0" not in conditions)
    assert opened.execute(f"SELECT {some}").get == ("1" in conditions)
    depth = max(
        (every[:at].count("(") - every[:at].count(")") for at in range(len(every))), default=0
    )
    assert depth <= 6


def test_parameters_are_numbered_once():
    """Equal values of one type share a parameter; 1, 1.0 and true do not."""
    parameters = Parameters()

    assert [parameters.add(value) for value in (1, "a", 1, 1.0, True, -0.0, 0.0)] == [
        "?1", "?2", "?1", "?3", "?4", "?5", "?6",
    ]  # fmt: skip
    assert parameters.of("x = ?2") == (1, "a")
    assert parameters.of("1") == ()


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=50))
def test_numbers_come_back_from_the_store_exactly(numbers):
    """SQLite reads every double of a stored drop as that very double; comparisons rest on it."""
    opened = apsw.Connection(":memory:")
    body = apsw.jsonb_encode({"n": numbers})

    back = [value for (value,) in opened.execute("SELECT value FROM json_each(?, '$.n')", (body,))]
    assert list(map(repr, back)) == list(map(repr, numbers))
