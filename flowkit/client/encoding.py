"""Python values to JSON text and back, as the client sends and reads them.

Beyond what JSON has: aware datetimes and timedeltas become whole milliseconds, Decimals keep all
their digits, enums their values, sets lists, numpy scalars and arrays plain numbers, filters their
text, models (``M``) and thunks what they stand for. What would be stored wrongly or not at all is
refused before anything is sent: non-finite numbers, naive datetimes, bytes, a ``Token``. The error
names the place inside the value.

Source: protocol 2.1 (numbers), 13.2 (defect 22).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from math import isfinite
from typing import Any

import simplejson

from flowkit.client.arguments import is_thunk, plain
from flowkit.errors import UsageError
from flowkit.query.nodes import Filter

__all__ = ["dumps", "fastest_loads", "instant_ms", "loads", "span_ms"]

_PLAIN = (str, int, float, bool, type(None))


def dumps(value: Any, **options: Any) -> str:
    """The JSON text of *value*.

    Thunks are waited for (simplejson's ``for_json``, which this function sets). *options* are those
    of ``simplejson.dumps`` (``indent``, ``sort_keys`` …).

    Raises:
        UsageError: something in *value* has no JSON form; the message names where it stands.
    """
    settings = {
        "for_json": True,
        "allow_nan": False,
        "use_decimal": False,
        "namedtuple_as_object": False,
        "encoding": None,
        "default": _default,
        **options,
    }
    if is_thunk(value):  # simplejson takes a text alone for a text before it asks for_json
        value = plain(value)
    try:
        return simplejson.dumps(value, **settings)
    except (ValueError, TypeError, OverflowError) as error:
        raise _fault(value, error) from error
    except RecursionError:
        raise UsageError("the value is nested too deeply for JSON") from None


def loads(text: str | bytes, **options: Any) -> Any:
    """The value of a JSON text; bytes are read as UTF-8. NaN and infinities are refused.

    Raises:
        ValueError: *text* is not JSON.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8")
    try:
        return simplejson.loads(text, **options)
    except RecursionError:
        raise ValueError("the text is nested too deeply") from None


def fastest_loads() -> Callable[[bytes], Any]:
    """The fastest reader of JSON bytes: orjson's if it is installed, else ``loads``.

    Both raise ``ValueError`` for what is not JSON and refuse NaN.
    """
    try:
        import orjson
    except ImportError:
        return loads
    return orjson.loads


def instant_ms(moment: datetime) -> int:
    """Whole milliseconds since 1970 of an aware datetime.

    Raises:
        UsageError: *moment* has no time zone: which instant it means is a guess.
    """
    if moment.utcoffset() is None:
        raise UsageError(
            f"{moment!r} has no time zone", hint="use datetime(…, tzinfo=timezone.utc)"
        )
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def span_ms(span: timedelta) -> int:
    """Whole milliseconds of a timedelta."""
    return span // timedelta(milliseconds=1)


_EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")


def _default(value: Any) -> Any:
    """What simplejson does not know by itself."""
    if isinstance(value, datetime):
        return instant_ms(value)
    if isinstance(value, timedelta):
        return span_ms(value)
    if isinstance(value, Decimal):
        if not value.is_finite():
            raise UsageError(f"{value!r} is not a finite number")
        return simplejson.RawJSON(_digits(value))
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Filter):
        return str(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, AbstractSet):
        return _in_order(value)
    if type(value).__module__ == "numpy":  # told by its name: numpy is not needed here
        return value.tolist()
    raise UsageError(_refusal(value))


def _digits(value: Decimal) -> str:
    """All digits of a finite Decimal as a JSON number."""
    whole = value == value.to_integral_value() and abs(value.adjusted()) < 40
    return str(int(value)) if whole else str(value)


def _in_order(values: AbstractSet[Any]) -> list[Any]:
    """A set as a list: sorted where its members can be compared, so that texts are stable."""
    try:
        return sorted(values)
    except TypeError:
        return list(values)


def _refusal(value: Any) -> str:
    if isinstance(value, date):
        return f"{value!r} is a day, not an instant: give a datetime with a time zone"
    if isinstance(value, bytes | bytearray):
        return "bytes have no JSON form: decode them, or encode them as base64 text"
    return f"a value of type {type(value).__name__} has no JSON form"


def _fault(value: Any, error: Exception) -> UsageError:
    """The error for a value that the encoder refused, with the place where it stands."""
    for place, found in _walk(value, "value", 0):
        if isinstance(found, float) and not isfinite(found):
            return UsageError(f"{place} is {found!r}: JSON has no such number")
        if isinstance(found, bytes | bytearray):
            return UsageError(f"{place}: {_refusal(found)}")
    return UsageError(f"the value has no JSON form: {error}")


def _walk(value: Any, place: str, depth: int) -> Iterator[tuple[str, Any]]:
    """Every plain value inside *value* and where it stands; stops at a depth that no body may
    have.
    """
    if isinstance(value, _PLAIN) or depth > 100:
        yield place, value
    elif isinstance(value, Mapping):
        for key, entry in value.items():
            yield from _walk(entry, f"{place}[{key!r}]", depth + 1)
    elif isinstance(value, list | tuple | AbstractSet):
        for index, entry in enumerate(value):
            yield from _walk(entry, f"{place}[{index}]", depth + 1)
    else:
        yield place, value
