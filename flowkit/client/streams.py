"""Streams of devices, and the payloads of messages that are no elements.

Source: ``docs/reference/streams.rst``.
"""

from __future__ import annotations

import base64
import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from flowkit import limits
from flowkit.client import finding
from flowkit.client.services import Service, verb
from flowkit.errors import UsageError

if TYPE_CHECKING:
    from flowkit.client.api import API

__all__ = ["Payloads", "Streams"]


class Streams(Service):
    """The streams of the account."""

    @verb
    def open(self, id: Any, **params: Any) -> Any:  # noqa: A002 - as in the other verbs
        """What is not complete in a stream.

        Returns:
            ``{"batches", "messages", "conflicts"}``: open batches and messages in chunks, each with
            its device, and how many messages came under a name that another one had.
        """
        return self._api.call("GET", (self.route, finding.one_id(id), "open"), params)


class Payloads:
    """The bytes of messages."""

    def __init__(self, api: API) -> None:
        self._api = api

    def __repr__(self) -> str:
        return f"<Payloads of {self._api!r}>"

    @verb
    def read(self, id: str, *, offset: int = 0, size: int | None = None, **params: Any) -> Any:  # noqa: A002
        """A payload, or a part of it; one that is larger than an answer with several requests.

        Args:
            id: what ``elems._message.payload`` of the drop says.
            offset: its first byte.
            size: most bytes; None for all to the end.
            params: ``timeout=`` is for each request.

        Returns:
            the bytes; fewer than *size*, or none, at the end.

        Raises:
            UsageError: *offset* or *size* is no such number.
            NotFound: there is none, or none that the caller may read.
        """
        for name, value in (("offset", offset), ("size", size)):
            if value is not None and (type(value) is not int or value < 0):
                raise UsageError(f"{name}={value!r} is not a whole number from 0")
        end = math.inf if size is None else offset + size
        parts: list[bytes] = []
        while True:
            part = {"offset": offset, "size": min(end - offset, limits.payload_part_bytes_max)}
            told = self._api.call("GET", ("payload", id), {**params, **part, "envelope": True})
            parts.append(base64.b64decode(told.body["data"]))
            offset += len(parts[-1])
            if not parts[-1] or offset >= min(end, told.body["bytes"]):
                break
        whole = b"".join(parts)
        return replace(told, body=whole) if params.get("envelope") else whole
