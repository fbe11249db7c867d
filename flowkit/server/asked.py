"""A request from its arrival to its answer, as the rate limit, the figures and the log see it.

Nothing here decides what is answered, but for 429. What is written down never holds a token, the
address as it was sent, a query string or a body: the row of the URL table stands for the address.

Source: protocol 3.2 (request ids), 3.4 (429), 12 (rate limit); ``docs/howto/limit_the_rate.rst``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from flowkit import limits
from flowkit.errors import Forbidden, TooManyRequests
from flowkit.green import monotonic
from flowkit.protocol.envelope import Request, Response
from flowkit.server import logs
from flowkit.server.auth import Credential, hash_secret
from flowkit.server.pace import Pace

if TYPE_CHECKING:
    from flowkit.server.call import Call
    from flowkit.server.metrics import Metrics
    from flowkit.server.settings import Settings

__all__ = ["Asked", "Watch"]

_METHODS = frozenset({"GET", "POST", "PUT", "DELETE", "MGET", "MPUT", "OPTIONS"})


@dataclass(slots=True)
class Asked:
    """One request while it is answered.

    Attributes:
        request_id: stands in the answer and in every line of the log about it.
        begun_s: when it came, on the clock that never goes back.
        method: as it is meant, after an override.
        route: the row of the URL table, ``(none)`` if it is in none.
        who: the credential, once it was found.
        is_counted: whether it stands in the statistics already, in the commit of what it wrote.
        secret_hash: of a good secret that the rate limit counts, else empty.
        further: requests that it is worth beyond one.
    """

    request_id: str
    begun_s: float
    method: str
    route: str = "(none)"
    who: Credential | None = None
    is_counted: bool = False
    secret_hash: bytes = b""
    further: int = 0


class Watch:
    """Sees every request of one server.

    Args:
        settings: the rate limit, and whether requests are logged.
        metrics: where they are counted.
        clock: seconds that never go back.
    """

    def __init__(
        self, settings: Settings, metrics: Metrics, *, clock: Callable[[], float] = monotonic
    ) -> None:
        per_s = settings.rate_limit_per_s
        self.pace = Pace(per_s, settings.rate_limit_burst, clock=clock) if per_s else None
        self.metrics = metrics
        self._logs_all = settings.access_log
        self._clock = clock

    def begin(self, request: Request) -> Asked:
        """A request has come."""
        method = request.method if request.method in _METHODS else "other"
        return Asked(logs.request_id_of(request.headers), self._clock(), method)

    def admit(self, asked: Asked, request: Request, look_up: Callable[[], object]) -> None:
        """Count the request against its credential's limit, before anything is done for it.

        Args:
            look_up: raises ``Forbidden`` if the secret opens nothing; asked for one that is not
                known to be good. Only such requests pay for that, and nothing else is done for
                them, so that a flood of wrong secrets costs little and takes nothing from others.

        Raises:
            Forbidden: the secret is wrong.
            TooManyRequests: there is nothing left for this credential, or for wrong secrets from
                this address.
        """
        pace = self.pace
        if pace is None:
            return
        token = request.headers.get("x-auth-token")
        secret_hash = hash_secret(token) if token else b""
        who = "credential"
        try:
            if not pace.knows(secret_hash):
                try:
                    look_up()
                except Forbidden:
                    who = "stranger"
                    pace.turn_away(request.peer)
                    raise
            asked.secret_hash = secret_hash
            pace.admit(secret_hash)
        except TooManyRequests:
            self.metrics.count("flowkit_rate_limited_total", who)
            raise

    def charge(self, asked: Asked, call: Call) -> None:
        """Count what a request is worth beyond one, once its body was read.

        Each read of a batch is a request; so is every further hundred entries of an array.
        """
        if self.pace is not None:
            further = asked.further + call.entries // limits.rate_entries_per_request
            self.pace.charge(asked.secret_hash, further)

    def end(self, asked: Asked, response: Response) -> Response:
        """The answer as it leaves: with the id, and what is left of the limit."""
        headers = {**response.headers, "x-request-id": asked.request_id}
        if self.pace is not None and asked.secret_hash:
            headers |= self.pace.headers(asked.secret_hash)
        return self._told(asked, replace(response, headers=headers))

    def refused(self, response: Response) -> Response:
        """The answer to what never became a request of the application; it gets an id, too."""
        asked = Asked(logs.request_id_of({}), self._clock(), "other", "(http)")
        headers = {**response.headers, "x-request-id": asked.request_id}
        return self._told(asked, replace(response, headers=headers))

    def _told(self, asked: Asked, response: Response) -> Response:
        took_s = self._clock() - asked.begun_s
        self.metrics.request(asked.route, asked.method, response.status, took_s)
        if self._logs_all:
            logs.access(
                request_id=asked.request_id,
                method=asked.method,
                route=asked.route,
                account=asked.who.account.name if asked.who else None,
                status=response.status,
                bytes=len(response.body),
                ms=round(took_s * 1000, 1),
            )
        return response
