"""The names that patterns make."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowkit.errors import BadRequest
from flowkit.server.autofill import BATCH, MESSAGE, Facts, check_pattern, filled
from flowkit.server.marks import Origin

FACTS = Facts(
    device="probe-7",
    stream="air",
    batch="b1",
    counter=42,
    at_ms=1_512_837_350_123,
    scope="v1",
    origin=Origin("0f" * 16, "s", 17, "ab" * 8, None, 17),
)

WRITTEN = {
    "{device}/{stream}": "probe-7/air",
    "{date}T{time}": "2017-12-09T163550",
    "{date} {hour}:{minute}": "2017-12-09 16:35",
    "{batch}-{counter}": "b1-42",
    "{counter:6}.{sequence:1}": "000042.17",
    "{ms}": "1512837350123",
    "{box}": "0f" * 16,
    "no placeholder": "no placeholder",
}


@pytest.mark.parametrize(("pattern", "name"), WRITTEN.items(), ids=WRITTEN)
def test_placeholders_are_filled(pattern, name):
    """Each with what it stands for."""
    assert filled(pattern, MESSAGE, FACTS) == name


def test_a_uuid_is_of_the_place_in_the_line():
    """The same whenever the entry is sent, and another one for every other entry."""
    found = filled("{uuid}", MESSAGE, FACTS)
    later = replace(FACTS, at_ms=0, counter=1, batch="x", device="y")
    others = [
        replace(FACTS, scope="v2"),
        replace(FACTS, origin=replace(FACTS.origin, box="1e" * 16)),
        replace(FACTS, origin=replace(FACTS.origin, sequence=18)),
        replace(FACTS, origin=replace(FACTS.origin, message="cd" * 8)),
        replace(FACTS, origin=replace(FACTS.origin, stream="t")),
    ]

    assert filled("{uuid}", MESSAGE, later) == found
    assert len({found, *(filled("{uuid}", MESSAGE, each) for each in others)}) == 6


@pytest.mark.parametrize("at_ms", [10**15, 2**63 - 1])
def test_a_time_beyond_the_calendar_is_refused(at_ms):
    """Only where it is needed."""
    late = replace(FACTS, at_ms=at_ms)

    assert filled("{ms}", MESSAGE, late) == str(at_ms)
    with pytest.raises(BadRequest):
        filled("{date}", MESSAGE, late)


GOOD = ["{uuid}", "{counter}", "{counter:9}", "{box}{sequence}", "x{uuid}{date}"]
WRONG = ["", "x", "{sequence}", "{date}{time}{ms}", "{uuid", "uuid}", "{}", "{uuid}{nobody}",
         "{UUID}", "{uuid:100}", "{{uuid}}"]  # fmt: skip


def test_a_pattern_is_checked_before_it_is_used():
    """One that makes two messages one, or has what stands for nothing, is none."""
    assert [check_pattern("p", each, MESSAGE) for each in GOOD] == [[] for _ in GOOD]
    assert [each for each in WRONG if not check_pattern("p", each, MESSAGE)] == []
    assert check_pattern("p", "{date}", BATCH) == []
    assert check_pattern("p", "{counter}", BATCH) != []


@given(st.text(alphabet="{}:uidatecounbx0123456789é", max_size=30))
def test_what_passes_the_check_can_be_filled(pattern):
    """Without a brace left over."""
    if not check_pattern("p", pattern, MESSAGE):
        name = filled(pattern, MESSAGE, FACTS)
        assert "{" not in name
        assert "}" not in name
