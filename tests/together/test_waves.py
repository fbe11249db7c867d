"""Lazy reads that are sent together: how many requests, whose errors, in which order."""

import contextlib
import gc
import re
import threading
from contextlib import contextmanager
from functools import partial

import gevent
import pytest
from greenlet import greenlet
from own_process import run_process

from flowkit import API, mem
from flowkit.client.services import Service
from flowkit.embedded import embedded
from flowkit.errors import BadRequest, NotFound
from flowkit.testing import Platform

NOBODY = "f" + 24 * "0"


class Counting:
    """A transport that notes what passes.

    Attributes:
        sent: method and address of each request.
        refused: first parts of addresses that are answered as by a server that has them not.
    """

    def __init__(self, below, refused=()):
        self.below = below
        self.refused = set(refused)
        self.sent = []

    def send(self, request, *, timeout_s):
        """Pass it on."""
        self.sent.append(f"{request.method} /{'/'.join(request.segments[2:])}")
        if request.segments[2] in self.refused:
            request = type(request)("GET", ("nothing",), {}, request.headers)
        return self.below.send(request, timeout_s=timeout_s)

    def close(self):
        """Nothing of its own."""


@contextmanager
def counted(refused=(), **options):
    """An API, and what it sends from now on."""
    with embedded(account="nora") as plain:
        transport = Counting(plain._transport, refused)
        with API(plain.creds, transport=transport, **options) as api:
            yield api, transport


@pytest.fixture
def world():
    """An API, what it sends, and the ids of ten flows with two drops each."""
    with counted() as (api, transport):
        flows = made(api)
        transport.sent.clear()
        yield api, transport, flows


def made(api, count=10):
    """The ids of new flows, each with a drop that names it."""
    flows = [api.flow.create({"path": f"/nora/f{n}"})["id"] for n in range(count)]
    for number, flow in enumerate(flows):
        api.drop(flow).create_many([{"elems": {"n": number, "next": flows[-1 - number]}}] * 2)
    return flows


@pytest.mark.slow
def test_a_thousand_dependent_look_ups_in_three_levels():
    """Level by level, and item by item in a block: at most ten requests each."""
    with counted() as (api, transport):
        flows = made(api, 1_000)
        transport.sent.clear()
        lazy = api.lazy()
        first = [lazy.flow.read(one) for one in flows]
        second = [lazy.drop(flow["id"]).find(limit=1) for flow in first]
        third = [lazy.flow.read(drops[0]["elems"]["next"]) for drops in second]
        assert [flow["id"] for flow in third] == flows[::-1]
        assert len(transport.sent) <= 10, transport.sent
        assert lazy.explain().requests == len(transport.sent)

        transport.sent.clear()
        with api.lazy() as graph:
            ends = []
            for number in range(1_000):
                flow = graph.flow.find(mem.path == f"/nora/f{number}")
                drops = graph.drop(flow[0]["id"]).find(limit=1)
                ends.append(graph.flow.read(drops[0]["elems"]["next"]))
        assert [flow["id"] for flow in ends] == flows[::-1]
        assert len(transport.sent) <= 10, transport.sent


def test_reads_that_are_pending_together_are_one_request(world):
    """Nothing goes out before somebody waits; then everything does, equal reads once."""
    api, transport, flows = world
    lazy = api.lazy()
    found = [lazy.flow.read(one) for one in [*flows, flows[0]]]
    assert transport.sent == []
    assert repr(found[0]).endswith("not ready>")
    assert transport.sent == []

    assert [flow["id"] for flow in found] == [*flows, flows[0]]
    assert transport.sent == ["MGET /flow"]
    found[0]["path"] = "changed"
    assert found[-1]["path"] == "/nora/f0"


def test_an_added_service_takes_part(world):
    """One of the documented class does; anything else that is added goes by itself."""
    api, transport, flows = world

    class Weather(Service):
        route = "flow"

    class Odd:
        def __init__(self, api):
            self.ask = api.request
            self.newest = partial(api.flow.find, limit=1)

        def read(self, one):
            """By itself."""
            return self.ask("GET", f"/flow/{one}")

    api.add_service("weather", Weather)
    api.add_service("odd", Odd)
    lazy = api.lazy()
    assert [one["id"] for one in [lazy.weather.read(one) for one in flows]] == flows
    assert transport.sent == ["MGET /flow"]
    transport.sent.clear()
    assert [one["id"] for one in [lazy.odd.read(one) for one in flows[:2]]] == flows[:2]
    assert sorted(transport.sent) == sorted(f"GET /flow/{one}" for one in flows[:2])
    assert lazy.odd.newest()[0]["id"] == flows[-1]


def test_a_service_may_look_at_what_its_own_verbs_answer(world):
    """Whatever calls them: its form of a verb is used, and gets the answer itself."""
    api, transport, _ = world

    class Paths(Service):
        route = "flow"

        def find_many(self, *filters, **params):
            """Paths only."""
            return [flow["path"] for flow in super().find_many(*filters, **params)]

    api.add_service("paths", Paths)
    lazy = api.lazy()
    found = [lazy.paths.find(mem.path == f"/nora/f{n}") for n in range(4)]
    assert [one.unwrap() for one in found] == [[f"/nora/f{n}"] for n in range(4)]
    assert transport.sent == ["POST /batch"]


def test_an_api_may_look_at_every_answer():
    """As one does that counts them."""

    class Watched(API):
        seen = 0

        def call(self, *args, **kwargs):
            """Look at the answer."""
            answer = super().call(*args, **kwargs)
            self.seen += len(answer)
            return answer

    with embedded(account="nora") as plain:
        flows = made(plain, 3)
        with Watched(plain.creds, transport=plain.options.transport) as api:
            lazy = api.lazy()
            assert [one["id"] for one in [lazy.flow.read(one) for one in flows]] == flows
            assert api.seen == sum(len(plain.flow.read(one)) for one in flows)


def test_pending_reads_take_no_green_thread_each(world):
    """They wait for their wave as data: one green thread begins one after the other."""
    api, transport, flows = world
    seen = []

    class Looking(Counting):
        def send(self, request, *, timeout_s):
            """Look how many are there, then pass it on."""
            # By type: of a thunk, isinstance would wait for the value.
            seen.append(sum(issubclass(type(one), greenlet) for one in gc.get_objects()))
            return super().send(request, timeout_s=timeout_s)

    transport.below = Looking(transport.below)
    api.flow.read(flows[0])
    lazy = api.lazy()
    found = [lazy.flow.read(flows[n % 10], only=f"id,x{n}") for n in range(1_000)]
    assert [flow["id"] for flow in found] == flows * 100
    assert len(seen) > 1
    assert max(seen) < seen[0] + 50


def test_asking_whether_it_is_ready_makes_it_begin(world):
    """A loop that polls comes to its end."""
    api, _, flows = world
    thunk = api.lazy().flow.read(flows[0])
    while not thunk.is_ready:
        gevent.sleep(0.001)
    assert thunk["path"] == "/nora/f0"


def test_a_missing_id_fails_one_thunk_only(world):
    """Its error is that of the plain call, in kind, words, method and address."""
    api, _, flows = world
    lazy = api.lazy()
    good, gone, odd = lazy.flow.read(flows[0]), lazy.flow.read(NOBODY), lazy.flow.read("odd")

    assert good["path"] == "/nora/f0"
    for thunk, name in ((gone, NOBODY), (odd, "odd")):
        with pytest.raises(NotFound) as told:
            thunk.unwrap()
        with pytest.raises(NotFound) as plain:
            api.flow.read(name)
        assert (told.value.method, told.value.path) == (plain.value.method, plain.value.path)
        assert told.value.errors == plain.value.errors


def test_a_bad_filter_fails_its_own_find_only(world):
    """Whatever it was sent together with."""
    api, transport, flows = world
    lazy = api.lazy()
    good = [lazy.drop(one).find(mem.n >= 0) for one in flows[:5]]
    bad = lazy.drop(flows[5]).find(filter="n >")

    assert [len(drops) for drops in good] == [2] * 5
    with pytest.raises(BadRequest) as told:
        bad.unwrap()
    assert told.value.path.endswith(flows[5])
    assert transport.sent == ["MGET /drop", "POST /batch"]


def test_references_and_whole_answers_are_those_of_the_plain_call(world):
    """``refs=True`` gives each call its own; ``envelope=True`` its own head and body."""
    api, transport, flows = world
    lazy = api.lazy()
    pairs = [lazy.drop(one).find(limit=1, refs=True) for one in flows[:2]]
    whole = [lazy.flow.read(one, envelope=True) for one in flows[:2]]

    assert len(pairs[0]) == 2
    assert transport.sent == ["POST /batch"]
    for number, flow in enumerate(flows[:2]):
        assert pairs[number] == api.drop(flow).find(limit=1, refs=True)
        assert whole[number].body == api.flow.read(flow)
        assert dict(whole[number].head) == dict(api.flow.read(flow, envelope=True).head)


def test_reads_never_move_across_a_write(world):
    """One of the same lazy object, and a plain one of the same API."""
    api, transport, flows = world
    lazy = api.lazy()
    before = lazy.flow.read(flows[0])
    lazy.flow.update({"id": flows[0], "description": "one"})
    after = lazy.flow.read(flows[0])
    assert (before.unwrap().get("description"), after["description"]) == (None, "one")

    between = lazy.flow.read(flows[0])
    api.flow.update({"id": flows[0], "description": "two"})
    assert between["description"] == "one"
    assert lazy.flow.read(flows[0])["description"] == "two"
    one = f"/flow/{flows[0]}"
    assert transport.sent[:3] == [f"GET {one}", f"PUT {one}", f"GET {one}"]


def test_a_write_goes_out_though_nobody_waits(world):
    """As before: a lazy create that is never read is made."""
    api, _, flows = world
    lazy = api.lazy()
    for number in range(5):
        lazy.drop(flows[0]).create({"elems": {"late": number}})
    with gevent.Timeout(5):
        while len(api.drop(flows[0]).find(filter="EXISTS late", limit=9)) < 5:
            gevent.sleep(0.01)


def test_a_write_of_a_thread_and_reads_that_depend_on_it_do_not_wait_for_one_another(world):
    """The parallel write is none of the user's: it does not wait for the reads behind it."""
    api, _, flows = world
    writer = api.lazy(batch=False)
    reader = api.lazy()
    drop = writer.drop(flows[0]).create({"elems": {"n": 7}})
    again = reader.drop(flows[0]).read(drop["id"])
    assert again["elems"]["n"] == 7
    calls = api.async_()
    made_ = calls.flow.create({"path": "/nora/new"})
    with contextlib.suppress(NotFound):
        reader.flow.read(NOBODY).unwrap()
    assert reader.flow.read(made_.get()["id"])["path"] == "/nora/new"


def test_a_server_without_batches_is_asked_by_itself():
    """404 for the batch: ids still go together, and the next wave does not try again."""
    with counted(refused=["batch"]) as (api, transport):
        flows = made(api, 3)
        transport.sent.clear()
        lazy = api.lazy()
        reads = [lazy.flow.read(one) for one in flows]
        finds = [lazy.flow.find(mem.path == f"/nora/f{n}") for n in range(2)]
        assert [flow["id"] for flow in reads] == flows
        assert [found[0]["id"] for found in finds] == flows[:2]
        assert sorted(transport.sent) == ["GET /flow", "GET /flow", "MGET /flow", "POST /batch"]
        transport.sent.clear()
        reads = [lazy.flow.read(flows[0]), lazy.flow.find(mem.path == "/nora/f1")]
        assert (reads[0]["id"], reads[1][0]["id"]) == (flows[0], flows[1])
        assert "POST /batch" not in transport.sent


def test_without_batching_each_call_is_a_request_of_its_own(world):
    """``batch=False``: they begin at once, too."""
    api, transport, flows = world
    lazy = api.lazy(batch=False)
    reads = [lazy.flow.read(one) for one in flows]
    assert [flow["id"] for flow in reads] == flows
    assert sorted(transport.sent) == sorted(f"GET /flow/{one}" for one in flows)
    assert "not" in repr(lazy.explain())


def test_async_calls_are_combined_if_they_are_asked_to(world):
    """The same requests; results in the order of the calls, errors at their places."""
    api, transport, flows = world
    calls = api.async_(batch=True)
    for one in [*flows, NOBODY]:
        calls.flow.read(one)
    outcomes = calls.outcomes()
    assert [value and value["id"] for _, value in outcomes] == [*flows, None]
    assert isinstance(outcomes[-1][0], NotFound)
    assert transport.sent == ["MGET /flow"]


def test_a_thread_with_a_loop_sends_at_its_next_turn(world):
    """Nobody has to wait for a thunk there."""
    api, transport, flows = world

    def work():
        lazy = api.lazy()
        kept = [lazy.flow.read(one) for one in flows]
        with gevent.Timeout(5):
            while not transport.sent:
                gevent.sleep(0.001)
        return [flow["id"] for flow in kept]

    assert gevent.spawn(work).get() == flows
    assert transport.sent == ["MGET /flow"]


def test_threads_share_a_lazy_object(world):
    """Each gets its own answers."""
    api, _, flows = world
    lazy, got = api.lazy(), {}

    def work(number):
        reads = [lazy.flow.read(one) for one in flows[number::4]]
        got[number] = [flow["id"] for flow in reads]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert got == {number: flows[number::4] for number in range(4)}


def test_an_error_in_the_block_stops_what_has_not_begun(world):
    """Nothing goes out for it."""
    api, transport, flows = world
    graph = api.lazy()
    graph.__enter__()
    thunk = graph.flow.read(flows[0])
    graph.__exit__(ZeroDivisionError, ZeroDivisionError(), None)
    assert transport.sent == []
    assert "Cancelled" in repr(thunk)


def test_explain_shows_the_waves(world):
    """What was asked, what was sent for it, how long it took."""
    api, _, flows = world
    lazy = api.lazy()
    read = [lazy.flow.read(one) for one in flows[:3]]
    drops = [lazy.drop(flow["id"]).find(limit=1) for flow in read]
    assert all(drop[0]["elems"] for drop in drops)
    shown = repr(lazy.explain())

    assert re.fullmatch(
        r" 1  3 flow\.read  ->  MGET /flow  [\d.]+ ms\n   \|\n"
        r" 2  3 drop\.find  ->  MGET /drop  [\d.]+ ms",
        shown,
    )
    assert [wave.asked for wave in lazy.explain().waves] == [{"flow.read": 3}, {"drop.find": 3}]


PATCHED = """
    {patch}
    from flowkit import mem
    from flowkit.embedded import embedded

    with embedded(account="nora") as api:
        flows = [api.flow.create({{"path": f"/nora/f{{n}}"}})["id"] for n in range(5)]
        lazy = api.lazy()
        reads = [lazy.flow.read(one) for one in flows]
        nexts = [lazy.flow.find(mem.path == flow["path"]) for flow in reads]
        print(sum(found[0]["id"] == one for one, found in zip(flows, nexts)))
        print(lazy.explain().requests)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "patch", ["", "import gevent.monkey; gevent.monkey.patch_all()"], ids=["plain", "gevent"]
)
def test_it_is_the_same_in_every_process(patch):
    """On plain threads and in a process that gevent patched."""
    assert run_process(PATCHED.format(patch=patch)).split() == ["5", "2"]


def test_over_http_it_is_the_same():
    """A real server, a socket, the same few requests."""
    with Platform() as platform:
        api = platform.api
        flows = [api.flow.create({"path": f"/test/f{n}"})["id"] for n in range(20)]
        lazy = api.lazy()
        assert [flow["id"] for flow in [lazy.flow.read(one) for one in flows]] == flows
        assert lazy.explain().requests == 1
