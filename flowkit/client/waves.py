"""Waves: reads of parallel calls that are pending together and sent as one.

A read of a lazy call does not go to the wire by itself: it is put into the wave of its event loop,
and waits. The wave closes at the next turn of the loop, when every call that could run has run; so
it costs no timer. What it is sent as: ``batching``.

Source: protocol 3.5 (MGET, batch).
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from flowkit import green, limits
from flowkit.client.arguments import is_thunk
from flowkit.client.batching import (
    Ask,
    Batch,
    Entry,
    batches,
    can_be_combined,
    entries_of,
)
from flowkit.client.calls import Call, Door, Later, Result, Send
from flowkit.client.credentials import Token
from flowkit.errors import Cancelled, FlowKitError, PlatformError, TransportError
from flowkit.protocol.envelope import Answer, Request

__all__ = ["Explained", "Phase", "Sent", "Wave", "Waves", "is_reading"]


@dataclass(slots=True)
class Sent:
    """One request that went out.

    Attributes:
        request: method and address below the account.
        reads: how many calls it answered.
        took_s: seconds until its answer.
    """

    request: str
    reads: int
    took_s: float = 0.0


@dataclass(slots=True)
class Wave:
    """What was pending together.

    Attributes:
        asked: how many calls of which kind, by their names in words.
        sent: what went out for them.
    """

    asked: Counter[str]
    sent: list[Sent] = field(default_factory=list)


class Explained:
    """The waves of an ``api.lazy()``: a list of them, and as text a picture.

    Attributes:
        waves: in the order in which they closed.
    """

    def __init__(self, waves: list[Wave]) -> None:
        self.waves = waves

    @property
    def requests(self) -> int:
        """How many requests went out."""
        return sum(len(wave.sent) for wave in self.waves)

    def __repr__(self) -> str:
        if not self.waves:
            return "nothing was sent in waves yet"
        rows = [_row(number, wave) for number, wave in enumerate(_joined(self.waves), 1)]
        width = max(len(asked) for asked, _ in rows)
        lines = [f"{asked:<{width}}  ->  {sent}" for asked, sent in rows]
        return "\n   |\n".join(lines)


def _joined(waves: list[Wave]) -> list[Wave]:
    """The rows of the picture: calls of one kind that went out by themselves, in a row, are one."""
    rows: list[Wave] = []
    for wave in waves:
        if rows and len(wave.sent) == 1 == sum(wave.asked.values()) and _alike(rows[-1], wave):
            rows[-1] = Wave(rows[-1].asked + wave.asked, rows[-1].sent + wave.sent)
        else:
            rows.append(wave)
    return rows


def _alike(row: Wave, wave: Wave) -> bool:
    is_single = len(row.sent) == sum(row.asked.values())
    return is_single and row.asked.keys() == wave.asked.keys()


def _row(number: int, wave: Wave) -> tuple[str, str]:
    asked = ", ".join(f"{count:,} {told}" for told, count in wave.asked.items())
    kinds: Counter[str] = Counter(sent.request for sent in wave.sent)
    if len(kinds) > _KINDS_MAX:
        kinds = Counter(f"{sent.request.rpartition('/')[0]}/…" for sent in wave.sent)
    sent = ", ".join(request if n == 1 else f"{n:,} x {request}" for request, n in kinds.items())
    took_ms = max((sent.took_s for sent in wave.sent), default=0.0) * 1e3
    return f"{number:>2}  {asked}", f"{sent}  {took_ms:.1f} ms"


_KINDS_MAX = 3


class Phase:
    """Calls of one kind, reads or writes, that were made with none of the other kind between them.

    Args:
        writes: which kind.
        after: when the phase before is over; None: there is none.

    Attributes:
        after: as given.
        is_empty: whether no call was made yet.
        over: set when it has ended and all its calls have, and all phases before it.
    """

    __slots__ = ("_left", "_lock", "after", "is_empty", "over", "writes")

    def __init__(self, writes: bool, after: green.Cell[None] | None) -> None:
        self.writes = writes
        self.over: green.Cell[None] = green.Cell()
        self.after = after
        self.is_empty = True
        self._left = 1  # one for the phase itself, until ``end``
        self._lock = green.NativeLock()
        if after is not None:  # a call may fail before its turn has come
            self._left += 1
            after.on_ready(self._one_less)

    def add(self, call: Any) -> None:
        """One more call."""
        call.after = self.after
        self.is_empty = False
        with self._lock:
            self._left += 1
        call.cell.on_ready(self._one_less)

    def end(self) -> None:
        """No other call comes."""
        self._one_less(None)

    def _one_less(self, _: object) -> None:
        with self._lock:
            self._left -= 1
            is_over = not self._left
        if is_over:
            green.in_turn(self.over.set, None)  # the next phase may have ended, too


_READING = frozenset({"read", "read_or_else", "read_many", "find", "find_many", "find_in"})
_READING_TOO = frozenset({"drop.aggregate", "track.simulate", "track.backtest", "root.get"})


def is_reading(told: str, args: tuple[Any, ...]) -> bool:
    """Whether a call, by its name in words, changes nothing; one that is not known may."""
    service, _, verb = told.partition(".")
    if told == "request":
        method = args[0] if args and not is_thunk(args[0]) else None
        return isinstance(method, str) and method.upper() in ("GET", "MGET")
    return verb in _READING or told in _READING_TOO or service == "statistics"


class _Waiting:
    """A call that waits for its wave."""

    __slots__ = ("ask", "cell")

    def __init__(self, ask: Ask) -> None:
        self.ask = ask
        self.cell: green.Cell[Result] = green.Cell()


class _Pending:
    """A wave that is being filled, of one credential and one time."""

    def __init__(self, door: Door, creds: Token, timeout_s: float | None) -> None:
        self.door = door
        self.creds = creds
        self.timeout_s = timeout_s
        self.waiting: list[_Waiting] = []
        self.wanted = 0
        self.closing: Any = None
        self.tasks: list[Any] = []
        self.wave = Wave(Counter())

    def add(self, waiting: _Waiting) -> None:
        """One more that waits."""
        self.waiting.append(waiting)
        self.wanted += 1
        waiting.cell.on_ready(self._one_less)

    def _one_less(self, _: object) -> None:
        self.wanted -= 1

    def give_up(self, waiting: _Waiting) -> None:
        """One of them waits no more. If nobody does, let go of the wire."""
        waiting.cell.fail(Cancelled("nobody waits for the answer any more"))
        if not self.wanted:
            for task in self.tasks:
                task.kill(block=False)


class Waves:
    """The waves of one ``api.lazy()`` or ``api.async_()``.

    Args:
        slots: the bound on requests on the wire; None for none.

    Attributes:
        log: the waves so far, the newest ``limits.waves_kept_max`` of them.
    """

    def __init__(self, slots: green.Slots | None) -> None:
        self._slots: Any = nullcontext() if slots is None else slots
        self._lock = green.NativeLock()
        self._filling: dict[Any, _Pending] = {}
        self.log: list[Wave] = []

    def sending(self, told: str, given: list[Later] | None = None) -> Send:
        """What carries the requests of one call.

        Args:
            told: the call in words.
            given: takes the ``Later`` that its tail call is answered with; None: it cannot do with
                one.
        """
        return partial(self._send, told, given)

    def _send(
        self, told: str, given: list[Later] | None, door: Door, call: Call, creds: Token
    ) -> Result | Later:
        if not can_be_combined(call):
            return self._send_alone(told, door, call, creds)
        place = door.place_of(call, creds)
        waiting = _Waiting(Ask(call, door.params_of(call), told, place))
        pending = self._join(waiting, door, creds)
        if given is not None and call.is_tail:
            later = Later(waiting.cell, partial(pending.give_up, waiting))
            given.append(later)
            return later
        try:
            return waiting.cell.get()
        except BaseException:
            pending.give_up(waiting)
            raise

    def _send_alone(self, told: str, door: Door, call: Call, creds: Token) -> Result:
        wave = Wave(Counter({told: 1}))
        self._note(wave)
        with self._slots:
            return _timed(wave, call, 1, partial(door.send, call, creds))

    def _join(self, waiting: _Waiting, door: Door, creds: Token) -> _Pending:
        timeout_s = waiting.ask.call.timeout_s
        # Its own loop closes a wave: another thread's may be blocked, or gone.
        key = (green.crew(), id(door), creds, timeout_s)
        with self._lock:
            pending = self._filling.get(key)
            if pending is None:
                pending = self._filling[key] = _Pending(door, creds, timeout_s)
                # A greenlet begins at the next turn of the loop, after all that are ready now.
                pending.closing = green.spawn(self._close, key)
            pending.add(waiting)
        return pending

    def _note(self, wave: Wave) -> None:
        with self._lock:
            self.log.append(wave)
            del self.log[: -limits.waves_kept_max]

    # One wave

    def _close(self, key: Any) -> None:
        """Send what came together, and give everybody the answer."""
        crew = key[0]
        due = crew.added
        while crew.begun < due:  # calls that can run now, but had no turn yet
            green.sleep(0)
        with self._lock:
            pending = self._filling.pop(key)
        waiting = [one for one in pending.waiting if not one.cell.is_ready]
        if not waiting:  # all were given up
            return
        pending.tasks.append(pending.closing)  # not before: others could still join
        pending.wave.asked.update(one.ask.told for one in waiting)
        self._note(pending.wave)
        cells = {id(one.ask): one.cell for one in waiting}
        try:
            self._send_all(pending, entries_of([one.ask for one in waiting]), cells)
        finally:
            for cell in cells.values():  # whoever has no answer yet gets none
                cell.fail(Cancelled("the request was stopped before its answer came"))

    def _send_all(self, pending: _Pending, entries: list[Entry], cells: _Cells) -> None:
        requests = list(batches(entries, together=pending.door.has_batch))
        if len(requests) == 1:
            self._exchange(pending, requests[0], cells)
            return
        tasks = [green.spawn(self._exchange, pending, one, cells) for one in requests]
        pending.tasks += tasks
        for task in tasks:
            task.cell.wait()

    def _exchange(self, pending: _Pending, batch: Batch, cells: _Cells) -> None:
        """One request, its answers, and what has to be asked for again."""
        try:
            result, again = self._answered(pending, batch)
            for ask in batch.asks():
                _settle(ask, cells[id(ask)], result, pending)
        except Exception as error:  # noqa: BLE001 - each of the calls gets it
            for ask in batch.asks():
                cells[id(ask)].fail(_of(ask, error))
            return
        if again:
            self._send_all(pending, again, cells)

    def _answered(self, pending: _Pending, batch: Batch) -> tuple[Result | None, list[Entry]]:
        """Send *batch* and give its asks their outcomes; the result, and what is to do again."""
        door, creds, call = pending.door, pending.creds, batch.call(pending.timeout_s)
        try:
            with self._slots:
                result = _timed(pending.wave, call, batch.size, partial(door.send, call, creds))
        except PlatformError as error:
            if batch.is_joined and error.status in (404, 405):
                door.has_batch = False  # the server is one that has none: do not try again
            return None, batch.settle(error)
        return result, batch.settle(Answer(result.status, result.body, result.head))


_Cells = dict[int, "green.Cell[Result]"]


def _settle(ask: Ask, cell: green.Cell[Result], result: Result | None, pending: _Pending) -> None:
    """Give a call what its ask came to, if it came to something."""
    outcome = ask.outcome
    if outcome is None:
        return
    if isinstance(outcome, Exception):
        cell.fail(_of(ask, outcome, result))
        return
    assert result is not None
    pending.door.remark(outcome.messages, pending.creds)
    # Spelt out, for ``replace`` takes three times as long, and this is done for every call.
    elapsed_s, attempts = result.elapsed_s, result.attempts
    status, head, headers = outcome.status, outcome.head, result.headers
    cell.set(Result(outcome.body, status, head, headers, elapsed_s, attempts, result.request_id))


def _of(ask: Ask, error: Exception, result: Result | None = None) -> Exception:
    """*error* as that of one call: it names the request that the call stands for."""
    if not isinstance(error, FlowKitError):  # of a transport or a decoder that is not ours
        return error
    own = copy.copy(error)
    if isinstance(own, TransportError | PlatformError):
        own.method = ask.call.method
        own.path = Request(ask.call.method, ask.place).path
        if result is not None:
            own.attempts = result.attempts
    if isinstance(own, PlatformError) and result is not None:
        own.request_id = result.request_id
    return own


def _timed(wave: Wave, call: Call, reads: int, send: Callable[[], Result]) -> Result:
    """Send and note how long it took."""
    sent = Sent(f"{call.method} /{'/'.join(call.segments)}", reads)
    wave.sent.append(sent)
    began = green.monotonic()
    try:
        return send()
    finally:
        sent.took_s = green.monotonic() - began
