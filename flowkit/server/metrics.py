"""What the server counts about itself, and ``GET /metrics``, which tells it to Prometheus.

``METRICS`` is the whole list; a name that does not stand there cannot be counted. Labels have few
values that this server itself chooses (the pattern of a route, a status): never an account, a path,
an id or a token. A page of figures may be read by more people than the data.

Numbers are kept in plain dicts under a native lock, since threads and greenlets count side by side
in processes that may be patched; ``prometheus_client`` only writes them down, in the one format
that everybody reads.

Source: ``docs/reference/metrics.rst``.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from flowkit._version import __version__
from flowkit.green import NativeLock

__all__ = ["CONTENT_TYPE", "METRICS", "Metric", "Metrics"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""What ``/metrics`` is sent as: the text format that every version of Prometheus reads."""

_REQUEST_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_COMMIT_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
_COMMIT_JOBS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1000.0)
_STALL_S = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)


@dataclass(frozen=True, slots=True)
class Metric:
    """One row of the table.

    Attributes:
        kind: a ``counter`` only rises, a ``gauge`` is what it is now, a ``histogram`` counts values
            by size.
        help: one sentence, shown to who reads the page.
        labels: what its values are told apart by.
        bounds: of the classes of a histogram, rising.
    """

    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()


METRICS: Mapping[str, Metric] = {
    "flowkit_build_info": Metric("gauge", "1; the label is the version.", ("version",)),
    "flowkit_start_time_seconds": Metric(
        "gauge", "When this server was started, in seconds since 1970 UTC."
    ),
    "flowkit_requests_total": Metric(
        "counter", "Requests that were answered.", ("route", "method", "status")
    ),
    "flowkit_request_seconds": Metric(
        "histogram",
        "Seconds from a whole request to its answer.",
        ("route", "method"),
        _REQUEST_S,
    ),
    "flowkit_rate_limited_total": Metric(
        "counter", "Requests that the rate limit refused.", ("who",)
    ),
    "flowkit_http_received_bytes_total": Metric("counter", "Bytes that came over HTTP."),
    "flowkit_http_sent_bytes_total": Metric("counter", "Bytes that left over HTTP."),
    "flowkit_http_connections": Metric("gauge", "Open connections."),
    "flowkit_loop_stall_seconds": Metric(
        "histogram", "Seconds by which the event loop of HTTP came late.", (), _STALL_S
    ),
    "flowkit_commit_jobs": Metric("histogram", "Writes that shared a commit.", (), _COMMIT_JOBS),
    "flowkit_commit_seconds": Metric(
        "histogram", "Seconds of a commit, with the writes in it.", (), _COMMIT_S
    ),
    "flowkit_waiting_jobs": Metric("gauge", "Jobs that wait for a thread of the store.", ("line",)),
    "flowkit_origin_entries_total": Metric(
        "counter",
        "Numbers of senders' lines that were there already, were skipped, or were refused because"
        " of a hole or another writer.",
        ("outcome",),
    ),
    "flowkit_track_runs_total": Metric(
        "counter", "Drops that a Track has dealt with.", ("outcome",)
    ),
    "flowkit_track_skipped_total": Metric(
        "counter", "Drops that Tracks lost because they were too far behind."
    ),
    "flowkit_deliveries_waiting": Metric("gauge", "Drops that wait for Tracks."),
    "flowkit_devices": Metric("gauge", "Devices.", ("seen",)),
    "flowkit_provisioning_pending": Metric(
        "gauge", "Operations of provisioning that wait for a decision."
    ),
    "flowkit_provisioning_total": Metric("counter", "What devices asked for.", ("outcome",)),
    "flowkit_sessions": Metric("gauge", "Sessions, with or without a connection."),
    "flowkit_subscriptions": Metric("gauge", "Subscriptions of all sessions."),
    "flowkit_changes_offered_total": Metric(
        "counter", "Changes that attached subscriptions were asked about."
    ),
    "flowkit_too_slow_total": Metric("counter", "Sessions ended because a reader was too slow."),
    "flowkit_task_runs_total": Metric("counter", "Runs of tasks.", ("kind", "status")),
    "flowkit_script_runs_total": Metric("counter", "Runs of scripts.", ("outcome",)),
}
"""Every metric of this server."""

Labels = tuple[str, ...]


class _Sizes:
    """The counts of one histogram."""

    __slots__ = ("counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0


class Metrics:
    """The figures of one server; any thread may count.

    Args:
        now_s: seconds since 1970 UTC, for the time of the start.
    """

    def __init__(self, *, now_s: Callable[[], float] = time.time) -> None:
        self._lock = NativeLock()
        self._counts: dict[tuple[str, Labels], float] = {}
        self._sizes: dict[tuple[str, Labels], _Sizes] = {}
        self._watched: dict[tuple[str, Labels], Callable[[], float]] = {}
        self._counts["flowkit_build_info", (__version__,)] = 1
        self._counts["flowkit_start_time_seconds", ()] = round(now_s(), 3)

    def count(self, name: str, *labels: str, times: float = 1) -> None:
        """Count something; *labels* in the order of the table."""
        key = (name, labels)
        with self._lock:
            self._counts[key] = self._counts.get(key, 0) + times

    def observe(self, name: str, value: float, *labels: str) -> None:
        """Add a value to a histogram."""
        bounds = METRICS[name].bounds
        at = bisect_left(bounds, value)
        key = (name, labels)
        with self._lock:
            sizes = self._sizes.get(key)
            if sizes is None:
                sizes = self._sizes[key] = _Sizes(bounds)
            sizes.counts[at] += 1
            sizes.total += value

    def watch(self, name: str, read: Callable[[], float], *labels: str) -> None:
        """Ask *read* whenever the page is read; what it raises leaves that line out."""
        self._watched[name, labels] = read

    def value(self, name: str, *labels: str) -> float:
        """What was counted; of a histogram, how many values. 0 for nothing yet."""
        sizes = self._sizes.get((name, labels))
        return sum(sizes.counts) if sizes else self._counts.get((name, labels), 0)

    def request(self, route: str, method: str, status: int, duration_s: float) -> None:
        """Count a request that was answered."""
        self.count("flowkit_requests_total", route, method, str(status))
        self.observe("flowkit_request_seconds", duration_s, route, method)

    def commit(self, jobs: int, duration_s: float) -> None:
        """Count a commit of the store."""
        self.observe("flowkit_commit_jobs", jobs)
        self.observe("flowkit_commit_seconds", duration_s)

    def page(self) -> bytes:
        """Everything as Prometheus reads it."""
        from prometheus_client.exposition import generate_latest  # only who asks for it pays

        # The library asks a registry for nothing but collect().
        registry: Any = self
        return generate_latest(registry)

    def collect(self) -> Iterator[Any]:
        """Everything as values of ``prometheus_client``; metrics without any are left out."""
        from prometheus_client import metrics_core

        families = {
            "counter": metrics_core.CounterMetricFamily,
            "gauge": metrics_core.GaugeMetricFamily,
            "histogram": metrics_core.HistogramMetricFamily,
        }
        counts, sizes = self._seen()
        for name, metric in METRICS.items():
            family: Any = families[metric.kind](name, metric.help, labels=metric.labels)
            for labels, count in sorted(counts.get(name, {}).items()):
                family.add_metric(labels, count)
            for labels, (classes, total) in sorted(sizes.get(name, {}).items()):
                family.add_metric(labels, _cumulated(metric.bounds, classes), total)
            if family.samples:
                yield family

    def _seen(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """A copy of all numbers, by name."""
        counts: dict[str, dict[Labels, float]] = {}
        sizes: dict[str, dict[Labels, tuple[list[int], float]]] = {}
        for (name, labels), read in list(self._watched.items()):
            try:
                counts.setdefault(name, {})[labels] = read()
            except Exception:  # noqa: BLE001, S112 - the store may be closing: the rest still stands
                continue
        with self._lock:
            for (name, labels), count in self._counts.items():
                counts.setdefault(name, {})[labels] = count
            for (name, labels), one in self._sizes.items():
                sizes.setdefault(name, {})[labels] = (list(one.counts), one.total)
        return counts, sizes


def _cumulated(bounds: tuple[float, ...], classes: list[int]) -> list[tuple[str, float]]:
    """The classes as Prometheus wants them: how many values up to each bound."""
    below, buckets = 0, []
    for bound, count in zip([*map(str, bounds), "+Inf"], classes, strict=True):
        below += count
        buckets.append((bound, float(below)))
    return buckets
