"""The predicate: the truth table, surroundings, caching, and objects of any shape."""

import pytest
import strategies
import truth
from hypothesis import given
from hypothesis import strategies as st

from flowkit.errors import FilterError
from flowkit.query.explain import explain
from flowkit.query.match import matches, predicate
from flowkit.query.nodes import (
    Age,
    And,
    Comparison,
    Contains,
    In,
    Not,
    Or,
    Placeholder,
    Regex,
    Within,
    Zip,
)
from flowkit.query.parse import parse
from flowkit.query.render import render


@pytest.mark.parametrize("case", truth.cases(), ids=lambda case: f"{case.text} | {case.written}")
def test_the_truth_table_holds(case):
    """Every line is what the predicate answers, that of the text read back, and explain."""
    whole = parse(case.text)

    assert matches(whole, case.drop, now_ms=truth.NOW_MS) is case.holds
    assert matches(parse(render(whole)), case.drop, now_ms=truth.NOW_MS) is case.holds
    assert explain(whole, case.drop, now_ms=truth.NOW_MS).held is case.holds


def test_the_page_of_the_truth_table_is_made_from_the_data():
    """The documentation shows the table that the tests hold; ``python tests/truth.py`` writes
    it."""
    assert truth.PAGE.read_text(encoding="utf-8") == truth.as_page()


@given(strategies.near_filters(), strategies.drops())
def test_not_is_the_opposite(whole, drop):
    """A filter and its negation never agree about an object."""
    held = matches(whole, drop, now_ms=strategies.NOW_MS)

    assert matches(Not(whole), drop, now_ms=strategies.NOW_MS) is not held


@given(strategies.near_filters(), strategies.near_filters(), strategies.drops())
def test_chains_are_what_their_words_say(one, other, drop):
    """``&&`` and ``||`` are Python's ``and`` and ``or`` of the parts."""
    left, right = (matches(part, drop, now_ms=strategies.NOW_MS) for part in (one, other))

    assert matches(And((one, other)), drop, now_ms=strategies.NOW_MS) is (left and right)
    assert matches(Or((one, other)), drop, now_ms=strategies.NOW_MS) is (left or right)


@given(strategies.near_paths(), strategies.near_literals(), strategies.drops())
def test_unequal_is_the_negation_of_equal(path, value, drop):
    """``!=`` holds exactly where ``==`` does not, for any value anywhere."""
    equal = matches(Comparison(path, "==", value), drop)

    assert matches(Comparison(path, "!=", value), drop) is not equal


LISTS = st.lists(strategies.near_literals(), max_size=3)


@given(strategies.near_paths(), LISTS, strategies.drops())
def test_in_is_a_chain_of_comparisons(path, values, drop):
    """``IN`` is ``==`` with any of the values, but that an absent member is in no list."""
    present = not matches(Comparison(path, "==", None), drop) or matches(In(path, (None,)), drop)
    equal = [matches(Comparison(path, "==", value), drop) for value in values]

    assert matches(In(path, tuple(values)), drop) is (present and any(equal))


@given(strategies.near_filters(), strategies.drops())
def test_a_filter_means_the_same_after_a_round_trip(whole, drop):
    """The text of a filter, read back, matches the same objects."""
    read_back = parse(render(whole))

    held = matches(whole, drop, now_ms=strategies.NOW_MS)
    assert matches(read_back, drop, now_ms=strategies.NOW_MS) is held


@given(strategies.filters(), st.dictionaries(st.text(max_size=3), strategies.element_values()))
def test_no_object_makes_a_predicate_raise(whole, obj):
    """Whatever an object holds, a predicate answers true or false, or refuses by our own error."""
    for resource in ("drop", "flow"):
        try:
            held = predicate(whole, resource)(obj, 0, lambda code: (0.0, 0.0))
        except FilterError:
            continue
        assert held in (True, False)


ODD = [float("nan"), float("inf"), 10**400, b"x", object(), ("x",), {1, 2}, "\ud800", [[]]]


@pytest.mark.parametrize("value", ODD, ids=lambda value: type(value).__name__)
def test_values_that_no_json_holds_are_answered_too(value):
    """A predicate in the user's own process meets anything; it is unequal, not a fault."""
    drop = {"elems": {"a": value, "b": [value], "location": {"lat": value, "lon": value}}}
    texts = ["a == 1", "a < 1", "a % 2 == 0.5", "a % 2.5 == 0.5", "b == 'x'", "a == b"]
    texts += ["a IN [1,'a']", "b CONTAINS [1]", "a =~ /a/", "AGE('a') == 1"]
    texts += ["elems.location WITHIN 30000 KM OF [0,0]"]

    for text in texts:
        assert matches(parse(text), drop, now_ms=0) is False
        assert matches(Not(parse(text)), drop, now_ms=0) is True


def test_other_resources_take_names_as_they_stand():
    """Only on a Drop is a bare name an element (4.2)."""
    flow = {"path": "/nora/a", "capacity": 10, "elems": {"temp": 1}}

    assert matches(parse("capacity == 10"), flow, resource="flow")
    assert not matches(parse("capacity == 10"), flow, resource="drop")
    assert not matches(parse("temp == 1"), flow, resource="flow")
    assert matches(parse("elems.temp == 1"), flow, resource="flow")


def test_matches_never_looks_at_secrets():
    """The text of a token is no text that a pattern may find (4.5.7)."""
    token = {"description": "bench", "tokenString": "s3cr3t", "paths": {"/nora/a": {"x": "deep"}}}

    assert not matches(parse("MATCHES /s3cr3t/"), token, resource="token")
    assert matches(parse("MATCHES /bench/"), token, resource="token")
    assert matches(parse("MATCHES /deep/"), token, resource="token")


TYPES = {"elems.when": "date", "elems.n": "float", "elems.a\\.b": "email", "elems.list.0": "uri"}
TYPED = {"elems": {"when": 5, "n": 5, "a.b": "x@y.z", "list": ["http://x"]}}


@pytest.mark.parametrize(
    ("name", "holds"),
    [
        *((name, True) for name in ("date", "float", "email", "uri", "list")),
        *((name, False) for name in ("integer", "string", "map")),
    ],
)
def test_has_asks_the_type_map_first(name, holds):
    """A typed element has the type that was written, and only that one (4.5.9)."""
    assert matches(parse(f"HAS {name}"), TYPED, types=TYPES) is holds


def test_age_needs_to_know_the_time():
    """A filter with AGE says so when it is asked without a time, whatever the object."""
    with pytest.raises(FilterError, match="now_ms"):
        matches(parse("a == 1 && AGE < 5"), {"elems": {}})


def test_a_zip_code_needs_a_table():
    """Without a table of postal codes the rule is refused, as the protocol says; with one it
    works."""
    near = Within(("location",), 5, "KM", Zip("11201"))
    drop = {"location": {"lat": 40.7, "lon": -74.0}}

    with pytest.raises(FilterError, match="filter: ZIP lookup is not available"):
        matches(near, drop)
    with pytest.raises(FilterError, match="ZIP 11201 is not known"):
        matches(near, drop, places=lambda code: None)
    assert matches(near, drop, places=lambda code: (40.69, -73.99))


PENDING = Placeholder(object(), "notebook.py:12", str)


@pytest.mark.parametrize(
    "node",
    [
        Comparison(("a",), "==", PENDING),
        In(("a",), (1, PENDING)),
        In(("a",), PENDING),
        Contains(("a",), PENDING),
        Regex(("a",), PENDING, ""),
        Age(None, "<", PENDING),
        Within(("a",), PENDING, "KM", (0, 0)),
        Within(("a",), 1, "KM", PENDING),
    ],
    ids=lambda node: type(node).__name__,
)
def test_a_value_not_known_yet_is_refused_with_its_line(node):
    """A placeholder cannot be evaluated; the error names the line that built the rule."""
    with pytest.raises(FilterError, match=r"notebook\.py:12 is not known yet"):
        predicate(node)


def test_equal_filters_share_one_function():
    """The function is made once per distinct filter and resource; 1 and true are distinct."""
    assert predicate(parse("a == 1")) is predicate(parse("a  ==  1"))
    assert predicate(parse("a == 1")) is not predicate(parse("a == true"))
    assert predicate(parse("a == 1")) is not predicate(parse("a == 1.0"))
    assert predicate(parse("a == 1")) is not predicate(parse("a == 1"), "flow")


def test_no_name_or_value_gets_into_the_source():
    """Whatever stands in a filter is a constant of the function, never part of its code."""
    evil = "'); import os; ('"
    whole = And(
        (Comparison(("a", evil), "==", evil), In((evil,), (evil,)), Regex((evil,), "x", ""))
    )

    code = predicate(whole).__code__
    assert evil not in code.co_consts
    assert not any(evil in name for name in code.co_names)


def test_the_time_of_patterns_can_be_counted():
    """A server passes a search of its own, which sees every pattern and text."""
    seen = []

    def search(compiled, text):
        seen.append(text)
        return False

    whole = parse("a =~ /x/ || b =~ /y/ || MATCHES /z/")
    predicate(whole)({"elems": {"a": "1", "b": ["2", 3]}, "path": "/p"}, None, None, None, search)

    assert seen[:2] == ["1", "2"]
    assert set(seen[2:]) == {"1", "2", "/p"}


def test_a_large_filter_compiles():
    """A filter at the bounds of the language is one function like any other."""
    rules = tuple(Comparison((f"m{n}",), "==", n) for n in range(1_000))
    drop = {"elems": {f"m{n}": n for n in range(1_000)}}

    assert matches(And(rules), drop)
    assert matches(Or((*rules[:-1], Comparison(("z",), "==", 1))), drop)
    nested = rules[0]
    for _ in range(31):
        nested = Not(nested)
    assert matches(nested, drop) is False
