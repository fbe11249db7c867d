"""The error of a parallel call: raised at each reading, as a copy that says where it began.

The original is never raised a second time, so its traceback does not grow; it is the ``__cause__``
of each copy.
"""

from __future__ import annotations

import copy
import types

__all__ = ["fresh"]


def fresh(error: BaseException, told: str, where: str) -> BaseException:
    """A copy of *error* to be raised: its own traceback, *error* as its cause, and where it began.

    Args:
        error: what a green thread ended with; it is left as it is.
        told: the call, for example ``"flow.find"``.
        where: ``file:line`` of the call.

    The copy has ``origin``: the line of the call that failed first (a call whose *argument* failed
    has a note of its own, but not a new origin).
    """
    other = _copied(error)
    if other is error:
        return error
    other.__cause__ = error
    other.__notes__ = [*getattr(error, "__notes__", ())]
    if getattr(error, "origin", None):
        other.add_note(f"an argument of {told}, called at {where}")
    else:
        other.add_note(f"in {told}, called at {where}")
        other.__dict__["origin"] = where
    return other


def _copied(error: BaseException) -> BaseException:
    """A copy without its traceback; *error* itself if its class cannot be copied."""
    kind = type(error)
    try:
        if _has_own(kind, "__init__") and not _has_own(kind, "__reduce__"):
            # Its arguments are not those of its __init__: rebuild it without calling that.
            other = kind.__new__(kind, *error.args)
            other.args = error.args
            other.__dict__.update(error.__dict__)
        else:
            other = copy.copy(error)
    except Exception:  # noqa: BLE001 - any class of the user's may refuse; the original will do
        return error
    return other if type(other) is kind else error


def _has_own(kind: type, name: str) -> bool:
    """Whether the method is written in Python, not one of the built-in exceptions' own."""
    return isinstance(getattr(kind, name), types.FunctionType)
