"""The names, defaults and constructor of the first client, for scripts that were written for it.

``from flowkit.compat.flowthings import API, Token, mem`` in place of ``from flowthings import …``
is meant to be the only change. What differs from ``flowkit`` itself:

* the exceptions have their old names. They *are* flowkit's classes, so ``except
  FlowThingsNotFound`` catches exactly what flowkit raises, and ``flowkit.NotFound`` catches it too.
  ``FlowThingsException`` is the base of what the server refused, ``FlowThingsError`` the base of
  everything;
* the constructor takes ``async_lib`` by position too, and ``request`` and ``encoder``;
* the defaults are the old ones: TLS, ``api.flowthings.io``, version 0.1 (typed elements).

An error has no ``creds``: no error of this library holds a secret.

Source: protocol 13.1.
"""

from __future__ import annotations

import inspect
import json
import ssl
from collections.abc import Callable, Mapping
from typing import Any

from flowkit import errors
from flowkit.client import api as client
from flowkit.client.changes import M, P
from flowkit.client.credentials import Token
from flowkit.client.options import Defaults
from flowkit.errors import (
    ConnectError,
    ConnectionLost,
    DeadlineExceeded,
    FlowKitError,
    ProtocolError,
    SettingsError,
    TransportError,
)
from flowkit.protocol.envelope import Request, Response
from flowkit.query.build import AGE, EXISTS, HAS, MATCHES, NOT, mem

__all__ = [
    "AGE",
    "API",
    "EXISTS",
    "HAS",
    "MATCHES",
    "NOT",
    "FlowThingsBadRequest",
    "FlowThingsError",
    "FlowThingsException",
    "FlowThingsForbidden",
    "FlowThingsNotFound",
    "FlowThingsServerError",
    "M",
    "Modify",
    "P",
    "Params",
    "RequestFunction",
    "Token",
    "defaults",
    "mem",
]

FlowThingsError = FlowKitError
FlowThingsException = errors.PlatformError
FlowThingsBadRequest = errors.BadRequest
FlowThingsForbidden = errors.Forbidden
FlowThingsNotFound = errors.NotFound
FlowThingsServerError = errors.ServerError

Params = P
Modify = M

defaults = Defaults(
    secure=True,
    host="api.flowthings.io",
    ws_host="ws.flowthings.io",
    version="0.1",
    request=None,
    encoder=json,
)
"""The defaults of the first client. Change ``host`` here, and old scripts find their platform."""


class API(client.API):
    """``flowkit.API`` with the constructor and the defaults of the first client.

    Args:
        creds, async_lib, secure, host, version, params, ws_host, verify: as in ``flowkit.API``.
        encoder: an object with ``dumps`` and ``loads``, used for bodies and answers; the ``json``
            module stands for flowkit's own encoding, which can do all that it can.
        request: a function like ``requests.request``, used for every request.
        others: the newer options of ``flowkit.API``.

    Raises:
        SettingsError: an option that cannot work.
    """

    defaults = defaults

    def __init__(
        self,
        creds: Any,
        async_lib: Any = None,
        *,
        secure: bool | None = None,
        host: str | None = None,
        version: str | None = None,
        encoder: Any = None,
        params: Mapping[str, Any] | None = None,
        request: Callable[..., Any] | None = None,
        ws_host: str | None = None,
        **others: Any,
    ) -> None:
        self._encoder = _checked_encoder(encoder or self.defaults.encoder)
        request = request or self.defaults.request
        if request is not None and others.get("transport") is None:
            verify = others.get("verify", self.defaults.verify)
            others["transport"] = lambda url: RequestFunction(request, url, verify=verify)
        named = {
            "async_lib": async_lib,
            "secure": secure,
            "host": host,
            "version": version,
            "params": params,
            "ws_host": ws_host,
        }
        super().__init__(creds, **named, **others)

    def encode(self, value: Any) -> bytes:
        """A body as bytes, by the encoder that was given."""
        if self._encoder is None:
            return super().encode(value)
        text = self._encoder.dumps(value)
        return text if isinstance(text, bytes) else str(text).encode("utf-8")

    def decode(self, body: bytes) -> Any:
        """The value of an answer, by the encoder that was given."""
        return super().decode(body) if self._encoder is None else self._encoder.loads(body.decode())


class RequestFunction:
    """A transport around a function like ``requests.request``.

    The function is called with method and URL, and with ``headers`` and ``data``; with ``timeout``
    (seconds), ``allow_redirects=False`` and ``verify`` only if it takes them. What it returns must
    have ``status_code``, ``headers`` and ``content`` (or ``text``).

    Args:
        request: the function.
        base_url: what the path of each request is put behind.
        verify: handed on if the function takes it.
    """

    def __init__(self, request: Callable[..., Any], base_url: str, *, verify: Any = True) -> None:
        if not callable(request):
            raise SettingsError(f"request is a function, not a {type(request).__name__}")
        if isinstance(verify, ssl.SSLContext):
            raise SettingsError("a request function takes verify as a bool or a path")
        self._request = request
        self._base_url = base_url
        self._verify = verify
        self._takes = _keywords(request)

    def send(self, request: Request, *, timeout_s: float) -> Response:
        """The answer to *request*.

        Raises:
            TransportError: for an ``OSError`` of the function (those of ``requests`` are), by its
            kind; ``ProtocolError`` for something that is no answer.
        """
        extra = {"timeout": timeout_s, "allow_redirects": False, "verify": self._verify}
        try:
            answer = self._request(
                request.method,
                self._base_url + request.target,
                headers=dict(request.headers),
                data=request.body or None,
                **{name: value for name, value in extra.items() if self._takes(name)},
            )
        except OSError as error:
            raise _failure(error) from error
        if not hasattr(answer, "status_code"):
            raise ProtocolError(f"the request function returned a {type(answer).__name__}")
        body = getattr(answer, "content", None)
        if body is None:
            body = answer.text
        headers = {name.lower(): value for name, value in dict(answer.headers or {}).items()}
        data = body if isinstance(body, bytes) else str(body).encode("utf-8")
        return Response(int(answer.status_code), headers, data)

    def close(self) -> None:
        """Nothing to do: the function's connections are its own."""


def _checked_encoder(encoder: Any) -> Any:
    """None for the standard encoder: flowkit's own takes its place."""
    if encoder is json:
        return None
    if not callable(getattr(encoder, "dumps", None)) or not callable(
        getattr(encoder, "loads", None)
    ):
        raise SettingsError(
            f"a {type(encoder).__name__} is no encoder: dumps and loads are missing"
        )
    return encoder


def _keywords(function: Callable[..., Any]) -> Callable[[str], bool]:
    """Whether *function* takes a keyword, as far as its signature says; if it says nothing, all."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return lambda _name: True
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return lambda _name: True
    return parameters.__contains__


def _failure(error: OSError) -> TransportError:
    """The error of this library for one of the function's, told by the names of its classes.

    The HTTP library is not imported for this: the function need not use it.
    """
    names = {kind.__name__ for kind in type(error).__mro__}
    said = f"{type(error).__name__} from the request function"
    if names & {"Timeout", "TimeoutError"}:
        return DeadlineExceeded(said)
    if names & {"ConnectionRefusedError", "gaierror"}:
        return ConnectError(said)
    return ConnectionLost(said)
