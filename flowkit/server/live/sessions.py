"""A session of the server: its rights, its subscriptions, what waits for it, and its connection.

A session lives on the loop. It outlives its connection for a while: plain subscriptions go on and
what they push waits; readers end with the connection, their clients come back with their places.

Rules: a method that waits says so; all others are steps of the loop. The token of a session is
never shown.

Source: protocol 9.1 (session), 9.6 (closing), ``positions`` 6.5, 7, 8.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from flowkit import limits
from flowkit.errors import BadRequest, Forbidden, NotFound, PlatformError
from flowkit.green import Signal, monotonic, sleep, spawn
from flowkit.protocol.session import (
    GOING_AWAY,
    NORMAL,
    POLICY,
    TOO_SLOW,
    Act,
    Event,
    Session,
    Side,
    State,
)
from flowkit.protocol.subscribing import Subscribe
from flowkit.server.auth import Credential, authenticate, may
from flowkit.server.live import pages
from flowkit.server.live.pushes import Entry, Pushes
from flowkit.server.live.reader import Reader
from flowkit.server.store.base import Reader as Snapshot

if TYPE_CHECKING:
    from flowkit.server.live.live import Live

__all__ = ["Line", "LiveSession"]

Reply = Callable[[dict[str, Any]], bytes]
"""Makes the frame of a reply from its body."""

_TAKE_BYTES = 256 * 1024
_RETRIES_MAX = 5


class Line(Protocol):
    """A connection that carries what a session has to say."""

    @property
    def is_blocked(self) -> bool:
        """Whether the kernel takes nothing at the moment. The line calls ``LiveSession.flush``
        when it does again."""

    @property
    def ends_readers(self) -> bool:
        """Whether readers end with it; false for one of many polls."""

    def send(self, frames: list[bytes]) -> None:
        """Hand *frames* to the kernel and keep what it does not take; never waits."""

    def pulse(self) -> None:
        """Ask the other side for a sign of life; never waits."""

    def close(self, code: int, reason: str) -> None:
        """End the connection after what it keeps; never waits."""

    def cut(self) -> None:
        """End the connection at once."""


class LiveSession:
    """One session.

    Args:
        live: the whole that it belongs to.
        session_id: its secret name.
        account: the account that it acts for.
        token: the secret that it was made with.
        typed: whether elements are typed by default.
        peer: the address that it was made from.

    Attributes:
        pushes: what waits for the connection.
    """

    def __init__(
        self,
        live: Live,
        session_id: str,
        *,
        account: str,
        token: str,
        typed: bool = False,
        peer: str = "",
    ) -> None:
        self.live = live
        self.id = session_id
        self.account = account
        self.token = token
        self.typed = typed
        self.peer = peer
        self.pushes = Pushes(live.queue_messages_max, live.queue_bytes_max)
        self.life = Session(Side.SERVER, monotonic())
        self._line: Line | None = None
        self._plain: dict[str, Reader] = {}
        self._named: dict[str, Reader] = {}
        self._behind: deque[Reader] = deque()
        self._dropping: dict[Reader, None] = {}
        self._has_room: Any = Signal()
        self._is_feeding = False
        self._keeps_replies = True

    def __repr__(self) -> str:
        return f"<session of {self.account}, {self.life.state.value}, {self.count} subscriptions>"

    @staticmethod
    def now() -> float:
        """Seconds of a clock that never goes back."""
        return monotonic()

    @property
    def count(self) -> int:
        """How many subscriptions it has."""
        return len(self._plain) + len(self._named)

    @property
    def is_closed(self) -> bool:
        """Whether it has ended for good."""
        return self.life.state is State.CLOSED

    @property
    def room(self) -> int:
        """How many more messages fit below the bound."""
        return self.pushes.messages_max - self.pushes.messages

    def readers(self) -> list[Reader]:
        """All subscriptions."""
        return [*self._plain.values(), *self._named.values()]

    # Rights

    def credential_in(self, snapshot: Snapshot) -> Credential:
        """What it may do, as of a snapshot.

        Raises:
            Forbidden: its token does not hold any more.
        """
        return authenticate(snapshot, self.token, self.account, self.live.clock_ms())

    def recheck(self, who: Credential | None, paths: dict[str, tuple[str, bool] | None]) -> None:
        """End what the present rights do not cover; *who* None: the token does not hold any more.

        *paths* are path and publicity of each flow, None for one that is gone.
        """
        if who is None:
            self.close(POLICY, "the credential was revoked or has expired")
            return
        for reader in self.readers():
            found = paths.get(reader.flow_id)
            if found is None:
                continue
            path, public = found
            verdict = may(who, "dropRead", path, public=public)
            if not verdict:
                reader.end("forbidden", 403, verdict.why_not)
                self.flush()

    # The connection

    def connect(self, line: Line) -> None:
        """A connection carries the session from now on, unless it has ended meanwhile."""
        if self.is_closed:
            line.close(NORMAL, "the session has ended")
            return
        acts = self.life.on(Event.CONNECTED, self.now())
        if Act.REPLACE in acts:
            older, self._line = self._line, None
            if older is not None:
                older.close(GOING_AWAY, "another connection took over this session")
                self._end_named(older)
        self._line = line
        self._keeps_replies = not line.ends_readers
        self.flush()

    def lose(self, line: Line) -> None:
        """The connection broke; a later one may carry the session on."""
        if self._line is line:
            self._line = None
            self._act(self.life.on(Event.BROKEN, self.now()))
            self._end_named(line)

    def heard(self) -> None:
        """Anything came from the client."""
        self.life.heard(self.now())

    def tick(self) -> None:
        """Do what the passing of time brings about."""
        while acts := self.life.due(self.now()):
            self._act(acts)

    def _act(self, acts: tuple[Act, ...]) -> None:
        line = self._line
        if Act.CUT in acts and line is not None:
            self._line = None
            line.close(GOING_AWAY, "nothing was heard from the client")
            self._end_named(line)
        if Act.PULSE in acts and line is not None:
            line.pulse()
        if Act.FORGET in acts:
            self._forget()

    def hung_up(self, line: Line) -> None:
        """The client ended *line* in order: it has no further use for the session."""
        if self._line is line:
            self.close()

    def close(self, code: int = NORMAL, reason: str = "") -> None:
        """End the session for good, whoever wanted it."""
        if self.is_closed:
            return
        if code == TOO_SLOW:
            self.live.too_slow += 1
        acts = self.life.on(Event.ENDED, self.now())
        self.pushes.clear()
        line, self._line = self._line, None
        if line is not None:
            line.close(code, reason)
        self._act(acts)

    def _forget(self) -> None:
        for reader in self.readers():
            self.remove(reader)
        self.pushes.clear()
        self._has_room.set()
        self.live.forget(self)

    def _end_named(self, line: Line) -> None:
        """Readers end with their connection; plain subscriptions live on (``positions`` 6.5).

        So do replies: nobody knows what they answer any more (protocol 9.6).
        """
        if not line.ends_readers:
            return
        self.pushes.forget(None)
        for reader in list(self._named.values()):
            self.remove(reader)
            self.pushes.forget(reader)

    # What goes out

    @property
    def is_full(self) -> bool:
        """Whether the bound is reached, after the connection had its chance to take something."""
        if self.pushes.is_full:
            self.flush()
        return self.pushes.is_full

    def put(self, entry: Entry) -> None:
        """Add a message; ``flush`` sends it."""
        self.pushes.put(entry)

    def reply(self, frame: bytes) -> None:
        """Send the reply to a command, if the connection that asked can still be there."""
        if self._line is None and not self._keeps_replies:
            return
        self.put(Entry(frame, None, "reply"))
        self.flush()

    def flush(self) -> None:
        """Hand the connection what waits, as far as the kernel takes it."""
        line, pushes = self._line, self.pushes
        if line is None:
            return
        while pushes and not line.is_blocked:
            line.send(pushes.take(_TAKE_BYTES))
        if not pushes.has_room:
            return
        self._has_room.set()
        if self._dropping:
            dropping, self._dropping = self._dropping, {}
            for reader in dropping:
                reader.resume()
            self.flush()

    def wait_for_room(self, reader: Reader) -> None:
        """Let a reader that skips changes go on once there is room."""
        self._dropping[reader] = None

    def wait_until_room(self, timeout_s: float | None = None) -> bool:
        """Wait until no more than half of the bound is taken.

        Returns:
            False if the session has ended, or this did not come about within *timeout_s* seconds
            (None: however long it takes).
        """
        while not self.pushes.has_room and not self.is_closed:
            self._has_room.clear()
            if not self._has_room.wait(timeout_s):
                return False
        return not self.is_closed

    # Subscriptions

    def subscribe(self, ask: Subscribe, reply: Reply | None) -> None:
        """Begin a subscription; waits for the store.

        Args:
            ask: what is asked for.
            reply: makes the frame of the reply of a good outcome from its body; None for none.

        Raises:
            PlatformError: there is no such flow, it may not be read, or there are too many.
        """
        read, line = self.live.read, self._line
        found = read(lambda snapshot: pages.find_flow(ask, snapshot, self.credential_in))
        if self._has_plain(ask, found, reply):
            return
        replaced = self._named.get(ask.sub) if ask.sub is not None else None
        if replaced is None and self.count >= limits.subscriptions_max:
            raise BadRequest(f"A session has at most {limits.subscriptions_max} subscriptions")
        typed = self.typed if ask.hints is None else ask.hints
        reader = Reader(self, ask, found.flow_id, found.path, typed=typed)
        # It listens before its start is read: a commit after that is told.
        channel = self.live.hub.join(reader)
        try:
            start = read(lambda s: pages.start_of(ask, found, s, self.credential_in))
            if self.is_closed or reader.is_over or self._is_left(line, ask):
                raise NotFound("The Flow was deleted, or the session has ended, meanwhile")
        except BaseException:
            self.remove(reader)
            raise
        if self._has_plain(ask, found, reply):  # one that was on its way at the same time
            self.remove(reader)
            return
        self._begin(reader, start, reply)
        if start.mode != "live" or not channel.attach(reader):
            self.fall_behind(reader)
        self.flush()

    def _is_left(self, line: Line | None, ask: Subscribe) -> bool:
        """Whether the connection with which a reader would end has ended before it began."""
        return ask.sub is not None and line is not self._line and bool(line and line.ends_readers)

    def _has_plain(self, ask: Subscribe, found: pages.Found, reply: Reply | None) -> bool:
        """Whether this is a plain subscription that there is already, which is a success."""
        if ask.sub is not None or found.flow_id not in self._plain:
            return False
        if reply is not None:
            self.reply(reply({}))
        return True

    def _begin(self, reader: Reader, start: pages.Start, reply: Reply | None) -> None:
        """The reply, before the first message of the reader, and after the last of an older one."""
        sub = reader.ask.sub
        if sub is None:
            self._plain[reader.flow_id] = reader
            body: dict[str, Any] = {}
        else:
            older = self._named.get(sub)
            if older is not None:
                self.remove(older)
                self.pushes.forget(older)
            self._named[sub] = reader
            resource, position = reader.flow_id, start.position
            body = {"sub": sub, "resource": resource, "position": position, "mode": start.mode}
        if reply is not None:
            self.put(Entry(reply(body), None, "reply"))
        reader.begin(start.verdict.after, start.position)
        reader.needs_snapshot = start.mode == "snapshot"
        if start.verdict.gap is not None:
            place = start.position
            gap = {"reason": start.verdict.gap, "from": reader.ask.since, "to": place}
            reader.tell("gap", gap, position=place)

    def unsubscribe(self, ask_sub: str | None, flow_id: str | None, path: str | None) -> None:
        """End a reader by its name, or the plain subscription of a flow; neither need be there."""
        if ask_sub is not None:
            found = self._named.get(ask_sub)
        else:
            found = self._plain.get(flow_id) if flow_id is not None else None
            for reader in self._plain.values() if found is None and path is not None else ():
                if reader.path == path:
                    found = reader
        if found is not None:
            self.remove(found)
            self.pushes.forget(found)

    def remove(self, reader: Reader) -> None:
        """A subscription is over; what waits for it stays."""
        reader.is_over = True
        self.live.hub.leave(reader)
        self._dropping.pop(reader, None)
        if self._plain.get(reader.flow_id) is reader:
            del self._plain[reader.flow_id]
        if reader.ask.sub is not None and self._named.get(reader.ask.sub) is reader:
            del self._named[reader.ask.sub]

    # Catching up

    def fall_behind(self, reader: Reader) -> None:
        """Let the pages of the store bring a reader up to date."""
        reader.is_attached = False
        if reader not in self._behind:
            self._behind.append(reader)
        if not self._is_feeding:
            self._is_feeding = True
            spawn(self._feed)

    def _feed(self) -> None:
        """Read a page for each reader that is behind, in turn, as the connection takes them."""
        failures = 0
        try:
            while self._behind and self.wait_until_room():
                reader = self._behind[0]
                if reader.is_over or reader.is_attached:
                    self._behind.popleft()
                    continue
                failures = 0 if self._fed(reader, failures) else failures + 1
                self._behind.rotate(-1)
        finally:
            self._is_feeding = False

    def _fed(self, reader: Reader, failures: int) -> bool:
        """One page; False if the store was too busy for it, and it is worth another try."""
        try:
            self._next_page(reader)
        except Forbidden as error:
            reader.end("forbidden", error.status, *error.errors)
        except PlatformError as error:
            if error.status == 503 and failures < _RETRIES_MAX and not reader.is_over:
                sleep(0.1 * 2**failures)
                return False
            reader.end("fault", error.status, *error.errors)
        except Exception:  # noqa: BLE001 - one reader ends, its session goes on
            reader.fail()
        self.flush()
        return True

    def _next_page(self, reader: Reader) -> None:
        try:
            with self.live.pages:  # whoever is up to date does not wait behind all who are not
                if reader.is_over:
                    return
                channel = self.live.hub.channel(reader.flow_id)
                pages.next_page(reader, channel, self.live.read, self.live.places)
        except NotFound as error:  # it is gone, or the reader may not know of it any more
            reason = "forbidden" if self.live.exists(reader.flow_id) else "deleted"
            reader.end(reason, error.status, *error.errors)
