"""Listeners: exactly once and in order, their place, gaps, ends, slow users, files."""

from __future__ import annotations

import json
import threading
import warnings

import pytest
from client.live.scripted import FLOW, Desk, after, message, place, until

from flowkit import limits
from flowkit.client.live.values import Change, Gap, GapWarning
from flowkit.errors import (
    DeadlineExceeded,
    FilterSyntaxError,
    Forbidden,
    NotFound,
    SettingsError,
    UsageError,
)
from flowkit.query.build import mem

PATH = "/nora/greenhouse"


def numbers(drops):
    """What the test drops are told apart by."""
    return [drop["elems"]["n"] for drop in drops]


def gap(sub, reason="forgotten", *, at=None):
    """A gap message; *at* is the position that all but ``forgotten`` have."""
    said = {"type": "gap", "sub": sub, "resource": FLOW, "reason": reason}
    said |= {"from": place(1), "to": place(9)}
    return said | ({"position": at} if at else {})


def end(sub, reason, status):
    """The end of a reader."""
    said = {"type": "end", "sub": sub, "resource": FLOW, "reason": reason}
    return {**said, "status": status, "errors": ["so it is"]}


def test_a_for_loop_gets_the_drops():
    """api.drop(flow).subscribe(filter) gives plain drops, one after the other."""

    def script(line):
        said = line.confirm(3)
        line.say(message(said["sub"], 4), message(said["sub"], 5))
        line.stay()

    got = []
    with Desk(script) as desk, desk.api() as api:
        for drop in api.drop(PATH).subscribe(mem.elems.temp > 20, since=place(3)):
            got.append(drop["elems"]["n"])
            if len(got) == 2:
                break

    assert got == [4, 5]
    asked = desk.lines[0].heard[0]
    assert asked["path"] == PATH
    assert asked["filter"] == "elems.temp > 20"
    assert asked["since"] == place(3)


def test_the_place_moves_when_the_next_one_is_asked_for():
    """While the body of the loop runs, its drop is not dealt with yet."""

    def script(line):
        said = line.confirm(3)
        line.say(*(message(said["sub"], seq) for seq in (4, 5)))
        line.say({"type": "position", "sub": said["sub"], "resource": FLOW, "position": place(9)})
        line.stay()

    with Desk(script) as desk, desk.api() as api:
        subscription = api.drop(FLOW).subscribe(timeout_s=0.3)
        places = [subscription.place for _ in subscription]
        at_the_end = subscription.place

    assert places == [place(3), place(4)]
    assert at_the_end == place(9)


def test_a_loss_between_any_two_messages_doubles_and_loses_nothing():
    """The server goes on from the since of each connection; the loop gets every change once."""

    def script(line):
        said = line.confirm(0)
        first = after(said) + 1
        line.say(*(message(said["sub"], seq) for seq in range(first, min(first + 3, 21))))
        if first + 3 > 20:
            line.stay()

    got = []
    with Desk(script) as desk, desk.api() as api:
        for drop in api.drop(FLOW).subscribe():
            got.append(drop)
            if len(got) == 20:
                break

    assert numbers(got) == list(range(1, 21))
    assert len(desk.lines) == 7


def test_changes_and_gaps_come_as_events():
    """events() says the kind and the position of each change, and gives gaps as values."""

    def script(line):
        sub = line.confirm(0)["sub"]
        line.say(gap(sub), message(sub, 10), {**message(sub, 11), "change": "delete"})
        line.say(gap(sub, "slow", at=place(20)))
        line.stay()

    with Desk(script) as desk, desk.api() as api, warnings.catch_warnings():
        warnings.simplefilter("error")
        subscription = api.drop(FLOW).subscribe(changes=["create", "delete"], timeout_s=0.3)
        events = list(subscription.events())

    assert events[0] == Gap("forgotten", place(1), place(9))
    assert [(event.kind, event.position) for event in events[1:3]] == [
        ("create", place(10)),
        ("delete", place(11)),
    ]
    assert all(isinstance(event, Change) for event in events[1:3])
    assert events[3].reason == "slow"
    assert desk.lines[0].heard[0]["changes"] == ["create", "delete"]


def test_a_gap_in_a_loop_is_a_warning_or_a_call():
    """A loop over drops never passes a gap in silence."""

    def script(line):
        sub = line.confirm(0)["sub"]
        line.say(gap(sub), message(sub, 10))
        line.stay()

    gaps = []
    with Desk(script) as desk, desk.api() as api:
        with pytest.warns(GapWarning, match="forgotten"):
            assert api.drop(FLOW).subscribe().next(5)["elems"] == {"n": 10}
        api.websocket.close()
        assert api.drop(FLOW).subscribe(on_gap=gaps.append).next(5)["elems"] == {"n": 10}

    assert gaps == [Gap("forgotten", place(1), place(9))]


def test_next_with_no_time_looks_at_what_is_there():
    """So a program with a loop of its own can poll; a gap in between is passed."""

    def script(line):
        said = line.confirm(0)
        has_looked.wait(10)
        line.say(message(said["sub"], 1), gap(said["sub"]), message(said["sub"], 10))
        line.stay()

    got, gaps, has_looked = [], [], threading.Event()

    def look():
        try:
            got.append(subscription.next(0))
        except DeadlineExceeded:
            has_looked.set()
        return len(got) == 2

    with Desk(script) as desk, desk.api() as api:
        subscription = api.drop(FLOW).subscribe(since="start", on_gap=gaps.append)
        until(look)

    assert has_looked.is_set()
    assert numbers(got) == [1, 10]
    assert len(gaps) == 1


def test_next_has_a_deadline():
    """next(timeout_s) raises where a loop would end, and the subscription goes on."""

    def script(line):
        sub = line.confirm(0)["sub"]
        line.hear()
        line.say(message(sub, 1))
        line.stay()

    with Desk(script) as desk, desk.api() as api:
        subscription = api.drop(FLOW).subscribe()
        with pytest.raises(DeadlineExceeded):
            subscription.next(0.1)
        api.websocket.shared().send({"type": "find", "object": "flow", "id": FLOW})
        assert subscription.next(5)["elems"] == {"n": 1}


@pytest.mark.parametrize(
    ("reason", "status", "kind"),
    [("forbidden", 403, Forbidden), ("filter", 400, Exception), ("fault", 500, Exception)],
)
def test_an_end_is_raised_by_the_loop_after_what_came_before_it(reason, status, kind):
    """The drops before the end are handed out, then its error is raised once."""

    def script(line):
        sub = line.confirm(0)["sub"]
        line.say(message(sub, 1), end(sub, reason, status))
        line.stay()

    with Desk(script) as desk, desk.api() as api:
        subscription = api.drop(PATH).subscribe()
        assert numbers([next(subscription)]) == [1]
        with pytest.raises(kind, match="so it is") as raised:
            next(subscription)
        assert list(subscription) == []
        assert subscription.is_closed

    assert raised.value.status == status


def test_a_flow_that_is_not_there_is_an_error_of_the_loop():
    """The first next() raises what the server said."""
    with Desk(lambda line: line.refuse(line.hear(), 404, "no flow")) as desk, desk.api() as api:
        subscription = api.drop(PATH).subscribe()
        with pytest.raises(NotFound, match="no flow"):
            next(subscription)


def test_a_deleted_flow_is_waited_for_by_path():
    """After end 'deleted' the reader tries again from its place, and gets what the new flow has."""

    def script(line):
        sub = line.confirm(5)["sub"]
        line.say(message(sub, 6), end(sub, "deleted", 404))
        line.refuse(line.hear(), 404, "not yet")
        assert line.confirm(0)["since"] == place(6)
        line.say(gap(sub, "recreated", at=place(0, "f" + "1" * 24)), message(sub, 7))
        line.stay()

    gaps = []
    with Desk(script) as desk, desk.api() as api:
        subscription = api.drop(PATH).subscribe(on_gap=gaps.append)
        assert numbers([next(subscription), next(subscription)]) == [6, 7]

    assert [one.reason for one in gaps] == ["recreated"]


def test_a_deleted_flow_by_id_is_the_end():
    """An id does not come back."""

    def script(line):
        sub = line.confirm(5)["sub"]
        line.say(end(sub, "deleted", 404))
        line.stay()

    with Desk(script) as desk, desk.api() as api, pytest.raises(NotFound):
        next(api.drop(FLOW).subscribe())


def test_messages_of_an_older_reader_of_the_name_are_not_taken():
    """What comes before the reply to the present subscribe is of the one before."""

    def script(line):
        said = line.hear()
        line.say(message(said["sub"], 1))
        line.reply(said, {"sub": said["sub"], "position": place(4)})
        line.say(message(said["sub"], 5))
        line.stay()

    with Desk(script) as desk, desk.api() as api:
        assert numbers([next(api.drop(FLOW).subscribe())]) == [5]


def test_a_subscription_that_is_closed_ends_its_loop_and_tells_the_server():
    """close() from another thread ends the loop; the server hears an unsubscribe."""

    def script(line):
        sub = line.confirm(0)["sub"]
        line.say(message(sub, 1))
        line.stay()

    with Desk(script) as desk, desk.api() as api:
        subscription = api.drop(FLOW).subscribe()
        got = []
        for drop in subscription:
            got.append(drop)
            threading.Timer(0.05, subscription.close).start()
        until(lambda: desk.lines[0].heard[-1]["type"] == "unsubscribe")
        assert desk.lines[0].heard[-1]["sub"] == desk.lines[0].heard[0]["sub"]

    assert numbers(got) == [1]


def test_a_subscription_that_is_dropped_ends_on_the_server():
    """Whoever breaks out of the loop and forgets the subscription leaves nothing behind."""

    def script(line):
        sub = line.confirm(0)["sub"]
        line.say(message(sub, 1))
        line.stay()

    with Desk(script) as desk, desk.api() as api:
        for _ in api.drop(FLOW).subscribe():
            break
        until(lambda: desk.lines[0].heard[-1]["type"] == "unsubscribe")


def test_closing_the_api_ends_its_loops():
    """A loop in another thread ends without an error when the API is closed."""

    def script(line):
        line.confirm(0)
        line.stay()

    ended = threading.Event()
    with Desk(script) as desk:
        api = desk.api()

        def loop():
            for _ in api.drop(FLOW).subscribe():
                pass
            ended.set()

        threading.Thread(target=loop, daemon=True).start()
        until(lambda: desk.lines and desk.lines[0].heard)
        api.close()
        assert ended.wait(5)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"since": "yesterday"}, "since"),
        ({"since": place(1, "f" + "0" * 24)}, "another Flow"),
        ({"changes": ["created"]}, "changes"),
        ({"changes": "create"}, "list"),
        ({"slow": "squash"}, "slow"),
        ({"timeout_s": 0}, "positive"),
    ],
)
def test_what_cannot_be_asked_for_is_refused_at_once(wrong, says):
    """Nothing is sent, and the error names the argument."""
    with Desk(lambda line: line.stay()) as desk, desk.api() as api:
        with pytest.raises(UsageError, match=says):
            api.drop(FLOW).subscribe(**wrong)
        with pytest.raises(FilterSyntaxError):
            api.drop(FLOW).subscribe("temp >")


def test_handlers_of_its_own_are_called_in_place_of_on_message():
    """on_drop, on_change and on_gap of a subscription hear of that one alone."""

    def script(line):
        first, second = line.confirm(0)["sub"], line.confirm(0)["sub"]
        line.say(message(first, 1), message(second, 2), gap(first, "slow", at=place(8)))
        line.say(message(second, 3))
        line.stay()

    one, two, rest, gaps = [], [], [], []
    with Desk(script) as desk, desk.api() as api:
        ws = api.websocket.connect(on_message=lambda ws, r, v: rest.append((r, v["elems"]["n"])))
        first = ws.subscribe(FLOW, on_drop=one.append, on_change=two.append, on_gap=gaps.append)
        ws.subscribe(FLOW, filter="n > 0")
        with ws:
            until(lambda: len(rest) == 2)

    assert numbers(one) == [1]
    assert [(change.kind, change.position) for change in two] == [("create", place(1))]
    assert rest == [(FLOW, 2), (FLOW, 3)]
    assert [one.reason for one in gaps] == ["slow"]
    assert first.place == place(8)


def test_a_handler_that_raises_has_dealt_with_its_message():
    """The error is reported, the place moves on, the message does not come again."""

    def script(line):
        said = line.confirm(0)
        first = after(said) + 1
        line.say(*(message(said["sub"], seq) for seq in range(first, 4)))
        if line.number:
            line.stay()

    got, errors = [], []

    def on_drop(drop):
        got.append(drop)
        raise ValueError(drop["elems"]["n"])

    with Desk(script) as desk, desk.api() as api:
        ws = api.websocket.connect(on_error=lambda ws, error: errors.append(error))
        reader = ws.subscribe(FLOW, on_drop=on_drop)
        with ws:
            until(lambda: len(desk.lines) == 2 and reader.place == place(3))

    assert numbers(got) == [1, 2, 3]
    assert [error.args for error in errors if isinstance(error, ValueError)] == [(1,), (2,), (3,)]


# --- slow users


def flood(line, said, count):
    """Send so many messages to a reader, from its since on."""
    first = after(said) + 1
    for begin in range(first, count + 1, 500):
        line.say(*(message(said["sub"], seq) for seq in range(begin, min(begin + 500, count + 1))))


def test_a_slow_loop_stops_the_connection_and_misses_nothing(monkeypatch):
    """Alone on its connection, a full inbox stops the reading; nothing is asked for twice."""
    monkeypatch.setattr(limits, "inbox_messages_max", 50)

    def script(line):
        flood(line, line.confirm(0), 2_000)
        line.stay()

    got = []
    with Desk(script) as desk, desk.api() as api:
        subscription = api.drop(FLOW).subscribe()
        got.append(next(subscription))
        until(lambda: len(subscription._inbox) >= 50)
        for drop in subscription:
            got.append(drop)
            if len(got) == 2_000:
                break

    assert numbers(got) == list(range(1, 2_001))
    assert [said["type"] for said in desk.lines[0].heard if said["type"] != "heartbeat"][:1] == [
        "subscribe"
    ]
    assert len(desk.lines) == 1


def test_a_slow_loop_does_not_hold_up_another(monkeypatch):
    """It pauses and resumes from its place; the other gets everything meanwhile."""
    monkeypatch.setattr(limits, "inbox_messages_max", 50)

    def script(line):
        slow, quick = line.confirm(0), line.confirm(0)
        flood(line, slow, 300)
        flood(line, quick, 40)
        assert line.hear() == {"object": "drop", "type": "unsubscribe", "sub": slow["sub"]}
        flood(line, {**quick, "since": place(40)}, 80)
        again = line.confirm(0)
        assert again["sub"] == slow["sub"]
        flood(line, again, 300)
        while True:  # it may have to pause again
            said = line.hear()
            if said["type"] == "subscribe":
                line.reply(said, {"sub": said["sub"], "position": place(0)})
                flood(line, said, 300)

    with Desk(script) as desk, desk.api() as api:
        slow = api.drop(FLOW).subscribe()
        until(lambda: desk.lines and desk.lines[0].heard)
        quick = api.drop(FLOW).subscribe()
        assert numbers(quick.next(5) for _ in range(80)) == list(range(1, 81))
        assert numbers(slow.next(5) for _ in range(300)) == list(range(1, 301))


def test_a_command_in_a_slow_handler_is_answered(monkeypatch):
    """The connection is read on for the reply, though the handler's inbox is full."""
    monkeypatch.setattr(limits, "inbox_messages_max", 20)
    answers = []
    is_busy = threading.Event()

    def script(line):
        said = line.confirm(0)
        line.say(message(said["sub"], 1))
        is_busy.wait(10)
        flood(line, {**said, "since": place(1)}, 200)
        while True:
            heard = line.hear()
            if heard["type"] == "find":
                line.reply(heard, {"id": FLOW})
            elif heard["type"] == "subscribe":
                line.reply(heard, {"sub": heard["sub"], "position": place(0)})
                flood(line, heard, 200)

    got = []
    with Desk(script) as desk, desk.api() as api:

        def on_drop(drop):
            got.append(drop)
            if len(got) == 1:
                is_busy.set()
                until(lambda: ws._inbox.is_full)
            if len(got) in (1, 100):
                answers.append(ws.find("flow", FLOW, timeout=5))

        ws = api.websocket.connect()
        ws.subscribe(FLOW, on_drop=on_drop)
        with ws:
            until(lambda: len(got) == 200)

    assert numbers(got) == list(range(1, 201))
    assert answers == [{"id": FLOW}, {"id": FLOW}]


# --- a place in a file


def script_from_since(line):
    """Ten changes in all; a reader gets those after its since."""
    said = line.confirm(0)
    flood(line, said, 10)
    line.stay()


def test_a_resume_file_goes_on_where_the_last_run_stopped(tmp_path):
    """What was not dealt with comes again, what was does not."""
    file = tmp_path / "place"
    got = []
    with Desk(script_from_since) as desk:
        for count in (3, 4, 3):
            with desk.api() as api:
                subscription = api.drop(PATH).subscribe(since="start", resume_file=file)
                with subscription:  # at the end of the block the last one is dealt with
                    got += [next(subscription) for _ in range(count)]

    assert numbers(got) == list(range(1, 11))
    assert json.loads(file.read_text())["place"] == place(10)
    assert json.loads(file.read_text())["flow"] == PATH
    assert [one.name for one in tmp_path.iterdir()] == ["place"]


def test_a_drop_whose_body_raised_comes_again(tmp_path):
    """The place in the file is that of the last drop that was dealt with."""
    file = tmp_path / "place"
    with Desk(script_from_since) as desk:
        with desk.api() as api:
            subscription = api.drop(PATH).subscribe(since="start", resume_file=file)

            def loop():
                for drop in subscription:
                    1 / (drop["elems"]["n"] - 4)

            with pytest.raises(ZeroDivisionError):
                loop()
        with desk.api() as api:
            again = next(api.drop(PATH).subscribe(resume_file=file))

    assert again["elems"]["n"] == 4


def test_the_first_place_is_written_before_the_first_drop(tmp_path):
    """A script that is stopped before anything came misses nothing that comes meanwhile."""
    file = tmp_path / "place"

    def script(line):
        line.confirm(17)
        line.stay()

    with Desk(script) as desk, desk.api() as api:
        ws = api.websocket.connect()
        ws.subscribe(FLOW, resume_file=file)
        with ws:
            until(file.exists)

    assert json.loads(file.read_text())["place"] == place(17)


def test_a_handler_that_closes_its_runner_has_dealt_with_its_drop(tmp_path):
    """The place in the file is that of the last drop whose handler returned."""
    file = tmp_path / "place"
    with Desk(script_from_since) as desk, desk.api() as api:
        ws = api.websocket.connect()

        def on_drop(drop):
            if drop["elems"]["n"] == 3:
                ws.close()

        ws.subscribe(FLOW, since="start", on_drop=on_drop, resume_file=file)
        ws.run()

    assert json.loads(file.read_text())["place"] == place(3)


def test_the_place_of_handlers_is_written_when_nothing_more_waits(tmp_path):
    """The last drop before a long pause does not come again, however soon it followed another."""
    file = tmp_path / "place"

    def script(line):
        said = line.confirm(0)
        line.say(*(message(said["sub"], seq) for seq in (1, 2, 3)))
        line.stay()

    with Desk(script) as desk, desk.api() as api, api.websocket.connect() as ws:
        ws.subscribe(FLOW, on_drop=lambda drop: None, resume_file=file)
        until(lambda: file.exists() and json.loads(file.read_text())["place"] == place(3))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "garbage",
        "{}",
        "[]",
        json.dumps({"kind": "flowkit place 1", "flow": PATH, "place": "p1"}),
        json.dumps({"kind": "flowkit place 1", "flow": "/nora/other", "place": place(1)}),
        json.dumps({"kind": "another program", "flow": PATH, "place": place(1)}),
        "\x00\xff",
    ],
)
def test_a_file_that_is_something_else_is_refused_and_stays(tmp_path, text):
    """Nothing is sent, and the file is not touched."""
    file = tmp_path / "place"
    file.write_text(text, encoding="latin-1")
    with (
        Desk(lambda line: line.stay()) as desk,
        desk.api() as api,
        pytest.raises(SettingsError, match="resume_file"),
    ):
        api.drop(PATH).subscribe(resume_file=file)

    assert file.read_text(encoding="latin-1") == text


def test_a_file_keeps_the_place_of_one_subscription_at_a_time(tmp_path):
    """Two would overwrite each other's place, and the slower one would miss drops later."""
    file = tmp_path / "place"
    with Desk(script_from_since) as desk, desk.api() as api:
        first = api.drop(PATH).subscribe("n > 1", since="start", resume_file=file)
        with pytest.raises(UsageError, match=r"place' is in use .*close\(\) that one"):
            api.drop(PATH).subscribe("n < 1", resume_file=file)
        first.next(10)
        first.close()
        again = api.drop(PATH).subscribe("n > 1", resume_file=file)
        del again  # as at a break out of a loop
        api.drop(PATH).subscribe("n > 1", resume_file=file).close()


def test_a_file_of_another_flow_is_refused_by_id(tmp_path):
    """The position in it names the flow."""
    file = tmp_path / "place"
    other = "f" + "0" * 24
    said = {"kind": "flowkit place 1", "flow": FLOW, "place": place(1, other)}
    file.write_text(json.dumps(said), encoding="utf-8")
    with Desk(lambda line: line.stay()) as desk, desk.api() as api:
        with pytest.raises(SettingsError, match=other):
            api.drop(FLOW).subscribe(resume_file=file)
        with pytest.raises(SettingsError, match="no folder"):
            api.drop(FLOW).subscribe(resume_file=tmp_path / "nowhere" / "place")
