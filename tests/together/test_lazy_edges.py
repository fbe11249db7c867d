"""Lazy calls where it is hard: stopped, forked, asked from elsewhere, looked at by others."""

import threading
from contextlib import suppress
from functools import partial

import gevent
import pytest
from own_process import needs_eventlet, run_process

from flowkit import API, limits
from flowkit.client.services import Service
from flowkit.embedded import embedded
from flowkit.errors import NotFound, UsageError

WAIT_S = 10


class Delayed:
    """A transport whose reads take their time.

    Attributes:
        sent: what came, and who was broken off.
    """

    def __init__(self, below, delay_s):
        self.below = below
        self.delay_s = delay_s
        self.sent = []

    def send(self, request, *, timeout_s):
        """Pass it on, late if it reads."""
        if request.method in ("GET", "MGET") and self.delay_s:
            gevent.sleep(self.delay_s)
        return self.below.send(request, timeout_s=timeout_s)

    def close(self):
        """Nothing of its own."""


@pytest.fixture
def world():
    """An API, its transport, and a flow."""
    with embedded(account="nora") as plain:
        flow = plain.flow.create({"path": "/nora/a", "description": "old"})["id"]
        transport = Delayed(plain.options.transport, 0)
        with API(plain.creds, transport=transport) as api:
            yield api, transport, flow


# Stopped, and gone on with


def test_an_object_whose_block_was_stopped_goes_on(world):
    """Whatever moment of a wave the end met."""
    api, _, flow = world
    lazy = api.lazy()
    for turn in range(6):
        with suppress(ZeroDivisionError), lazy:
            found = [lazy.drop(flow).find(limit=n + 1) for n in range(500)]
            found[0].wait(0.005 * turn)
            raise ZeroDivisionError
        assert lazy.flow.read(flow).wait(WAIT_S)


def test_a_stopped_block_gives_its_connection_back(world, monkeypatch):
    """Also if another request of the same wave has been answered."""
    monkeypatch.setattr(limits, "batch_requests_max", 1)
    api, transport, flow = world
    ended = []
    below = transport.send

    def send(request, *, timeout_s):
        if request.segments[2] != "drop":
            return below(request, timeout_s=timeout_s)
        try:
            gevent.sleep(WAIT_S)
        finally:
            ended.append("broken off")

    transport.send = send
    lazy = api.lazy()
    with suppress(ZeroDivisionError), lazy:
        never = lazy.drop(flow).find()
        lazy.flow.read(flow).wait()
        assert not never.wait(0.05)
        raise ZeroDivisionError
    assert ended == ["broken off"]


def one_read_under_way(world):
    """A lazy object, and its read of the flow, which takes a while."""
    api, transport, flow = world
    transport.delay_s = 0.3
    lazy = api.lazy()
    read = lazy.flow.read(flow)
    assert not read.is_ready
    return lazy, read


def test_long_rows_of_reads_and_writes_end(world):
    """As many as there are: nothing nests."""
    _, transport, flow = world
    lazy, _ = one_read_under_way(world)
    transport.delay_s = 0
    made = []
    for number in range(300):
        made.append(lazy.flow.update({"id": flow, "description": str(number)}))
        made.append(lazy.flow.read(flow))
    assert made[-1].wait(WAIT_S)
    assert [one["description"] for one in made[1::2]] == [str(n) for n in range(300)]


def test_many_plain_writes_wait_for_one_lazy_read(world):
    """Each waits for it, and none for another."""
    api, _, flow = world
    lazy, read = one_read_under_way(world)
    writes = [gevent.spawn(api.flow.update, {"id": flow, "description": "n"}) for _ in range(300)]
    gevent.joinall(writes, timeout=WAIT_S)
    assert all(write.successful() for write in writes)
    assert read["description"] == "old"
    assert lazy.flow.create({"path": "/nora/b"}).wait(WAIT_S)


def test_a_plain_write_waits_for_reads_before_a_lazy_write(world):
    """The lazy write between them changes nothing about that."""
    api, transport, flow = world
    transport.delay_s = 0.1
    lazy = api.lazy()
    read = lazy.flow.read(flow)
    lazy.flow.create({"path": "/nora/b"})
    api.flow.update({"id": flow, "description": "new"})
    assert read["description"] == "old"


# Looked at by others than the thunk


class _Tidy:
    """Goes before ``Service`` and changes what is read."""

    def read(self, one, **params):
        return {**super().read(one, **params), "tidy": True}

    def find(self, *filters, **params):
        return ("pair", super().find(*filters, **params))


class _Mine(_Tidy, Service):
    route = "flow"


def test_a_mixin_may_look_at_answers(world):
    """It is no service itself."""
    api, _, flow = world
    api.add_service("mine", _Mine)
    lazy = api.lazy()
    assert lazy.mine.read(flow).unwrap() == api.mine.read(flow)
    assert lazy.mine.find(limit=1).unwrap() == api.mine.find(limit=1)


def test_a_wrapped_verb_may_look_at_answers(world, monkeypatch):
    """Put into the class, or over the one call of the API."""
    api, _, flow = world
    seen = []

    def spied(original):
        def call(*args, **kwargs):
            answer = original(*args, **kwargs)
            seen.append(len(answer))
            return answer

        return call

    monkeypatch.setattr(Service, "read", spied(Service.read))
    assert api.lazy().flow.read(flow)["id"] == flow
    monkeypatch.undo()
    monkeypatch.setattr(API, "call", spied(API.call))
    assert api.lazy().flow.read(flow)["id"] == flow
    monkeypatch.undo()
    monkeypatch.setattr(api, "call", spied(api.call))
    assert api.lazy().flow.read(flow)["id"] == flow
    assert len(seen) == 3


def test_a_service_over_a_stand_in_for_the_api_may_look_at_answers(world):
    """It passes everything on, and counts."""
    api, _, flow = world

    class Counting:
        seen = 0

        def __init__(self, inner):
            self._inner = inner

        def __getattr__(self, name):
            return getattr(self._inner, name)

        def call(self, *args, **kwargs):
            answer = self._inner.call(*args, **kwargs)
            type(self).seen += len(answer)
            return answer

    class Flows(Service):
        route = "flow"

    api.add_service("flows", lambda inner: Flows(Counting(inner)))
    assert api.lazy().flows.read(flow)["id"] == flow
    assert Counting.seen


def test_an_argument_may_ask_by_itself(world):
    """While the verb reads it."""
    api, _, flow = world

    class Ids:
        def __iter__(self):
            yield from (one["id"] for one in api.flow.find_many(limit=5))

    assert api.lazy().flow.read_many(Ids()).unwrap() == api.flow.read_many([flow])


def test_a_verb_without_a_name_is_called(world):
    """A partial of one of ours."""
    api, _, flow = world

    class Flows(Service):
        route = "flow"

        def __init__(self, inner):
            super().__init__(inner)
            self.first = partial(self.find_many, limit=1)

    api.add_service("flows", Flows)
    assert api.lazy().flows.first()[0]["id"] == flow


# Errors


def test_errors_of_other_libraries_come_through(world):
    """Of a transport; a time-out that the verb set itself."""
    api, transport, flow = world

    class Odd(Exception):
        pass

    class Slow:
        def __init__(self, inner):
            self._api = inner

        def read(self):
            with gevent.Timeout(0.01):
                gevent.sleep(WAIT_S)

    api.add_service("slow", Slow)
    with pytest.raises(gevent.Timeout):
        api.lazy().slow.read().unwrap()

    def broken(request, *, timeout_s):
        raise Odd("no")

    transport.send = broken
    with pytest.raises(Odd):
        api.lazy().flow.read(flow).unwrap()


def test_a_list_inside_itself_is_refused_when_it_is_sent(world):
    """As the plain call refuses it."""
    api, _, _ = world
    tags = []
    tags.append(tags)
    thunk = api.lazy().flow.create({"path": "/nora/x", "tags": tags})
    with pytest.raises(UsageError, match="Circular reference"):
        thunk.unwrap()


def test_making_never_waits(world):
    """Not for the flow in a dict, nor for the method of a raw request."""
    api, transport, flow = world
    transport.delay_s = 0.5
    lazy = api.lazy()
    read, gone = lazy.flow.read(flow), lazy.flow.read("f" + 24 * "0")
    assert not lazy.drop({"id": read["id"] if read.is_ready else read}).find().is_ready
    failing = lazy.drop({"id": gone}).find()
    assert not lazy.request(read, "/flow").is_ready
    transport.delay_s = 0
    with pytest.raises(NotFound):
        failing.unwrap()


def test_a_slice_waits_for_the_thunks_in_it(world):
    """``is_ready`` knows them, ``wait`` spends its time once."""
    api, transport, flow = world
    api.drop(flow).create_many([{"elems": {"rank": 1}}] * 3)
    with api.lazy() as graph:
        held = graph.drop(flow).find()
        assert held.wait(WAIT_S)
        transport.delay_s = 0.3
        late = graph.drop(flow).find(limit=1)
        some = held[late[0]["elems"]["rank"] :]
        assert not some.is_ready
        assert not some.wait(0.05)
    assert len(some) == 2


# Elsewhere


def test_a_thread_may_have_the_number_of_one_that_is_gone(world):
    """Its wave is its own."""
    api, _, flow = world
    calls = api.async_(batch=True)
    got = []

    def leave():
        calls.flow.read(flow)
        gevent.sleep(0)

    def ask():
        got.append(calls.flow.read(flow).get(timeout=WAIT_S))

    for work in (leave, ask):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert got[0]["id"] == flow


START = """
    import os, signal, sys
    from flowkit import embedded
    api = embedded(account="nora")
    flow = api.flow.create({"path": "/nora/a"})["id"]
    lazy = api.lazy()
"""


@pytest.mark.slow
def test_whoever_looks_first_does_not_own_the_calls():
    """In a patched process a thread of the pool may look; the maker's loop makes them."""
    out = run_process(
        "    from gevent import monkey; monkey.patch_all(); import gevent"
        + START
        + """
    thunk = lazy.flow.read(flow)
    print(gevent.get_hub().threadpool.spawn(lambda: thunk.is_ready).get(), thunk.wait(10))
    """
    )
    assert out.split()[1] == "True"


@pytest.mark.slow
@pytest.mark.parametrize("library", ["gevent.monkey", "eventlet"])
def test_ctrl_c_in_a_call_reaches_the_program(library):
    """Wherever the signal met it."""
    patch = "from gevent import monkey; monkey.patch_all()"
    if library == "eventlet":
        needs_eventlet()
        patch = "import eventlet; eventlet.monkey_patch()"
    out = run_process(
        f"    {patch}"
        + START
        + """
    class Own:
        def __init__(self, api):
            self._api = api
        def read(self):
            os.kill(os.getpid(), signal.SIGINT)
    api.add_service("own", Own)
    try:
        lazy.own.read().wait(10)
        import time
        time.sleep(1)
    except KeyboardInterrupt:
        print("interrupted")
    """
    )
    assert out == "interrupted\n"


@pytest.mark.slow
def test_with_the_other_loop_of_gevent():
    """libuv's clock is another one. How such a process ends is not asked: it crashed there now and
    then before, too.
    """
    script = START + "    print(lazy.flow.read(flow).wait(10), flush=True); os._exit(0)"
    assert run_process(script, GEVENT_LOOP="libuv") == "True\n"


@pytest.mark.slow
def test_a_call_after_the_end_is_an_error():
    """The thread of lazy calls has ended then; nobody waits for it."""
    out = run_process(
        """
    import atexit
    def late():
        thunk = lazy.flow.read("f" + 24 * "0")
        print(thunk.wait(10), end="")
    atexit.register(late)
    """
        + START
    )
    assert out == "True"


@pytest.mark.slow
def test_calls_under_way_are_the_parents_after_a_fork():
    """In the child they are errors, and everything else begins anew."""
    out = run_process(
        START
        + """
    import gevent, warnings
    warnings.simplefilter("ignore", DeprecationWarning)
    from flowkit import API
    class Slow:
        def send(self, request, *, timeout_s):
            if request.method == "GET":
                gevent.sleep(5)
            raise ConnectionError
        def close(self):
            pass
    slow = API(api.creds, transport=Slow())
    held = slow.lazy(1)
    thunk = held.flow.read(flow)
    assert not thunk.is_ready
    child = os.fork()
    if not child:
        try:
            thunk.unwrap()
        except Exception as error:
            print(type(error).__name__, held.flow.create({"path": "/nora/b"}).wait(3), flush=True)
        os._exit(0)
    os.waitpid(child, 0)
    """
    )
    assert out == "Cancelled True\n"
