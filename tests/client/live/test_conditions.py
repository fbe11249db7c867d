"""Where a runner may find itself: black holes, forks, the end of a process, green processes."""

from __future__ import annotations

import gc
import os
import socket
import threading
import time
from functools import partial

import pytest
from client.live.scripted import FLOW, Desk, message, until
from own_process import needs_eventlet, run_process

from flowkit import limits
from flowkit.client.api import API
from flowkit.errors import DeadlineExceeded, LimitError, UsageError
from flowkit.testing import FaultProxy

PATH = "/nora/greenhouse"


class Watch:
    """A stop watch; a context manager."""

    def __enter__(self):
        self.began = time.monotonic()
        return self

    def __exit__(self, *_):
        self.seconds = time.monotonic() - self.began


@pytest.fixture
def hole():
    """A port where connections are accepted by the system and nobody ever says anything."""
    door = socket.create_server(("127.0.0.1", 0))
    yield f"http://127.0.0.1:{door.getsockname()[1]}"
    door.close()


def test_no_call_outlives_its_deadline_before_there_is_a_connection(hole):
    """Waiting to be connected, a command, a drop, a view and close() end in time."""
    with API(("nora", "t" * 32), host=hole) as api:
        ws = api.websocket.connect()
        calls = {
            "connect": lambda: ws.wait_connected(0.3),
            "command": lambda: ws.find("flow", FLOW, timeout=0.3),
            "drop": lambda: api.drop(FLOW).subscribe().next(0.3),
            "view": lambda: api.drop(FLOW).live().wait_ready(0.3),
        }
        for name, call in calls.items():
            with Watch() as watch, pytest.raises(DeadlineExceeded):
                call()
            assert watch.seconds < 1.3, name
        with Watch() as watch:
            assert list(api.drop(FLOW).subscribe(timeout_s=0.3)) == []
            ws.close(timeout_s=0.3)
        assert watch.seconds < 1.6


def test_no_call_outlives_its_deadline_on_a_dead_connection():
    """The other end has been switched off, and the system has not noticed."""

    def script(line):
        line.confirm(0)
        line.stay()

    with Desk(script) as desk, FaultProxy(desk.url) as proxy:
        api = API(("nora", "t" * 32), host=proxy.url)
        subscription = api.drop(FLOW).subscribe()
        ws = api.websocket.shared().wait_connected(5)
        until(lambda: desk.lines and desk.lines[0].heard)
        proxy.set("both", stall=True)
        with Watch() as watch, pytest.raises(DeadlineExceeded):
            ws.find("flow", FLOW, timeout=0.3)
        assert watch.seconds < 1.3
        with Watch() as watch, pytest.raises(DeadlineExceeded):
            subscription.next(0.3)
        assert watch.seconds < 1.3
        with Watch() as watch:
            ws.close(timeout_s=0.3)
        assert watch.seconds < 1.3
        api.close()


def test_a_connection_that_dies_in_silence_is_made_anew():
    """Half-open and black: after silence_s the reader goes on over another connection."""

    def script(line):
        said = line.confirm(0)
        line.say(message(said["sub"], line.number + 1))
        line.stay()

    got = []
    with (
        Desk(script) as desk,
        FaultProxy(desk.url) as proxy,
        API(("nora", "t" * 32), host=proxy.url) as api,
    ):
        ws = api.websocket.connect(heartbeat_s=0.1, silence_s=0.5)
        ws.subscribe(FLOW, on_drop=got.append)
        with ws:
            until(lambda: len(got) == 1)
            proxy.set("both", stall=True, on="open")
            until(lambda: len(got) == 2, 5)

    assert [drop["elems"]["n"] for drop in got] == [1, 2]


def test_losses_of_a_connection_that_was_of_use_do_not_add_up(monkeypatch):
    """A view, or a runner that only listens plainly, is back as soon after the tenth loss."""
    monkeypatch.setattr(limits, "reconnect_first_delay_s", 0.01)

    def script(line):
        line.confirm(1)
        if line.number == 10:
            line.stay()

    with Desk(script) as desk, desk.api() as api, Watch() as watch:
        view = api.drop(FLOW).live()
        until(lambda: len(desk.lines) == 11)
        view.close()
    assert watch.seconds < 4


def test_a_forked_child_begins_anew():
    """What ran in the parent goes on there; the child's own subscriptions work."""

    with Desk(one_drop_then_answers) as desk, desk.api() as api:
        next(api.drop(FLOW).subscribe())
        parents = api.websocket.shared()
        child = os.fork()
        if not child:
            is_well = False
            try:
                is_well = (
                    parents.is_closed
                    and next(api.drop(FLOW).subscribe())["elems"] == {"n": 1}
                    and api.websocket.shared().find("flow", "f1", timeout=5) == {"id": "f1"}
                )
            finally:
                os._exit(0 if is_well else 1)
        _, status = os.waitpid(child, 0)
        assert status == 0
        assert parents.find("flow", "f1", timeout=5) == {"id": "f1"}
        assert len(desk.lines) == 2


def test_in_a_forked_child_the_parents_have_ended_and_say_so():
    """Who goes on with them gets an error at once and does not wait for ever; what had not begun
    can begin there."""
    with Desk(one_drop_then_answers) as desk, desk.api() as api:
        subscription = api.drop(FLOW).subscribe()
        next(subscription)
        view = api.drop(FLOW).live()
        idle = api.websocket.connect()
        child = os.fork()
        if not child:
            is_well = False
            try:
                for call in (lambda: next(subscription), lambda: view.wait_ready(5)):
                    with pytest.raises(UsageError, match="fork"):
                        call()
                idle.start().wait_connected(5)
                is_well = idle.find("flow", "f1", timeout=5) == {"id": "f1"}
            finally:
                os._exit(0 if is_well else 1)
        _, status = os.waitpid(child, 0)
        assert status == 0


def test_a_fork_leaves_the_parents_place_alone(tmp_path):
    """What the child does at its end is not written over what the parent has."""
    file = tmp_path / "place"
    with Desk(one_drop_then_answers) as desk, desk.api() as api:
        subscription = api.drop(FLOW).subscribe(resume_file=file)
        next(subscription)
        child = os.fork()
        if not child:
            file.write_text("the child was here")
            subscription.close()
            os._exit(0 if file.read_text() == "the child was here" else 1)
        _, status = os.waitpid(child, 0)
        assert status == 0


def test_a_view_that_nobody_holds_ends_on_the_server():
    """A mapping that was let go keeps nothing up to date any more."""

    def script(line):
        said = line.confirm(0, "snapshot")
        assert said["live"]
        line.stay()

    with Desk(script) as desk, desk.api() as api:
        view = api.drop(FLOW).live()
        until(lambda: desk.lines and desk.lines[0].heard)
        del view
        gc.collect()
        until(lambda: [said["type"] for said in desk.lines[0].heard][1:] == ["unsubscribe"])


def test_what_a_server_does_not_take_is_bounded(monkeypatch):
    """A message more is refused with the figures, and nothing is lost unsaid."""
    monkeypatch.setattr(limits, "unsent_bytes_max", 1_000_000)

    def script(line):
        is_over.wait(10)

    is_over = threading.Event()
    with Desk(script) as desk, desk.api() as api:
        ws = api.websocket.shared().wait_connected(5)
        say = partial(ws.send, {"type": "heartbeat", "text": "x" * 50_000})
        with pytest.raises(LimitError, match="what waits to be sent"):
            until(say)  # it answers None
        is_over.set()


def test_what_waits_for_a_connection_is_bounded_too(monkeypatch):
    """In bytes, as what waits on a connection."""
    monkeypatch.setattr(limits, "unsent_bytes_max", 1_000_000)
    with API(("nora", "t" * 32), host="http://127.0.0.1:9") as api:
        ws = api.websocket.connect()
        say = partial(ws.send, {"type": "heartbeat", "text": "x" * 50_000})
        with pytest.raises(LimitError, match="what waits to be sent"):
            until(say)
        ws.close()


def test_commands_that_were_given_up_make_room(monkeypatch):
    """However many of them ran out of time while there was no server."""
    monkeypatch.setattr(limits, "commands_waiting_max", 3)
    answers, errors = [], []

    def answered(ws, body, error=None):
        answers.append(type(error))

    with (
        API(("nora", "t" * 32), host="http://127.0.0.1:9", timeout=0.05) as api,
        api.websocket.connect(on_error=lambda ws, error: errors.append(error)) as ws,
    ):
        for count in (3, 6, 9):
            for _ in range(3):
                ws.send({"type": "findmany", "object": "flow"}, answered)
            until(lambda count=count: len(answers) == count)
        ws.send({"type": "findmany", "object": "flow"})  # nobody waits: it is not given up
        for _ in range(3):
            ws.send({"type": "findmany", "object": "flow"}, answered)
        until(lambda: len(answers) == 12)

    assert answers == [DeadlineExceeded] * 9 + [LimitError] + [DeadlineExceeded] * 2
    assert not any(isinstance(error, LimitError) for error in errors)


def test_a_message_with_an_id_of_its_own_waits_for_the_connection():
    """Also if no callback waits for its reply."""
    heard = []

    def script(line):
        heard.append(line.hear())
        line.stay()

    with Desk(script) as desk, desk.api() as api:
        ws = api.websocket.connect()
        ws.send({"msgId": "mine", "type": "findmany", "object": "flow"})
        with ws:
            until(lambda: heard)

    assert heard[0]["msgId"] == "mine"


SCRIPT = """
    import sys
    {patch}
    from flowkit import API
    from client.live.scripted import Desk, message
    {more}

    with API(("nora", "t" * 32), host=sys.argv[1]) as api:
        ws = api.websocket.connect()
        got = []
        ws.subscribe("/nora/greenhouse", on_drop=lambda drop: (got.append(drop), ws.close()))
        ws.run()
        print(len(got))
        print(next(api.drop("/nora/greenhouse").subscribe())["elems"]["n"])
        print(api.websocket.shared().find("flow", "f1", timeout=5)["id"])
        ws = api.websocket.connect().start().wait_connected(5)
        ws.subscribe("/nora/greenhouse").close()
        ws.close()
    print("done")
"""


def one_drop_then_answers(line):
    """Serve whatever comes: a drop for each reader, an answer for each command."""
    while True:
        said = line.hear()
        if said["type"] == "subscribe" and "sub" in said:
            line.reply(said, {"sub": said["sub"], "position": f"p1.{FLOW}.k3v9q2xz.0"})
            line.say(message(said["sub"], 1))
        elif "msgId" in said:
            line.reply(said, {"id": "f1"})


PATCHES = {
    "plain": "",
    "gevent": "import gevent.monkey; gevent.monkey.patch_all()",
    "eventlet": "import eventlet; eventlet.monkey_patch()",
}


@pytest.mark.slow
@pytest.mark.parametrize("patch", PATCHES)
@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_it_works_in_every_kind_of_process(patch, name):
    """On plain threads, in a process that gevent patched, in one that eventlet patched."""
    if patch == "eventlet":
        needs_eventlet()
    tests = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
    script = SCRIPT.format(patch=PATCHES[patch], more="")
    with Desk(one_drop_then_answers) as desk:
        url = f"http://{name}:{desk.port}"
        printed = run_process(script, url, PYTHONPATH=tests)

    assert printed.split() == ["1", "1", "f1", "done"]


@pytest.mark.slow
def test_greenlets_of_the_same_thread_run_while_one_waits():
    """In an unpatched process a loop over a subscription lets the other greenlets run."""
    script = """
        import sys, gevent
        from flowkit import API

        ticks = []
        def tick():
            while True:
                ticks.append(1)
                gevent.sleep(0.01)

        gevent.spawn(tick)
        with API(("nora", "t" * 32), host=sys.argv[1]) as api:
            assert list(api.drop("/nora/greenhouse").subscribe(timeout_s=0.5))
            got = []
            ws = api.websocket.connect().start()
            ws.subscribe("/nora/greenhouse", on_drop=got.append)
            while not got:
                gevent.sleep(0.01)
        print(len(ticks) > 20)
    """
    with Desk(one_drop_then_answers) as desk:
        assert run_process(script, desk.url).split() == ["True"]


@pytest.mark.slow
def test_handlers_run_while_a_thread_that_once_used_gevent_blocks():
    """``start`` promises the background, whatever the caller's thread does next."""
    script = """
        import gevent, sys, threading
        from flowkit import API

        with API(("nora", "t" * 32), host=sys.argv[1]) as api:
            gevent.sleep(0)
            came = threading.Event()
            ws = api.websocket.connect().start()
            ws.subscribe("/nora/greenhouse", on_drop=lambda drop: came.set())
            print(came.wait(5))
    """
    with Desk(one_drop_then_answers) as desk:
        assert run_process(script, desk.url).split() == ["True"]


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["", "raise SystemExit(0)", "import gc; gc.collect()"])
def test_a_process_may_end_with_everything_open(ending, tmp_path):
    """The interpreter ends at once and without a word; the place that waited is written."""
    script = f"""
        import sys, warnings
        from flowkit import API

        api = API(("nora", "t" * 32), host=sys.argv[1])
        ws = api.websocket.connect().start()
        ws.subscribe("/nora/greenhouse", on_drop=print)
        view = api.drop("/nora/greenhouse").live()
        subscription = api.drop("/nora/other").subscribe(resume_file=sys.argv[2])
        next(subscription)
        try:
            subscription.next(0.2)
        except Exception as error:
            print(type(error).__name__)
        {ending}
    """
    file = tmp_path / "place"
    with Desk(one_drop_then_answers) as desk, Watch() as watch:
        printed = run_process(script, desk.url, str(file))

    assert "DeadlineExceeded" in printed
    assert '"place": "p1.' in file.read_text()
    assert watch.seconds < 5


@pytest.mark.slow
def test_ctrl_c_ends_a_runner_and_a_loop_cleanly():
    """KeyboardInterrupt comes out of run() and of a loop, and the process ends at once."""
    script = """
        import os, signal, sys, threading, time
        from flowkit import API

        def interrupt():
            time.sleep(0.3)
            os.kill(os.getpid(), signal.SIGINT)

        with API(("nora", "t" * 32), host=sys.argv[1]) as api:
            ws = api.websocket.connect()
            threading.Thread(target=interrupt).start()
            try:
                ws.run()
            except KeyboardInterrupt:
                print("run", ws.is_closed)
            threading.Thread(target=interrupt).start()
            try:
                for drop in api.drop("/nora/greenhouse").subscribe():
                    pass
            except KeyboardInterrupt:
                print("loop")
    """
    with Desk(one_drop_then_answers) as desk, Watch() as watch:
        assert run_process(script, desk.url).split() == ["run", "True", "loop"]
    assert watch.seconds < 6


def test_importing_flowkit_loads_no_websocket_library():
    """Only the first subscription does."""
    script = """
        import sys
        import flowkit
        flowkit.API(("nora", "t" * 32), host="http://127.0.0.1:1").close()
        print([name for name in sys.modules if name.startswith("websocket")])
    """
    assert run_process(script).strip() == "[]"
