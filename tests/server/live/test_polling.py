"""A session over long polls, and as one long answer."""

from __future__ import annotations

import json
import socket
import threading

import pytest
import requests

from flowkit import limits
from flowkit.protocol.envelope import Request
from flowkit.server.serve import Server
from flowkit.server.settings import Settings
from tests.server.live.listener import new_session
from tests.server.visitor import Clock, Visitor


def post(who, session_id, message):
    """Post one message; the status."""
    body = message if isinstance(message, bytes) else json.dumps(message).encode()
    return who.app.handle(Request("POST", ("session", session_id, "polling"), body=body)).status


def poll(who, session_id):
    """Poll once: the messages."""
    answer = who.app.handle(Request("GET", ("session", session_id, "polling")))
    assert answer.status == 200, answer.body
    return json.loads(answer.body)


SUBSCRIBE = {"type": "subscribe", "object": "drop", "path": "/nora/house", "msgId": 1}


def test_polls_carry_replies_and_pushes(nora, house):
    """An array as soon as there is a message; what comes between two polls waits."""
    session_id = new_session(nora)
    assert post(nora, session_id, SUBSCRIBE) == 200
    assert [one["head"]["msgId"] for one in poll(nora, session_id)] == [1]
    assert post(nora, session_id, {**SUBSCRIBE, "sub": "r"}) == 200
    drop = nora.drop(house, n=1)
    messages = poll(nora, session_id)
    assert [one.get("sub", "plain") for one in messages if "head" not in one] == ["plain", "r"]
    assert {one["value"]["id"] for one in messages if "value" in one} == {drop["id"]}
    assert post(nora, session_id, b"{") == 200
    assert poll(nora, session_id)[0]["head"]["status"] == 400


def test_a_poll_waits_for_the_first_message(nora, house):
    """And is answered at once when it comes."""
    session_id = new_session(nora)
    post(nora, session_id, SUBSCRIBE)
    poll(nora, session_id)
    answers = []
    waiting = threading.Thread(target=lambda: answers.append(poll(nora, session_id)))
    waiting.start()
    session = nora.app.live.session(session_id)
    while session._line is None:
        pass
    nora.drop(house, n=1)
    waiting.join(5.0)
    assert [one["value"]["elems"] for one in answers[0]] == [{"n": 1}]


def test_a_poll_that_hears_nothing_is_answered_with_nothing(nora, monkeypatch):
    """Before a proxy gives up; and a second poll at once takes over from the first."""
    monkeypatch.setattr(limits, "poll_wait_s", 0.05)
    session_id = new_session(nora)
    assert poll(nora, session_id) == []
    monkeypatch.setattr(limits, "poll_wait_s", 20.0)
    answers = []
    first = threading.Thread(target=lambda: answers.append(poll(nora, session_id)))
    first.start()
    session = nora.app.live.session(session_id)
    while session._line is None:
        pass
    second = threading.Thread(target=lambda: poll(nora, session_id))
    second.start()
    first.join(5.0)
    assert answers == [[]]
    nora.app.live.loop.call(session.close)
    second.join(5.0)
    assert not second.is_alive()


def test_readers_stay_between_two_polls(nora, house):
    """The polls together are the connection; past the grace period the session is gone."""
    session_id = new_session(nora)
    post(nora, session_id, {**SUBSCRIBE, "sub": "r"})
    poll(nora, session_id)
    nora.drop(house, n=1)
    session = nora.app.live.session(session_id)
    assert session.count == 1
    assert poll(nora, session_id)[0]["sub"] == "r"
    session.life._since["entered"] -= limits.session_resume_s
    while not session.is_closed:
        pass
    for method in ("GET", "POST"):
        request = Request(method, ("session", session_id, "polling"), body=b"{}")
        assert nora.app.handle(request).status == 404


@pytest.fixture
def server(tmp_path):
    """A server on a port."""
    settings = Settings(data=tmp_path, account="nora", host="127.0.0.1", port=0, synchronous="OFF")
    with Server(settings) as running:
        yield running


@pytest.fixture
def owner(server):
    """Its owner."""
    return Visitor(server.app, Clock(), "nora", server.first_token)


def test_a_stream_carries_a_chunk_for_each_message(server, owner):
    """One long answer; what the client has to say it posts."""
    flow = owner.flow("/nora/house")
    session_id = new_session(owner)
    url = f"{server.url}/session/{session_id}"
    with requests.get(f"{url}/streaming", stream=True, timeout=10) as stream:
        assert stream.headers["transfer-encoding"] == "chunked"
        every = stream.iter_lines(chunk_size=1)
        lines = filter(None, every)
        posted = requests.post(f"{url}/polling", json={**SUBSCRIBE, "sub": "r"}, timeout=10)
        assert posted.json()["head"]["ok"]
        assert json.loads(next(lines))["head"]["msgId"] == 1
        drops = [owner.drop(flow, n=n)["id"] for n in range(3)]
        assert [json.loads(next(lines))["value"]["id"] for _ in range(3)] == drops
        session = server.app.live.session(session_id)
        session.life._since["pulsed"] -= limits.session_ping_s
        while next(every):  # the sign of life is an empty line
            pass
        server.app.live.loop.call(session.close)
        assert list(lines) == []


def test_a_stream_of_no_session_is_404(server):
    """As an envelope."""
    answer = requests.get(f"{server.url}/session/nothing/streaming", timeout=10)
    assert (answer.status_code, answer.json()["head"]["ok"]) == (404, False)


HANDSHAKES = {
    "no key": ("Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13", 400),
    "an old version": (
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 8\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        400,
    ),
    "a body": (
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nContent-Length: 5",
        400,
    ),
    "a long header": (
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nCookie: {'x' * 9_000}",
        400,
    ),
    "an unknown session": (
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        404,
    ),
    "no upgrade": ("Accept: */*", 426),
}


@pytest.mark.parametrize("name", HANDSHAKES)
def test_a_handshake_that_is_none_is_refused_with_a_reason(server, name):
    """And the server goes on."""
    headers, status = HANDSHAKES[name]
    with socket.create_connection(("127.0.0.1", int(server.url.rsplit(":", 1)[1]))) as line:
        line.settimeout(10)
        target = "/session/nothing/ws"
        line.sendall(f"GET {target} HTTP/1.1\r\nHost: x\r\n{headers}\r\n\r\n".encode())
        answer = b""
        while data := line.recv(4096):
            answer += data
            if b"\r\n\r\n" in answer and name == "no upgrade":
                break
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    assert requests.get(f"{server.url}/health", timeout=10).text == "ok\n"


def test_what_comes_with_the_handshake_is_not_lost(server, owner):
    """A client may send its first command in the same packet."""
    session_id = new_session(owner)
    text = json.dumps({"type": "findmany", "object": "flow", "msgId": 1}).encode()
    frame = bytes((0x81, 0x80 | len(text))) + b"\0\0\0\0" + text
    headers, _ = HANDSHAKES["an unknown session"]
    with socket.create_connection(("127.0.0.1", int(server.url.rsplit(":", 1)[1]))) as line:
        line.settimeout(10)
        head = f"GET /session/{session_id}/ws HTTP/1.1\r\nHost: x\r\n{headers}\r\n\r\n"
        line.sendall(head.encode() + frame)
        answer = b""
        while b'"msgId":1' not in answer:
            data = line.recv(4096)
            assert data
            answer += data
