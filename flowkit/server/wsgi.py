"""The platform as a plain WSGI callable, for whoever wants another server in front of it.

Only the REST part: a WebSocket cannot pass through WSGI. Framing, time-outs and connections are
that server's; sizes, gzip and refusals are kept here. The server has to let the methods MGET and
MPUT pass, or its clients use the method override (protocol 3.5).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import parse_qsl

from flowkit.errors import PlatformError
from flowkit.protocol.envelope import Request, Response
from flowkit.server import message
from flowkit.server.answers import refusal
from flowkit.server.exchange import Application, Bounds, answer
from flowkit.server.logs import request_id_of
from flowkit.server.message import Head, Refused

__all__ = ["wsgi_app"]


def wsgi_app(
    app: Application, *, bounds: Bounds | None = None
) -> Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]:
    """The REST part of *app* as a WSGI callable."""
    kept = bounds or Bounds()

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        method = environ["REQUEST_METHOD"]
        response = _wsgi_answer(app, environ, method, kept)
        named = {"x-request-id": request_id_of({}), **response.headers}
        headers = [*named.items(), ("content-length", str(len(response.body)))]
        start_response(f"{response.status} {message.phrase(response.status)}", headers)
        return [b"" if method == "HEAD" else response.body]

    return application


def _wsgi_answer(
    app: Application, environ: Mapping[str, Any], method: str, bounds: Bounds
) -> Response:
    headers = {
        key[5:].lower().replace("_", "-"): value
        for key, value in environ.items()
        if key.startswith("HTTP_")
    }
    if environ.get("CONTENT_TYPE"):
        headers["content-type"] = environ["CONTENT_TYPE"]
    path = environ.get("PATH_INFO", "")
    head = Head(method, path, headers, 0, minor=1, keep_alive=False, expects_continue=False)
    bytes_max = bounds.body_max(head)
    try:
        body = _wsgi_body(environ, bytes_max)
        segments = tuple(part for part in path.encode("latin-1").decode("utf-8").split("/") if part)
        params = dict(parse_qsl(environ.get("QUERY_STRING", ""), keep_blank_values=True))
    except PlatformError as error:
        return refusal(error)
    except UnicodeError:
        return refusal(Refused("the path is not UTF-8 once it is percent-decoded"))
    asked = "GET" if method == "HEAD" else method
    return answer(
        app,
        lambda plain_headers, plain: Request(
            asked, segments, params, plain_headers, plain, str(environ.get("REMOTE_ADDR", ""))
        ),
        headers,
        body,
        bytes_max,
    )


def _wsgi_body(environ: Mapping[str, Any], bytes_max: int) -> bytes:
    """The body that the WSGI server offers; one without a length only if it says where it ends."""
    length = environ.get("CONTENT_LENGTH") or ""
    if length and not length.isdecimal():
        raise Refused("Content-Length is not one plain number")
    if not length and not environ.get("wsgi.input_terminated"):
        return b""
    if length and int(length) > bytes_max:
        raise message.too_large(bytes_max)
    body: bytes = environ["wsgi.input"].read(int(length) if length else bytes_max + 1)
    if len(body) > bytes_max:
        raise message.too_large(bytes_max)
    return body
