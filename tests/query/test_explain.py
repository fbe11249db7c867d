"""explain: which part failed, with which value, and what was not looked at."""

import strategies
from hypothesis import given

from flowkit.query.explain import explain
from flowkit.query.match import matches
from flowkit.query.parse import parse

DROP = {"creationDate": 10, "elems": {"temp": 12, "tags": ["a", "b"], "list": [{"x": 1}, {"x": 2}]}}


@given(strategies.near_filters(), strategies.drops())
def test_an_explanation_agrees_with_the_predicate(whole, drop):
    """What explain says of the whole is what matches says."""
    told = explain(whole, drop, now_ms=strategies.NOW_MS)

    assert told.held is matches(whole, drop, now_ms=strategies.NOW_MS)


def test_it_names_the_failing_part_and_its_value():
    """The text shows each part with its outcome and what was found there."""
    told = parse("EXISTS temp && temp > 20 && tags == 'a'").explain(DROP)

    assert not told
    assert str(told) == (
        "(EXISTS temp) && (temp > 20) && (tags == 'a')  [failed]\n"
        "  EXISTS temp  [held: temp is 12]\n"
        "  temp > 20  [failed: temp is 12]\n"
        "  tags == 'a'  [not looked at]"
    )


def test_it_shows_absent_members_and_several_values():
    """A member that is not there is absent; one that goes through an array has several values."""
    told = explain(parse("list.x > limit || NOT EXISTS other"), DROP)

    greater, negated = told.parts
    assert greater.held is False
    assert greater.seen == (("list.x", (1, 2)), ("limit", ()))
    assert "limit is absent" in str(greater)
    assert negated.held is True
    assert negated.parts[0].held is False


def test_reasons_are_the_rules_that_were_looked_at():
    """The innermost parts, without what a short circuit left out."""
    told = explain(parse("temp == 12 || temp == 13"), DROP)

    assert [reason.text for reason in told.reasons()] == ["temp == 12"]


def test_age_shows_the_date():
    """AGE without a member speaks of creationDate."""
    told = explain(parse("AGE > 100"), DROP, now_ms=50)

    assert told.seen == (("creationDate", (10,)),)
    assert not told.held


def test_long_values_are_cut():
    """A line of an explanation stays readable whatever the object holds."""
    told = explain(parse("text == 'a'"), {"elems": {"text": "x" * 5_000}})

    assert len(str(told)) < 120


def test_the_empty_filter_is_told_in_words():
    """The empty filter has no text, so a name stands for it."""
    assert str(explain(parse(""), DROP)) == "(the empty filter)  [held]"
