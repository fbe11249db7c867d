"""Streams of devices, and the payloads of messages that are no elements.

Source: ``docs/reference/streams.rst``.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

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
        """A part of a payload.

        Args:
            id: what ``elems._message.payload`` of the drop says.
            offset: its first byte.
            size: most bytes; None for as many as one answer holds.

        Returns:
            the bytes; fewer than *size*, or none, at the end.

        Raises:
            UsageError: *offset* or *size* is no such number.
            NotFound: there is none, or none that the caller may read.
        """
        for name, value in (("offset", offset), ("size", size)):
            if value is not None and (type(value) is not int or value < 0):
                raise UsageError(f"{name}={value!r} is not a whole number from 0")
        params |= {"offset": offset, **({} if size is None else {"size": size})}

        def shape(body: Any) -> bytes:
            return base64.b64decode(body["data"])

        return self._api.call("GET", ("payload", id), params, shape=shape)
