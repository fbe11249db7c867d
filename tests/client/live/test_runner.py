"""The runner: the old callbacks, and what it does when things go wrong."""

from __future__ import annotations

import sys
import threading
import time

import pytest
from client.live.scripted import FLOW, Desk, message, place, until

from flowkit.client.api import API
from flowkit.errors import (
    BadRequest,
    ConnectionLost,
    DeadlineExceeded,
    Forbidden,
    NotFound,
    ProtocolError,
    UsageError,
)

PATH = "/nora/greenhouse"


def plain(n):
    """A message of a plain subscription."""
    return {"type": "message", "resource": FLOW, "value": {"id": "d1", "elems": {"n": n}}}


def test_the_old_callbacks_are_called_as_they_always_were():
    """on_open(ws), on_message(ws, id, value), callback(ws, body) and on_close(ws) all come."""

    def script(line):
        line.reply(line.hear(), {})
        line.say(plain(1), plain(2))
        line.stay()

    told = []

    def on_message(ws, resource, value):
        told.append((ws, resource, value["elems"]["n"]))
        if value["elems"]["n"] == 2:
            ws.close()

    with Desk(script) as desk, desk.api() as api:
        ws = api.websocket.connect(
            on_open=lambda ws: told.append((ws, "open")),
            on_message=on_message,
            on_close=lambda ws: told.append((ws, "close", ws.code)),
        )
        ws.subscribe(FLOW, lambda ws, body: told.append((ws, body)))
        ws.run()

    expected = [(ws, "open"), (ws, {}), (ws, FLOW, 1), (ws, FLOW, 2), (ws, "close", 1000)]
    assert told == expected
    assert desk.lines[0].heard[0] == {
        "msgId": "s1",
        "object": "drop",
        "type": "subscribe",
        "flowId": FLOW,
    }


def test_subscribing_plainly_again_changes_nothing():
    """It is the same subscription, the second callback is called, and one close ends it."""
    heard, told = [], []

    def script(line):
        while True:
            heard.append(line.hear())
            line.reply(heard[-1], {})

    with Desk(script) as desk, desk.api() as api, api.websocket.connect() as ws:
        first = ws.subscribe(FLOW, lambda ws, body: told.append(1))
        until(lambda: told == [1])
        again = ws.subscribe(FLOW, lambda ws, body: told.append(2))
        until(lambda: told == [1, 2])
        again.close()
        until(lambda: len(heard) == 3)

    assert again is first
    assert [said["type"] for said in heard] == ["subscribe", "subscribe", "unsubscribe"]


def test_without_any_handler_nothing_goes_wrong():
    """Messages that nobody wants are passed, and the runner goes on."""

    def script(line):
        line.say(plain(1))
        line.reply(line.hear(), [])
        line.stay()

    with Desk(script) as desk, desk.api() as api, api.websocket.connect() as ws:
        assert ws.find_many("flow") == []


@pytest.mark.parametrize(
    "text", [b"not json", b'"a text"', b"[1]", b"\xff\xfe", b'{"head": 5}', b'{"head": {}}']
)
def test_what_is_not_a_message_is_reported_and_passed(text):
    """Garbage in a frame, and a reply without msgId, end nothing."""

    def script(line):
        line.say(text, plain(1))
        line.stay()

    errors, got = [], []
    with Desk(script) as desk, desk.api() as api:
        ws = api.websocket.connect(
            on_message=lambda ws, r, v: got.append(v), on_error=lambda ws, e: errors.append(e)
        )
        with ws:
            until(lambda: got)
            assert ws.is_connected

    assert len(desk.lines) == 1
    assert all(isinstance(error, ProtocolError) for error in errors)
    assert len(errors) == (text != b'{"head": {}}')


def test_an_error_without_a_msgid_reaches_on_error():
    """A refusal that names no command is told, with what the server said."""

    def script(line):
        line.say({"head": {"ok": False, "status": 400, "errors": ["unknown type"]}, "body": {}})
        line.stay()

    errors = []
    with (
        Desk(script) as desk,
        desk.api() as api,
        api.websocket.connect(on_error=lambda ws, e: errors.append(e)),
    ):
        until(lambda: errors)

    assert isinstance(errors[0], BadRequest)
    assert errors[0].errors == ["unknown type"]


def test_a_failed_reply_reaches_the_callback_that_takes_errors():
    """callback(ws, None, error=…) for one that takes it, on_error for one that does not."""

    def script(line):
        line.refuse(line.hear(), 404, "no such flow")
        line.refuse(line.hear(), 403, "not yours")
        line.stay()

    told, errors = [], []

    def callback(ws, body, error=None):
        told.append((body, error))

    with Desk(script) as desk, desk.api() as api:
        ws = api.websocket.connect(on_error=lambda ws, e: errors.append(e))
        ws.subscribe("/nora/nowhere", callback)
        ws.subscribe("/nora/elsewhere", lambda ws, body: told.append(body))
        with ws:
            until(lambda: told and errors)

    ((body, error),) = told
    assert body is None
    assert isinstance(error, NotFound)
    assert isinstance(errors[0], Forbidden)


def test_a_handler_that_raises_is_reported_and_passed():
    """The next drop still comes, and on_error hears of the fault."""

    def script(line):
        line.say(plain(1), plain(2))
        line.stay()

    got, errors = [], []

    def on_message(ws, resource, value):
        got.append(value["elems"]["n"])
        if len(got) == 1:
            raise KeyError("temp")

    with (
        Desk(script) as desk,
        desk.api() as api,
        api.websocket.connect(
            on_message=on_message, on_error=lambda ws, error: errors.append(error)
        ),
    ):
        until(lambda: len(got) == 2)

    assert [type(error) for error in errors] == [KeyError]


def test_after_a_loss_everything_is_subscribed_again_from_its_place():
    """Plain ones plainly, readers with their filter and since what they have received."""
    asked = []

    def script(line):
        asked.append([line.confirm(5), line.confirm(5)])
        if line.number == 0:
            line.say(message("r1", 6), message("r1", 7))
        else:
            line.say(message("r1", 8))
            line.stay()

    got, events = [], []
    with Desk(script) as desk, desk.api() as api:
        ws = api.websocket.connect(
            on_open=lambda ws: events.append("open"),
            on_close=lambda ws: events.append("close"),
            on_error=lambda ws, error: events.append(type(error)),
        )
        reader = ws.subscribe(
            FLOW, filter="temp > 20", on_drop=lambda drop: got.append(drop["elems"]["n"])
        )
        ws.subscribe("/nora/plain")
        with ws:
            until(lambda: len(got) == 3)
            until(lambda: reader.place == place(8))
            events_before_close = list(events)

    assert got == [6, 7, 8]
    assert events_before_close == ["open", "close", ConnectionLost, "open"]
    first, second = asked
    assert "since" not in first[0]
    assert second[0]["since"] == place(7)
    assert second[0]["filter"] == first[0]["filter"] == "temp > 20"
    assert "sub" not in second[1]
    assert second[1]["path"] == "/nora/plain"
    sessions = [target for method, target, _ in desk.asked if method == "GET"]
    assert len(set(sessions)) == 2


def test_a_reader_that_got_nothing_yet_goes_on_where_the_reply_said():
    """What came between two connections is not missed: since is the position of the reply."""
    asked = []

    def script(line):
        asked.append(line.confirm(41))
        if line.number:
            line.stay()

    with Desk(script) as desk, desk.api() as api, api.websocket.connect() as ws:
        ws.subscribe(FLOW, filter="temp > 20")
        until(lambda: len(asked) == 2)

    assert asked[1]["since"] == place(41)


@pytest.mark.parametrize("statuses", [(401,), (403,), (201, 403)])
def test_a_refused_credential_is_final(statuses):
    """on_error and on_close are told, run() raises Forbidden, and nothing is tried again."""
    told = []
    desk = Desk(lambda line: line.close(1008, "revoked"), sessions=statuses)
    with desk, desk.api() as api:
        ws = api.websocket.connect(
            on_error=lambda ws, error: told.append(type(error)),
            on_close=lambda ws: told.append(ws.code),
        )
        with pytest.raises(Forbidden):
            ws.run()
        with pytest.raises(Forbidden):
            ws.wait_connected(1)

    assert told == ([1008, ConnectionLost, Forbidden] if statuses[0] == 201 else [Forbidden])
    assert len([1 for method, _, _ in desk.asked if method == "POST"]) == len(statuses)


def test_a_refusal_is_told_once_however_many_subscriptions_it_ends():
    """on_error hears of it once; a callback that takes errors does for its own subscription."""
    errors, answers = [], []
    with Desk(lambda line: line.stay(), sessions=[403]) as desk, desk.api() as api:
        ws = api.websocket.connect(on_error=lambda ws, error: errors.append(error))
        ws.subscribe(FLOW)
        ws.subscribe(FLOW, since="start")
        ws.subscribe(FLOW, live=True)
        ws.subscribe(PATH, lambda ws, body, error=None: answers.append(error))
        with pytest.raises(Forbidden) as raised:
            ws.run()

    assert errors == answers == [raised.value]


@pytest.mark.parametrize("status", [404, 429, 503])
def test_what_passes_is_tried_again_and_told_once(status):
    """A server that is not ready yet is connected to as soon as it is."""
    errors = []
    with (
        Desk(lambda line: line.stay(), sessions=[status, status]) as desk,
        desk.api() as api,
        api.websocket.connect(on_error=lambda ws, error: errors.append(error)) as ws,
    ):
        ws.wait_connected(10)

    assert [error.status for error in errors] == [status]
    assert len(desk.lines) == 1


def test_commands_under_way_fail_at_a_loss():
    """Whoever waits for a reply gets ConnectionLost, and the connection is made anew."""

    def script(line):
        said = line.hear()
        if line.number:
            line.reply(said, {"id": "f1"})
            line.stay()

    with Desk(script) as desk, desk.api() as api, api.websocket.connect() as ws:
        ws.wait_connected(5)
        with pytest.raises(ConnectionLost):
            ws.find("flow", FLOW)
        assert ws.find("flow", FLOW) == {"id": "f1"}


def test_a_late_reply_is_ignored():
    """A command that gave up is not confused by its answer, and the next one is answered."""

    def script(line):
        first = line.hear()
        second = line.hear()
        line.reply(first, {"id": "late"})
        line.reply(second, {"id": "f2"})
        line.stay()

    with Desk(script) as desk, desk.api() as api, api.websocket.connect() as ws:
        ws.wait_connected(5)
        with pytest.raises(DeadlineExceeded):
            ws.find("flow", FLOW, timeout=0.1)
        assert ws.find("flow", FLOW) == {"id": "f2"}


def test_replies_in_any_order_find_their_commands():
    """Two threads ask at once and each gets its own answer."""

    def script(line):
        asked = [line.hear(), line.hear()]
        for said in reversed(asked):
            line.reply(said, {"id": said["id"]})
        line.stay()

    found = {}
    with Desk(script) as desk, desk.api() as api, api.websocket.connect() as ws:
        other = f"f{'1' * 24}"

        def ask(name):
            found[name] = ws.find("flow", name)["id"]

        threads = [threading.Thread(target=ask, args=(name,)) for name in (FLOW, other)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)

    assert found == {FLOW: FLOW, other: other}


def test_a_callback_that_raises_is_called_once():
    """Its fault is reported, and the command is forgotten like any other."""

    def script(line):
        said = line.hear()
        line.reply(said, {"id": "f1"})
        line.reply(said, {"id": "f1"})
        line.say(plain(1))
        line.stay()

    calls, errors, got = [], [], []

    def callback(ws, body):
        calls.append(body)
        raise ValueError("no use")

    with Desk(script) as desk, desk.api() as api:
        ws = api.websocket.connect(
            on_error=lambda ws, error: errors.append(error), on_message=lambda *said: got.append(1)
        )
        with ws:
            ws.send({"type": "find", "object": "flow", "id": FLOW}, callback)
            until(lambda: got)

    assert calls == [{"id": "f1"}]
    assert [type(error) for error in errors] == [ValueError]


def test_send_leaves_the_callers_message_as_it_is():
    """The msgId is put into a copy; one of the caller's own is kept."""

    def script(line):
        for _ in range(2):
            said = line.hear()
            line.reply(said, {"id": said["id"]})
        line.stay()

    mine = {"object": "flow", "type": "find", "id": "a"}
    got = []
    with Desk(script) as desk, desk.api() as api, api.websocket.connect() as ws:
        ws.send(mine, lambda ws, body: got.append(body))
        ws.send({**mine, "msgId": 7, "id": "b"}, lambda ws, body: got.append(body))
        until(lambda: len(got) == 2)

    assert mine == {"object": "flow", "type": "find", "id": "a"}
    assert got == [{"id": "a"}, {"id": "b"}]
    assert desk.lines[0].heard[1]["msgId"] == 7


@pytest.mark.parametrize("flow", ["", None, 5, {}, "//", "a flow"])
def test_what_is_no_flow_is_refused_at_once(flow):
    """subscribe says what it needs, before anything is sent."""
    with Desk(lambda line: line.stay()) as desk, desk.api() as api, pytest.raises(UsageError):
        api.websocket.connect().subscribe(flow)

    assert desk.asked == []


def test_a_heartbeat_and_a_ping_go_out_in_time():
    """The server hears a heartbeat and a ping every heartbeat_s."""
    with (
        Desk(lambda line: line.stay()) as desk,
        desk.api() as api,
        api.websocket.connect(heartbeat_s=0.05),
    ):
        until(lambda: desk.lines and len(desk.lines[0].heard) >= 3)

        assert desk.lines[0].pings >= 2
        assert desk.lines[0].heard[0] == {"type": "heartbeat"}


def test_silence_makes_it_connect_anew():
    """Nothing heard for silence_s, not even a pong, is a loss."""

    def script(line):
        if line.number:
            line.stay()
        else:
            time.sleep(3)  # a server that hangs: it reads nothing and answers nothing

    errors = []
    with (
        Desk(script) as desk,
        desk.api() as api,
        api.websocket.connect(
            heartbeat_s=0.1, silence_s=0.4, on_error=lambda ws, error: errors.append(str(error))
        ),
    ):
        until(lambda: len(desk.lines) == 2, 3)

    assert errors == ["nothing was heard from the server for 0.4 s"]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"heartbeat_s": 0}, "heartbeat_s=0 is not a positive number"),
        ({"silence_s": "long"}, "silence_s='long' is not a positive number"),
        ({"silence_s": 20}, "silence_s=20 is not longer than heartbeat_s=20"),
        ({"heartbeat_s": 90}, "silence_s=60 is not longer than heartbeat_s=90"),
    ],
)
def test_times_that_cannot_keep_a_connection_are_refused(wrong, says):
    """A quiet server is only heard when it answers, so silence takes longer than a heartbeat."""
    with (
        API(("nora", "t" * 32), host="http://127.0.0.1:9") as api,
        pytest.raises(UsageError, match=says),
    ):
        api.websocket.connect(**wrong)


def test_pongs_keep_a_quiet_connection():
    """A server that says nothing but pongs is not silent."""
    with (
        Desk(lambda line: line.stay()) as desk,
        desk.api() as api,
        api.websocket.connect(heartbeat_s=0.1, silence_s=0.4),
    ):
        until(lambda: desk.lines and desk.lines[0].pings >= 8)

        assert len(desk.lines) == 1


def test_run_and_start_take_turns_with_nobody():
    """The handlers run in one place; a second run() is refused."""
    with (
        Desk(lambda line: line.stay()) as desk,
        desk.api() as api,
        api.websocket.connect() as ws,
        pytest.raises(UsageError, match="runs already"),
    ):
        ws.run()


def test_a_closed_runner_says_so():
    """Everything but close() is refused after close()."""
    with Desk(lambda line: line.stay()) as desk, desk.api() as api:
        ws = api.websocket.connect().start()
        ws.close()
        ws.close()
        for act in (ws.run, ws.start, ws.wait_connected, lambda: ws.subscribe(FLOW)):
            with pytest.raises(UsageError, match="closed"):
                act()
        with pytest.raises(UsageError, match="closed"):
            ws.find("flow", FLOW)


def test_readers_made_by_on_open_are_not_made_twice():
    """The same subscribe in the on_open after a loss is the one of before, and keeps its place."""
    asked = []

    def script(line):
        asked.append(line.confirm(1))
        line.say(message("r1", 2 + line.number))
        if line.number == 2:
            line.stay()

    got = []
    with Desk(script) as desk, desk.api() as api:

        def on_open(ws):
            ws.subscribe(FLOW, filter="temp > 20", on_drop=lambda drop: got.append(drop))

        with api.websocket.connect(on_open=on_open):
            until(lambda: len(got) == 3)

    assert [said.get("since") for said in asked] == [None, place(2), place(3)]
    assert [len(line.heard) for line in desk.lines] == [1, 1, 1]


def test_threads_may_subscribe_and_unsubscribe_at_the_same_time():
    """Neither disturbs the other's look at what there is."""
    is_over = threading.Event()

    def come_and_go():
        while not is_over.is_set():
            ws.subscribe("/nora/fridge", since="start").close()

    others = [threading.Thread(target=come_and_go) for _ in range(2)]
    pace = sys.getswitchinterval()
    with API(("nora", "t" * 32), host="http://127.0.0.1:9") as api:
        ws = api.websocket.connect()
        kept = [ws.subscribe(f"/nora/bench{n}") for n in range(300)]
        sys.setswitchinterval(1e-5)
        try:
            for one in others:
                one.start()
            for _ in range(800):
                mine = ws.subscribe("/nora/shelf")
                ws.unsubscribe("/nora/shelf")
                assert mine.is_closed
        finally:
            is_over.set()
            sys.setswitchinterval(pace)
            for one in others:
                one.join()
        assert not any(one.is_closed for one in kept)
        ws.close()


@pytest.mark.parametrize("way", ["run", "start"])
def test_a_handler_that_ends_its_thread_ends_the_runner(way):
    """SystemExit is passed on by run(); in the background nobody is left to call the others."""

    def script(line):
        line.confirm(0)
        line.say(message("r1", 1))
        line.stay()

    with Desk(script) as desk, desk.api() as api:
        ws = api.websocket.connect()
        ws.subscribe(FLOW, on_drop=lambda drop: sys.exit(3))
        if way == "run":
            with pytest.raises(SystemExit):
                ws.run()
        else:
            ws.start()
        until(lambda: ws.is_closed)


def test_on_error_that_raises_is_only_logged(caplog):
    """There is nobody left to tell, and the runner goes on."""

    def script(line):
        line.say(b"no json", plain(1))
        line.stay()

    got = []

    def on_error(ws, error):
        raise RuntimeError("the handler of errors fails")

    with (
        Desk(script) as desk,
        desk.api() as api,
        api.websocket.connect(on_error=on_error, on_message=lambda *said: got.append(said)),
    ):
        until(lambda: got)

    assert "on_error failed" in caplog.text


def test_close_from_a_handler_does_not_wait_for_itself():
    """ws.close() inside on_message returns, and so does run()."""

    def script(line):
        line.say(plain(1), plain(2))
        line.stay()

    got = []

    def on_message(ws, resource, value):
        got.append(value)
        ws.close()

    with Desk(script) as desk, desk.api() as api:
        began = time.monotonic()
        api.websocket.connect(on_message=on_message).run()

    assert len(got) == 1
    assert time.monotonic() - began < 1.5
