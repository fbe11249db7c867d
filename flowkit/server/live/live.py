"""All sessions of a server, their loop, and what is looked after from time to time.

``Live`` is what the application and the shells know of this package: sessions are made here, shells
bring connections to them, and the store tells it of commits. The loop begins with the first
session.

Source: protocol 9.1 (session), 9.6 (closing), ``positions`` 4.6 (rights).
"""

from __future__ import annotations

import logging
import resource
import secrets
from collections.abc import Callable
from typing import Any, TypeVar

from flowkit import limits
from flowkit.errors import Forbidden, NotFound, ServerError
from flowkit.green import Loop, NativeLock, Slots, monotonic, sleep
from flowkit.protocol.envelope import NOT_LOCATED, Request, Response
from flowkit.protocol.session import FAULT, GOING_AWAY
from flowkit.query.places import Places
from flowkit.server.auth import Credential
from flowkit.server.live.hub import Hub
from flowkit.server.live.sessions import Line, LiveSession
from flowkit.server.metrics import Metrics
from flowkit.server.store.base import Reader as Snapshot
from flowkit.server.store.base import Store

__all__ = ["Live"]

T = TypeVar("T")

_log = logging.getLogger(__name__)


class Live:
    """The subscriptions of a server.

    Args:
        store: what is subscribed to.
        handle: answers the commands of clients (``App.handle``).
        clock_ms: now, in milliseconds since 1970 UTC.
        places: the table of postal codes.
        metrics: where readers and sessions are counted.
        queue_messages_max, queue_bytes_max: what may wait for one connection.

    Attributes:
        too_slow: sessions that were ended because their reader was too slow.
        lines: the connections that there are, each for as long as its socket is open.
        pages: how many pages are read and worked off at once, by all readers that are behind.
    """

    def __init__(
        self,
        store: Store,
        handle: Callable[[Request], Response],
        *,
        clock_ms: Callable[[], int],
        places: Places | None = None,
        metrics: Metrics | None = None,
        queue_messages_max: int = limits.push_queue_messages_max,
        queue_bytes_max: int = limits.push_queue_bytes_max,
    ) -> None:
        self.handle = handle
        self.clock_ms = clock_ms
        self.places = places
        self.queue_messages_max = queue_messages_max
        self.queue_bytes_max = queue_bytes_max
        self.too_slow = 0
        self.lines: set[Line] = set()
        self.pages = Slots(limits.replay_pages_at_once_max)
        self._store = store
        self._sessions: dict[str, LiveSession] = {}
        self._lock = NativeLock()
        self._loop: Loop | None = None
        self._is_stopping = False
        self._rights_are_due = False
        self.hub = Hub(store, self._post, on_rights=self._rights_changed, places=places)
        store.on_commit(self.hub.told)
        if metrics is not None:
            metrics.watch("flowkit_sessions", lambda: len(self._sessions))
            metrics.watch("flowkit_subscriptions", lambda: self.hub.count)
            metrics.watch("flowkit_changes_offered_total", lambda: self.hub.offered)
            metrics.watch("flowkit_too_slow_total", lambda: self.too_slow)

    @property
    def loop(self) -> Loop:
        """The loop of all sessions, begun at its first use.

        Raises:
            ServerError: the server is stopping.
        """
        if self._loop is None:
            with self._lock:
                if self._is_stopping:
                    raise _stopping()
                if self._loop is None:
                    self._loop = Loop("flowkit-live")
                    self._loop.spawn(self._look_after)
        return self._loop

    def _post(self, function: Callable[[], object]) -> bool:
        loop = self._loop
        return loop is not None and loop.post(function)

    # Sessions

    def open_session(self, account: str, token: str, *, typed: bool = False, peer: str = "") -> str:
        """A new session for a credential that was found good; its id. From any thread.

        Raises:
            ServerError: there are too many, or the server is stopping.
        """
        if self._is_stopping:
            raise _stopping()
        most = _sessions_max()
        if len(self._sessions) >= most:
            raise ServerError(f"There are {most} sessions already", status=503, retry_after_s=5.0)
        session_id = secrets.token_hex(16)
        session = LiveSession(
            self, session_id, account=account, token=token, typed=typed, peer=peer
        )
        loop = self.loop
        self._sessions[session_id] = session
        if not loop.post(session.tick):
            raise _stopping()
        return session_id

    def session(self, session_id: str) -> LiveSession:
        """The session of that id.

        Raises:
            NotFound: there is none, or no more.
        """
        session = self._sessions.get(session_id)
        if session is None or session.is_closed:
            raise NotFound(NOT_LOCATED)
        return session

    def forget(self, session: LiveSession) -> None:
        """A session has ended."""
        self._sessions.pop(session.id, None)

    def begin_stop(self) -> None:
        """Say good-bye on every session, and begin no other; from any thread, returns at once."""
        self._is_stopping = True
        self._post(self._close_sessions)

    def close(self) -> None:
        """End every session and the loop; from any other thread."""
        with self._lock:
            self._is_stopping = True
            loop, self._loop = self._loop, None
        if loop is None:
            return
        loop.call(self._close_all)
        loop.close()

    def _close_sessions(self) -> None:
        for session in list(self._sessions.values()):
            session.close(GOING_AWAY, "the server stops")

    def _close_all(self) -> None:
        self._close_sessions()
        until = monotonic() + limits.session_goodbye_s
        while self.lines and monotonic() < until:
            sleep(_GOODBYE_LOOK_S)
        for line in list(self.lines):
            line.cut()
        sleep(0)

    # For sessions, on the loop

    def read(self, job: Callable[[Snapshot], T]) -> T:
        """Run *job* on a snapshot of the store; waits."""
        return self._store.read(job)

    def exists(self, flow_id: str) -> bool:
        """Whether there is a flow of that id; waits."""
        return self._store.read(lambda snapshot: snapshot.flow(flow_id) is not None, quick=True)

    # From time to time

    def _look_after(self) -> None:
        """Let time pass for the sessions, until the loop ends."""
        rounds = 0
        while True:
            sleep(limits.recheck_s)
            rounds += 1
            try:
                self._round(rounds)
            except Exception:  # noqa: BLE001 - the next round may succeed
                _log.exception("looking after the sessions failed")

    def _round(self, rounds: int) -> None:
        for session in list(self._sessions.values()):
            try:
                session.tick()
            except Exception:  # noqa: BLE001 - one session ends, time goes on for the others
                _log.exception("a session failed as time passed")
                session.close(FAULT, "the server failed")
        self.hub.tell_places()
        if self._rights_are_due or rounds % _ROUNDS_BETWEEN_CHECKS == 0:
            self._rights_are_due = False  # before the look: what changes meanwhile is due again
            try:
                self._check_rights()
            except BaseException:
                self._rights_are_due = True
                raise

    def _rights_changed(self) -> None:
        self._rights_are_due = True

    def _check_rights(self) -> None:
        """End what the credentials of sessions do not cover any more; waits for the store."""
        sessions = [session for session in self._sessions.values() if not session.is_closed]
        if not sessions:
            return
        flow_ids = {reader.flow_id for reader in self.hub.readers()}

        def job(snapshot: Snapshot) -> tuple[dict[Any, Credential | None], dict[str, Any]]:
            known: dict[Any, Credential | None] = {}
            for session in sessions:
                key = (session.account, session.token)
                if key not in known:
                    known[key] = _credential(session, snapshot)
            flows = {flow_id: snapshot.flow(flow_id) for flow_id in flow_ids}
            return known, {
                flow_id: None if flow is None else (flow.path, bool(flow.doc.get("public")))
                for flow_id, flow in flows.items()
            }

        known, paths = self.read(job)
        for session in sessions:
            session.recheck(known[session.account, session.token], paths)


def _sessions_max() -> int:
    """As many sessions as there may be. Each takes a socket; half of the files that this process
    may open are for requests and for the store."""
    files_max, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files_max == resource.RLIM_INFINITY:
        return limits.sessions_max
    return max(1, min(limits.sessions_max, files_max // 2))


def _stopping() -> ServerError:
    return ServerError("The server is stopping", status=503)


_GOODBYE_LOOK_S = 0.005

_ROUNDS_BETWEEN_CHECKS = 2
"""A credential that expires writes nothing: twice a second they are all looked at."""


def _credential(session: LiveSession, snapshot: Snapshot) -> Credential | None:
    try:
        return session.credential_in(snapshot)
    except Forbidden:
        return None
