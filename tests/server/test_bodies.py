"""The strict parser: what it lets through, and how it says what it does not."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowkit import limits
from flowkit.errors import BadRequest
from flowkit.server.bodies import read_json

GOOD = [
    (b"{}", {}),
    (b' [1, 2.5, "x", null, true] ', [1, 2.5, "x", None, True]),
    (b"9223372036854775807", 2**63 - 1),
    (b"-9223372036854775808", -(2**63)),
    (b"-0", 0),
    (b'"\\ud83d\\ude00"', "\U0001f600"),
    (b'"9999999999999999999999"', "9999999999999999999999"),
    (b"0.99999999999999999999999999", 1.0),
    (b"12345678901234567890.5", 12345678901234567890.5),
    (b'{"a": 1, "a": 2}', {"a": 2}),
    (b"[" * 100 + b"]" * 100, None),
]

BAD = [
    (b"", "body: is empty, JSON is expected"),
    (b" \n ", "body: is empty, JSON is expected"),
    (b'{"elems": {"t": 1e400}}', "elems.t: the number is too large"),
    (b'{"elems": {"t": NaN}}', "elems.t: NaN is not a JSON number"),
    (b"[1, -Infinity]", "1: -Infinity is not a JSON number"),
    (b'{"x": 9223372036854775808}', "x: whole numbers must fit into 64 bits"),
    (b'{"x": -9223372036854775809}', "x: whole numbers must fit into 64 bits"),
    (b'{"x": 18446744073709551616}', "x: whole numbers must fit into 64 bits"),
    (b"9" * 6000, "body: whole numbers must fit into 64 bits"),
    (b'{"a": ["\\ud800"]}', "a.0: holds half of a surrogate pair"),
    (b'{"\\udc00": 1}', "body: a name holds half of a surrogate pair"),
    (b'"\xff"', "body: is not UTF-8 at byte 2"),
    (b'"\xed\xa0\x80"', "body: is not UTF-8 at byte 2"),
    ("{}".encode("utf-16"), "body: is not UTF-8 at byte 1"),
    (b"\xef\xbb\xbf{}", "body: begins with a byte order mark, send plain UTF-8"),
    (b"[1] x", "body: is not JSON: Extra data at line 1 column 5"),
    (b"[" * 101 + b"]" * 101, "body: is nested more than 100 levels deep"),
    (b'{"a":' * 101 + b"1" + b"}" * 101, "body: is nested more than 100 levels deep"),
    (b"[" * 1_000_000, "body: is nested more than 100 levels deep"),
    (b'{"a":' * 200_000, "body: is nested more than 100 levels deep"),
]


@pytest.mark.parametrize(("body", "value"), GOOD, ids=[repr(body[:24]) for body, _ in GOOD])
def test_what_can_be_stored_is_read(body, value):
    """Good JSON comes out as the value it stands for."""
    found = read_json(body)

    assert (found == value and type(found) is type(value)) or value is None


@pytest.mark.parametrize(("body", "sentence"), BAD, ids=[repr(body[:24]) for body, _ in BAD])
def test_what_cannot_be_stored_is_refused_in_one_sentence(body, sentence):
    """The refusal names the member or the position."""
    with pytest.raises(BadRequest) as caught:
        read_json(body)

    assert caught.value.errors == [sentence]


def test_every_fault_has_a_sentence_of_its_own():
    """Two bad members, two sentences, in the order of the text."""
    with pytest.raises(BadRequest) as caught:
        read_json(b'{"a": NaN, "b": {"c": 1e999}, "d": "\\ud800", "e": [NaN]}')

    assert caught.value.errors == [
        "a: NaN is not a JSON number",
        "b.c: the number is too large",
        "d: holds half of a surrogate pair",
        "e.0: NaN is not a JSON number",
    ]


def test_entries_of_an_array_can_be_judged_apart():
    """A bad one is the error in its place; levels count from the entry; the rest is as it is."""
    deep = b"[" * 100 + b"]" * 100
    good, bad, whole = read_json(b'[%s, {"a": NaN}, 5]' % deep, entries_apart=True)

    assert (len(good), whole) == (1, 5)
    assert isinstance(bad, BadRequest)
    assert bad.errors == ["a: NaN is not a JSON number"]
    with pytest.raises(BadRequest, match="100 levels"):
        read_json(b"[%s]" % deep)
    with pytest.raises(BadRequest, match="a: NaN"):
        read_json(b'{"a": NaN}', entries_apart=True)


def test_depth_is_counted_even_where_the_brackets_are_many():
    """A wide body with many brackets is not taken for a deep one."""
    assert len(read_json(b"[" + b"[],{}," * 5000 + b"1]")) == 10_001


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(limits.integer_min, limits.integer_max)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(values)
def test_what_was_written_is_what_is_read(value):
    """Any storable value survives the way through its text, types included."""
    found = read_json(json.dumps(value).encode())

    assert json.dumps(found) == json.dumps(value)


@given(st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode("utf-8")))
def test_garbage_raises_our_error_and_nothing_else(body):
    """Any bytes are read or refused; what is read holds no number that JSON cannot write."""
    try:
        value, sentences = read_json(body), ["value: read"]
    except BadRequest as error:
        value, sentences = None, error.errors

    assert sentences
    assert all(": " in sentence for sentence in sentences)
    assert not (isinstance(value, float) and not math.isfinite(value))
