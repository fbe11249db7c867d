"""The platform in the same process: an ``API`` with no socket, no port and no server to start.

It is the same application on the same store as behind ``flowkit serve``; only the way of a request
is shorter. It works from plain threads and from greenlets, patched or not: who waits for the store
lets the other greenlets of its thread run.

The owner in the process needs no token of the account: a secret that is made for this process
alone, never leaves its memory and ends with it, opens the account beside its master token. To serve
a folder that was made here, make a token with ``flowkit token rotate``.

Source: ``docs/explanation/architecture.rst`` ("App.handle is the hinge").
"""

from __future__ import annotations

import atexit
import logging
import os
import shutil
import tempfile
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from flowkit.client.credentials import Token
from flowkit.errors import DeadlineExceeded, PlatformError, ServerError, UsageError
from flowkit.protocol.envelope import Request, Response
from flowkit.server.answers import refusal
from flowkit.server.app import App
from flowkit.server.auth import ensure_account, hash_secret, mint_secret
from flowkit.server.exchange import Application
from flowkit.server.serve import open_data
from flowkit.server.settings import Settings
from flowkit.server.store.base import Account, Commit, Reader, Secret, Store, Writer
from flowkit.server.store.sqlite import clock_ms
from flowkit.server.websocket import serve_pair

if TYPE_CHECKING:
    from flowkit.client.api import API

__all__ = ["AppTransport", "EmbeddedPlatform", "embedded"]

T = TypeVar("T")

_log = logging.getLogger(__name__)


def embedded(path: str | PathLike[str] | None = None, *, account: str = "flowkit") -> API:
    """An ``API`` on a platform in this process.

    Closing the API (``with embedded() as api``) closes the platform.

    Args:
        path: the data folder, made if it is not there; it keeps its data, and a second process that
            wants it is refused. Without one a private temporary folder is used: not synced to the
            disk, and removed on close or when the interpreter ends.
        account: the name of the account.

    Raises:
        SettingsError: the folder is in use or cannot be used; the account cannot have that name.
    """
    from flowkit.client.api import API

    platform = EmbeddedPlatform(path, account=account)
    return API(platform.token, transport=AppTransport(platform.app, on_close=platform.close))


class AppTransport:
    """A ``Transport`` (``flowkit.client.transport``) that calls an application directly.

    Args:
        app: the application.
        on_close: called by the first ``close()``.
    """

    def __init__(self, app: Application, *, on_close: Callable[[], object] | None = None) -> None:
        self._app: Application | None = app
        self._on_close = on_close
        self._process = os.getpid()

    def send(self, request: Request, *, timeout_s: float) -> Response:
        """The application's answer, whatever its status.

        *timeout_s* is not enforced while the application works, which has bounds of its own (a
        query may run ``limits.query_timeout_s``): there is no network that could be slow.

        Raises:
            UsageError: the transport is closed, or a forked process uses it.
            DeadlineExceeded: *timeout_s* is up before anything was done.
        """
        app = self._app
        if app is None:
            raise UsageError("this API is closed", hint="make a new one with embedded()")
        if os.getpid() != self._process:
            raise UsageError(
                "a platform in process stays with the process that opened it, and this is its fork",
                hint="open one with a folder of its own here, or reach one server from both",
            )
        if timeout_s <= 0:
            raise DeadlineExceeded("the time was up before the request was made")
        try:
            return app.handle(request)
        except PlatformError as error:
            return refusal(error)
        except Exception:  # noqa: BLE001 - a fault of the platform is an answer, as over HTTP
            _log.exception("a request failed")
            return refusal(ServerError("the platform failed at this request; the log says why"))

    def open_socket(self, _deadline: object = None) -> Any:
        """A connected socket whose other end the application serves, for a WebSocket.

        Raises:
            UsageError: the transport is closed, or its application has no sessions.
        """
        live = getattr(self._app, "live", None)
        if live is None:
            raise UsageError("this API is closed, or what it calls has no sessions")
        return serve_pair(live)

    def close(self) -> None:
        """Let go of the application; further requests are refused. May be called twice."""
        self._app = None
        on_close, self._on_close = self._on_close, None
        if on_close is not None:
            on_close()


class EmbeddedPlatform:
    """A store and an application in this process, and a secret for its owner.

    Args:
        path: the data folder, None for a temporary one.
        account: the name of the account.
        clock: now, in milliseconds since 1970-01-01 UTC.

    Attributes:
        app: the application.
        store: its store.
        token: account and secret; the secret opens this platform in this process only.
        folder: the data folder.
        is_closed: whether ``close`` has run.

    Raises:
        SettingsError: as ``embedded``.
    """

    def __init__(
        self,
        path: str | PathLike[str] | None = None,
        *,
        account: str = "flowkit",
        clock: Callable[[], int] = clock_ms,
    ) -> None:
        temporary = path is None
        self.folder = Path(tempfile.mkdtemp(prefix="flowkit-") if path is None else path)
        try:
            self.settings = Settings(
                data=self.folder, account=account, synchronous="OFF" if temporary else "FULL"
            )
            opened = open_data(self.settings, clock)
            try:
                owner, _ = ensure_account(opened, account)
            except BaseException:
                opened.close()
                raise
        except BaseException:
            if temporary:
                _remove(self.folder)
            raise
        secret = mint_secret()
        self.store: Store = _OwnedStore(opened, owner, hash_secret(secret))
        self.app = App(self.store, self.settings, clock_ms=clock)
        self.token = Token(account, secret)
        self._temporary = temporary
        self._process = os.getpid()
        self.is_closed = False
        # Not on garbage collection, which may run in the store's own threads: they would wait for
        # themselves.
        atexit.register(self.close)

    def close(self) -> None:
        """Close the store; a temporary folder is removed. May be called twice.

        The interpreter's end closes it, too, if nobody has. In a forked process nothing is closed:
        folder and threads are those of its parent.
        """
        if self.is_closed:
            return
        self.is_closed = True
        atexit.unregister(self.close)
        if os.getpid() != self._process:
            return
        self.app.close()
        if self._temporary:
            _remove(self.folder)


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


class _OwnedStore:
    """A store in which one more secret, kept in memory, opens one account."""

    def __init__(self, store: Store, owner: Account, secret_hash: bytes) -> None:
        self._store = store
        self.owner = owner
        self.secret_hash = secret_hash

    def read(
        self, job: Callable[[Reader], T], *, timeout_s: float | None = None, quick: bool = False
    ) -> T:
        """As the store's."""
        return self._store.read(
            lambda reader: job(_Owned(reader, self)), timeout_s=timeout_s, quick=quick
        )

    def write(self, job: Callable[[Writer], T], *, large: bool = False) -> T:
        """As the store's."""
        return self._store.write(lambda writer: job(_Owned(writer, self)), large=large)

    def count_later(self, kind: str, object_id: str) -> None:
        """As the store's."""
        self._store.count_later(kind, object_id)

    def watch(self, flow_ids: frozenset[str]) -> None:
        """As the store's."""
        self._store.watch(flow_ids)

    def on_commit(self, told: Callable[[Commit], None]) -> None:
        """As the store's."""
        self._store.on_commit(told)

    def on_batch(self, told: Callable[[int, float], object]) -> None:
        """As the store's."""
        self._store.on_batch(told)

    def waiting(self) -> dict[str, int]:
        """As the store's."""
        return self._store.waiting()

    def close(self) -> None:
        """As the store's."""
        self._store.close()


class _Owned:
    """A transaction that knows the owner's secret; everything else is the transaction's own."""

    __slots__ = ("_store", "_transaction")

    def __init__(self, transaction: Any, store: _OwnedStore) -> None:
        self._transaction = transaction
        self._store = store

    def credential(self, secret_hash: bytes) -> Secret | None:
        """The owner for the owner's secret, else what the store says."""
        if secret_hash == self._store.secret_hash:
            return Secret(self._store.owner)
        found: Secret | None = self._transaction.credential(secret_hash)
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transaction, name)
