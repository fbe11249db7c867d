"""A subscription on the wire: what it asks for, what has come of it, whether it is heard now.

Two places must be told apart. ``received`` is the position of the last message that came over the
wire into this process: after a loss the reader goes on there, and what came before is still on its
way to the user. The user's place (``Subscription.place``) moves when a message was handed over.

Source: ``positions`` 6 (the wire), 10 (what is promised); protocol 9.2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from flowkit.client.live.inbox import Inbox
from flowkit.errors import FlowKitError, platform_error
from flowkit.protocol.subscribing import Subscribe

__all__ = ["Reader", "error_of_end"]


@dataclass(eq=False)
class Reader:
    """One subscription of one runner; a plain one if ``ask.sub`` is None. It lives in the loop.

    Attributes:
        ask: what it asks for.
        take: called with each message and its size in bytes.
        begun: called when it is confirmed, with the position at which it begins if it had none.
        ended: called with the error when it ends for good.
        settled: called with ``(None, body)`` when it is confirmed first, with ``(error, None)``
            when it ends for good.
        inbox: where its messages wait for the user; None: they never wait.
        received: where it goes on after a loss; None: from now.
        is_heard: whether the present connection has confirmed it.
        is_paused: whether it waits for its user to catch up.
        was_heard: whether it ever was confirmed.
        tries: attempts to subscribe since it was heard last.
        retry_at: when to try again, if it waits for that.
    """

    ask: Subscribe
    take: Callable[[dict[str, Any], int], object]
    begun: Callable[[str | None], object]
    ended: Callable[[FlowKitError], object]
    inbox: Inbox | None = None
    received: str | None = None
    settled: Callable[[FlowKitError | None, Any], object] = lambda *_: None
    is_heard: bool = False
    is_paused: bool = False
    was_heard: bool = False
    tries: int = 0
    retry_at: float | None = None

    @property
    def flow(self) -> str:
        """Id or path of the flow."""
        return self.ask.path or self.ask.flow_id or ""

    def message(self) -> dict[str, Any]:
        """The message that subscribes, from where it stands."""
        return replace(self.ask, since=self.received).message()

    def farewell(self) -> dict[str, Any]:
        """The message that ends it."""
        said: dict[str, Any] = {"object": "drop", "type": "unsubscribe"}
        if self.ask.sub is not None:
            return said | {"sub": self.ask.sub}
        return said | ({"path": self.ask.path} if self.ask.path else {"flowId": self.ask.flow_id})

    def begin(self, body: Any) -> None:
        """The server has confirmed it; its messages follow."""
        is_first = not self.was_heard
        self.is_heard = self.was_heard = True
        self.tries = 0
        self.retry_at = None
        at = None
        if self.received is None and isinstance(body, dict) and not self.ask.live:
            # From now: "now" is this position, also if the connection breaks before a message.
            # With a place of its own nothing moves yet: a gap may still have to be told.
            at = self.received = body.get("position")
        if is_first or at is not None:
            self.begun(at)
        if is_first:
            self.settled(None, body)

    def finish(self, error: FlowKitError) -> None:
        """It has ended for good."""
        self.ended(error)
        self.settled(error, None)

    def lose(self) -> None:
        """The connection has gone."""
        self.is_heard = self.is_paused = False
        self.retry_at = None

    def lose_flow(self, said: dict[str, Any]) -> None:
        """Its flow is gone, as *said* says. A view is emptied by that, so the place up to which it
        was right is of no use any more: a restored server may have the same flow again.
        """
        if self.ask.live:
            self.received = None
        self.take(said, 0)

    def hear(self, said: dict[str, Any], size: int) -> None:
        """One of its messages. Those of an earlier reader of the same name are not taken."""
        if not self.is_heard:
            return
        position = said.get("position")
        if position is not None:
            self.received = position
        self.take(said, size)

    def may_come_back(self, error: FlowKitError) -> bool:
        """Whether it makes sense to subscribe again after *error*."""
        status = getattr(error, "status", None)
        if status is None or status >= 500 or status == 429:
            return True
        is_gone = status == 404 and self.was_heard
        return is_gone and self.ask.path is not None


def error_of_end(said: Mapping[str, Any]) -> FlowKitError:
    """The error that an ``end`` message stands for."""
    status = said.get("status")
    if not isinstance(status, int) or not 400 <= status < 600:
        status = _STATUS_OF.get(str(said.get("reason")), 500)
    errors = said.get("errors")
    told = [str(one) for one in errors] if isinstance(errors, list) else []
    return platform_error(status)(
        *(told or [f"the subscription ended: {said.get('reason')}"]),
        status=status,
        method="subscribe drop",
        path="(WebSocket)",
    )


_STATUS_OF = {"deleted": 404, "forbidden": 403, "filter": 400, "fault": 500}
