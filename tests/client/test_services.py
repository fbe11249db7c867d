"""Every verb of every service: on the real platform where it has the resource, else as requests."""

import random

import gevent
import pytest
from client.recording import DROP, FLOW, TOKEN, answer, recorded
from hypothesis import given, settings
from hypothesis import strategies as st

from flowkit import AGE, API, EXISTS, NOT, M, P, Token, all_of, mem
from flowkit.errors import (
    BadRequest,
    ConnectionLost,
    FilterError,
    FilterSyntaxError,
    Forbidden,
    LimitError,
    NotFound,
    PlatformError,
    ProtocolError,
    UsageError,
)
from flowkit.testing import Platform


@pytest.fixture(scope="module", params=["in process", "over HTTP"])
def platform(request):
    """One platform for the tests of this file, once called directly and once through a socket."""
    with Platform(account="nora") as platform:
        yield platform.api if request.param == "in process" else platform.connect()


@pytest.fixture
def api(platform):
    """The same platform, emptied."""
    for flow in platform.flow.find_many(limit=1000):
        platform.flow.delete(flow["id"])
    return platform


@pytest.fixture
def flow(api):
    """A flow with five drops, ``n`` from 0 to 4."""
    made = api.flow.create({"path": "/nora/a", "capacity": 100_000})
    api.drop(made).create_many([{"elems": {"n": n, "odd": n % 2 == 1}} for n in range(5)])
    return made


def test_who_asks_for_a_flow_that_is_not_there_is_told_which(api, flow):
    """By its path, of a find and of a subscription; the rest of the query is not shown."""
    with pytest.raises(NotFound, match=r"GET /v4.0/nora/drop\?path=/nora/none: 404: .*") as told:
        api.drop("/nora/none").find(filter="secret == 5")
    assert "secret" not in str(told.value)
    with pytest.raises(NotFound, match=r"^subscribe drop /nora/none \(WebSocket\): 404"):
        api.drop("/nora/none").subscribe().wait_ready(10)


def numbers(drops):
    """The element ``n`` of each."""
    return [drop["elems"]["n"] for drop in drops]


# --- the verbs, on the platform -------------------------------------------------------------------


def test_the_life_of_a_flow(api):
    """Create, read, find, update, save and delete of one object."""
    made = api.flow.create({"path": "/nora/house", "capacity": 5})
    key = made["id"]

    assert api.flow.read(key) == made == api.flow.read(made)
    assert api.flow.find(mem.path == "/nora/house") == [made]
    assert api.flow.update({"id": key, "capacity": 6})["capacity"] == 6
    changed = api.flow.update(M(made, description="cosy"))
    assert (changed["capacity"], changed["description"]) == (6, "cosy")
    assert api.flow.update_member(key, "capacity", 7) == {"capacity": 7}
    assert api.flow.save({**changed, "capacity": 8})["capacity"] == 8
    assert api.flow.delete(key) == {}
    with pytest.raises(NotFound):
        api.flow.read(key)
    assert api.flow.read_or_else(key) is None
    assert api.flow.read_or_else(key, 3) == 3


def test_read_or_else_is_for_404_only(api):
    """Every other error is raised."""
    stranger = API(Token("nora", "wrong"), transport=api._transport)

    with pytest.raises(PlatformError) as caught:
        stranger.flow.read_or_else(FLOW, "default")
    assert caught.value.status == 403


def test_several_objects_at_once(api):
    """read_many, update_many and a saved list."""
    one, two = (api.flow.create({"path": f"/nora/{name}"}) for name in "ab")
    ids = [one["id"], two["id"]]

    assert api.flow.read_many(ids) == {one["id"]: one, two["id"]: two}
    assert api.flow.read_many([one, FLOW]) == {one["id"]: one}
    assert api.flow.read_many([]) == {}
    answered = api.flow.update_many([{**one, "capacity": 1}, M(two, capacity=2)])
    assert [answered[key]["capacity"] for key in ids] == [1, 2]
    saved = api.flow.save([M(one, capacity=3), M(two)])
    assert {key: flow["capacity"] for key, flow in saved.items()} == {one["id"]: 3}
    assert api.flow.update_many([]) == {}


def test_find_reads_by_an_id_reads_many_by_a_collection_and_finds_by_filters(api, flow):
    """The overloads of 13.1."""
    key = flow["id"]

    assert api.flow.find(key) == flow
    for keys in ([key], (key,), {key}, iter([key]), (one for one in [key]), {key: 1}.keys()):
        assert api.flow.find(keys) == {key: flow}
    assert api.flow.find() == api.flow.find_many() == [flow]
    assert api.flow.find(mem.path == "/nora/a") == [flow]
    assert api.flow.find(mem.path == "/nora/b") == []


def test_filters_given_together_are_joined_with_and(api, flow):
    """Positional filters, raw texts and the keyword, in any mixture."""
    drops = api.drop(flow)

    assert numbers(drops.find(mem.n > 1, mem.odd == True)) == [3]  # noqa: E712
    assert numbers(drops.find("n > 1", "odd == true")) == [3]
    assert numbers(drops.find("n == 1 || n == 2", mem.n > 1)) == [2]
    assert numbers(drops.find(mem.n > 1, filter="n < 3")) == [2]
    assert numbers(drops.find(mem.n > 1, filter=[mem.n < 4, "odd == false"])) == [2]
    assert numbers(drops.find(filter="n == 1 || n == 2", order="asc")) == [1, 2]
    assert numbers(drops.find_many("n == 1 || n == 2", order="asc")) == [1, 2]
    assert numbers(drops.find(filter="")) == [4, 3, 2, 1, 0]


def test_a_raw_filter_cannot_break_out_of_its_parentheses(api, flow):
    """What is joined must be a filter by itself."""
    with pytest.raises(FilterSyntaxError):
        api.drop(flow).find(mem.n == 0, filter="n == 1) || (n == 2")


def test_a_raw_filter_in_the_place_of_an_id_is_explained(api):
    """``find('a == 1')`` is a read by the contract; the error says what to write."""
    with pytest.raises(UsageError, match="find_many"):
        api.flow.find("path == 'x'")
    with pytest.raises(UsageError, match=r"api\.drop"):
        api.flow.find("/nora/a")
    with pytest.raises(UsageError, match="together"):
        api.flow.find(FLOW, filter="a == 1")


def test_find_with_refs_gives_the_pair(api, flow):
    """The creator of a flow is among the references."""
    flows, references = api.flow.find(refs=True)

    assert flows == [flow]
    assert references[flow["creatorId"]]["name"] == "nora"
    assert api.flow.find(flow["id"], refs=True)[0] == flow
    assert api.flow.read_or_else(FLOW, 3, refs=True) == (3, {})


def test_parameters_as_a_value(api, flow):
    """A ``P`` at the end, or spread out; a keyword of the call wins."""
    drops = api.drop(flow)

    assert numbers(drops.find(P(limit=2))) == [4, 3]
    assert numbers(drops.find(mem.n < 4, P().limit(2).order("asc"))) == [0, 1]
    assert numbers(drops.find(**P(limit=2))) == [4, 3]
    assert numbers(drops.find(P(limit=2), limit=1)) == [4]


def test_identity_is_read_and_found(api):
    """The first identity is the caller's own."""
    (me,) = api.identity.find()

    assert me["name"] == "nora"
    assert api.identity.read(me["id"])["id"] == me["id"]


class _Lossy:
    """A transport on which the answer of the first write is lost on its way back."""

    def __init__(self, inner):
        self.inner = inner
        self.lost = 0

    def send(self, request, *, timeout_s):
        response = self.inner.send(request, timeout_s=timeout_s)
        if "x-request-id" in request.headers and not self.lost:
            self.lost += 1
            raise ConnectionLost("the answer was lost")
        return response

    def close(self):
        pass


def test_a_write_whose_answer_was_lost_is_done_once(api, flow):
    """The platform replays the answer of a request that it has done, so asking again is safe."""
    lossy = _Lossy(api._transport)
    other = API(api.creds, transport=lossy)
    other.flow.find()
    drop = other.drop(flow).create({"elems": {"n": 5}})

    assert lossy.lost == 1
    assert api.drop(flow).find(limit=2)[0] == drop
    assert numbers(api.drop(flow).find(order="asc")) == [0, 1, 2, 3, 4, 5]


def test_a_deleted_member_is_gone(api, flow):
    """``del m[…]`` takes the member off the stored object, at the top and inside the elements."""
    drop = api.drop(flow).create({"elems": {"n": 5, "m": 6}, "location": {"lat": 1, "lon": 2}})
    m = M(drop)
    del m["location"]
    del m["elems"]["m"]
    api.drop(flow).update(m)
    stored = api.drop(flow).read(drop)

    assert "location" not in stored
    assert stored["elems"] == {"n": 5}


def test_a_misspelt_member_does_not_pass_in_silence(api, caplog):
    """The platform names it, and the client logs what it says."""
    made = api.flow.create({"path": "/nora/b", "capcity": 5})

    assert made["capacity"] == 1000
    assert "capcity" in caplog.text


def test_identities_are_made_by_the_administrator_only(api):
    """The platform refuses everybody else, and the docstrings say so."""
    (me,) = api.identity.find()

    with pytest.raises(Forbidden):
        api.identity.create({"name": "nils"})
    with pytest.raises(Forbidden):
        api.identity.delete(me["id"])
    for method in (api.identity.create, api.identity.delete):
        assert "administrator" in method.__doc__


# --- drops ----------------------------------------------------------------------------------------


def test_a_flow_is_named_by_id_path_or_itself(api, flow):
    """All three reach the same drops, for every verb."""
    wanted = numbers(api.drop(flow["id"]).find())
    assert wanted == [4, 3, 2, 1, 0]
    for name in (flow, "/nora/a", "/nora//A/", {"path": "/nora/a"}, M(flow)):
        drops = api.drop(name)
        assert numbers(drops.find()) == wanted
        made = drops.create({"elems": {"n": 9}})
        assert made["path"] == "/nora/a"
        assert drops.read(made["id"]) == made
        assert drops.read_many([made["id"]]) == {made["id"]: made}
        assert drops.update({**made, "elems": {"n": 8}})["elems"] == {"n": 8}
        assert drops.update(M(made, elems={"n": 7}))["version"] == 2
        assert drops.save([M(made, elems={"n": 6})])[made["id"]]["elems"] == {"n": 6}
        assert drops.update_member(made["id"], "elems", {"n": 5}) == {"elems": {"n": 5}}
        assert drops.delete(made["id"]) == {}


def test_drops_by_path_without_naming_the_flow_first(api, flow):
    """``find(path=…)``, ``find_iter(path=…)`` and ``create`` of a model with a path."""
    assert numbers(api.drop.find(mem.n > 2, path="/nora/a")) == [4, 3]
    assert numbers(api.drop.find_many(path="/nora/a", limit=1)) == [4]
    assert numbers(api.drop.find_iter(mem.n > 2, path="/nora/a")) == [4, 3]
    assert api.drop.create({"path": "/nora/a", "elems": {"n": 5}})["flowId"] == flow["id"]
    assert api.drop.create({"flowId": flow["id"], "elems": {"n": 6}})["path"] == "/nora/a"
    assert numbers(api.drop("/nora/a").find(limit=2)) == [6, 5]


def test_a_path_without_a_flow(api):
    """Finds and writes answer 404, verbs that need the id too."""
    for act in (
        lambda drops: drops.find(),
        lambda drops: drops.delete_all(),
        lambda drops: drops.read(DROP),
        lambda drops: drops.create({"elems": {}}),
    ):
        with pytest.raises(NotFound):
            act(api.drop("/nora/nowhere"))


def test_a_flow_made_again_at_its_path_is_found_again(api, flow):
    """No id is remembered behind a path."""
    drops = api.drop("/nora/a")
    drops.delete_all()
    api.flow.delete(flow["id"])
    api.flow.create({"path": "/nora/a"})
    drops.create({"elems": {"n": 1}})

    assert drops.delete_all() == {}
    assert drops.find() == []


def test_several_flows_with_one_request(api, flow):
    """``find_in`` takes ids, flows, or a mapping of id to parameters; filters go to all."""
    other = api.flow.create({"path": "/nora/b"})
    api.drop(other).create({"elems": {"n": 2}})
    found = api.drop.find_in([flow, other["id"]], mem.n >= 2, order="asc")
    assert {key: numbers(drops) for key, drops in found.items()} == {
        flow["id"]: [2, 3, 4],
        other["id"]: [2],
    }
    found = api.drop.find_in(
        {flow["id"]: {"limit": 1, "filter": mem.n < 2}, other["id"]: None}, "n >= 1"
    )
    assert {key: numbers(drops) for key, drops in found.items()} == {
        flow["id"]: [1],
        other["id"]: [2],
    }


def test_an_array_create_answers_in_order_and_fails_by_entry(api, flow):
    """A refused entry is an error value at its place; the others are written."""
    drops = api.drop(flow)
    first, wrong, last = drops.create_many([{"elems": {"n": 5}}, {"elems": 3}, {"elems": {"n": 6}}])

    assert (first["elems"], last["elems"]) == ({"n": 5}, {"n": 6})
    assert isinstance(wrong, BadRequest)
    assert (wrong.status, wrong.method) == (400, "POST")
    assert "elems" in str(wrong)
    assert "entry 1" in str(wrong)
    assert numbers(drops.find(limit=2)) == [6, 5]
    with pytest.raises(BadRequest, match="entry 1") as caught:
        drops.create_many([{"elems": {"n": 7}}, {"elems": 3}], raise_on_error=True)
    assert caught.value.entries[0]["elems"] == {"n": 7}
    assert caught.value.entries[1] is caught.value


def test_an_array_create_over_several_flows(api, flow):
    """Each drop names its flow by path or id."""
    api.flow.create({"path": "/nora/b"})
    answers = api.drop.create_many(
        [
            {"path": "/nora/a", "elems": {}},
            {"path": "/nora/b", "elems": {}},
            {"path": "/nora/none", "elems": {}},
        ]
    )

    assert [getattr(one, "status", None) or one["path"] for one in answers] == [
        "/nora/a",
        "/nora/b",
        404,
    ]


def test_an_array_create_is_a_bounded_list_of_models():
    """A single model, a text, other entries, and too many are refused before sending."""
    api, recorder = recorded()

    for wrong in ({"elems": {}}, "text", 3, [3]):
        with pytest.raises(UsageError):
            api.drop(FLOW).create_many(wrong)
    with pytest.raises(LimitError):
        api.drop(FLOW).create_many([{"elems": {}}] * 10_001)
    with pytest.raises(UsageError, match="create_many"):
        api.drop(FLOW).create([{"elems": {}}])
    assert recorder.requests == []


@pytest.mark.parametrize("body", [{}, [], [{"id": DROP}, {"id": DROP}], 3])
def test_an_array_create_with_another_number_of_answers_is_no_answer(body):
    """Which entry was written could not be told."""
    api, _ = recorded(answer(body, status=201))

    with pytest.raises(ProtocolError):
        api.drop(FLOW).create_many([{"elems": {}}])


def test_all_drops_of_a_flow_are_deleted_at_once(api, flow):
    """The flow itself stays."""
    assert api.drop(flow).delete_all() == {}
    assert api.drop(flow).find() == []
    assert api.flow.read(flow["id"]) == flow


def test_what_needs_a_flow_says_so(api):
    """``api.drop`` without a flow has no read, and no find without a path."""
    with pytest.raises(AttributeError, match=r"api.drop\(flow\).read"):
        api.drop.read(DROP)
    with pytest.raises(AttributeError):
        _ = api.drop.nonsense
    with pytest.raises(UsageError, match="path="):
        api.drop.find(mem.n == 1)
    with pytest.raises(UsageError, match="names no flow"):
        api.drop.create({"elems": {}})
    with pytest.raises(UsageError):
        api.drop("/")


def test_a_long_filter_reaches_the_platform(api, flow):
    """Far beyond what a URL may be, with the same result as a short one."""
    long = mem.n.IN(*range(3, 3000))

    assert len(str(long)) > 10_000
    assert numbers(api.drop(flow).find(long)) == [4, 3]
    assert numbers(api.drop.find(long, path="/nora/a")) == [4, 3]
    assert [
        one["id"]
        for one in api.flow.find(mem.path.IN(*(f"/nora/{n}" for n in range(2000)), "/nora/a"))
    ] == [flow["id"]]


def test_the_version_decides_how_typed_elements_look(api, flow):
    """The same platform by v0.1 shows types unless hints are off (2.3)."""
    old = API(api.creds, transport=api._transport, version="0.1")
    drop = old.drop(flow).create({"elems": {"at": {"type": "date", "value": 5}}})

    assert drop["elems"]["at"] == {"type": "date", "value": 5}
    assert old.drop(flow).read(drop["id"], hints=False)["elems"] == {"at": 5}
    assert api.drop(flow).read(drop["id"])["elems"] == {"at": 5}


# --- find_iter ------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("page", [1, 2, 3, 5, 6, 1000])
def test_find_iter_goes_to_the_end(api, flow, order, page):
    """Every page size gives everything once, in order."""
    wanted = [0, 1, 2, 3, 4] if order == "asc" else [4, 3, 2, 1, 0]

    assert numbers(api.drop(flow).find_iter(page=page, order=order)) == wanted
    assert numbers(api.drop("/nora/a").find_iter(page=page, order=order)) == wanted
    assert numbers(api.drop(flow).find_iter("n > 1", mem.n < 4, page=page, order="asc")) == [2, 3]
    assert numbers(api.drop(flow).find_iter(page=page, order=order, limit=3)) == wanted[:3]


def test_find_iter_has_no_silent_cap(api, flow):
    """More than any page, and the parameters of find go with it."""
    drops = api.drop(flow)
    drops.delete_all()
    drops.create_many([{"elems": {"n": n}} for n in range(2500)])

    assert numbers(drops.find_iter()) == list(range(2499, -1, -1))
    assert set(next(drops.find_iter(only="elems"))) == {"id", "elems"}
    assert [one["path"] for one in api.flow.find_iter(mem.path == "/nora/a")] == ["/nora/a"]
    assert list(drops.find_iter(limit=0)) == []
    assert list(drops.find_iter(mem.n > 9999, order="asc")) == []


@pytest.mark.parametrize(
    "options",
    [
        {"sort": "n"},
        {"start": 3},
        {"refs": True},
        {"page": 0},
        {"page": "5"},
        {"limit": -1},
        {"limit": True},
        {"order": "up"},
        {"page": 10**9},
        {"envelope": True},
    ],
    ids=repr,
)
def test_find_iter_refuses_what_a_walk_cannot_do(api, flow, options):
    """At the call, not at the first object."""
    with pytest.raises(UsageError):
        api.drop(flow).find_iter(**options)


def test_a_server_that_caps_its_pages_cuts_nothing_off():
    """A short page is not taken for the end."""
    stored = [{"id": f"d{n:024x}"} for n in range(7, 0, -1)]

    def capped(request):
        bound = request.params.get("filter")
        last = bound.split("'")[1] if bound else "~"
        return answer([one for one in stored if one["id"] < last][:2])

    api, recorder = recorded(capped)

    assert list(api.flow.find_iter()) == stored
    assert len(recorder.requests) == 5


ACTIONS = st.lists(
    st.sampled_from(["create", "create", "create", "delete", "change", "step", "step"]), max_size=40
)


@settings(max_examples=60)
@given(
    actions=ACTIONS,
    page=st.integers(1, 7),
    order=st.sampled_from(["asc", "desc"]),
    seed=st.integers(0, 999),
    capacity=st.sampled_from([12, 1000]),
)
def test_find_iter_gives_each_lasting_object_exactly_once(
    platform, actions, page, order, seed, capacity
):
    """Whatever is created, changed, deleted and evicted between the steps of the walk."""
    pick = random.Random(seed)
    flow = platform.flow.create(
        {"path": f"/nora/walk-{pick.getrandbits(60)}", "capacity": capacity}
    )
    drops = platform.drop(flow)
    drops.create_many([{"elems": {"n": n, "ok": True}} for n in range(12)])
    lasting = {drop["id"] for drop in drops.find_many(limit=1000)}
    walk = drops.find_iter(mem.ok == True, page=page, order=order)  # noqa: E712
    seen = []
    for action in actions:
        if action == "create":
            drops.create({"elems": {"ok": True}})
        elif action == "step":
            seen += [drop["id"] for drop in [next(walk, None)] if drop]
        elif lasting:
            victim = pick.choice(sorted(lasting))
            lasting.discard(victim)
            if action == "delete":
                drops.delete(victim)
            elif drops.read_or_else(victim):
                drops.update({"id": victim, "elems": {"ok": False}})
        lasting &= {drop["id"] for drop in drops.find_many(limit=1000, only="id")}
    seen += [drop["id"] for drop in walk]
    platform.flow.delete(flow["id"])

    assert len(seen) == len(set(seen))
    assert lasting <= set(seen)


def test_find_iter_under_writers_of_their_own(platform):
    """The same with writers in other green threads that never rest, and the walk ends."""
    flow = platform.flow.create({"path": "/nora/busy", "capacity": 100_000})
    drops = platform.drop(flow)
    drops.create_many([{"elems": {"n": n}} for n in range(300)])
    first = {drop["id"] for drop in drops.find_many(limit=1000)}
    deleted = set(sorted(first)[::3])
    stop = []

    def write():
        while not stop:
            drops.create({"elems": {"n": -1}})

    def delete():
        for key in deleted:
            drops.delete(key)

    workers = [gevent.spawn(write), gevent.spawn(write), gevent.spawn(delete)]
    try:
        for order in ("asc", "desc"):
            seen = [drop["id"] for drop in drops.find_iter(page=7, order=order)]
            assert len(seen) == len(set(seen))
            assert first - deleted <= set(seen)
    finally:
        stop.append(True)
        gevent.joinall(workers, raise_error=True)


# --- the requests of every service ----------------------------------------------------------------

CRUD = [
    ("flow", "flow"),
    ("track", "track"),
    ("group", "group"),
    ("device", "device"),
    ("api_task", "api-task"),
    ("rss_task", "rss"),
    ("mqtt_task", "mqtt"),
    ("identity", "identity"),
    ("token", "token"),
    ("share", "share"),
]
ID = "x" + "0" * 24


@pytest.mark.parametrize(("name", "route"), CRUD)
def test_every_service_asks_by_the_routes_of_the_protocol(name, route):
    """The seven rows of 3.5 and the member update; tokens and shares without the updates."""
    api, recorder = recorded(answer({"id": ID}))
    service = getattr(api, name)
    model = {"id": ID, "description": "x"}

    service.read(ID, only=["id"])
    assert recorder.asked == ("GET", f"{route}/{ID}", {"only": "id"}, None)
    service.read_or_else(ID)
    assert recorder.asked == ("GET", f"{route}/{ID}", {}, None)
    service.read_many([ID])
    assert recorder.asked == ("MGET", route, {}, [ID])
    service.find_many(mem.a == 1, limit=2)
    assert recorder.asked == ("GET", route, {"filter": "a == 1", "limit": "2"}, None)
    service.create({"description": "x"})
    assert recorder.asked == ("POST", route, {}, {"description": "x"})
    service.delete(ID)
    assert recorder.asked == ("DELETE", f"{route}/{ID}", {}, None)
    service.delete(ID, {"why": "old"})
    assert recorder.asked == ("DELETE", f"{route}/{ID}", {}, {"why": "old"})
    updates = {"update", "update_many", "update_member", "save"}
    if name in ("token", "share"):
        assert not updates & set(dir(service))
        return
    service.update(model)
    assert recorder.asked == ("PUT", f"{route}/{ID}", {}, {"description": "x"})
    service.update_many([model], pretty=True)
    assert recorder.asked == ("MPUT", route, {"pretty": "1"}, {ID: {"description": "x"}})
    service.update_member(ID, "description", "y")
    assert recorder.asked == ("PUT", f"{route}/{ID}/description", {}, {"description": "y"})
    service.save(model)
    assert recorder.asked[0] == "PUT"
    service.save([model])
    assert recorder.asked[0] == "MPUT"
    service.save({"description": "x"})
    assert recorder.asked[0] == "POST"


def test_an_update_leaves_out_what_the_server_sets():
    """A whole object as it was read can be sent back."""
    api, recorder = recorded(answer({"id": ID}))
    api.flow.update(
        {"id": FLOW, "path": "/nora/a", "creationDate": 1, "creatorId": "i", "lastEditDate": 2,
         "lastEditorId": "i", "capacity": 3}
    )  # fmt: skip
    assert recorder.asked[3] == {"path": "/nora/a", "capacity": 3}
    api.drop(FLOW).update({"id": DROP, "version": 3, "parentDropId": {}, "elems": {"a": 1}})
    assert recorder.asked[3] == {"elems": {"a": 1}}


def test_an_m_sends_its_changes_and_without_any_it_only_reads():
    """Nothing is written where nothing changed."""
    api, recorder = recorded(answer({"id": FLOW}))
    m = M({"id": FLOW, "capacity": 1, "path": "/nora/a"})
    api.flow.update(m)
    assert recorder.asked == ("GET", f"flow/{FLOW}", {}, None)
    m["capacity"] = 2
    api.flow.update(m)
    assert recorder.asked == ("PUT", f"flow/{FLOW}", {}, {"capacity": 2})
    api.flow.save(M({"path": "/nora/b"}, capacity=2))
    assert recorder.asked == ("POST", "flow", {}, {"path": "/nora/b", "capacity": 2})


@pytest.mark.parametrize(
    "act",
    [
        lambda api: api.flow.update({"capacity": 3}),
        lambda api: api.flow.update(M({}, capacity=3)),
        lambda api: api.flow.update(M({"id": FLOW}, id=ID)),
        lambda api: api.flow.update([{"id": FLOW}]),
        lambda api: api.flow.update_many({"id": FLOW}),
        lambda api: api.flow.update_many([{"capacity": 3}]),
        lambda api: api.flow.update_many([{"id": FLOW, "a": 1}, {"id": FLOW, "a": 2}]),
        lambda api: api.flow.create([{"path": "/nora/a"}]),
        lambda api: api.flow.create("x"),
        lambda api: api.flow.save(3),
        lambda api: api.flow.read_many(FLOW),
        lambda api: api.flow.read_many({"id": FLOW}),
        lambda api: api.flow.find([mem.a == 1]),
        lambda api: api.flow.find([3]),
        lambda api: api.flow.find({"id": FLOW}),
    ],
)
def test_a_wrong_model_is_refused_before_anything_is_sent(act):
    """Each raises a UsageError that says what to write."""
    api, recorder = recorded()

    with pytest.raises(UsageError):
        act(api)
    assert recorder.requests == []


def test_nothing_is_lost_of_a_filter_on_its_way():
    """The text in the URL is the text of the joined filters."""
    api, recorder = recorded(answer([]))
    joined = all_of(mem.a == "it's", NOT(EXISTS(mem.b)), AGE < 5)
    api.flow.find(joined)
    assert recorder.last.params == {"filter": str(joined)}
    api.flow.find("a == 1", mem.b == 2, filter="c == 3 || d == 4")
    assert recorder.last.params == {"filter": "(a == 1) && (b == 2) && (c == 3 || d == 4)"}


# --- aggregation, statistics, websocket -----------------------------------------------------------


def test_an_aggregation_sends_what_was_asked():
    """Lists of filters are joined, ``groupBy`` is always there, the absent is not sent (5.1)."""
    api, recorder = recorded(answer([{"$count": 1}]))
    drops = api.drop(FLOW)
    assert drops.aggregate(["$count"]) == [{"$count": 1}]
    assert recorder.asked == (
        "POST",
        f"drop/{FLOW}/aggregate",
        {},
        {"output": ["$count"], "groupBy": []},
    )
    drops.aggregate(
        ["$avg:temp"], ["$day"], [mem.temp > 1, "a == 2"], {"hot": mem.temp > 30},
        ["$avg:temp:desc", "$day"], hints=0,
    )  # fmt: skip
    assert recorder.asked[2:] == (
        {"hints": "0"},
        {
            "output": ["$avg:temp"],
            "groupBy": ["$day"],
            "filter": "(temp > 1) && (a == 2)",
            "rules": {"hot": "temp > 30"},
            "sorts": ["$avg:temp:desc", "$day"],
        },
    )
    drops.aggregate(outputs=["$count"])
    assert recorder.asked[3]["output"] == ["$count"]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"output": "$count"},
        {"output": []},
        {"output": [3]},
        {"output": ["$count"], "outputs": ["$count"]},
        {"output": ["$count"], "group_by": "$day"},
        {"output": ["$count"], "sorts": ["$sum:a"]},
        {"output": ["$count"], "sorts": "$count"},
        {"output": ["$count"], "rules": ["a == 1"]},
        {"output": ["$count"], "rules": {"a": 3}},
        {"output": ["$count"], "filter": False},
    ],
    ids=repr,
)
def test_an_aggregation_that_means_nothing_is_refused(options):
    """Before anything is sent."""
    api, recorder = recorded()

    with pytest.raises((UsageError, FilterError)):
        api.drop(FLOW).aggregate(**options)
    assert recorder.requests == []


STATISTICS = [
    ("flow_drop_added", "flowDropAdded"),
    ("flow_tracked", "flowTracked"),
    ("track_hit", "trackHit"),
    ("track_pass", "trackPass"),
    ("api_call_by_identity", "apiCallByIdentity"),
    ("drop_created_by", "dropCreatedBy"),
]


def test_the_marks_of_an_outbox_are_asked_for():
    """By its name, and with the device that it is of."""
    marks = {"air": {"sequence": 1, "message": "0" * 16, "skipped": 0, "skips": []}}
    api, recorder = recorded(answer(marks))
    box, device = "0f" * 16, "v" + "0" * 24

    assert api.origin.read(box) == marks
    assert recorder.asked == ("GET", f"origin/{box}", {}, None)
    api.origin.read(box, device={"id": device})
    assert recorder.asked == ("GET", f"origin/{box}", {"device": device}, None)
    for wrong in ("", "0F" * 16, box + "0", None):
        with pytest.raises(UsageError):
            api.origin.read(wrong)


@pytest.mark.parametrize(("name", "wire"), STATISTICS)
def test_statistics_ask_for_a_period(name, wire):
    """By both names, with the period in the path and the level as a parameter."""
    api, recorder = recorded(answer([1, 2]))
    for method in (getattr(api.statistics, name), getattr(api.statistics, wire)):
        assert method(FLOW) == [1, 2]
        assert recorder.asked == ("GET", f"statistics/{wire}/{FLOW}", {}, None)
        method(FLOW, 2018, 2, 3, "hour")
        assert recorder.asked == (
            "GET",
            f"statistics/{wire}/{FLOW}/2018/2/3",
            {"level": "HOUR"},
            None,
        )
        method(FLOW, year=2018, level="MONTH", pretty=1)
        assert recorder.asked[2] == {"level": "MONTH", "pretty": "1"}


@pytest.mark.parametrize(
    "period",
    [
        {"day": 3},
        {"year": 2018, "day": 3},
        {"month": 3},
        {"year": 2018, "month": 13},
        {"year": 2018, "month": 2, "day": 29},
        {"year": "2018"},
        {"year": True},
        {"level": "WEEK"},
        {"level": 3},
    ],
    ids=repr,
)
def test_an_impossible_period_is_refused(period):
    """Nothing is dropped in silence."""
    api, recorder = recorded()

    with pytest.raises(UsageError):
        api.statistics.flow_drop_added(FLOW, **period)
    assert recorder.requests == []


def test_tokens_come_back_whole_but_are_never_shown_by_the_api():
    """A created token's string is the caller's to keep."""
    api, _ = recorded(answer({"id": ID, "tokenString": TOKEN}))

    assert api.token.create({"paths": {"/nora/a": {"dropRead": True}}})["tokenString"] == TOKEN
