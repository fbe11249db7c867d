"""One exchange without its transport: unpack a body, ask the application, pack its answer.

The HTTP shell and the WSGI callable both go through ``answer``, so that gzip, bounds and refusals
are the same behind either.

Source: protocol 3.2 (gzip), 3.3 (envelope), 12 (bounds).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from flowkit import green, limits
from flowkit.errors import PlatformError, ServerError
from flowkit.protocol.envelope import Request, Response
from flowkit.server import message
from flowkit.server.answers import refusal
from flowkit.server.brotli_body import IS_OFFERED, unbrotli
from flowkit.server.message import Head, Refused

__all__ = ["Application", "Bounds", "answer"]

_log = logging.getLogger(__name__)


class Application(Protocol):
    """What this shell serves; ``flowkit.server.app.App`` is one."""

    def handle(self, request: Request) -> Response:
        """The answer to one request. May wait, cooperatively."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """The bounds of one server; the names and reasons are those of ``flowkit.limits``."""

    head_timeout_s: float = limits.request_head_timeout_s
    body_timeout_s: float = limits.request_body_timeout_s
    keep_alive_timeout_s: float = limits.keep_alive_timeout_s
    stall_timeout_s: float = limits.response_stall_timeout_s
    linger_timeout_s: float = limits.linger_timeout_s
    shutdown_timeout_s: float = limits.shutdown_timeout_s
    body_bytes_max: int = limits.body_bytes_max
    body_array_bytes_max: int = limits.body_array_bytes_max
    bodies_bytes_max: int = limits.bodies_bytes_max
    answers_bytes_max: int = limits.answers_bytes_max
    answer_bytes_per_s_min: float = limits.answer_bytes_per_s_min
    connections_max: int = limits.connections_max

    def body_max(self, head: Head) -> int:
        """Most bytes of the body of this request, packed and unpacked."""
        if message.may_carry_an_array(head):
            return self.body_array_bytes_max
        return self.body_bytes_max


def answer(
    app: Application,
    make_request: Callable[[Mapping[str, str], bytes], Request],
    headers: Mapping[str, str],
    body: bytes,
    bytes_max: int,
    *,
    on_slice: Callable[[int], object] | None = None,
) -> Response:
    """Unpack the body, ask the application, pack its answer. Never raises an Exception.

    *on_slice* is called with the bytes of each slice of a body that is unpacked; it may refuse.
    """
    try:
        body, headers = _unpacked(headers, body, bytes_max, on_slice or _let_others_run)
        response = app.handle(make_request(headers, body))
        return _packed(headers, response)
    except PlatformError as error:
        return refusal(error)
    except Exception:  # noqa: BLE001 - a fault of the server becomes a 500, whatever it is
        _log.exception("a request failed")
        return refusal(ServerError("the server failed at this request; its log says why"))


def _unpacked(
    headers: Mapping[str, str], body: bytes, bytes_max: int, on_slice: Callable[[int], object]
) -> tuple[bytes, Mapping[str, str]]:
    """The body without its ``Content-Encoding``, and the headers without that header."""
    coding = headers.get("content-encoding")
    if coding is None:
        return body, headers
    headers = {name: value for name, value in headers.items() if name != "content-encoding"}
    if coding.lower() in ("gzip", "x-gzip"):
        return message.gunzip(body, bytes_max, on_slice), headers
    if coding.lower() == "br" and IS_OFFERED:
        return unbrotli(body, bytes_max, on_slice), headers
    if coding.lower() not in ("identity", ""):
        known = "gzip or br" if IS_OFFERED else "gzip"
        raise Refused(f"Content-Encoding can only be {known}", status=415)
    return body, headers


def _packed(headers: Mapping[str, str], response: Response) -> Response:
    """The answer compressed, if the client takes that and if it pays."""
    if len(response.body) < limits.gzip_bytes_min or "content-encoding" in response.headers:
        return response
    body = response.body
    answered = {**response.headers, "vary": "accept-encoding"}
    if message.accepts_gzip(headers.get("accept-encoding", "")):
        packed = message.gzip(body, _let_others_run)
        if len(packed) < len(body):
            answered["content-encoding"] = "gzip"
            body = packed
    return Response(response.status, answered, body)


def _let_others_run(_count: int = 0) -> None:
    green.sleep(0)
