"""The sender against platforms that answer as none should: no loss, no busy loop, no hang."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from contextlib import closing, contextmanager
from time import monotonic, sleep

import pytest

from flowkit.device import HttpLink, Outbox, Sender
from flowkit.device.compression import Compressor, unpacked
from flowkit.device.link import retry_after_s
from flowkit.embedded import embedded
from flowkit.errors import BadRequest, DeadlineExceeded, UsageError
from tests.device.fake_platform import FakePlatform, envelope

ENTRY = {"path": "/nora/field", "elems": {"n": 1}}


@pytest.fixture
def platform():
    """A platform."""
    with FakePlatform() as running:
        yield running


@pytest.fixture
def box(tmp_path):
    """An outbox that keeps what was settled."""
    with Outbox(str(tmp_path / "box.db"), durable=False, keep_acked=10) as opened:
        yield opened


@contextmanager
def sending(box, platform, **how):
    """A sender to the platform."""
    sender = Sender(box, HttpLink(platform.url, "nora", "x", timeout_s=5), **how)
    try:
        yield sender
    finally:
        sender.close(0)


def until(right, seconds=8.0):
    """Ask again until *right* holds."""
    end = monotonic() + seconds
    while not right():
        assert monotonic() < end, "it did not come"
        sleep(0.01)


def refusing(status, text):
    """A rule that refuses the first entry of each request."""

    def rule(method, path, body):
        if method != "POST" or "/drop" not in path:
            return None
        marks = [{"box": rule.box.box, "stream": "air", "sequence": 0}]
        return 207, {}, envelope([{"status": status, "errors": [text]}], 207, marks=marks)

    return rule


def greet_now(sender):
    """As if five minutes had passed."""
    sender._desk._greet_at = 0.0
    sender._desk.news()


def test_what_is_between_takes_small_requests_only(platform, box):
    """A 413 makes smaller requests of a large one; what is too large by itself is a dead letter."""
    sizes = []

    def rule(method, path, body):
        if method != "POST" or "/drop" not in path:
            return None
        sizes.append(len(body))
        return (413, {}, envelope(None, 413, ["too large"])) if len(body) > 4_000 else None

    platform.rules = rule
    texts = ["x" * (5_000 if number == 30 else 200) for number in range(60)]
    box.put_many("air", [{"path": "/nora/field", "elems": {"t": text}} for text in texts])
    with sending(box, platform, compression="none") as sender:
        assert sender.flush(20).count == 0
        (dead,) = box.dead()
        assert "413" in dead.error
        assert json.loads(dead.entry)["elems"]["t"] == texts[30]
    until(lambda: platform.marks["air"][0] == 60)
    assert len(sizes) < 60, "one by one"


def test_what_a_restored_server_lost_is_sent_again_without_another_put(platform, box):
    """A sender with nothing to do asks for the marks now and then, and acts on what it hears."""
    with sending(box, platform) as sender:
        box.put_many("air", [ENTRY] * 5)
        assert sender.flush(5).count == 0
        until(lambda: not box.streams())
        platform.marks.clear()
        greet_now(sender)
        until(lambda: platform.marks.get("air", (0,))[0] == 5)


def test_an_answer_without_marks_is_none_that_says_there_are_none(platform, box):
    """A list, from whatever stands in between: nothing is taken for lost."""
    with sending(box, platform) as sender:
        box.put("air", ENTRY)
        assert sender.flush(5).count == 0
        platform.rules = lambda method, path, body: (200, {}, []) if "/origin" in path else None
        greet_now(sender)
        until(lambda: "marks" in sender.state.error)
        assert box.reports() == []


def test_a_stream_does_not_wait_for_the_upload_of_another(platform, box):
    """Both wait before the sender begins, so the same lane sees both."""
    go = threading.Event()
    platform.rules = lambda method, path, body: go.wait(10) and None if method == "PUT" else None
    box.put("large", {"message": {}}, payload=os.urandom(500_000))
    box.put("air", ENTRY)
    with sending(box, platform) as sender:
        until(lambda: "air" in platform.marks, 3)
        assert "large" not in platform.marks
        go.set()
        assert sender.flush(8).count == 0


def test_a_flow_that_cannot_be_made_is_no_busy_loop(platform, box):
    """The hook is asked, and asked again after a pause."""
    rule = platform.rules = refusing(404, "no such flow")
    rule.box = box
    asked = []
    with sending(box, platform, on_missing=asked.append):
        box.put("air", ENTRY)
        sleep(1.0)
        assert 2 <= len(asked) < 6


def test_a_credential_that_is_renewed_and_refused_is_no_busy_loop(platform, box):
    """One renewal at once, the next after a pause."""
    platform.rules = lambda method, path, body: (403, {}, envelope(None, 403, ["no"]))
    renewed = []
    with sending(box, platform, on_refused=lambda: renewed.append(1) or True):
        box.put("air", ENTRY)
        sleep(1.0)
        assert 1 <= len(renewed) < 6


def test_marks_that_contradict_each_other_are_no_busy_loop(platform, box):
    """The answer to a request names another message, the answer to the question does not."""

    def rule(method, path, body):
        marks = [{"box": box.box, "stream": "air", "sequence": 99, "message": "f" * 16}]
        is_drop = method == "POST"
        return (207, {}, envelope([{"id": "d"}], 207, marks=marks)) if is_drop else None

    platform.rules = rule
    with sending(box, platform):
        box.put("air", ENTRY)
        sleep(1.0)
        assert len(platform.asked) < 12
        assert box.pending.count == 1


def test_a_server_that_always_knows_other_marks_is_no_busy_loop(platform, box):
    """A cache that answers for somebody else: one fork after another, with pauses that grow."""
    platform.rules = lambda method, path, body: (
        (200, {}, {"head": {"ok": True}, "body": {"air": {"sequence": 7, "message": "f" * 24}}})
        if method == "GET"
        else None
    )
    box.put("air", {"path": "/nora/a", "elems": {}})
    told = []
    sender = Sender(
        box, HttpLink(platform.url, "nora", "x" * 28), on_event=lambda *at: told.append(at)
    )
    try:
        sender.flush(2)
    finally:
        sender.close(0)
    assert 1 <= len([word for word, _ in told if word == "forked"]) <= 6


def test_who_flushes_again_and_again_does_not_press_a_server_that_asked_for_a_pause(platform, box):
    """Retry-After holds for flush and wait, too; a pause of our own is shortened, not ended."""
    status, headers = 429, {"Retry-After": "60"}
    platform.rules = lambda *_: (status, headers, envelope(None, status, ["slowly"]))
    with sending(box, platform) as sender:
        box.put("air", ENTRY)
        end = monotonic() + 1
        while monotonic() < end:
            sender.flush(0.02)
        assert len(platform.asked) < 4
        status, headers = 503, {}
        sender.wake()
        end = monotonic() + 2
        while monotonic() < end:
            sender.flush(0.02)
        assert 2 < len(platform.asked) < 12


def test_an_outbox_has_one_sender(platform, box):
    """Two would take each other's answers for those of a restored server."""
    with sending(box, platform), pytest.raises(UsageError, match="has a sender already"):
        Sender(box, HttpLink(platform.url, "nora", "x"))
    with sending(box, platform) as second:
        box.put("air", ENTRY)
        assert second.flush(5).count == 0


def test_what_is_closed_in_the_wrong_order_ends_all_the_same(platform, tmp_path):
    """The outbox first: flush returns, close says what is left."""
    platform.rules = lambda *_: (500, {}, envelope(None, 500, ["no"]))
    box = Outbox(str(tmp_path / "box.db"))
    with sending(box, platform) as sender:
        box.put("air", ENTRY)
        box.close()
        assert sender.flush().count == 1
        assert sender.close().count == 1


def test_a_message_that_died_before_it_was_waited_for_is_not_stored(platform, box):
    """A receipt whose skip is settled already."""
    rule = refusing(400, "no")
    rule.box = box
    platform.rules = lambda *how: None if b'"skip"' in how[2] else rule(*how)
    with sending(box, platform) as sender:
        receipt = box.put("air", ENTRY)
        until(lambda: platform.marks.get("air"))
        until(lambda: not box.streams())
        with pytest.raises(BadRequest, match="no"):
            sender.wait(receipt, 5)


def test_an_answer_that_trickles_has_an_end():
    """In its headers or in its body; with and without a length."""
    heads = (b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n")
    for head in (*heads, b"HTTP/1.0 200 OK\r\n\r\n"):
        with closing(socket.create_server(("127.0.0.1", 0))) as server:
            threading.Thread(target=_trickle, args=(server, head), daemon=True).start()
            url = f"http://127.0.0.1:{server.getsockname()[1]}"
            began = monotonic()
            with pytest.raises(DeadlineExceeded):
                HttpLink(url, "nora", "x", timeout_s=0.5).ask("GET", ("flow",))
            assert monotonic() - began < 2


def _trickle(server, head):
    caller, _ = server.accept()
    try:
        caller.sendall(head)
        while True:
            caller.sendall(b" ")
            sleep(0.05)
    except OSError:
        caller.close()


def test_what_a_server_asks_for_is_bounded_and_by_its_own_clock():
    """A device whose clock stands in 1970, or a header without sense."""
    date = {"date": "Sat, 01 Jan 2050 00:00:00 GMT"}
    assert retry_after_s({"retry-after": "Sat, 01 Jan 2050 00:00:07 GMT", **date}) == 7
    assert retry_after_s({"retry-after": "inf"}) == 3600
    assert retry_after_s({"retry-after": "1e300"}) == 3600
    assert retry_after_s({"retry-after": "soon"}) is None


def test_a_platform_in_the_same_process_takes_what_is_compressed(tmp_path):
    """In each coding that a sender may choose."""
    compressor = Compressor()
    text = b"over and over " * 200
    while packed := compressor.pack(text, "fastest")[1]:
        body, headers = compressor.pack(text, "fastest")
        assert unpacked(body, headers["Content-Encoding"]) == text
        compressor.refuse(packed)
    with (
        embedded() as api,
        Outbox(str(tmp_path / "box.db")) as box,
        sending_api(box, api) as sender,
    ):
        path = f"/{api.creds.account}/field"
        api.flow.create({"path": path})
        box.put_many("air", [{"path": path, "elems": {"text": "over and over"}}] * 100)
        assert sender.flush(10).count == 0


@contextmanager
def sending_api(box, api):
    """A sender to a platform in this process."""
    with Sender(box, api) as sender:
        yield sender


CHILD = """
import os, sys, tempfile
from flowkit import DeviceClient, Streamer
url, folder = "http://127.0.0.1:1", tempfile.mkdtemp()
os.environ["XDG_STATE_HOME"] = folder
streamer = Streamer("bench", access_key="x", host=url, account="nora")
streamer.log("a", 1)
device = DeviceClient.start("bench-1", "nora/x", folder + "/d.db", url, wait=False)
device.create_stream_sender().enqueue_message(b"x")
if os.fork() == 0:
    sys.stderr.write("child ")
    sys.exit(0)
os.wait()
os._exit(0)
"""


def test_a_forked_child_ends_at_once_and_without_a_word():
    """What the parent has open is the parent's to close."""
    began = monotonic()
    done = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, timeout=30)
    assert "Traceback" not in done.stderr
    assert "child" in done.stderr
    assert monotonic() - began < 4.5


PATCHED = """
import sys
if sys.argv[1] == "before":
    from gevent import monkey; monkey.patch_all()
from flowkit import DeviceClient
from gevent import monkey; monkey.patch_all()
import tempfile, time
url, db = "http://127.0.0.1:1", tempfile.mkdtemp() + "/d.db"
device = DeviceClient.start("bench-1", "nora/x", db, url, wait=False)
device.create_stream_sender().enqueue_message({"n": 1})
assert device.wait_enqueued_messages_sent(0.3) is False
assert device.close(0).count == 1
"""


@pytest.mark.parametrize("when", ["before", "after"])
def test_gevent_may_patch_a_process_before_and_after_the_import(when):
    """A thread that waited in its own way would stop all greenlets."""
    how = [sys.executable, "-W", "ignore", "-c", PATCHED, when]
    done = subprocess.run(how, capture_output=True, text=True, timeout=20)
    assert "Traceback" not in done.stderr
    assert done.returncode == 0
