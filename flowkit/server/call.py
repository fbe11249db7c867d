"""One request as the handlers see it, and what they give back.

A handler works in two steps, because there is one writer for everybody. The handler itself is
called first, outside the store: it reads and checks whatever can be checked without the store and
returns its **work**, a function that then runs inside one job of the store, after the credential
was found there.

Source: protocol 3.3 (envelope), 3.6 (parameters), 0.2 (versions).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from flowkit.protocol.envelope import Request
from flowkit.query.params import Query, flag
from flowkit.server.auth import Credential
from flowkit.server.bodies import read_json
from flowkit.server.checking import NOTES_MAX, notes_for_unknown
from flowkit.server.settings import Settings
from flowkit.server.store.base import Reader

__all__ = ["Ahead", "Call", "Handler", "Result", "Work"]

_UNREAD: Any = object()


@dataclass(slots=True)
class Result:
    """What a work answers.

    Attributes:
        body: the ``body`` of the envelope.
        status: 200, 201 or 207.
        head: further members of ``head``: ``position``, ``plan`` …
        references: ``head.references``.
        kept: the body that a repetition of the request gets (3.2), where it is another one: a
            secret that is told once is not kept.
        later: makes the real result once the job of the store has ended, for what takes longer
            than a job may (a script); only for what does not write.
    """

    body: Any
    status: int = 200
    head: dict[str, Any] = field(default_factory=dict)
    references: dict[str, Any] = field(default_factory=dict)
    kept: Any = _UNREAD
    later: Later | None = None

    @property
    def again(self) -> Result:
        """The result that a repetition gets."""
        return self if self.kept is _UNREAD else replace(self, body=self.kept, kept=_UNREAD)


Later = Callable[[Callable[[Callable[[Any], Any]], Any]], Result]
"""Makes a result outside of any job; its argument runs a reading job (``Store.read``)."""

Work = Callable[[Any, Credential], Result]
"""Runs in a job of the store; its first argument is a ``Reader``, or a ``Writer`` for a write."""

Ahead = Callable[[Reader, Credential], None]
"""Runs on a snapshot before the job of a write, for the credential as it is then."""


@dataclass(slots=True)
class Call:
    """One request on its way.

    Attributes:
        request: as it came.
        args: what stands in the address where the route has names: ``{"id": "f5a2…"}``.
        params: the query parameters, from the address or from the body of an overridden GET.
        known: the parameters that the route has.
        typed: whether elements are typed by default (``v0.*``).
        now_ms: the time of the request; the same for everything that it does.
        settings: of the server.
        places: the table of postal codes, or None.
        again: hands another request of the same caller to its handler (for ``POST /batch``).
        scripts: runs the scripts of Tracks; None where this server cannot.
        metrics: counts what was done; None where nobody counts.
        ahead: what a write does on a reader before its job, so that the writer need not; it changes
            nothing, and the job does not rely on it.
        notes: sentences for ``head.messages``.
    """

    request: Request
    args: Mapping[str, str]
    params: Mapping[str, Any]
    known: frozenset[str]
    typed: bool
    now_ms: int
    settings: Settings
    places: Any = None
    again: Callable[..., tuple[Call, Work]] | None = None
    scripts: Any = None
    metrics: Any = None
    ahead: list[Ahead] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    _body: Any = _UNREAD

    def body(self, *, entries_apart: bool = False) -> Any:
        """The decoded body; raises ``BadRequest`` if it is not what the strict parser takes.

        With *entries_apart* an entry of an array that it does not take is that error instead.
        """
        if self._body is _UNREAD:
            self._body = read_json(self.request.body, entries_apart=entries_apart)
        return self._body

    def set_body(self, value: Any) -> None:
        """Give a body that is decoded already."""
        self._body = value

    @property
    def entries(self) -> int:
        """How many things the body speaks of, as far as it was read: drops, ids, changes."""
        return len(self._body) if isinstance(self._body, list | dict) else 0

    def query(self) -> Query:
        """The parameters of this route as a query; the others become notes.

        Raises:
            BadRequest: one sentence per fault.
        """
        self.note(notes_for_unknown(sorted(set(self.params) - self.known), "a parameter here"))
        taken = {
            name: value
            for name, value in self.params.items()
            if name in self.known and name != "forget"
        }
        return Query.from_wire(taken)

    def flag(self, name: str) -> bool:
        """A boolean parameter that is no part of a query; False if absent."""
        return flag(name, self.params.get(name))

    def note(self, notes: Iterable[str]) -> None:
        """Add sentences to ``head.messages``, each once, up to a bound."""
        for sentence in notes:
            if sentence not in self.notes and len(self.notes) < NOTES_MAX:
                self.notes.append(sentence)

    def shows_types(self, query: Query) -> bool:
        """Whether the answer carries typed elements (2.3)."""
        return self.typed if query.hints is None else query.hints


Handler = Callable[[Call], Work]
"""One endpoint."""
