"""The rules of documents and tags, and the merge patch."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowkit import UsageError, limits
from flowkit.protocol.properties import (
    check_device_id,
    check_patch,
    check_properties,
    check_tags,
    merge_patch,
    patch_faults,
    property_faults,
)


def nested(levels, last=1):
    """A document of so many levels."""
    value = last
    for _ in range(levels):
        value = {"a": value}
    return value


def sized(size):
    """A document of so many bytes, of texts that are short enough."""
    document = {f"k{n:05}": "x" * 1000 for n in range((size - 2) // 1011)}
    document["z"] = ""
    document["z"] = "x" * (size - len(json.dumps(document, separators=(",", ":"))))
    assert len(json.dumps(document, separators=(",", ":"))) == size
    return document


TEXT = limits.property_text_bytes_max
GOOD = [
    {},
    {"a": 1, "b": [1, "x", {"c": 2.5}], "d": True},
    {"ä": "ö" * (TEXT // 2)},
    nested(limits.properties_depth_max),
    sized(limits.properties_bytes_max),
    {"a": limits.integer_max, "b": limits.integer_min},
]
BAD = [
    ([], "must be an object"),
    (None, "must be an object"),
    ({"": 1}, "not empty"),
    ({1: 1}, "must be a text"),
    ({"a.b": 1}, "holds '.' or '$'"),
    ({"$a": 1}, "holds '.' or '$'"),
    ({"a": {"b": [{"c.d": 1}]}}, "values.a.b.0: the name 'c.d'"),
    ({"a": "ö" * (TEXT // 2) + "x"}, f"is a text of {TEXT + 1} bytes"),
    ({"a": "\ud800"}, "surrogate"),
    ({"\ud800": 1}, "surrogate"),
    ({"a": None}, "null is no value"),
    ({"a": [None]}, "null is no value"),
    ({"a": float("nan")}, "finite"),
    ({"a": float("inf")}, "finite"),
    ({"a": 2**70}, "is beyond"),
    ({"a": b"x"}, "bytes is no value"),
    (nested(limits.properties_depth_max + 1), "is deeper than 10 levels"),
    (sized(limits.properties_bytes_max + 1), f"has {limits.properties_bytes_max + 1} bytes"),
]


@pytest.mark.parametrize("document", GOOD, ids=range(len(GOOD)))
def test_a_good_document_has_no_fault(document):
    """Up to every bound."""
    assert property_faults(document) == []
    check_properties(document)


@pytest.mark.parametrize(("document", "said"), BAD, ids=range(len(BAD)))
def test_a_bad_document_is_refused_with_the_place(document, said):
    """One beyond every bound; both forms say the same."""
    faults = property_faults(document)

    assert len(faults) == 1
    assert said in faults[0]
    with pytest.raises(UsageError, match=r"values"):
        check_properties(document)


def test_a_document_does_not_recurse_for_ever():
    """Neither deep ones nor those that hold themselves; and faults are bounded."""
    deep = nested(100_000)
    own = {}
    own["own"] = own

    assert "deeper" in property_faults(deep)[0]
    assert "deeper" in property_faults(own)[0]
    assert len(property_faults({f"{n}.": n for n in range(1000)})) == 20


def test_null_removes_in_a_patch_alone():
    """At any level of objects, not in an array."""
    assert patch_faults({"a": None, "b": {"c": None}}) == []
    check_patch({"a": None})
    assert patch_faults({"a": [None]}) == [
        "patch.a.0: null is no value; in a patch it removes a name"
    ]


def test_tags_are_flat_and_smaller():
    """No objects, no arrays, 8 KiB."""
    check_tags({"site": "oslo", "floor": 3})
    for bad in ({"a": {}}, {"a": []}, sized(limits.tags_bytes_max + 1), {"a": None}, []):
        with pytest.raises(UsageError, match="tags"):
            check_tags(bad)


@pytest.mark.parametrize("bad", ["abc", "a" * 91, "a b c d", "abcd\n", "späte", None, 12345])
def test_what_is_no_device_id_is_refused(bad):
    """4 to 90 of the characters that a path can have."""
    check_device_id("Bench_3.a-b")
    with pytest.raises(UsageError, match="deviceId: must be 4 to 90"):
        check_device_id(bad)


RFC = [
    # document, patch, result: the table of RFC 7396, its cases of objects
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
]


@pytest.mark.parametrize(("document", "patch", "result"), RFC)
def test_a_patch_merges(document, patch, result):
    """As RFC 7396 says; the document given is left as it was."""
    before = json.dumps(document)

    assert merge_patch(document, patch) == result
    assert json.dumps(document) == before


LEAVES = st.none() | st.booleans() | st.integers(-5, 5) | st.text("ab.$", max_size=2)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text("ab", max_size=1), inner),
    max_leaves=8,
)
DOCUMENTS = st.dictionaries(st.text("ab.", max_size=2), VALUES, max_size=3)


@given(DOCUMENTS, DOCUMENTS)
def test_a_good_patch_of_a_good_document_gives_a_good_document(document, patch):
    """But for its size, which small ones do not reach; and applying it again changes nothing."""
    if property_faults(document) or patch_faults(patch):
        return
    merged = merge_patch(document, patch)

    assert property_faults(merged) == []
    assert merge_patch(merged, patch) == merged
