"""Calls that run side by side: what one such call is, where it runs, and how many are on the wire.

Rules of this module:

* Making a call never waits. Its arguments are kept as they are (``arguments.kept``) and the plain
  service method runs in a green thread, after the thunks among the arguments are known.
* A lazy call gets a green thread when it can run, and shares it with the calls before and after it
  (``green.Crew``): nobody sees it.
* The bound counts requests on the wire: a slot is taken when the arguments are known and given back
  with the answer. A call never holds one while it waits for another call, so no bound can make
  calls that depend on one another wait for each other.
* Nothing is printed for a call that fails; its error is kept for whoever reads the outcome.
* ``async_()`` calls are green threads of the thread that makes them. ``lazy()`` calls run in a
  thread of our own with its own hub (``loop``), so that any thread may block while it reads a
  thunk; in a process that gevent or eventlet has patched they run in their maker's hub, for
  there no thread ever blocks the others.

Source: protocol 13.2, defects 57 to 61.
"""

from __future__ import annotations

import math
import operator
import os
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from flowkit import green, limits
from flowkit.client.arguments import kept, origin, plain
from flowkit.client.calls import Door, Later, Result, sender
from flowkit.client.faults import fresh
from flowkit.client.thunk import UNKNOWN, Mode
from flowkit.errors import Cancelled, UsageError

if TYPE_CHECKING:
    from flowkit.client.waves import Waves

__all__ = [
    "ParallelCall",
    "Verb",
    "slots_of",
    "start_here",
    "start_all",
    "stop_all",
]

Method = Callable[..., Any]

_LOOK_S = 0.005
"""How often a stopped call is looked at, whether it has let go."""


@dataclass(frozen=True, slots=True)
class Verb:
    """What can be called.

    Attributes:
        told: it in words, for example ``"flow.find"``.
        method: gives the plain method; called in the green thread.
        goes_over_api: whether all its requests go through ``api.call``, so that they can be carried
            together with those of others.
        thunks: what ``method`` waits for.
    """

    told: str
    method: Callable[[], Method]
    goes_over_api: bool
    thunks: Sequence[Any] = ()


class ParallelCall:
    """One call under way: its outcome, and what an error says about it. The source of a thunk.

    Args:
        verb: what is called.
        args, kwargs: its arguments, kept.
        slots: the bound; None for none.
        waves: what carries its requests; None: the door, each by itself.

    Attributes:
        told: the call in words.
        cell: its outcome. Set when it is begun.
        after: when it may go to the wire; None: at once.
        begin: begins it and all that wait with it; None once that was called.
        task: the green thread of an ``async_()`` call, for its maker.
        crew, worker: who does it, of a lazy call; see ``green.Job``.
        thunks: what it needs before it can run, as far as that is known.
        where: ``file:line`` of the call.
        known, mode: see ``thunk.Source``; the mode is given by lazy calls.
    """

    __slots__ = (
        "_args",
        "_kwargs",
        "_later",
        "_method",
        "_process",
        "_slots",
        "_waves",
        "after",
        "begin",
        "cell",
        "crew",
        "known",
        "mode",
        "task",
        "thunks",
        "told",
        "where",
        "worker",
    )

    def __init__(
        self,
        verb: Verb,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        slots: green.Slots | None,
        *,
        waves: Waves | None = None,
    ) -> None:
        self.told = verb.told
        self.where = origin()
        self.cell: green.Cell[Any]
        self.known: Any = UNKNOWN
        self.mode: Mode
        self.task: Any = None
        self.crew: green.Crew | None = None
        self.worker: Any = None
        self.thunks = list(verb.thunks)
        self._method = verb.method
        self._args = kept(args, self.thunks)
        self._kwargs = kept(kwargs, self.thunks)
        self._slots = slots
        self._waves = waves
        self._later: Later | None = None
        self._process = os.getpid()
        self.after: green.Cell[None] | None = None
        self.begin: Callable[[], object] | None = None

    def answer(self) -> Any:
        """Make the call; runs once, in a green thread. The outcome is in ``cell`` too."""
        try:
            value = self._made()
        except (Exception, green.Expired) as error:
            self.cell.fail(error)
            raise
        except BaseException:
            self.cell.fail(Cancelled(f"{self.told}, called at {self.where}, was stopped"))
            raise
        finally:
            self._forget()
        if type(value) is Later:
            self._later = value
            value.cell.on_ready(self._take)
        else:
            self.cell.set(value)
        return value

    def _forget(self) -> None:
        """Keep nothing of what was asked for."""
        del self._method, self._args, self._kwargs, self.thunks

    def _take(self, answer: green.Cell[Result]) -> None:
        """Take the answer to the tail of the call."""
        later, self._later = self._later, None
        assert later is not None
        try:
            self.cell.set(later.value(answer.get()))
        except Exception as error:  # noqa: BLE001 - it is the outcome
            self.cell.fail(error)

    def give_up(self) -> None:
        """Nobody wants the answer to its tail any more."""
        if self._later is not None:
            self._later.give_up()

    def needed(self) -> list[green.Cell[Any]]:
        """What must be known before it can run; makes that begin which has not."""
        sources = [thunk._flowkit_source for thunk in self.thunks]
        for source in sources:
            source.hurry()
        cells = [call.cell for source in sources for call in source.calls()]
        return cells if self.after is None else [*cells, self.after]

    def run(self) -> None:
        """Make the call, as a job of a crew: its outcome is in ``cell`` only."""
        if self.cell.is_ready:  # it was stopped meanwhile
            self._forget()
            return
        with suppress(Exception):
            self.answer()

    def _made(self) -> Any:
        args, kwargs = plain(self._args), plain(self._kwargs)
        if self.after is not None:
            self.after.wait()
        if self._waves is not None:
            return self._made_in_waves(self._waves, args, kwargs)
        sender.set(Door.send)  # it says: this is no plain call of the user
        method = self._method()
        if self._slots is None:
            return method(*args, **kwargs)
        with self._slots:
            return method(*args, **kwargs)

    def _made_in_waves(self, waves: Waves, args: Any, kwargs: Any) -> Any:
        sender.set(waves.sending(self.told))
        method = self._method()
        if self.task is not None or not ends_with_its_call(method):
            return method(*args, **kwargs)
        given: list[Later] = []
        sender.set(waves.sending(self.told, given))
        try:
            value = method(*args, **kwargs)
        except Exception:
            if not given:
                raise
        else:
            if not given or (len(given) == 1 and value is given[0]):
                return value
        # Somebody else was given one and looked at it, an argument that asks by itself: once more,
        # and wait.
        for later in given:
            later.give_up()
        sender.set(waves.sending(self.told))
        return method(*args, **kwargs)

    # What a thunk asks of its source

    def calls(self) -> Iterator[ParallelCall]:
        """Itself."""
        yield self

    @property
    def is_ready(self) -> bool:
        """Whether it has ended; never waits."""
        return self.cell.is_ready

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until it has ended, at most *timeout_s* seconds; whether it has."""
        self.hurry()
        return self.cell.wait(timeout_s)

    def hurry(self) -> None:
        """Somebody asks for the answer: what has not begun begins."""
        if self._process != os.getpid() and not self.cell.is_ready:
            told = f"{self.told}, called at {self.where}, was made before this process was forked"
            self.cell.fail(Cancelled(told))
            return
        begin = self.begin  # another thread may be beginning it just now
        if begin is not None:
            begin()

    def error(self) -> BaseException | None:
        """Wait, then a fresh copy of its error, or None."""
        self.hurry()
        error, _ = self.cell.outcome()
        return None if error is None else fresh(error, self.told, self.where)

    def value(self) -> Any:
        """Wait, then its value; a failed call raises a fresh copy of its error."""
        self.hurry()
        error, value = self.cell.outcome()
        if error is not None:
            raise fresh(error, self.told, self.where)
        return value

    def describe(self) -> str:
        """The call and its line."""
        return f"{self.told}(…) at {self.where}"


def ends_with_its_call(method: Method) -> bool:
    """Whether *method* is a verb that returns the answer of its last call and does not look at it;
    then no green thread has to wait for that. The service knows (``services.Grants``).
    """
    service = getattr(method, "__self__", None)
    knows = getattr(type(service), "_ends_with_its_call", None)
    return knows is not None and bool(knows(service, getattr(method, "__name__", None)))


# Where calls run


loop = green.SharedLoop("flowkit-lazy")
"""The thread of all lazy calls of the process."""


def _begin(calls: Sequence[ParallelCall]) -> None:
    here = green.crew()
    for call in calls:
        call.crew = call.crew or here
        try:
            green.when_ready(call.needed(), partial(call.crew.add, call))
        except Exception as error:  # noqa: BLE001 - its maker must not wait for ever
            call.cell.fail(error)


def start_all(calls: Sequence[ParallelCall], *, in_loop: bool) -> None:
    """Begin *calls* in one step, in the library's own thread or with the crews that they have."""
    if not in_loop:
        green.in_turn(_begin, calls)
    elif not loop.get().post(_begin, calls):
        for call in calls:
            call.cell.fail(UsageError("lazy calls have ended, for the process ends"))


def start_here(call: ParallelCall) -> None:
    """Begin *call* in a green thread of the calling thread, which is ``call.task``."""
    call.task = green.spawn(call.answer)
    call.cell = call.task.cell  # so that a task killed from outside ends the call


def stop_all(calls: list[ParallelCall], *, in_loop: bool) -> None:
    """Stop those of *calls* that have not ended, and wait until they have let go of the wire.

    Their outcome is ``Cancelled``. Waits at most ``limits.cancel_timeout_s``.
    """
    left = [call for call in calls if not call.is_ready]
    for call in left:
        call.cell.fail(Cancelled(f"{call.told}, called at {call.where}, was stopped"))
    ended: green.Cell[None] = green.Cell()
    if not left:
        return
    if in_loop:
        loop.get().post(_end, left, ended)
    else:
        _end(left, ended)
    ended.wait(limits.cancel_timeout_s)


def _end(calls: list[ParallelCall], ended: green.Cell[None]) -> None:
    """Break *calls* off."""
    by_crew: dict[green.Crew, list[ParallelCall]] = {}
    for call in calls:
        call.give_up()
        if call.task is not None:
            call.task.kill(block=False)
        if call.crew is not None:
            by_crew.setdefault(call.crew, []).append(call)
    for crew, theirs in by_crew.items():
        crew.stop(theirs)
    green.spawn(_wait_for_end, calls, ended)


def _wait_for_end(calls: list[ParallelCall], ended: green.Cell[None]) -> None:
    until = green.monotonic() + limits.cancel_timeout_s
    for call in calls:
        if call.task is not None:
            call.task.join(limits.cancel_timeout_s)
        while call.worker is not None and green.monotonic() < until:
            green.sleep(_LOOK_S)
    ended.set(None)


# How many are on the wire

_slots_of_pools: weakref.WeakKeyDictionary[Any, green.Slots | None] = weakref.WeakKeyDictionary()

os.register_at_fork(after_in_child=_slots_of_pools.clear)  # those in use are the parent's


def slots_of(pool: Any) -> green.Slots | None:
    """The bound that *pool* stands for.

    Args:
        pool: a whole number; anything with a ``size`` (``gevent.pool.Pool``,
            ``eventlet.GreenPool``: only its size counts, and all calls that are given the same pool
            share one bound; a size of None is no bound); None for
            ``limits.requests_in_flight_default``.

    Raises:
        UsageError: anything else, or a size below 1.
    """
    if pool is None:
        return green.Slots(limits.requests_in_flight_default)
    if hasattr(pool, "__index__") and not isinstance(pool, bool):
        return green.Slots(operator.index(pool))  # before the size: a number of numpy has one
    if not hasattr(pool, "size"):
        raise UsageError(
            f"a pool is a number or has a size, not {type(pool).__name__}",
            hint="api.lazy(8) or api.lazy(gevent.pool.Pool(8))",
        )
    if pool not in _slots_of_pools:
        has_bound = pool.size is not None and pool.size != math.inf
        _slots_of_pools[pool] = green.Slots(int(pool.size)) if has_bound else None
    return _slots_of_pools[pool]
