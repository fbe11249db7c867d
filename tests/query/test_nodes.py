"""Filters are values: frozen, hashable, comparable with the type of each literal, picklable."""

from __future__ import annotations

import copy
import dataclasses
import pickle

import pytest
import strategies
from hypothesis import given

from flowkit.query import AGE, EXISTS, Filter, mem
from flowkit.query.nodes import KEYWORDS, RANKS, And, Comparison, Everything, Not, literal_key


@given(strategies.filters())
def test_copies_are_equal(made):
    """pickle, copy and deepcopy give an equal filter with the same hash."""
    for twin in (pickle.loads(pickle.dumps(made)), copy.copy(made), copy.deepcopy(made)):
        assert twin == made
        assert hash(twin) == hash(made)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_kept_hash_stays_in_its_process(protocol):
    """Texts hash differently in every process, so a copy makes its own hash."""
    made = (mem.a == "x") & mem.b.IN("y", 1)
    once = hash(made)

    assert hash(made) == once
    for twin in (pickle.loads(pickle.dumps(made, protocol)), copy.copy(made), copy.deepcopy(made)):
        assert not hasattr(twin, "_hash")
        assert hash(twin) == once


@given(strategies.filters(), strategies.filters())
def test_filters_are_equal_exactly_when_their_texts_are(one, other):
    """Equality of structure and of text are the same."""
    assert (one == other) == (str(one) == str(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [(1, 1.0), (1, True), (0, False), (0.0, -0.0), ("1", 1), (None, False), ("", None)],
)
def test_the_type_of_a_literal_counts(one, other):
    """Values that Python calls equal make different filters."""
    assert (mem.a == one) != (mem.a == other)
    assert mem.a.IN(one) != mem.a.IN(other)
    assert literal_key(one) != literal_key(other)
    assert len({mem.a == one, mem.a == other, mem.a == one}) == 2


def test_filters_cannot_be_changed():
    """A filter is frozen."""
    made = mem.a == 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.op = "!="


def test_a_filter_is_equal_to_nothing_else():
    """Comparing with another type is False, not an error."""
    assert (mem.a == 1) != "a == 1"
    assert Everything() != ()
    assert (mem.a == 1) != Not(mem.a == 1)


def test_walk_gives_every_part_outermost_first():
    """Rules and what joins them, in reading order."""
    made = (mem.a == 1) & ~EXISTS("b")

    assert [type(part).__name__ for part in made.walk()] == ["And", "Comparison", "Not", "Exists"]
    assert made.children() == (mem.a == 1, ~EXISTS("b"))


def test_every_filter_has_its_rank():
    """Rules bind tightest, then NOT, then &&, then ||."""
    assert [kind.rank for kind in (Comparison, Not, And, type((AGE < 1) | (AGE > 2)))] == [
        RANKS["rule"],
        RANKS["NOT"],
        RANKS["&&"],
        RANKS["||"],
    ]


@pytest.mark.parametrize("word", sorted(KEYWORDS))
def test_a_keyword_can_be_the_name_of_a_member(word):
    """In brackets every name is one."""
    assert Filter.parse(str(mem[word] == 1)) == (mem[word] == 1)
