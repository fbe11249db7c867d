"""Drains an outbox to a platform, so that each entry has its effect there exactly once.

Some **lanes**, threads with a connection each, take the streams that have something to send. A
stream is in one lane at a time, so one request of it is under way; a request carries the rows of
many streams. Before a lane sends over a new connection it asks for the marks (``GET
/origin/<box>``): that is how a restored server and a copied file are noticed.

Rows leave the outbox on the server's mark with its message, and on nothing else. What is refused
for good becomes a dead letter with a skip in its place; everything else waits and is tried again,
with growing pauses, for days if need be. ``put`` never waits for any of this.

Source: ``positions`` 9 (sender, rules 1 to 7), protocol 3.4 (429, ``Retry-After``).
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any, Self

from flowkit.device import bounds
from flowkit.device.compression import Compressor, check_compression
from flowkit.device.desk import Desk, SenderState
from flowkit.device.fates import Fates, Goal
from flowkit.device.file import crash_point
from flowkit.device.lanes import Lane
from flowkit.device.link import Connection, link_to
from flowkit.device.outbox import Pending
from flowkit.device.parcel import Parcel, Said, pack, read_mark
from flowkit.device.uploads import fitting, is_large, payload_members
from flowkit.errors import (
    FlowKitError,
    PlatformError,
    ProtocolError,
    TransportError,
    UsageError,
)

if TYPE_CHECKING:
    from flowkit.device.outbox import Outbox, Receipt, Row

__all__ = ["Sender", "SenderState"]

_log = logging.getLogger(__name__)

_JOIN_S = 2.0
"""Seconds that the lanes are given to end once their connections are cut."""

_UPLOAD_REST_S = 0.25
"""Seconds until a stream with a large payload asks again for one of the lanes that may carry it."""

_live: weakref.WeakSet[Sender] = weakref.WeakSet()
_started: set[Sender] = set()
"""What sends goes on until it is closed, whoever has forgotten it."""

OnEvent = Callable[[str, str], object]
OnMissing = Callable[[str], bool]
OnRefused = Callable[[], bool]


class Sender:
    """Sends what is in an outbox.

    Args:
        outbox: what is drained; put into it from any thread, before and meanwhile.
        to: an ``API``, or a link (``flowkit.device.HttpLink``).
        lanes: connections, and so streams side by side.
        compression: ``none``, ``fastest`` or ``smallest``; for single streams see ``compress``.
        linger_s: seconds that a row may wait for company before it is sent.
        linger_rows: as many rows do not wait any longer.
        on_event: called with a word and a sentence when something is worth knowing: ``online``,
            ``offline``, ``refused``, ``dead``, ``forked``, ``restored``; on a lane's thread.
        on_missing: called with the path of a Flow that is not there; True if it has made it.
        on_refused: called when the credential is refused; True if there is a new one to try.
        start: False to begin later, with ``start()``.

    Raises:
        SettingsError: *to* is no way to a platform, or *compression* is none.
        UsageError: the outbox has a sender that was not closed.
    """

    def __init__(
        self,
        outbox: Outbox,
        to: Any,
        *,
        lanes: int = bounds.sender_lanes_default,
        compression: Any = "fastest",
        linger_s: float = 0.0,
        linger_rows: int = 1,
        on_event: OnEvent | None = None,
        on_missing: OnMissing | None = None,
        on_refused: OnRefused | None = None,
        start: bool = True,
    ) -> None:
        if lanes < 1:
            raise UsageError(f"lanes={lanes} is no number of connections, 1 or more")
        if any(outbox is other.outbox for other in list(_live)):
            raise UsageError(f"{outbox.path} has a sender already", hint="close that one first")
        self.outbox: Outbox = outbox
        self.link = link_to(to)
        self._compression = check_compression(compression)
        self._compressions: dict[str, str] = {}
        self._compressor = Compressor()
        self._on_event = on_event
        self._on_missing = on_missing
        self._on_refused = on_refused
        self._desk = Desk(outbox, linger_s=linger_s, linger_rows=linger_rows)
        self._fates = Fates(outbox, self._desk)
        self._lanes = [Lane(self.work, self.link.connection(), number) for number in range(lanes)]
        self._uploads = threading.Semaphore(max(1, lanes - 1))
        self._entries_max = bounds.sender_entries_max
        self._own_connection: Connection | None = None
        self._online: bool | None = None
        self._has_renewed = False
        self._error = ""
        outbox.on_put = self._desk.put
        _live.add(self)
        if start:
            self.start()

    # What users call

    def start(self) -> None:
        """Begin to send; again after ``close`` it raises."""
        if self._desk.is_closing:
            raise UsageError("this sender is closed")
        _started.add(self)
        for lane in self._lanes:
            lane.start()

    def compress(self, stream: str, how: Any) -> None:
        """Send *stream* with a compression of its own."""
        self._compressions[stream] = check_compression(how)

    @property
    def state(self) -> SenderState:
        """How sending goes; waits for nothing."""
        return SenderState(bool(self._online), self._error, self._desk.held_s())

    def wake(self) -> None:
        """Try now, whatever pause there is: the network is known to be back."""
        self._desk.hurry()

    def flush(self, timeout_s: float | None = None) -> Pending:
        """Wait until everything that is in the outbox now has been settled.

        Args:
            timeout_s: seconds to wait at most; None for as long as it takes.

        Returns:
            what is still queued; a count of 0 if all of it has been settled.
        """
        outbox = self.outbox
        if not self._desk.is_closing:
            self.start()
        deadline = None if timeout_s is None else monotonic() + timeout_s
        goal = Goal(outbox)
        self._desk.flushing(1)
        try:
            while not self._desk.is_closing:
                seen = self._desk.settled
                if goal.is_reached():
                    return Pending(0, 0, None)
                if not self._desk.wait_settled(seen, deadline):
                    break
        finally:
            self._desk.flushing(-1)
        return self._left()

    def wait(self, receipt: Receipt, timeout_s: float | None = None) -> None:
        """Wait until the server has stored what *receipt* names.

        Raises:
            DeadlineExceeded: it is still queued.
            BadRequest: the server refused it for good; it is among the dead letters.
            OutboxError: it was dropped unsent: for its age, for room, or for a newer one.
            UsageError: the sender was closed meanwhile.
        """
        self._fates.wait(receipt, timeout_s)

    def close(self, timeout_s: float = bounds.sender_close_s) -> Pending:
        """Send what can be sent within the time, then stop; always returns.

        The outbox stays open: what is still queued is in its file and goes out with the next
        sender. May be called twice.

        Args:
            timeout_s: seconds to go on sending for; 0 stops at once.

        Returns: what is still queued.
        """
        if not self._desk.is_closing and timeout_s > 0 and self._lanes[0].is_started:
            self.flush(timeout_s)
        self._stop()
        return self._left()

    def _left(self) -> Pending:
        """What is still queued; of an outbox that was closed before, about."""
        if not self.outbox.is_closed:
            with suppress(UsageError):
                return self.outbox.pending
        return Pending(sum(end - done for done, end in self.outbox.unsettled().values()), 0, None)

    def _stop(self) -> None:
        self._desk.close()
        for lane in self._lanes:
            lane.cut()
        until = monotonic() + _JOIN_S
        for lane in self._lanes:
            lane.join(max(0.0, until - monotonic()))
        _live.discard(self)
        _started.discard(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Sender of {self.outbox.path} to {self.link.name}>"

    # What a lane does

    def _greet(self, connection: Connection, own: list[str]) -> None:
        """Connect, and learn where the server is before anything is sent.

        A stream that another lane has under way is left to that one: its answer may be newer.
        """
        connection.open()
        outbox = self.outbox
        box = outbox.box
        taken = self._desk.take_idle(outbox.lines())
        try:
            marks = connection.ask("GET", ("origin", box)).body
            if self._desk.is_closing:
                return  # another sender may have the outbox by now
            if not isinstance(marks, dict):
                raise ProtocolError("the answer to the question for the marks has none")
            unknown = marks.keys() - {*own, *taken}
            forked: list[str] = []
            for stream in [*own, *taken, *unknown]:
                if outbox.box != box:
                    return
                if stream in unknown and stream in outbox.lines():
                    continue  # another lane has it, and hears of it
                mark = read_mark(marks.get(stream, {"sequence": 0}))
                if self._learn(Said(stream, mark), went_back=True):
                    forked.append(stream)
            if forked and outbox.box == box:  # what the server has of the others is known by now
                self._fork(forked)
                return
        finally:
            self._desk.release(taken)
        if not own:  # else the request that follows says whether all is well
            self._succeeded()

    def _send(self, connection: Connection, streams: list[str]) -> None:
        """One request with what is due of *streams*; those that are not in it are let go at once.

        A large row goes alone, since the pieces of its payload take long.
        """
        how = self._compressions.get(streams[0], self._compression)
        alike = [name for name in streams if self._compressions.get(name, self._compression) == how]
        entries, size = self._entries_max, bounds.sender_bytes_max
        box, taken = self.outbox.take(alike, limit=entries, bytes_max=size)
        if not taken:
            return
        rows = fitting(taken, size)
        first = next(iter(rows))  # it has waited longest
        is_upload = is_large(rows[first][0]) and self._uploads.acquire(blocking=False)
        try:
            if is_upload:
                rows = {first: rows[first]}
            else:
                if is_large(rows[first][0]):
                    self._desk.rest(first, _UPLOAD_REST_S)  # one lane is kept for the others
                rows = {name: found for name, found in rows.items() if not is_large(found[0])}
            others = [name for name in streams if name not in rows]
            streams[:] = rows
            self._desk.give_back(others)
            if rows:
                self._post(connection, box, rows, how)
        finally:
            if is_upload:
                self._uploads.release()

    def _post(self, connection: Connection, box: str, rows: dict[str, list[Row]], how: str) -> None:
        try:
            more = {
                (row.stream, row.sequence): payload_members(self.outbox, row, connection)
                for of_stream in rows.values()
                for row in of_stream
                if row.payload_bytes
            }
        except UsageError:  # dropped meanwhile: there is a skip in its place
            self._desk.news()
            return
        if self.outbox.box != box:
            return
        parcel = pack(box, rows, more)
        self._fates.sending(box, parcel.all_rows)
        body, headers = self._compressor.pack(parcel.body, how)
        crash_point("before request")
        try:
            answer = connection.ask("POST", ("drop",), body, params={"only": "id"}, headers=headers)
        except PlatformError as error:
            if error.status == 415 and self._compressor.refuse(headers):
                self._desk.news()
            else:
                self._refused(parcel, error)
            return
        except TransportError as error:
            self.outbox.failed(parcel.all_rows, str(error))
            raise
        crash_point("after answer")
        self._entries_max = min(bounds.sender_entries_max, self._entries_max * 2)
        for one in parcel.read(answer):
            if self.outbox.box != parcel.box:  # another lane has found a fork: all this is old
                return
            if self._learn(one, went_back=one.expected):
                connection.close()  # all marks are asked for before the fork is made
                self._desk.rest(one.stream)  # and if they say otherwise, this is no busy loop
                return
        self._succeeded()

    def _learn(self, said: Said, *, went_back: bool) -> bool:
        """Believe the mark, then see to what was refused; True if this file is a copy."""
        outbox, stream, mark = self.outbox, said.stream, said.mark
        self._fates.note(stream)
        learned = outbox.learn(
            stream, mark.sequence, mark.message, went_back=went_back, forks=False
        )
        if learned.kind == "forked":
            return True
        if learned.kind == "rewound":
            lost = "nothing is missing"
            if learned.hole:
                lost = f"{learned.hole[0]} to {learned.hole[1]} of stream {stream} are missing"
            self._say("restored", f"the server went back to an earlier state: {lost}")
            self._desk.drain()
        if said.row is not None and said.status != 409:
            self._refuse(said, said.row)
        elif said.row is not None and learned.kind == "nothing":
            self._rest(stream, said)  # the server awaits what we do not have: do not press it
        elif learned.kind != "nothing" or not went_back:  # a greeting alone is no success
            self._desk.calm(stream)
        self._desk.progress()
        return False

    def _fork(self, streams: list[str]) -> None:
        self.outbox.fork(f"the server's marks of {', '.join(streams)[:200]} are not of this file")
        self._say("forked", f"the file is a copy, or was put back: its box is {self.outbox.box}")
        self._desk.fresh_start()

    def _refuse(self, said: Said, row: Row) -> None:
        text = "; ".join(said.errors) or f"status {said.status}"
        if said.is_for_good:
            if row.sequence == said.mark.sequence + 1:
                self.outbox.bury(row, text)
                self._say("dead", f"{row.sequence} of stream {said.stream} was refused: {text}")
            return
        self.outbox.failed([row], text)
        times = self._rest(said.stream, said)
        path = str(json.loads(row.entry or b"{}").get("path"))
        if said.status == 404 and self._on_missing is not None and self._on_missing(path):
            if times == 1:  # should it be missing again, it is asked for with pauses
                self._desk.again(said.stream)
            return
        self._tell("refused", f"stream {said.stream} waits: {text}")

    def _rest(self, stream: str, said: Said) -> int:
        self._error = f"stream {stream}: {'; '.join(said.errors)}"
        return self._desk.rest(stream)

    def _refused(self, parcel: Parcel, error: PlatformError) -> None:
        """The request as a whole was refused; nothing of it was done."""
        if error.status not in (400, 413):
            self.outbox.failed(parcel.all_rows, str(error))
            raise error
        if parcel.count > 1:
            self._entries_max = max(1, parcel.count // 4)
            self._desk.news()
            return
        (row,) = parcel.all_rows
        if row.skip is None:
            self.outbox.bury(row, str(error))
            self._say("dead", f"{row.sequence} of stream {row.stream} was refused: {error}")
            self._desk.progress()
            return
        raise error

    # How it goes

    def _stumble(self, error: Exception) -> None:
        """A request failed: all lanes pause, for longer each time."""
        if self._desk.is_closing:
            return
        asked_s = getattr(error, "retry_after_s", None)
        refused = isinstance(error, PlatformError) and error.status in (401, 403)
        self._error = str(error)
        if refused and self._renewed() and not self._has_renewed:
            self._has_renewed = True  # a new credential that is refused, too, waits like all else
            self._desk.news()
            return
        pause_s = self._desk.pause(asked_s)
        if self._online is not False:
            self._online = False
            self._tell("offline", f"{error}; the next try is in {pause_s:.1f} s")
        else:
            _log.debug("still offline: %s", error)

    def _renewed(self) -> bool:
        try:
            return bool(self._on_refused and self._on_refused())
        except FlowKitError as error:
            self._error = str(error)
            return False

    def _succeeded(self) -> None:
        self._desk.resume()
        self._has_renewed = False
        if self._online is not True:
            self._online = True
            self._tell("online", f"{self.link.name} answers")
        if not self._desk.is_resting:
            self._error = ""

    def _tell(self, word: str, text: str) -> None:
        level = logging.INFO if word == "online" else logging.WARNING
        _log.log(level, "%s: %s: %s", self.outbox.path, word, text)
        self._say(word, text)

    def _say(self, word: str, text: str) -> None:
        """Tell the listener; the outbox has written its own line into the log."""
        if self._on_event is not None:
            try:
                self._on_event(word, text)
            except Exception:  # noqa: BLE001 - what a listener does wrong must not stop the sending
                _log.exception("a listener failed at %r", word)

    def turn(self) -> bool:
        """Do one thing in the caller's thread, without waiting for anything to become due.

        For programs that want no threads: make the sender with ``start=False`` and call this from
        their own loop, in one thread. A failure is no error here either; see ``state``.

        Returns:
            whether there was anything to do.
        """
        if self._own_connection is None:
            self._own_connection = self.link.connection()
        return self.work(self._own_connection, waits=False)

    def work(self, connection: Connection, *, waits: bool = True) -> bool:
        """One turn of a lane: greet, or send what is due; False once it has to end."""
        taken = self._desk.take(waits=waits)
        if taken is None:
            return False
        try:
            if not connection.is_open or not taken:
                self._greet(connection, taken)
            if taken:
                self._send(connection, taken)
        except FlowKitError as error:
            connection.close()
            if self.outbox.is_closed:
                self._desk.close()
            self._stumble(error)
        except Exception as error:  # noqa: BLE001 - a lane that died would end all sending
            connection.close()
            _log.exception("sending failed")
            self._stumble(error)
        finally:
            self._desk.release(taken)
        return True


@atexit.register
def _stop_all() -> None:
    """The lanes end before the interpreter does; what is queued stays in its file."""
    for sender in list(_live):
        sender._stop()


def _forked() -> None:
    """In a forked child nothing is sent: file, connections and threads are the parent's."""
    _live.clear()
    _started.clear()


os.register_at_fork(after_in_child=_forked)
