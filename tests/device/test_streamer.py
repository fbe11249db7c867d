"""The streamer against a real server, and without one."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from flowkit import Streamer
from flowkit.client.api import API
from flowkit.client.credentials import Token
from flowkit.device import Outbox
from flowkit.device.statefiles import folder
from flowkit.errors import LimitError, OutboxFull, SettingsError, UsageError
from flowkit.testing import FaultProxy
from tests.server_process import ServerProcess

NOWHERE = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server in a process of its own."""
    with ServerProcess(tmp_path_factory.mktemp("streamer") / "data") as running:
        yield running


@pytest.fixture
def api(server):
    """Its owner; the flows of buckets are gone afterwards."""
    with API(Token("nora", server.secret), host=server.url) as owner:
        yield owner
        for flow in owner.request("GET", "/flow", params={"limit": 1000}):
            if "/buckets/" in flow["path"]:
                owner.flow.delete(flow["id"])


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    """A home of the test's own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@contextmanager
def streaming(server, name="House", **options):
    """A streamer that is closed at the end, with everything sent."""
    options = {"host": server.url, "account": "nora", "access_key": server.secret, **options}
    with Streamer(name, **options) as streamer:
        yield streamer


def stored(api, path):
    """The elements of what is stored, oldest first."""
    drops = api.request("GET", "/drop", params={"path": path, "order": "asc", "limit": 10_000})
    return [drop["elems"] for drop in drops]


def without_time(elems):
    """The values alone."""
    return [{key: each[key] for key in each if key != "_time"} for each in elems]


def test_three_lines_from_the_import_to_the_platform(server, api):
    """The bucket is made at its first event, with its name; each call is one drop."""
    with streaming(server, "My House", bucket_key="house") as streamer:
        streamer.log("test", "hi")
        streamer.log("temperature", 32)
        streamer.log("on", True, epoch=1_700_000_000.5)
        path = streamer.bucket.path
    elems = stored(api, path)

    assert path == "/nora/buckets/house"
    assert without_time(elems) == [{"test": "hi"}, {"temperature": 32}, {"on": True}]
    assert elems[2]["_time"] == 1_700_000_000_500
    (flow,) = api.request("GET", "/flow", params={"path": path})
    assert flow["description"] == "My House"


def test_the_values_of_an_object_are_one_drop_at_one_time(server, api):
    """Filters see them together."""

    @dataclass
    class Weather:
        temp: float
        wind: list

    with streaming(server) as streamer:
        streamer.log_object({"a": 1, "b": {"c": 2}}, epoch="2026-01-01T00:00:00+00:00")
        streamer.log_object([1, 2], key_prefix="pair", epoch=5_000, unit="ms")
        streamer.log_object(Weather(1.5, [3]))
        path = streamer.bucket.path
    elems = stored(api, path)

    assert elems[:2] == [
        {"dict_a": 1, "dict_b_c": 2, "_time": 1_767_225_600_000},
        {"pair_0": 1, "pair_1": 2, "_time": 5_000},
    ]
    assert without_time(elems[2:]) == [{"Weather_temp": 1.5, "Weather_wind_0": 3}]


def test_an_event_is_in_the_bucket_that_was_current_when_it_was_logged(server, api):
    """Switching moves nothing that was logged before, sent or not."""
    with streaming(server, "a", flush_s=30, buffer_size=1000) as streamer:
        for number in range(3):
            streamer.set_bucket("a")
            streamer.log("n", number)
            streamer.set_bucket("b", bucket_key="other")
            streamer.log("n", 10 + number)
    assert without_time(stored(api, "/nora/buckets/a")) == [{"n": 0}, {"n": 1}, {"n": 2}]
    assert without_time(stored(api, "/nora/buckets/other")) == [{"n": 10}, {"n": 11}, {"n": 12}]


def test_events_leave_by_time_without_another_call(server, api):
    """The newest does not wait for the next one."""
    with streaming(server, flush_s=0.05, buffer_size=1000) as streamer:
        streamer.log("n", 1)
        assert streamer._senders[0].flush(20).count == 0
        assert len(stored(api, streamer.bucket.path)) == 1


def test_without_async_the_platform_has_the_event_when_the_call_returns(server, api):
    """And a platform that is not there is an error from debug level 2 on."""
    with streaming(server, use_async=False) as streamer:
        streamer.log("n", 1)
        assert without_time(stored(api, streamer.bucket.path)) == [{"n": 1}]


def test_a_platform_that_is_away_holds_nothing_up_and_loses_nothing(server, api):
    """``log`` goes on; ``close`` returns and says what is left; the next streamer sends it."""
    with FaultProxy(server.url) as proxy:
        proxy.refuse()
        options = {"host": proxy.url, "flush_s": 0}
        streamer = Streamer("House", account="nora", access_key=server.secret, **options)
        for number in range(20):
            streamer.log("n", number)
        left = streamer.close(0.2)
        assert left.count == 20
        assert [path.suffix for path in folder().iterdir() if path.suffix == ".db"] == [".db"]
        with pytest.raises(UsageError, match="closed"):
            streamer.log("n", 21)
        proxy.accept()
        with streaming(server, "Other", **options) as again:
            assert again.flush(20).count == 0
    assert [each["n"] for each in stored(api, streamer.bucket.path)] == list(range(20))
    assert [path for path in folder().iterdir() if path.suffix == ".db"] == []


def test_two_programs_of_one_account_stream_at_once(server, api):
    """Each has a file; what one has left behind goes out with the next."""
    with streaming(server) as one, streaming(server) as two:
        one.log("n", 1)
        two.log("n", 2)
    assert sorted(each["n"] for each in stored(api, one.bucket.path)) == [1, 2]

    def left_behind(name):
        return Streamer(name, host=NOWHERE, account="nora", access_key="t")

    one, two = left_behind("a"), left_behind("b")
    one.log("n", 1)
    two.log("n", 2)
    assert [one.close(0).count, two.close(0).count] == [1, 1]
    again = left_behind("c")
    assert again.pending.count == 2
    assert again.close(0).count == 2


def test_a_file_of_its_own_is_durable_and_stays(server, api, state):
    """It is bound to the account and the platform."""
    db = str(state / "mine.db")
    with streaming(server, db=db) as streamer:
        streamer.log("n", 1)
    assert os.path.exists(db)
    assert without_time(stored(api, streamer.bucket.path)) == [{"n": 1}]
    with Outbox(db) as box:
        assert (box.device, box.instance) == ("nora", server.url)
        box.put("x", {})
    with pytest.raises(SettingsError, match="'nora'"):
        Streamer("House", host=server.url, account="emil", access_key="t", db=db)


@pytest.mark.parametrize(
    "wrong",
    [
        ("temp", float("nan")),
        ("temp", [1]),
        ("temp", b"x"),
        ("temp", 2**63),
        ("", 1),
        ("_time", 1),
        (5, 1),
        ("temp", 1, 1_700_000_000_000),
        ("temp", 1, "now"),
    ],
    ids=repr,
)
def test_nonsense_is_refused_where_it_is_logged(wrong):
    """Whatever the debug level; nothing else goes down with it."""
    streamer = Streamer("House", host=NOWHERE, account="nora", access_key="t")
    with pytest.raises(UsageError):
        streamer.log(*wrong)
    streamer.log("temp", 1)
    assert streamer.pending.count == 1
    streamer.close(0)


def test_what_cannot_be_kept_is_logged_or_raised(caplog):
    """By the debug level; never neither."""
    for level in (0, 2):
        streamer = Streamer(
            "House", host=NOWHERE, account="nora", access_key="t", debug_level=level
        )
        streamer._outbox._leaving._room = type(streamer._outbox._leaving._room)(
            "full", 1, 1, None, "refuse"
        )
        if level:
            with pytest.raises(OutboxFull):
                streamer.log("n", 1)
        else:
            streamer.log("n", 1)
            assert "an event was not kept" in caplog.text
        streamer.close(0)
    logging.getLogger("flowkit.device").setLevel(logging.NOTSET)


def test_what_is_missing_is_said_with_where_it_was_looked_for():
    """Before anything is begun; no secret is shown."""
    with pytest.raises(SettingsError, match=r"no host and no account.*profiles\.ini"):
        Streamer("House", access_key="very-secret")
    with pytest.raises(SettingsError, match="no bucket"):
        Streamer(host=NOWHERE, account="nora", access_key="very-secret")
    streamer = Streamer("House", host=NOWHERE, account="nora", access_key="very-secret")
    assert "very-secret" not in repr(streamer)
    streamer.close(0)
    with pytest.raises(LimitError):
        Streamer("x" * 251, host=NOWHERE, account="nora", access_key="t")


def test_offline_events_are_uploaded_later(server, api, state):
    """With their buckets, times and types; nothing is asked of the network before."""
    offline = Streamer("My House", "house", offline=True)
    offline.log("n", 1, epoch=1_700_000_000)
    offline.log_object({"a": True, "b": "1"}, "", epoch=1_700_000_001)
    offline.set_bucket("Other")
    offline.log("n", 2, epoch=1_700_000_002)
    with pytest.raises(UsageError, match="offline"):
        offline.upload("isstreamer_out.csv")
    offline.close()
    (state / "old.csv").write_text("1700000003,n,7\n")
    with streaming(server, "Present") as streamer:
        assert streamer.upload("isstreamer_out.csv") == 3
        assert streamer.upload(state / "old.csv") == 1
    assert stored(api, "/nora/buckets/house") == [
        {"n": 1, "_time": 1_700_000_000_000},
        {"a": True, "b": "1", "_time": 1_700_000_001_000},
    ]
    assert without_time(stored(api, "/nora/buckets/" + _digest("Other"))) == [{"n": 2}]
    assert stored(api, "/nora/buckets/" + _digest("Present")) == [
        {"n": 7, "_time": 1_700_000_003_000}
    ]


def _digest(key):
    from flowkit.device.buckets import bucket

    return bucket("nora", key, "").path.rsplit("/", 1)[1]


def test_a_file_with_a_wrong_line_uploads_nothing(state):
    """So it can be mended and given again."""
    (state / "x.csv").write_text("1700000000,n,1\nnonsense\n")
    streamer = Streamer("House", host=NOWHERE, account="nora", access_key="t")
    with pytest.raises(UsageError, match="line 2"):
        streamer.upload(state / "x.csv")
    assert streamer.pending.count == 0
    streamer.close(0)


ENDS = """
import sys
from flowkit import Streamer
class Held:
    streamer = Streamer("House", "ends", host=sys.argv[1], account="nora", access_key=sys.argv[2])
for n in range(30):
    Held.streamer.log("n", n)
if sys.argv[3] == "exit":
    sys.exit(3)
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", ["end", "exit"])
def test_a_program_that_ends_sends_what_it_logged_once(server, api, how):
    """Nobody closed it, and something holds it to the last."""
    done = subprocess.run(
        [sys.executable, "-c", ENDS, server.url, server.secret, how],
        capture_output=True,
        text=True,
        timeout=50,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert (done.returncode, done.stderr) == (3 if how == "exit" else 0, "")
    assert [each["n"] for each in stored(api, "/nora/buckets/ends")] == list(range(30))


def test_the_streamer_imports_no_gevent():
    """It runs on the smallest of devices."""
    code = (
        "import sys, json; from flowkit import Streamer;"
        "print(json.dumps([m for m in ('gevent', 'requests', 'greenlet') if m in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []
