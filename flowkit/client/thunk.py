"""GreenThunk: stands in for an answer that may not be there yet.

Rules of this module:

* A thunk rests on a *source* (a call under way, or a look-up in another thunk), never on a
  greenlet, so it can be read from any thread or greenlet.
* Making one, ``repr``, ``type`` and passing it to this library never wait. Every other reading
  waits for the answer; a failed call raises its error at each reading, as a fresh copy.
* A name of ours on a thunk starts with ``_flowkit_``, for every other name belongs to the value.
"""

from __future__ import annotations

import copy
import math
import operator
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from flowkit import green
from flowkit.client.arguments import kept, origin, plain

__all__ = ["UNKNOWN", "GreenThunk", "MissingKey", "Mode", "Source"]


UNKNOWN: Any = object()
"""In the place of a value that has not been read yet."""


class Mode:
    """Whether look-ups wait; shared by a set of lazy calls and all thunks that come from it.

    Attributes:
        is_building: true inside the ``with api.lazy()`` block.
    """

    __slots__ = ("is_building",)

    def __init__(self) -> None:
        self.is_building = False


class Source(Protocol):
    """What a thunk rests on.

    Attributes:
        known: the value, once it has been read, else ``UNKNOWN``. The thunk writes it.
        mode: of the lazy calls that it came from.
    """

    known: Any
    mode: Mode

    @property
    def is_ready(self) -> bool:
        """Whether there is an outcome; never waits."""

    def hurry(self) -> None:
        """Somebody asks for the outcome: what waits for others to be asked for, too, begins."""

    def calls(self) -> Iterator[Any]:
        """The calls under way that its outcome needs."""

    def wait(self, timeout_s: float | None) -> bool:
        """Wait at most *timeout_s* seconds (None: for ever); whether there is an outcome."""

    def value(self) -> Any:
        """Wait, then return the value, or raise a fresh copy of the error."""

    def describe(self) -> str:
        """The request and the line that made it, for ``repr`` and errors."""


class GreenThunk:
    """Stands in for the answer of a lazy call: a mapping, a list, a scalar or None.

    Args:
        source: where the value comes from. While its mode says ``is_building``, ``thunk[key]`` and
            ``thunk[i:j]`` answer a new thunk at once.
    """

    # A class with __getattr__ is slow at every look-up of an attribute, its own slots too. So there
    # is one slot, and whatever else is to be remembered is in the source.
    __slots__ = ("__weakref__", "_flowkit_source")

    __flowkit_thunk__ = True

    def __init__(self, source: Source) -> None:
        self._flowkit_source = source

    def _flowkit_read(self) -> Any:
        """The value; waits for it the first time. The commonest readings look themselves first."""
        source = self._flowkit_source
        if source.known is UNKNOWN:
            source.known = source.value()
        return source.known

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_flowkit_"):
            raise AttributeError(name)
        return getattr(self._flowkit_read(), name)

    # What does not wait

    @property
    def is_ready(self) -> bool:
        """Whether reading would not wait, because the answer is there or the call has failed."""
        self._flowkit_source.hurry()
        return self._flowkit_source.is_ready

    def __repr__(self) -> str:
        source = self._flowkit_source
        if not source.is_ready:
            return f"<GreenThunk of {source.describe()}: not ready>"
        try:
            return f"<GreenThunk {self._flowkit_read()!r}>"
        except Exception as error:  # noqa: BLE001 - showing a failed call must not raise its error
            return f"<GreenThunk of {source.describe()}: failed with {type(error).__name__}>"

    # What waits

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until it is ready, at most *timeout_s* seconds; whether it is.

        The error of a failed call is not raised here: a failed call is ready.
        """
        return self._flowkit_source.wait(timeout_s)

    def unwrap(self) -> Any:
        """The plain value, with thunks inside it replaced by their values too.

        It is the same object that the thunk stands for, unless a thunk had to be replaced.
        """
        return plain(self._flowkit_read())

    def for_json(self) -> Any:
        """The value, for ``simplejson.dumps(…, for_json=True)``."""
        return self._flowkit_read()

    def __getitem__(self, key: Any) -> Any:
        source = self._flowkit_source
        if source.mode.is_building:
            return GreenThunk(_LookUp(source, key, origin()))
        if source.known is UNKNOWN:
            source.known = source.value()
        return source.known[key]

    @property  # type: ignore[misc]  # isinstance sees the class of the value
    def __class__(self) -> Any:
        return self._flowkit_read().__class__

    def __iter__(self) -> Iterator[Any]:
        source = self._flowkit_source
        if source.known is UNKNOWN:
            source.known = source.value()
        return iter(source.known)

    def __len__(self) -> int:
        source = self._flowkit_source
        if source.known is UNKNOWN:
            source.known = source.value()
        return len(source.known)

    def __contains__(self, item: object) -> bool:
        source = self._flowkit_source
        if source.known is UNKNOWN:
            source.known = source.value()
        return item in source.known

    def __eq__(self, other: object) -> Any:
        source = self._flowkit_source
        if source.known is UNKNOWN:
            source.known = source.value()
        return source.known == other

    def __ne__(self, other: object) -> Any:
        return self._flowkit_read() != other

    def __bool__(self) -> bool:
        source = self._flowkit_source
        if source.known is UNKNOWN:
            source.known = source.value()
        return bool(source.known)

    def __hash__(self) -> int:
        return hash(self._flowkit_read())

    def __str__(self) -> str:
        return str(self._flowkit_read())

    def __format__(self, spec: str) -> str:
        return format(self._flowkit_read(), spec)

    def __dir__(self) -> list[str]:
        return dir(self._flowkit_read())

    def __setitem__(self, key: Any, value: Any) -> None:
        self._flowkit_read()[key] = value

    def __delitem__(self, key: Any) -> None:
        del self._flowkit_read()[key]

    def __pow__(self, other: Any, modulo: Any = None) -> Any:
        return pow(self._flowkit_read(), other, modulo)

    def __rpow__(self, other: Any, modulo: Any = None) -> Any:
        return pow(other, self._flowkit_read(), modulo)

    def __round__(self, digits: Any = None) -> Any:
        return round(self._flowkit_read(), digits)

    def __copy__(self) -> Any:
        return copy.copy(self._flowkit_read())

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return copy.deepcopy(self._flowkit_read(), memo)

    def __reduce_ex__(self, protocol: Any) -> Any:
        # Below protocol 2 Python cannot describe an int or a str this way.
        return self._flowkit_read().__reduce_ex__(max(2, protocol))


# The rest of what values can do, by table: each answers the plain result.

_UNARY: dict[str, Callable[[Any], Any]] = {
    "abs": abs,
    "bytes": bytes,
    "ceil": math.ceil,
    "complex": complex,
    "float": float,
    "floor": math.floor,
    "index": operator.index,
    "int": int,
    "invert": operator.invert,
    "neg": operator.neg,
    "pos": operator.pos,
    "reversed": reversed,
    "trunc": math.trunc,
}

_ORDERING = {name: getattr(operator, name) for name in ("lt", "le", "gt", "ge")}

_BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "add": operator.add,
    "and": operator.and_,
    "divmod": divmod,
    "floordiv": operator.floordiv,
    "lshift": operator.lshift,
    "mod": operator.mod,
    "mul": operator.mul,
    "or": operator.or_,
    "rshift": operator.rshift,
    "sub": operator.sub,
    "truediv": operator.truediv,
    "xor": operator.xor,
}

_IN_PLACE: dict[str, Callable[[Any, Any], Any]] = {
    "iadd": operator.iadd,
    "iand": operator.iand,
    "imul": operator.imul,
    "ior": operator.ior,
    "isub": operator.isub,
    "ixor": operator.ixor,
}


def _unary(act: Callable[[Any], Any]) -> Callable[[GreenThunk], Any]:
    return lambda thunk: act(thunk._flowkit_read())


def _binary(act: Callable[[Any, Any], Any]) -> Callable[[GreenThunk, Any], Any]:
    return lambda thunk, other: act(thunk._flowkit_read(), other)


def _reflected(act: Callable[[Any, Any], Any]) -> Callable[[GreenThunk, Any], Any]:
    return lambda thunk, other: act(other, thunk._flowkit_read())


def _in_place(act: Callable[[Any, Any], Any]) -> Callable[[GreenThunk, Any], Any]:
    def change(thunk: GreenThunk, other: Any) -> Any:
        value = thunk._flowkit_read()
        result = act(value, other)
        return thunk if result is value else result  # a list stays the thunk, a number does not

    return change


def _define(name: str, method: Callable[..., Any]) -> None:
    method.__name__ = f"__{name}__"
    method.__qualname__ = f"GreenThunk.__{name}__"
    setattr(GreenThunk, method.__name__, method)


for _name, _act in _UNARY.items():
    _define(_name, _unary(_act))
for _name, _operation in (_ORDERING | _BINARY).items():
    _define(_name, _binary(_operation))
for _name, _operation in _BINARY.items():
    _define(f"r{_name}", _reflected(_operation))
for _name, _operation in _IN_PLACE.items():
    _define(_name, _in_place(_operation))


class MissingKey(KeyError):
    """A key that a look-up inside a ``with api.lazy()`` block did not find.

    Attributes:
        key: the key.
        origin: ``file:line`` of the look-up.
    """

    def __init__(self, key: object, where: str = "") -> None:
        super().__init__(key, where)
        self.key = key
        self.origin = where

    def __str__(self) -> str:
        return f"{self.key!r} (looked up at {self.origin})"


class _LookUp:
    """The source of ``thunk[key]`` inside a block: the look-up itself, done when it is read."""

    __slots__ = ("holder", "key", "known", "mode", "where")

    def __init__(self, holder: Source, key: Any, where: str) -> None:
        self.holder: Source | None = holder  # None once the value is known, to let go of the rest
        self.key = key
        self.known = UNKNOWN
        self.mode = holder.mode
        self.where = where

    def _sources(self) -> list[Source]:
        """What it rests on: its holder, and thunks in its key."""
        holder = self.holder
        if holder is None:
            return []
        if type(self.key) in (str, int):
            return [holder]
        thunks: list[GreenThunk] = []
        kept(self.key, thunks)
        return [*(thunk._flowkit_source for thunk in thunks), holder]

    @property
    def is_ready(self) -> bool:
        return all(source.is_ready for source in self._sources())

    def hurry(self) -> None:
        for source in self._sources():
            source.hurry()

    def calls(self) -> Iterator[Any]:
        for source in self._sources():
            yield from source.calls()

    def wait(self, timeout_s: float | None) -> bool:
        self.hurry()
        until = None if timeout_s is None else green.monotonic() + timeout_s
        return all(
            call.cell.wait(None if until is None else max(0.0, until - green.monotonic()))
            for call in self.calls()
        )

    def value(self) -> Any:
        holder = self.holder
        if holder is None:  # another thread has just been here
            return self.known
        if holder.known is UNKNOWN:
            holder.known = holder.value()
        key = plain(self.key)
        try:
            self.known = holder.known[key]
        except KeyError:
            raise MissingKey(key, self.where) from None
        except (IndexError, TypeError) as error:
            told = f"{error}: [{_shown(key)}] looked up at {self.where}"
            raise type(error)(told) from None
        self.holder = None
        return self.known

    def describe(self) -> str:
        return f"[{_shown(self.key)}] at {self.where}"


def _shown(key: Any) -> str:
    if not isinstance(key, slice):
        return repr(key)
    ends = ["" if end is None else repr(end) for end in (key.start, key.stop, key.step)]
    return ":".join(ends if ends[2] else ends[:2])
