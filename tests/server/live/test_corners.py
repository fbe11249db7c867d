"""Subscriptions in the corners: odd messages, floods, stalled readers, early ends."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from contextlib import contextmanager, suppress
from functools import partial
from threading import Barrier, Event

import pytest
import requests

from flowkit import limits
from flowkit.errors import NotFound, ServerError
from flowkit.green import in_thread, monotonic, sleep
from flowkit.protocol.envelope import Request
from flowkit.protocol.session import FAULT, POLICY, State
from flowkit.server.live import pages
from flowkit.server.live.polling import polled
from flowkit.server.serve import Server
from flowkit.server.settings import Settings
from flowkit.server.websocket import serve_pair
from tests.server.live.listener import Listener, new_session
from tests.server.live.test_sessions import token, wait_until
from tests.server.visitor import Clock, Visitor


def nested(depth):
    """A list in a list in a list."""
    made = 1
    for _ in range(depth):
        made = [made]
    return made


ODD = {
    "unsubscribe sub": {"type": "unsubscribe", "sub": [1], "path": "/nora/house"},
    "unsubscribe flowId": {"type": "unsubscribe", "flowId": {}, "path": "/nora/house"},
    "unsubscribe path": {"type": "unsubscribe", "flowId": "f", "path": []},
    "object": {"type": "find", "object": ["drop"], "id": "d"},
    "subscribe object": {"type": "subscribe", "object": {}, "path": "/nora/house"},
    "filter": {"type": "subscribe", "path": "/nora/house", "sub": "a", "filter": [1]},
    "only": {"type": "subscribe", "path": "/nora/house", "sub": "a", "only": {"a": 1}},
    "hints": {"type": "subscribe", "path": "/nora/house", "sub": "a", "hints": [[]]},
    "changes": {"type": "subscribe", "path": "/nora/house", "sub": "a", "changes": [["create"]]},
    "deep": {"type": "create", "object": "drop", "value": {"path": "/nora/house", "elems": {}}},
    "options": {"type": "findmany", "path": "/nora/house", "options": {"limit": {"a": [1]}}},
    "option names": {"type": "findmany", "path": "/nora/house", "options": {"": [], "sort": 5}},
    "path": {"type": "findmany", "object": "drop", "path": ["/nora/house"]},
}


@pytest.mark.parametrize("name", ODD)
def test_odd_members_are_refused_and_the_connection_stays(nora, house, name):
    """Whatever a member holds: the message is answered, and so is the next one."""
    message = dict(ODD[name])
    if name == "deep":
        message["value"] = {**message["value"], "elems": {"a": nested(400)}}
    with Listener(nora) as heard:
        heard.say({**message, "msgId": "odd"})
        assert heard.reply()["head"]["status"] == 400
        assert heard.ask("find", flowId=house["id"], id="d")["head"]["status"] in (400, 404)


# Stalled readers


def post(who, session_id, message):
    """Post a message to the polling address."""
    body = json.dumps(message).encode()
    return who.app.handle(Request("POST", ("session", session_id, "polling"), {}, {}, body))


def poll(who, session_id):
    """The messages that a poll is answered with."""
    answer = who.app.handle(Request("GET", ("session", session_id, "polling"), {}, {}))
    assert answer.status == 200, answer.body
    return json.loads(answer.body)


def test_a_replay_waits_for_a_client_however_slow_it_is(nora, house, monkeypatch):
    """Between two polls the queue may be full for longer than a socket may take nothing."""
    monkeypatch.setattr(limits, "push_stall_s", 0.05)
    nora.app.live.queue_messages_max = 4
    for n in range(30):
        nora.drop(house, n=n)
    session_id = new_session(nora)
    subscribe = {"type": "subscribe", "path": "/nora/house", "sub": "a", "since": "start"}
    assert post(nora, session_id, {**subscribe, "msgId": 1}).status == 200
    found = []
    monkeypatch.setattr(limits, "poll_wait_s", 1.0)
    while len(found) < 30:
        sleep(0.1)  # the bound on a socket passes twice; no socket is there
        heard = poll(nora, session_id)
        assert heard, f"nothing came after {found}"
        found += [one["value"]["elems"]["n"] for one in heard if one.get("type") == "message"]
    assert found == list(range(30))


def test_a_replay_is_never_a_slow_reader(nora, house):
    """What is shown is larger than what is stored; the page ends where the bound is reached."""
    nora.app.live.queue_bytes_max = 20_000
    for n in range(200):
        nora.drop(house, n=n, text="x" * 500)
    session_id = new_session(nora)
    subscribe = {"type": "subscribe", "path": "/nora/house", "sub": "a", "since": "start"}
    assert post(nora, session_id, {**subscribe, "msgId": 1}).status == 200
    session = nora.app.live.session(session_id)
    found = []
    while len(found) < 200:
        heard = poll(nora, session_id)
        assert not session.is_closed, f"closed after {found}"
        assert heard, f"nothing came after {found}"
        found += [one["value"]["elems"]["n"] for one in heard if one.get("type") == "message"]
    assert found == list(range(200))


# Floods


def test_replies_that_nobody_polls_are_bounded(nora, house):
    """Further messages are refused until some have been fetched."""
    nora.app.live.queue_bytes_max = 20_000
    nora.drop(house, text="x" * 5_000)
    session_id = new_session(nora)
    ask = {"type": "findmany", "object": "drop", "flowId": house["id"], "msgId": 1}
    statuses = [post(nora, session_id, ask).status for _ in range(40)]
    assert statuses[:3] == [200, 200, 200]
    assert statuses[-1] == 503
    assert nora.app.live.session(session_id).pushes.bytes < 40_000
    assert len(poll(nora, session_id)) < 10
    assert post(nora, session_id, ask).status == 200


def raw(who):
    """A handshaken socket of a new session that nobody reads, and its session."""
    session_id = new_session(who)
    connected = socket.socket(fileno=serve_pair(who.app.live).detach())
    connected.settimeout(10.0)
    connected.sendall(
        f"GET /session/{session_id}/ws HTTP/1.1\r\nhost: inside\r\nupgrade: websocket\r\n"
        "connection: upgrade\r\nsec-websocket-version: 13\r\n"
        "sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode()
    )
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += connected.recv(4096)
    assert b" 101 " in answer
    return connected, who.app.live.session(session_id)


def flood(connected, frame, total_bytes):
    """Send a frame again and again, until the other side takes no more or *total_bytes* are out."""
    data = frame * max(1, 65_536 // len(frame))
    connected.settimeout(0.5)
    sent = 0
    with suppress(OSError):
        while sent < total_bytes:
            sent += connected.send(data)
    return sent


FLOOD = """
import os, sys
fd, count, frame = int(sys.argv[1]), int(sys.argv[2]), bytes.fromhex(sys.argv[3])
os.set_blocking(fd, True)
for _ in range(count // 100):
    os.write(fd, frame * 100)
"""


@contextmanager
def flooding(connected, frame, count):
    """A process of its own that sends a frame as often and as fast as it can."""
    args = [sys.executable, "-c", FLOOD, str(connected.fileno()), str(count), frame.hex()]
    with subprocess.Popen(args, pass_fds=[connected.fileno()]) as child:
        yield child


def masked(opcode, text):
    """A frame of a client, with a mask that changes nothing."""
    assert len(text) <= 125
    return bytes((0x80 | opcode, 0x80 | len(text), 0, 0, 0, 0)) + text


@pytest.mark.parametrize(
    "frame", [masked(1, b"x"), masked(9, b"x" * 125)], ids=["nonsense", "pings"]
)
def test_answers_that_nobody_reads_are_bounded(nora, monkeypatch, frame):
    """Neither refusals nor pongs pile up for a client that sends and never reads."""
    nora.app.live.queue_bytes_max = 100_000
    connected, session = raw(nora)
    with connected:
        flood(connected, frame, 8_000_000)
        kept = session.pushes.bytes + len(session._line._outlet._rest) if session._line else 0
        assert kept < 1_000_000


def test_a_client_that_floods_the_loop_leaves_the_others_their_turn(nora, house):
    """A hundred thousand heartbeats hold nobody up: drops are pushed all the while."""
    connected, _ = raw(nora)
    with connected, Listener(nora) as heard:
        heard.subscribe(path="/nora/house")
        with flooding(connected, masked(1, b'{"type":"heartbeat"}'), 100_000) as child:
            turns = 0
            while child.poll() is None:
                nora.drop(house, n=1)
                heard.next()
                turns += 1
    assert turns >= 3


def test_places_told_to_who_does_not_read_are_bounded(nora, house, monkeypatch):
    """They do not count as messages; yet they end where the bound in bytes is reached."""
    monkeypatch.setattr(limits, "progress_changes_max", 1)
    monkeypatch.setattr(limits, "poll_wait_s", 0.2)
    nora.app.live.queue_bytes_max = 20_000
    session_id = new_session(nora)
    for sub in ("a", "b"):
        ask = {"type": "subscribe", "path": "/nora/house", "sub": sub, "filter": "n < 0"}
        post(nora, session_id, ask)
    session = nora.app.live.session(session_id)
    last = [nora.drop(house, n=n) for n in range(300)][-1]
    assert session.pushes.bytes < 25_000
    while poll(nora, session_id):
        pass
    nora.drop(house, n=1)
    assert last
    assert {one["sub"] for one in poll(nora, session_id)} == {"a", "b"}


# Two at once


def test_a_plain_subscription_asked_for_twice_at_once_is_one(nora, house, monkeypatch):
    """Two posts on the way side by side push each drop once, and end with one unsubscribe."""
    session_id = new_session(nora)
    read = nora.app.live.read
    both = Barrier(2)

    def read_together(job):
        found = read(job)
        in_thread(both.wait, 5.0).get()
        return found

    monkeypatch.setattr(nora.app.live, "read", read_together)
    ask = {"type": "subscribe", "path": "/nora/house", "msgId": 1}
    outcomes = [in_thread(post, nora, session_id, ask) for _ in range(2)]
    assert [one.get().status for one in outcomes] == [200, 200]
    monkeypatch.undo()
    session = nora.app.live.session(session_id)
    assert nora.app.live.hub.count == 1
    nora.drop(house, n=1)
    wait_until(lambda: session.pushes.messages)
    assert [one.get("type") for one in poll(nora, session_id)] == [None, None, "message"]
    post(nora, session_id, {"type": "unsubscribe", "path": "/nora/house"})
    assert nora.app.live.hub.count == 0


def test_the_close_of_a_replaced_connection_leaves_the_session_to_the_next_one(nora, house):
    """What an older connection still says concerns nobody."""
    with Listener(nora) as older:
        older.subscribe(path="/nora/house")
        session = nora.app.live.session(older.id)
        with Listener(nora, older.id) as heard:
            wait_until(lambda: session.life.state is State.OPEN)
            older.closed_with()
            nora.drop(house, n=1)
            assert heard.next()["value"]["elems"] == {"n": 1}


def test_figures_can_be_read_while_subscriptions_come_and_go(nora):
    """Counting runs on another thread than the loop."""
    flows = [nora.flow(f"/nora/f{n}") for n in range(60)]
    live = nora.app.live
    is_over = Event()

    def count():
        while not is_over.is_set():
            assert live.hub.count >= 0

    counting = in_thread(count)
    with Listener(nora) as heard:
        for _ in range(5):
            for flow in flows:
                heard.say({"type": "subscribe", "flowId": flow["id"]})
            for flow in flows:
                heard.say({"type": "unsubscribe", "flowId": flow["id"]})
            assert heard.ask("unsubscribe", path="/nora/f1")["head"]["ok"]
    is_over.set()
    counting.get()


# The end


def test_a_poll_that_waits_does_not_hold_up_a_stop(tmp_path):
    """It is answered with nothing, as at the end of its time."""
    settings = Settings(data=tmp_path, account="nora", host="127.0.0.1", port=0, synchronous="OFF")
    with Server(settings) as server:
        owner = Visitor(server.app, Clock(), "nora", server.first_token)
        session_id = new_session(owner)
        url = f"{server.url}/session/{session_id}/polling"
        answer = in_thread(partial(requests.get, url, timeout=20))
        session = server.app.live.session(session_id)
        wait_until(lambda: session.life.state is State.OPEN)
        begun = monotonic()
        server.stop()
        assert monotonic() - begun < 3.0
        assert answer.get().json() == []


def test_a_poll_of_a_session_that_ends_is_answered(nora):
    """At once, also if the whole loop has ended before the poll came to it."""
    live = nora.app.live
    session = live.session(new_session(nora))
    poll_ = in_thread(polled, session)
    wait_until(lambda: session.life.state is State.OPEN)
    live.loop.call(session.close)
    assert poll_.get() == b"[]"
    loop = live.loop
    live.close()
    live._loop = loop  # as a thread sees it that asked for it just before
    late = in_thread(polled, session)
    assert late.wait(3.0)
    live._loop = None


def test_rights_are_looked_at_again_after_the_store_was_too_busy(nora, house, monkeypatch):
    """A look that failed is made up for in the next round, not half a second later."""
    guest, made = token(nora, {"/nora/house": {"dropRead": True}})
    live = nora.app.live
    with Listener(guest) as heard:
        heard.subscribe(path="/nora/house")
        looked = []
        look = live._check_rights

        def fail_once():
            looked.append(monotonic())
            if len(looked) == 1:
                raise ServerError("busy", status=503)
            look()

        monkeypatch.setattr(live, "_check_rights", fail_once)
        nora.ask("DELETE", f"/token/{made['id']}")
        assert heard.closed_with()[0] == POLICY
        assert looked[1] - looked[0] < 2 * limits.recheck_s - 0.05


def test_a_reader_whose_end_cannot_be_explained_ends_all_the_same(nora, house, monkeypatch):
    """Looking for the reason may fail, too: no reader is left standing without a word."""
    live = nora.app.live

    def busy(_flow_id):
        raise ServerError("busy", status=503)

    def gone(*_):
        raise NotFound("gone")

    monkeypatch.setattr(live, "exists", busy)
    monkeypatch.setattr(pages, "next_page", gone)
    with Listener(nora) as heard:
        heard.subscribe(path="/nora/house", sub="a", since="start")
        assert heard.next()["type"] == "end"
        monkeypatch.undo()
        heard.subscribe(path="/nora/house", sub="b", since="start")
        assert heard.next()["type"] == "position"


def test_an_error_of_the_server_closes_with_1011(nora, monkeypatch):
    """The client learns that it was not its fault, and comes again."""

    def fail(*_):
        raise RuntimeError("a defect of ours")

    monkeypatch.setattr("flowkit.server.websocket.read_command", fail)
    with Listener(nora) as heard:
        heard.say({"type": "heartbeat"})
        assert heard.closed_with()[0] == FAULT
