"""explain: which part failed, with which value, and what was not looked at."""

import pytest
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


def test_age_shows_the_date_and_the_age():
    """AGE without a member speaks of creationDate; the age is what was compared."""
    told = explain(parse("AGE > 100"), DROP, now_ms=50)

    assert told.seen == (("creationDate", (10,)), ("its age in ms", (40,)))
    assert not told.held
    assert explain(parse("AGE('tags') > 1"), DROP, now_ms=50).seen == (("tags", (["a", "b"],)),)


@pytest.mark.parametrize("place", ["[0,0]", "[ZIP=1]"])
def test_within_shows_the_distance_in_its_unit(place):
    """How far away the place is, as WITHIN counts it; nothing where there is no place."""
    drop = {"elems": {"spots": [{"at": [0, 1]}, {"at": "Oslo"}]}}
    rule = parse(f"spots.at WITHIN 5 METERS OF {place}")
    told = explain(rule, drop, places=lambda code: (0.0, 0.0))

    (member, spots), (away, (metres,)) = told.seen
    assert (member, spots, away) == ("spots.at", ([0, 1], "Oslo"), "its distance in METERS")
    assert metres == pytest.approx(111_195.08)
    assert explain(rule, {"elems": {}}, places=lambda code: (0.0, 0.0)).seen == (("spots.at", ()),)


def test_members_are_named_as_the_text_names_them():
    """A name with a dot is told from two names."""
    told = explain(parse('elems["a.b"] == 1'), {"elems": {"a.b": 2}})

    assert str(told) == 'elems["a.b"] == 1  [failed: elems["a.b"] is 2]'


def test_long_values_are_cut():
    """A line of an explanation stays readable whatever the object holds."""
    told = explain(parse("text == 'a'"), {"elems": {"text": "x" * 5_000}})

    assert len(str(told)) < 120


def test_the_empty_filter_is_told_in_words():
    """The empty filter has no text, so a name stands for it."""
    assert str(explain(parse(""), DROP)) == "(the empty filter)  [held]"
