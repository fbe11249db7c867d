"""Objects of one kind as one statement: those that SQL lets through, and of each what is asked.

An object is one document, so every member has its place in the column ``doc``. What is read of it
is given by the names of its **members**. Documents may be large and many; reading two members of
one takes microseconds, decoding the whole of it a millisecond.
"""

# ruff: noqa: S608 - every part of a statement here is a text of ours; what users wrote is a parameter

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from flowkit.query.nodes import And, Filter, Path
from flowkit.query.places import Places
from flowkit.server.fields import json_path
from flowkit.server.sql.translate import Translator
from flowkit.server.sql.values import Parameters, conjunction

__all__ = ["Sieve", "part_of", "sieve_of"]


@dataclass(frozen=True, slots=True)
class Sieve:
    """How the objects of a kind are read for a find.

    Attributes:
        sql, params: the statement; each row is kind, account, document and state.
        members: what is read of a document, which is then an array; None where it is read whole.
        where: the condition of the filter alone.
        rest: the part of the filter that Python must ask; None if SQL says all of it.
    """

    sql: str
    params: tuple[Any, ...]
    members: Sequence[str] | None
    where: str
    rest: Filter | None


def sieve_of(
    kind: str,
    asked: Filter,
    *,
    accounts: Sequence[str] | None,
    is_stored: Callable[[Path], bool] | None,
    members: Callable[[Filter | None], Sequence[str] | None],
    now_ms: int,
    places: Places | None,
) -> Sieve:
    """The statement that reads the objects of a kind for a filter.

    Args:
        kind: the name of the resource.
        asked: the filter.
        accounts: whose objects; None for all.
        is_stored: whether a member is shown as it is stored, so that SQL may judge it; None where
            SQL shall judge nothing.
        members: what to read of each object, given what is left to Python; None for all of it.
        now_ms: what AGE measures from, in ms since 1970 UTC.
        places: the table of postal codes.

    Raises:
        FilterError: a postal code cannot be looked up, or a pattern is refused.
    """
    parameters = Parameters()
    scope = [f"kind = {parameters.add(kind)}"]
    if accounts is not None:
        scope.append(f"account IN ({', '.join(map(parameters.add, accounts))})")
    conditions: list[str] = []
    rest = [asked]
    if is_stored is not None:
        translator = Translator(
            kind, parameters, constants={}, now_ms=now_ms, places=places, is_stored=is_stored
        )
        conditions, rest = translator.split(asked)
    left = None if not rest else rest[0] if len(rest) == 1 else And(tuple(rest))
    read = members(left)
    # Each part is a text of ours with numbered parameters: see values.py and fields.py.
    sql = (
        f"SELECT kind, account, {part_of(read, parameters)}, state"
        " FROM object INDEXED BY object_by_account"
        f" WHERE {conjunction([*scope, *conditions])}"
    )
    return Sieve(sql, parameters.of(sql), read, conjunction(conditions), left)


def part_of(members: Sequence[str] | None, parameters: Parameters) -> str:
    """The expression that reads *members* of a document as one array; two of them at least."""
    if members is None:
        return "doc"
    return (
        f"jsonb_extract(doc, {', '.join(parameters.add(json_path((name,))) for name in members)})"
    )
