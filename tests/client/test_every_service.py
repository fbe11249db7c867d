"""Every verb of every service: plain, async and lazy, in this process and over HTTP.

One life of an object for each resource: made, read in all ways, found, changed in all ways,
deleted. What each verb answers is compared with what the same verb answered before.
"""

import gevent
import pytest

pytest.importorskip("apsw", reason="needs the extra: pip install 'flowkit[server]'")

from flowkit import M, NotFound, UsageError, mem
from flowkit.protocol.resources import RESOURCES
from flowkit.server.routes import ROUTES
from flowkit.testing import Platform

DOORS = ("in this process", "over HTTP")
MODES = ("plain", "async", "lazy")
SCRIPT = "function () { return null; }"


def _flow(n):
    return {"path": f"/test/service/flow-{n}", "description": "first"}


BODIES = {
    "flow": lambda n, _own: _flow(n),
    "track": lambda n, _own: {
        "source": "/test/source",
        "destination": "/test/sink",
        "description": "first",
        "filter": f"n == {n}",
    },
    "group": lambda _n, own: {"memberIds": [own], "description": "first"},
    "token": lambda _n, _own: {"paths": {"/test/source": {"dropRead": True}}},
    "share": lambda _n, _own: {"issuedTo": "<other>", "paths": {"/test/source": {"read": True}}},
    "provisioning_token": lambda n, _own: {"description": f"batch {n}"},
    "device": lambda n, _own: {"path": f"/test/device-{n}", "displayName": "first"},
    "stream": lambda n, _own: {"group": "test", "name": f"stream-{n}", "description": "first"},
    "api_task": lambda _n, _own: {
        "destination": "/test/sink",
        "js": SCRIPT,
        "disabled": True,
        "description": "first",
    },
    "rss_task": lambda _n, _own: {
        "destination": "/test/sink",
        "url": "http://feeds.example.org/feed.xml",
        "disabled": True,
        "description": "first",
    },
    "mqtt_task": lambda _n, _own: {
        "destination": "/test/sink",
        "uri": "tcp://broker.example.org:1883",
        "topic": "a/b",
        "disabled": True,
        "description": "first",
    },
}
"""A body for each resource: of a number, so that no two are alike, and the caller's identity."""

THERE = {route.pattern for route in ROUTES}
SERVICES = [name for name in BODIES if RESOURCES[name].route in THERE]
CHANGED = [name for name in SERVICES if RESOURCES[name].updatable]
MEMBER = {"device": "displayName"}


@pytest.fixture(scope="module")
def world():
    """A platform with both doors, two flows, and another account."""
    with Platform() as opened:
        for name in ("source", "sink"):
            opened.api.flow.create({"path": f"/test/{name}"})
        from flowkit.server.auth import ensure_account

        other, _ = ensure_account(opened.app.store, "other")
        with opened.connect() as over_http:
            yield {
                "in this process": opened.api,
                "over HTTP": over_http,
                "own": opened.api.identity.find()[0]["id"],
                "other": other.identity_id,
                "counter": iter(range(10_000)),
            }


class Caller:
    """Calls verbs of a service in one of three modes; always gives the answer itself."""

    def __init__(self, api, mode, pick):
        calls = {"plain": lambda: api, "async": api.async_, "lazy": api.lazy}[mode]()
        self._service = pick(calls)
        self._api = api

    def __call__(self, verb, *args, **params):
        """What the verb answers."""
        answered = getattr(self._service, verb)(*args, **params)
        if isinstance(answered, gevent.Greenlet):
            return answered.get()
        return answered.unwrap() if hasattr(answered, "unwrap") else answered


def body_of(world, name):
    """A fresh body."""
    body = BODIES[name](next(world["counter"]), world["own"])
    return {key: world["other"] if value == "<other>" else value for key, value in body.items()}


@pytest.fixture(params=DOORS)
def api(world, request):
    """The API behind one of the two doors."""
    return world[request.param]


@pytest.fixture(params=MODES)
def mode(request):
    """One of the three ways to call."""
    return request.param


def test_every_resource_has_a_body_here():
    """Nothing is left out of the tables above but what has tests of its own.

    Operations of provisioning are begun by devices: ``test_fleet.py``.
    """
    assert set(RESOURCES) - set(BODIES) == {"drop", "identity", "provisioning"}


@pytest.mark.parametrize("name", SERVICES)
def test_an_object_is_made_read_found_and_deleted(world, api, mode, name):
    """create, read, read_or_else, read_many, find in its forms, find_many, find_iter, delete."""
    call = Caller(api, mode, lambda calls: getattr(calls, name))
    made = call("create", body_of(world, name))
    key = made["id"]
    plain = getattr(api, name)

    def steady(doc):
        """Without what the server computes at each answer."""
        return {one: value for one, value in doc.items() if one not in ("nextRun", "status")}

    assert steady(call("read", key)) == steady(made)
    assert steady(call("find", key)) == steady(made)
    assert steady(call("read_or_else", key)) == steady(made)
    assert list(call("read_many", [key])) == [key]
    assert list(call("find", [key])) == [key]
    found = call("find_many", mem.id == key)
    assert [each["id"] for each in found] == [key]
    assert [each["id"] for each in call("find", mem.id == key)] == [key]
    assert [each["id"] for each in call("find_many", f"id == '{key}'", only="id")] == [key]
    assert [each["id"] for each in plain.find_iter(mem.id == key)] == [key]
    body, references = call("find", mem.id == key, refs=True)
    assert ([each["id"] for each in body], world["own"] in references) == ([key], True)
    assert call("delete", key) == {}
    assert call("read_or_else", key, "gone") == "gone"
    with pytest.raises(NotFound):
        call("read", key)


@pytest.mark.parametrize("name", CHANGED)
def test_an_object_is_changed_in_every_way(world, api, mode, name):
    """save, update with a dict and with an M, update_many, update_member."""
    call = Caller(api, mode, lambda calls: getattr(calls, name))
    member = MEMBER.get(name, "description")
    made = call("save", body_of(world, name))
    key = made["id"]

    assert call("update", {"id": key, member: "second"})[member] == "second"
    model = M(made)
    model[member] = "third"
    assert call("update", model)[member] == "third"
    assert call("save", {"id": key, member: "fourth"})[member] == "fourth"
    assert call("update_many", [{"id": key, member: "fifth"}])[key][member] == "fifth"
    assert call("save", [{"id": key, member: "sixth"}])[key][member] == "sixth"
    assert call("update_member", key, member, "last") == {member: "last"}
    assert call("read", key, only=member) == {"id": key, member: "last"}
    call("delete", key)


def test_drops_have_every_verb(world, api, mode):
    """Those of all resources, and create_many, delete_all; by id, by path, and of the account."""
    path = f"/test/service/drops-{next(world['counter'])}"
    flow = api.flow.create({"path": path})
    call = Caller(api, mode, lambda calls: calls.drop(flow["id"]))
    by_path = Caller(api, mode, lambda calls: calls.drop(path))
    of_account = Caller(api, mode, lambda calls: calls.drop)

    made = call("create", {"elems": {"n": 1}})
    key = made["id"]
    assert call("read", key) == made
    assert by_path("find_many", mem.n == 1) == [made]
    assert call("read_many", [key]) == {key: made}
    assert call("read_or_else", "d" + "0" * 24, "none") == "none"
    assert call("update", {"id": key, "elems": {"n": 2}})["elems"] == {"n": 2}
    assert call("update_many", [{"id": key, "elems": {"n": 3}}])[key]["elems"] == {"n": 3}
    assert call("update_member", key, "elems", {"n": 4}) == {"elems": {"n": 4}}
    assert by_path("create", {"elems": {"n": 5}})["path"] == path
    assert of_account("create", {"path": path, "elems": {"n": 6}})["flowId"] == flow["id"]
    assert len(call("create_many", [{"elems": {"n": 7}}, {"elems": {"n": 8}}])) == 2
    assert [each["elems"]["n"] for each in call("find", order="asc")] == [4, 5, 6, 7, 8]
    assert call("delete", key) == {}
    assert call("delete_all") == {}
    assert call("find") == []


def test_identities_are_read_and_ones_own_is_changed(world, api, mode):
    """read, read_many, find, update, update_member; others show who they are and no more."""
    call = Caller(api, mode, lambda calls: calls.identity)
    own, other = world["own"], world["other"]

    assert call("find")[0]["id"] == own
    assert call("read", own)["name"] == "test"
    assert call("read", other) == {"id": other, "name": "other"}
    assert set(call("read_many", [own, other])) == {own, other}
    assert call("update", {"id": own, "firstName": "Nora"})["firstName"] == "Nora"
    assert call("update_member", own, "lastName", "Berg") == {"lastName": "Berg"}


def test_drops_are_aggregated(world, api, mode):
    """A row for each group, keyed by the words as they were sent."""
    flow = api.flow.create({"path": f"/test/service/sums-{next(world['counter'])}"})
    api.drop(flow["id"]).create_many([{"elems": {"n": n, "even": n % 2 == 0}} for n in range(5)])
    call = Caller(api, mode, lambda calls: calls.drop(flow["id"]))

    assert call("aggregate", ["$count", "$sum:n"]) == [{"$count": 5, "$sum:n": 10}]
    rows = call("aggregate", ["$count"], ["even"], mem.n > 0, sorts=["$count:asc"])
    assert rows == [{"even": False, "$count": 2}, {"even": True, "$count": 2}]


def test_a_track_is_tried_on_one_drop_and_on_the_past(world, api, mode):
    """simulate and backtest: the drops that a track would make, without any effect."""
    path = f"/test/service/past-{next(world['counter'])}"
    flow = api.flow.create({"path": path})
    api.drop(flow["id"]).create_many([{"elems": {"n": n}} for n in range(3)])
    call = Caller(api, mode, lambda calls: calls.track)
    way = {"source": path, "destination": "/test/sink", "filter": mem.n > 0}

    simulated = call("simulate", {"elems": {"n": 1}}, filter=mem.n > 0, destination="/test/sink")
    assert simulated == {"drops": [{"elems": {"n": 1}}], "log": [], "errors": []}
    proposed = call("backtest", **way)
    assert (proposed["seen"], proposed["passed"]) == (3, 2)
    assert call("backtest", {**way, "description": "not sent"}) == proposed
    stored = api.track.create({**way, "filter": str(way["filter"])})
    assert call("backtest", stored["id"], limit=1)["seen"] == 1
    assert call("backtest", stored) == proposed
    api.track.delete(stored["id"])
    with pytest.raises(UsageError):
        call("backtest")
    with pytest.raises(UsageError):
        call("simulate", {"elems": {"n": 1}}, source=path)
    with pytest.raises(UsageError):
        call("backtest", stored, js="function (d) { return d; }")


def test_every_statistic_is_asked_for(world, api, mode):
    """Six types under two names, at each level; a list of whole numbers."""
    call = Caller(api, mode, lambda calls: calls.statistics)
    flow = api.flow.find(mem.path == "/test/source")[0]["id"]
    for kind in ("flow_drop_added", "flow_tracked", "flowDropAdded"):
        assert len(call(kind, flow, 2017)) == 12
    for kind in ("api_call_by_identity", "drop_created_by"):
        assert len(call(kind, world["own"], 2017, 1)) == 31
        assert len(call(kind, world["own"], 2017, 1, 1)) == 24
        assert len(call(kind, world["own"], 2016, level="DAY")) == 366


def test_any_route_is_reached_by_its_method(api, mode):
    """api.root and api.request."""
    call = Caller(api, mode, lambda calls: calls.root)
    made = call("post", "flow", {"path": f"/test/root/{mode}-{id(api)}"})

    assert call("get", f"flow/{made['id']}") == made
    assert call("put", f"flow/{made['id']}", {"capacity": 5})["capacity"] == 5
    assert call("delete", f"flow/{made['id']}") == {}
