"""The only place that fetches from elsewhere, for tasks and scripts, and the rules of addresses.

Whoever writes a task or a script is not the operator of this server, and must not reach through it
what only the operator can: loopback, link-local and private addresses, and names of them. So a
name is looked up once, **every** address it has is checked, and the connection goes to an address
that was checked: a second look-up could give another answer. Redirects are followed by hand, each
target checked like the first. An operator allows hosts by name (``allow_hosts``).

Rules: http and https only; TLS is verified against the name; no proxy of the environment; one
deadline over everything; an answer is bounded, also unpacked. Errors never show credentials.

Source: protocol 6.4 (``Flow.Http``), 7.1, 7.2 (tasks).
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, urljoin, urlsplit

import urllib3
from urllib3.util import Timeout

from flowkit import limits
from flowkit.green import monotonic

__all__ = ["Fetched", "OutgoingError", "check_address", "fetch"]

_PORTS = {"http": 80, "https": 443}
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_SECRET_HEADERS = frozenset({"authorization", "cookie", "proxy-authorization", "x-auth-token"})
_SHARED = ipaddress.ip_network("100.64.0.0/10")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_PIECE_BYTES = 65_536

LookUp = Callable[[str, int], Iterable[str]]
"""The addresses of a name, as text."""


class OutgoingError(Exception):
    """Nothing was fetched; the text is one sentence without any secret.

    Attributes:
        timed_out: whether the time was up.
    """

    def __init__(self, sentence: str, *, timed_out: bool = False) -> None:
        super().__init__(sentence)
        self.timed_out = timed_out


@dataclass(frozen=True, slots=True)
class Fetched:
    """An answer: status, headers (names in lower case) and the body, unpacked."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def _looked_up(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def check_address(
    host: str, port: int, allow_hosts: str = "", *, look_up: LookUp = _looked_up
) -> list[str]:
    """The addresses of *host* that may be connected to.

    Args:
        host: a name or an address, as it stands in a URL.
        port: for the look-up.
        allow_hosts: names and addresses that the operator allows, separated by commas.
        look_up: gives the addresses of a name.

    Raises:
        OutgoingError: it has no address, or one that is not public.
    """
    try:
        addresses = list(look_up(host, port))
    except (OSError, UnicodeError):
        raise OutgoingError(f"the host {host[:255]} is not known") from None
    if not addresses:
        raise OutgoingError(f"the host {host[:255]} has no address")
    allowed = {each.strip().strip("[]").lower() for each in allow_hosts.split(",") if each.strip()}
    if host.strip("[]").lower() in allowed:
        return addresses
    for address in addresses:
        if address not in allowed and not is_public(address):
            raise OutgoingError(
                f"the host {host[:255]} is not on the public internet;"
                " the operator of this server can allow it (allow_hosts)"
            )
    return addresses


def is_public(text: str) -> bool:
    """Whether an address belongs to the public internet, also inside another form of address."""
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is None and address.teredo is not None:
            inner = address.teredo[1]
        if inner is not None:
            return is_public(str(inner))
    elif address in _SHARED:
        return False
    return address.is_global and not address.is_multicast and not address.is_reserved


def fetch(
    method: str,
    url: str,
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
    *,
    timeout_s: float = limits.outgoing_timeout_s,
    allow_hosts: str = "",
    bytes_max: int = limits.outgoing_bytes_max,
    look_up: LookUp = _looked_up,
) -> Fetched:
    """Ask another server.

    Args:
        method: ``GET``, ``POST`` …
        url: http or https.
        headers, body: what is sent.
        timeout_s: seconds for everything, redirects included.
        allow_hosts: as in ``check_address``.
        bytes_max: largest body of an answer, unpacked.
        look_up: gives the addresses of a name.

    Raises:
        OutgoingError: the address is refused, nobody answered in time, or the answer is too large.
    """
    until = monotonic() + timeout_s
    sent = dict(headers or {})
    for _ in range(limits.outgoing_redirects_max + 1):
        target = _target(url)
        addresses = check_address(str(target.hostname), _port(target), allow_hosts, look_up=look_up)
        fetched = _fetched(method, target, addresses, sent, body, until=until, bytes_max=bytes_max)
        onward = fetched.headers.get("location")
        if fetched.status not in _REDIRECTS or not onward:
            return fetched
        url = urljoin(url, onward)
        if fetched.status == 303 or (fetched.status in (301, 302) and method == "POST"):
            method, body = "GET", None
        if urlsplit(url)[:2] != target[:2]:
            sent = {
                name: value for name, value in sent.items() if name.lower() not in _SECRET_HEADERS
            }
    raise OutgoingError(f"more than {limits.outgoing_redirects_max} redirects")


def _target(url: str) -> SplitResult:
    try:
        target = urlsplit(url)
        port_is_good = target.port is None or target.port > 0
    except ValueError:
        raise OutgoingError("the URL cannot be read") from None
    if target.scheme not in _PORTS or not target.hostname or not port_is_good:
        raise OutgoingError("the URL must begin with http:// or https:// and name a host")
    return target


def _port(target: SplitResult) -> int:
    return target.port or _PORTS[target.scheme]


def _fetched(
    method: str,
    target: SplitResult,
    addresses: list[str],
    headers: Mapping[str, str],
    body: bytes | None,
    *,
    until: float,
    bytes_max: int,
) -> Fetched:
    """One request to the first of *addresses* that lets itself be connected to."""
    path = (target.path or "/") + (f"?{target.query}" if target.query else "")
    sent = {"Accept-Encoding": "gzip", "User-Agent": "flowkit", **headers}
    sent["Host"] = target.netloc.rpartition("@")[2]
    if target.username is not None:
        given = f"{target.username}:{target.password or ''}"
        sent |= urllib3.make_headers(basic_auth=given)
    failure: Exception | None = None
    for address in addresses:
        left_s = until - monotonic()
        if left_s <= 0:
            break
        pool = _pool(target, address, left_s)
        try:
            answer = pool.urlopen(
                method,
                path,
                body=body,
                headers=sent,
                retries=False,
                redirect=False,
                preload_content=False,
                decode_content=True,
                assert_same_host=False,
            )
            return Fetched(answer.status, _headers(answer), _body(answer, until, bytes_max))
        except (
            urllib3.exceptions.NewConnectionError,
            urllib3.exceptions.ConnectTimeoutError,
        ) as error:
            failure = error
        except urllib3.exceptions.TimeoutError:
            break
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise OutgoingError(
                f"{target.hostname} did not answer: {type(error).__name__}"
            ) from None
        finally:
            pool.close()
    if failure is None or monotonic() >= until:
        raise OutgoingError(f"{target.hostname} did not answer in time", timed_out=True)
    raise OutgoingError(f"{target.hostname} cannot be reached") from None


def _pool(target: SplitResult, address: str, left_s: float) -> Any:
    """A connection to an address that was checked; TLS is for the name."""
    timeout = Timeout(total=left_s, connect=min(left_s, limits.connect_timeout_s))
    port = _port(target)
    if target.scheme == "http":
        return urllib3.HTTPConnectionPool(address, port, timeout=timeout, maxsize=1)
    name = str(target.hostname)
    return urllib3.HTTPSConnectionPool(
        address,
        port,
        timeout=timeout,
        maxsize=1,
        server_hostname=name,
        assert_hostname=name,
        cert_reqs="CERT_REQUIRED",
    )


def _headers(answer: Any) -> dict[str, str]:
    return {name.lower(): value for name, value in answer.headers.items()}


def _body(answer: Any, until: float, bytes_max: int) -> bytes:
    """The body, piece by piece, so that neither size nor time gets out of hand."""
    parts: list[bytes] = []
    size = 0
    while part := answer.read1(_PIECE_BYTES, decode_content=True):  # what is there, at once
        parts.append(part)
        size += len(part)
        if size > bytes_max:
            raise OutgoingError(f"the answer is larger than {bytes_max} bytes")
        if monotonic() > until:
            raise OutgoingError("the answer did not come in time", timed_out=True)
    return b"".join(parts)
