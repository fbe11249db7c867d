"""A find over all objects of a kind, of which there may be many thousands, each large.

It takes two steps in one snapshot. The first looks at every object and keeps nothing but what those
that are found are ordered by: SQL judges what it can, Python the rest, each object by as few of its
members as that takes. The second makes what is answered, of the objects on the page alone.

SQL judges nothing but what is the caller's own. Of others' objects, and where a Token asks, a right
comes before any look: else the patterns of a filter would run over what may not be seen, and
whether they take too long tells what is there.

The answer is the one that ``listing.look`` gives over whole documents.

Source: protocol 3.6.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flowkit.protocol.resources import RESOURCES
from flowkit.query.nodes import Filter, Has, Matches, Path
from flowkit.query.params import Query
from flowkit.server.call import Call
from flowkit.server.handlers.verbs import Looked, Show
from flowkit.server.listing import Key, judge, members_of, page
from flowkit.server.showing import REFERRING
from flowkit.server.sql import Sieve, sieve_of
from flowkit.server.store.base import Reader, StoredObject

__all__ = ["INDEX", "InPart", "Kind", "View", "sifted"]

INDEX = "object_by_account"
"""What lists the objects of an account, or of a kind; tests ask SQLite itself."""

_ALWAYS = ("id", "creationDate")
"""What every find reads: AGE measures from the date, and ties go by the id."""


@dataclass(frozen=True, slots=True)
class InPart:
    """How objects of a kind are read in part.

    Attributes:
        read: members that ``seen`` and ``shown`` look at.
        made: members that ``shown`` makes: a filter over them takes more than what is stored.
        defaults: members that ``shown`` shows empty or as 0 where none is stored.
    """

    read: Sequence[str] = ()
    made: frozenset[str] = frozenset()
    defaults: frozenset[str] = frozenset()

    def is_stored(self, path: Path) -> bool:
        """Whether a member is shown as it is stored: nothing is inside of an empty default."""
        return path[0] not in self.made and (len(path) > 1 or path[0] not in self.defaults)


@dataclass(frozen=True, slots=True)
class Kind:
    """Which objects.

    Attributes:
        name: of the resource.
        accounts: whose they are; None for any.
        owned: the one among these accounts of which the caller may see all; None for no such.
        in_part: how they are read in part; None: they are read whole.
    """

    name: str
    accounts: Sequence[str] | None
    owned: str | None
    in_part: InPart | None

    def scopes(self) -> list[tuple[Sequence[str] | None, Callable[[Path], bool] | None]]:
        """The accounts to read, what is owned by itself; and what SQL may judge of each part."""
        if self.in_part is None or self.owned is None or self.accounts is None:
            return [(self.accounts, None)]
        others = [each for each in self.accounts if each != self.owned]
        return [([self.owned], self.in_part.is_stored), *([(others, None)] if others else [])]

    def members(self, paths: Iterable[Path]) -> Sequence[str]:
        """What to read for these paths: the names of whole members, in their order.

        A member that the resource does not have is in no document.
        """
        assert self.in_part is not None
        wanted = {*_ALWAYS, *self.in_part.read, *(path[0] for path in paths)}
        return [name for name in RESOURCES[self.name].members if name in wanted]


@dataclass(frozen=True, slots=True)
class View:
    """How the caller of a find sees objects.

    Attributes:
        seen: whether it may read one.
        shown: the document of one as it may see it.
        show: makes of a document what is answered.
    """

    seen: Callable[[StoredObject], bool]
    shown: Callable[[StoredObject], dict[str, Any]]
    show: Show


def sifted(call: Call, query: Query, reader: Reader, kind: Kind, view: View) -> Looked:
    """A find over the objects of a kind."""
    sifter, sort, in_part = reader.sifter, query.sort_path, kind.in_part
    sieves = [
        sieve_of(
            kind.name,
            query.filter,
            accounts=accounts,
            is_stored=is_stored,
            members=lambda rest: _judged_by(kind, rest, sort),
            now_ms=call.now_ms,
            places=call.places,
        )
        for accounts, is_stored in kind.scopes()
    ]

    def judge_of(sieve: Sieve) -> Callable[[StoredObject], Key | None]:
        passes = judge(
            sieve.rest,
            sort,
            kind.name,
            now_ms=call.now_ms,
            places=call.places,
            search=sifter.search,
        )
        looks_at_stored = in_part is not None and _is_about_stored(in_part, sieve.rest, sort)

        def key_of(found: StoredObject) -> Key | None:
            if not view.seen(found):
                return None
            return passes(found.doc if looks_at_stored else view.shown(found))

        return key_of

    keys = [key for sieve in sieves for key in sifter.sift(sieve, judge_of(sieve))]
    shown = sifter.show(
        kind.name,
        page(keys, query),
        _answered(kind, query),
        lambda found: view.show(view.shown(found)),
    )
    return Looked(shown, _plan(sieves[0]))


def _judged_by(kind: Kind, rest: Filter | None, sort: Path) -> Sequence[str] | None:
    """What to read of objects to judge them; None for all of them."""
    if kind.in_part is None or not _names_its_members(rest):
        return None
    return kind.members([sort, *(members_of(rest) if rest is not None else ())])


def _names_its_members(rest: Filter | None) -> bool:
    """Whether a filter says which members it is about; MATCHES and HAS are about all."""
    return rest is None or not any(isinstance(each, Matches | Has) for each in rest.walk())


def _is_about_stored(in_part: InPart, rest: Filter | None, sort: Path) -> bool:
    """Whether what a filter and an order look at stands in the documents as they look at it."""
    if not _names_its_members(rest):
        return False
    paths = [sort, *(members_of(rest) if rest is not None else ())]
    return all(map(in_part.is_stored, paths))


def _answered(kind: Kind, query: Query) -> Sequence[str] | None:
    """What to read of the objects on the page; None for all of them."""
    if kind.in_part is None or query.only is None:
        return None
    named = [tuple(name.split(".")) for name in query.only]
    also = [(name,) for name in REFERRING] if query.refs else []
    return kind.members([*named, *also])


def _plan(sieve: Sieve) -> Mapping[str, Any]:
    """The plan in plain words and text, the answer to ``explain=1``; of what is owned, if any."""
    return {
        "sql": sieve.sql,
        "parameters": len(sieve.params),
        "filterInSql": sieve.where,
        "filterInPython": None if sieve.rest is None else str(sieve.rest) or None,
        "limitIn": "python",
        "index": INDEX,
    }
