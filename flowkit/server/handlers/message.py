"""Messages of devices: entries that become drops of streams.

What is decided before the first write, in this order: the stream, the names (given, or made by the
stream's patterns), whether a message of these names is there, whether the payload is there and
the flow takes it. Then the message is stored, the batch that it ends is completed, and its own is
counted on.

Source: ``docs/reference/streams.rst``; ``positions`` 9.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from typing import Any

from flowkit import limits
from flowkit.errors import BadRequest, Conflict
from flowkit.server import ingest
from flowkit.server.auth import Credential
from flowkit.server.autofill import BATCH, MESSAGE, Facts, filled
from flowkit.server.checking import Checked
from flowkit.server.handlers.digests import Payload, in_pieces, sum_ahead
from flowkit.server.handlers.entries import EntryKind, Sent
from flowkit.server.handlers.feeds import feeds_of, keep_feeds
from flowkit.server.handlers.sent_message import (
    RESERVED,
    SentMessage,
    check_message,
)
from flowkit.server.handlers.stream import batches_path
from flowkit.server.marks import Origin
from flowkit.server.store.base import Assembly, Reader, Writer

__all__ = ["MESSAGES"]

_STORED = 201
_DUPLICATE = {"status": 200, "duplicate": True}


def _store(writer: Writer, who: Credential, sent: Sent) -> dict[str, Any]:
    """Do an entry; refused before the first write, or done."""
    return _Posting(writer, who, sent).answer()


class _Posting:
    """One entry on its way in."""

    def __init__(self, writer: Writer, who: Credential, sent: Sent) -> None:
        self._writer = writer
        self._sent = sent
        self._now_ms = sent.call.now_ms
        self._message: SentMessage = sent.checked
        self._feeds = feeds_of(writer, who, sent)
        self._owner = self._feeds.owner
        self._scope = who.scope
        place = self._message.name("group"), self._message.name("stream")
        self._stream = self._feeds.stream(*place)
        self._feed = self._feeds.feed(self._stream)
        self._batch = self._batch_name()
        self._name = ""
        self._payload_id: str | None = None
        self._keyed: tuple[tuple[str, ...], bytes] | None = None
        self._looked_up: tuple[bytes, bytes | None] | None = None

    @property
    def _doc(self) -> dict[str, Any]:
        return self._stream.doc

    def _facts(self, batch: str) -> Facts:
        device = self._feeds.device.doc
        at_ms = self._message.at_ms
        return Facts(
            device=str(device.get("deviceId") or device["id"]),
            stream=str(self._doc["name"]),
            batch=batch,
            counter=self._feed.number + 1,
            at_ms=self._now_ms if at_ms is None else at_ms,
            scope=self._scope,
            origin=self._sent.origin,
        )

    def _batch_name(self) -> str:
        """The name of its batch, empty for none."""
        given = self._message.name("batchId")
        if given is not None:
            return given
        if not self._doc.get("batching"):
            return ""
        if not self._message.has_payload:
            begun = self._begun() if self._message.complete == "message" else self._feed.batch
            return begun or ""
        begun = self._begun()
        if begun is not None:
            return begun
        pattern = self._doc.get("batchIdPattern")
        if pattern is None:
            raise BadRequest(
                "message.batchId: is required: the stream has batching and no batchIdPattern"
            )
        return _short("batchId", filled(pattern, BATCH, self._facts("")))

    def _begun(self) -> str | None:
        """The batch of the message in chunks that this is of, if some of it has come."""
        is_part = self._message.name("chunkId") is not None or not self._message.has_payload
        name = self._message.name("messageId") if is_part else None
        if name is None:
            return None
        there = self._writer.messages.assemblies(self._feed.stream, self._feed.device)
        return next((each.batch for each in there if each.message == name), None)

    def _message_name(self) -> str:
        given = self._message.name("messageId")
        if given is not None:
            return given
        pattern = self._doc.get("messageIdPattern")
        if pattern is None:
            raise BadRequest("message.messageId: is required, the stream makes no names")
        facts = self._facts(self._batch)
        self._name = _short("messageId", filled(pattern, MESSAGE, facts))
        if not self._is_taken():
            return self._name
        return f"{self._name[: limits.message_name_chars_max - 37]}-{facts.uuid}"

    def _is_taken(self) -> bool:
        """Whether a name that was made is another message's: by the mark, this one is new."""
        if self._named("") is not None:
            return True
        there = self._writer.messages.assembly(self._feed, self._batch, self._name)
        return there is not None

    # What is to be done

    def answer(self) -> dict[str, Any]:
        """Do it; the item of the answer."""
        message = self._message
        if not message.has_payload:
            if message.complete == "batch":
                return self._end_batch()
            self._name = str(message.name("messageId"))
            return self._end_message()
        self._name = self._message_name()
        if message.name("chunkId") is not None:
            return self._add_chunk()
        return self._put_message(self._payload())

    def _put_message(self, payload: Payload) -> dict[str, Any]:
        known = self._known("", payload.digest)
        if known is not None:
            self._drop_upload()
            self._complete_with()
            return known
        arrival = self._arrival(payload)
        ingest.admit(self._writer, self._owner, arrival)
        self._begin_batch()
        self._feed.number += 1
        self._writer.messages.keep_name(self._feed, self._key(""), payload.digest)
        written = ingest.create(self._writer, self._owner, arrival)
        drop = written.drop.doc
        self._count_on(payload)
        self._keep_bytes(payload, drop)
        answer = {"status": _STORED, "id": drop["id"], "flowId": drop["flowId"]}
        answer["messageId"] = self._name
        if self._batch:
            answer["batchId"] = self._batch
        self._complete_with()
        return answer

    def _complete_with(self) -> None:
        """A message may end its batch, one that was there already too."""
        if self._message.complete == "batch" and self._feed.batch == self._batch:
            self._complete_batch()

    def _payload(self) -> Payload:
        """The payload of a whole message."""
        message = self._message
        if message.data is not None:
            digest = hashlib.sha256(message.data).digest()
            return Payload(len(message.data), digest, message.elements, message.data)
        return self._claimed()

    def _claimed(self) -> Payload:
        """The upload that an entry claims.

        Raises:
            Conflict: it is not all there; the first word is ``upload``.
            BadRequest: it is there, and has another digest.
        """
        claim, pieces = self._message.claim, self._writer.pieces
        assert claim is not None
        origin = self._sent.origin
        body = pieces.upload(self._scope, origin.box, origin.message)
        sizes = [] if body is None else pieces.sizes(body)
        if body is None or len(sizes) != claim.pieces or 0 in sizes or sum(sizes) != claim.bytes:
            raise Conflict(
                f"upload is not all there: {len(sizes) - sizes.count(0)} of {claim.pieces} pieces,"
                f" {sum(sizes)} of {claim.bytes} bytes"
            )
        payload = self._of_body(body, is_whole=self._message.name("chunkId") is None)
        if payload.digest.hex() != claim.sha256:
            raise BadRequest("message.upload.sha256: the pieces that came have another digest")
        return payload

    def _of_body(self, body: int, *, is_whole: bool = True) -> Payload:
        """A payload that is in the store; a whole one as elements if it is some."""
        known, pieces = self._feeds.digests, self._writer.pieces
        return known.payload(pieces, body, self._message.name("contentType"), is_whole=is_whole)

    def _arrival(self, payload: Payload) -> ingest.Arrival:
        """The drop that the message becomes, on its way in."""
        elements = payload.elements or Checked({"elems": {}}, {})
        told = self._told(payload)
        members = {**elements.members, "elems": {**elements.members["elems"], RESERVED: told}}
        flow = self._feeds.flow(self._doc["path"])
        checked = Checked(members, elements.types)
        return ingest.Arrival(checked, self._now_ms, self._sent.call.places, flow=flow)

    def _told(self, payload: Payload) -> dict[str, Any]:
        """What the element ``_message`` says."""
        message, device = self._message, self._feeds.device.doc
        told: dict[str, Any] = {
            "device": device.get("deviceId") or device["id"],
            "id": self._name,
            "batch": self._batch or None,
            "slice": message.name("sliceId"),
            "at": message.at_ms,
            "contentType": message.name("contentType"),
            "bytes": payload.size,
            "sequence": self._sent.origin.sequence,
            "properties": message.properties or None,
            "payload": None if payload.elements else f"y{secrets.token_hex(12)}",
        }
        told = {name: value for name, value in told.items() if value is not None}
        self._payload_id = told.get("payload")
        return told

    # Names that were there before

    def _key(self, chunk: str) -> bytes:
        """What tells a message, or a chunk of one, from every other of its feed."""
        parts = (self._batch, self._name, chunk)
        if self._keyed is None or self._keyed[0] != parts:
            text = "".join([f"{len(part)}:{part}" for part in parts])
            self._keyed = parts, hashlib.sha256(text.encode()).digest()
        return self._keyed[1]

    def _named(self, chunk: str) -> bytes | None:
        """The digest of the message, or the chunk, that has these names already."""
        key = self._key(chunk)
        if self._looked_up is None or self._looked_up[0] != key:
            self._looked_up = key, self._writer.messages.named(self._feed, key)
        return self._looked_up[1]

    def _known(self, chunk: str, digest: bytes) -> dict[str, Any] | None:
        """The answer to a message whose names are there already: the first one stays."""
        held = self._named(chunk)
        if held is None:
            return None
        if held == digest:
            return dict(_DUPLICATE)
        self._feed.conflicts += 1
        return {**_DUPLICATE, "conflict": True}

    def _drop_upload(self) -> None:
        """What came for a message that is there already counts no longer as unfinished."""
        origin = self._sent.origin
        if self._message.claim is not None:
            self._writer.pieces.drop_upload(self._scope, origin.box, origin.message)

    # Bytes

    def _keep_bytes(self, payload: Payload, drop: dict[str, Any]) -> None:
        """Keep a payload that is no elements, byte for byte."""
        pieces, body = self._writer.pieces, payload.body
        if self._message.claim is not None:
            origin = self._sent.origin
            pieces.close_upload(self._scope, origin.box, origin.message)
        if self._payload_id is None:
            if body is not None:
                pieces.discard(body)
            return
        if body is None:
            body = pieces.begin()
            pieces.append(body, payload.data or b"")
        content_type = self._message.name("contentType")
        pieces.keep_payload(self._payload_id, drop["flowId"], drop["id"], body, content_type)

    # Chunks

    def _add_chunk(self) -> dict[str, Any]:
        payload = self._payload()
        chunk = str(self._message.name("chunkId"))
        known = self._known(chunk, payload.digest)
        messages = self._writer.messages
        assembly = messages.assembly(self._feed, self._batch, self._name)
        if known is None:
            # first: what is given up must not stand in the way of what comes
            messages.sweep(self._feed, self._now_ms - int(limits.upload_kept_s * 1_000), assembly)
            self._refuse_too_much(assembly, payload.size)
            body = self._appended(None if assembly is None else assembly.body, payload)
            count = 1 if assembly is None else assembly.chunks + 1
            device = self._feed.device
            assembly = Assembly(device, self._batch, self._name, body, count, self._now_ms)
            messages.keep_assembly(self._feed, assembly)
            self._feed.number += 1
            messages.keep_name(self._feed, self._key(chunk), payload.digest)
        else:
            self._drop_upload()
        if self._message.complete == "message":
            return self._end_message()
        chunks = 0 if assembly is None else assembly.chunks
        return known or {"status": _STORED, "messageId": self._name, "chunks": chunks}

    def _appended(self, body: int | None, chunk: Payload) -> int:
        """The body of a message in chunks with one more; an upload is moved and not copied."""
        pieces, origin = self._writer.pieces, self._sent.origin
        if chunk.body is None:
            body = pieces.begin() if body is None else body
            pieces.append(body, chunk.data or b"")
            return body
        pieces.close_upload(self._scope, origin.box, origin.message)
        if body is None:
            return chunk.body
        pieces.move(chunk.body, body)
        return body

    def _refuse_too_much(self, assembly: Assembly | None, size: int) -> None:
        """Refuse for good what would fill the store; waiting would not make it less."""
        messages, pieces = self._writer.messages, self._writer.pieces
        held = 0 if assembly is None else pieces.size(assembly.body)
        if held + size > limits.upload_bytes_max:
            raise BadRequest(
                f"message: has at most {limits.upload_bytes_max} bytes in all chunks", status=413
            )
        others = messages.assemblies(self._feed.stream, self._feed.device)
        if assembly is None and len(others) >= limits.assemblies_max:
            raise BadRequest(
                f"message: {limits.assemblies_max} messages in chunks are not complete already",
                status=413,
            )
        total = sum(pieces.size(each.body) for each in others)
        if total + size > limits.uploads_unfinished_bytes_max:
            raise BadRequest(
                f"message: those that are not complete have {total} bytes already", status=413
            )

    def _end_message(self) -> dict[str, Any]:
        """The chunks that came, in their order, as one message."""
        assembly = self._writer.messages.assembly(self._feed, self._batch, self._name)
        if assembly is None:
            return {"status": 200, "completed": False}
        payload = self._of_body(assembly.body)
        # If the flow refuses it the chunks stay: sent again, it is refused again and not "nothing".
        answer = self._put_message(payload)
        self._writer.messages.close_assembly(self._feed, assembly)
        if "duplicate" in answer:
            self._writer.pieces.discard(assembly.body)
        return answer

    # Batches

    def _begin_batch(self) -> None:
        """A message of another batch than the open one completes that."""
        feed = self._feed
        if not self._doc.get("batching") or feed.batch == self._batch:
            return
        if feed.batch is not None:
            self._complete_batch()
        feed.batch, feed.since_ms = self._batch, self._now_ms

    def _count_on(self, payload: Payload) -> None:
        """The open batch has one message more."""
        feed, slice_id = self._feed, self._message.name("sliceId")
        if feed.batch is None or feed.batch != self._batch:
            return
        is_first = feed.messages == 0
        feed.messages += 1
        feed.bytes += payload.size
        if slice_id is not None and slice_id not in feed.slices:
            feed.slices = [*feed.slices, slice_id][: limits.batch_slices_max]
        self._join(payload, between=b"" if is_first else b"\n")

    def _join(self, payload: Payload, *, between: bytes) -> None:
        """Put a payload behind those that the batch has, where the stream joins them."""
        feed, pieces = self._feed, self._writer.pieces
        how = self._doc.get("concatenation", "none")
        if how == "none" or feed.is_cut:
            return
        if feed.body is None:
            feed.body = pieces.begin()
        before = between if how == "newline" else b""
        if pieces.size(feed.body) + len(before) + payload.size > limits.upload_bytes_max:
            feed.is_cut = True
            return
        if payload.body is not None:
            pieces.append(feed.body, before)
            pieces.copy(payload.body, feed.body)
        else:
            pieces.append(feed.body, before + (payload.data or b""))

    def _end_batch(self) -> dict[str, Any]:
        """The open batch is complete, if it is the one that is meant."""
        feed = self._feed
        if feed.batch is None or feed.batch != self._batch:
            return {"status": 200, "completed": False}
        batch = feed.batch
        drop_id = self._complete_batch()
        return {"status": _STORED, "id": drop_id, "batchId": batch}

    def _complete_batch(self) -> str:
        """A drop that says what the batch was; nothing is open then. Gives the id of the drop."""
        feed, device = self._feed, self._feeds.device.doc
        payload_id = None if feed.body is None else f"y{secrets.token_hex(12)}"
        elems: dict[str, Any] = {
            "device": device.get("deviceId") or device["id"],
            "batch": feed.batch,
            "messages": feed.messages,
            "bytes": feed.bytes,
            "slices": feed.slices,
            "since": feed.since_ms,
            **({"payload": payload_id} if payload_id else {}),
            **({"truncated": True} if feed.is_cut else {}),
        }
        flow = self._feeds.flow(batches_path(self._stream))
        # A completion is a fact, which a filter of the flow cannot undo: it is not asked.
        arrival = ingest.Arrival(Checked({"elems": elems}, {}), self._now_ms, flow=flow)
        arrival.admitted = True
        drop = ingest.create(self._writer, self._owner, arrival).drop.doc
        if feed.body is not None and payload_id is not None:
            self._writer.pieces.keep_payload(payload_id, flow.id, drop["id"], feed.body, None)
        feed.batch = feed.since_ms = feed.body = None
        feed.messages = feed.bytes = 0
        feed.slices, feed.is_cut = [], False
        return str(drop["id"])


def _short(member: str, name: str) -> str:
    if not 0 < len(name) <= limits.message_name_chars_max:
        raise BadRequest(
            f"message.{member}: the pattern makes a name of {len(name)} characters,"
            f" the limit is {limits.message_name_chars_max}"
        )
    return name


def _sum_ahead(
    reader: Reader,
    who: Credential,
    sent: Sequence[tuple[Origin, SentMessage]],
    shared: dict[str, Any],
) -> None:
    shared["digests"] = sum_ahead(reader, who, sent)


MESSAGES = EntryKind("message", check_message, _store, _sum_ahead, in_pieces, keep_feeds)
"""Messages of devices as entries of an array."""
