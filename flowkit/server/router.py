"""Runs the Tracks: takes the drops that wait for them, asks filter and script, writes the results.

Rules of this module:

* A drop waits in the store, from the commit that wrote it. One job of the writer stores what a
  Track makes of it **and** moves the Track's place, so a crash loses no delivery and doubles none.
* Filters and scripts run before that job, never on the writer. A Track that was changed meanwhile
  is asked again.
* Of one drop and one Track everything is written or nothing. What fails is logged and counted and
  concerns that Track alone; the writer of the drop never hears of it.
* Tracks take turns, a batch each. Those with scripts have threads of their own, so a script that
  hangs holds up no Track without one. Order within a Track is that of its source.
* Nobody is asked whether there is something to do: commits tell it. Without Tracks there are no
  threads.

Source: protocol 6.1 (life of a drop), 6.2 (failures), 6.5 (hops), 8.2 (rights at each run).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from flowkit import limits
from flowkit.errors import BadRequest, PlatformError, ServerError, UsageError
from flowkit.green import NativeLock, NativeQueue, monotonic, sleep, start_thread
from flowkit.query.match import predicate
from flowkit.query.parse import parse
from flowkit.query.places import Places
from flowkit.server import ingest
from flowkit.server.auth import Credential, credential_of, may
from flowkit.server.checking import Checked
from flowkit.server.metrics import Metrics
from flowkit.server.store.base import (
    Commit,
    Delivery,
    Reader,
    Store,
    StoredDrop,
    StoredFlow,
    StoredObject,
    Writer,
)
from flowkit.server.tracks import Output, TrackFault, destinations_of, outputs_of, passed_on

__all__ = ["Made", "Ran", "Router", "RunScript", "Writing", "make", "passes"]

_log = logging.getLogger(__name__)

CREATOR_GONE = "the creator of the Track is gone"


@dataclass(frozen=True, slots=True)
class Ran:
    """What came of one run of a script: its value, or one sentence that says what went wrong.

    Attributes:
        value: as JSON has it.
        error: None if all went well.
        log: what the script wrote to its console, entry by entry.
    """

    value: Any = None
    error: str | None = None
    log: tuple[Any, ...] = ()


RunScript = Callable[[StoredObject, StoredDrop], Ran]
"""Runs the script of a Track on a drop; never raises for a fault of the script."""


@dataclass(frozen=True, slots=True)
class Made:
    """What a Track makes of one drop.

    Attributes:
        delivery: the drop.
        outputs: what it writes; None if its filter said no.
        failure: one sentence, None if all went well.
        is_typed: whether its outputs may have typed elements (``v0.*``).
    """

    delivery: Delivery
    outputs: tuple[Output, ...] | None = None
    failure: str | None = None
    is_typed: bool = False


@dataclass(frozen=True, slots=True)
class _Batch:
    """One turn of a Track: its drops, and with whose rights it runs."""

    track: StoredObject
    who: Credential | None
    deliveries: list[Delivery]


def make(
    track: StoredObject,
    delivery: Delivery,
    *,
    now_ms: int,
    places: Places | None,
    run_script: RunScript,
) -> Made:
    """Ask a Track's filter and script about a drop; nothing is written.

    Args:
        track: stored, or proposed (``handlers/track.py`` tries Tracks that are not saved).
        delivery: the drop.
        now_ms: the time for ``AGE``, in ms since 1970 UTC.
        places: the table of postal codes.
        run_script: runs its ``js``, if it has any.
    """
    doc, drop = track.doc, delivery.drop
    try:
        if not passes(track, drop, now_ms=now_ms, places=places):
            return Made(delivery)
        destinations = destinations_of(doc)
        if not doc.get("js"):
            return Made(delivery, tuple(passed_on(drop.doc, destinations)))
        ran = run_script(track, drop)
        if ran.error is not None:
            return Made(delivery, (), ran.error)
        outputs = tuple(outputs_of(ran.value, destinations))
        return Made(delivery, outputs, is_typed=bool(track.state.get("typed")))
    except TrackFault as error:
        return Made(delivery, (), str(error))


def passes(track: StoredObject, drop: StoredDrop, *, now_ms: int, places: Places | None) -> bool:
    """Whether a Track's filter lets a drop through.

    Raises:
        TrackFault: the filter cannot be evaluated (a postal code that is not known any more).
    """
    text = track.doc.get("filter")
    try:
        return not text or predicate(parse(text))(drop.doc, now_ms, places, drop.types)
    except (UsageError, BadRequest) as error:
        raise TrackFault(f"the filter cannot be evaluated: {error}") from None


class Router:
    """The Tracks of one store, at work between ``start()`` and ``close()``.

    Args:
        store: where drops wait and results go.
        clock_ms: now, in milliseconds since 1970-01-01 UTC.
        places: the table of postal codes.
        run_script: runs the scripts.
        metrics: counts what is done.
    """

    def __init__(
        self,
        store: Store,
        *,
        clock_ms: Callable[[], int],
        run_script: RunScript,
        places: Places | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self._store = store
        self._clock_ms = clock_ms
        self._places = places
        self._run_script = run_script
        self._metrics = metrics or Metrics()
        self._is_closing = False
        self._sources: dict[str, list[tuple[str, bool]]] = {}
        self._wakes: Any = NativeQueue()
        self._lock = NativeLock()
        self._is_started = False
        self._plain = _Lane(self._turn, 1, "flowkit-tracks")
        self._scripts = _Lane(self._turn, limits.script_processes_max, "flowkit-scripts")

    def start(self) -> None:
        """Take up what waits from an earlier life, then act on every commit."""
        self._store.on_commit(self._told)
        waiting = self._store.read(_waiting)
        for track_id, has_script in waiting:
            self._lane(has_script).put(track_id)

    def close(self) -> None:
        """End the turns under way and stop; what still waits stays in the store."""
        self._is_closing = True
        with self._lock:
            was_started, self._is_started = self._is_started, True
        if was_started:
            self._wakes.put(None)
        self._plain.close()
        self._scripts.close()

    # From commits to turns

    def _told(self, commit: Commit) -> None:
        """On the writer's thread: leave word, and do not wait."""
        if self._is_closing or not (commit.sources or "track" in commit.kinds):
            return
        self._wakes.put(commit)
        if not self._is_started:
            with self._lock:
                begins, self._is_started = not self._is_started, True
            if begins:
                start_thread(self._listen, name="flowkit-router")

    def _listen(self) -> None:
        """Give the Tracks of every source that was written to a turn."""
        while (commit := self._wakes.get()) is not None and not self._is_closing:
            if "track" in commit.kinds:
                self._sources.clear()
            for source in commit.sources:
                self._wake(source)

    def _wake(self, source: str) -> None:
        tracks = self._sources.get(source)
        if tracks is None:
            try:
                found = self._store.read(lambda reader: reader.tracks_from(source))
            except PlatformError as error:
                _log.error("the Tracks of a Flow could not be read: %s", error)
                return
            if len(self._sources) >= limits.store_flows_cached:
                self._sources.clear()
            tracks = self._sources[source] = [(one.id, bool(one.doc.get("js"))) for one in found]
        for track_id, has_script in tracks:
            self._lane(has_script).put(track_id)

    def _lane(self, has_script: bool) -> _Lane:
        return self._scripts if has_script else self._plain

    # One turn

    def _turn(self, track_id: str) -> bool:
        """One batch of a Track; whether it has to go on."""
        try:
            batch = self._store.read(lambda reader: self._gathered(reader, track_id))
            if batch is None:
                return False
            made = self._made(batch)
            return (
                not self._stored(batch, made)
                or len(made) < len(batch.deliveries)
                or _is_full(batch)
            )
        except ServerError as error:
            if self._is_closing:
                return False
            _log.error("track %s has to wait: %s", track_id, error)
            sleep(limits.track_retry_s)
            return True

    def _gathered(self, reader: Reader, track_id: str) -> _Batch | None:
        """The drops that wait for a Track, None if there are none or it does not run any more."""
        track = reader.object("track", track_id)
        if track is None or track.doc.get("disabled"):
            return None
        deliveries = reader.deliveries(track, limits.track_batch_deliveries_max)
        if not deliveries:
            return None
        return _Batch(track, _creator(reader, track, self._clock_ms()), deliveries)

    def _made(self, batch: _Batch) -> list[Made]:
        """What the Track makes of its drops, as many as its turn has time for."""
        refusal = _refusal(batch)
        if refusal is not None:
            return [Made(delivery, (), refusal) for delivery in batch.deliveries]
        until = monotonic() + limits.track_batch_time_s
        made: list[Made] = []
        for delivery in batch.deliveries:
            made.append(
                make(
                    batch.track,
                    delivery,
                    now_ms=self._clock_ms(),
                    places=self._places,
                    run_script=self._run_script,
                )
            )
            if self._is_closing or monotonic() > until:
                break
        return made

    def _stored(self, batch: _Batch, made: list[Made]) -> bool:
        """Write it all in one job; False if the Track was changed meanwhile.

        If the job fails as a whole, each drop gets a job of its own, so that one of them cannot
        hold up the others for ever.
        """
        try:
            settled = self._store.write(lambda writer: self._settled(writer, batch, made))
        except ServerError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the Track has to get past it
            _log.exception("a batch of track %s failed", batch.track.id)
            if len(made) > 1:
                return all(self._stored(batch, [one]) for one in made)
            failed = replace(made[0], outputs=(), failure=f"the Drop could not be stored: {error}")
            settled = self._store.write(lambda writer: self._settled(writer, batch, [failed]))
        if settled is None:
            return False
        for one in settled:
            outcome = "failed" if one.failure else "passed" if one.outputs else "stopped"
            self._metrics.count("flowkit_track_runs_total", outcome)
            if one.failure:
                _log.warning("track %s: %s", batch.track.id, one.failure)
        return True

    def _settled(self, writer: Writer, batch: _Batch, made: list[Made]) -> list[Made] | None:
        """Write the outputs and move the place; what became of each, None for a changed Track."""
        track = writer.object("track", batch.track.id)
        if track is None or track.doc != batch.track.doc or track.state != batch.track.state:
            return None
        now_ms = self._clock_ms()
        who = _creator(writer, track, now_ms)
        writing = Writing(writer, who, now_ms, self._places)
        settled = [writing.written(one) for one in made]
        source = writer.flow_at(track.doc["source"])
        passed = sum(1 for one in settled if one.outputs)
        failures = [one.failure for one in settled if one.failure]
        writer.count("trackHit", track.id, len(settled))
        if passed:
            writer.count("trackPass", track.id, passed)
            if source is not None:
                writer.count("flowTracked", source.id, passed)
        writer.settle_track(
            track,
            made[-1].delivery.place,
            failures=len(failures),
            last_failure=failures[-1] if failures else None,
        )
        return settled


class Writing:
    """Decides about the outputs of Tracks and writes them, in one job of the store.

    Args:
        writer: the transaction; a ``Reader`` will do to decide without writing.
        who: with whose rights; None refuses everything.
        now_ms: the time of the job, in ms since 1970 UTC.
        places: the table of postal codes.
    """

    def __init__(
        self, writer: Any, who: Credential | None, now_ms: int, places: Places | None
    ) -> None:
        self._writer = writer
        self._who = who
        self._now_ms = now_ms
        self._places = places
        self._flows: dict[str, StoredFlow | None] = {}

    def admitted(self, made: Made) -> tuple[Made, list[ingest.Arrival]]:
        """What may be written of one drop: all outputs, or none and a failure.

        What the filter of a destination refuses is left out and is no failure.
        """
        who = self._who
        if who is None:
            return replace(made, outputs=(), failure=CREATOR_GONE), []
        if made.failure is not None or not made.outputs:
            return made, []
        accepted: list[tuple[Output, ingest.Arrival]] = []
        try:
            for output in made.outputs:
                arrival = self._arrival(made, output)
                try:
                    ingest.admit(self._writer, who, arrival)
                except ingest.RefusedByFilter:
                    continue
                accepted.append((output, arrival))
        except PlatformError as error:
            return replace(made, outputs=(), failure="; ".join(error.errors)), []
        outputs = tuple(output for output, _ in accepted)
        return replace(made, outputs=outputs), [arrival for _, arrival in accepted]

    def written(self, made: Made) -> Made:
        """Write all outputs of one drop, or none."""
        made, arrivals = self.admitted(made)
        for arrival in arrivals:
            assert self._who is not None
            ingest.create(self._writer, self._who, arrival)
        return made

    def _arrival(self, made: Made, output: Output) -> ingest.Arrival:
        drop = made.delivery.drop
        if output.body.get("elems") is drop.doc["elems"]:  # passed on as it is
            checked = Checked(dict(output.body), drop.types)
        else:
            checked = ingest.check_drop(dict(output.body), typed=made.is_typed, addressed=True)
        checked.members["path"] = output.path
        checked.members["parentDropId"] = {"flowId": drop.doc["flowId"], "dropId": drop.doc["id"]}
        if output.path not in self._flows:
            self._flows[output.path] = self._writer.flow_at(output.path)
        return ingest.Arrival(
            checked,
            self._now_ms,
            self._places,
            flow=self._flows[output.path],
            hops=made.delivery.hops + 1,
        )


class _Lane:
    """Threads in which Tracks take turns; each Track has one turn at a time.

    Args:
        turn: one turn of a Track; says whether it has to go on.
        threads: how many turns at once.
        name: of the threads.
    """

    def __init__(self, turn: Callable[[str], bool], threads: int, name: str) -> None:
        self._turn = turn
        self._threads = threads
        self._name = name
        self._lock = NativeLock()
        self._queue: Any = NativeQueue()
        self._again: dict[str, bool] = {}
        self._running = 0
        self._is_closed = False

    def put(self, track_id: str) -> None:
        """Give a Track a turn, or another one after the one that it has."""
        with self._lock:
            if self._is_closed:
                return
            if track_id in self._again:
                self._again[track_id] = True
                return
            self._again[track_id] = False
            self._queue.put(track_id)
            begins = self._running < self._threads and len(self._again) > self._running
            self._running += begins
        if begins:
            start_thread(self._loop, name=self._name)

    def close(self) -> None:
        """Wait for the turns under way; no further ones begin."""
        with self._lock:
            self._is_closed = True
            running = self._running
        for _ in range(running):
            self._queue.put(None)
        while self._running:
            sleep(0.005)

    def _loop(self) -> None:
        while (track_id := self._queue.get()) is not None and not self._is_closed:
            with self._lock:
                self._again[track_id] = False
            try:
                goes_on = self._turn(track_id)
            except Exception:  # noqa: BLE001 - a fault of ours must not end the lane
                _log.exception("a turn of track %s failed", track_id)
                goes_on = False
            with self._lock:
                if (goes_on or self._again[track_id]) and not self._is_closed:
                    self._queue.put(track_id)
                else:
                    del self._again[track_id]
        with self._lock:
            self._running -= 1


def _is_full(batch: _Batch) -> bool:
    return len(batch.deliveries) >= limits.track_batch_deliveries_max


def _waiting(reader: Reader) -> list[tuple[str, bool]]:
    """The Tracks for which drops wait, and whether they have scripts."""
    found: Iterable[StoredObject | None] = (
        reader.object("track", track_id) for track_id in reader.waiting_tracks()
    )
    return [(one.id, bool(one.doc.get("js"))) for one in found if one is not None]


def _creator(reader: Reader, track: StoredObject, now_ms: int) -> Credential | None:
    """The rights with which a Track runs; None if its creator is gone."""
    doc: Mapping[str, Any] = track.doc
    account = reader.account_of(str(doc.get("creatorId")))
    return credential_of(reader, account, now_ms) if account is not None else None


def _refusal(batch: _Batch) -> str | None:
    """Why the Track may not run at all, None if it may."""
    if batch.who is None:
        return CREATOR_GONE
    source = batch.track.doc["source"]
    verdict = may(batch.who, "dropRead", source)
    return None if verdict else verdict.why_not
