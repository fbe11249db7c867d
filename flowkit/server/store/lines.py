"""Deliveries: the line of drops before the tracks of each source, and each track's place in it.

A drop that is written to the source of an enabled track waits in the line of that source, in the
same commit. A track's **place** is the last delivery that it has dealt with; it moves in the commit
of the track's output, so a crash loses none and doubles none. A drop leaves the line once every
enabled track of its source has passed it. A line is bounded: beyond, the oldest drops leave it, and
each track that they still waited for counts them as skipped; the writer is never refused.

The writer keeps in memory which sources have enabled tracks: a write to any other flow costs one
look into a dictionary.

Source: protocol 6.1, 6.5; limits ``track_backlog_max``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import apsw
import orjson

from flowkit import limits
from flowkit.errors import NotFound
from flowkit.server.store.base import Delivery, StoredDrop, StoredFlow, StoredObject, TrackState
from flowkit.server.store.objects import ENABLED, FOLLOWS

__all__ = ["Lines", "deliveries", "source_of", "track_state", "waiting_drops", "waiting_tracks"]

_log = logging.getLogger(__name__)

ROW_BYTES = 128
"""What a delivery counts beside its document."""

STATE = (
    "SELECT place, failures, skipped, last_failure, last_failure_at FROM track_place"
    " WHERE track = ?"
)
WAITING = (
    "SELECT place, doc, types, hops, bytes FROM delivery WHERE source = ? AND place >"
    " (SELECT place FROM track_place WHERE track = ?) ORDER BY place LIMIT ?"
)
WAITING_TRACKS = (
    "SELECT object.id FROM object JOIN track_place ON track = object.id"
    f" WHERE kind = 'track' AND {ENABLED} AND EXISTS (SELECT 1 FROM delivery"
    " WHERE delivery.source = json_extract(object.doc, '$.source')"
    " AND delivery.place > track_place.place) ORDER BY object.id"
)
ENABLED_SOURCES = (
    f"SELECT json_extract(doc, '$.source'), id FROM object WHERE {FOLLOWS} AND {ENABLED}"
)
THE_END = "SELECT seq FROM sqlite_sequence WHERE name = 'delivery'"
ALL_WAITING = "SELECT count(*) FROM delivery"
LENGTH = "SELECT count(*) FROM delivery WHERE source = ?"
OLDEST = "SELECT place FROM delivery WHERE source = ? ORDER BY place LIMIT 1 OFFSET ?"
BEHIND = "SELECT count(*) FROM delivery WHERE source = ? AND place > ? AND place <= ?"


def source_of(track: StoredObject) -> str | None:
    """The path that an enabled track watches; None for a disabled one."""
    return None if track.doc.get("disabled") else track.doc.get("source")


def track_state(connection: apsw.Connection, track_id: str) -> TrackState:
    """How far a track has come; at the beginning for one that there is not."""
    found: list[Any] = connection.execute(STATE, (track_id,)).fetchall()
    return TrackState(*found[0]) if found else TrackState(0)


def deliveries(connection: apsw.Connection, track: StoredObject, limit: int) -> list[Delivery]:
    """What waits for *track*: at most *limit*, fewer when they are large, at least one."""
    found: list[Delivery] = []
    left = limits.track_batch_bytes_max
    cursor = connection.execute(WAITING, (track.doc["source"], track.id, limit))
    for place, doc, types, hops, size in cursor:
        decoded: Any = apsw.jsonb_decode(doc)
        drop = StoredDrop(decoded, orjson.loads(types) if types is not None else {})
        found.append(Delivery(place, drop, hops))
        left -= size
        if left <= 0:
            break
    cursor.close(True)
    return found


def waiting_tracks(connection: apsw.Connection) -> list[str]:
    """The enabled tracks for which drops wait, oldest first."""
    found: list[Any] = connection.execute(WAITING_TRACKS).fetchall()
    return [track_id for (track_id,) in found]


def waiting_drops(connection: apsw.Connection) -> int:
    """How many drops wait, each once however many tracks it waits for."""
    found: list[Any] = connection.execute(ALL_WAITING).fetchall()
    return int(found[0][0])


class Lines:
    """The writing verbs, on the writer's connection.

    Args:
        connection: in a transaction of the caller's.
        clock_ms: now, in milliseconds since 1970-01-01 UTC.
    """

    def __init__(self, connection: apsw.Connection, clock_ms: Callable[[], int]) -> None:
        self._connection = connection
        self._clock_ms = clock_ms
        self._tracks: dict[str, list[str]] | None = None
        self._lengths: dict[str, int] = {}
        self._tracks_changed = False
        self._lengths_changed: set[str] = set()
        self._added_in_job: set[str] = set()
        self._added: set[str] = set()

    def add(self, flow: StoredFlow, drop: StoredDrop, hops: int) -> None:
        """Let *drop* wait for the tracks of its flow, if there are any."""
        source = flow.doc["path"]
        if source not in self._enabled():
            return
        doc = apsw.jsonb_encode(drop.doc)
        types = orjson.dumps(dict(drop.types)).decode() if drop.types else None
        length = self._length(source)
        self._connection.execute(
            "INSERT INTO delivery (source, hops, doc, types, bytes) VALUES (?, ?, ?, ?, ?)",
            (source, hops, doc, types, ROW_BYTES + len(doc) + len(types or "")),
        )
        self._set_length(source, length + 1)
        self._added_in_job.add(source)

    def settle(
        self, track: StoredObject, place: int, failures: int, last_failure: str | None
    ) -> None:
        """Move a track's place, and let go what nobody waits for any more."""
        at = None if last_failure is None else self._clock_ms()
        self._connection.execute(
            "UPDATE track_place SET place = max(place, ?), failures = failures + ?,"
            " last_failure = coalesce(?, last_failure),"
            " last_failure_at = coalesce(?, last_failure_at) WHERE track = ?",
            (place, failures, last_failure, at, track.id),
        )
        if not self._connection.changes():
            raise NotFound(f"There is no Track {track.id} any more")
        self._let_go(track.doc["source"])

    def track_changed(
        self, track_id: str, before: StoredObject | None, now: StoredObject | None
    ) -> None:
        """After a track was made (*before* None), changed or deleted (*now* None)."""
        old = source_of(before) if before else None
        new = source_of(now) if now else None
        if now is None or now.doc.get("source") is None:
            self._connection.execute("DELETE FROM track_place WHERE track = ?", (track_id,))
        elif before is None or (old != new and new is not None):
            self._connection.execute(
                "INSERT INTO track_place (track, place) VALUES (?, ?)"
                " ON CONFLICT DO UPDATE SET place = excluded.place",
                (track_id, self._the_end()),
            )
        if old != new:
            self._tracks_changed = True
            if new is not None:
                self._enter(new, track_id)
            if old is not None:
                self._leave(old, track_id)
                self._let_go(old)

    def forget_source(self, path: str) -> None:
        """A flow is gone: what came from it and still waits goes, too."""
        self._remove("DELETE FROM delivery WHERE source = ?", path)

    # What is kept in memory

    def _enabled(self) -> dict[str, list[str]]:
        """The enabled tracks by source."""
        if self._tracks is None:
            self._tracks = {}
            found: list[Any] = self._connection.execute(ENABLED_SOURCES).fetchall()
            for source, track_id in found:
                self._tracks.setdefault(source, []).append(track_id)
        return self._tracks

    def _enter(self, source: str, track_id: str) -> None:
        tracks = self._enabled().setdefault(source, [])
        if track_id not in tracks:  # they may have been read after the change
            tracks.append(track_id)

    def _leave(self, source: str, track_id: str) -> None:
        tracks = self._enabled().get(source, [])
        if track_id in tracks:
            tracks.remove(track_id)
        if not tracks:
            self._enabled().pop(source, None)

    def _length(self, source: str) -> int:
        """How many drops wait in the line of *source*."""
        if source not in self._lengths:
            found: list[Any] = self._connection.execute(LENGTH, (source,)).fetchall()
            self._lengths[source] = found[0][0]
        return self._lengths[source]

    def _set_length(self, source: str, length: int) -> None:
        self._lengths[source] = length
        self._lengths_changed.add(source)

    # What leaves the lines

    def _the_end(self) -> int:
        """The place of the newest delivery there ever was."""
        found: list[Any] = self._connection.execute(THE_END).fetchall()
        return int(found[0][0]) if found else 0

    def _places(self, source: str) -> dict[str, int]:
        """The places of the enabled tracks of *source*."""
        execute = self._connection.execute
        return {
            track_id: execute("SELECT place FROM track_place WHERE track = ?", (track_id,)).get
            for track_id in self._enabled().get(source, ())
        }

    def _let_go(self, source: str) -> None:
        """Remove what every enabled track of *source* has passed; all of it if there is none."""
        places = self._places(source).values()
        if places:
            self._remove(
                "DELETE FROM delivery WHERE source = ? AND place <= ?", source, min(places)
            )
        else:
            self.forget_source(source)

    def _remove(self, sql: str, source: str, *params: int) -> None:
        length = self._length(source)
        if length:
            self._connection.execute(sql, (source, *params))
            self._set_length(source, length - self._connection.changes())

    def _shorten(self, source: str, over: int) -> None:
        """Skip the *over* oldest drops of a line."""
        found: list[Any] = self._connection.execute(OLDEST, (source, over - 1)).fetchall()
        last = found[0][0]
        for track_id, place in self._places(source).items():
            if place < last:
                self._skip(track_id, source, place, last)
        self._remove("DELETE FROM delivery WHERE source = ? AND place <= ?", source, last)

    def _skip(self, track_id: str, source: str, place: int, last: int) -> None:
        execute = self._connection.execute
        skipped = execute(BEHIND, (source, place, last)).get
        _log.warning(
            "track %s is too far behind: %d drops of %s skipped", track_id, skipped, source
        )
        execute(
            "UPDATE track_place SET place = ?, skipped = skipped + ?, last_failure = ?,"
            " last_failure_at = ? WHERE track = ?",
            (last, skipped, _too_many(source, skipped), self._clock_ms(), track_id),
        )

    # The life of a batch

    def keep_job(self) -> None:
        """The job is done: what it did stands."""
        self._added |= self._added_in_job
        self._added_in_job.clear()
        self._lengths_changed.clear()
        self._tracks_changed = False

    def undo_job(self) -> None:
        """The job has failed: what is in memory of it is read again."""
        for source in self._lengths_changed:
            self._lengths.pop(source, None)
        if self._tracks_changed:
            self._tracks = None
        self._added_in_job.clear()
        self._lengths_changed.clear()
        self._tracks_changed = False

    def write_out(self) -> frozenset[str]:
        """Before a commit: shorten the lines that are too long; the sources of new deliveries."""
        for source in self._added:
            over = self._length(source) - limits.track_backlog_max
            if over > 0:
                self._shorten(source, over)
        added = frozenset(self._added)
        self._added.clear()
        return added

    def forget_all(self) -> None:
        """The batch was undone: what is in memory may be wrong."""
        self.undo_job()
        self._added.clear()
        self._lengths.clear()
        self._tracks = None


def _too_many(source: str, skipped: int) -> str:
    return (
        f"{skipped} Drops of {source} were skipped:"
        f" more than {limits.track_backlog_max} waited for its Tracks"
    )
