"""The page about sessions: its diagrams are the table, and what it names is what there is."""

import importlib.util
import re
from pathlib import Path

import pytest

from flowkit import limits
from flowkit.protocol import session
from flowkit.protocol.session import TABLE, TIMERS, Side, State
from flowkit.protocol.subscribing import KINDS, SLOW

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "reference" / "sessions.rst").read_text(encoding="utf-8")
SIDES = pytest.mark.parametrize("side", Side, ids=lambda side: side.value)


@pytest.fixture(scope="module")
def diagram():
    """The module of the docs that draws."""
    where = DOCS / "_ext" / "session_diagram.py"
    spec = importlib.util.spec_from_file_location("session_diagram", where)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@SIDES
def test_the_diagram_is_the_table(diagram, side):
    """Each way from state to state stands in the picture with all its events, and no other."""
    drawn = {
        (state, event, after)
        for state, after, words in re.findall(
            r'data-from="(\w+)" data-to="(\w+)">.*?<text[^>]*>([^<]+)</text>', diagram.drawing(side)
        )
        for event in words.split(", ")
    }
    table = {
        (state.value, event.value, after.value)
        for (state, event), (after, _) in TABLE[side].items()
    }

    assert drawn == table


@SIDES
def test_each_state_has_its_box(diagram, side):
    """The picture names each state once, outside of the words of the arrows."""
    boxes = re.findall(r'class="state">.*?<text[^>]*>([^<]+)</text>', diagram.drawing(side))

    assert sorted(boxes) == sorted(state.value for state in State)


@SIDES
def test_the_rows_below_it_tell_all_acts_and_times(diagram, side):
    """Each row of the table, each act of it and each timer is in the table of the page."""
    rows = list(diagram.rows(side))
    acts = [", ".join(act.value for act in acts) for _, acts in TABLE[side].values()]
    times = [
        f"{timer.after_s:g} s"
        for timers in TIMERS[side].values()
        for timer in timers
        if timer.after_s is not None
    ]

    assert [row[3] for row in rows] == acts
    assert [time for time in times if not any(time in row[4] for row in rows)] == []


@SIDES
def test_the_page_draws_both_sides(side):
    """The directive stands there once for each end."""
    assert PAGE.count(f".. flowkit-session:: {side.value}") == 1


def test_the_page_names_every_close_code_kind_and_way_of_being_slow():
    """What the modules know is what the page tells."""
    codes = [getattr(session, name) for name in session.__all__ if name.isupper()]
    codes = [str(code) for code in codes if isinstance(code, int)]

    assert len(codes) == 6
    assert [code for code in codes if f"   * - {code}" not in PAGE] == []
    assert " ".join(KINDS) in PAGE
    assert [way for way in SLOW if f"``{way}``" not in PAGE] == []


def test_the_figures_of_the_page_are_the_limits():
    """Where the page says a number it is that of limits.py."""
    for seconds, words in (
        (limits.session_unused_s, "ends after\n{:g} s"),
        (limits.session_resume_s, "it lives {:g} s more"),
        (limits.session_idle_s, "from the client for {:g} s"),
        (limits.push_stall_s, "nothing at all for {:g} s"),
    ):
        assert words.format(seconds) in PAGE
    assert limits.frame_bytes_max == 1024 * 1024
