"""A request out, an answer back.

``HttpTransport`` has two paths. The *lean* one writes the request itself and parses the answer
with geventhttpclient's parser, over connections of its own (``pool.py``, ``wire.py``); in a thread
with a gevent hub its sockets are cooperative, patched or not. The *full* one goes through
``requests`` (``stock.py``): behind a proxy, under eventlet, and for a session that is not the one
we made.

Neither follows redirects, keeps cookies, or repeats a request that may have been acted upon.
Retrying, pacing and reading the envelope are the caller's.

Source: protocol 3.1, 3.2, 3.5; 13.2 (defects 6, 7, 10, 13, 14, 18, 21).
"""

from __future__ import annotations

import importlib.util
import os
import ssl
import weakref
from base64 import b64encode
from collections.abc import Mapping
from typing import Any, Protocol, Self
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies

from flowkit import limits
from flowkit._version import __version__
from flowkit.client import tunnel
from flowkit.client.address import certificates
from flowkit.client.pool import SAFE_METHODS, Pools
from flowkit.client.wire import Wire
from flowkit.errors import (
    DeadlineExceeded,
    ProtocolError,
    SettingsError,
    TransportError,
    UsageError,
)
from flowkit.green import Deadline, NativeLock, Slots, eventlet_patched, sockets, within
from flowkit.protocol.envelope import Request, Response

__all__ = ["HttpTransport", "Transport", "check_async_lib"]

Verify = bool | str | ssl.SSLContext


class Transport(Protocol):
    """Whatever carries a request to a platform; usable from any thread and greenlet."""

    def send(self, request: Request, *, timeout_s: float) -> Response:
        """The answer to *request*, whatever its status.

        Raises:
            TransportError: nobody answered within *timeout_s* seconds, or not with HTTP.
            UsageError: the request cannot be sent as it is, or the transport is closed.
        """

    def close(self) -> None:
        """Let go of everything; requests under way end with an error. May be called twice."""


class HttpTransport:
    """Requests over HTTP or HTTPS to one server.

    Proxies (``HTTP_PROXY``, ``HTTPS_PROXY``, ``ALL_PROXY``, ``NO_PROXY``), certificates
    (``REQUESTS_CA_BUNDLE``, ``CURL_CA_BUNDLE``, ``SSL_CERT_FILE``, ``SSL_CERT_DIR``) and ``.netrc``
    are read here, once.

    Args:
        base_url: ``http://`` or ``https://``, host, optional port and path.
        verify: True, False, a path of PEM certificates, or an ``ssl.SSLContext``.
        session: a ``requests.Session`` to use instead of the lean path.
        connect_timeout_s: seconds that connecting may take at most, within each call's own time.
        connections_max: requests on the wire at once; who comes later waits within its own time.

    Raises:
        SettingsError: a setting that cannot work, named with what to write instead.
    """

    def __init__(
        self,
        base_url: str,
        *,
        verify: Verify = True,
        session: Any = None,
        connect_timeout_s: float = limits.connect_timeout_s,
        connections_max: int = limits.connections_max_default,
    ) -> None:
        parts = _checked(base_url)
        if session is not None and verify is not True:
            raise SettingsError("verify= and session= are both given", hint="set session.verify")
        self.base_url = base_url.rstrip("/")
        self._tls_wanted = parts.scheme == "https"
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if self._tls_wanted else 80)
        self._prefix = parts.path.rstrip("/")
        self._verify = certificates(verify) if self._tls_wanted else verify
        self._connect_timeout_s = connect_timeout_s
        self._fixed = _fixed_headers(parts, self.base_url)
        self._known_good: dict[str, str] = {}  # headers that were looked at
        self._proxies = _proxies(self.base_url)
        self._always_full = session is not None or bool(self._proxies) or eventlet_patched()
        self._session = session
        self._untouched: tuple[Any, ...] | None = None
        self._tls: Any = None
        self._lock = NativeLock()
        self._pools = Pools(self._connect)
        self._slots = Slots(connections_max)
        _transports.add(self)
        if self._tls_wanted and not self._always_full:
            self._tls = sockets.tls_context(self._verify)

    def __repr__(self) -> str:
        return f"HttpTransport({self.base_url!r})"

    @property
    def session(self) -> Any:
        """The ``requests.Session`` of the full path, the user's to change.

        Once its auth, hooks, adapters, headers, cookies, certificates or proxies are changed, all
        requests take the full path.
        """
        if self._session is None:
            from flowkit.client import stock

            made = stock.lean_session(self._verify, self._proxies)
            with self._lock:  # two may come here at once: the first one's session stays
                if self._session is None:
                    self._untouched = stock.fingerprint(made)
                    self._session = made
        return self._session

    @property
    def connections(self) -> int:
        """Connections that the lean path has open, idle or busy."""
        return self._pools.count()

    def send(self, request: Request, *, timeout_s: float) -> Response:
        """Send *request*; the answer, whatever its status but a redirect.

        One deadline covers waiting for a slot, the host's name, connecting, TLS, sending and
        reading. An idle connection that the server has ended is replaced by a new one, if the
        request is safe to repeat or none of it was sent.

        Args:
            request: names and values of headers without line breaks; no part of the path ``.``,
                ``..`` or empty.
            timeout_s: seconds, more than 0.

        Raises:
            ConnectError: no connection; nothing was sent.
            ConnectionLost: the connection ended before the answer did.
            DeadlineExceeded: *timeout_s* passed.
            ProtocolError: the answer is a redirect, not HTTP, or too large.
            UsageError: the request cannot be written, or the transport is closed.
        """
        deadline = Deadline(timeout_s, "the request")
        headers = self._headers(request)
        try:
            self._slots.acquire(deadline)
            try:
                response = self._send(request, headers, deadline)
            finally:
                self._slots.release()
            if 300 <= response.status < 400:
                raise _redirected(response)
        except TransportError as error:
            error.method, error.path = request.method, request.path
            raise
        return response

    def _send(self, request: Request, headers: Mapping[str, str], deadline: Deadline) -> Response:
        if not self._takes_full_path():
            message = self._message(request, headers)
            is_safe = _meant(request) in SAFE_METHODS
            return self._pools.exchange(message, request.method, is_safe, deadline)
        return self._send_in_full(request, headers, deadline)

    def _send_in_full(
        self, request: Request, headers: Mapping[str, str], deadline: Deadline
    ) -> Response:
        from flowkit.client import stock

        def send() -> Response:
            return stock.send(
                self.session,
                request.method,
                self.base_url + request.target,
                headers=headers,
                body=request.body,
                deadline=deadline,
                connect_timeout_s=self._connect_timeout_s,
            )

        answer: Response = within(deadline, send)
        return answer

    def _takes_full_path(self) -> bool:
        if self._always_full:
            return True
        if self._session is None:
            return False
        from flowkit.client import stock

        return stock.fingerprint(self._session) != self._untouched

    def _headers(self, request: Request) -> dict[str, str]:
        """All headers, checked: none can end its line early and begin another."""
        for part in request.segments:
            if part in ("", ".", ".."):
                raise UsageError(f"{part!r} cannot be a part of a path: {request.path}")
        for name, value in request.headers.items():
            if self._known_good.get(name) == value:
                continue  # most are the same in every request
            if not name.isascii() or not name.replace("-", "").replace("_", "").isalnum():
                raise UsageError(f"{name!r} is not the name of a header")
            if not value.isprintable() or not value.isascii():
                raise UsageError(
                    f"the header {name} holds characters that cannot be sent",
                    hint="printable ASCII only; its value is not shown here, it may be a secret",
                )
            if len(self._known_good) < _KNOWN_GOOD_MAX or name in self._known_good:
                self._known_good[name] = value
        return {**self._fixed, **request.headers}

    def _message(self, request: Request, headers: Mapping[str, str]) -> bytes:
        lines = [f"{request.method} {self._prefix}{request.target} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if request.body or request.method not in SAFE_METHODS:
            lines.append(f"content-length: {len(request.body)}")
        lines.append("\r\n")
        return "\r\n".join(lines).encode("ascii") + request.body

    def _connect(self, deadline: Deadline) -> Wire:
        limit = Deadline(min(deadline.left_s() or 0.0, self._connect_timeout_s))
        try:
            connected = sockets.connect(self._host, self._port, limit, self._tls)
        except DeadlineExceeded:
            deadline.left_s()  # the whole call's time is up: say so with its own figure
            raise
        return Wire(connected, f"{self._host}:{self._port}")

    def drop_idle(self) -> None:
        """Close the idle connections that a request from here could take: after a loss they may be
        as dead as the one that was lost, and nobody has noticed.
        """
        self._pools.drop_idle()

    def open_socket(self, deadline: Deadline) -> tuple[Any, str, dict[str, str]]:
        """A connection for a WebSocket, by the way that requests take.

        To be called in an event loop (``green.Loop``), whose socket it is.

        Returns:
            the connected socket, with TLS if requests have it; what stands before every path of
            this server; the headers of its handshake.

        Raises:
            ConnectError: no connection.
            DeadlineExceeded: not in time.
            SettingsError: certificates or a proxy that cannot be used.
            UsageError: the transport is closed.
        """
        if self._pools.closed:
            raise _closed()
        way = self._way()
        left_s = deadline.left_s()
        connect_s = self._connect_timeout_s if left_s is None else left_s
        limit = Deadline(min(connect_s, self._connect_timeout_s), "connecting")
        return tunnel.open_by(way, limit), self._prefix, dict(way.headers)

    def _way(self) -> tunnel.Way:
        """How a WebSocket comes to the server: as requests do."""
        if self._session is not None and self._takes_users_session():
            tls, proxy, headers = tunnel.of_session(self._session, self.base_url + "/")
            return tunnel.Way(self._host, self._port, tls, proxy, {**self._fixed, **headers})
        proxy = None
        if self._proxies:
            from requests.utils import select_proxy

            proxy = select_proxy(self.base_url, self._proxies)
        if self._tls_wanted and self._tls is None:
            self._tls = sockets.tls_context(self._verify)
        return tunnel.Way(self._host, self._port, self._tls, proxy, self._fixed)

    def _takes_users_session(self) -> bool:
        from flowkit.client import stock

        return self._untouched is None or stock.fingerprint(self._session) != self._untouched

    def beside(self, base_url: str) -> HttpTransport:
        """A transport to another server with the settings of this one, its session too."""
        is_users = self._session is not None and self._untouched is None
        return HttpTransport(
            base_url,
            verify=True if is_users else self._verify,
            session=self._session if is_users else None,
            connect_timeout_s=self._connect_timeout_s,
            connections_max=self._slots.limit,
        )

    def close(self) -> None:
        """Close every connection; requests under way and waiting end with an error.

        A session that the user gave stays open. Requests under way on the full path end with their
        answer or their time.
        """
        self._slots.close(_closed())
        self._pools.close()
        if self._untouched is not None:  # the session is ours, not one that the user gave
            self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def forget(self) -> None:
        """In a forked child: begin anew, without a word on the parent's connections."""
        self._lock = NativeLock()
        self._slots = Slots(self._slots.limit)
        self._pools.forget()
        if self._session is not None:
            for adapter in self._session.adapters.values():
                if hasattr(adapter, "forget"):
                    adapter.forget()


_KNOWN_GOOD_MAX = 20

_transports: weakref.WeakSet[HttpTransport] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for transport in list(_transports):
        transport.forget()


os.register_at_fork(after_in_child=_after_fork_in_child)


def check_async_lib(name: str | None) -> None:
    """Refuse an ``async_lib`` that cannot work in this process.

    Raises:
        SettingsError: it is unknown, or eventlet without eventlet's patching.
    """
    if name in (None, "gevent"):
        return
    if name != "eventlet":
        raise SettingsError(f"async_lib={name!r} is not known", hint="gevent, eventlet or None")
    if not eventlet_patched():
        raise SettingsError(
            "async_lib='eventlet' needs a process that eventlet has patched",
            hint="call eventlet.monkey_patch() first, or leave async_lib out",
        )


def _closed() -> UsageError:
    return UsageError("this transport is closed", hint="make a new API")


def _checked(base_url: str) -> SplitResult:
    hint = "write it as http://host:port or https://host"
    try:
        parts = urlsplit(base_url)
        parts.port  # noqa: B018 - reading it checks it
    except ValueError as error:
        raise SettingsError(f"{base_url!r} is not a URL: {error}", hint=hint) from error
    if parts.username is not None or parts.password is not None:
        raise SettingsError(
            f"the URL of {parts.hostname} holds a user name or a password",
            hint="credentials go into Token(account, token)",
        )
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SettingsError(f"{base_url!r} is not the URL of a server", hint=hint)
    if parts.query or parts.fragment or not base_url.isascii() or not base_url.isprintable():
        raise SettingsError(f"{base_url!r} cannot begin the URL of a request", hint=hint)
    return parts


def _proxies(base_url: str) -> dict[str, str]:
    """The proxies that the environment names for this server, if any."""
    if not {"http", "https", "all"} & getproxies().keys():
        return {}
    from requests.utils import get_environ_proxies, select_proxy

    proxies: dict[str, str] = dict(get_environ_proxies(base_url))
    proxies.pop("no", None)
    chosen = select_proxy(base_url, proxies)
    if chosen and chosen.startswith("socks") and importlib.util.find_spec("socks") is None:
        raise SettingsError(
            f"the environment names a {chosen.partition(':')[0]} proxy, which needs PySocks",
            hint="pip install 'requests[socks]', or set NO_PROXY",
        )
    return proxies if chosen else {}


def _fixed_headers(parts: SplitResult, base_url: str) -> dict[str, str]:
    """What every request carries: who asks, what it can read, and what ``.netrc`` holds."""
    host = parts.netloc
    headers = {
        "host": host,
        "user-agent": f"flowkit/{__version__}",
        "accept": "application/json, */*;q=0.5",
        "accept-encoding": "gzip",
    }
    found = _netrc(base_url)
    if found:
        headers["authorization"] = f"Basic {b64encode(':'.join(found).encode()).decode()}"
    return headers


def _netrc(base_url: str) -> tuple[str, str] | None:
    paths = (os.environ.get("NETRC"), "~/.netrc", "~/_netrc")
    if not any(path and os.path.exists(os.path.expanduser(path)) for path in paths):
        return None
    from requests.utils import get_netrc_auth

    return get_netrc_auth(base_url)


def _meant(request: Request) -> str:
    """The method that is meant: its own, or the one that the override names (protocol 3.5)."""
    if request.method == "POST":
        return request.headers.get("x-http-method-override", "POST").upper()
    return request.method


def _redirected(response: Response) -> ProtocolError:
    """A redirect is never followed: it would carry the token to another place."""
    to = urlsplit(response.headers.get("location", ""))
    place = f" to {to.scheme or 'the same scheme'}://{to.hostname}" if to.hostname else ""
    return ProtocolError(
        f"the server answered with a redirect{place} (status {response.status}), "
        "which is not followed: name the final host"
    )
