"""What else than a drop an entry of an array create can be: the hook for further kinds.

An entry with an ``origin`` is told by a member of its own: ``reported`` is a change of properties,
``message`` a message of a device. ``arrays.py`` has the table of kinds; each is two or three
functions:

    check   before the job of the store: the entry without its ``origin``; what it gives is handed
            on, and what it raises is the entry's answer
    ahead   where an entry is large: on a reader, before the job, so that the writer need not
    store   inside the job, on the writer, once the entry's turn in its line has come. It must raise
            before its first write, or not at all: an entry that is refused leaves nothing behind.

Source: ``positions`` 9; ``docs/reference/sending.rst``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from flowkit.server.auth import Credential
from flowkit.server.call import Call
from flowkit.server.marks import Origin
from flowkit.server.store.base import Reader, Writer

__all__ = ["EntryKind", "Sent"]


class Ahead(Protocol):
    """What is done on a reader for the entries of a kind."""

    def __call__(
        self,
        reader: Reader,
        who: Credential,
        sent: Sequence[tuple[Origin, Any]],
        shared: dict[str, Any],
    ) -> None:
        """Look at *sent*, (origin, what the check gave); what is found goes to *shared*."""


@dataclass(frozen=True, slots=True)
class Sent:
    """One entry whose turn has come.

    Attributes:
        call: the request that it is part of.
        origin: where it stands in its line.
        checked: what the check of its kind gave.
        shared: what the entries of this request keep for one another, by the member of their kind.
    """

    call: Call
    origin: Origin
    checked: Any
    shared: dict[str, Any]


@dataclass(frozen=True, slots=True)
class EntryKind:
    """A kind of entry.

    Attributes:
        member: the member that tells it.
        check: looks at the entry (without ``origin``) before the job of the store.
        store: does it; gives its item of the answer, an object. A ``status`` of 200 in it says
            that nothing was stored.
        ahead: what a reader can do before the job, once the caller is known, for entries of which
            *is_large*: it gets all entries of the kind and keeps what it found in the last
            argument, which becomes ``Sent.shared``. It changes nothing, and it may be wrong about
            what the job will find: that looks again.
        is_large: whether what the check gave is worth that.
        finish: after all entries of a request, with what they share: writes what need not be
            written with each.
    """

    member: str
    check: Callable[[Call, dict[str, Any]], Any]
    store: Callable[[Writer, Credential, Sent], dict[str, Any]]
    ahead: Ahead | None = None
    is_large: Callable[[Any], bool] = bool
    finish: Callable[[dict[str, Any]], None] | None = None
