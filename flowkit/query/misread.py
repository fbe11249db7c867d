"""What Python would read in another way than it looks, and the error that says so.

``and``, ``or``, ``not``, ``in``, ``if`` and chained comparisons ask an object for its truth and
then drop a part of the expression; ``&`` without parentheses binds tighter than ``==``. Filters and
the objects that build them (half rules: a member, ``mem.a % 5``, ``AGE``) therefore refuse every
operator that has no meaning for them. Source: defects 45 and 46 of protocol 13.2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NoReturn, TypeVar

from flowkit.errors import FilterError
from flowkit.query import normal
from flowkit.query.nodes import Filter

__all__ = ["PARENTHESES", "Misread", "half", "refuse_call", "refuse_left", "refuse_truth", "said"]


class Misread(FilterError, TypeError):
    """Python would read this expression in another way than it was meant."""


PARENTHESES = "put parentheses around each comparison: (mem.a == 1) & (mem.b == 2)"
_ARITHMETIC = "a filter cannot compute; move the arithmetic to the value: mem.a > 5 - 1"
_REFUSED: Final = {
    **dict.fromkeys(("and", "or", "xor"), PARENTHESES),
    **dict.fromkeys(
        ("add", "sub", "mul", "truediv", "floordiv", "pow", "lshift", "rshift", "matmul"),
        _ARITHMETIC,
    ),
}
_SIGNS: Final = {
    "and": "&", "or": "|", "xor": "^", "add": "+", "sub": "-", "mul": "*", "truediv": "/",
    "floordiv": "//", "pow": "**", "lshift": "<<", "rshift": ">>", "matmul": "@",
}  # fmt: skip
_INSTEAD_OF_CALLS: Final = {
    **dict.fromkeys(("lower", "upper", "casefold"), "ignore case with m.re('…', 'i')"),
    **dict.fromkeys(("match", "search", "matches", "like"), "write m.re('…')"),
    "startswith": "write m.re('^…')",
    "endswith": "write m.re('…$')",
    **dict.fromkeys(("in", "in_", "isin", "one_of"), "write m.IN(1, 2)"),
    "contains": "write m.CONTAINS(1, 2)",
    **dict.fromkeys(("within", "near"), "write m.WITHIN(5, 'KM', coords=(59.91, 10.75))"),
    **dict.fromkeys(("exists", "isnull", "is_null", "get"), "write EXISTS(m)"),
    **dict.fromkeys(("and", "or", "not"), PARENTHESES),
    "between": "write (m >= 1) & (m <= 5)",
}
"""Methods that members of other libraries have, and what to write here."""
_T = TypeVar("_T")


def half(kind: type[_T]) -> type[_T]:
    """Make every operator that *kind* does not define raise: it is half a rule, no value."""
    for name, hint in _REFUSED.items():
        _refuse(kind, f"__{name}__", lambda me, _, s=_SIGNS[name]: f"{me!r} {s} …", hint)
        _refuse(
            kind,
            f"__r{name}__",
            lambda me, other, s=_SIGNS[name]: f"{said(other)} {s} {me!r}",
            hint,
        )
    _refuse(
        kind,
        "__mod__",
        lambda me, _: f"{me!r} % …",
        "only a member has a remainder: mem.a % 5 == 0",
    )
    _refuse(kind, "__rmod__", lambda me, other: f"{said(other)} % {me!r}", _ARITHMETIC)
    _refuse(kind, "__neg__", lambda me: f"-{me!r}", "negate the value, not the member")
    _refuse(kind, "__invert__", lambda me: f"~{me!r}", "write NOT(EXISTS(m)) or NOT(m == …)")
    _refuse(
        kind,
        "__bool__",
        lambda me: f"the truth of {me!r} (with 'and', 'or', 'not', 'if', or a chained comparison)",
        "join comparisons with & | ~ or .AND() .OR() NOT(); ask for presence with EXISTS(m)",
    )
    _refuse(
        kind,
        "__contains__",
        lambda me, value: f"{said(value)} in {me!r}",
        "write m.CONTAINS(value) for a list that holds it, m == value for any entry",
    )
    kind.__iter__ = None  # type: ignore[attr-defined]  # Python's word for: no iterable
    return kind


def _refuse(kind: type, name: str, written: Callable[..., str], hint: str) -> None:
    if name in kind.__dict__:
        return

    def refusal(*operands: object) -> NoReturn:
        raise Misread(f"{written(*operands)} has no meaning in a filter", hint=hint)

    refusal.__name__ = name
    setattr(kind, name, refusal)


def said(value: object) -> str:
    """How a value is shown in an error; a thunk shows itself without waiting."""
    return normal.shown(value, 60)


def refuse_call(member: object, name: str) -> NoReturn:
    """Raise ``Misread``: ``mem.a.startswith('x')``, or another member that is called."""
    raise Misread(
        f"{member!r}(…) calls a member, which only has the words re, IN, CONTAINS and WITHIN",
        hint=_INSTEAD_OF_CALLS.get(name.lower()),
    )


def refuse_left(left: object, sign: str, filter: Filter) -> NoReturn:  # noqa: A002 - as below
    """Raise ``Misread``: ``mem.a == left & filter``, or another *left* that is no filter."""
    raise Misread(
        f"{said(left)} {sign} ({said(filter)}) joins with a {type(left).__name__}, not a filter",
        hint=PARENTHESES,
    )


def refuse_truth(filter: Filter) -> NoReturn:  # noqa: A002 - the glossary's word
    """Raise ``Misread``: ``and``, ``or``, ``not``, ``in`` or ``if`` asked for a filter's truth."""
    raise Misread(
        f"the filter {said(filter)} has no truth of its own: 'and', 'or', 'not', 'in', 'if' "
        "and chained comparisons would drop a part of it",
        hint="join with & | ~ or .AND() .OR() NOT(); write (1 < m) & (m < 5) for 1 < m < 5, "
        "m.IN(…) for m in […]",
    )
