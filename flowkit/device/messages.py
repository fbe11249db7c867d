"""Messages of a device to the streams of its platform: what is enqueued, and how it is written.

A payload that is a JSON object goes as elements, so that filters work on it; anything else goes as
it is, byte for byte. Each stream has an order of its own, and a message of one never waits for
those of another.

Source: ``docs/reference/streams.rst`` (the members of a message); ``positions`` 9.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from typing import TYPE_CHECKING, Any

from flowkit.device import bounds
from flowkit.errors import UsageError

if TYPE_CHECKING:
    from flowkit.device.outbox import Outbox, Receipt

__all__ = ["Compression", "Payload", "StreamSender"]

Payload = bytes | bytearray | memoryview | str | Mapping[str, Any]
"""What a message may carry."""

_ELEMENTS_DEPTH_MAX = 20
_BYTES = "application/octet-stream"
_TEXT = "text/plain; charset=utf-8"


class Compression(Enum):
    """How the requests with the messages of a stream are made smaller on their way."""

    UNCOMPRESSED = "none"
    FASTEST = "fastest"
    SMALLEST_SIZE = "smallest"


class StreamSender:
    """Sends messages to one stream; made by ``DeviceClient.create_stream_sender``.

    Every method may be called from any thread, also at the same time.

    Args:
        outbox: the device's file.
        group, stream: the names; None for the default ones.
        wait: waits until a receipt has been settled.
    """

    def __init__(
        self,
        outbox: Outbox,
        group: str | None,
        stream: str | None,
        wait: Callable[[Receipt, float | None], None],
    ) -> None:
        self.group = group
        self.stream = stream
        self._outbox = outbox
        self._wait = wait
        self._line = line_of(group, stream)
        self._batch: str | None = None

    def enqueue_message(
        self,
        payload: Payload,
        batch_id: str | None = None,
        message_id: str | None = None,
        batch_slice_id: str | None = None,
        chunk_id: str | None = None,
        *,
        content_type: str | None = None,
        properties: Mapping[str, str] | None = None,
        priority: int = 0,
    ) -> Receipt:
        """Write a message into the device's file; it is sent in the background.

        Args:
            payload: bytes, text, or a mapping that has a JSON form.
            batch_id: the batch, for a stream that has them and does not fill it in.
            message_id: the name of the message in its batch, for a stream that does not fill it in.
            batch_slice_id: a second grouping inside the batch.
            chunk_id: this payload is a part of the message; ``enqueue_message_completion`` ends it.
            content_type: the media type of a payload that is no JSON object.
            properties: texts that go with the message.
            priority: what is dropped last, where the file has a bound that drops by priority.

        Returns:
            what names the message until it is there; it has survived on return, also a power cut.

        Raises:
            UsageError: the payload or an id cannot be sent, or a chunk has no *message_id*.
            LimitError: the file is full, and set up to refuse then.
            OutboxError: the file could not be written.
        """
        if chunk_id is not None and message_id is None:
            raise UsageError("a chunk says which message it is of", hint="give message_id=")
        ids = _ids(
            batch_id=self._batch if batch_id is None else batch_id,
            message_id=message_id,
            batch_slice_id=batch_slice_id,
            chunk_id=chunk_id,
        )
        message = self._message(**ids, **_properties(properties))
        elems, data, kind = _read(payload, whole=chunk_id is None)
        if elems is not None:
            message["elems"] = elems
        else:
            message["contentType"] = content_type or kind
            if not data:
                message["data"], data = "", None
        entry = {"message": message}
        return self._outbox.put(self._line, entry, payload=data, priority=priority)

    def send_message(
        self,
        payload: Payload,
        batch_id: str | None = None,
        message_id: str | None = None,
        batch_slice_id: str | None = None,
        chunk_id: str | None = None,
        *,
        timeout: float | None = None,
        **more: Any,
    ) -> Receipt:
        """Enqueue a message and wait until the platform has stored it, and those before it.

        Args:
            timeout: seconds to wait; the message stays queued when they are up.
            more: as for ``enqueue_message``.

        Raises:
            DeadlineExceeded: it is queued, and not there yet.
            BadRequest: the platform refused it for good; it is among the dead letters.
        """
        receipt = self.enqueue_message(
            payload, batch_id, message_id, batch_slice_id, chunk_id, **more
        )
        self._wait(receipt, timeout)
        return receipt

    def enqueue_batch_completion(self, batch_id: str) -> Receipt:
        """Say that a batch is complete; the beginning of another one says so, too."""
        return self._complete("batch", batch_id=batch_id)

    def enqueue_message_completion(self, batch_id: str | None, message_id: str) -> Receipt:
        """Say that all chunks of a message were enqueued: it is put together and stored."""
        batch_id = self._batch if batch_id is None else batch_id
        return self._complete("message", batch_id=batch_id, message_id=message_id)

    @contextmanager
    def batch(self, batch_id: str) -> Iterator[StreamSender]:
        """A sender of the same stream whose messages are of this batch, unless they name another.

        The batch is completed when the block ends without an error.
        """
        inside = StreamSender(self._outbox, self.group, self.stream, self._wait)
        inside._batch = _ids(batch_id=batch_id)["batchId"]
        yield inside
        self.enqueue_batch_completion(batch_id)

    def _complete(self, what: str, **ids: str | None) -> Receipt:
        message = self._message(**_ids(**ids), complete=what)
        return self._outbox.put(self._line, {"message": message})

    def _message(self, **members: Any) -> dict[str, Any]:
        names = {"group": self.group, "stream": self.stream}
        named = {name: value for name, value in names.items() if value is not None}
        return {**named, **members, "at": time.time_ns() // 1_000_000}

    def __repr__(self) -> str:
        return f"<StreamSender to {self.group or '(default)'}/{self.stream or '(default)'}>"


def line_of(group: str | None, stream: str | None) -> str:
    """The name of the outbox's stream for a stream of the platform.

    Raises:
        UsageError: a name is no text, empty, or too long.
    """
    for what, name in (("stream group", group), ("stream", stream)):
        if name is None:
            continue
        if not isinstance(name, str) or not 0 < len(name) <= bounds.device_name_chars_max:
            raise UsageError(
                f"{name!r} is no name of a {what}: 1 to {bounds.device_name_chars_max} characters"
            )
    return f"{group or ''}/{stream or ''}"


_MEMBERS = {
    "batch_id": "batchId",
    "message_id": "messageId",
    "batch_slice_id": "sliceId",
    "chunk_id": "chunkId",
}
"""Arguments, and what they are called in a message."""


def _ids(**ids: str | None) -> dict[str, str]:
    given = {name: value for name, value in ids.items() if value is not None}
    for name, value in given.items():
        if not isinstance(value, str) or not 0 < len(value) <= bounds.device_id_text_chars_max:
            most = bounds.device_id_text_chars_max
            raise UsageError(f"{name}={value!r} is no id: a text of 1 to {most} characters")
    return {_MEMBERS[name]: value for name, value in given.items()}


def _properties(properties: Mapping[str, str] | None) -> dict[str, Any]:
    if not properties:
        return {}
    if not all(isinstance(each, str) for pair in properties.items() for each in pair):
        raise UsageError("the properties of a message are texts by texts")
    return {"properties": dict(properties)}


def _read(
    payload: Payload, *, whole: bool
) -> tuple[Mapping[str, Any] | None, bytes | memoryview | None, str]:
    """Elements, or bytes and what they are."""
    if isinstance(payload, Mapping):
        return payload, None, ""
    if isinstance(payload, str):
        data: bytes | memoryview = payload.encode()
        kind = _TEXT
    elif isinstance(payload, bytes | bytearray | memoryview):
        data, kind = memoryview(payload).cast("B"), _BYTES
    else:
        raise UsageError(
            f"a {type(payload).__name__} is no payload", hint="bytes, text or a mapping"
        )
    if whole and len(data) <= bounds.device_elements_bytes_max:
        elems = _as_elements(bytes(data))
        if elems is not None:
            return elems, None, ""
    return None, data, kind


def _as_elements(data: bytes) -> dict[str, Any] | None:
    """The JSON object in *data*, if it is one that elements can hold without loss."""
    if data[:1] != b"{":
        return None
    try:
        found = json.loads(data, object_pairs_hook=_unique, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and _fits(found, _ELEMENTS_DEPTH_MAX) else None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError("a name stands twice")
    return made


def _refuse(text: str) -> None:
    raise ValueError(f"{text} is no JSON")


def _fits(value: Any, depth: int) -> bool:
    if isinstance(value, dict | list):
        parts = value.values() if isinstance(value, dict) else value
        return depth > 0 and all(_fits(part, depth - 1) for part in parts)
    if isinstance(value, bool) or not isinstance(value, int):
        return True
    return -(2**63) <= value < 2**63
