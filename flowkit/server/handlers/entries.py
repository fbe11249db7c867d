"""What else than a drop an entry of an array create can be: the hook for further kinds.

An entry with an ``origin`` is told by a member of its own: ``reported`` is a change of properties,
``message`` a message of a device. ``arrays.py`` has the table of kinds; each is two functions:

    check   before the job of the store: the entry without its ``origin``; what it gives is handed
            on, and what it raises is the entry's answer
    store   inside the job, on the writer, once the entry's turn in its line has come. It must raise
            before its first write, or not at all: an entry that is refused leaves nothing behind.

Source: ``positions`` 9; ``docs/reference/sending.rst``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flowkit.server.auth import Credential
from flowkit.server.call import Call
from flowkit.server.marks import Origin
from flowkit.server.store.base import Writer

__all__ = ["EntryKind", "Sent"]


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
    """

    member: str
    check: Callable[[Call, dict[str, Any]], Any]
    store: Callable[[Writer, Credential, Sent], dict[str, Any]]
