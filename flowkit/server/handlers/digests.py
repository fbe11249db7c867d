"""The digests of what came in pieces: summed on a reader, looked up on the writer.

There is one writer for everybody, and 64 MiB take it a tenth of a second and more, read and summed.
So a reader sums before the job what the entries of a request are about to claim and to complete.
It need not be right about that: a digest is found by the keys of the pieces that were summed, and a
key stands for its bytes for ever. What was not summed before is summed in the job.

Source: ``docs/reference/streams.rst`` (uploads, chunks).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from flowkit import limits
from flowkit.server.auth import Credential
from flowkit.server.checking import Checked
from flowkit.server.handlers.sent_message import SentMessage, as_elements
from flowkit.server.marks import Origin
from flowkit.server.store.base import PieceReader, Reader

__all__ = ["Digests", "Payload", "in_pieces", "sum_ahead"]

Keys = tuple[int, ...]


@dataclass(slots=True)
class Payload:
    """What a message carries.

    Attributes:
        size: in bytes.
        digest: of its bytes, SHA-256.
        elements: the payload as elements, where it is some.
        data: its bytes, where they are at hand.
        body: its bytes in the store, where they are there already.
    """

    size: int
    digest: bytes
    elements: Checked | None = None
    data: bytes | None = None
    body: int | None = None


class Digests:
    """SHA-256 of pieces, and the elements that they are, each worked out once."""

    def __init__(self) -> None:
        self._sums: dict[Keys, Any] = {}
        self._elements: dict[tuple[Keys, str | None], Checked | None] = {}

    def of(self, keys: Keys, piece: Callable[[int], bytes]) -> bytes:
        """The digest of the pieces *keys*; what was not summed before is read by *piece*."""
        if keys not in self._sums:
            self._sum(keys, piece)
        return bytes(self._sums[keys].digest())

    def _sum(self, keys: Keys, piece: Callable[[int], bytes]) -> None:
        """Go on behind the longest beginning that is known."""
        lengths = sorted({len(each) for each in self._sums}, reverse=True)
        known = next((keys[:n] for n in lengths if keys[:n] in self._sums), ())
        summed = self._sums[known].copy() if known else hashlib.sha256()
        for key in keys[len(known) : -1]:
            summed.update(piece(key))
        # Small chunks that come yet will share the last piece, which is another one then.
        self._sums.setdefault(keys[:-1], summed.copy())
        if keys:
            summed.update(piece(keys[-1]))
        self._sums[keys] = summed

    def elements(
        self, keys: Keys, content_type: str | None, read: Callable[[], bytes]
    ) -> Checked | None:
        """What ``as_elements`` makes of the pieces; *read* gives their bytes."""
        place = (keys, content_type)
        if place not in self._elements:
            self._elements[place] = as_elements(read(), content_type)
        return self._elements[place]

    def payload(
        self, pieces: PieceReader, body: int, content_type: str | None, *, is_whole: bool
    ) -> Payload:
        """The payload that a body is; its elements are looked for if it is a *whole* one."""
        size, keys, elements = pieces.size(body), pieces.keys(body), None
        if is_whole and size <= limits.message_elems_bytes_max:
            elements = self.elements(keys, content_type, lambda: pieces.read(body, 0, size))
        return Payload(size, self.of(keys, pieces.piece), elements, body=body)


def in_pieces(message: SentMessage) -> bool:
    """Whether bytes that came in pieces before are asked for."""
    return message.claim is not None or message.complete == "message"


def sum_ahead(
    reader: Reader, who: Credential, sent: Iterable[tuple[Origin, SentMessage]]
) -> Digests:
    """The digests that the messages of a request will ask for, as far as that can be seen.

    None for who is no device: the job refuses every message of theirs, so nothing is read for them.
    """
    if who.device_id is None:
        return Digests()
    ahead = _Ahead(reader, who.account.name, who.device_id)
    for origin, message in sent:
        ahead.see(origin, message)
    return ahead.digests


class _Ahead:
    """Goes through the messages as the writer will; no upload is summed twice, as none is used so.

    Args:
        reader: a snapshot.
        account: of the device.
        device: the id of the device that sends.
    """

    def __init__(self, reader: Reader, account: str, device: str) -> None:
        self.digests = Digests()
        self._reader, self._account, self._device = reader, account, device
        self._seen: set[int] = set()
        self._joined: dict[tuple[str | None, ...], dict[str, Keys]] = {}

    def see(self, origin: Origin, message: SentMessage) -> None:
        """The next message."""
        keys = self._claimed(origin, message)
        content_type = message.name("contentType")
        is_chunk = message.name("chunkId") is not None
        if keys and not is_chunk:
            self._look_at(keys, content_type)
        elif keys:
            self.digests.of(keys, self._reader.pieces.piece)
        if not is_chunk and message.has_payload:
            return
        place = tuple(message.name(name) for name in ("group", "stream", "messageId"))
        if place not in self._joined:
            self._joined[place] = self._begun(*place)
        there = self._joined[place]
        batch = message.name("batchId") or min(there, default="")
        there[batch] = there.get(batch, ()) + keys
        if message.complete == "message" and (joined := there.pop(batch)):
            self._look_at(joined, content_type)  # what comes of that name begins anew

    def _claimed(self, origin: Origin, message: SentMessage) -> Keys:
        """The pieces of the upload that a message claims."""
        if message.claim is None:
            return ()
        pieces = self._reader.pieces
        body = pieces.upload(self._device, origin.box, origin.message)
        if body is None or body in self._seen or pieces.size(body) != message.claim.bytes:
            return ()
        self._seen.add(body)
        return pieces.keys(body)

    def _begun(self, group: str | None, stream: str | None, name: str | None) -> dict[str, Keys]:
        """Of each batch the pieces of its message in chunks of that name, where there is one."""
        messages = self._reader.messages
        found = messages.stream_id(self._account, group, stream)
        there = [] if found is None else messages.assemblies(found, self._device)
        keys = self._reader.pieces.keys
        return {each.batch: keys(each.body) for each in there if each.message == name}

    def _look_at(self, keys: Keys, content_type: str | None) -> None:
        """A payload of these pieces: its digest, and whether it is elements."""
        piece = self._reader.pieces.piece
        self.digests.of(keys, piece)
        data = bytearray()
        for key in keys:
            data += piece(key)
            if len(data) > limits.message_elems_bytes_max:
                return
        self.digests.elements(keys, content_type, lambda: bytes(data))
