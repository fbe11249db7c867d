"""A server as one thing that starts and stops: data folder, account, application, socket.

``Server`` is for programs, ``serve`` for the command line: it prints what a user needs and waits
for a signal. The server runs on threads of its own, so the main thread only sleeps until one comes.

A stop is clean: no new connections, requests under way get 10 seconds, then the store
is closed. A second signal does not wait for them; a third one kills.

Source: ``docs/howto/run_a_server.rst``.
"""

from __future__ import annotations

import contextlib
import gc
import ipaddress
import os
import resource
import signal
import socket
from collections.abc import Callable
from functools import partial
from typing import Any, Self

from flowkit import limits
from flowkit._version import __version__
from flowkit.errors import SettingsError
from flowkit.server import logs, streaming, websocket
from flowkit.server.app import App
from flowkit.server.auth import check_account_name, ensure_account
from flowkit.server.exchange import Bounds
from flowkit.server.http import HttpServer
from flowkit.server.message import Head
from flowkit.server.settings import Settings
from flowkit.server.store.base import Store
from flowkit.server.store.sqlite import clock_ms, open_store

__all__ = ["Server", "bounds_of", "open_data", "serve"]

Say = Callable[[str], object]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def open_data(settings: Settings, clock: Callable[[], int] = clock_ms) -> Store:
    """The store in the data folder, which is made if it is not there.

    Raises:
        SettingsError: the folder cannot be used, or another process uses it.
    """
    try:
        return open_store(
            settings.data,
            synchronous=settings.synchronous,
            clock_ms=clock,
            query_timeout_s=settings.query_timeout_s,
            answer_bytes_max=settings.answer_bytes_max,
        )
    except OSError as error:
        reason = "it is not a folder" if isinstance(error, FileExistsError) else error.strerror
        raise SettingsError(
            f"the data folder {settings.data} cannot be used: {reason or error}",
            hint="name another one with --data",
        ) from error


def bounds_of(settings: Settings) -> Bounds:
    """The bounds that the settings ask for."""
    return Bounds(
        body_bytes_max=settings.body_bytes_max,
        body_array_bytes_max=settings.body_array_bytes_max,
    )


class Server:
    """A platform behind HTTP.

    Opening takes the data folder and the port, and makes the account at the first start; requests
    are answered between ``start()`` and ``stop()``. As a context it starts and stops by itself.

    Args:
        settings: where the data is, where to listen, whose account.
        bounds: time-outs and sizes other than the usual ones.

    Attributes:
        url: where it answers.
        account: the name of the account.
        first_token: the master token if this is the account's first start, else None: only a hash
            of it is kept.

    Raises:
        SettingsError: the data folder or the address cannot be had; the message says why.
    """

    def __init__(self, settings: Settings, *, bounds: Bounds | None = None) -> None:
        check_account_name(settings.account)
        self.settings = settings
        self.store = open_data(settings)
        self.app = App(self.store, settings, clock_ms=clock_ms)
        with contextlib.ExitStack() as undone:
            undone.callback(self.app.close)
            # The port first: a token that is made and then never shown would be lost.
            self._http = _listening(self.app, settings, bounds or bounds_of(settings))
            undone.callback(self._http.stop)
            account, self.first_token = ensure_account(self.store, settings.account)
            undone.pop_all()
        self._closed = False
        self.account = account.name
        self.url = self._http.url

    def start(self) -> None:
        """Begin to answer; returns at once."""
        self._http.start()

    def stop(self, grace_s: float | None = None) -> None:
        """Stop and close everything; a second call does nothing.

        Requests under way get *grace_s* seconds to end (default 10).
        """
        if not self._closed:
            self._begin_stop(grace_s)
            self._close()

    def run(self, ready: Callable[[], object] = bool) -> None:
        """Answer until SIGINT or SIGTERM, then stop. For the main thread only.

        *ready* is called once signals are heeded and requests answered; an error of it ends the
        run at once.
        """
        # A handler runs once the main thread is awake, and a signal just before it falls asleep
        # does not wake it. The byte that Python writes at each signal cannot be missed.
        told, tell = socket.socketpair()
        tell.setblocking(False)
        before = {number: signal.signal(number, _heed) for number in _SIGNALS}
        woken = signal.set_wakeup_fd(tell.fileno(), warn_on_full_buffer=False)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)  # whoever started it may hold them
        try:
            self._http.on_stopped(lambda: _wake(tell))
            self.start()
            ready()
            while (number := told.recv(1)[0]) != 0:
                if number in _SIGNALS:
                    self._begin_stop()  # asked for a second time, it waits for nothing
                if self._http.is_stopping_at_once:
                    _restore(before)
        except BaseException:
            self._begin_stop(0)
            raise
        finally:
            self._close()
            signal.set_wakeup_fd(woken)
            _restore(before)
            tell.close()
            told.close()

    def _begin_stop(self, grace_s: float | None = None) -> None:
        self._http.begin_stop(grace_s)
        self.app.live.begin_stop()  # a poll that waits would hold up the stop

    def _close(self) -> None:
        self._closed = True
        self._http.wait_stopped()
        self.app.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def serve(
    settings: Settings, *, say: Say = print, on_open: Callable[[Server], list[str]] | None = None
) -> None:
    """Run a server until a signal ends it, and say what its user needs to know.

    Args:
        settings: as for ``Server``.
        say: gets each line.
        on_open: called with the server before it answers; returns further lines to say. What it
            raises ends the start.

    Raises:
        SettingsError: as ``Server``.
    """
    logs.configure(settings.log_format, access_log=settings.access_log)
    _open_more_files()
    # A large answer is many small objects and no cycles. By default each 700 new ones call the
    # collector, which holds up every request; this process is ours, so it may come less often.
    gc.set_threshold(50_000, 20, 20)
    server = Server(settings)
    try:
        more = on_open(server) if on_open is not None else []
    except BaseException:
        server.stop(0)
        for line in _token_lines(server):  # it was made and is never shown again
            say(line)
        raise

    def greet() -> None:
        for line in [*banner(server), *more, "  stop     Ctrl-C"]:
            say(line)

    server.run(greet)
    say("flowkit has stopped.")


def _open_more_files() -> None:
    """Let this process open as many files as it may: each connection takes one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = limits.connections_max * 2
    if soft != resource.RLIM_INFINITY and soft < wanted:
        allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))


def _token_lines(server: Server) -> list[str]:
    if server.first_token is None:
        return []
    return [
        f"  token    {server.first_token}",
        "           the master token, shown this once: only a hash of it is kept",
    ]


def banner(server: Server) -> list[str]:
    """What is said at the start, line by line."""
    lines = [
        f"flowkit {__version__} answers at {server.url}",
        f"  account  {server.account}",
        f"  data     {os.path.abspath(server.settings.data)}",
    ]
    lines += _token_lines(server)
    if not _is_loopback(server.settings.host):
        lines.append(
            f"  warning  {server.settings.host} can be reached from other machines and there is no "
            "TLS here: tokens travel in the clear unless a TLS proxy stands in front"
        )
    return lines


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _listening(app: App, settings: Settings, bounds: Bounds) -> HttpServer:
    try:
        return HttpServer(
            app,
            settings.host,
            settings.port,
            bounds=bounds,
            watch=app.watch,
            take_over=partial(_take_over, app),
        )
    except OSError as error:
        reason = str(error.strerror or error).partition(" (")[0]  # Python appends the address
        raise SettingsError(
            f"cannot listen on {settings.host} port {settings.port}: {reason}",
            hint="name another one with --host or --port; --port 0 takes a free one",
        ) from error


def _take_over(app: App, connected: Any, head: Head, rest: bytes) -> bool:
    """Give a connection to the sessions, if it wants to carry one."""
    return websocket.take_over(app.live, connected, head, rest) or streaming.take_over(
        app.live, connected, head, rest
    )


def _heed(_number: int, _frame: object) -> None:
    """The handler of a signal that is only waited for."""


def _wake(tell: socket.socket) -> None:
    with contextlib.suppress(OSError):  # nobody waits any more
        tell.send(b"\0")


def _restore(handlers: dict[signal.Signals, Any]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)
