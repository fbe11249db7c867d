"""The path of a drop: its steps, in their order."""

import pytest

from flowkit.errors import BadRequest, Forbidden, NotFound
from flowkit.server import ingest
from flowkit.server.auth import Credential
from flowkit.server.ingest import Arrival, check_change, check_drop


@pytest.fixture
def who(nora):
    """Nora's right."""
    return Credential(nora.app.store.read(lambda reader: reader.account("nora")))


def brought(nora, who, checked, **more):
    """Take a drop in, in a job of its own."""
    arrival = Arrival(checked, nora.clock.now_ms, **more)
    return nora.app.store.write(lambda writer: ingest.create(writer, who, arrival))


def test_a_drop_goes_all_the_way_in(nora, who):
    """Located by path, stored with its number."""
    flow = nora.flow("/nora/x")

    written = brought(
        nora, who, check_drop({"path": "/nora/x", "elems": {"a": 1}}, typed=False, addressed=False)
    )

    assert written.kind == "create"
    assert written.drop.doc["flowId"] == flow["id"]
    assert written.position.endswith(".1")


def test_the_right_is_asked_before_anything_is_looked_up(nora, bob, who):
    """A foreign path is refused whether or not a flow is there; a foreign id is not there."""
    theirs = bob.flow("/bob/x")
    checked = check_drop({"path": "/bob/none", "elems": {}}, typed=False, addressed=False)

    with pytest.raises(Forbidden):
        brought(nora, who, checked)
    with pytest.raises(NotFound):
        brought(
            nora, who, check_drop({"elems": {}}, typed=False, addressed=True), flow_id=theirs["id"]
        )


def test_the_filter_is_asked_before_the_store(nora, who):
    """A refused drop takes no number."""
    flow = nora.flow("/nora/x", filter="EXISTS a")
    refused = check_drop({"elems": {"b": 1}}, typed=False, addressed=True)

    with pytest.raises(BadRequest, match="does not satisfy"):
        brought(nora, who, refused, flow_id=flow["id"])

    good = check_drop({"elems": {"a": 1}}, typed=False, addressed=True)
    assert brought(nora, who, good, flow_id=flow["id"]).position.endswith(".1")


def test_the_filter_of_an_update_sees_the_drop_as_it_will_stand(nora):
    """What the update does not name is there, what it unsets is not."""
    flow = nora.flow("/nora/x", filter="EXISTS a || fhash == 'k'")
    made = nora.ask("POST", f"/drop/{flow['id']}", {"elems": {"a": 1}, "fhash": "k"}).body
    target = f"/drop/{flow['id']}/{made['id']}"

    assert nora.ask("PUT", target, {"elems": {}}).status == 200
    assert nora.ask("PUT", target, {"fhash": None}).status == 400
    assert nora.ask("PUT", target, {"fhash": None, "elems": {"a": 2}}).status == 200


def test_the_filter_of_a_replacement_sees_the_new_elements_only(nora):
    """An ``fhash`` write is judged by what it brings (1.4)."""
    flow = nora.flow("/nora/x", filter="EXISTS a")
    target = f"/drop/{flow['id']}"
    nora.ask("POST", target, {"elems": {"a": 1}, "fhash": "k"})

    assert nora.ask("POST", target, {"elems": {"b": 1}, "fhash": "k"}).status == 400
    assert nora.ask("POST", target, {"elems": {"a": 2}, "fhash": "k"}).status == 200


def test_an_fhash_belongs_to_one_drop(nora):
    """An update cannot take the key of another drop."""
    flow = nora.flow("/nora/x")
    target = f"/drop/{flow['id']}"
    nora.ask("POST", target, {"elems": {}, "fhash": "k"})
    other = nora.drop(flow)

    refused = nora.ask("PUT", f"{target}/{other['id']}", {"fhash": "k"})

    assert refused.status == 400
    assert refused.errors[0].startswith("fhash: ")


@pytest.mark.parametrize(
    ("body", "addressed", "sentences"),
    [
        ({"elems": {}}, True, []),
        ({"elems": {}}, False, ["path: is required"]),
        ({}, False, ["path: is required", "elems: is required"]),
        ([], True, ["body: must be an object"]),
        (
            {"elems": {"x": {"type": "date", "value": "y"}}},
            True,
            ["elems.x: must be a whole number"],
        ),
    ],
)
def test_a_body_is_checked_before_the_store_is_asked(body, addressed, sentences):
    """Every fault of the body at once, without a store."""
    said = []
    try:
        check_drop(body, typed=True, addressed=addressed)
    except BadRequest as error:
        said = error.errors

    assert len(said) == len(sentences)
    assert all(each.startswith(start) for each, start in zip(said, sentences, strict=True))


def test_a_change_says_only_what_it_names():
    """Absent members stay absent, so that they stay as they are."""
    checked = check_change({"fhash": "k", "location": None}, typed=False)

    assert checked.members == {"fhash": "k", "location": None}
    assert checked.types is None


def test_an_empty_id_in_the_address_is_no_flow(nora, who):
    """A caller in this process can leave the segment empty; what the body names does not count."""
    nora.flow("/nora/x")
    change = check_change({"elems": {}}, typed=False)
    arrival = Arrival(change, nora.clock.now_ms, flow_id="", drop_id="d" + "0" * 24)

    with pytest.raises(NotFound):
        nora.app.store.write(lambda writer: ingest.update(writer, who, arrival))


# What a write does, completely


def effects(nora, flow, track, act):
    """What *act* changed: rows, what waits for the track, and counts of flow and creator."""
    nora.app.router.close()  # what waits stays
    hour = nora.clock.now_ms // 3_600_000

    def seen(writer):
        def count(kind, name):
            return sum(writer.statistics(kind, name, hour, hour + 1).values())

        owner = writer.account("nora").identity_id
        return {
            "rows": writer.flow(flow["id"]).head,
            "waiting": [(each.drop.doc["id"], each.hops) for each in writer.deliveries(track, 99)],
            "flowDropAdded": count("flowDropAdded", flow["id"]),
            "dropCreatedBy": count("dropCreatedBy", owner),
            "trackHit": count("trackHit", track.id),
            "flowTracked": count("flowTracked", flow["id"]),
        }

    before = nora.app.store.write(seen)
    made = act()
    after = nora.app.store.write(seen)
    waiting = [each for each in after.pop("waiting") if each not in before["waiting"]]
    changed = {name: after[name] - before[name] for name in after if after[name] != before[name]}
    return made, changed, waiting


@pytest.fixture
def watched(nora):
    """A flow with a Track, the Track as it is stored, and a drop with a key that it holds."""
    flow = nora.flow("/nora/x", capacity=2, filter="EXISTS n")
    nora.flow("/nora/y")
    made = nora.track("/nora/x", "/nora/y")
    track = nora.app.store.read(lambda reader: reader.object("track", made["id"]))
    held = nora.ask("POST", f"/drop/{flow['id']}", {"elems": {"n": 0}, "fhash": "k"}).body
    nora.drop(flow, n=1)
    nora.drops(flow)
    return flow, track, held


ADDED = {"flowDropAdded": 1, "dropCreatedBy": 1}


@pytest.mark.parametrize(
    ("body", "hops", "changed", "waits"),
    [
        ({"elems": {"n": 5}}, 0, {"rows": 2, **ADDED}, True),  # the third of two: one goes
        ({"elems": {"n": 5}, "fhash": "k"}, 0, {"rows": 1, **ADDED}, True),  # replaces
        ({"elems": {"n": 5}}, 15, {"rows": 2, **ADDED}, True),
        ({"elems": {"n": 5}}, 16, {"rows": 2, **ADDED}, False),  # came through too many
    ],
)
def test_all_that_a_write_does(nora, who, watched, body, hops, changed, waits):
    """Its rows, its counts, and that it waits with its hops: in one commit, and nothing else."""
    flow, track, _ = watched
    checked = check_drop(body, typed=False, addressed=True)

    written, found, waiting = effects(
        nora, flow, track, lambda: brought(nora, who, checked, flow_id=flow["id"], hops=hops)
    )

    assert found == changed
    assert waiting == ([(written.drop.doc["id"], hops)] if waits else [])


def test_all_that_a_change_does(nora, watched):
    """A new state of the row; nothing is counted and nothing waits (6.1)."""
    flow, track, held = watched
    target = f"/drop/{flow['id']}/{held['id']}"

    _, found, waiting = effects(
        nora, flow, track, lambda: nora.ask("PUT", target, {"elems": {"n": 9}})
    )

    assert found == {"rows": 1}
    assert waiting == []


def test_all_that_a_refused_write_does(nora, who, watched):
    """Nothing at all."""
    flow, track, _ = watched
    checked = check_drop({"elems": {}}, typed=False, addressed=True)

    def refused():
        with pytest.raises(BadRequest, match="does not satisfy"):
            brought(nora, who, checked, flow_id=flow["id"])

    _, found, waiting = effects(nora, flow, track, refused)

    assert found == {}
    assert waiting == []


def test_a_job_that_fails_after_the_write_leaves_no_trace(nora, who, watched):
    """Row, counts and what waits are one: all undone together."""
    flow, track, _ = watched
    checked = check_drop({"elems": {"n": 5}}, typed=False, addressed=True)

    def job(writer):
        ingest.create(writer, who, Arrival(checked, nora.clock.now_ms, flow_id=flow["id"]))
        raise NotFound("afterwards")

    def failed():
        with pytest.raises(NotFound, match="afterwards"):
            nora.app.store.write(job)

    _, found, waiting = effects(nora, flow, track, failed)

    assert found == {}
    assert waiting == []
