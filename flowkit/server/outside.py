"""The addresses that stand outside of any account and version: probes, figures, sessions.

None but ``POST /session`` takes a token; behind it the session id is the secret.

Source: protocol 9.1 (sessions), ``docs/howto/operate_a_server.rst`` (probes and figures).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flowkit.errors import BadRequest, NotFound
from flowkit.protocol.envelope import NOT_LOCATED, Request, Response, success
from flowkit.query.params import flag
from flowkit.server.answers import HEADERS, PLAIN, encoded, preflight
from flowkit.server.asked import Asked, Watch
from flowkit.server.auth import Credential, authenticate
from flowkit.server.health import Health
from flowkit.server.live.live import Live
from flowkit.server.live.polling import polled, posted
from flowkit.server.metrics import CONTENT_TYPE
from flowkit.server.openapi import page
from flowkit.server.settings import Settings
from flowkit.server.store.base import Reader, Store

__all__ = ["METHODS", "Outside", "is_outside", "methods_at"]

METHODS: Mapping[str, tuple[str, ...]] = {
    "health": ("GET",),
    "metrics": ("GET",),
    "openapi.json": ("GET",),
    "session": ("POST",),
    "session/{id}/polling": ("GET", "POST"),
    "session/{id}/streaming": ("GET",),
    "session/{id}/ws": ("GET",),
}
"""Every such address. The last two need a connection of their own: a shell hands it over before the
application sees the request (``websocket.py``, ``streaming.py``)."""


def is_outside(segments: Sequence[str]) -> bool:
    """Whether an address belongs to no account."""
    return len(segments) == 1 or tuple(segments[:1]) == ("session",)


def methods_at(segments: Sequence[str]) -> tuple[str, ...]:
    """The methods of an address outside.

    Raises:
        NotFound: there is no such address.
    """
    found = METHODS.get(_pattern(segments))
    if found is None:
        raise NotFound(NOT_LOCATED)
    return found


def _pattern(segments: Sequence[str]) -> str:
    return "/".join([*segments[:1], *("{id}" for _ in segments[1:2]), *segments[2:]])


class Outside:
    """Answers what stands outside of any account.

    Args:
        live: the sessions.
        watch: counts requests, and refuses those that are too many.
        health: whether the store reads and writes.
        store: where credentials are looked up.
        settings: whether figures are shown.
    """

    def __init__(
        self, live: Live, watch: Watch, health: Health, store: Store, settings: Settings
    ) -> None:
        self._live = live
        self._watch = watch
        self._health = health
        self._store = store
        self._settings = settings

    def answer(self, request: Request, asked: Asked) -> Response:
        """The answer to a request whose address ``is_outside``.

        Raises:
            PlatformError: there is no such address or method, or it is refused.
        """
        methods = methods_at(request.segments)
        pattern = _pattern(request.segments)
        if pattern == "metrics" and not self._settings.metrics:
            raise NotFound(NOT_LOCATED)
        asked.route = pattern
        if request.method == "OPTIONS" and pattern.startswith("session"):
            return preflight(methods)
        if request.method not in methods:
            said = f"{request.method[:16]} is not a method of this address, it has "
            raise BadRequest(said + ", ".join(methods), status=405)
        if pattern.startswith("session"):
            return self._of_session(pattern, request, asked)
        if pattern == "openapi.json":
            return Response(200, HEADERS, page())
        if pattern == "metrics":
            figures = self._watch.metrics.page()
            return Response(200, {**PLAIN, "content-type": CONTENT_TYPE}, figures)
        fault = self._health.fault()
        said = f"not ok: {fault}\n" if fault else "ok\n"
        return Response(503 if fault else 200, PLAIN, said.encode())

    def _of_session(self, pattern: str, request: Request, asked: Asked) -> Response:
        if pattern == "session":
            return self._new_session(request, asked)
        if not pattern.endswith("/polling"):
            said = "This address speaks WebSocket over a connection of its own, not this way"
            raise BadRequest(said, status=426)
        session = self._live.session(request.segments[1])
        if request.method == "GET":
            return Response(200, HEADERS, polled(session))
        posted(session, request.body)
        return Response(200, HEADERS, encoded(success({})))

    def _new_session(self, request: Request, asked: Asked) -> Response:
        account = request.headers.get("x-auth-account", "")
        token = request.headers.get("x-auth-token", "")
        typed = flag("hints", request.params.get("hints"))

        def look_up() -> Credential:
            def job(reader: Reader) -> Credential:
                return authenticate(reader, token, account, self._live.clock_ms())

            return self._store.read(job, quick=True)

        self._watch.admit(asked, request, look_up)
        asked.who = look_up()
        session_id = self._live.open_session(account, token, typed=typed, peer=request.peer)
        return Response(201, HEADERS, encoded(success({"id": session_id}, status=201)))
