"""with api.lazy() as graph: look-ups in thunks do not wait, so dependent calls run side by side."""

import copy
import inspect
import pickle
import re
import threading

import pytest
from client.desk import DeskAPI, switches

from flowkit import green
from flowkit.client.concurrent import LazyCalls
from flowkit.client.thunk import GreenThunk, MissingKey
from flowkit.errors import Cancelled, NotFound, UsageError


@pytest.fixture
def api():
    """An API with the service ``desk``."""
    return DeskAPI()


@pytest.fixture
def lazy(api):
    """Lazy calls of it."""
    return LazyCalls(api)


def test_look_ups_answer_new_thunks_at_once(api, lazy):
    """thunk[key], thunk[i:j], at any depth, of ready and of pending thunks: no switch."""
    green.spawn(int).get()
    ready = lazy.desk.give([1, 2, 3])
    ready.wait()
    with lazy as graph:
        held = graph.desk.hold("a", [{"id": "f1", "tags": ["x", "y", "z"]}])
        with switches() as seen:
            made = [held[0], held[0]["id"], held[0]["tags"][1:], held[-1:], ready[1], ready[::2]]
            shown = repr(made[1])
        api.desk.door("a").set(None)

    assert seen == []
    assert all(type(one) is GreenThunk for one in made)
    assert "['id'] at " in shown
    tags = ["x", "y", "z"]
    whole = {"id": "f1", "tags": tags}
    assert [whole, "f1", ["y", "z"], [whole], 2, [1, 3]] == made
    assert [whole, "f1", ["y", "z"], [whole], 2, [1, 3]] == [one.unwrap() for one in made]


def test_a_loop_of_dependent_calls_runs_all_items_side_by_side(api):
    """The first calls of all items are on the wire together, and so are the second ones."""
    lazy = LazyCalls(api, 100)
    with lazy as graph:
        found = {}
        for number in range(20):
            flow = graph.desk.hold("flows", [{"id": number}])
            found[number] = graph.desk.take({"of": flow[0]["id"]})
            assert not flow.is_ready
        made_in_time = list(found)
        api.desk.door("flows").set(None)

    assert list(range(20)) == made_in_time
    assert api.desk.most == 20
    assert {n: {"of": n} for n in range(20)} == {n: one.unwrap() for n, one in found.items()}


def test_a_thousand_dependent_look_ups_end_with_a_bound_of_four(api):
    """Three waves of a thousand items; the bound counts only what is on the wire."""
    with LazyCalls(api, 4) as graph:
        ends = []
        for number in range(1_000):
            one = graph.desk.give([{"n": number}])
            two = graph.desk.take({"n": one[0]["n"]})
            ends.append(graph.desk.take([two["n"], one]))

    assert [[n, [{"n": n}]] for n in range(1_000)] == [end.unwrap() for end in ends]
    assert api.desk.most == 4


def test_after_the_block_a_look_up_is_plain(api, lazy):
    """Outside a block thunk[key] waits and gives the plain value, whenever the thunk was made."""
    before = lazy.desk.give([1, 2])
    assert type(before[0]) is int
    with lazy as graph:
        inside = graph.desk.give({"a": [1]})
        below = inside["a"]
        assert type(before[0]) is GreenThunk

    assert type(inside["a"]) is list
    assert type(below[0]) is int
    assert type(before[0]) is int


def test_the_end_of_the_block_waits_for_everything(api, lazy):
    """All calls of the block have ended, and none of their errors is raised there."""
    with lazy as graph:
        made = [graph.desk.give(n) for n in range(50)] + [graph.desk.fail(NotFound("gone"))]

    assert all(one.is_ready for one in made)
    assert api.desk.under_way == 0
    with pytest.raises(NotFound):
        len(made[-1])


def test_reading_inside_the_block_waits(lazy):
    """Iteration and every other reading give plain values there too."""
    with lazy as graph:
        entries = [type(entry) for entry in graph.desk.give([1, "a"])]
        length = len(graph.desk.give([1, 2, 3]))
        text = f"{graph.desk.give('x')}"

    assert [int, str] == entries
    assert length == 3
    assert text == "x"


@pytest.mark.parametrize(
    ("value", "look", "kind", "told"),
    [
        ({"a": 1}, lambda x: x["b"], KeyError, "'b'"),
        ([1, 2], lambda x: x[5], IndexError, "list index out of range: [5]"),
        (None, lambda x: x["a"], TypeError, "'NoneType' object is not subscriptable: ['a']"),
        ({"a": None}, lambda x: x["a"]["b"], TypeError, "'NoneType'"),
        ({"a": 1}, lambda x: x["a"][1:2], TypeError, "[1:2]"),
        ([[]], lambda x: x[0][0], IndexError, "[0]"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_what_is_not_there_is_told_at_first_use(lazy, value, look, kind, told):
    """KeyError, IndexError or TypeError, that names the key and the line of the look-up."""
    with lazy as graph:
        thunk = graph.desk.give(value)
        missing = look(thunk)

    where = rf"{re.escape(told)}.* \(?looked up at .*test_graph\.py:{look.__code__.co_firstlineno}"
    for _ in range(2):
        with pytest.raises(kind, match=where):
            bool(missing)
    assert "failed with" in repr(missing)


def test_a_missing_key_keeps_its_facts():
    """The error has the key and the line, and survives copy and pickle."""
    for error in (MissingKey("b", "x.py:3"), copy.copy(MissingKey("b", "x.py:3"))):
        again = pickle.loads(pickle.dumps(error))

        assert (again.key, again.origin) == ("b", "x.py:3")
        assert str(again) == "'b' (looked up at x.py:3)"


def test_a_call_that_needs_a_missing_key_fails_with_it(api, lazy):
    """The line of the look-up is kept through the call that needed it."""
    with lazy as graph:
        flows = graph.desk.give([])
        line = inspect.currentframe().f_lineno + 1
        drops = graph.desk.take(flows[0]["id"])

    with pytest.raises(IndexError, match=rf"test_graph\.py:{line}"):
        len(drops)
    assert api.desk.seen == []


def test_an_error_of_the_call_comes_through_a_look_up(lazy):
    """A look-up in the answer of a failed call raises the call's error, with the call's line."""
    with lazy as graph:
        line = inspect.currentframe().f_lineno + 1
        flow = graph.desk.fail(NotFound("gone"))
        name = flow["name"]["first"]

    with pytest.raises(NotFound, match=rf"test_graph\.py:{line}"):
        name.unwrap()


def test_a_key_may_be_a_thunk_too(lazy):
    """thunk[other_thunk] inside a block does not wait for either."""
    with lazy as graph:
        table, key = graph.desk.give({"a": 1, "b": 2}), graph.desk.give(["b"])
        made = table[key[0]]

    assert made == 2


def test_an_error_in_the_block_cancels_the_rest(api):
    """Calls under way and calls that wait for others are stopped; what has ended stays."""
    made = []

    def build():
        with LazyCalls(api, 2) as graph:
            made.append(graph.desk.give({"a": 1}))
            made[0].wait()
            made.append(graph.desk.hold("never"))
            made.append(graph.desk.take(made[1]["id"]))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        build()
    done, held, after = made

    assert done == {"a": 1}
    for stopped in (held, after):
        with pytest.raises(Cancelled):
            len(stopped)
    assert api.desk.under_way == 0
    assert api.desk.seen == []


def test_blocks_of_different_objects_nest(api):
    """Which thunks are built with is a matter of the object that made them."""
    outer, inner = LazyCalls(api), LazyCalls(api)
    with outer:
        one = outer.desk.give([1])
        with inner:
            two = inner.desk.give([2])
            kinds_inside = type(one[0]), type(two[0])
        kinds_between = type(one[0]), type(two[0])
    kinds_after = type(one[0]), type(two[0])

    assert (GreenThunk, GreenThunk) == kinds_inside
    assert (GreenThunk, int) == kinds_between
    assert (int, int) == kinds_after


def test_a_block_is_open_once_at_a_time(lazy):
    """Entering it again inside is refused; afterwards it can be entered again."""
    with lazy, pytest.raises(UsageError, match="open already"), lazy:
        pass
    with lazy as graph:
        made = graph.desk.give([1])[0]

    assert made == 1


def test_a_block_in_one_thread_leaves_others_alone(api):
    """Another object in another thread reads plainly while this block is open."""
    mine, other = LazyCalls(api), LazyCalls(api)
    kinds = []
    with mine:
        thread = threading.Thread(target=lambda: kinds.append(type(other.desk.give([1])[0])))
        thread.start()
        thread.join(20)
        kinds.append(type(mine.desk.give([1])[0]))

    assert [int, GreenThunk] == kinds


def test_a_thunk_of_the_block_can_be_read_in_another_thread(lazy):
    """A chain of look-ups and calls that was built here is read there."""
    got = []
    with lazy as graph:
        flow = graph.desk.give([{"id": "f1"}])
        drops = graph.desk.take([flow[0]["id"]])
        last = drops[0]
    thread = threading.Thread(target=lambda: got.append(last.upper()))
    thread.start()
    thread.join(20)

    assert got == ["F1"]
