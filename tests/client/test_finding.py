"""What a find is asked with: filters joined to one text, and ids told from filters."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import near_filters

from flowkit import Filter, M, Token, all_of, mem
from flowkit.client.finding import filter_text, listed_ids, one_id
from flowkit.errors import FilterError, FilterSyntaxError, UsageError

A, B = mem.a == 1, mem.b == 2

# what was given, the text
TEXTS = [
    ((), None),
    ((None,), None),
    (("",), None),
    ((" \n",), None),
    ((A, "  "), "a == 1"),
    ((Filter.parse(""),), None),
    (([], None, ()), None),
    ((A,), "a == 1"),
    (("  raw, as written ",), "  raw, as written "),
    (((A,), None), "a == 1"),
    ((A, B), "(a == 1) && (b == 2)"),
    ((A, "b == 2 || c == 3"), "(a == 1) && (b == 2 || c == 3)"),
    ((A, [B, ["c == 3"]]), "(a == 1) && (b == 2) && (c == 3)"),
    ((A, "", None, Filter.parse("")), "a == 1"),
]


@pytest.mark.parametrize(("given_filters", "text"), TEXTS, ids=repr)
def test_filters_are_joined_to_one_text(given_filters, text):
    """Empty ones count as nothing; a single raw text is the server's to judge."""
    assert filter_text(*given_filters) == text


@given(st.lists(near_filters(), min_size=2, max_size=4), st.data())
def test_a_joined_text_means_all_of_its_parts(filters, data):
    """Whichever of them came as raw text."""
    given_filters = [str(one) if data.draw(st.booleans()) else one for one in filters]

    assert Filter.parse(filter_text(*given_filters)) == all_of(*filters)


@given(near_filters(), st.text(alphabet="()&|'\"a1= ", max_size=12))
def test_no_raw_text_changes_the_meaning_of_the_others(first, raw):
    """What is joined is a filter by itself, or refused."""
    try:
        text = filter_text(first, raw)
    except FilterError:
        with pytest.raises(FilterError):
            Filter.parse(raw)
        return

    wanted = all_of(first, Filter.parse(raw)) if raw.strip() else first
    assert Filter.parse(text) == wanted


@pytest.mark.parametrize("raw", ["a == 1) || (b == 2", "a ==", "(", "a == 1 &&"])
def test_a_raw_text_that_would_break_out_is_refused(raw):
    """The error shows the place in the text."""
    with pytest.raises(FilterSyntaxError):
        filter_text(A, raw)


def test_an_id_is_a_text_or_an_object_that_has_one():
    """A dict, an M, or the text itself."""
    assert one_id("f1") == one_id({"id": "f1"}) == one_id(M({"id": "f1"})) == "f1"
    assert listed_ids(iter(["f1", {"id": "f2"}])) == ["f1", "f2"]


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        ".",
        "..",
        "/a/b",
        "a/b",
        "a?b",
        "a#b",
        "a%2Fb",
        "a b",
        "a\n",
        "a == 1",
        {},
        {"id": None},
        {"id": 3},
        None,
        3,
        b"f1",
        ["f1"],
    ],
    ids=repr,
)
def test_what_is_no_id_is_refused(wrong):
    """No text that could leave its place in a path, and nothing that is not text."""
    with pytest.raises(UsageError):
        one_id(wrong)


@pytest.mark.parametrize(
    "wrong",
    ["f1", b"f1", {"id": "f1"}, None, 3, [A], ["f1", None], [["f1"]], Token("nora", "hush")],
    ids=repr,
)
def test_what_is_no_list_of_ids_is_refused(wrong):
    """A single id, a single model and filters are not ids; a Token is a tuple, but a secret."""
    with pytest.raises(UsageError):
        listed_ids(wrong)
