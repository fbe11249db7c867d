"""Keeps one connection for one runner: connects, hears, connects anew, subscribes again.

Everything here runs in the event loop; others come in by ``Loop.post``. One greenlet connects,
reads and minds the time. What a session does when something happens: ``protocol/session.py``.

After a loss: commands that were sent fail, then a new session, then every reader subscribes from
what it has received and every plain subscription plainly. What the server says of the credential
(401, 403 at ``POST /session``) is final; everything else is tried again for ever.

Source: protocol 9.3 to 9.6, ``positions`` 6, 8.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flowkit import green, limits
from flowkit.client.live.connection import Connection, dial, is_passing
from flowkit.client.live.inbox import Inbox
from flowkit.client.live.reader import Reader
from flowkit.client.live.roster import Roster
from flowkit.client.live.waiting import Pending, Waiting
from flowkit.errors import ConnectionLost, FlowKitError, LimitError, ProtocolError, UsageError
from flowkit.protocol.session import NORMAL, Act, Event, Session, Side, State

if TYPE_CHECKING:
    from flowkit.client.api import API

__all__ = ["Keeper", "Told", "Wishes"]

_log = logging.getLogger("flowkit.client")

_HEARTBEAT = b'{"type":"heartbeat"}'
_LONG_S = 3_600.0


@dataclass(frozen=True, slots=True)
class Wishes:
    """How a runner wants its connection kept.

    Attributes:
        hints: whether elements show their types; None leaves it to the server.
        heartbeat_s, silence_s: as in ``flowkit.limits``.
        timeout_s: seconds that the reply to a subscribe may take, and an attempt to connect, if
            ``limits.connect_timeout_s`` is not less.

    Raises:
        UsageError: a quiet connection would be taken for a lost one.
    """

    hints: bool | None
    heartbeat_s: float
    silence_s: float
    timeout_s: float

    def __post_init__(self) -> None:
        if self.silence_s <= self.heartbeat_s:
            raise UsageError(
                f"silence_s={self.silence_s:g} is not longer than heartbeat_s={self.heartbeat_s:g}",
                hint="a quiet server is heard when it answers a heartbeat; set both",
            )


@dataclass(frozen=True, slots=True)
class Told:
    """What the keeper tells its runner; all called in the loop.

    Attributes:
        opened: a connection is open, and everything was subscribed again.
        closed: a connection has ended: its close code, or None, and the reason.
        failed: something went wrong.
        ended: the keeper has ended, with the error that made it or None.
        plain: a message of a plain subscription, and its size.
    """

    opened: Callable[[], object]
    closed: Callable[[int | None, str], object]
    failed: Callable[[Exception], object]
    ended: Callable[[Exception | None], object]
    plain: Callable[[dict[str, Any], int], object]


class Keeper:
    """The connection of one runner.

    Args:
        api: whose account and transport.
        loop: where all of this runs.
        wishes, told: see there.

    Attributes:
        touched: inboxes with something new; each batch ends with their flush.
        waiting: the commands that wait for replies.
    """

    def __init__(self, api: API, loop: green.Loop, wishes: Wishes, told: Told) -> None:
        self.touched: list[Inbox] = []
        self.waiting = Waiting()
        self._api = api
        self._loop = loop
        self._wishes = wishes
        self._told = told
        self._loads = api.message_decoder()
        self._session = _new_session(wishes)
        self._connection: Connection | None = None
        self._backlog: list[tuple[bytes, Any, bool]] = []  # bytes, msgId, whether it is awaited
        self._ids = 0
        self._tries = 0
        self._is_loss_told = False
        self._is_ended = False
        self._end_at: float | None = None
        self._is_stopped = False
        self._cut: Exception | None = None
        self._wake = green.Signal()
        self._alarm = green.Signal()
        self._roster = Roster(self._send_message, wishes.timeout_s, self._alarm.set)

    # --- the one greenlet

    def run(self) -> None:
        """Keep a connection until ``end``, or until the server refuses for good."""
        self._loop.spawn(self._watch)
        try:
            while not self._is_ended:
                try:
                    self._connect()
                    self._serve()
                except FlowKitError as error:
                    self._lose(error)
                except Exception as error:  # noqa: BLE001 - told; the connection is made anew
                    _log.exception("a subscription connection failed")
                    self._lose(error)
        finally:
            self._finish(None)

    def _connect(self) -> None:
        timeout_s = min(self._wishes.timeout_s, limits.connect_timeout_s)
        connection = dial(self._api, self._loop, hints=self._wishes.hints, timeout_s=timeout_s)
        if self._is_ended:
            connection.close()
            return
        self._connection = connection
        self._cut = None
        self._alarm.set()
        if Act.SUBSCRIBE in self._session.on(Event.CONNECTED, green.monotonic()):
            self._roster.open()
        backlog, self._backlog = self._wanted(), []
        for data, msg_id, _ in backlog:
            self._send(data, msg_id)
        self._is_loss_told = False
        self._told.opened()
        self._flush()

    def _serve(self) -> None:
        connection = self._connection
        if connection is None:  # ended while it was being made
            return
        while self._cut is None:
            self._wake.clear()
            is_awaited = len(self.waiting) > 0
            if not self._is_ended and self._roster.must_stop(is_awaited=is_awaited):
                self._is_stopped = True
                self._wake.wait()
                self._is_stopped = False
                self._session.heard(green.monotonic())
                continue
            batch = connection.read()
            now = green.monotonic()
            self._session.heard(now)
            self._hear(batch)
            green.sleep(0)  # the other connections of the loop take their turn
        raise self._cut

    def _watch(self) -> None:
        """The other greenlet: mind the time."""
        while self._session.state is not State.CLOSED:
            self._alarm.clear()
            try:
                self._mind_time()
            except Exception as error:  # noqa: BLE001 - the reader raises it
                self._break(error)
            self._alarm.wait(self._spare_s(green.monotonic()))

    def _break(self, error: Exception) -> None:
        """End the present connection for *error*, which its reader raises then."""
        if self._connection is not None:
            self._cut = error
            self._wake.set()
            self._connection.cut()

    def _mind_time(self) -> None:
        now = green.monotonic()
        if self.waiting.expire(now):  # nobody wants the answers any more
            self._backlog = self._wanted()
        self._flush()
        if self._connection is None:
            return
        if self._is_stopped:  # nobody listens: that is no silence
            self._session.heard(now)
        if self._end_at is not None and now >= self._end_at:
            self._end_at = None
            raise ConnectionLost("the server did not say good-bye in time")
        self._roster.mind(now)
        for act in self._session.due(now):
            if act is Act.PULSE:
                self._send_frames(self._frames().text(_HEARTBEAT) + self._frames().ping())
            elif act is Act.CUT:
                raise ConnectionLost(
                    f"nothing was heard from the server for {self._wishes.silence_s:g} s"
                )
        self._flush()

    def _spare_s(self, now: float) -> float:
        """Seconds until something is to be done at the latest."""
        times = [self.waiting.next_at]
        if self._connection is not None:
            times += [self._session.next_at, self._end_at, self._roster.next_at]
        return max(min((at for at in times if at is not None), default=now + _LONG_S) - now, 0.0)

    # --- the end of a connection

    def _lose(self, error: Exception) -> None:
        """The connection has gone, or could not be made: say so, and wait before the next one."""
        connection, self._connection = self._connection, None
        self._alarm.set()
        self._session.on(Event.BROKEN, green.monotonic())
        error, self._cut = self._cut or error, None
        if connection is not None:
            connection.close()
            self._after_loss(connection)
        if self._is_ended:
            return
        if not _may_try_again(error):
            self._told.failed(error)
            self._finish(error)
            return
        if not self._is_loss_told:
            self._is_loss_told = True
            self._told.failed(error)
        self._flush()
        until = green.monotonic() + self._delay_s(error)
        while not self._is_ended and (left_s := until - green.monotonic()) > 0:
            self._wake.clear()
            self._wake.wait(left_s)
        self._session.on(Event.RETRY, green.monotonic())

    def _after_loss(self, connection: Connection) -> None:
        self.waiting.lose()
        self._roster.lose()
        self._told.closed(connection.frames.code, connection.frames.reason)

    def _delay_s(self, error: Exception) -> float:
        self._tries += 1
        most = min(
            limits.reconnect_first_delay_s * 2.0 ** min(self._tries - 1, 30),
            limits.reconnect_delay_max_s,
        )
        asked = getattr(error, "retry_after_s", None) or 0.0
        return max(most * (0.5 + random.random() / 2), asked)  # noqa: S311 - jitter, no secret

    def end(self, timeout_s: float) -> None:
        """Close for good: say so, and wait at most *timeout_s* seconds for the server's answer."""
        if self._is_ended:
            return
        self._is_ended = True
        self._end_at = green.monotonic() + timeout_s
        self._wake.set()
        self._alarm.set()
        if self._connection is None:
            self._finish(None)
        else:
            self._connection.hang_up(NORMAL)

    def _finish(self, error: Exception | None) -> None:
        if self._session.state is State.CLOSED:
            return
        self._is_ended = True
        self._session.on(Event.ENDED, green.monotonic())
        self._alarm.set()
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
            self._after_loss(connection)
        known = error if isinstance(error, FlowKitError) else _ended()
        self._roster.end(known if error is not None else None)
        self.waiting.end(known)
        self._flush()
        self._told.ended(error)

    def check_size(self, data: bytes) -> None:
        """Whether a message may be sent, as far as its size goes. May be called from any thread.

        Raises:
            LimitError: it is too large, or too much waits to be sent already.
        """
        connection = self._connection
        waiting = sum(len(one[0]) for one in list(self._backlog))
        waiting += 0 if connection is None else connection.outgoing_bytes
        for what, size, limit in (
            ("the message", len(data), limits.frame_bytes_max),
            ("what waits to be sent", waiting, limits.unsent_bytes_max),
        ):
            if size > limit:
                raise LimitError(what, size=size, limit=limit, unit="bytes")

    def move(self, loop: green.Loop) -> None:
        """In a forked child, before ``run``: the loop is another one."""
        self._loop = loop

    def forget(self) -> None:
        """In a forked child: the connection is the parent's."""
        if self._connection is not None:
            self._connection.let_go()

    # --- what comes

    def _hear(self, batch: list[bytes]) -> None:
        readers, loads, plain = self._roster.by_key, self._loads, self._told.plain
        for text in batch:
            try:
                said = loads(text)
                sub = said.get("sub")
                kind = said.get("type")
            except (ValueError, TypeError, AttributeError):
                self._told.failed(ProtocolError("the server sent a message that is not an object"))
                continue
            if "head" in said:
                self._take_reply(said)
            elif sub is None and kind == "message":
                plain(said, len(text))
            elif kind == "end":
                self._roster.take_end(said)
            else:
                reader = readers.get(sub)
                if reader is not None:
                    reader.hear(said, len(text))
        if batch:
            self._tries = 0  # it was of use: the next one is made at once
        self._flush()

    def _take_reply(self, said: dict[str, Any]) -> None:
        error = self.waiting.reply(said)
        if error is not None:
            self._told.failed(error)

    def _flush(self) -> None:
        touched, self.touched[:] = list(self.touched), []
        for inbox in touched:
            inbox.flush()
            self._roster.note_full(inbox)

    # --- what goes

    def add(self, key: str, reader: Reader) -> None:
        """A new reader, or another in place of one with the same key."""
        if self._is_ended:
            reader.finish(_ended())
        else:
            self._roster.add(key, reader)
        self._alarm.set()
        self._flush()

    def remove(self, key: str) -> None:
        """A reader ends because its user wants it so."""
        if not self._is_ended:
            self._roster.remove(key)
            self._wake.set()

    def on_room(self) -> None:
        """A full inbox was emptied."""
        self._wake.set()
        self._roster.on_room()

    def ask(self, data: bytes, msg_id: Any, pending: Pending | None) -> None:
        """Send a command, now or when there is a connection."""
        error = self._refusal(pending)
        if error is not None:
            self._told.failed(error) if pending is None else pending.done(error, None)
        else:
            if pending is not None:
                self._await(msg_id, pending)
            if self._connection is not None:
                self._send(data, msg_id)
            else:
                self._backlog.append((data, msg_id, pending is not None))
        self._flush()

    def _wanted(self) -> list[tuple[bytes, Any, bool]]:
        """The commands that wait for a connection, but for those that were given up."""
        return [one for one in self._backlog if not one[2] or one[1] in self.waiting]

    def _await(self, msg_id: Any, pending: Pending) -> None:
        """Wait for a reply: by then somebody must read, and look at the clock."""
        self.waiting.add(msg_id, pending, green.monotonic())
        self._wake.set()
        self._alarm.set()

    def _refusal(self, pending: Pending | None) -> FlowKitError | None:
        if self._is_ended:
            return _ended()
        waiting = max(len(self._backlog), 0 if pending is None else len(self.waiting))
        return _too_many(waiting) if waiting >= limits.commands_waiting_max else None

    def _send_message(self, message: Mapping[str, Any], pending: Pending | None = None) -> None:
        """One of the keeper's own."""
        msg_id = None
        if pending is not None:
            self._ids += 1
            msg_id = f"s{self._ids}"
            message = {"msgId": msg_id, **message}
            self._await(msg_id, pending)
        self._send(self._api.encode(message), msg_id)

    def _send(self, data: bytes, msg_id: Any) -> None:
        self.waiting.sent(msg_id)
        self._send_frames(self._frames().text(data))

    def _send_frames(self, frames: bytes) -> None:
        assert self._connection is not None
        self._connection.send(frames)

    def _frames(self) -> Any:
        assert self._connection is not None
        return self._connection.frames


def _new_session(wishes: Wishes) -> Session:
    times = {Event.PULSE_DUE: wishes.heartbeat_s, Event.SILENT: wishes.silence_s}
    return Session(Side.CLIENT, green.monotonic(), times=times)


def _may_try_again(error: Exception) -> bool:
    """Whether another attempt makes sense; after a fault of ours, too: it may hang on the data."""
    return is_passing(error) or not isinstance(error, FlowKitError)


def _too_many(waiting: int) -> LimitError:
    most = limits.commands_waiting_max
    return LimitError("the queue of commands", size=waiting + 1, limit=most, unit="commands")


def _ended() -> UsageError:
    return UsageError("this runner has ended", hint="api.websocket.connect() makes another")
