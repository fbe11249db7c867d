"""SQL, predicate and text agree: the property, a short campaign, and that a campaign can fail."""

import strategies
from hypothesis import given, settings
from hypothesis import strategies as st
from together import agreement

from flowkit.errors import FilterError
from flowkit.query import meaning
from flowkit.query.match import matches, predicate
from flowkit.query.nodes import Comparison


def a_batch(drops, types=None):
    """Drops in a database, each with an id of its own, all in the one flow of the campaign."""
    flow = agreement.FLOW
    documents = [
        ({**drop, "id": f"d{number:024x}", "flowId": flow.id, "path": flow.path}, types or {})
        for number, drop in enumerate(drops)
    ]
    for number, (doc, _) in enumerate(documents):
        if "fhash" in doc:
            doc["fhash"] += str(number)
    return agreement.Batch("drop", documents)


@settings(max_examples=150)
@given(strategies.near_filters(), st.lists(strategies.drops(), min_size=1, max_size=6))
def test_a_find_returns_exactly_what_the_predicate_accepts(whole, drops):
    """For any filter and drops, the plan finds the drops that the predicate accepts."""
    assert agreement.disagreement(a_batch(drops), whole) is None


@settings(max_examples=50)
@given(strategies.filters(), st.lists(strategies.drops(), min_size=1, max_size=3))
def test_odd_filters_agree_too(whole, drops):
    """Filters with any names and values agree, or are refused alike."""
    batch = a_batch(drops)
    try:
        predicate(whole)
        batch.plan(whole)
    except FilterError:
        return

    assert agreement.disagreement(batch, whole, with_oracle=False) is None


def test_a_short_campaign_finds_nothing(capsys):
    """Some ten thousand pairs of the campaign, with all three ways of running a filter."""
    assert agreement.campaign(24_000, 50, "gate", size=30, filters=100) == 0

    line = capsys.readouterr().out
    assert " 0 disagreements" in line
    assert "0 %" not in line.partition("run by")[2].replace("10 %", "").replace("20 %", "")


def test_a_campaign_sees_a_planted_fault(capsys, monkeypatch):
    """An evaluator that takes 1 for true is found, and the smallest case is printed."""
    monkeypatch.setattr(meaning, "same", lambda one, other: one == other)
    predicate.cache_clear()
    try:
        code = agreement.campaign(200_000, 50, "fault", size=50, filters=200)
    finally:
        predicate.cache_clear()

    assert code == 1
    shown = capsys.readouterr().out
    assert "filter " in shown
    assert "1 disagreements" in shown


def test_a_campaign_out_of_time_does_not_pass():
    """Fewer pairs than asked for is no success."""
    assert agreement.campaign(10**9, 0.0, "late") == 1


def test_a_fault_is_shown_by_its_smallest_part(monkeypatch):
    """Of a large filter the one rule that disagrees is told, with the object and the statement."""
    batch = a_batch([{"version": 0, "creationDate": 0, "elems": {"a": 5}}])
    wrong = Comparison(("a",), "==", 5)
    real = agreement.Batch.by_predicate

    def by_predicate(self, asked):
        found = real(self, asked)
        return set() if wrong in asked.walk() else found

    monkeypatch.setattr(agreement.Batch, "by_predicate", by_predicate)
    told = agreement.disagreement(batch, wrong | Comparison(("b",), "==", 1))

    assert "filter     'a == 5'" in told
    assert "'elems': {'a': 5}" in told
    assert matches(wrong, {"elems": {"a": 5}})
