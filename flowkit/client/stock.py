"""The full path: a request through ``requests`` and its stock adapter.

Taken behind a proxy, with a client certificate, under eventlet, and whenever the session is the
user's own or was changed by the user (auth, hooks, adapters, cookies …). It honours all of that and
costs three times as much as the lean path.

``requests`` bounds each wait for bytes, not all of them together: ``transport.py`` calls ``send``
with ``green.within``, which does.

The session reads neither environment nor ``.netrc`` per request: ``transport.py`` did, once.
"""

from __future__ import annotations

import http.client
import http.cookiejar
import ssl
from collections.abc import Mapping
from typing import Any

import requests
import requests.adapters
import requests.exceptions
import urllib3.exceptions

from flowkit import limits
from flowkit.errors import (
    ConnectError,
    ConnectionLost,
    DeadlineExceeded,
    ProtocolError,
    SettingsError,
    TransportError,
)
from flowkit.green import Deadline, sockets
from flowkit.protocol.envelope import Response

__all__ = ["fingerprint", "lean_session", "send"]

_READ_BYTES = 65_536


class _Adapter(requests.adapters.HTTPAdapter):
    """The stock adapter with a pool of our size, and the user's TLS context if there is one."""

    def __init__(self, context: ssl.SSLContext | None) -> None:
        self._context = context
        super().__init__(4, limits.connections_idle_max, max_retries=0)

    def forget(self) -> None:
        """Begin with no connections: the old ones belong to the parent process."""
        self.init_poolmanager(4, limits.connections_idle_max)
        self.proxy_manager = {}

    def init_poolmanager(self, *args: Any, **more: Any) -> None:
        if self._context is not None:
            more["ssl_context"] = self._context
        super().init_poolmanager(*args, **more)

    def proxy_manager_for(self, proxy: Any, **more: Any) -> Any:
        if self._context is not None:
            more["ssl_context"] = self._context
        return super().proxy_manager_for(proxy, **more)

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:
        # requests would add certifi's authorities to those that the user's context trusts.
        if self._context is None:
            super().cert_verify(conn, url, verify, cert)  # type: ignore[no-untyped-call]


def lean_session(verify: bool | str | ssl.SSLContext, proxies: Mapping[str, str]) -> Any:
    """A session with the waste removed: no environment, no ``.netrc``, no cookies kept."""
    session = requests.Session()
    session.trust_env = False
    session.headers.clear()
    session.proxies = dict(proxies)
    session.cookies.set_policy(http.cookiejar.DefaultCookiePolicy(allowed_domains=[]))
    context = None if isinstance(verify, bool | str) else verify
    if isinstance(verify, bool | str):
        session.verify = verify
    else:
        session.verify = verify.verify_mode != ssl.CERT_NONE
    for prefix in ("https://", "http://"):
        session.mount(prefix, _Adapter(context))
    return session


def fingerprint(session: Any) -> tuple[Any, ...]:
    """What of a session makes a difference on the wire; it changes when the user changes that."""
    return (
        session.auth,
        session.cert,
        session.verify,
        session.trust_env,
        tuple(session.headers.items()),
        tuple(session.proxies.items()),
        tuple(session.adapters.items()),
        tuple((name, tuple(hooks)) for name, hooks in session.hooks.items()),
        repr(session.params),
        len(session.cookies),
    )


def send(
    session: Any,
    method: str,
    url: str,
    *,
    headers: Mapping[str, str],
    body: bytes,
    deadline: Deadline,
    connect_timeout_s: float,
) -> Response:
    """Send one request through *session* and read its answer.

    Raises:
        TransportError: of the class that says what happened.
        SettingsError: gevent patched the process too late for this to work.
    """
    _refuse_late_patching(url)
    left_s = deadline.left_s() or limits.timeout_default_s
    try:
        with session.request(
            method,
            url,
            data=body or None,
            headers=dict(headers),
            timeout=(min(left_s, connect_timeout_s), left_s),
            allow_redirects=False,
            stream=True,
        ) as answer:
            found = {name.lower(): value for name, value in answer.headers.items()}
            content = _read(answer, deadline)
    except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
        if isinstance(error, requests.exceptions.RequestException):
            error.request = None  # it holds the token
        raise _translated(error, url, deadline) from error
    if "content-encoding" in found:
        for name in ("content-encoding", "content-length"):  # they describe the closed form
            found.pop(name, None)
    return Response(answer.status_code, found, content)


def _read(answer: Any, deadline: Deadline) -> bytes:
    most = limits.answer_bytes_max + limits.answer_slack_bytes
    body = bytearray()
    for part in answer.raw.stream(_READ_BYTES, decode_content=True):
        body += part
        if len(body) > most:
            raise ProtocolError(f"the server sent an answer of more than {most} bytes")
        deadline.left_s()
    return bytes(body)


def _refuse_late_patching(url: str) -> None:
    if url.startswith("https:") and sockets.is_late_patched():
        raise SettingsError(
            "gevent patched ssl after requests had been imported: TLS would recurse without end",
            hint="call gevent.monkey.patch_all() before anything imports requests or urllib3",
        )


def _translated(error: Exception, url: str, deadline: Deadline) -> TransportError:
    """Our error for one of requests', urllib3's or the system's."""
    where = url.split("/", 3)[2].rpartition("@")[2]
    chain = list(_causes(error))
    kinds = (requests.exceptions.ProxyError, requests.exceptions.InvalidProxyURL)
    if _has(chain, *kinds):
        where += " through the proxy"
    if _has(  # first: some versions call a refused connection a timeout of connecting
        chain,
        urllib3.exceptions.NewConnectionError,
        requests.exceptions.SSLError,
        requests.exceptions.ProxyError,
    ):
        return ConnectError(f"no connection to {where}: {_reason(chain)}")
    if _has(chain, requests.exceptions.Timeout, urllib3.exceptions.TimeoutError, TimeoutError):
        return DeadlineExceeded(f"no answer from {where} within {deadline.timeout_s:g} s")
    if _has(chain, http.client.BadStatusLine, http.client.LineTooLong) and not _has(
        chain, http.client.RemoteDisconnected
    ):
        return ProtocolError(f"{where} does not speak HTTP")
    if _has(chain, urllib3.exceptions.DecodeError, requests.exceptions.ContentDecodingError):
        return ProtocolError(f"{where} sent an answer that cannot be decoded")
    if _has(chain, requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema):
        return ConnectError(f"no connection to {where}: the address is not valid")
    return ConnectionLost(f"{where} ended the connection: {_reason(chain)}")


def _has(chain: list[BaseException], *kinds: type[BaseException]) -> bool:
    return any(isinstance(error, kinds) for error in chain)


def _reason(chain: list[BaseException]) -> str:
    """The innermost reason: the outer texts hold whole URLs."""
    last = chain[-1]
    return str(getattr(last, "strerror", None) or getattr(last, "reason", None) or last)


def _causes(error: BaseException) -> Any:
    """The error and what led to it; the libraries put it into ``reason``, ``args`` or ``cause``."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        inner = [getattr(current, "reason", None), *current.args, current.__cause__]
        inner.append(current.__context__)
        current = next((one for one in inner if isinstance(one, BaseException)), None)
