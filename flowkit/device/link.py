"""A way to a platform for what runs on plain threads: connections that ask and are answered.

A ``Connection`` is one keep-alive HTTP/1.1 connection on the standard library's client, and it is
always known when it is a new one: whoever sends from an outbox asks for the marks then
(``positions`` 9). Nothing here imports gevent; in a process that gevent has patched it waits
cooperatively like everything else there. ``ApiLink`` goes through the transport of an ``API``
instead, for a platform in the same process.

A connection belongs to one thread at a time; ``cut`` alone may come from any.

Source: protocol 3.1 to 3.4 (HTTP, headers, envelope, refusals), ``positions`` 9 (sender, rule 4).
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import threading
import zlib
from collections.abc import Mapping
from contextlib import suppress
from email.utils import parsedate_to_datetime
from functools import partial
from time import monotonic, time
from typing import Any, Protocol, Self
from urllib.parse import urlsplit

from flowkit import limits
from flowkit._version import __version__
from flowkit.client.address import base_url
from flowkit.client.credentials import Token
from flowkit.device import bounds
from flowkit.device.answers import TimedResponse
from flowkit.device.compression import unpacked
from flowkit.device.dialling import proxy_for, proxy_headers, reason_of, tls
from flowkit.errors import (
    ConnectError,
    ConnectionLost,
    DeadlineExceeded,
    PlatformError,
    ProtocolError,
    SettingsError,
    TransportError,
)
from flowkit.protocol.envelope import Answer, Request, read_envelope

__all__ = ["ApiLink", "Connection", "HttpLink", "Link", "link_to", "retry_after_s"]

_READ_BYTES = 64 * 1024
_VERSION = "4.0"


class Connection(Protocol):
    """One connection to a platform, opened by its first question."""

    @property
    def is_open(self) -> bool:
        """Whether the next question goes over the connection of the one before."""

    def open(self) -> None:
        """Connect, if it is not open.

        Raises:
            TransportError: it could not be done.
        """

    def ask(
        self,
        method: str,
        segments: tuple[str, ...],
        body: bytes = b"",
        *,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
        outside: bool = False,
    ) -> Answer:
        """The answer to one request.

        Args:
            method: ``GET``, ``POST`` …
            segments: the address below version and account.
            outside: whether *segments* are the whole address, as those of sessions are.
            body: what is sent; JSON unless *headers* say otherwise.
            timeout_s: seconds that it may take; the link's own by default.

        Raises:
            TransportError: nobody answered; the connection is closed.
            PlatformError: the platform said no.
        """

    def cut(self) -> None:
        """End it, from any thread; a question under way fails."""

    def close(self) -> None:
        """End it."""


class Link(Protocol):
    """Where a sender sends: a platform, an account and a credential."""

    @property
    def name(self) -> str:
        """The platform and the account, for people; no secret."""

    def connection(self) -> Connection:
        """A connection of the caller's own."""

    def ask(self, method: str, segments: tuple[str, ...], body: bytes = b"", **how: Any) -> Answer:
        """One question over a connection that ends with it."""


class HttpLink:
    """A platform behind HTTP or HTTPS.

    Proxies (``HTTP_PROXY``, ``HTTPS_PROXY``, ``NO_PROXY``) and certificates
    (``REQUESTS_CA_BUNDLE``, ``SSL_CERT_FILE`` …) are read from the environment, here, once.

    Args:
        host: ``name[:port]`` or a URL; TLS unless it is a loopback address or the URL says so.
        account: the account.
        token: its secret.
        verify: True, False, the path of a CA bundle, or an ``ssl.SSLContext``.
        timeout_s: seconds that one request may take.

    Raises:
        SettingsError: the host is none, or the certificates cannot be read.
        UsageError: account or token cannot stand in a header.
    """

    def __init__(
        self,
        host: str,
        account: str,
        token: str,
        *,
        verify: bool | str | ssl.SSLContext = True,
        timeout_s: float = bounds.link_timeout_s,
    ) -> None:
        self.url = base_url(host)
        self.timeout_s = timeout_s
        self._credential = Token(account, token)
        parts = urlsplit(self.url)
        self._parts = parts
        self._tls = tls(verify) if parts.scheme == "https" else None
        self._proxy = proxy_for(parts)
        self.clock_ahead_s = 0.0

    @property
    def account(self) -> str:
        """The account."""
        return self._credential.account

    @property
    def name(self) -> str:
        """The platform and the account; no secret."""
        return f"{self.url} as {self.account}"

    def set_token(self, token: str) -> None:
        """Send *token* with every request from now on; from any thread."""
        self._credential = Token(self.account, token)

    def headers(self) -> dict[str, str]:
        """Who asks; to a proxy without a tunnel, too."""
        secret = self._credential
        own = {"X-Auth-Account": secret.account, "X-Auth-Token": secret.token}
        if self._proxy is not None and self._tls is None:
            own |= proxy_headers(self._proxy)
        return own

    def connection(self) -> Connection:
        """A connection of the caller's own."""
        return _HttpConnection(self)

    def ask(self, method: str, segments: tuple[str, ...], body: bytes = b"", **how: Any) -> Answer:
        """One question over a connection that ends with it."""
        return _asked_once(self.connection(), method, segments, body, **how)

    def learn_time(self, date: str) -> None:
        """Take note of the server's clock, from its ``Date`` header."""
        with suppress(ValueError, TypeError):
            self.clock_ahead_s = parsedate_to_datetime(date).timestamp() - time()

    def dial(self) -> http.client.HTTPConnection:
        """A new connection of the standard library's client, not yet connected."""
        proxy = self._proxy
        target = self._parts
        at = proxy or target
        host, port = str(at.hostname), at.port or (443 if at.scheme == "https" else 80)
        timeout_s = min(limits.connect_timeout_s, self.timeout_s)
        if self._tls is None:
            return http.client.HTTPConnection(host, port, timeout=timeout_s)
        made = http.client.HTTPSConnection(host, port, timeout=timeout_s, context=self._tls)
        if proxy is not None:
            made.set_tunnel(str(target.hostname), target.port or 443, proxy_headers(proxy))
        return made

    @property
    def spells_whole(self) -> bool:
        """Whether a request line holds the whole URL: for a proxy without a tunnel."""
        return self._proxy is not None and self._tls is None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"


class _HttpConnection:
    """A ``Connection`` over HTTP."""

    def __init__(self, link: HttpLink) -> None:
        self._link = link
        self._lock = threading.Lock()
        self._wire: http.client.HTTPConnection | None = None

    @property
    def is_open(self) -> bool:
        return self._wire is not None

    def open(self) -> None:
        if self._wire is not None:
            return
        wire = self._link.dial()
        wire.auto_open = False  # it must never connect again unseen
        with self._lock:
            self._wire = wire
        try:
            wire.connect()
            wire.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.close()
            raise _no_connection(self._link.url, error) from error
        except BaseException:
            self.close()
            raise

    def ask(
        self,
        method: str,
        segments: tuple[str, ...],
        body: bytes = b"",
        *,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
        outside: bool = False,
    ) -> Answer:
        self.open()
        link = self._link
        base = () if outside else (f"v{_VERSION}", link.account)
        request = Request(method, (*base, *segments), params or {})
        target = request.target if not link.spells_whole else link.url + request.target
        sent = {
            "User-Agent": f"flowkit/{__version__}",
            "Accept-Encoding": "gzip",
            "Content-Type": "application/json",
            **link.headers(),
            **(headers or {}),
        }
        deadline = monotonic() + (timeout_s or link.timeout_s)
        try:
            status, said, text = self._exchange(method, target, body, sent, deadline=deadline)
        except TransportError:
            self.close()
            raise
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.close()
            raise _lost(error, method, request.path) from error
        except BaseException:
            self.close()
            raise
        link.learn_time(said.get("date", ""))
        return _read(status, said, text, request)

    def _exchange(
        self, method: str, target: str, body: bytes, headers: dict[str, str], *, deadline: float
    ) -> tuple[int, dict[str, str], bytes]:
        wire = self._wire
        if wire is None or wire.sock is None:
            raise ConnectionLost("the connection was cut")
        wire.sock.settimeout(_left(deadline))
        wire.request(method, target, body or None, headers)
        timed = partial(TimedResponse, allow=lambda sock: sock.settimeout(_left(deadline)))
        wire.response_class = timed  # type: ignore[assignment]  # is called as the class would be
        response = wire.getresponse()
        pieces: list[bytes] = []
        size = 0
        while piece := response.read(_READ_BYTES):
            size += len(piece)
            if size > bounds.link_answer_bytes_max:
                raise ProtocolError("the answer is larger than any of the platform's")
            pieces.append(piece)
        if response.will_close:
            self.close()
        said = {name.lower(): value for name, value in response.getheaders()}
        return response.status, said, _unpacked(said, b"".join(pieces))

    def cut(self) -> None:
        with self._lock:
            wire = self._wire
        sock = None if wire is None else wire.sock
        if sock is not None:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        with self._lock:
            wire, self._wire = self._wire, None
        if wire is not None:
            with suppress(OSError):
                wire.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class ApiLink:
    """The transport of an ``API``: for a platform in the same process.

    Args:
        api: the API; its credentials are read for every request.
    """

    def __init__(self, api: Any) -> None:
        self._api = api

    @property
    def name(self) -> str:
        """The platform and the account; no secret."""
        return repr(self._api).strip("<>")

    @property
    def account(self) -> str:
        """The account."""
        return str(self._api.creds.account)

    def connection(self) -> Connection:
        """A connection of the caller's own."""
        return _ApiConnection(self._api)

    def ask(self, method: str, segments: tuple[str, ...], body: bytes = b"", **how: Any) -> Answer:
        """One question over a connection that ends with it."""
        return _asked_once(self.connection(), method, segments, body, **how)


class _ApiConnection:
    """A ``Connection`` that is open until a question over it fails."""

    def __init__(self, api: Any) -> None:
        self._api = api
        self.is_open = False

    def open(self) -> None:
        self.is_open = True

    def ask(
        self,
        method: str,
        segments: tuple[str, ...],
        body: bytes = b"",
        *,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
        outside: bool = False,
    ) -> Answer:
        self.open()
        creds = self._api.creds
        sent = {"x-auth-account": creds.account, "x-auth-token": creds.token}
        more = {name.lower(): value for name, value in (headers or {}).items()}
        body = unpacked(body, more.pop("content-encoding", None))
        base = () if outside else (f"v{_VERSION}", creds.account)
        request = Request(method, (*base, *segments), params or {}, {**sent, **more}, body)
        try:
            response = self._api.transport.send(
                request, timeout_s=timeout_s or bounds.link_timeout_s
            )
        except TransportError:
            self.is_open = False
            raise
        return _read(response.status, response.headers, response.body, request)

    def cut(self) -> None:
        """There is nothing to cut: a question in this process ends by itself."""

    def close(self) -> None:
        self.is_open = False


def link_to(target: Any) -> Link:
    """A ``Link`` for whatever a sender was given: a link, or an ``API``.

    An API that speaks HTTP gives its host, account, secret and certificates; the connections are
    then the link's own.

    Raises:
        SettingsError: it is neither.
    """
    if hasattr(target, "connection") and hasattr(target, "ask"):
        link: Link = target
        return link
    options = getattr(target, "options", None)
    if options is None or not hasattr(target, "creds"):
        raise SettingsError(
            f"a {type(target).__name__} is no way to a platform",
            hint="give an API or flowkit.device.HttpLink(host, account, token)",
        )
    if options.transport is None and options.base_url is not None:
        creds = target.creds
        return HttpLink(options.base_url, creds.account, creds.token, verify=options.verify)
    return ApiLink(target)


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """What ``Retry-After`` asks for in seconds, in either of its forms; None without it.

    A date is held against the server's own clock, that of the device may be anything.
    """
    said = headers.get("retry-after", "").strip()
    if not said:
        return None
    with suppress(ValueError):
        return min(max(0.0, float(said)), bounds.sender_retry_after_max_s)
    with suppress(ValueError, TypeError):
        here = headers.get("date")
        now_s = parsedate_to_datetime(here).timestamp() if here else time()
        left_s = parsedate_to_datetime(said).timestamp() - now_s
        return min(max(0.0, left_s), bounds.sender_retry_after_max_s)
    return None


def _asked_once(
    connection: Connection, method: str, segments: tuple[str, ...], body: bytes, **how: Any
) -> Answer:
    try:
        return connection.ask(method, segments, body, **how)
    finally:
        connection.close()


def _left(deadline: float) -> float:
    left_s = deadline - monotonic()
    if left_s <= 0:
        raise DeadlineExceeded("the time was up before the answer was complete")
    return left_s


def _read(status: int, headers: Mapping[str, str], text: bytes, request: Request) -> Answer:
    """What an answer says, or the error that it stands for; a poll's answer is a plain list."""
    try:
        said = json.loads(text)
        if isinstance(said, list) and status == 200:
            return Answer(status, said, {})
        return read_envelope(status, said)
    except ValueError:
        fault = ProtocolError(
            f"an answer with status {status} is not the platform's: a proxy or a login page?",
            method=request.method,
            path=request.path,
        )
        fault.status = status
        raise fault from None
    except PlatformError as error:
        error.method, error.path = request.method, request.path
        error.retry_after_s = retry_after_s(headers)
        raise


def _unpacked(headers: Mapping[str, str], text: bytes) -> bytes:
    if headers.get("content-encoding", "").lower() != "gzip":
        return text
    unpacker = zlib.decompressobj(zlib.MAX_WBITS | 16)
    try:
        made = unpacker.decompress(text, bounds.link_answer_bytes_max)
    except zlib.error:
        raise ProtocolError("the answer is said to be gzip and is not") from None
    if not unpacker.eof:
        raise ProtocolError("the answer is cut short, or larger than any of the platform's")
    return made


def _no_connection(url: str, error: Exception) -> TransportError:
    if isinstance(error, ssl.SSLCertVerificationError):
        return ConnectError(f"{url}: its certificate is not trusted: {error.verify_message}")
    return ConnectError(f"{url}: no connection: {reason_of(error)}")


def _lost(error: Exception, method: str, path: str) -> TransportError:
    if isinstance(error, TimeoutError):
        return DeadlineExceeded("no answer in time", method=method, path=path)
    return ConnectionLost(f"the connection ended: {reason_of(error)}", method=method, path=path)
