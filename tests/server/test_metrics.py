"""The figures of a server: counted exactly, written as Prometheus reads them, telling nothing."""

import re
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from flowkit._version import __version__
from flowkit.server.metrics import METRICS, Metrics, _cumulated


def read(metrics):
    """The page, read as Prometheus does: (name, labels) to value."""
    families = text_string_to_metric_families(metrics.page().decode())
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def test_a_new_page_says_version_and_start():
    """Before anything was counted there is no line about it."""
    found = read(Metrics(now_s=lambda: 1234.5))

    assert found == {
        ("flowkit_build_info", (("version", __version__),)): 1,
        ("flowkit_start_time_seconds", ()): 1234.5,
    }


def test_requests_are_counted_by_route_method_and_status():
    """A counter for each; the durations by route and method."""
    metrics = Metrics()
    for status, took_s in ((200, 0.0004), (200, 0.3), (404, 99.0)):
        metrics.request("drop/{flow}", "GET", status, took_s)
    found = read(metrics)
    route = (("method", "GET"), ("route", "drop/{flow}"))

    def below(bound):
        labels = tuple(sorted([*route, ("le", bound)]))
        return found["flowkit_request_seconds_bucket", labels]

    assert found["flowkit_requests_total", (*route, ("status", "200"))] == 2
    assert found["flowkit_requests_total", (*route, ("status", "404"))] == 1
    assert [below(bound) for bound in ("0.001", "0.25", "0.5", "10.0", "+Inf")] == [1, 1, 2, 2, 3]
    assert found["flowkit_request_seconds_count", route] == 3
    assert found["flowkit_request_seconds_sum", route] == pytest.approx(99.3004)


@given(st.lists(st.floats(0, 2000, allow_nan=False), max_size=50))
def test_a_histogram_is_what_a_count_of_its_values_says(values):
    """Each class holds the values up to its bound, the bound included."""
    metrics = Metrics()
    for value in values:
        metrics.observe("flowkit_commit_jobs", value)
    bounds = METRICS["flowkit_commit_jobs"].bounds
    sizes = metrics._sizes.get(("flowkit_commit_jobs", ()))
    shown = _cumulated(bounds, sizes.counts) if sizes else []

    assert [count for _, count in shown[:-1]] == (
        [sum(value <= bound for value in values) for bound in bounds] if values else []
    )
    assert metrics.value("flowkit_commit_jobs") == len(values)


def test_what_is_watched_is_asked_when_the_page_is_read():
    """A gauge shows its present value; one that cannot be had leaves no line and no error."""
    metrics, waiting = Metrics(), [3]
    metrics.watch("flowkit_waiting_jobs", lambda: waiting[0], "writes")
    metrics.watch("flowkit_http_connections", lambda: 1 / 0)
    waiting[0] = 7
    found = read(metrics)

    assert found["flowkit_waiting_jobs", (("line", "writes"),)] == 7
    assert ("flowkit_http_connections", ()) not in found


def test_threads_lose_no_count():
    """Eight threads count at once; every one is there."""
    metrics = Metrics()

    def count():
        for _ in range(2000):
            metrics.request("flow", "GET", 200, 0.01)

    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert metrics.value("flowkit_requests_total", "flow", "GET", "200") == 16_000
    assert metrics.value("flowkit_request_seconds", "flow", "GET") == 16_000


def test_a_name_that_is_not_in_the_table_cannot_be_measured():
    """The table is the whole list."""
    with pytest.raises(KeyError):
        Metrics().observe("flowkit_no_such_thing", 1.0)


def test_no_label_can_hold_what_is_anybodys():
    """Labels are of these kinds, none of which a caller chooses; every histogram has classes."""
    labels = {label for metric in METRICS.values() for label in metric.labels}

    known = "version route method status who line outcome kind seen"
    assert labels <= set(known.split())
    assert all(bool(metric.bounds) == (metric.kind == "histogram") for metric in METRICS.values())


def test_every_metric_stands_on_its_page_and_nothing_else():
    """The reference page and the table name the same metrics."""
    page = Path(__file__).parents[2] / "docs/reference/metrics.rst"
    told = re.findall(
        r"^   \* - ``(flowkit_\w+)``$", page.read_text(encoding="utf-8"), re.MULTILINE
    )

    assert sorted(told) == sorted(METRICS)
