"""Connected sockets, over TCP and TLS, of the kind that suits the caller.

In a thread with a hub, and everywhere in a process whose sockets gevent has patched, they are
gevent's: waiting on one lets other greenlets run. In any other thread they are the system's own.

TLS goes through contexts made here. ``ssl.create_default_context`` (gevent's too) returns the
blocking kind in an unpatched process, which makes all greenlets of a hub take turns.
"""

from __future__ import annotations

import _socket
import os
import socket as plain_socket
import ssl as plain_ssl
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import gevent
import gevent.socket
import gevent.ssl
from gevent import monkey

from flowkit.errors import ConnectError, DeadlineExceeded, SettingsError
from flowkit.green.native import eventlet_patched, gevent_sockets, monotonic, patched
from flowkit.green.slots import Deadline
from flowkit.green.tasks import in_thread

__all__ = [
    "adopt",
    "connect",
    "is_late_patched",
    "is_quiet",
    "let_go",
    "native",
    "owner",
    "pair",
    "receive",
    "run_in",
    "secure",
    "send_now",
    "shut",
    "taken",
    "tls_context",
    "wait_writable",
]

Verify = bool | str | plain_ssl.SSLContext

_SHORTEST_S = 0.001

_CONTEXTS = (plain_ssl.SSLContext, gevent.ssl.SSLContext, monkey.get_original("ssl", "SSLContext"))


def tls_context(verify: Verify) -> Any:
    """The TLS settings for *verify*: a context for ``connect`` that suits both kinds of socket.

    Args:
        verify: True for the certificates of the package ``certifi``; the path of a file or folder
            of certificates; an ``ssl.SSLContext``, taken as it is; False to check nothing.

    Raises:
        SettingsError: no certificates can be read from that path.
    """
    if isinstance(verify, _CONTEXTS):
        return verify
    context = gevent.ssl.SSLContext(plain_ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols(["http/1.1"])
    if verify is False:
        context.check_hostname = False
        context.verify_mode = plain_ssl.CERT_NONE
        return context
    path = verify if isinstance(verify, str) else _certifi()
    try:
        if os.path.isdir(path):
            context.load_verify_locations(capath=path)
        else:
            context.load_verify_locations(cafile=path)
    except OSError as error:  # ssl.SSLError is one
        raise SettingsError(
            f"no certificates can be read from {path!r}: {error}",
            hint="verify= takes True, False, a path of PEM certificates or an SSLContext",
        ) from error
    return context


def _certifi() -> str:
    import certifi

    return str(certifi.where())


def connect(host: str, port: int, deadline: Deadline, tls: Any = None) -> Any:
    """A connected socket with Nagle's delay off, and with TLS if *tls* is a context.

    Each address of *host* is tried in turn.

    Raises:
        ConnectError: the name is unknown, nobody answers, or TLS refuses the certificate.
        DeadlineExceeded: not in time.
    """
    cooperative = gevent_sockets()
    limit = gevent.Timeout.start_new(deadline.left_s()) if cooperative else None
    try:
        return _connect(host, port, deadline, tls, cooperative)
    except gevent.Timeout as expired:
        if expired is not limit:
            raise
        raise _late(host, port, deadline) from None
    except TimeoutError as error:
        raise _late(host, port, deadline) from error
    except plain_ssl.SSLError as error:
        plain = error.reason == "WRONG_VERSION_NUMBER"
        hint = " (for a server without TLS say http://)" if plain else ""
        raise ConnectError(f"TLS with {host}:{port} failed: {error}{hint}") from error
    except OSError as error:
        reason = error.strerror or str(error) or type(error).__name__
        raise ConnectError(f"no connection to {host}:{port}: {reason}") from error
    finally:
        if limit is not None:
            limit.close()


def _late(host: str, port: int, deadline: Deadline) -> DeadlineExceeded:
    return DeadlineExceeded(f"no connection to {host}:{port} within {deadline.timeout_s:g} s")


def _connect(host: str, port: int, deadline: Deadline, tls: Any, cooperative: bool) -> Any:
    connected = _connect_tcp(host, port, deadline, cooperative)
    if tls is None:
        return connected
    try:
        connected.settimeout(deadline.left_s())
        return _wrap(connected, host, tls, cooperative)
    except BaseException:
        connected.close()
        raise


def _wrap(connected: Any, host: str, tls: Any, cooperative: bool) -> Any:
    if not cooperative:
        return plain_ssl.SSLSocket._create(  # type: ignore[attr-defined]  # not in typeshed
            sock=connected, server_hostname=host, context=tls
        )
    # Neither is tls.wrap_socket: a context would make its own kind of socket, not the caller's.
    return gevent.ssl.SSLSocket(sock=connected, server_hostname=host, _context=tls)


def secure(connected: Any, host: str, tls: Any, deadline: Deadline) -> Any:
    """A gevent socket of the calling loop with TLS over *connected*, which is one without.

    Raises:
        ConnectError: TLS refuses the certificate, or the connection ends; *connected* is closed.
        DeadlineExceeded: not in time.
    """
    try:
        connected.settimeout(deadline.left_s())
        return _wrap(connected, host, tls, cooperative=True)
    except BaseException as error:
        connected.close()
        if not isinstance(error, OSError):
            raise
        deadline.left_s()  # a timeout comes as several kinds of OSError
        raise ConnectError(f"TLS with {host} failed: {error}") from error


def receive(connected: Any, bytes_max: int, timeout_s: float | None) -> bytes | None:
    """What has come over a gevent socket, as soon as there is any; b"" at its end.

    Returns:
        None if nothing came within *timeout_s* seconds (None: however long it takes).

    Raises:
        OSError: the connection has broken.
    """
    until = None if timeout_s is None else monotonic() + timeout_s
    # 0 would mean not to wait at all.
    connected.settimeout(None if timeout_s is None else max(timeout_s, _SHORTEST_S))
    try:
        came: bytes = connected.recv(bytes_max)
    except OSError:
        if (
            until is not None and monotonic() >= until
        ):  # a timeout comes as several kinds of OSError
            return None
        raise
    return came


def _connect_tcp(host: str, port: int, deadline: Deadline, cooperative: bool) -> Any:
    module = gevent.socket if cooperative else plain_socket
    failure: OSError | None = None
    addresses = _addresses(host, port, module)
    for count, (family, address) in enumerate(addresses):
        left_s = deadline.left_s()
        made = module.socket(family, plain_socket.SOCK_STREAM)
        try:  # an address that is silent leaves time for those after it
            made.settimeout(None if left_s is None else left_s / (len(addresses) - count))
            made.connect(address)
            made.setsockopt(plain_socket.IPPROTO_TCP, plain_socket.TCP_NODELAY, 1)
        except BaseException as error:
            made.close()
            if not isinstance(error, OSError):
                raise
            failure = error
        else:
            return made
    raise failure or OSError("the name has no address")


def _addresses(host: str, port: int, module: Any) -> list[tuple[int, Any]]:
    """Family and address pairs; a literal address needs no resolver and no thread."""
    for family in (plain_socket.AF_INET, plain_socket.AF_INET6):
        try:
            plain_socket.inet_pton(family, host)
        except OSError:
            continue
        return [(family, (host, port))]
    found = _resolver(module)(host, port, 0, plain_socket.SOCK_STREAM)
    return [(family, address) for family, _, _, _, address in found]


def _resolver(module: Any) -> Any:
    """What asks for a name; gevent's own threads are not to be had where eventlet has patched."""
    if module is gevent.socket and eventlet_patched():
        from flowkit.green.under_eventlet import original

        return lambda *asked: in_thread(original("socket", "getaddrinfo"), *asked).get()
    return module.getaddrinfo


def owner() -> object:
    """Who may use a socket that ``connect`` makes now: this thread's hub, or None for all."""
    if gevent_sockets():
        return gevent.get_hub()
    return None


def native(connected: Any) -> Any:
    """The operating system's socket below *connected*: to be touched from any thread."""
    return getattr(connected, "_sock", connected)


def shut(connected: Any) -> None:
    """End the traffic of *connected* from any thread: whoever waits on it reads the end.

    It stays open: its own thread closes it.
    """
    with suppress(OSError, TypeError):  # it was not connected any more
        _socket.socket.shutdown(native(connected), plain_socket.SHUT_RDWR)


def is_quiet(connected: Any) -> bool:
    """Whether an idle connection is open and silent, as one must be that is to carry a request."""
    below = native(connected)
    try:
        _socket.socket.settimeout(below, 0)  # with any other, recv would wait for a byte first
        _socket.socket.recv(below, 1, plain_socket.MSG_PEEK | plain_socket.MSG_DONTWAIT)
    except (BlockingIOError, InterruptedError):
        return True
    except (OSError, TypeError):
        return False
    return False


def is_late_patched() -> bool:
    """Whether gevent patched ``ssl`` after urllib3 had taken its classes.

    Python's ``SSLContext`` then calls itself without end as soon as urllib3 sets one up.
    """
    taken = getattr(sys.modules.get("urllib3.util.ssl_"), "SSLContext", None)
    return taken is not None and "ssl" in patched() and taken is not plain_ssl.SSLContext


def let_go(connected: Any) -> None:
    """Close this process's handle of a socket that another process goes on using."""
    with suppress(OSError, TypeError):  # it is closed, which is what was wanted
        _socket.socket.close(native(connected))


def run_in(hub: Any, function: Callable[..., object], *args: object) -> None:
    """Run a function that does not wait in *hub*, soon; from any thread. A dead hub ignores it."""
    with suppress(AttributeError, ValueError):  # the loop is destroyed, and what it held with it
        hub.loop.run_callback_threadsafe(function, *args)


def pair() -> tuple[Any, Any]:
    """Two connected sockets of this process, each to be given to ``adopt`` of some loop."""
    return _socket.socketpair()


def taken(connected: Any) -> Any:
    """The connection of *connected*, out of its loop: to be given to ``adopt`` of another one.

    *connected* is closed without a word to the other side.
    """
    return _socket.socket(fileno=connected.detach())


def adopt(connected: Any) -> Any:
    """A gevent socket of the calling loop with the connection of *connected*, which it takes over.

    *connected* is closed without a word to the other side.
    """
    return gevent.socket.socket(fileno=connected.detach())


def send_now(connected: Any, data: bytes | memoryview) -> int:
    """Hand the kernel as much of *data* as it takes at once; never waits.

    Returns:
        how many bytes it took, 0 for none at the moment.

    Raises:
        OSError: the connection has ended.
    """
    try:
        sent: int = connected._sock.send(data, plain_socket.MSG_DONTWAIT)
    except BlockingIOError:
        return 0
    return sent


def wait_writable(connected: Any, timeout_s: float) -> bool:
    """Wait until the kernel takes something for *connected*; False if it does not within the time.

    Raises:
        OSError: the connection has ended.
    """
    try:
        gevent.socket.wait_write(connected.fileno(), timeout=timeout_s, timeout_exc=TimeoutError())
    except TimeoutError:
        return False
    return True
