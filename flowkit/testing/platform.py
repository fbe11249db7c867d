"""A platform for a test, in process and over HTTP at once.

The HTTP server runs in the test's own process, on a native thread with a loop of its own, over the
same application: what is written through one door is seen through the other at once, a
``FakeClock`` moves both, and the caller may be a thread or a greenlet.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from os import PathLike
from typing import Any, Self

from flowkit.client.api import API
from flowkit.embedded import AppTransport, EmbeddedPlatform
from flowkit.errors import UsageError
from flowkit.server import websocket
from flowkit.server.exchange import Bounds
from flowkit.server.http import HttpServer
from flowkit.server.serve import bounds_of
from flowkit.server.store.sqlite import clock_ms

__all__ = ["Platform"]


class Platform:
    """A platform with one account; everything is gone when it is closed.

    Args:
        path: a data folder to keep; None for a temporary one that is removed.
        account: the name of the account.
        clock: the server's clock, for example a ``FakeClock``.

    Attributes:
        api: an ``API`` on it, in process.
        app: the application (``App.handle``).
        store: its store.
        token: account and secret, for further APIs; the secret opens this platform only.
    """

    def __init__(
        self,
        path: str | PathLike[str] | None = None,
        *,
        account: str = "test",
        clock: Callable[[], int] = clock_ms,
    ) -> None:
        self._platform = EmbeddedPlatform(path, account=account, clock=clock)
        self.app = self._platform.app
        self.store = self._platform.store
        self.token = self._platform.token
        self.api = API(self.token, transport=AppTransport(self.app))
        self._http: HttpServer | None = None

    @property
    def account(self) -> str:
        """The name of the account."""
        return self.token.account

    @property
    def url(self) -> str:
        """Where it answers over HTTP; the first use starts the server on a free port."""
        return self.serve()

    def serve(self, *, host: str = "127.0.0.1", port: int = 0, bounds: Bounds | None = None) -> str:
        """Start the HTTP server unless it runs; its URL.

        Args:
            host, port: where to listen; port 0 takes a free one.
            bounds: time-outs and sizes other than the usual ones.

        Raises:
            UsageError: the platform is closed.
            OSError: the address cannot be had.
        """
        if self._platform.is_closed:
            raise UsageError("this platform is closed", hint="make a new one with Platform()")
        if self._http is None:
            settings = self._platform.settings
            self._http = HttpServer(
                self.app,
                host,
                port,
                bounds=bounds or bounds_of(settings),
                watch=self.app.watch,
                take_over=partial(websocket.take_over, self.app.live),
            )
            self._http.start()
        return self._http.url

    def connect(self, **options: Any) -> API:
        """An ``API`` on it over HTTP; *options* are those of ``API``. The caller closes it."""
        return API(self.token, host=self.url, **options)

    def stop_serving(self, grace_s: float | None = None) -> None:
        """Stop the HTTP server, if it runs; the platform in process goes on."""
        server, self._http = self._http, None
        if server is not None:
            server.stop(grace_s)

    def close(self) -> None:
        """Stop the server, close the store, remove the temporary folder. May be called twice."""
        self.stop_serving(0)
        self.api.close()
        self._platform.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
