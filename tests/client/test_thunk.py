"""GreenThunk: behaves as the value it stands for, and only reading waits."""

import collections.abc
import copy
import gc
import inspect
import json
import math
import operator
import pickle
import re
import threading
import traceback

import pytest
import simplejson
from client.desk import DeskAPI, switches
from hypothesis import given
from hypothesis import strategies as st

from flowkit import green
from flowkit.client.concurrent import LazyCalls
from flowkit.client.thunk import GreenThunk
from flowkit.errors import Cancelled, ConnectError, NotFound

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


@pytest.fixture
def api():
    """An API with the service ``desk``."""
    return DeskAPI()


@pytest.fixture
def lazy(api):
    """Lazy calls of it."""
    return LazyCalls(api)


@pytest.fixture
def thunk(lazy):
    """Makes a thunk of a value."""
    return lazy.desk.give


READINGS = [
    ({"a": 1}, lambda x: x["a"]),
    ({"a": 1}, lambda x: x.get("b", 7)),
    ({"a": 1}, lambda x: list(x.items())),
    ({"a": 1}, lambda x: "a" in x),
    ({"a": 1}, lambda x: dict(x)),
    ({"a": 1}, lambda x: {**x, "b": 2}),
    ({"a": 1}, lambda x: x | {"b": 2}),
    ({"a": 1}, lambda x: {"b": 2} | x),
    ({"a": 1}, lambda x: list(reversed(x))),
    ({}, bool),
    ([3, 1, 2], len),
    ([3, 1, 2], sorted),
    ([3, 1, 2], lambda x: x[0]),
    ([3, 1, 2], lambda x: x[-2:]),
    ([3, 1, 2], lambda x: x[::-1]),
    ([3, 1, 2], lambda x: [y + 1 for y in x]),
    ([3, 1, 2], lambda x: 4 in x),
    ([3, 1, 2], lambda x: x + [4]),  # noqa: RUF005 - the operator is what is tested
    ([3, 1, 2], lambda x: [4] + x),  # noqa: RUF005 - the operator is what is tested
    ([3, 1, 2], lambda x: x * 2),
    ([3, 1, 2], lambda x: 2 * x),
    ([3, 1, 2], lambda x: x < [3, 2]),
    ([3, 1, 2], lambda x: x.index(2)),
    ([3, 1, 2], lambda x: max(*x)),
    ([3, 1, 2], lambda x: list(reversed(x))),
    ("abc", lambda x: x.upper()),
    ("abc", lambda x: x + "d"),
    ("abc", lambda x: "d" + x),
    ("abc", lambda x: f"{x:>5}"),
    ("abc", lambda x: "%s!" % x),  # noqa: UP031 - the operator is what is tested
    ("%s!", lambda x: x % "abc"),
    ("abc", lambda x: {"abc": 5}[x]),
    ("abc", hash),
    ("abc", str),
    ("b", lambda x: x in ["a", "b"]),
    ("12", int),
    ("1.5", float),
    (5, lambda x: x + 1),
    (5, lambda x: 1 - x),
    (5, lambda x: x / 2),
    (5, lambda x: 7 // x),
    (5, lambda x: x % 3),
    (5, lambda x: divmod(12, x)),
    (5, lambda x: x**2),
    (5, lambda x: 2**x),
    (5, lambda x: pow(x, 2, 3)),
    (5, lambda x: -x),
    (5, lambda x: +x),
    (5, lambda x: ~x),
    (5, lambda x: x << 1),
    (5, lambda x: x >> 1),
    (5, lambda x: x & 4),
    (5, lambda x: x | 2),
    (5, lambda x: x ^ 1),
    (-5, abs),
    (1, lambda x: ["a", "b"][x]),
    (3, range),
    (3, operator.index),
    (2.5, round),
    (2.25, lambda x: round(x, 1)),
    (2.5, math.floor),
    (2.5, math.ceil),
    (2.5, math.trunc),
    (2.5, complex),
    (3, bytes),
    (5, lambda x: 4 < x <= 5),
    (5, lambda x: x != 5),
    (None, lambda x: x == None),  # noqa: E711 - the reading that is honest
    (None, bool),
    (None, str),
    (True, lambda x: x and 1),
]


@pytest.mark.parametrize(("value", "read"), READINGS)
def test_a_reading_answers_what_the_value_answers(thunk, value, read):
    """Operators, methods and conversions give the plain result, of the plain type."""
    plain = read(copy.deepcopy(value))

    result = read(thunk(value))

    assert plain == result
    assert type(plain) is type(result)


@given(json_values, json_values)
def test_comparing_thunks_is_comparing_values(one, other):
    """Equality, and ordering where the values have one, with plain values and with other thunks."""
    thunk = LazyCalls(DeskAPI()).desk.give

    assert thunk(one) == one
    assert (thunk(one) == thunk(other)) == (one == other)
    assert (other != thunk(one)) == (one != other)
    assert simplejson.dumps([thunk(one)], for_json=True) == simplejson.dumps([one])
    assert thunk(one).unwrap() == one


@pytest.mark.parametrize("value", [{"a": [1]}, [1, {"a": 2}], (1, 2), "text", 5, 2.5, True, None])
@pytest.mark.parametrize(
    "act",
    [
        copy.copy,
        copy.deepcopy,
        *(lambda x, p=p: pickle.loads(pickle.dumps(x, p)) for p in range(6)),
    ],
)
def test_a_copy_is_the_plain_value(thunk, value, act):
    """copy, deepcopy and pickle (every protocol) lead out of the thunk."""
    result = act(thunk(value))

    assert value == result
    assert type(result) is type(value)


def test_a_copy_is_free_of_the_original(thunk):
    """Changing a deep copy changes nothing else."""
    made = thunk({"a": [1]})
    copy.deepcopy(made)["a"].append(2)

    assert made == {"a": [1]}


@pytest.mark.parametrize(
    ("value", "kinds", "others"),
    [
        ({"a": 1}, [dict, collections.abc.Mapping, collections.abc.MutableMapping], [list, str]),
        ([1], [list, collections.abc.Sequence], [dict, tuple]),
        ("a", [str, collections.abc.Sequence], [dict, list]),
        (5, [int], [str, float]),
        (None, [type(None)], [dict]),
    ],
)
def test_isinstance_sees_the_class_of_the_value(thunk, value, kinds, others):
    """For built-in types and for abstract ones; and a thunk is a GreenThunk at the same time."""
    made = thunk(value)

    assert all(isinstance(made, kind) for kind in kinds)
    assert not any(isinstance(made, kind) for kind in others)
    assert isinstance(made, GreenThunk)
    assert type(made) is GreenThunk


def test_changes_reach_the_value(thunk):
    """Assignments, deletions and methods that change work on the value, and the thunk shows it."""
    flow, items, count = thunk({"a": 1, "b": 2}), thunk([1]), thunk(5)
    alias = items
    flow["c"] = 3
    del flow["a"]
    flow.update(d=4)
    items += [2]
    items.append(3)
    items[0:1] = [9, 8]
    count += 1

    assert flow == {"b": 2, "c": 3, "d": 4}
    assert [9, 8, 2, 3] == items == alias
    assert items is alias
    assert count == 6
    assert type(count) is int


def test_unwrap_reaches_thunks_inside(thunk):
    """Thunks put into the value, at any depth, are replaced; without any, it is the same object."""
    inner = [thunk("x"), {"y": (thunk(2), 3)}]
    made = thunk({})
    made["inner"] = inner
    plain = made.unwrap()
    untouched = thunk({"a": [1, 2]})

    assert plain == {"inner": ["x", {"y": (2, 3)}]}
    assert [str, int] == [type(plain["inner"][0]), type(plain["inner"][1]["y"][0])]
    assert untouched.unwrap() is untouched.for_json()
    assert made.unwrap() == plain


def test_a_value_inside_itself_is_no_endless_loop(thunk):
    """Unwrapping a list that holds itself ends."""
    made = thunk([])
    made.append(made.unwrap())

    assert len(made.unwrap()) == 1


def test_simplejson_writes_thunks_anywhere(thunk):
    """for_json serves thunks as values inside plain data; the standard json refuses them."""
    data = {"flow": thunk({"id": "f1"}), "many": [thunk(1), thunk(None)]}

    assert simplejson.dumps(data, for_json=True) == '{"flow": {"id": "f1"}, "many": [1, null]}'
    with pytest.raises(TypeError):
        json.dumps(data)


def test_the_line_is_that_of_the_call(lazy):
    """repr and errors name the file and the very line on which the call was made."""
    line = inspect.currentframe().f_lineno + 1
    made = lazy.desk.fail(ValueError("bad"))

    assert f"desk.fail(…) at {__file__}:{line}" in repr(made)
    with pytest.raises(ValueError, match="bad") as info:
        len(made)
    assert f"{__file__}:{line}" == info.value.origin
    assert [f"in desk.fail, called at {__file__}:{line}"] == info.value.__notes__


def test_making_showing_and_passing_a_thunk_does_not_wait(api, lazy):
    """Making, repr, type, is_ready, isinstance GreenThunk and passing switch no greenlet."""
    green.spawn(int).get()  # the hub is there before the counting begins
    with switches() as seen:
        made = lazy.desk.hold("shut", {"a": 1})
        shown = repr(made), repr([made])
        kinds = type(made), isinstance(made, GreenThunk), callable(made)
        passed = lazy.desk.take({"deep": [made]}, extra=made)
        below = lazy.desk(made).where()
        ready = made.is_ready, passed.is_ready, below.is_ready

    assert seen == []
    assert ready == (False, False, False)
    assert (GreenThunk, True, False) == kinds
    assert "desk.hold" in shown[0]
    assert f"{__file__}:" in shown[0]
    assert "not ready" in shown[1]
    api.desk.door("shut").set(None)
    assert passed == {"deep": [{"a": 1}]}
    assert repr(made) == "<GreenThunk {'a': 1}>"


def test_wait_says_whether_it_is_ready(api, lazy):
    """With a time it gives up, without one it waits; a failed call is ready and raises nothing."""
    held, failed = lazy.desk.hold("a", 1), lazy.desk.fail(NotFound("gone"))

    assert held.wait(0.01) is False
    assert held.is_ready is False
    api.desk.door("a").set(None)
    assert held.wait() is True
    assert failed.wait(5) is True
    assert held.is_ready
    assert failed.is_ready
    assert "failed with NotFound" in repr(failed)


def test_none_is_a_result_like_any_other(api, lazy):
    """A call that answers None is made once, however often it is read (defect 63)."""
    made = lazy.desk.take(None)

    assert [made == None for _ in range(3)] == [True, True, True]  # noqa: E711
    assert api.desk.seen == [None]


class Odd(Exception):
    """An error whose arguments are not those of its constructor."""

    def __init__(self, *, code):
        super().__init__(f"code {code}")
        self.code = code


@pytest.mark.parametrize(
    "error",
    [
        NotFound("no such flow", method="GET", path="/v0.1/a/flow/f1", request_id="r1"),
        ConnectError("refused", method="GET", path="/flow"),
        ValueError("bad"),
        OSError(2, "No such file", "x"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"),
        Odd(code=5),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_comes_at_each_reading_as_a_fresh_copy(lazy, error):
    """Same class and facts, the original as cause, its line, a traceback that does not grow."""
    made = lazy.desk.fail(error)
    caught = []
    reads = (len, bool, lambda x: x["a"], lambda x: x.get("a"), str, lambda x: x.unwrap())
    for read in reads * 2:
        with pytest.raises(type(error)) as info:
            read(made)
        caught.append(info.value)

    assert len(caught) == len({id(one) for one in caught})
    assert all(one.__cause__ is error for one in caught)
    assert all(type(one) is type(error) and one.args == error.args for one in caught)
    own = {"origin", "__notes__"}
    facts = [{k: v for k, v in vars(one).items() if k not in own} for one in caught]
    assert all(fact == vars(error) for fact in facts)
    assert not hasattr(error, "__notes__")
    lengths = [len(traceback.extract_tb(one.__traceback__)) for one in caught]
    assert lengths[:6] == lengths[6:]
    told = "".join(traceback.format_exception_only(caught[-1]))
    assert "desk.fail" in told
    assert f"{__file__}:" in told
    assert caught[0].origin.startswith(f"{__file__}:")


def test_the_message_of_our_errors_names_request_and_line(lazy):
    """str() of a platform error has the method, the path and the line of the call."""
    made = lazy.desk.fail(NotFound("no such flow", method="GET", path="/flow/f1"))

    with pytest.raises(NotFound, match=r"GET /flow/f1: 404: no such flow \(called at .*\.py:\d+\)"):
        len(made)


def test_an_error_of_an_argument_keeps_its_first_line(lazy):
    """A call that needs a failed thunk fails with that error, which tells both lines."""
    first = lazy.desk.fail(NotFound("gone"))
    second = lazy.desk.take([first])
    with pytest.raises(NotFound) as direct:
        len(first)
    with pytest.raises(NotFound) as through:
        len(second)

    assert direct.value.origin == through.value.origin
    assert len(through.value.__notes__) == 2
    assert "an argument of desk.take" in through.value.__notes__[1]


def test_an_unread_failure_prints_nothing(api, capfd):
    """A thunk that is never used takes its error with it."""
    lazy = LazyCalls(api)
    made = lazy.desk.fail(ValueError("nobody asked"))
    made.wait()
    del made
    gc.collect()
    lazy.desk.give(1).wait()

    assert capfd.readouterr() == ("", "")


def test_any_thread_or_greenlet_may_read(api, lazy):
    """Plain threads and greenlets read the same thunk while its maker's thread is blocked."""
    made = lazy.desk.hold("a", {"n": 5})
    chain = lazy.desk.take([made])
    got = []
    threads = [
        threading.Thread(target=lambda one=one: got.append(one.unwrap()))
        for one in (made, chain, made)
    ]
    threads.append(
        threading.Thread(target=lambda: got.append(green.spawn(lambda: made["n"]).get()))
    )
    for thread in threads:
        thread.start()
    api.desk.door("a").set(None)
    for thread in threads:
        thread.join(20)  # blocks this thread, and its hub if it has one

    assert len(got) == 4
    assert [{"n": 5}] in got
    assert got.count({"n": 5}) == 2
    assert 5 in got


def test_greenlets_read_while_others_run(api, lazy):
    """A greenlet that reads a thunk lets the other greenlets of its thread go on."""
    made = lazy.desk.hold("a", 7)
    readers = [green.spawn(lambda: made + 1) for _ in range(3)]
    green.spawn(lambda: api.desk.door("a").set(None))

    assert [reader.get(timeout=20) for reader in readers] == [8, 8, 8]


def as_mapping(thunk):
    """Whether a mapping pattern matches."""
    match thunk:
        case {"a": _}:
            return True
    return False


def as_sequence(thunk):
    """Whether a sequence pattern matches."""
    match thunk:
        case [_]:
            return True
    return False


def grown(thunk):
    """Whether += grows a plain list in place."""
    same = plain = []
    plain += thunk
    return same is plain


@pytest.mark.parametrize(
    ("value", "read"),
    [
        (None, lambda x: x is None),
        ({}, lambda x: type(x) is dict),
        ({"a": 1}, as_mapping),
        ([1], as_sequence),
        ([1], grown),
        (5, lambda x: not isinstance(x, collections.abc.Iterable)),
        ({}, lambda x: not isinstance(x, collections.abc.Hashable)),
        ({}, lambda x: json.dumps(x) == "{}"),
        ("a", lambda x: simplejson.dumps(x, for_json=True) == '"a"'),
        ({}, lambda x: simplejson.dumps(x) == "{}"),
        ("a", lambda x: "".join([x]) == "a"),
        ("a", lambda x: x in "abc"),
        ("a", lambda x: "abc".startswith(x)),
        ("a", lambda x: re.match("a", x) is not None),
        ("ff", lambda x: int(x, 16) == 255),
    ],
)
def test_what_cannot_be_honest(value, read, thunk):
    """The list of the documents: each holds for the value, and does not for its thunk."""
    made = thunk(value)
    assert read(copy.deepcopy(value)) is True

    try:
        held = read(made)
    except TypeError:
        held = False
    assert held is False
    assert read(made.unwrap()) is True


def test_a_thunk_is_not_callable_and_has_no_context(thunk):
    """It pretends nothing that an answer cannot do."""
    made = thunk({"a": 1})

    assert not callable(made)
    assert not hasattr(type(made), "__enter__")
    assert not hasattr(type(made), "__await__")
    with pytest.raises(AttributeError):
        made.no_such_method()
    with pytest.raises(TypeError):
        hash(made)


def test_cancelled_is_an_error_of_its_own(api):
    """The thunk of a call that was stopped raises Cancelled, with the call's line."""
    made = []

    def build():
        with LazyCalls(api) as lazy:
            made.append(lazy.desk.hold("never"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        build()
    with pytest.raises(Cancelled, match=r"desk\.hold, called at .*thunk\.py:\d+, was stopped"):
        len(made[0])
