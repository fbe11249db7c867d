"""Text to filters: the corpus, the errors, the bounds, and garbage."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import strategies
from hypothesis import example, given
from hypothesis import strategies as st

from flowkit import limits
from flowkit.errors import FilterError, FilterSyntaxError, LimitError
from flowkit.query import Filter, mem
from flowkit.query.nodes import Everything
from flowkit.query.parse import parse
from flowkit.query.render import render

CORPUS = Path(__file__).parent.parent / "corpus"


def _cases(name: str) -> list[str]:
    lines = (CORPUS / name).read_text("utf-8").splitlines()
    return [line for line in lines if " => " in line and not line.startswith("# ")]


@pytest.mark.parametrize("case", _cases("filters.txt"))
def test_the_corpus_is_read_and_written_in_its_canonical_form(case):
    """Every source of the corpus has the canonical text beside it, which reads as the same made."""
    source, canonical = case.rsplit(" => ", 1)
    found = parse(source.replace("↵", "\n"))

    assert render(found) == canonical
    assert parse(canonical) == found


@pytest.mark.parametrize("case", _cases("filter_errors.txt"))
def test_bad_text_is_refused_with_place_and_hint(case):
    """Every bad text of the corpus names its line, column, problem and hint."""
    text, said, hint = case.rsplit(" => ", 2)
    with pytest.raises(FilterSyntaxError) as caught:
        parse(text.replace("↵", "\n"))

    error = caught.value
    assert f"{error.line}:{error.column} {error.problem}" == said
    assert (error.hint or "-") == hint


@pytest.mark.parametrize("text", ["", " ", "\t\r\n "])
def test_blank_text_is_the_empty_filter(text):
    """Nothing but blanks matches everything."""
    assert parse(text) == Everything()
    assert str(parse(text)) == ""


def test_an_error_shows_the_text_with_a_caret_under_the_place():
    """The last line of the message points at the column."""
    with pytest.raises(FilterSyntaxError) as caught:
        Filter.parse("a == 1 &&\n  b = 2")

    assert str(caught.value).splitlines()[1:] == ["    b = 2", "      ^"]


def test_an_error_shows_no_character_that_a_terminal_obeys():
    """Tabs, escapes, other line ends and half pairs take one column each, and stay visible."""
    with pytest.raises(FilterSyntaxError) as caught:
        parse("a ==\t'\x1b[2J\ud800\r' b")

    shown, caret = str(caught.value).splitlines()[1:]
    assert shown == "  a == '\ufffd[2J\ufffd ' b"
    assert caret.index("^") == shown.index("b", 5)


def test_an_error_survives_pickling():
    """A worker process can hand the error over."""
    with pytest.raises(FilterSyntaxError) as caught:
        parse("a ==")
    copy = pickle.loads(pickle.dumps(caught.value))

    assert (str(copy), copy.column) == (str(caught.value), 5)


@pytest.mark.parametrize("given_value", [None, b"a == 1", 5, mem.a == 1])
def test_what_is_no_text_is_refused(given_value):
    """parse takes text and nothing else."""
    with pytest.raises(FilterError, match="a filter text is needed"):
        parse(given_value)


def test_depth_is_bounded_and_the_bound_can_be_reached():
    """The deepest filter can be built, written and read back; one more level is refused."""
    deepest = mem.a == 1
    for level in range(limits.filter_depth_max):
        deepest = ~deepest if level % 2 else (deepest & (mem.b == level))

    assert parse(str(deepest)) == deepest
    with pytest.raises(LimitError, match="nesting"):
        ~deepest
    with pytest.raises(LimitError, match="nesting"):
        parse("NOT " * (limits.filter_depth_max + 1) + "a == 1")


def test_superfluous_parentheses_are_bounded():
    """Groups are counted before they are read: no text can exhaust the stack."""
    assert parse("(" * 60 + "a == 1" + ")" * 60) == (mem.a == 1)
    with pytest.raises(LimitError, match="groups"):
        parse("(" * 30_000 + "a == 1" + ")" * 30_000)
    with pytest.raises(LimitError, match="groups"):
        parse("NOT " * 10_000 + "a == 1")


def test_size_is_bounded():
    """Characters, rules and values have their bounds."""
    with pytest.raises(LimitError, match="characters"):
        parse("a == '" + "x" * limits.filter_text_chars_max + "'")
    with pytest.raises(LimitError, match="filter is 2000001 characters, the limit is 65536"):
        parse("x" * 2_000_001)
    with pytest.raises(LimitError, match="rules"):
        parse(" && ".join(["a == 1"] * (limits.filter_rules_max + 1)))
    with pytest.raises(LimitError, match="values"):
        parse("a IN [" + ",".join(["1"] * (limits.filter_values_max + 1)) + "]")
    many = ",".join(["1"] * 6_000)
    with pytest.raises(LimitError, match="values"):
        parse(f"a IN [{many}] || b IN [{many}]")


@pytest.mark.timeout(5)
@pytest.mark.parametrize(
    "unit", ["'\\", "'", "\\'", "=~/\\", " ", "a.", '"\\"', "[", "/", "a ", "\0"]
)
def test_the_time_to_refuse_a_long_text_grows_with_its_length_only(unit):
    """Unclosed quotes, escapes and blanks by the ten thousand are refused at once."""
    text = (unit * limits.filter_text_chars_max)[: limits.filter_text_chars_max - 1] + "\x01"

    with pytest.raises((FilterSyntaxError, LimitError)):
        parse(text)


@given(strategies.filters())
def test_what_is_written_reads_back_as_the_same_filter(made):
    """parse(render(f)) == f, for every made."""
    text = render(made)

    assert parse(text) == made
    assert render(parse(text)) == text


@given(strategies.texts(40))
@example("\ud83d")
@example("'\\")
@example("' || EXISTS a || a == '")
def test_no_value_can_leave_its_literal(value):
    """A text is one value after the way through the wire, whatever it holds."""
    text = str((mem.a == value) & (mem[("b", value)] == 1))

    text.encode("utf-8")
    assert parse(text) == (mem.a == value) & (mem[("b", value)] == 1)


PIECES = [
    *"( ) [ ] . , % - / \\ ' \" = & | ! < > \0 \ud800 ² ٣ é \u00a0 \n".split(" "),
    *["NOT", "IN", "CONTAINS", "WITHIN", "OF", "KM", "EXISTS", "HAS", "AGE", "MATCHES", "ZIP"],
    *["a", "b.c", '"x"', "'y'", "==", "!=", "<=", "=~", "=~/a/", "/x/i", "&&", "||", "Date"],
    *["ZIP=", "Email", "5", "0.1", "-3", "1e5", "true", "null", "MATCHES /x/", "[1,2]"],
    *["[ZIP=1]", " ", "a == 1"],
]  # fmt: skip


@given(st.one_of(st.text(), st.lists(st.sampled_from(PIECES), max_size=14).map("".join)))
def test_garbage_raises_our_error_and_nothing_else(text):
    """Any text is a made, whose canonical form reads back, or a syntax error within the text."""
    refused = found = None
    try:
        found = parse(text)
    except (FilterSyntaxError, LimitError) as error:
        refused = error
    if isinstance(refused, FilterSyntaxError):
        assert 0 <= refused.offset <= len(text)
        assert str(refused)
    elif refused is not None:
        assert refused.size > refused.limit
    else:
        assert parse(render(found)) == found
