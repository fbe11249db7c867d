"""One change as readers are told of it: judged once per filter, encoded once per form.

Source: protocol 9.4 (pushed drops), ``positions`` 4 (which changes a reader gets), 6 (the wire),
7.7 (a filter is evaluated once for all readers with the same text).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import orjson

from flowkit.query.places import Places
from flowkit.server.live.frames import frame
from flowkit.server.showing import shown_drop
from flowkit.server.store.base import Change, StoredDrop

if TYPE_CHECKING:
    from flowkit.server.live.reader import Reader

__all__ = ["Told", "shown"]

Predicate = Callable[..., bool]


class Told:
    """A change on its way to readers.

    Args:
        flow_id: the flow.
        change: the change.
        position: its position, as text.
        places: the table of postal codes, for filters with ``ZIP=``.

    Attributes:
        seq, kind, position: of the change; ``pass`` is a ``create`` to listeners.
        drop: the state that the change began or, for the end of one, the last state.
        drop_id: the id of the drop.
    """

    __slots__ = (
        "_change",
        "_flow_id",
        "_forms",
        "_places",
        "_truths",
        "drop",
        "drop_id",
        "kind",
        "position",
        "seq",
    )

    def __init__(
        self, flow_id: str, change: Change, position: str, places: Places | None = None
    ) -> None:
        self.seq = change.seq
        self.kind = "create" if change.kind == "pass" else change.kind
        self.position = position
        drop = change.new if change.new is not None else change.old
        assert drop is not None
        self.drop: StoredDrop = drop
        self.drop_id: str = drop.doc["id"]
        self._flow_id = flow_id
        self._change = change
        self._places = places
        self._truths: dict[Any, bool] = {}
        self._forms: dict[Any, bytes] = {}

    def fits(self, matches: Predicate | None) -> bool:
        """Whether the drop of a listener's message passes its filter.

        That is the new state, or the last one of a drop that has ended. None passes everything.
        """
        return matches is None or self._truth(matches, self.drop, "drop")

    def fitted(self, matches: Predicate | None) -> tuple[bool, bool]:
        """Whether the state before the change passed the filter, and whether the one after does."""
        change = self._change
        old, new = change.old, change.new if change.kind != "pass" else None
        return (
            old is not None and (matches is None or self._truth(matches, old, "old")),
            new is not None and (matches is None or self._truth(matches, new, "new")),
        )

    def _truth(self, matches: Predicate, drop: StoredDrop, which: str) -> bool:
        key = (matches, which)
        known = self._truths.get(key)
        if known is None:
            known = matches(drop.doc, self._change.at, self._places, drop.types)
            self._truths[key] = known
        return known

    def plain(self, typed: bool) -> bytes:
        """The frame of the push of a plain subscription (9.4)."""
        made = self._forms.get(typed)
        if made is None:
            value = shown(self.drop, typed, None)
            text = b'{"type":"message","resource":"%b","value":%b}'
            made = self._forms[typed] = frame(text % (self._flow_id.encode(), value))
        return made

    def message(self, reader: Reader, kind: str) -> bytes:
        """The frame of a reader's message: ``message``, ``enter``, ``update`` or ``leave``."""
        key = (kind, reader.name, reader.typed, reader.only)
        made = self._forms.get(key)
        if made is None:
            rest = self._rest(kind, reader.typed, reader.only)
            made = frame(b'{"type":"%b","sub":%b,%b' % (kind.encode(), reader.name, rest))
            self._forms[key] = made
        return made

    def _rest(self, kind: str, typed: bool, only: Sequence[str] | None) -> bytes:
        """What follows ``sub``: the same for all readers of one form."""
        key = (kind, typed, only)
        made = self._forms.get(key)
        if made is None:
            made = self._forms[key] = self._made(kind, typed, only)
        return made

    def _made(self, kind: str, typed: bool, only: Sequence[str] | None) -> bytes:
        head = f'"resource":"{self._flow_id}",'
        if kind == "message":
            head += f'"change":"{self.kind}",'
        head += f'"position":"{self.position}",'
        if kind == "leave":
            tail = f'"id":"{self.drop_id}","reason":"{self._reason()}"}}'
            return (head + tail).encode()
        return b'%b"value":%b}' % (head.encode(), shown(self.drop, typed, only))

    def _reason(self) -> str:
        return {"delete": "deleted", "evict": "evicted"}.get(self.kind, "changed")


def shown(drop: StoredDrop, typed: bool, only: Sequence[str] | None) -> bytes:
    """A drop as JSON text, as a reader wants to see it."""
    return orjson.dumps(shown_drop(drop, typed=typed, only=only))
