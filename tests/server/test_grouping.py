"""Which aggregations SQL does by itself; that it says the same: ``test_aggregates_agree.py``."""

import pytest
from together.aggregates import by_server, plainly
from together.agreement import FLOW, NOW_MS, Batch

from flowkit.server.selectors import read_aggregation


def a_batch(*values):
    """Drops that have those values as ``a``, one millisecond apart."""
    documents = [
        (
            {
                "id": f"d{number:024x}",
                "flowId": FLOW.id,
                "path": FLOW.path,
                "elems": {"a": value},
                "version": 0,
                "creationDate": NOW_MS - number,
            },
            {},
        )
        for number, value in enumerate(values)
    ]
    return Batch("drop", documents)


def asked(output, *keys, **members):
    """A request."""
    return read_aggregation({"output": [output], "groupBy": list(keys), **members})


@pytest.mark.parametrize(
    "request_",
    [
        asked("$count", "a"),
        asked("$sum:a", "$day", "$hour", "$minute", "$second", "$month", "$year"),
        asked("$avg:a", "path", "flowId", "version", "fhash"),
        asked("$min:a", "r", rules={"r": "a > 1"}),
        asked("$day", "$day"),
        asked("$max:a.b", "location.lat", filter="EXISTS a"),
    ],
)
def test_sql_groups_what_it_can(request_):
    """The plan says so, and the rows are those of the meaning."""
    batch = a_batch(1, 1.0, True, "1", None, 2**63 - 1, -0.0, "a\x00b", {"b": 3})
    if any(key.text == "a" for key in request_.keys):
        batch = a_batch(1, 1.0, True, "1", None, 2**63 - 1, -0.0, "a\x00b")

    assert by_server(batch, request_) == (plainly(batch, request_), "sql")


@pytest.mark.parametrize(
    "request_",
    [
        asked("$unique:a"),
        asked("$all:a"),
        asked("$count", "a.0"),
        asked("$day"),
        asked("$count", "$day:a"),
        asked("distance:r", rules={"r": "location WITHIN 5 KM OF [0,0]"}),
        asked("$count", filter="a.b.c.d.e == 1"),
        asked("$count", "a"),
        asked("$sum:a.b"),
    ],
)
def test_the_rest_is_for_python(request_):
    """With an array at ``a``, that is."""
    batch = a_batch([1, {"b": 2}], {"b": {"c": 2}})

    assert by_server(batch, request_) == (plainly(batch, request_), "python")
