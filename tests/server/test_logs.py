"""Lines of the log: one for each event, whatever is in it."""

import io
import json
import logging
import re
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowkit import limits
from flowkit.server.logs import Formatter, access, configure, request_id_of, under


@pytest.fixture
def loggers():
    """The loggers as they were before, afterwards."""
    root, asked = logging.getLogger(), logging.getLogger("flowkit.access")
    before = root.handlers[:], root.level, asked.level
    yield
    root.handlers[:], root.level, asked.level = before


def line(message, *, log_format="json", **more):
    """The line of one record."""
    record = logging.LogRecord("flowkit.x", logging.WARNING, "", 0, message, (), None)
    record.created = 1_512_837_350.25
    vars(record).update(more)
    return Formatter(log_format).format(record)


def failure():
    """What a logger gets about an error that was raised."""
    try:
        raise ValueError("first line\nsecond line")
    except ValueError as error:
        return type(error), error, error.__traceback__


def test_json_lines_have_time_level_logger_and_message():
    """UTC with milliseconds; the names do not change with the kind of event."""
    assert json.loads(line("gone")) == {
        "time": "2017-12-09T16:35:50.250Z",
        "level": "warning",
        "logger": "flowkit.x",
        "message": "gone",
    }


def test_text_lines_have_the_same():
    """Words, then what has a name."""
    with under("r1"):
        said = line("gone", log_format="text", facts={"route": "drop/{flow}", "error": "a b"})

    assert said == (
        "2017-12-09T16:35:50.250Z warning flowkit.x gone"
        ' request_id=r1 route=drop/{flow} error="a b"'
    )


def test_a_line_about_a_request_carries_its_id():
    """Within the block, and not after it."""
    with under("abc"):
        assert json.loads(line("x"))["request_id"] == "abc"
    assert "request_id" not in json.loads(line("x"))


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_traceback_is_part_of_its_line(log_format):
    """An error with a traceback is one event, so it is one line."""
    said = line("failed", log_format=log_format, exc_info=failure())

    assert "\n" not in said
    assert "Traceback" in said
    assert "second line" in said


@given(st.text(st.characters(), max_size=40), st.sampled_from(["text", "json"]))
def test_nothing_from_outside_begins_a_line_or_moves_a_cursor(text, log_format):
    """Control characters, line ends of any kind, right-to-left marks, halves of pairs."""
    said = line("%s", log_format=log_format, args=(text,), facts={"account": text})

    assert len(said.splitlines()) == 1
    assert not re.search(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]", said)
    said.encode()
    if log_format == "json":
        assert json.loads(said)["level"] == "warning"


GIVEN = [
    ("abc-1", True),
    ("x" * limits.request_id_chars_max, True),
    ("x" * (limits.request_id_chars_max + 1), False),
    ("", False),
    ("a b", False),
    ("a\nb", False),
    ("ü", False),
]


@pytest.mark.parametrize(("given_id", "kept"), GIVEN)
def test_the_callers_id_is_kept_if_it_can_stand_in_a_line(given_id, kept):
    """Else one is made; and two that are made differ."""
    found = request_id_of({"x-request-id": given_id})

    assert (found == given_id) is kept
    assert re.fullmatch(r"[!-~]{1,128}", found)
    assert request_id_of({}) != request_id_of({})


def test_requests_are_logged_only_where_that_is_asked_for(loggers):
    """Off, a warning is still written; on, a request is a line of its own."""
    for access_log, lines in ((False, 1), (True, 2)):
        stream = io.StringIO()
        configure("json", access_log=access_log, stream=stream)
        access(method="GET", status=200)
        logging.getLogger("flowkit.server").info("not this")
        logging.getLogger("flowkit.server").warning("this")
        logging.getLogger().handlers[0].flush()
        said = [json.loads(one) for one in stream.getvalue().splitlines()]
        assert len(said) == lines
        assert said[-1]["message"] == "this"
    assert said[0] | {"time": ""} == {
        "time": "",
        "level": "info",
        "logger": "flowkit.access",
        "message": "request",
        "method": "GET",
        "status": 200,
    }


def test_a_log_that_nobody_reads_stops_nobody(loggers, monkeypatch):
    """Lines wait up to a bound; then they are dropped, and that is said as soon as it can be."""
    monkeypatch.setattr(limits, "log_lines_max", 5)
    monkeypatch.setattr(limits, "log_flush_s", 10)
    go, begun = threading.Event(), threading.Event()

    class Stuck(io.StringIO):
        def write(self, text):
            begun.set()
            go.wait(30)
            return super().write(text)

    stream, logger = Stuck(), logging.getLogger("flowkit.server")
    configure("text", access_log=False, stream=stream)
    logger.warning("first")
    begun.wait(10)
    for n in range(20):
        logger.warning("line %d", n)
    go.set()
    logging.getLogger().handlers[0].flush()
    logger.warning("last")
    logging.getLogger().handlers[0].flush()
    said = stream.getvalue().splitlines()

    assert len(said) == 1 + 5 + 2
    assert said[-2].endswith("15 lines were dropped here: they were not read in time")
    assert said[-1].endswith("last")
