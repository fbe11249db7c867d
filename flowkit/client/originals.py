"""Whether a method is the one that this library wrote, or something stands in its place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["is_original", "original"]

_F = TypeVar("_F", bound=Callable[..., Any])


def original(function: _F) -> _F:
    """Mark a method, so that ``is_original`` knows it from what stands in its place."""
    function.original = function  # type: ignore[attr-defined]  # functions take attributes
    return function


def is_original(owner: object, name: str) -> bool:
    """Whether the method *name* of *owner* is the marked one: not overridden, wrapped or replaced,
    in the class or in the object, and *owner* no stand-in.
    """
    found = getattr(type(owner), name, None)
    # What wraps a function takes its attributes along: so the mark is the function itself.
    return found is not None and found is getattr(found, "original", 0) and name not in vars(owner)
