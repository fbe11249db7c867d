"""A connection for a WebSocket: by the same way as the requests, with the same TLS and headers.

``Way`` says how: through which proxy, with which certificates, with which headers. It is read from
the transport, and where the user has a ``requests.Session`` of his own, from that. Through a proxy
it is a tunnel (``CONNECT``), also without TLS; a SOCKS proxy is PySocks' work.

Everything here runs in a greenlet of an event loop and yields a socket of that loop.

Source: protocol 3.1, 9.1; 13.2 (defect 79).
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

from flowkit import limits
from flowkit.errors import ConnectError, ConnectionLost, ProtocolError, SettingsError
from flowkit.green import Deadline, eventlet_patched, in_thread, sockets, within

__all__ = ["Way", "of_session", "open_by"]

_NOT_OURS = frozenset({"accept-encoding", "connection", "content-length", "content-type"})
_READ_BYTES = 4_096


@dataclass(frozen=True, slots=True)
class Way:
    """How to come to a server.

    Attributes:
        host, port: of the server.
        tls: the TLS settings, None for none.
        proxy: its URL, None for none; it may hold a user name and a password.
        headers: for the handshake, names in lower case.
    """

    host: str
    port: int
    tls: Any = None
    proxy: str | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


def of_session(session: Any, url: str) -> tuple[Any, str | None, dict[str, str]]:
    """TLS settings (None: *url* needs none), proxy and headers of a ``requests`` session.

    Its ``auth``, cookies and ``.netrc`` are among the headers, as in its requests; its hooks are
    not asked.
    """
    import requests
    from requests.utils import select_proxy, should_bypass_proxies

    prepared = session.prepare_request(requests.Request("GET", url))
    headers = {
        name.lower(): _text(value)
        for name, value in prepared.headers.items()
        if name.lower() not in _NOT_OURS
    }
    merged = session.merge_environment_settings(url, {}, False, None, None)
    proxies = merged["proxies"]
    proxy = select_proxy(url, proxies)
    if proxy and should_bypass_proxies(url, no_proxy=proxies.get("no_proxy")):
        proxy = None
    tls = _tls_of(session, url, merged) if url.startswith("https:") else None
    return tls, proxy, headers


def _tls_of(session: Any, url: str, merged: Mapping[str, Any]) -> Any:
    pools = getattr(session.get_adapter(url), "poolmanager", None)
    given = getattr(pools, "connection_pool_kw", {}).get("ssl_context")
    if given is not None:
        return given
    verify = merged["verify"]
    tls = sockets.tls_context(True if verify is None else verify)
    cert = merged["cert"]
    if cert:
        pair = (cert,) if isinstance(cert, str) else tuple(cert)
        try:
            tls.load_cert_chain(*pair)
        except OSError as error:
            raise SettingsError(f"the client certificate cannot be read: {error}") from error
    return tls


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value


def open_by(way: Way, deadline: Deadline) -> Any:
    """A connection by that way: a socket of the calling event loop.

    Raises:
        ConnectError: nobody answers, the proxy refuses, or TLS does.
        DeadlineExceeded: not in time.
        SettingsError: a proxy that cannot be used.
    """
    if way.proxy is None:
        return sockets.connect(way.host, way.port, deadline, way.tls)
    proxy = urlsplit(way.proxy if "://" in way.proxy else f"http://{way.proxy}")
    if proxy.scheme.startswith("socks"):
        connected = _by_socks(proxy, way, deadline)
    elif proxy.scheme == "http":
        connected = _by_connect(proxy, way, deadline)
    else:
        raise SettingsError(
            f"subscriptions cannot go through a proxy that speaks {proxy.scheme}",
            hint="http:// and socks5:// can; NO_PROXY names hosts that need none",
        )
    if way.tls is None:
        return connected
    return sockets.secure(connected, way.host, way.tls, deadline)


def _by_connect(proxy: Any, way: Way, deadline: Deadline) -> Any:
    """A tunnel through an HTTP proxy."""
    connected = sockets.connect(proxy.hostname or "", proxy.port or 80, deadline)
    host = f"[{way.host}]" if ":" in way.host else way.host
    lines = [f"CONNECT {host}:{way.port} HTTP/1.1", f"host: {host}:{way.port}"]
    if proxy.username is not None:
        secret = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
        lines.append(f"proxy-authorization: Basic {b64encode(secret.encode()).decode()}")
    try:
        connected.sendall("\r\n".join([*lines, "", ""]).encode("ascii"))
        status = _answer_of_proxy(connected, deadline)
    except BaseException as error:
        connected.close()
        if isinstance(error, OSError):
            raise ConnectError(f"the proxy {proxy.hostname} ended the connection") from error
        raise
    if status != "200":
        connected.close()
        raise ConnectError(
            f"the proxy {proxy.hostname} refused a tunnel to {host}:{way.port}: status {status}"
        )
    return connected


def _answer_of_proxy(connected: Any, deadline: Deadline) -> str:
    """The status of the proxy's answer; nothing behind its head is read."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        left_s = deadline.left_s()
        # One byte at a time: what follows the head belongs to the tunnel.
        came = sockets.receive(connected, 1, limits.connect_timeout_s if left_s is None else left_s)
        if came is None:
            raise deadline.error()
        if not came:
            raise ConnectionLost("the proxy ended the connection")
        head += came
        if len(head) > _READ_BYTES * 4:
            raise ProtocolError("the proxy's answer has no end")
    words = head.split(None, 2)
    if len(words) < 2 or not words[0].startswith(b"HTTP/"):
        raise ProtocolError("the proxy does not speak HTTP")
    return words[1].decode("latin-1")


def _by_socks(proxy: Any, way: Way, deadline: Deadline) -> Any:
    try:
        import socks
    except ImportError:
        raise SettingsError(
            f"a {proxy.scheme} proxy needs PySocks", hint="pip install 'requests[socks]'"
        ) from None

    kind = socks.SOCKS4 if proxy.scheme.startswith("socks4") else socks.SOCKS5
    left_s = deadline.left_s()

    def connect() -> Any:
        return socks.create_connection(
            (way.host, way.port),
            timeout=left_s,
            proxy_type=kind,
            proxy_addr=proxy.hostname,
            proxy_port=proxy.port or 1080,
            proxy_rdns=proxy.scheme in ("socks5h", "socks4a"),
            proxy_username=unquote(proxy.username) if proxy.username else None,
            proxy_password=unquote(proxy.password) if proxy.password else None,
        )

    try:
        connected = (
            in_thread(connect).get(left_s) if eventlet_patched() else within(deadline, connect)
        )
    except OSError as error:  # PySocks' own errors are
        raise ConnectError(
            f"no connection to {way.host}:{way.port} through the proxy: {error}"
        ) from error
    return sockets.adopt(connected)
