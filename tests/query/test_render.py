"""Filters as wire text and as Python source."""

from __future__ import annotations

import pytest
import strategies
from hypothesis import given

from flowkit import limits
from flowkit.errors import FilterError, LimitError
from flowkit.query import AGE, EXISTS, HAS, MATCHES, NOT, Filter, all_of, any_of, mem
from flowkit.query.render import render, source

NAMES = {
    "mem": mem, "AGE": AGE, "EXISTS": EXISTS, "HAS": HAS, "MATCHES": MATCHES, "NOT": NOT,
    "all_of": all_of, "any_of": any_of, "Filter": Filter,
}  # fmt: skip

TABLE = [
    (mem.foo == 1, "foo == 1"),
    (mem["foo"] != 1, "foo != 1"),
    (mem.foo == True, "foo == true"),  # noqa: E712 - this is how it is written
    (mem.foo.re("/foo", "i"), r"foo =~ /\/foo/i"),
    (mem.foo.IN(1, 2, 3), "foo IN [1,2,3]"),
    (mem.foo.CONTAINS(1, 2, 3), "foo CONTAINS [1,2,3]"),
    (mem.foo.WITHIN(5, "KM", [1, 2]), "foo WITHIN 5 KM OF [1,2]"),
    (mem.foo.WITHIN(5, "KM", zip=123), "foo WITHIN 5 KM OF [ZIP=123]"),
    (AGE > 123, "AGE > 123"),
    (AGE("lastEditDate") == 123, "AGE('lastEditDate') == 123"),
    (EXISTS("foo"), "EXISTS foo"),
    (EXISTS(mem.foo), "EXISTS foo"),
    (MATCHES("foo", "i"), "MATCHES /foo/i"),
    (HAS("foo"), "HAS foo"),
    (NOT(mem.foo == 1), "NOT foo == 1"),
    (NOT((mem.a == 1) & (mem.b == 2)), "NOT ((a == 1) && (b == 2))"),
    ((mem.foo == 1).AND(mem.bar == 2), "(foo == 1) && (bar == 2)"),
    ((mem.foo == 1).OR(mem.bar == 2), "(foo == 1) || (bar == 2)"),
    ((mem.a == 1) & (mem.b == 2) & (mem.c == 3), "(a == 1) && (b == 2) && (c == 3)"),
    (NOT(NOT(mem.a == 1)), "NOT (NOT a == 1)"),
    (AGE(mem.x) < 1, "AGE('x') < 1"),
    (AGE(mem["a.b",]) < 1, 'AGE(["a.b"]) < 1'),
    (mem.foo.re(r"\/foo"), r"foo =~ /\/foo/"),
    (mem.foo.re("a\nb"), r"foo =~ /a\nb/"),
    (mem.foo == "it's \\", r"foo == 'it\'s \\'"),
    (mem.foo.WITHIN(5, zip="01002"), "foo WITHIN 5 MILES OF [ZIP=01002]"),
    (mem["a b == 1 || c"] == 1, '["a b == 1 || c"] == 1'),
    (mem.a == None, "a == null"),  # noqa: E711 - this is how it is written
    (mem.a.b[0].c > mem["odd name"], 'a.b.0.c > ["odd name"]'),
    (mem.a % 5 == 0, "a % 5 == 0"),
]


@pytest.mark.parametrize(("made", "text"), TABLE, ids=[text for _, text in TABLE])
def test_the_strings_are_exactly_these(made, text):
    """The table of protocol 4.7, and what follows from it."""
    assert str(made) == text
    assert eval(repr(made), dict(NAMES)) == made


@given(strategies.filters())
def test_repr_is_source_that_builds_the_filter_again(made):
    """eval(repr(f)) == f, for every filter."""
    assert eval(repr(made), dict(NAMES)) == made


@given(strategies.filters())
def test_every_text_can_be_sent(made):
    """The text is valid Unicode and one line unless a pattern holds a control character."""
    text = render(made)

    assert text.encode("utf-8").decode("utf-8") == text
    assert "\n" not in text


def test_the_source_of_a_long_chain_can_be_read_by_python():
    """A thousand operands are written as a call, not as a thousand nested operators."""
    chain = any_of(mem.a == n for n in range(limits.filter_rules_max))

    assert eval(source(chain), dict(NAMES)) == chain


def test_a_text_beyond_the_bound_is_not_written():
    """A filter that no server takes fails here, with its size."""
    with pytest.raises(LimitError, match="65536 characters"):
        str(mem.a == "x" * limits.filter_text_chars_max)


def test_a_value_that_is_not_known_yet_cannot_be_written():
    """The error names the line that built the rule; repr never fails."""

    class Late:
        __flowkit_thunk__ = True

    made = mem.a == Late()
    with pytest.raises(FilterError, match=r"not known yet.*test_render\.py"):
        str(made)
    assert "not known yet" in repr(made)
