"""Ids never fall within one server, whatever its clock does."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowkit.server.ids import Ids

clocks = st.lists(st.integers(min_value=0, max_value=2**32 * 1000 - 1), min_size=2, max_size=50)


def given_at(times_ms: list[int], *, last: str = "") -> list[str]:
    """The ids of a server whose clock shows *times_ms*, one after the other."""
    clock = iter(times_ms)
    ids = Ids("09b1e4", clock_ms=lambda: next(clock), last=last)
    return [ids.next("d") for _ in times_ms]


def test_an_id_shows_its_second_node_and_count() -> None:
    """The digits are 8 of seconds, 6 of the node, 10 of the counter."""
    first, second, third = given_at([1_512_837_350_000, 1_512_837_350_999, 1_512_837_351_000])

    assert first == "d5a2c10e609b1e40000000000"
    assert second == "d5a2c10e609b1e40000000001"
    assert third == "d5a2c10e709b1e40000000000"


@given(clocks)
def test_ids_rise_whatever_the_clock_does(times_ms: list[int]) -> None:
    """Order of ids is order of giving, also when the clock steps back."""
    given_ids = given_at(times_ms)

    assert given_ids == sorted(set(given_ids))
    assert all(re.fullmatch(r"d[0-9a-f]{24}", each) for each in given_ids)


@given(clocks, clocks)
def test_ids_rise_across_a_restart(before_ms: list[int], after_ms: list[int]) -> None:
    """A server that starts from its last id never gives a smaller one, even with an older clock."""
    before = given_at(before_ms)
    after = given_at(after_ms, last=before[-1][1:])

    assert before[-1] < after[0]


def test_a_used_up_second_borrows_from_the_next() -> None:
    """The counter of a second ends; the id after its last one is in the next second."""
    ids = Ids("000001", clock_ms=lambda: 5_000, last="00000005000001ffffffffff")

    assert ids.next("f") == "f000000060000010000000000"


@pytest.mark.parametrize(("node", "last"), [("12345", ""), ("ABCDEF", ""), ("09b1e4", "12")])
def test_a_malformed_node_or_last_id_is_refused(node: str, last: str) -> None:
    """What cannot be part of an id raises at once and is named."""
    with pytest.raises(ValueError, match="hexadecimal digits"):
        Ids(node, clock_ms=lambda: 0, last=last)


def test_before_the_first_id_there_is_no_last() -> None:
    """A new server has nothing to start from."""
    ids = Ids("09b1e4", clock_ms=lambda: 1_000)

    assert ids.last == ""
    assert ids.next("i") == "i" + ids.last
