"""What the messages of one request share: the streams of a device, and what it has sent to them.

Each is read once and written once, however many messages there are; the writer has other things to
do.

Source: ``docs/reference/streams.rst``.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from flowkit.errors import Forbidden
from flowkit.server.auth import Credential, credential_of
from flowkit.server.handlers.digests import Digests
from flowkit.server.handlers.entries import Sent
from flowkit.server.handlers.stream import flow_of, stream_for
from flowkit.server.store.base import Feed, StoredFlow, StoredObject, Writer

__all__ = ["Feeds", "feeds_of", "keep_feeds"]

_SHARED_AS = "message"


@dataclass(slots=True)
class Feeds:
    """The device and its streams, as far as a request has come to them.

    Attributes:
        writer: of the job.
        owner: the right of the device's account.
        device: who sends.
        digests: of what came in pieces.
    """

    writer: Writer
    owner: Credential
    device: StoredObject
    digests: Digests
    _streams: dict[tuple[str | None, str | None], StoredObject] = field(default_factory=dict)
    _flows: dict[str, StoredFlow] = field(default_factory=dict)
    _feeds: dict[str, tuple[Feed, Feed]] = field(default_factory=dict)

    def stream(self, group: str | None, name: str | None) -> StoredObject:
        """The stream that a message names, or does not name; raises as ``stream_for``."""
        place = group, name
        if place not in self._streams:
            self._streams[place] = stream_for(self.writer, self.owner, group, name)
        return self._streams[place]

    def flow(self, path: str) -> StoredFlow:
        """The flow at a path of a stream, made if it is not there (any more)."""
        if path not in self._flows:
            self._flows[path] = flow_of(self.writer, self.owner, path)
        return self._flows[path]

    def feed(self, stream: StoredObject) -> Feed:
        """What the device has sent to a stream; what changes in it is kept with the last entry."""
        if stream.id not in self._feeds:
            feed = self.writer.messages.feed(stream.id, self.device.id)
            self._feeds[stream.id] = feed, replace(feed)
        return self._feeds[stream.id][0]

    def keep(self) -> None:
        """Write the feeds that have changed."""
        for feed, before in self._feeds.values():
            if feed != before:
                self.writer.messages.keep_feed(feed)


def feeds_of(writer: Writer, who: Credential, sent: Sent) -> Feeds:
    """The feeds of the device that sends, the same for all messages of a request.

    Raises:
        Forbidden: the credential is not a device's.
    """
    found = sent.shared.get(_SHARED_AS)
    if isinstance(found, Feeds):
        return found
    device = writer.object("device", who.device_id) if who.device_id is not None else None
    if device is None:
        raise Forbidden("message: it takes the right of a Device, whose Token this is not")
    owner = credential_of(writer, who.account, sent.call.now_ms)
    digests = sent.shared.get("digests") or Digests()
    made = sent.shared[_SHARED_AS] = Feeds(writer, owner, device, digests)
    return made


def keep_feeds(shared: dict[str, Any]) -> None:
    """Write what the messages of a request have counted on, if there were any."""
    found = shared.get(_SHARED_AS)
    if isinstance(found, Feeds):
        found.keep()
