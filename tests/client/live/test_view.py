"""Live queries: what they hold, and the shifts that they tell."""

from __future__ import annotations

import threading

import pytest
from client.live.scripted import FLOW, Desk, place, until
from hypothesis import given
from hypothesis import strategies as st

from flowkit import limits
from flowkit.client.live.values import Shift
from flowkit.client.live.view import LiveView, differences
from flowkit.errors import DeadlineExceeded, Forbidden, UsageError

PATH = "/nora/greenhouse"


def drop(name, n):
    """A drop."""
    return {"id": name, "elems": {"n": n}}


def put(sub, seq, name, n, kind="enter"):
    """A drop comes into the view, or changes in it."""
    said = {"type": kind, "sub": sub, "resource": FLOW, "position": place(seq)}
    return {**said, "value": drop(name, n)}


def leave(sub, seq, name, reason="changed"):
    """A drop leaves the view."""
    said = {"type": "leave", "sub": sub, "resource": FLOW, "position": place(seq)}
    return {**said, "id": name, "reason": reason}


def snapshot(sub, seq, **drops):
    """The messages of a snapshot."""
    said = {"sub": sub, "resource": FLOW}
    return [
        {"type": "snapshot", **said, "state": "begin"},
        *({"type": "item", **said, "value": drop(name, n)} for name, n in drops.items()),
        {"type": "snapshot", **said, "state": "end", "position": place(seq)},
    ]


def told(shifts):
    """The shifts in short."""

    def number(state):
        return state and state["elems"]["n"]

    return [(one.kind, one.id, number(one.before), number(one.after)) for one in shifts]


def test_a_view_is_a_mapping_that_keeps_itself_up_to_date():
    """Snapshot, enter, update and leave are what it holds; reading never waits."""

    def script(line):
        sub = line.confirm(3, "snapshot")["sub"]
        line.say(*snapshot(sub, 3, da=1, db=2))
        line.hear()
        line.say(put(sub, 4, "dc", 3), put(sub, 5, "da", 7, "update"), leave(sub, 6, "db"))
        line.stay()

    with Desk(script) as desk, desk.api() as api:
        view = api.drop(PATH).live("n > 0")
        assert dict(view) == {}
        assert view.wait_ready(5) is view
        assert dict(view) == {"da": drop("da", 1), "db": drop("db", 2)}
        api.websocket.shared().send({"type": "find", "object": "flow", "id": FLOW})
        until(lambda: view.place == place(6))
        assert dict(view) == view.snapshot() == {"da": drop("da", 7), "dc": drop("dc", 3)}
        assert (len(view), "db" in view, list(view)) == (2, False, ["da", "dc"])

    asked = desk.lines[0].heard[0]
    assert asked["live"] is True
    assert asked["filter"] == "n > 0"
    assert view.is_closed
    assert len(view) == 0


def test_a_new_snapshot_is_told_as_the_difference():
    """After a loss the view keeps what it held until the new snapshot, then tells what changed."""
    go_on = threading.Event()

    def script(line):
        said = line.confirm(3, "snapshot")
        if line.number == 0:
            line.say(*snapshot(said["sub"], 3, da=1, db=2, dc=3))
            go_on.wait(10)
            return
        assert said["since"] == place(3)
        begin, *rest = snapshot(said["sub"], 9, da=1, db=5, dd=4)
        line.say(begin, rest[0])
        if line.number == 1:
            return  # in the middle of it: that one never was
        line.say(*rest)
        line.stay()

    shifts = []
    with Desk(script) as desk, desk.api() as api:
        view = api.drop(FLOW).live().wait_ready(5)
        events = view.events()
        shifts += [next(events) for _ in range(3)]
        go_on.set()
        shifts += [next(events) for _ in range(3)]
        assert view.place == place(9)

    assert told(shifts[:3]) == [
        ("enter", "da", None, 1),
        ("enter", "db", None, 2),
        ("enter", "dc", None, 3),
    ]
    assert sorted(told(shifts[3:])) == [
        ("enter", "dd", None, 4),
        ("leave", "dc", 3, None),
        ("update", "db", 2, 5),
    ]


def test_put_and_remove_are_right_under_every_policy():
    """An enter of what is held is an update, a leave of what is not held is nothing."""

    def script(line):
        sub = line.confirm(3, "snapshot")["sub"]
        line.say(*snapshot(sub, 3, da=1), put(sub, 4, "da", 2), leave(sub, 5, "dz"))
        line.say(put(sub, 6, "db", 3, "update"), leave(sub, 7, "da", "evicted"))
        line.stay()

    with Desk(script) as desk, desk.api() as api:
        shifts = []
        view = api.drop(FLOW).live(on_change=shifts.append)
        until(lambda: view.place == place(7) and len(shifts) == 4)

    assert told(shifts) == [
        ("enter", "da", None, 1),
        ("update", "da", 1, 2),
        ("enter", "db", None, 3),
        ("leave", "da", 2, None),
    ]
    assert shifts[-1].reason == "evicted"


def test_a_view_that_the_server_ends_is_empty_and_says_why():
    """wait_ready and events raise the error; nothing is held any more."""

    def script(line):
        sub = line.confirm(3, "snapshot")["sub"]
        line.say(*snapshot(sub, 3, da=1))
        line.hear()
        line.say({"type": "end", "sub": sub, "resource": FLOW, "reason": "forbidden"})
        line.stay()

    with Desk(script) as desk, desk.api() as api:
        view = api.drop(FLOW).live().wait_ready(5)
        events = view.events()
        assert told([next(events)]) == [("enter", "da", None, 1)]
        api.websocket.shared().send({"type": "find", "object": "flow", "id": FLOW})
        assert told([next(events)]) == [("leave", "da", 1, None)]
        with pytest.raises(Forbidden):
            next(events)
        assert dict(view) == {}
        assert isinstance(view.error, Forbidden)


def test_a_refused_view_raises_when_waited_for():
    """wait_ready raises what the server said."""
    desk = Desk(lambda line: line.refuse(line.hear(), 403))
    with desk, desk.api() as api, pytest.raises(Forbidden):
        api.drop(FLOW).live().wait_ready(5)


def test_a_deleted_flow_empties_the_view_until_it_is_there_again():
    """By path the view goes on with the new flow."""

    def script(line):
        sub = line.confirm(3, "snapshot")["sub"]
        line.say(*snapshot(sub, 3, da=1))
        line.say({"type": "end", "sub": sub, "resource": FLOW, "reason": "deleted", "status": 404})
        line.confirm(0, "snapshot")
        line.say(*snapshot(sub, 1, db=2))
        line.stay()

    with Desk(script) as desk, desk.api() as api:
        view = api.drop(PATH).live()
        events = view.events()
        shifts = [next(events) for _ in range(3)]

    assert told(shifts) == [
        ("enter", "da", None, 1),
        ("leave", "da", 1, None),
        ("enter", "db", None, 2),
    ]
    assert shifts[1].reason == "deleted"


def test_waiting_for_a_view_has_a_deadline():
    """A snapshot that does not come is an error after its time."""

    def script(line):
        line.confirm(3, "snapshot")
        line.stay()

    with Desk(script) as desk, desk.api() as api, pytest.raises(DeadlineExceeded):
        api.drop(FLOW).live().wait_ready(0.1)


def test_what_a_view_cannot_do_is_refused_at_once():
    """AGE changes by mere waiting; a listener's handlers mean nothing here."""
    with Desk(lambda line: line.stay()) as desk, desk.api() as api:
        with pytest.raises(UsageError, match="AGE"):
            api.drop(FLOW).live("AGE < 5")
        with pytest.raises(UsageError, match="on_drop"):
            api.websocket.connect().subscribe(FLOW, live=True, on_drop=print)
        with pytest.raises(UsageError, match="live"):
            api.websocket.connect().subscribe(FLOW, live=True, changes=["create"])


def test_a_view_of_a_runner_tells_its_handler_there():
    """ws.subscribe(live=True, on_change=…) calls the handler where the runner's others run."""

    def script(line):
        sub = line.confirm(3, "snapshot")["sub"]
        line.say(*snapshot(sub, 3, da=1))
        line.stay()

    threads = set()
    with Desk(script) as desk, desk.api() as api:
        ws = api.websocket.connect()

        def on_change(shift):
            threads.add(threading.get_ident())
            ws.close()

        view = ws.subscribe(FLOW, live=True, on_change=on_change)
        ws.run()

    assert isinstance(view, LiveView)
    assert threads == {threading.get_ident()}


def test_a_view_made_by_on_open_is_not_made_twice():
    """After a loss the same subscribe gives the view of before, and each shift is told once."""
    asked = []

    def script(line):
        said = line.confirm(3, "snapshot")
        asked.append((said["sub"], said.get("since")))
        line.say(*snapshot(said["sub"], 3, **{f"d{n}": n for n in range(line.number + 1)}))
        if line.number == 2:
            line.stay()

    views, shifts = [], []

    def on_open(ws):
        views.append(ws.subscribe(FLOW, live=True, on_change=shifts.append))

    with Desk(script) as desk, desk.api() as api, api.websocket.connect(on_open=on_open):
        until(lambda: len(shifts) == 3)

    assert views[0] is views[1] is views[2]
    assert asked == [("v1", None), ("v1", place(3)), ("v1", place(3))]
    assert told(shifts) == [("enter", f"d{n}", None, n) for n in range(3)]


# --- without a server: the reader's messages, straight into the view

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.sampled_from("abc"), st.integers(0, 2)),
        st.tuples(st.just("leave"), st.sampled_from("abc")),
        st.tuples(st.just("snapshot"), st.dictionaries(st.sampled_from("abc"), st.integers(0, 2))),
        st.tuples(st.just("read")),
    ),
    max_size=30,
)


@given(STEPS, st.integers(1, 6))
def test_the_shifts_lead_from_nothing_to_what_the_view_holds(steps, most):
    """However far a follower falls behind, its shifts add up, each true at its moment."""
    view = LiveView(FLOW, lambda: None)
    follower = view.follow(None)
    state, limit = {}, limits.inbox_messages_max
    limits.inbox_messages_max = most
    try:
        for seq, step in enumerate([*steps, ("read",)]):
            if step[0] == "put":
                view.take(put("v", seq, step[1], step[2]), 0)
            elif step[0] == "leave":
                view.take(leave("v", seq, step[1]), 0)
            elif step[0] == "snapshot":
                for said in snapshot("v", seq, **step[1]):
                    view.take(said, 0)
            else:
                for shift in follower.take(0):
                    follower.told(shift)
                    assert state.get(shift.id) == shift.before
                    state.pop(shift.id, None)
                    if shift.after is not None:
                        state[shift.id] = shift.after
                assert state == dict(view)
    finally:
        limits.inbox_messages_max = limit


def test_a_walk_over_a_view_is_one_moment():
    """dict(view), and view[id] inside a loop over it, do not see what changes meanwhile."""
    view = LiveView(FLOW, lambda: None)
    for said in snapshot("v", 1, da=1, db=2, dc=3):
        view.take(said, 0)
    seen = {}
    for name in view:
        seen[name] = view[name]
        view.take(leave("v", 2, name), 0)
        view.take(put("v", 3, "dz", 9), 0)

    assert seen == {"da": drop("da", 1), "db": drop("db", 2), "dc": drop("dc", 3)}
    assert dict(view) == {"dz": drop("dz", 9)}
    with pytest.raises(KeyError):
        view["da"]


@given(*[st.dictionaries(st.sampled_from("abcd"), st.integers(0, 2)) for _ in range(2)])
def test_differences_lead_from_one_state_to_the_other(before, after):
    """Applied to the first, they make the second; what is the same is not told."""
    state = dict(before)
    shifts = list(differences(before, after))
    for shift in shifts:
        assert isinstance(shift, Shift)
        assert shift.before != shift.after
        state.pop(shift.id, None)
        if shift.kind != "leave":
            state[shift.id] = shift.after

    assert state == after
