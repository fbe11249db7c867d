"""api.async_(), and what both kinds of parallel calls share: bound, arguments, threads, surface."""

import inspect
import select
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import gevent
import gevent.pool
import pytest
from client.desk import DeskAPI, switches

from flowkit import green, limits
from flowkit.client.changes import M
from flowkit.client.concurrent import AsyncCalls, LazyCalls, Results
from flowkit.errors import Cancelled, ConnectError, FilterError, NotFound, UsageError
from flowkit.query.build import mem


@pytest.fixture
def api():
    """An API with the service ``desk``."""
    return DeskAPI()


@pytest.fixture
def calls(api):
    """Async calls of it."""
    return AsyncCalls(api)


@pytest.fixture(params=[AsyncCalls, LazyCalls])
def kind(request):
    """Both kinds of parallel calls."""
    return request.param


def value_of(made):
    """The answer of either kind of call."""
    return made.get() if isinstance(made, gevent.Greenlet) else made.unwrap()


# async_


def test_a_call_answers_its_green_thread_at_once(calls, api):
    """A real Greenlet: get, ready, value, successful, and gevent's own joinall take it."""
    green.spawn(int).get()
    with switches() as seen:
        first, held = calls.desk.give({"a": 1}), calls.desk.hold("a", 2)
    assert seen == []
    assert isinstance(first, gevent.Greenlet)
    assert not first.ready()
    assert first.get() == {"a": 1}
    api.desk.door("a").set(None)

    assert [first, held] == gevent.joinall([first, held])
    assert (held.ready(), held.value, held.successful()) == (True, 2, True)


def test_results_are_a_sequence_in_the_order_of_making(calls, api):
    """Length, index, slice, ==, `in`, iteration again and again, whichever answer came first."""
    calls.desk.hold("late", 0)
    for number in range(1, 5):
        calls.desk.give(number)
    green.spawn(api.desk.door("late").set, None)
    results = calls.results()

    assert len(results) == 5
    assert results == [0, 1, 2, 3, 4]
    assert results == [0, 1, 2, 3, 4]
    assert results == (0, 1, 2, 3, 4)
    assert results != [0, 1]
    assert (results[0], results[-1]) == (0, 4)
    assert results[1:3] == [1, 2]
    assert 3 in results
    assert [*results] == [*results] == [*reversed([4, 3, 2, 1, 0])]
    assert repr(results) == "Results([0, 1, 2, 3, 4])"
    with pytest.raises(IndexError):
        results[5]


def test_results_wait_for_all(calls, api):
    """When results() returns, no call of the batch is under way."""
    made = [calls.desk.give(n) for n in range(100)]
    results = calls.results()

    assert all(one.ready() for one in made)
    assert api.desk.under_way == 0
    assert list(range(100)) == results


ERRORS = [
    NotFound("gone"),
    ConnectError("refused"),
    ValueError("bad"),
    KeyError("k"),
    StopIteration(1),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda e: type(e).__name__)
def test_a_failed_call_raises_at_its_place_and_the_rest_stays(calls, error):
    """Any error, not only the platform's; the iteration goes on after it (defects 58, 59)."""
    calls.desk.give(1)
    calls.desk.fail(error)
    calls.desk.give(3)
    results = calls.results()
    walk = iter(results)

    assert next(walk) == 1
    with pytest.raises(type(error)) as caught:
        next(walk)
    assert caught.value is not error
    assert error.args == caught.value.args
    assert next(walk) == 3
    assert results[2] == 3
    with pytest.raises(type(error)):
        results[1]
    assert f"<{type(error).__name__}: {error}>" in repr(results)


def test_outcomes_are_pairs_again_and_again(calls):
    """(error, value) for each call; results(with_exceptions=True) is the old spelling."""
    calls.desk.give(1)
    calls.desk.fail(NotFound("gone"))
    calls.desk.fail(ConnectError("refused"))
    calls.desk.give(None)
    first, second, old = calls.outcomes(), calls.outcomes(), calls.results(with_exceptions=True)

    for pairs in (first, second, old):
        assert [None, NotFound, ConnectError, None] == [
            error and type(error) for error, value in pairs
        ]
        assert [value for error, value in pairs] == [1, None, None, None]


def test_a_second_results_is_not_empty_and_a_new_call_begins_a_batch(calls):
    """The batch stays until the next call is made (defect 60)."""
    calls.desk.give(1)
    first = calls.results()

    assert [1] == first == calls.results()
    for value in first:
        calls.desk.give(value + 1)
    assert calls.results() == [2]
    assert first == [1]
    assert AsyncCalls(DeskAPI()).results() == []


def test_results_may_be_taken_by_another_thread(calls):
    """While the maker's thread lets its greenlets run."""
    for number in range(50):
        calls.desk.give(number)
    taken = green.Cell()
    threading.Thread(target=lambda: taken.set(calls.results())).start()

    assert list(range(50)) == taken.get(20)


def test_threads_may_make_calls_with_one_object(api):
    """Each call of each thread is in the batch once."""
    calls = AsyncCalls(api)

    def work(base):
        for number in range(20):
            calls.desk.give(base + number)
        gevent.wait(timeout=20)

    threads = [threading.Thread(target=work, args=(base,)) for base in (0, 100, 200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)

    assert len({*calls.results()}) == 60


def test_a_failing_call_prints_nothing(kind, api, capfd):
    """Neither the library nor gevent writes a traceback."""
    made = kind(api).desk.fail(ValueError("bad"))
    with pytest.raises(ValueError, match="bad"):
        value_of(made)
    gevent.sleep(0)

    assert capfd.readouterr() == ("", "")


def test_an_error_in_the_block_stops_the_rest(kind, api):
    """What has not ended ends with Cancelled, its slot and place on the wire are given back."""
    calls, made = kind(api, 2), []

    def build():
        with calls:
            made.append(calls.desk.give(1))
            value_of(made[0])
            made.extend(calls.desk.hold("never") for _ in range(5))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        build()
    done, *held = made

    assert value_of(done) == 1
    for one in held:
        with pytest.raises(Cancelled):
            value_of(one)
    assert api.desk.under_way == 0
    assert value_of(calls.desk.give(7)) == 7


def test_the_end_of_a_block_waits_for_all(kind, api):
    """A block that ends well leaves nothing running, and raises no call's error."""
    with kind(api) as calls:
        made = [calls.desk.give(n) for n in range(40)] + [calls.desk.fail(ValueError("bad"))]

    assert api.desk.under_way == 0
    assert list(range(40)) == [value_of(one) for one in made[:-1]]


def test_a_killed_call_is_an_outcome_like_any_other(calls, api):
    """Killing the green thread, begun or not, ends the call; results() does not wait for ever."""
    begun = calls.desk.hold("never")
    gevent.sleep(0)
    fresh = calls.desk.hold("never")
    begun.kill()
    fresh.kill()

    assert [Cancelled, Cancelled] == [type(error) for error, _ in calls.outcomes()]
    assert api.desk.under_way == 0


# The bound


def test_the_bound_counts_calls_on_the_wire(kind, api):
    """Never more than it allows, and all of it is used; making calls does not wait for it."""
    calls = kind(api, 4)
    green.spawn(int).get()
    with switches() as seen:
        made = [calls.desk.hold("gate", n) for n in range(50)]

    assert seen == []
    assert api.desk.crowd(4).wait(10)
    api.desk.door("gate").set(None)
    assert list(range(50)) == [value_of(one) for one in made]
    assert api.desk.most == 4


def test_without_a_pool_the_default_bounds(kind, api):
    """limits.requests_in_flight_default (defect 61)."""
    calls = kind(api)
    made = [calls.desk.hold("gate") for _ in range(100)]
    assert api.desk.crowd(limits.requests_in_flight_default).wait(10)
    api.desk.door("gate").set(None)
    for one in made:
        value_of(one)

    assert limits.requests_in_flight_default == api.desk.most


class GreenPool:
    """Has a size, as eventlet's pool has."""

    size = 3


@pytest.mark.parametrize(
    ("pool", "most"),
    [(1, 1), (7, 7), (gevent.pool.Pool(5), 5), (GreenPool(), 3), (gevent.pool.Pool(), 60)],
    ids=lambda value: type(value).__name__,
)
def test_a_pool_gives_the_bound(kind, api, pool, most):
    """A number, gevent's Pool or eventlet's GreenPool; a pool without a size bounds nothing."""
    calls = kind(api, pool)
    made = [calls.desk.hold("gate") for _ in range(60)]
    assert api.desk.crowd(most).wait(10)
    api.desk.door("gate").set(None)
    for one in made:
        value_of(one)

    assert most == api.desk.most


def test_one_pool_is_one_bound(api):
    """Two sets of calls that were given the same pool share it."""
    pool = gevent.pool.Pool(3)
    one, other = LazyCalls(api, pool), LazyCalls(api, pool)
    made = [calls.desk.hold("gate") for _ in range(20) for calls in (one, other)]
    assert api.desk.crowd(3).wait(10)
    api.desk.door("gate").set(None)
    for each in made:
        each.wait()

    assert api.desk.most == 3


@pytest.mark.parametrize("pool", [0, -1, True, "8", object()])
def test_what_is_no_pool_is_refused(kind, api, pool):
    """A bound is a whole number from 1, or has a size."""
    with pytest.raises(UsageError):
        kind(api, pool)


def test_a_call_holds_no_slot_while_it_waits_for_another(api):
    """With a bound of 1, a chain of calls each of which needs the one before still ends."""
    lazy = LazyCalls(api, 1)
    waiting = [lazy.desk.hold("first", 0)]
    for _ in range(30):
        waiting.append(lazy.desk.take([waiting[-1]]))
    api.desk.door("first").set(None)

    assert waiting[1] == [0]
    assert waiting[-1].wait(20)
    assert api.desk.most == 1


def test_a_thousand_dependent_calls_with_a_bound_of_four_end(kind, api):
    """All on one call, then each on the one before: no slot is held while waiting for another."""
    pool = gevent.pool.Pool(4)
    lazy, calls = LazyCalls(api, pool), kind(api, pool)
    door = lazy.desk.hold("start", 0)
    made = [calls.desk.take({"after": door, "n": n}) for n in range(1_000)]
    chain = [door]
    for _ in range(1_000):
        chain.append(lazy.desk.take(chain[-1]))
    api.desk.door("start").set(None)

    assert [{"after": 0, "n": n} for n in range(1_000)] == [value_of(one) for one in made]
    assert chain[-1] == 0
    assert api.desk.most == 4


# Arguments


def test_thunks_are_resolved_wherever_they_stand(kind, api):
    """In arguments of any kind, containers at any depth, models, filters, the flow of a drop."""
    lazy = LazyCalls(api)
    calls = kind(api)
    n = lazy.desk.give(5)
    model = lazy.desk.give({"id": "f1", "capacity": 1})
    built = mem.elems.temp > n
    made = [
        calls.desk.take(n),
        calls.desk.take({"a": [n, (n, {"b": n})]}, limit=n),
        calls.desk.take(built),
        calls.desk.take(mem.a.IN([1, n]) & (mem.b == lazy.desk.give("x"))),
        calls.desk.take(M(model, capacity=n)),
        calls.desk(lazy.desk.give("room")).where(),
        calls.desk(room=lazy.desk.give("other")).where(),
        calls.desk.take(mem.a.WITHIN(n, "KM", coords=(lazy.desk.give(59.5), n))),
    ]
    got = [value_of(one) for one in made]

    assert got[:2] == [5, {"a": [5, (5, {"b": 5})]}]
    assert int is type(got[0])
    assert (mem.elems.temp > 5) == got[2]
    assert str(got[3]) == "(a IN [1,5]) && (b == 'x')"
    assert got[4].diff == {"capacity": 5}
    assert got[5:7] == ["room", "other"]
    assert str(got[7]) == "a WITHIN 5 KM OF [59.5,5]"


def test_a_model_of_a_thunk_does_not_wait(api):
    """M(thunk, …) is passing it to the library."""
    lazy = LazyCalls(api)
    flow = lazy.desk.hold("flow", {"id": "f1", "capacity": 1})
    green.spawn(int).get()
    with switches() as seen:
        saved = lazy.desk.take(M(flow, capacity=2))
    assert seen == []
    api.desk.door("flow").set(None)

    assert dict(saved.items()) == {"id": "f1", "capacity": 2}


def test_a_value_that_does_not_fit_names_the_line_that_built_the_filter(api):
    """The usual checks run in the green thread."""
    lazy = LazyCalls(api)
    line = inspect.currentframe().f_lineno + 1
    built = mem.elems.temp > lazy.desk.give({"not": "a literal"})
    made = lazy.desk.take(built)

    with pytest.raises(FilterError, match=rf"test_concurrent\.py:{line}"):
        made.unwrap()


def test_a_call_keeps_its_arguments_as_they_were(kind, api):
    """A dict or model that the maker fills anew for each call reaches each call as it was."""
    calls = kind(api)
    body, model, made = {"elems": {}}, M({"id": "f1", "elems": {}}), []
    for number in range(3):
        body["elems"]["n"] = number
        model["elems"]["n"] = number
        made.append((calls.desk.take(body), calls.desk.take(model)))
    pairs = [(value_of(one), value_of(other)) for one, other in made]

    assert [{"elems": {"n": n}} for n in range(3)] == [one for one, _ in pairs]
    assert [{"elems": {"n": n}} for n in range(3)] == [other.diff for _, other in pairs]


def test_an_iterator_is_read_when_the_call_is_made(kind, api):
    """A generator is read in the thread of its maker."""
    calls = kind(api)
    source = iter([1, 2, 3])
    made = calls.desk.take(source)

    assert list(source) == []
    assert value_of(made) == [1, 2, 3]


def test_a_reading_that_is_interrupted_can_be_repeated(api):
    """A time-out of gevent's around a reading leaves thunk and call as they were."""
    made = LazyCalls(api).desk.hold("late", 5)
    with pytest.raises(gevent.Timeout), gevent.Timeout(0.01):
        bool(made)
    api.desk.door("late").set(None)

    assert made == 5


# The surface


def test_the_same_services_and_the_raw_request(kind, api):
    """Services by name, services of a room, request; repr says what it is."""
    calls = kind(api)

    assert value_of(calls.request("GET", "/flow", params={"limit": 1})) == [
        "GET",
        "/flow",
        None,
        {"limit": 1},
    ]
    assert value_of(calls.desk("x").where()) == "x"
    assert "desk" in repr(calls.desk)
    assert "Remembers" in calls.desk.take.__doc__


def test_names_are_completed_as_on_the_api(kind, api):
    """``dir`` lists the services, and the verbs of each: what a prompt or a notebook offers."""
    calls = kind(api)

    assert {"desk", "request"} <= set(dir(calls))
    assert not {"close", "creds"} & set(dir(calls))
    assert {"take", "where"} <= set(dir(calls.desk))


@pytest.mark.parametrize(
    "name", ["no_such_service", "creds", "close", "_private"], ids=lambda name: name
)
def test_what_is_no_service_is_an_attribute_error(kind, api, name):
    """Misspelt names, and parts of the API that are not calls, are told at once."""
    with pytest.raises(AttributeError):
        getattr(kind(api), name)


def test_a_misspelt_verb_is_an_error_at_once(kind, api):
    """Not a call that fails later."""
    with pytest.raises(AttributeError, match="fnid"):
        kind(api).desk.fnid()


@pytest.mark.parametrize("verb", ["find_iter", "pages"])
def test_a_walk_is_refused_with_the_way_out(kind, api, verb):
    """What asks again and again has no one answer."""
    with pytest.raises(UsageError, match=rf"use api\.desk\.{verb}"):
        getattr(kind(api).desk, verb)()


# Processes of their own: no hub, a patched process, an interrupt


def run(script):
    """Run *script* in a fresh interpreter that has this folder on its path."""
    text = textwrap.dedent(script)
    return subprocess.Popen(
        [sys.executable, "-c", text],
        env={"PYTHONPATH": str(Path(__file__).parents[1])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


PLAIN = """
    import threading
    from client.desk import DeskAPI
    from flowkit import green
    from flowkit.client.concurrent import AsyncCalls, LazyCalls

    api = DeskAPI()
    lazy = LazyCalls(api, 2)
    made = lazy.desk.take([lazy.desk.give(1), lazy.desk.give(2)])
    got = []
    thread = threading.Thread(target=lambda: got.append(made.unwrap()))
    thread.start()
    thread.join(30)
    print(got, made == [1, 2], green.has_hub())
    calls = AsyncCalls(api)
    for n in range(5):
        calls.desk.give(n)
    print(calls.results() == [0, 1, 2, 3, 4], green.has_hub())
"""


@pytest.mark.slow
def test_a_plain_script_needs_no_patching_and_no_hub():
    """Lazy calls leave a thread without a hub as it was; async calls make one."""
    process = run(PLAIN)
    out, err = process.communicate(timeout=40)

    assert out.splitlines() == ["[[1, 2]] True False", "True True"], err


@pytest.mark.slow
def test_a_process_ends_in_silence_and_its_fork_begins_anew():
    """Calls under way do not hold the end up, and a forked child has a thread of its own."""
    process = run(
        """
        import os, warnings
        from client.desk import DeskAPI
        from flowkit.client.concurrent import LazyCalls
        warnings.simplefilter("ignore", DeprecationWarning)  # 3.12 on: of a fork beside threads
        lazy = LazyCalls(DeskAPI())
        held = [lazy.desk.hold("never") for _ in range(5)]
        print(lazy.desk.give(1) + 0, flush=True)
        child = os.fork()
        if not child:
            print(LazyCalls(DeskAPI()).desk.give(2) + 0, flush=True)
            os._exit(0)
        os.waitpid(child, 0)
        print(lazy.desk.give(3) + 0)
        """
    )
    out, err = process.communicate(timeout=40)

    assert (out.split(), err, process.returncode) == (["1", "2", "3"], "", 0)


@pytest.mark.slow
def test_a_patched_process_works_the_same():
    """With everything patched, threads are greenlets; nothing waits for ever."""
    process = run("    from gevent import monkey; monkey.patch_all()" + PLAIN)
    out, err = process.communicate(timeout=40)

    assert "[[1, 2]] True" in out, err
    assert "True True" in out, err


@pytest.mark.slow
@pytest.mark.parametrize("kind_name", ["AsyncCalls", "LazyCalls"])
def test_an_interrupt_ends_the_waiting(kind_name):
    """Ctrl-C while waiting is a KeyboardInterrupt at that line, and the block stops its calls."""
    process = run(
        f"""
        from client.desk import DeskAPI
        from flowkit.client.concurrent import AsyncCalls, LazyCalls
        from flowkit.client.concurrent import {kind_name} as Calls
        api = DeskAPI()
        try:
            with Calls(api) as calls:
                made = calls.desk.hold("never")
                print("waiting", flush=True)
                made.get() if Calls is AsyncCalls else made.unwrap()
        except KeyboardInterrupt:
            print("interrupted", api.desk.under_way, flush=True)
        """
    )
    assert process.stdout.readline() == "waiting\n"
    # gevent loses a signal that comes in the instant before its loop goes to sleep: press again.
    while not select.select([process.stdout], [], [], 0.5)[0]:
        process.send_signal(signal.SIGINT)
    told, err = process.communicate(timeout=40)

    assert told == "interrupted 0\n", err


def test_results_compare_with_results(api):
    """Two batches with the same values are equal; nothing else is."""
    one, other = AsyncCalls(api), AsyncCalls(api)
    one.desk.give(1)
    other.desk.give(1)

    assert one.results() == other.results()
    assert isinstance(one.results()[:1], Results)
    assert one.results() != "1"
