"""The sender against a real server: what arrives, what waits, what is refused, what it says."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from contextlib import contextmanager
from time import monotonic

import pytest

from flowkit.client.api import API
from flowkit.client.credentials import Token
from flowkit.device import HttpLink, Outbox, Sender
from flowkit.embedded import embedded
from flowkit.errors import (
    BadRequest,
    DeadlineExceeded,
    OutboxError,
    SettingsError,
    UsageError,
)
from flowkit.testing import FaultProxy
from tests.server_process import ServerProcess

PATH = "/nora/field"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server in a process of its own."""
    with ServerProcess(tmp_path_factory.mktemp("sender") / "data") as running:
        yield running


@pytest.fixture
def api(server):
    """Its owner, with an empty flow."""
    with API(Token("nora", server.secret), host=server.url) as owner:
        flow = owner.flow.create({"path": PATH, "capacity": 100_000})
        yield owner
        owner.flow.delete(flow["id"])


@pytest.fixture
def box(tmp_path):
    """An outbox."""
    with Outbox(str(tmp_path / "box.db"), durable=False) as opened:
        yield opened


def entry(number, path=PATH, **more):
    """One entry."""
    return {"path": path, "elems": {"n": number}, **more}


def numbers(api, path=PATH):
    """What is stored, oldest first."""
    drops = api.request("GET", "/drop", params={"path": path, "order": "asc", "limit": 100_000})
    return [drop["elems"]["n"] for drop in drops]


@contextmanager
def sending(box, server, url=None, **how):
    """A sender to the server, or to a proxy before it."""
    link = HttpLink(url or server.url, "nora", server.secret, timeout_s=5)
    sender = Sender(box, link, **how)
    try:
        yield sender
    finally:
        sender.close(0)


def test_everything_that_is_put_arrives_in_order(api, server, box):
    """Before and after the start, from several threads, in streams of their own."""
    box.put_many("before", [entry(number) for number in range(1500)])
    with sending(box, server) as sender:
        threads = [
            threading.Thread(
                target=lambda at=at: [box.put(f"s{at}", entry(at * 1000 + n)) for n in range(40)]
            )
            for at in range(2, 6)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sender.flush(20).count == 0
        assert sender.state.online
        assert not sender.state.error
    stored = numbers(api)
    assert [number for number in stored if number < 2000] == list(range(1500))
    for at in range(2, 6):
        mine = [number for number in stored if number // 1000 == at]
        assert mine == [at * 1000 + number for number in range(40)]


def test_a_lost_answer_sends_the_entries_again_and_stores_them_once(api, server, box):
    """The proxy cuts connections at random moments for as long as anything is queued."""
    with FaultProxy(server.url) as proxy, sending(box, server, proxy.url) as sender:
        done = threading.Event()

        def cut():
            while not done.wait(0.03):
                proxy.reset()

        cutter = threading.Thread(target=cut)
        cutter.start()
        for number in range(300):
            box.put("air", entry(number))
            sender.wake()
        done.set()
        cutter.join()
        assert sender.flush(20).count == 0
    assert numbers(api) == list(range(300))


def test_put_does_not_wait_for_a_network_that_answers_nothing(server, box):
    """A black hole: the entries are queued, close returns, and says what is left."""
    with FaultProxy(server.url) as proxy:
        proxy.set(stall=60.0)
        with sending(box, server, proxy.url) as sender:
            began = monotonic()
            for number in range(50):
                box.put("air", entry(number))
            assert monotonic() - began < 2
            began = monotonic()
            assert sender.close(0.3).count == 50
            assert monotonic() - began < 5


def test_what_is_refused_for_good_is_a_dead_letter_and_the_rest_goes_on(api, server, box):
    """In the middle of a request; and it can be queued anew."""
    box.put("air", entry(1))
    box.put("air", entry(2, fhash=5))
    box.put("air", entry(3))
    told = []
    with sending(box, server, on_event=lambda word, text: told.append(word)) as sender:
        assert sender.flush(10).count == 0
        (letter,) = box.dead()
        assert "fhash" in letter.error
        assert json.loads(letter.entry)["elems"] == {"n": 2}
        box.requeue(letter.id)
        assert sender.flush(10).count == 0
    assert numbers(api) == [1, 3]
    assert told.count("dead") == 2
    said = api.origin.read(box.box)["air"]
    assert (said["sequence"], said["skipped"]) == (4, 2)


def test_a_flow_that_is_not_there_holds_up_its_own_stream_only(api, server, box):
    """It waits, and goes once the flow is there."""
    box.put("none", entry(7, "/nora/none"))
    box.put("air", entry(1))
    made = []
    with sending(box, server) as sender:
        sender.wait(box.put("air", entry(2)), 10)
        assert numbers(api) == [1, 2]
        assert box.pending_of("none").count == 1
        until(lambda: "/nora/none" in sender.state.error)
        made.append(api.flow.create({"path": "/nora/none"})["id"])
        sender.wake()
        assert sender.flush(10).count == 0
    assert numbers(api, "/nora/none") == [7]
    api.flow.delete(made[0])


def test_a_missing_flow_may_be_made_by_the_hook(api, server, box):
    """The hook hears the path, and says that it did."""

    def make(path):
        return bool(api.flow.create({"path": path}))

    with sending(box, server, on_missing=make) as sender:
        sender.wait(box.put("new", entry(7, "/nora/made")), 10)
    assert numbers(api, "/nora/made") == [7]
    api.flow.delete(api.flow.find(path="/nora/made")[0]["id"])


def test_a_missing_flow_that_nobody_makes_is_asked_for_with_growing_pauses(server, box):
    """A hook that can do nothing is not called again and again."""
    called = []
    with sending(box, server, on_missing=called.append) as sender:
        box.put("none", entry(7, "/nora/never"))
        assert sender.flush(1.5).count == 1
        assert "/nora/never" in sender.state.error
    assert set(called) == {"/nora/never"}
    assert len(called) <= 6


def test_wait_knows_what_was_dropped_before_it_began(api, server, box):
    """The skips went out first, as one range; what was stored beside them was stored."""
    with sending(box, server, start=False) as sender:
        given = [box.put("state", entry(number)) for number in range(3)]
        newest = box.replace("state", entry(3))
        sender.start()
        assert sender.flush(5).count == 0
        assert not box.streams()
        for receipt in given:
            with pytest.raises(OutboxError, match="superseded"):
                sender.wait(receipt, 5)
        sender.wait(newest, 5)


def test_wait_says_what_became_of_a_message(api, server, box):
    """Stored, refused, replaced by a newer one, or still queued."""
    with sending(box, server, start=False) as sender:
        old = box.put("state", entry(1))
        new = box.replace("state", entry(2))
        bad = box.put("air", entry(3, fhash=5))
        with pytest.raises(DeadlineExceeded):
            sender.wait(new, 0.05)
        with pytest.raises(OutboxError, match="superseded"):
            sender.wait(old, 5)
        sender.start()
        sender.wait(new, 5)
        with pytest.raises(BadRequest, match="fhash"):
            sender.wait(bad, 5)
    assert numbers(api) == [2]
    with pytest.raises(UsageError, match="closed"):
        sender.start()


def test_a_wrong_secret_is_said_and_nothing_is_lost(api, server, box):
    """It waits for another one; the hook may bring it."""
    link = HttpLink(server.url, "nora", "wrong" * 6)
    box.put("air", entry(1))
    fixed = threading.Event()

    def renew():
        if fixed.is_set():
            link.set_token(server.secret)
        return fixed.is_set()

    sender = Sender(box, link, on_refused=renew)
    try:
        until(lambda: "X-Auth-Token" in sender.state.error)
        assert not sender.state.online
        assert "wrong" not in sender.state.error
        fixed.set()
        assert sender.flush(10).count == 0
    finally:
        sender.close(0)
    assert numbers(api) == [1]


def test_a_copied_file_is_noticed_and_gets_a_box_of_its_own(api, server, tmp_path):
    """The twin's entries are stored, too, and both say what happened."""
    first = Outbox(str(tmp_path / "a.db"), durable=False)
    first.put("air", entry(1))
    with sending(first, server) as sender:
        sender.flush(10)
    first.close()
    (tmp_path / "b.db").write_bytes((tmp_path / "a.db").read_bytes())
    for name, number in (("a", 2), ("b", 3)):
        with Outbox(str(tmp_path / f"{name}.db"), durable=False) as box:
            box.put("air", entry(number))
            told = []
            with sending(box, server, on_event=lambda *said, to=told: to.append(said[0])) as sender:
                assert sender.flush(10).count == 0
            assert ("forked" in told) == (name == "b")
            assert [report.kind for report in box.reports()] == ["forked"] * (name == "b")
    assert numbers(api) == [1, 2, 3]


@pytest.mark.parametrize("how", ["none", "fastest", "smallest"])
def test_requests_are_compressed_as_asked(api, server, box, how):
    """Whatever is chosen, the same is stored."""
    box.put_many("air", [entry(number, fhash=f"f{number}") for number in range(200)])
    with sending(box, server, compression=how) as sender:
        assert sender.flush(10).count == 0
    assert numbers(api) == list(range(200))


def test_it_sends_to_a_platform_in_the_same_process(tmp_path):
    """An API without a host is a way, too."""
    with embedded(account="nora") as api, Outbox(str(tmp_path / "box.db"), durable=False) as box:
        api.flow.create({"path": PATH})
        with Sender(box, api) as sender:
            sender.wait(box.put("air", entry(1)), 10)
        assert numbers(api) == [1]


def test_without_threads_the_caller_does_the_turns(api, server, box):
    """``turn`` never waits for work, and says whether there was any."""
    with sending(box, server, start=False) as sender:
        box.put("air", entry(1))
        turns = 0
        while sender.turn():
            turns += 1
            assert turns < 10
        assert box.pending.count == 0
        assert not sender.turn()
    assert numbers(api) == [1]


def test_company_is_waited_for_within_the_time(api, server, box):
    """Rows linger until there are enough of them, or their time is up, or somebody flushes."""
    with sending(box, server, linger_s=30, linger_rows=3) as sender:
        sender.flush(5)
        box.put("air", entry(1))
        box.put("air", entry(2))
        until_settled(box, 2, monotonic() + 0.3, expected=False)
        box.put("air", entry(3))
        until(lambda: not box.unsettled())
        box.put("air", entry(4))
        assert sender.flush(5).count == 0
    assert numbers(api) == [1, 2, 3, 4]


def until_settled(box, count, end, *, expected):
    """Watch for a while that the rows stay, or go."""
    while monotonic() < end:
        assert (box.pending.count == count) is not expected


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"lanes": 0}, "lanes=0"),
        ({"compression": "zip"}, "no compression"),
    ],
)
def test_wrong_settings_are_refused_at_once(server, box, wrong, said):
    """With the value and the way out."""
    with pytest.raises((UsageError, SettingsError), match=said):
        Sender(box, HttpLink(server.url, "nora", server.secret), **wrong)
    with pytest.raises(SettingsError, match="no way to a platform"):
        Sender(box, object())


def until(right, seconds=10.0):
    """Ask again until *right* holds."""
    end = monotonic() + seconds
    while not right():
        assert monotonic() < end, "it did not come"


IDLE = """
import sys
from flowkit.device import HttpLink, Outbox, Sender
box = Outbox(sys.argv[1])
sender = Sender(box, HttpLink(sys.argv[2], "nora", sys.argv[3]))
sender.wait(box.put("air", {"path": "/nora/field", "elems": {"n": 1}}), 20)
assert not {"gevent", "greenlet", "requests", "flowkit.green"} & set(sys.modules)
with open("/proc/self/status") as status:
    print(next(line.split()[1] for line in status if line.startswith("VmRSS")))
sender.close(1)
"""


@pytest.mark.slow
def test_a_process_with_an_idle_sender_is_small(api, server, tmp_path):
    """At most 45 MB resident, without gevent."""
    run = subprocess.run(
        [sys.executable, "-c", IDLE, str(tmp_path / "box.db"), server.url, server.secret],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) * 1024 <= 45_000_000
