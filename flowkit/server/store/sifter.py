"""Objects of one kind, one after the other: however many there are, none is kept.

A find over objects looks at all of them, and what it looks at may be far more than what it answers.
So each is handed over and forgotten, read in part where that is enough, and only what is shown
counts against the bound of the job.

Rules: as for ``reading.py``; whoever is handed an object may ask the transaction more about it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, closing
from typing import Any, TypeVar

import orjson

from flowkit.server.sql import Sieve
from flowkit.server.store.base import StoredObject
from flowkit.server.store.objects import Objects

__all__ = ["Sifter"]

T = TypeVar("T")


class Sifter:
    """The verbs of ``parts.ObjectSifter`` on one connection.

    Args:
        objects: of that connection.
        paced: hands things over with a look at the clock, and a pause for others, now and then.
        counted: a block whose counts are taken back where it is refused.
        count: told the bytes of each object that is shown.
        search: looks for a pattern in a text, counting the time.
    """

    def __init__(
        self,
        objects: Objects,
        paced: Callable[[Iterable[Any]], Iterator[Any]],
        *,
        counted: Callable[[], AbstractContextManager[None]],
        count: Callable[[int], None],
        search: Callable[[Any, str], bool],
    ) -> None:
        self._objects = objects
        self._paced = paced
        self._counted = counted
        self._count = count
        self.search = search

    def sift(self, sieve: Sieve, judge: Callable[[StoredObject], T | None]) -> list[T]:
        """What *judge* makes of each object that the sieve lets through, None left out."""
        made = []
        with closing(self._objects.sifted(sieve)) as found:
            for each in self._paced(found):
                verdict = judge(each)
                if verdict is not None:
                    made.append(verdict)
        return made

    def show(
        self,
        kind: str,
        ids: Sequence[str],
        members: Sequence[str] | None,
        show: Callable[[StoredObject], Any],
    ) -> list[Any]:
        """What *show* makes of these objects, in their order, as JSON text."""
        shown = []
        with self._counted():
            for found in self._paced(self._objects.parts(kind, ids, members)):
                text = orjson.dumps(show(found))
                self._count(len(text))
                shown.append(orjson.Fragment(text))
        return shown

    def holds(self, kind: str, object_id: str) -> bool:
        """Whether there is an object of that kind with that id."""
        return self._objects.holds(kind, object_id)
