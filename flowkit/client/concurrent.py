"""``api.async_()`` and ``api.lazy()``: the two ways to make calls side by side.

Both offer the services of the API with the same verbs. An ``AsyncCalls`` answers each call with
its green thread and has ``results()``; a ``LazyCalls`` answers with a ``GreenThunk`` and can be
entered: inside ``with api.lazy() as graph:`` look-ups in thunks do not wait either.

What one call is, where it runs and the bound on the wire: ``parallel.py``.

Source: the manual of the first client ("Asynchronous and Parallel Requests"), protocol 13.2
(defects 57 to 65).
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator, Sequence
from typing import Any, Self, overload

from flowkit import green
from flowkit.client.mirror import calls_of, names_of
from flowkit.client.parallel import (
    ParallelCall,
    Verb,
    slots_of,
    start_all,
    start_here,
    stop_all,
)
from flowkit.client.thunk import GreenThunk, Mode
from flowkit.client.waves import Explained, Phase, Waves, is_reading
from flowkit.errors import UsageError

__all__ = ["AsyncCalls", "LazyCalls", "Results"]


class Results(Sequence[Any]):
    """The values of a batch of calls, in the order in which they were made.

    A place whose call failed raises that call's own error, as a fresh copy each time; the other
    places are not touched by it, and an iteration can go on after it::

        results = iter(calls.results())
        first = next(results)  # raises
        second = next(results)

    ``==`` compares the values with those of any list, tuple or ``Results``. All calls have ended.
    """

    __slots__ = ("_calls",)

    def __init__(self, calls: Sequence[ParallelCall]) -> None:
        self._calls = tuple(calls)

    def __len__(self) -> int:
        return len(self._calls)

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> Results: ...
    def __getitem__(self, index: int | slice) -> Any:
        found = self._calls[index]
        return Results(found) if isinstance(found, tuple) else found.value()

    def __iter__(self) -> Iterator[Any]:
        # No generator: that would be over after the first error.
        return map(ParallelCall.value, self._calls)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Results):
            return list(self) == list(other)
        if isinstance(other, list | tuple):
            return len(self) == len(other) and list(self) == list(other)
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]  # equal to lists, which have none

    def __repr__(self) -> str:
        pairs = (call.cell.outcome() for call in self._calls)
        return f"Results([{', '.join(_shown(error, value) for error, value in pairs)}])"


def _shown(error: BaseException | None, value: object) -> str:
    return repr(value) if error is None else f"<{type(error).__name__}: {error}>"


class AsyncCalls:
    """Calls that are made at once, and waited for together.

    ``calls = api.async_()``; then ``calls.flow.find(…)``, ``calls.drop(flow).create(…)``,
    ``calls.statistics…``, ``calls.request(…)`` and every added service, with the arguments of the
    plain call. Each answers its green thread (gevent's ``Greenlet``) at once: ``get()``,
    ``ready()``, ``value``, ``join()``, ``kill()``. Making a call never waits, not
    for the bound either.

    ``results()`` and ``outcomes()`` speak of the **batch**: the calls made since the last batch was
    taken, or that batch again if there were none since. So the same results can be asked for again
    and again, and the next call begins a new batch.

    As a context manager it leaves nothing running: the end of the block waits for all its calls; an
    error in the block stops those that have not ended.

    Args:
        api: the plain API.
        pool: how many requests may be on the wire at once: a number, or a pool whose ``size`` gives
            it; without one ``limits.requests_in_flight_default``.
        batch: whether reads that are pending together are sent as one request (``waves``).
    """

    def __init__(self, api: Any, pool: Any = None, *, batch: bool = False) -> None:
        self._api = api
        self._slots = slots_of(pool)
        self._waves = Waves(self._slots) if batch else None
        self._lock = green.NativeLock()
        self._queued: list[ParallelCall] = []
        self._taken: list[ParallelCall] = []
        self._blocks: list[list[ParallelCall]] = []

    def __getattr__(self, name: str) -> Any:
        return calls_of(self._api, name, self._make)

    def __dir__(self) -> list[str]:
        return [*object.__dir__(self), *names_of(self._api)]

    def _make(self, verb: Verb, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        waves = self._waves if verb.goes_over_api else None
        call = ParallelCall(verb, args, kwargs, self._slots, waves=waves)
        start_here(call)
        with self._lock:
            self._queued.append(call)
            for block in self._blocks:
                block.append(call)
        return call.task

    def results(self, with_exceptions: bool = False) -> Sequence[Any]:
        """Wait for all calls of the batch; their values, in the order in which they were made.

        Args:
            with_exceptions: answer ``(error, value)`` pairs, as ``outcomes`` does.

        Returns:
            ``Results``: a sequence, equal to a list of the values. A failed call raises its own
            error at its place, whatever its class; the rest stays readable.
        """
        if with_exceptions:
            return self.outcomes()
        return Results(self._batch())

    def outcomes(self) -> list[tuple[BaseException | None, Any]]:
        """Wait for all calls of the batch; a pair ``(error, value)`` each, in the order of making.

        The error is None for a call that succeeded; the value is None for one that failed.
        """
        pairs = []
        for call in self._batch():
            error, value = call.cell.outcome()
            pairs.append((call.error() if error is not None else None, value))
        return pairs

    def _batch(self) -> list[ParallelCall]:
        with self._lock:
            if self._queued:
                self._taken, self._queued = self._queued, []
            batch = self._taken
        for call in batch:
            call.wait()
        return batch

    def __enter__(self) -> Self:
        with self._lock:
            self._blocks.append([])
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        with self._lock:
            calls = self._blocks.pop()
        _end_block(calls, failed=kind is not None, in_loop=False)

    def __repr__(self) -> str:
        return f"<async calls of {self._api!r}>"


class LazyCalls:
    """Calls that answer a thunk at once, and wait when the answer is read.

    ``lazy = api.lazy()``; then ``flow = lazy.flow.find(…)`` and so on, as with ``AsyncCalls``. A
    thunk may be passed to other calls (``lazy.drop(flow[0]["id"])``, in filters, in models): that
    call begins when it is known.

    As a context manager it builds without waiting::

        with api.lazy() as graph:
            for path in paths:
                flow = graph.flow.find(mem.path == path)
                found[path] = graph.drop(flow[0]["id"]).find(limit=10)

    Inside the block ``thunk[key]`` and ``thunk[i:j]`` of all thunks that came from *this* object,
    and of those looked up in them, answer a new thunk at once. Every other reading waits there too
    (iteration must know how many entries there are). The end of the block waits for all calls made
    in it, and raises none of their errors: each is raised where its thunk is read. An error in the
    block stops the calls that have not ended. A block is open once at a time; afterwards
    ``thunk[key]`` waits and answers the plain value.

    Reads that are pending together go out as few requests (``waves``): they begin when somebody
    waits for one of them, at the next turn of the maker's event loop, or before the next write,
    whichever is first. A read never moves across a write: a write goes out when all reads made
    before it are answered, and reads made after it wait for its answer.

    Args:
        api: the plain API.
        pool: as for ``AsyncCalls``.
        batch: False: every call begins at once and is a request of its own, in no order.
    """

    def __init__(self, api: Any, pool: Any = None, *, batch: bool = True) -> None:
        self._api = api
        self._mode = Mode()
        self._pool = pool
        self._is_batching = batch
        self._begin_anew()
        _lazies.add(self)
        self._block: list[ParallelCall] | None = None
        # In a patched process no thread blocks its hub: there calls stay in the caller's.
        self._in_loop = not (green.eventlet_patched() or "socket" in green.patched())

    def _begin_anew(self) -> None:
        """Nothing was called; in a forked child, where calls under way are the parent's, too."""
        self._slots = slots_of(self._pool)
        self._waves = Waves(self._slots) if self._is_batching else None
        self._due: list[ParallelCall] = []
        self._is_called = False
        self._phase = Phase(False, None)
        self._lock = green.NativeLock()

    def __getattr__(self, name: str) -> Any:
        return calls_of(self._api, name, self._make)

    def __dir__(self) -> list[str]:
        return [*object.__dir__(self), *names_of(self._api)]

    def _make(self, verb: Verb, args: tuple[Any, ...], kwargs: dict[str, Any]) -> GreenThunk:
        waves = self._waves if verb.goes_over_api else None
        call = ParallelCall(verb, args, kwargs, self._slots, waves=waves)
        call.cell = green.Cell()
        call.mode = self._mode
        if not self._in_loop:
            call.crew = green.crew()
        with self._lock:
            if self._block is not None:
                self._block.append(call)
        if self._waves is None:
            start_all([call], in_loop=self._in_loop)
        else:
            self._add(call, writes=not is_reading(verb.told, args))
        return GreenThunk(call)

    def _add(self, call: ParallelCall, *, writes: bool) -> None:
        """Let *call* wait for others, behind what was made before it."""
        with self._lock:
            if self._phase.writes is not writes:
                self._phase.end()
                self._phase = Phase(writes, self._phase.over)
            self._phase.add(call)
            call.begin = self._begin
            self._due.append(call)
        if writes:
            self._begin()
        elif not self._is_called and green.has_hub():
            self._is_called = True
            green.spawn(self._begin)  # at the next turn of the loop

    def _begin(self) -> None:
        """Begin everything that waits for others, in one step."""
        with self._lock:
            self._is_called = False
            due, self._due = self._due, []
            for call in due:
                call.begin = None
        if due:
            start_all(due, in_loop=self._in_loop)

    def settle(self, timeout_s: float) -> None:
        """Wait until every read that was made so far has ended, at most *timeout_s* seconds."""
        with self._lock:
            phase = self._phase
            if phase.writes or phase.is_empty:
                reads_over = phase.after
            else:
                phase.end()
                self._phase = Phase(False, phase.over)
                reads_over = phase.over
        self._begin()
        if reads_over is not None:
            reads_over.wait(timeout_s)

    def explain(self) -> Explained:
        """What was asked and sent so far, wave by wave; as text a small picture."""
        return Explained(list(self._waves.log) if self._waves is not None else [])

    def __enter__(self) -> Self:
        with self._lock:
            if self._block is not None:
                raise UsageError(
                    "the block of this api.lazy() is open already",
                    hint="give the inner block an api.lazy() of its own",
                )
            self._block = []
            self._mode.is_building = True
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        with self._lock:
            calls, self._block = self._block or [], None
            self._mode.is_building = False
        _end_block(calls, failed=kind is not None, in_loop=self._in_loop)

    def __repr__(self) -> str:
        return f"<lazy calls of {self._api!r}>"


_lazies: weakref.WeakSet[LazyCalls] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for lazy in list(_lazies):
        lazy._begin_anew()


os.register_at_fork(after_in_child=_after_fork_in_child)


def _end_block(calls: list[ParallelCall], *, failed: bool, in_loop: bool) -> None:
    """Wait for *calls*, or stop them if the block failed or the waiting is interrupted."""
    if failed:
        stop_all(calls, in_loop=in_loop)
        return
    try:
        for call in calls:
            call.wait()
    except BaseException:
        stop_all(calls, in_loop=in_loop)
        raise
