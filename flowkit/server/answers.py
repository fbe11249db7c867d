"""Results and refusals to ``Response``: the envelope, its bytes, and the headers of every answer.

Source: protocol 3.2 (CORS, replay), 3.3 (envelope), 3.4 (errors), 3.6 (``pretty``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import orjson

from flowkit.errors import PlatformError
from flowkit.protocol.envelope import Response, failure, success

if TYPE_CHECKING:
    from flowkit.server.call import Result

__all__ = ["HEADERS", "PLAIN", "encoded", "envelope_of", "preflight", "refusal"]

HEADERS: Mapping[str, str] = {
    "content-type": "application/json; charset=utf-8",
    "cache-control": "no-store",
    "access-control-allow-origin": "*",
    "access-control-expose-headers": (
        "X-Request-Id, X-Request-Replay, Retry-After, X-RateLimit-Limit, X-RateLimit-Remaining, "
        "X-RateLimit-Reset, X-RateLimit-Policy"
    ),
    "x-request-replay": "1",
}
"""The headers of every answer. ``x-request-replay`` says that a write with an ``X-Request-Id`` may
be repeated (3.2): a client has to see it before it repeats its first write."""

PLAIN: Mapping[str, str] = {
    "content-type": "text/plain; charset=utf-8",
    "cache-control": "no-store",
}
"""The headers of the answers that are no envelope: those to probes and to Prometheus."""

_PREFLIGHT = {
    "access-control-allow-methods": "GET, POST, PUT, DELETE, MGET, MPUT",
    "access-control-allow-headers": (
        "X-Auth-Token, X-Auth-Account, Content-Type, Accept, Content-Encoding, X-Request-Id, "
        "X-HTTP-Method-Override"
    ),
    "access-control-max-age": "86400",
}


def encoded(envelope: Mapping[str, Any], *, pretty: bool = False) -> bytes:
    """An envelope as JSON text; parts of it may be text already (``orjson.Fragment``)."""
    text = orjson.dumps(envelope)
    return orjson.dumps(orjson.loads(text), option=orjson.OPT_INDENT_2) if pretty else text


def envelope_of(result: Result, notes: Sequence[str]) -> dict[str, Any]:
    """The envelope of a good answer."""
    return success(
        result.body,
        status=result.status,
        messages=notes,
        references=result.references,
        **result.head,
    )


def refusal(error: PlatformError, *, pretty: bool = False, allowed: Sequence[str] = ()) -> Response:
    """The answer that a refusal becomes, wherever it is made: by the application or by a shell.

    It may carry ``Retry-After``, never too few seconds, or ``Allow`` with a 405.
    """
    headers = dict(HEADERS)
    if allowed:
        headers["allow"] = _allow(allowed)
    if error.retry_after_s is not None:
        headers["retry-after"] = str(max(1, math.ceil(error.retry_after_s)))
    return Response(error.status, headers, encoded(failure(error), pretty=pretty))


def preflight(methods: Sequence[str]) -> Response:
    """The answer to OPTIONS: what a browser of another origin may send here."""
    headers = {**HEADERS, **_PREFLIGHT, "allow": _allow(methods)}
    return Response(200, headers, encoded(success({})))


def _allow(methods: Sequence[str]) -> str:
    return ", ".join([*methods, "OPTIONS"])
