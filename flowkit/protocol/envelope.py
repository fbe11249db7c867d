"""Requests and answers as values, and the envelope ``{"head": …, "body": …}`` around every answer.

Rules of this room (``flowkit/protocol``): it is pure, like ``flowkit/query``. It knows no JSON
library either: ``success`` and ``failure`` return plain dicts, the two shells encode and decode
them.

Source: protocol 3.3 (envelope), 3.4 (status codes and errors).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, quote, unquote

from flowkit.errors import BadRequest, PlatformError, platform_error

__all__ = ["Answer", "Request", "Response", "failure", "read_envelope", "success", "too_large"]

CREATED = "Your request has been processed successfully. A new resource has been created."
PROCESSED = "Your request has been processed successfully."
NOT_LOCATED = "The requested resource could not be located at this address."
"""The three texts that the original platform is known to have sent (3.3, 3.4)."""

TOO_LARGE = "The answer is larger than"
"""How the refusal of an answer beyond its bound begins (3.6)."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request, with nothing of HTTP's spelling left in it.

    Attributes:
        method: upper case, as it was sent; ``App.handle`` follows ``x-http-method-override``.
        segments: the parts of the path, percent-decoded: ``("v4.0", "nora", "flow", "f5a2…")``.
        params: query parameters, decoded; the last one wins where a name is doubled.
        headers: names in lower case.
        body: the bytes sent (JSON text, not compressed), empty for none.
        peer: the address that it came from, empty if it came over no network.
    """

    method: str
    segments: tuple[str, ...]
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    peer: str = ""

    @classmethod
    def from_target(
        cls,
        method: str,
        target: str,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        *,
        peer: str = "",
    ) -> Request:
        """Read a request target such as ``/v4.0/nora/flow?limit=2``."""
        path, _, query = target.partition("?")
        segments = tuple(unquote(part) for part in path.split("/") if part)
        params = dict(parse_qsl(query, keep_blank_values=True))
        return cls(method, segments, params, headers or {}, body, peer)

    @property
    def path(self) -> str:
        """The path, percent-encoded, without the query."""
        return "/" + "/".join(map(_quoted, self.segments))

    @property
    def target(self) -> str:
        """Path and query, percent-encoded, as they stand in a request line."""
        if not self.params:
            return self.path
        pairs = (f"{_quoted(name)}={_quoted(value)}" for name, value in self.params.items())
        return f"{self.path}?{'&'.join(pairs)}"


def _quoted(text: str) -> str:
    """*text* percent-encoded; most of it needs no more than this look."""
    return text if text.isascii() and text.isalnum() else quote(text, safe="")


@dataclass(frozen=True, slots=True)
class Response:
    """One answer: status, headers (names in lower case) and the body's bytes, not compressed."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Answer:
    """What an envelope said, for a caller who wants more than the body."""

    status: int
    body: Any
    head: Mapping[str, Any]

    @property
    def references(self) -> dict[str, Any]:
        """``head.references``: id to the related object."""
        return self.head.get("references") or {}

    @property
    def messages(self) -> list[str]:
        """``head.messages``."""
        return list(self.head.get("messages") or ())


def success(
    body: Any,
    *,
    status: int = 200,
    messages: Sequence[str] = (),
    references: Mapping[str, Any] | None = None,
    **head: Any,
) -> dict[str, Any]:
    """The envelope of a good answer; *head* adds members such as ``position`` or ``msgId``."""
    first = CREATED if status == 201 else PROCESSED
    return {
        "head": {
            "status": status,
            "ok": True,
            "messages": [first, *messages],
            "errors": [],
            "references": dict(references or {}),
            **head,
        },
        "body": body,
    }


def failure(error: PlatformError, **head: Any) -> dict[str, Any]:
    """The envelope of a refusal: one sentence per fault, body ``{}``."""
    return {
        "head": {
            "status": error.status,
            "ok": False,
            "messages": list(error.messages),
            "errors": list(error.errors),
            "references": {},
            **head,
        },
        "body": {},
    }


def too_large(bytes_max: int) -> BadRequest:
    """The refusal of an answer beyond its bound in bytes (3.6)."""
    return BadRequest(f"{TOO_LARGE} {bytes_max // 1024 // 1024} MiB: use only or limit")


def read_envelope(status: int, envelope: Any) -> Answer:
    """Turn a decoded envelope into an ``Answer``, or raise the ``PlatformError`` it stands for.

    Success needs both: a 2xx *status* and ``head.ok`` not false (defect 10 of 13.2).

    Raises:
        PlatformError: of the class for the status.
        ValueError: *envelope* is not an object with a ``head``.
    """
    head = envelope.get("head") if isinstance(envelope, dict) else None
    if not isinstance(head, dict):
        raise ValueError("the answer is not an envelope with a head")
    if 200 <= status < 300 and head.get("ok", True):
        return Answer(status, envelope.get("body"), head)
    said = head.get("status")
    status = said if status < 400 and isinstance(said, int) and said >= 400 else max(status, 400)
    errors, messages = _sentences(head.get("errors")), _sentences(head.get("messages"))
    raise platform_error(status)(*errors, status=status, messages=messages)


def _sentences(said: Any) -> list[str]:
    """A member of the head that should be an array of texts; one text alone is one sentence."""
    return [said] if isinstance(said, str) else [str(one) for one in said or ()]
