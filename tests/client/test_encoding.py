"""Python values as JSON text."""

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from types import MappingProxyType

import pytest
import simplejson
from hypothesis import given
from hypothesis import strategies as st

from flowkit import M, Token, mem
from flowkit.client.encoding import dumps, loads
from flowkit.errors import UsageError


class _Colour(Enum):
    RED = "red"


class _Size(IntEnum):
    BIG = 3


class _Word(StrEnum):
    ON = "on"


class _Later:
    """What a thunk looks like to an encoder."""

    def for_json(self):
        return {"now": 1}


CASES = [
    ({"a": [1, 2.5, True, None, "é"]}, {"a": [1, 2.5, True, None, "é"]}),
    (datetime(1970, 1, 1, 0, 0, 1, 500_900, tzinfo=UTC), 1500),
    (datetime(1970, 1, 1, 2, tzinfo=timezone(timedelta(hours=2))), 0),
    (datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC), -1000),
    (timedelta(minutes=1), 60_000),
    (Decimal("1.10"), 1.1),
    (Decimal(10), 10),
    (Decimal("1E+3"), 1000),
    ({3, 1, 2}, [1, 2, 3]),
    (frozenset("a"), ["a"]),
    (_Colour.RED, "red"),
    (_Size.BIG, 3),
    (_Word.ON, "on"),
    ((1, 2), [1, 2]),
    (MappingProxyType({"a": 1}), {"a": 1}),
    (M({"a": 1}, b=2), {"a": 1, "b": 2}),
    (mem.elems.temp > 2, "elems.temp > 2"),
    ({"x": _Later()}, {"x": {"now": 1}}),
]


@pytest.mark.parametrize(("value", "wanted"), CASES, ids=lambda value: repr(value)[:40])
def test_a_value_becomes_what_the_platform_stores(value, wanted):
    """Every kind of value of the table reads back as its plain form."""
    assert loads(dumps(value)) == wanted


def test_numbers_of_numpy_are_plain_numbers():
    """Scalars and arrays; what is not finite is refused there too."""
    numpy = pytest.importorskip("numpy")

    assert loads(dumps([numpy.int64(3), numpy.float32(0.5), numpy.bool_(True)])) == [3, 0.5, True]
    assert loads(dumps({"a": numpy.arange(3)})) == {"a": [0, 1, 2]}
    for wrong in (numpy.float32("nan"), numpy.array([1.0, numpy.inf])):
        with pytest.raises(UsageError):
            dumps(wrong)


def test_a_decimal_keeps_all_its_digits():
    """No digit of a Decimal is lost on the way to the wire."""
    assert dumps(Decimal("0.12345678901234567890123")) == "0.12345678901234567890123"


REFUSED = [
    ({"a": [1, float("nan")]}, "value['a'][1] is nan"),
    (float("inf"), "value is inf"),
    (Decimal("NaN"), "not a finite"),
    ({"at": datetime(2020, 1, 1)}, "no time zone"),
    (date(2020, 1, 1), "not an instant"),
    ({"a": b"x"}, "bytes have no JSON form"),
    (..., "a value of type ellipsis has no JSON form"),
    (Token("nora", "hush-hush"), "a Token is a secret"),
    ({(1, 2): 3}, "no JSON form"),
]


@pytest.mark.parametrize(("value", "said"), REFUSED, ids=lambda value: repr(value)[:40])
def test_what_would_be_stored_wrongly_is_refused(value, said):
    """The error says which value it was, and never a secret."""
    with pytest.raises(UsageError) as caught:
        dumps(value)

    assert said in str(caught.value)
    assert "hush" not in str(caught.value)


def test_a_value_inside_itself_is_refused():
    """Endless values raise our error, not a recursion."""
    endless = []
    endless.append(endless)

    with pytest.raises(UsageError):
        dumps(endless)


def test_the_options_of_simplejson_are_those_of_dumps():
    """``indent`` and ``sort_keys`` work as in simplejson."""
    assert dumps({"b": 1, "a": 2}, sort_keys=True) == '{"a": 2, "b": 1}'


def test_bytes_are_utf_8():
    """An answer without a charset is read as UTF-8, and what is not is refused."""
    assert loads('"grün"'.encode()) == "grün"
    with pytest.raises(ValueError, match="utf-8"):
        loads(b'"\xfc"')


@pytest.mark.parametrize("text", ["NaN", "[Infinity]", "", "{", "<html>", "[" * 100_000])
def test_what_is_not_json_is_a_value_error(text):
    """Any text that is no JSON raises ValueError and nothing else."""
    with pytest.raises(ValueError, match=r"."):
        loads(text)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(JSON)
def test_plain_values_survive(value):
    """What is JSON already comes back as it was, and is the text that simplejson writes."""
    assert loads(dumps(value)) == value
    assert dumps(value) == simplejson.dumps(value)
