"""Readers do not touch one another: a plain subscription's bytes, and the pace of a slow one's
neighbours (``positions`` 11, I7 and I9)."""

from __future__ import annotations

import json
import random
import time
from statistics import median
from typing import Any

import pytest

pytest.importorskip("apsw", reason="needs the extra: pip install 'flowkit[server]'")

from tests.together.feeds.checker import Asked
from tests.together.feeds.servers import InProcess
from tests.together.feeds.tiny import Tiny
from tests.together.feeds.wire import Connection, Door, Reader
from tests.together.feeds.writers import Caller

PATH = "/nora/kept"
ALL = frozenset({"create", "replace", "update", "delete", "evict"})
PATIENCE_S = 20.0


def reader(name: str, *, live: bool = False, slow: str = "disconnect", text: str = "") -> Reader:
    """A reader of everything."""
    asked = Asked(name, lambda _doc: True, frozenset() if live else ALL, live, slow)
    return Reader(asked, text, {"path": PATH})


def plain(door: Door, readers: list[Reader]) -> Connection:
    """A connection with a plain subscription, confirmed, and readers beside it."""
    connection = Connection(door, readers)
    connection.say({"msgId": "p", "object": "drop", "type": "subscribe", "path": PATH})
    for each in readers:
        connection.subscribe(each)
    until(connection, lambda: connection.replies and all(each.is_there for each in readers))
    return connection


def until(connection: Connection, is_done: Any) -> None:
    """Read until something holds."""
    end = time.monotonic() + PATIENCE_S
    while not is_done():
        assert time.monotonic() < end, "it did not come"
        connection.read(100, 0.02)


def write(caller: Caller, flow_id: str, chance: random.Random, count: int) -> list[dict[str, Any]]:
    """Writes of every kind; the drops that a plain subscription is told of, in order."""
    told: list[dict[str, Any]] = []
    for number in range(count):
        body = {"elems": {"n": number, "word": chance.choice(["a", "é", 'q"', "\u2028"])}}
        kind = chance.choice(["create", "create", "replace", "update", "delete"])
        if kind in ("create", "replace"):
            more = {"fhash": "f"} if kind == "replace" else {}
            status, answer = caller.ask("POST", f"/drop/{flow_id}", {**body, **more})
            assert status in (200, 201)
            told.append(answer["body"])
        elif told:
            target = f"/drop/{flow_id}/{chance.choice(told)['id']}"
            caller.ask(*(("PUT", target, body) if kind == "update" else ("DELETE", target)))
    return told


@pytest.mark.slow
def test_a_plain_subscription_is_the_same_with_and_without_readers(tmp_path):
    """Its bytes do not change when readers of any kind are on the same flow and connection (I7)."""
    chance = random.Random(7)
    server = InProcess(tmp_path, Tiny())
    door = server.start(1)
    caller = Caller(door)
    _, answer = caller.ask("POST", "/flow", {"path": PATH, "capacity": 5, "history": 2})
    flow_id = answer["body"]["id"]
    try:
        alone = plain(door, [])
        told = write(caller, flow_id, chance, 40)
        until(alone, lambda: len(alone.plain) >= len(told))
        readers = [
            reader("a"),
            reader("b", text="n > 3"),
            reader("c", live=True),
            reader("d", live=True, slow="squash"),
            reader("e", slow="drop"),
        ]
        beside = plain(door, readers)
        seen = len(told)
        told += write(caller, flow_id, chance, 40)
        until(alone, lambda: len(alone.plain) >= len(told))
        until(beside, lambda: len(beside.plain) >= len(told) - seen)
    finally:
        server.stop()

    pushes = [{"type": "message", "resource": flow_id, "value": drop} for drop in told]
    written = [json.dumps(push, ensure_ascii=False, separators=(",", ":")) for push in pushes]
    assert alone.plain == written
    assert beside.plain == written[seen:]
    assert all(each.transcript.heard[1:] for each in readers)


def delays(caller: Caller, flow_id: str, quick: Connection, one: Reader, count: int) -> list[float]:
    """Seconds from a write's answer to its message, of drops that fill slow connections soon."""
    found = []
    for number in range(count):
        seen = len(one.transcript.heard)
        body = {"elems": {"n": number, "pad": "x" * 4_000}}
        assert caller.ask("POST", f"/drop/{flow_id}", body)[0] == 201
        begun = time.monotonic()
        until(quick, lambda seen=seen: len(one.transcript.heard) > seen)
        found.append(time.monotonic() - begun)
    return found


@pytest.mark.slow
def test_a_blocked_reader_slows_nobody_and_stays_within_its_bound(tmp_path):
    """Its neighbours get everything at once, and what waits for it never grows over it (I9)."""
    tiny = Tiny(queue_messages=20, queue_bytes=40_000)
    blocked = {
        "drop": reader("x", slow="drop"),
        "squash": reader("x", live=True, slow="squash"),
        "disconnect": reader("x"),
    }
    server = InProcess(tmp_path, tiny)
    with tiny.here():
        door = server.start(1)
        caller = Caller(door)
        _, answer = caller.ask("POST", "/flow", {"path": PATH, "capacity": 30})
        flow_id = answer["body"]["id"]
        try:
            one = reader("quick")
            quick = plain(door, [one])
            alone = delays(caller, flow_id, quick, one, 30)
            sessions = {}
            for slow, each in blocked.items():
                connection = Connection(door, [each], receive_bytes=2_304)
                connection.subscribe(each)
                until(connection, lambda each=each: each.is_there)
                assert server.platform is not None
                sessions[slow] = server.platform.app.live.session(connection.session_id)
            beside = delays(caller, flow_id, quick, one, 60)
            waiting = {slow: session.pushes.bytes for slow, session in sessions.items()}
        finally:
            server.stop()

    largest = 4_000 + 1_000
    assert waiting["drop"] <= tiny.queue_bytes + largest
    assert waiting["squash"] <= 2 * tiny.queue_bytes + largest
    assert sessions["disconnect"].is_closed
    assert median(beside) < 5 * median(alone) + 0.05
    assert max(beside) < 1.0
