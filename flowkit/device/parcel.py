"""One request of a sender: the rows of some streams as an array create, and what its answer says.

Pure: it knows neither the file nor the network.

Source: ``positions`` 9 (sending; server's rules 1 to 5; sender's rules 1, 2 and 5).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flowkit.errors import ProtocolError

if TYPE_CHECKING:
    from flowkit.device.outbox import Row
    from flowkit.protocol.envelope import Answer

__all__ = ["Mark", "Parcel", "Said", "pack", "read_mark"]

FOR_GOOD = frozenset({400, 413})
"""Refusals that no repetition changes; all others wait."""

_NO_MORE: Mapping[str, Any] = {}


@dataclass(frozen=True, slots=True)
class Mark:
    """The last entry of a stream that the server has settled; sequence 0 and None for none."""

    sequence: int
    message: str | None


@dataclass(frozen=True, slots=True)
class Said:
    """What an answer says of one stream.

    Attributes:
        stream: its name.
        mark: where the server is.
        row: the row that was refused, None if none was.
        status: of its refusal; 409 where the server awaited another one.
        errors: its sentences.
        is_first: whether nothing of the stream was settled before that row.
    """

    stream: str
    mark: Mark
    row: Row | None = None
    status: int = 200
    errors: tuple[str, ...] = ()
    is_first: bool = False

    @property
    def is_for_good(self) -> bool:
        """Whether no repetition of that row can succeed."""
        return self.status in FOR_GOOD

    @property
    def expected(self) -> bool:
        """Whether the server awaits an earlier row than the first one: it has gone back."""
        return self.is_first and self._is_conflict("expected")

    @property
    def forked(self) -> bool:
        """Whether the server has a line that another file has written."""
        return self._is_conflict("forked")

    def _is_conflict(self, word: str) -> bool:
        return self.status == 409 and any(each.startswith(word) for each in self.errors)


@dataclass(frozen=True, slots=True)
class Parcel:
    """One request.

    Attributes:
        box: the box whose rows these are.
        rows: by stream, in order.
        body: the JSON array.
    """

    box: str
    rows: Mapping[str, Sequence[Row]]
    body: bytes

    @property
    def count(self) -> int:
        """How many entries it has."""
        return sum(map(len, self.rows.values()))

    @property
    def all_rows(self) -> list[Row]:
        """Its rows, in the order of its entries."""
        return [row for of_stream in self.rows.values() for row in of_stream]

    def read(self, answer: Answer) -> list[Said]:
        """What *answer* says of each stream.

        Raises:
            ProtocolError: it is not the answer to this request.
        """
        items = answer.body
        marks = _marks(answer.head.get("marks"), self.box)
        if (
            not isinstance(items, list)
            or len(items) != self.count
            or not marks.keys() >= self.rows.keys()
        ):
            raise ProtocolError("the answer does not speak of the entries that were sent")
        said: list[Said] = []
        at = 0
        for stream, rows in self.rows.items():
            said.append(_said(stream, rows, items[at : at + len(rows)], marks[stream]))
            at += len(rows)
        return said


def pack(
    box: str,
    rows: Mapping[str, Sequence[Row]],
    more: Mapping[tuple[str, int], Mapping[str, Any]] = _NO_MORE,  # type: ignore[assignment]
) -> Parcel:
    """The request with these *rows*, each stream's in order.

    Args:
        box: whose rows they are.
        more: members that go into the ``message`` of an entry, by stream and sequence: where its
            payload is.
    """
    entries: list[bytes] = []
    for stream, of_stream in rows.items():
        start = f'"origin":{{"box":"{box}","stream":{json.dumps(stream)},'
        for at, row in enumerate(of_stream):
            origin = start + f'"sequence":{row.sequence},"message":"{row.message}"'
            if at == 0 and row.after is not None:
                origin += f',"after":"{row.after}"'
            if row.skip is not None:
                origin += f',"to":{row.to},"skip":{json.dumps(row.skip)}'
            entries.append(_entry(row, more.get((stream, row.sequence))) + origin.encode() + b"}}")
    return Parcel(box, rows, b"[" + b",\n".join(entries) + b"]")


def _entry(row: Row, more: Mapping[str, Any] | None) -> bytes:
    """The entry of a row, open at its end."""
    if row.entry is None:
        return b"{"
    text = row.entry
    if more:
        entry = json.loads(text)
        entry["message"] = {**entry.get("message", {}), **more}
        text = json.dumps(entry, separators=(",", ":"), ensure_ascii=False).encode()
    inner = text[1:-1]
    return b"{" + inner + b"," if inner.strip() else b"{"


def _said(stream: str, rows: Sequence[Row], items: Sequence[Any], mark: Mark) -> Said:
    """The first refusal is the one that counts: what comes after it was not tried."""
    for at, (row, item) in enumerate(zip(rows, items, strict=True)):
        status = item.get("status", 200) if isinstance(item, dict) else 500
        if not isinstance(status, int) or status < 400 or "errors" not in item:
            continue
        errors = item["errors"]
        sentences = tuple(map(str, errors)) if isinstance(errors, list) else (str(errors),)
        return Said(stream, mark, row, status, sentences, at == 0)
    return Said(stream, mark)


def _marks(said: Any, box: str) -> dict[str, Mark]:
    """``head.marks``, those of this box, by stream."""
    if not isinstance(said, list):
        return {}
    return {
        str(one.get("stream")): read_mark(one)
        for one in said
        if isinstance(one, dict) and one.get("box") == box
    }


def read_mark(said: Any) -> Mark:
    """A mark as it stands in an answer.

    Raises:
        ProtocolError: it is none.
    """
    sequence = said.get("sequence") if isinstance(said, dict) else None
    if not isinstance(sequence, int) or isinstance(sequence, bool) or sequence < 0:
        raise ProtocolError("the answer has a mark without a sequence")
    message = said.get("message")
    return Mark(sequence, message if isinstance(message, str) and sequence else None)
