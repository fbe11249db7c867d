"""The public test kit: both doors of a Platform, the clock, and the look at switches."""

import os
import threading
from datetime import UTC, datetime, timedelta

import gevent
import pytest

from flowkit import NotFound, TransportError, UsageError
from flowkit.testing import FakeClock, Platform, no_switch, switches

OTHER_CALLERS = {
    "thread": lambda work: _in_thread(work),
    "greenlet": lambda work: gevent.spawn(work).get(),
    "greenlet of another thread": lambda work: _in_thread(lambda: gevent.spawn(work).get()),
}


def _in_thread(work):
    """What *work* returns in a thread of its own."""
    result = []
    thread = threading.Thread(target=lambda: result.append(work()))
    thread.start()
    thread.join(20)
    return result[0]


@pytest.mark.parametrize("call", OTHER_CALLERS.values(), ids=OTHER_CALLERS)
def test_both_doors_lead_to_the_same_platform(platform, call):
    """What is written in process is read over HTTP and the other way round, from any caller."""
    path = f"/test/{len(platform.api.flow.find())}"

    def work():
        with platform.connect() as over_http:
            written = platform.api.flow.create({"path": path})
            drop = over_http.drop(written["id"]).create({"elems": {"n": 1}})
            return (
                over_http.flow.read(written["id"]) == written,
                platform.api.drop(written["id"]).read(drop["id"]) == drop,
            )

    assert call(work) == (True, True)


def test_a_platform_works_in_a_patched_process(tmp_path):
    """In a process that gevent has patched both doors work, too."""
    import subprocess
    import sys

    script = (
        "from gevent import monkey; monkey.patch_all()\n"
        "from flowkit.testing import Platform\n"
        "with Platform() as platform:\n"
        "    flow = platform.api.flow.create({'path': '/test/a'})\n"
        "    with platform.connect() as api:\n"
        "        print(api.flow.read(flow['id']) == flow)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)

    assert (done.stdout, done.stderr) == ("True\n", "")


def test_a_platform_is_gone_when_it_is_closed():
    """Folder, port and API end with it; closing again does nothing."""
    with Platform() as platform:
        folder = platform.app.settings.data
        over_http = platform.connect(retries=0)
        over_http.flow.find()
    platform.close()

    assert not os.path.exists(folder)
    with pytest.raises(UsageError, match="closed"):
        platform.api.flow.find()
    with pytest.raises(TransportError):
        over_http.flow.find()
    over_http.close()


def test_a_closed_platform_says_so():
    """No server is started on what is closed."""
    platform = Platform()
    platform.close()
    with pytest.raises(UsageError, match="platform is closed"):
        platform.connect()


def test_the_server_can_be_stopped_and_started_again(platform):
    """stop_serving ends HTTP alone; the next url is a fresh server on the same data."""
    flow = platform.api.flow.create({"path": "/test/stopped"})
    platform.serve()
    platform.stop_serving()
    platform.stop_serving()

    assert platform.api.flow.read(flow["id"]) == flow
    with platform.connect() as api:
        assert api.flow.read(flow["id"]) == flow


def test_a_platform_with_a_path_keeps_its_data(tmp_path):
    """A named folder is not removed and opens again."""
    with Platform(tmp_path / "data") as platform:
        flow = platform.api.flow.create({"path": "/test/kept"})
    with Platform(tmp_path / "data") as platform:
        assert platform.api.flow.read(flow["id"]) == flow


def test_the_secret_of_one_platform_opens_no_other(tmp_path):
    """It lives in the memory of its process only, not in the folder."""
    with Platform(tmp_path / "data") as platform:
        secret = platform.token
    with Platform(tmp_path / "data") as platform:
        platform.api.creds = secret
        with pytest.raises(Exception, match="X-Auth-Token"):
            platform.api.flow.find()


def test_the_clock_of_a_platform_can_be_moved():
    """Dates come from the FakeClock, so AGE can be tested without waiting."""
    clock = FakeClock(datetime(2018, 2, 7, tzinfo=UTC))
    with Platform(clock=clock) as platform:
        flow = platform.api.flow.create({"path": "/test/clock"})
        platform.api.drop(flow["id"]).create({"elems": {"n": 1}})
        fresh = platform.api.drop(flow["id"]).find(filter="AGE < 60000")
        clock.advance(timedelta(minutes=2))
        later = platform.api.drop(flow["id"]).find(filter="AGE < 60000")

    assert flow["creationDate"] == 1_517_961_600_000
    assert (len(fresh), len(later)) == (1, 0)


def test_a_clock_stands_still_and_goes_where_it_is_told():
    """Advanced by seconds or a timedelta, backwards too; naive datetimes are refused."""
    clock = FakeClock(1000)

    assert (clock(), clock()) == (1000, 1000)
    assert clock.advance(1.5) == 2500
    assert clock.advance(timedelta(seconds=-2)) == 500
    assert repr(clock) == "<FakeClock 1970-01-01T00:00:00.500000+00:00>"
    with pytest.raises(ValueError, match="time zone"):
        FakeClock(datetime(2026, 1, 1))


def test_switches_are_counted():
    """Each time the caller leaves off counts, what other greenlets do among themselves does not."""
    other = gevent.spawn(lambda: [gevent.sleep(0) for _ in range(5)])
    with switches() as seen:
        len("nothing")
        before = seen.count
        gevent.sleep(0)
        after = seen.count
    other.join()

    assert (before, after) == (0, 1)
    assert seen.count == 1


def test_no_switch_says_when_something_waited():
    """It passes over what works and refuses what waits; an error inside goes its own way."""
    with no_switch():
        len("nothing")
    with pytest.raises(AssertionError, match="switched 1 times"), no_switch():
        gevent.sleep(0)
    with pytest.raises(NotFound), no_switch():
        raise NotFound("x")
