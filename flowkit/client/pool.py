"""Idle connections to one server, and the way a request gets one.

Each event loop has connections of its own (a gevent socket is bound to its loop); plain threads
share theirs, for a system socket may be used by one thread after another. A pool dies with the
thread whose loop it serves, and its sockets with it.

A forked child starts with none: two processes that write to one TLS connection ruin it for both.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable

from flowkit import limits
from flowkit.client.wire import Stale, Wire
from flowkit.errors import ConnectionLost, UsageError
from flowkit.green import Deadline, NativeLocal, NativeLock, sockets
from flowkit.protocol.envelope import Response

__all__ = ["Pools"]

SAFE_METHODS = frozenset({"GET", "MGET", "HEAD", "OPTIONS"})
"""Methods that change nothing, so that sending them twice does no harm (protocol 3.2)."""


class _Pool:
    """The connections of one event loop, or (owner None) of all plain threads."""

    def __init__(self, owner: object) -> None:
        self.owner = owner
        self.idle: list[Wire] = []
        self.busy: set[Wire] = set()
        self.lock = NativeLock()

    def take(self, must_look: bool) -> Wire | None:
        """The connection used last, if one is fit for use; the unfit ones are closed."""
        while True:
            with self.lock:
                if not self.idle:
                    return None
                wire = self.idle.pop()
                self.busy.add(wire)
            if wire.is_usable(must_look):
                return wire
            self.drop(wire)

    def keep(self, wire: Wire) -> None:
        """Put it back for the next request; the one that has been idle longest may go for it."""
        old: list[Wire] = []
        with self.lock:
            self.busy.discard(wire)
            self.idle.append(wire)
            is_full = len(self.idle) > limits.connections_idle_max
            if is_full or self.idle[0].is_old(wire.idle_since):
                old.append(self.idle.pop(0))
        for one in old:
            one.close()

    def drop(self, wire: Wire) -> None:
        with self.lock:
            self.busy.discard(wire)
        wire.close()

    def all(self) -> list[Wire]:
        with self.lock:
            return [*self.idle, *self.busy]


class Pools:
    """All connections of one client.

    Args:
        connect: makes a connection within a deadline.
    """

    def __init__(self, connect: Callable[[Deadline], Wire]) -> None:
        self._connect = connect
        self.closed = False
        self._begin()

    def _begin(self) -> None:
        self._here = NativeLocal()
        self._threads = _Pool(None)
        self._pools: weakref.WeakSet[_Pool] = weakref.WeakSet([self._threads])
        self._lock = NativeLock()

    def _pool(self) -> _Pool:
        owner = sockets.owner()
        if owner is None:
            return self._threads
        pool: _Pool | None = getattr(self._here, "pool", None)
        if pool is None or pool.owner is not owner:
            pool = self._here.pool = _Pool(owner)
            with self._lock:
                self._pools.add(pool)
        return pool

    def exchange(self, message: bytes, method: str, is_safe: bool, deadline: Deadline) -> Response:
        """Send *message* on an idle or a new connection and read the answer.

        If the server had ended an idle connection, the request goes out once more on a new one,
        but only if it is safe to repeat or no byte of it had been sent.
        """
        pool = self._pool()
        wire = pool.take(must_look=not is_safe)
        if wire is not None:
            try:
                return self._on(pool, wire, message, method, deadline)
            except Stale as stale:
                if stale.sent and not is_safe:
                    raise ConnectionLost(
                        f"{wire.where} ended the connection without an answer"
                    ) from stale
        wire = self._connect(deadline)
        with pool.lock:
            pool.busy.add(wire)
        return self._on(pool, wire, message, method, deadline)

    def _on(
        self, pool: _Pool, wire: Wire, message: bytes, method: str, deadline: Deadline
    ) -> Response:
        try:
            self._refuse_if_closed()
            response = wire.exchange(message, method, deadline)
        except (ConnectionLost, Stale) as error:
            pool.drop(wire)
            if self.closed:  # by us, not by the server
                raise ConnectionLost(
                    f"the connection to {wire.where} was closed under way by this program itself"
                ) from error
            raise
        except BaseException:
            pool.drop(wire)
            raise
        if wire.reusable and not self.closed:
            pool.keep(wire)
        else:
            pool.drop(wire)
        return response

    def _refuse_if_closed(self) -> None:
        if self.closed:
            raise UsageError("this transport is closed", hint="make a new API")

    def close(self) -> None:
        """Close every connection; requests under way end with an error. May be called twice."""
        self.closed = True
        here = sockets.owner()
        with self._lock:
            pools = list(self._pools)
        for pool in pools:
            for wire in pool.all():
                wire.abort()
            if pool.owner is None or pool.owner is here:
                self._close_idle(pool)
            else:
                sockets.run_in(pool.owner, self._close_idle, pool)

    def drop_idle(self) -> None:
        """Close the idle connections of the caller's event loop, or of all plain threads."""
        self._close_idle(self._pool())

    def _close_idle(self, pool: _Pool) -> None:
        with pool.lock:
            idle, pool.idle = pool.idle, []
        for wire in idle:
            wire.close()

    def count(self) -> int:
        """Connections that are open now, idle or busy."""
        with self._lock:
            pools = list(self._pools)
        return sum(len(pool.all()) for pool in pools)

    def forget(self) -> None:
        """In a forked child: let go of the parent's connections without a word to the server."""
        pools = list(self._pools)
        self._begin()
        for pool in pools:
            for wire in [*pool.idle, *pool.busy]:
                sockets.let_go(wire.socket)
