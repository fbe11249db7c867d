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
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from flowkit import limits
from flowkit.errors import PlatformError, ServerError
from flowkit.green import NativeLock, NativeQueue, monotonic, sleep, start_thread
from flowkit.query.places import Places
from flowkit.server.metrics import Metrics
from flowkit.server.runs import Made, RunScript, Writing, creator_of, make, refusal_of
from flowkit.server.store.base import Commit, Delivery, Reader, Store, StoredObject, Writer
from flowkit.server.turns import Turns

__all__ = ["Router"]

_log = logging.getLogger(__name__)

_PLAIN, _SCRIPTS = "tracks", "scripts"
"""The lanes: Tracks without a script, and those with one."""


@dataclass(frozen=True, slots=True)
class _Batch:
    """One turn of a Track.

    Attributes:
        track: as it was when the turn began.
        skipped: how many drops it had lost by then.
        refusal: why it may not run, None if it may.
        deliveries: the drops.
    """

    track: StoredObject
    skipped: int
    refusal: str | None
    deliveries: list[Delivery]


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
        self._skipped: dict[str, int] = {}
        self._sources: dict[str, list[tuple[str, str]]] = {}
        self._wakes: Any = NativeQueue()
        self._lock = NativeLock()
        self._is_started = False
        self._turns = Turns(self._turn, {_PLAIN: 1, _SCRIPTS: limits.script_processes_max})

    def start(self) -> None:
        """Take up what waits from an earlier life, then act on every commit."""
        self._skipped = self._store.read(_skipped)
        self._metrics.watch("flowkit_deliveries_waiting", self._waiting_drops)
        self._store.on_commit(self._told)
        for track_id, lane in self._store.read(_waiting):
            self._turns.put(track_id, lane)

    def close(self) -> None:
        """End the turns under way and stop; what still waits stays in the store."""
        self._is_closing = True
        with self._lock:
            was_started, self._is_started = self._is_started, True
        if was_started:
            self._wakes.put(None)
        self._turns.close()

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
            tracks = self._sources[source] = [(one.id, _lane_of(one)) for one in found]
        for track_id, lane in tracks:
            self._turns.put(track_id, lane)

    def _waiting_drops(self) -> float:
        return self._store.read(lambda reader: reader.waiting_drops())

    # One turn

    def _turn(self, track_id: str, lane: str) -> str | None:
        """One batch of a Track; the lane in which it has to go on, None if it has not."""
        try:
            batch = self._store.read(lambda reader: self._gathered(reader, track_id))
            if batch is None:
                return None
            self._count_skipped(batch)
            due = _lane_of(batch.track)
            if due != lane:  # it was changed meanwhile
                return due
            made = self._made(batch)
            is_done = (
                self._stored(batch, made)
                and len(made) == len(batch.deliveries)
                and len(made) < limits.track_batch_deliveries_max
            )
            return None if is_done else lane
        except ServerError as error:
            if self._is_closing:
                return None
            _log.error("track %s has to wait: %s", track_id, error)
            sleep(limits.track_retry_s)
            return lane

    def _count_skipped(self, batch: _Batch) -> None:
        """Tell the figures what the Track has lost since its last turn."""
        lost = batch.skipped - self._skipped.get(batch.track.id, 0)
        if lost:
            self._skipped[batch.track.id] = batch.skipped
            self._metrics.count("flowkit_track_skipped_total", times=lost)

    def _gathered(self, reader: Reader, track_id: str) -> _Batch | None:
        """The drops that wait for a Track, None if there are none or it does not run any more."""
        track = reader.object("track", track_id)
        if track is None or track.doc.get("disabled"):
            return None
        deliveries = reader.deliveries(track, limits.track_batch_deliveries_max)
        if not deliveries:
            return None
        refusal = refusal_of(reader, track, creator_of(reader, track, self._clock_ms()))
        return _Batch(track, reader.track_state(track_id).skipped, refusal, deliveries)

    def _made(self, batch: _Batch) -> list[Made]:
        """What the Track makes of its drops, as many as its turn has room for."""
        if batch.refusal is not None:
            return [Made(delivery, (), batch.refusal) for delivery in batch.deliveries]
        until = monotonic() + limits.track_batch_time_s
        made: list[Made] = []
        outputs = 0
        for delivery in batch.deliveries:
            one = self._one(batch.track, delivery)
            if self._is_closing and one.failure is not None:
                break  # the end of the scripts may be what failed it; the next start runs it again
            made.append(one)
            outputs += len(one.outputs or ())
            is_full = outputs >= limits.track_outputs_max
            if is_full or self._is_closing or monotonic() > until:
                break
        return made

    def _one(self, track: StoredObject, delivery: Delivery) -> Made:
        """What the Track makes of one drop; whatever goes wrong is that drop's failure."""
        try:
            return make(
                track,
                delivery,
                now_ms=self._clock_ms(),
                places=self._places,
                run_script=self._run_script,
            )
        except Exception:  # noqa: BLE001 - a fault of ours must not hold up the drops behind it
            _log.exception("track %s: a run failed", track.id)
            return Made(delivery, (), "the server failed to run the Track; its log says why")

    def _stored(self, batch: _Batch, made: list[Made]) -> bool:
        """Write it all in one job; False if the Track was changed meanwhile.

        If the job fails as a whole, each drop gets a job of its own, so that one of them cannot
        hold up the others for ever.
        """
        if not made:
            return False
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
        self._report(batch.track, settled)
        return True

    def _report(self, track: StoredObject, settled: list[Made]) -> None:
        """Tell log and figures what became of each drop."""
        for one in settled:
            outcome = "failed" if one.failure else "passed" if one.outputs else "stopped"
            self._metrics.count("flowkit_track_runs_total", outcome)
            if one.failure:
                drop = one.delivery.drop.doc["id"]
                _log.warning("track %s failed with drop %s: %s", track.id, drop, one.failure)

    def _settled(self, writer: Writer, batch: _Batch, made: list[Made]) -> list[Made] | None:
        """Write the outputs and move the place; what became of each, None for a changed Track."""
        track = writer.object("track", batch.track.id)
        if track is None or track.doc != batch.track.doc or track.state != batch.track.state:
            return None
        state = writer.track_state(track.id)
        if state.place >= made[0].delivery.place and state.skipped == batch.skipped:
            return None  # these drops have been dealt with
        now_ms = self._clock_ms()
        who = creator_of(writer, track, now_ms)
        refusal = refusal_of(writer, track, who)
        if refusal is not None:
            made = [replace(one, outputs=(), failure=refusal) for one in made]
        writing = Writing(writer, who, now_ms, self._places)
        settled = [writing.written(one) for one in made]
        _count(writer, track, settled)
        failures = [one.failure for one in settled if one.failure]
        writer.settle_track(
            track,
            made[-1].delivery.place,
            failures=len(failures),
            last_failure=failures[-1] if failures else None,
        )
        return settled


def _count(writer: Writer, track: StoredObject, settled: list[Made]) -> None:
    """What the statistics say of a batch (10)."""
    writer.count("trackHit", track.id, len(settled))
    passed = sum(1 for one in settled if one.outputs)
    source = writer.flow_at(track.doc["source"])
    if passed:
        writer.count("trackPass", track.id, passed)
    if passed and source is not None:
        writer.count("flowTracked", source.id, passed)


def _lane_of(track: StoredObject) -> str:
    return _SCRIPTS if track.doc.get("js") else _PLAIN


def _skipped(reader: Reader) -> dict[str, int]:
    """How many drops each Track that lost some had lost before this start."""
    found = {one.id: reader.track_state(one.id).skipped for one in reader.objects("track")}
    return {track_id: skipped for track_id, skipped in found.items() if skipped}


def _waiting(reader: Reader) -> list[tuple[str, str]]:
    """The Tracks for which drops wait, with their lanes."""
    found: Iterable[StoredObject | None] = (
        reader.object("track", track_id) for track_id in reader.waiting_tracks()
    )
    return [(one.id, _lane_of(one)) for one in found if one is not None]
