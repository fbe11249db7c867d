"""Events in a CSV file, for where there is no network at all; a later ``upload`` sends them.

A line holds the time in ISO 8601, the bucket, the key and the value as JSON, so types survive. The
file is added to, never begun anew, and each call is on its way to the disk when it returns. Files
of the older streamer, ``epoch,key,value`` or ``iso,key,value`` without a header, can be read, too.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from threading import Lock
from typing import Any, NamedTuple

from flowkit.device.instants import event_ms
from flowkit.errors import OutboxError, UsageError

__all__ = ["Event", "EventFile", "read_events"]

HEADER = ["time", "bucket_key", "bucket_name", "key", "value"]


class Event(NamedTuple):
    """One call: values by key, when it was, and the bucket (empty: not said)."""

    time_ms: int | float
    bucket_key: str
    bucket_name: str
    elems: dict[str, Any]


class EventFile:
    """A CSV file that is written line by line.

    Raises:
        UsageError: the file is there and is another one. OutboxError: it cannot be written.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._lock = Lock()
        try:
            self._file = open(path, "a+", encoding="utf-8", newline="")  # noqa: SIM115 - kept open
            self._file.seek(0)
            first = self._file.readline()
            if first and first.rstrip("\r\n").split(",") != HEADER:
                self._file.close()
                raise UsageError(f"{path} is no file of a streamer", hint="take another name")
            self._file.seek(0, os.SEEK_END)
            self._writer = csv.writer(self._file)
            if not first:
                self._writer.writerow(HEADER)
                self._file.flush()
        except OSError as error:
            raise OutboxError(path, error.strerror or str(error)) from error

    def add(self, time_ms: float, key: str, name: str, elems: Mapping[str, Any]) -> None:
        """Write an event.

        Raises:
            OutboxError: the disk refuses. UsageError: the file is closed.
        """
        moment = _iso(time_ms)
        with self._lock:
            if self._file.closed:
                raise UsageError(f"the file {self.path} is closed")
            try:
                self._writer.writerows(
                    [moment, key, name, each, json.dumps(value, ensure_ascii=False)]
                    for each, value in elems.items()
                )
                self._file.flush()
            except OSError as error:
                raise OutboxError(self.path, error.strerror or str(error)) from error

    def close(self) -> None:
        """Make it safe against a power cut, and close it; harmless when repeated."""
        with self._lock:
            if not self._file.closed:
                self._file.flush()
                os.fsync(self._file.fileno())
                self._file.close()


def _iso(time_ms: float) -> str:
    seconds, rest = divmod(round(time_ms * 1000), 1_000_000)
    moment = datetime.fromtimestamp(0, UTC).timestamp() + seconds
    return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%dT%H:%M:%S}.{rest:06d}+00:00"


def read_events(path: str) -> Iterator[Event]:
    """The events of a file, lines of the same call joined; of either older form one by one.

    Raises:
        UsageError: a line is none of these; the error names it. OutboxError: it cannot be read.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            yield from _events(path, csv.reader(file))
    except OSError as error:
        raise OutboxError(path, error.strerror or str(error)) from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8") from error


def _events(path: str, lines: Iterator[list[str]]) -> Iterator[Event]:
    ours = False
    held: Event | None = None
    for number, line in enumerate(lines, 1):
        if number == 1 and line == HEADER:
            ours = True
            continue
        if not line:
            continue
        try:
            event = _ours(line) if ours else _older(line)
        except (ValueError, UsageError) as error:
            raise UsageError(f"{path} line {number} is no event: {error}") from error
        if (
            held is not None
            and ours
            and held[:3] == event[:3]
            and not held.elems.keys() & event.elems
        ):
            held.elems.update(event.elems)
            continue
        if held is not None:
            yield held
        held = event
    if held is not None:
        yield held


def _ours(line: list[str]) -> Event:
    moment, key, name, each, value = line
    return Event(event_ms(moment), key, name, {each: json.loads(value)})


def _older(line: list[str]) -> Event:
    """``epoch,key,value`` in seconds, or ``iso,key,value``; a number is read as one."""
    moment, key, value = line
    try:
        time_ms = event_ms(float(moment))
    except ValueError:
        time_ms = event_ms(moment)
    return Event(time_ms, "", "", {key: _typed(value)})


def _typed(value: str) -> Any:
    if value in ("True", "False"):
        return value == "True"
    for read in (int, float):
        try:
            found = read(value)
        except ValueError:
            continue
        return found if value.strip() == value and "_" not in value and found == found else value
    return value
