"""What a wave of reads is sent as, and what each of them is answered with."""

import pytest

from flowkit import limits
from flowkit.client.batching import Ask, batches, can_be_combined, entries_of
from flowkit.client.calls import Call
from flowkit.errors import BadRequest, NotFound, ProtocolError, ServerError
from flowkit.protocol.envelope import Answer, failure, success, too_large

F1, F2, F3 = ("f" + 23 * "0" + str(n) for n in (1, 2, 3))
OK = {"ok": True, "messages": [], "references": {"x": {}}}


def read(*segments, **params):
    """An ask for an object or a find."""
    return Ask(Call("GET", segments), params)


def sent(*asks, **options):
    """The requests of a wave: method, address, parameters, body."""
    calls = [batch.call(None) for batch in batches(entries_of(asks), **options)]
    return [(call.method, "/".join(call.segments), dict(call.params), call.body) for call in calls]


def test_one_read_is_sent_as_it_is():
    """A wave of one is the plain call itself, its own options included."""
    call = Call("GET", ("flow", F1), {"only": "path"}, timeout_s=3.0)
    (batch,) = batches(entries_of([Ask(call, {"only": "path"})]))

    assert batch.call(3.0) is call


def test_reads_of_one_kind_are_one_mget():
    """Each id once, in the order of asking."""
    asks = [read("flow", one) for one in (F2, F1, F2)]

    assert sent(*asks) == [("MGET", "flow", {}, [F2, F1])]
    drops = [read("drop", F1, "d1", hints="1"), read("drop", F1, "d2", hints="1")]
    assert sent(*drops) == [("MGET", f"drop/{F1}", {"hints": "1"}, ["d1", "d2"])]


def test_finds_in_several_flows_are_one_mget_with_parameters_of_their_own():
    """A second find in the same flow stands in another request, for the answer has room for one."""
    asks = [read("drop", F1, filter="n > 1"), read("drop", F2, limit="1")]
    entries = [{"flowId": F1, "params": {"filter": "n > 1"}}]
    entries += [{"flowId": F2, "params": {"limit": "1"}}]

    assert sent(*asks) == [("MGET", "drop", {}, entries)]
    ((method, place, _, body),) = sent(*asks, read("drop", F1))
    assert (method, place) == ("POST", "batch")
    assert body == [
        {"method": "MGET", "path": "/drop", "body": entries},
        {"method": "GET", "path": f"/drop/{F1}"},
    ]


def test_everything_else_is_one_batch():
    """Other parameters, other kinds, finds of objects, and what answers in the head."""
    ((method, place, _, body),) = sent(
        read("flow", F1),
        read("flow", F2, only="path"),
        read("flow", F3, refs="1"),
        read("flow", filter="path == '/a'"),
        read("statistics", "flow", F1),
    )

    assert (method, place) == ("POST", "batch")
    assert [(one["path"], one.get("params", {})) for one in body] == [
        (f"/flow/{F1}", {}),
        (f"/flow/{F2}", {"only": "path"}),
        (f"/flow/{F3}", {"refs": "1"}),
        ("/flow", {"filter": "path == '/a'"}),
        (f"/statistics/flow/{F1}", {}),
    ]


def test_bounds_split_a_wave(monkeypatch):
    """In ids, finds, entries and bytes."""
    monkeypatch.setattr(limits, "wave_ids_max", 2)
    monkeypatch.setattr(limits, "wave_finds_max", 2)
    flows = [f"f{n:024x}" for n in range(5)]
    ((_, _, _, body),) = sent(*(read("flow", one) for one in flows))
    assert [len(one.get("body", "1")) for one in body] == [2, 2, 1]
    ((_, _, _, body),) = sent(*(read("drop", one) for one in flows))
    assert [len(one.get("body", "1")) for one in body] == [2, 2, 1]
    monkeypatch.setattr(limits, "batch_requests_max", 2)
    texts = [read("flow", filter=f"n == {n}") for n in range(5)]
    assert [len(body) if method == "POST" else 1 for method, _, _, body in sent(*texts)] == [
        2,
        2,
        1,
    ]
    monkeypatch.setattr(limits, "wave_bytes_max", 10)
    assert [method for method, *_ in sent(*texts)] == ["GET"] * 5
    monkeypatch.undo()
    assert [method for method, *_ in sent(*texts, together=False)] == ["GET"] * 5


@pytest.mark.parametrize(
    "call",
    [
        Call("POST", ("flow",), {}, {}),
        Call("GET", ("session",), is_bare=True),
        Call("GET", ("flow", "a/b")),
        Call("GET", ("flow", "50%")),
        Call("GET", ()),
    ],
)
def test_what_cannot_stand_in_a_batch(call):
    """Writes, other addresses, and parts of a path that would be cut or decoded there."""
    assert not can_be_combined(call)


def test_each_gets_its_part_and_a_missing_one_its_404():
    """An object of its own for each, also for equal asks."""
    asks = [read("flow", one) for one in (F1, F2, F1)]
    (batch,) = batches(entries_of(asks))

    assert batch.settle(Answer(200, {F1: {"id": F1}}, OK)) == []
    assert asks[0].outcome.body == asks[2].outcome.body == {"id": F1}
    assert asks[0].outcome.body is not asks[2].outcome.body
    assert asks[0].outcome.head["references"] == {}
    assert isinstance(asks[1].outcome, NotFound)


def test_a_combined_request_that_is_refused_is_asked_for_one_by_one():
    """A bad filter fails its own find alone: the others are asked again, each by itself."""
    asks = [read("drop", F1, filter="n >"), read("drop", F2)]
    (batch,) = batches(entries_of(asks))
    again = batch.settle(BadRequest("filter: …"))
    (second,) = batches(again)
    second.settle(Answer(200, [failure(BadRequest("filter: …")), success([])], OK))

    assert [one["method"] for one in second.call(None).body] == ["GET", "GET"]
    assert isinstance(asks[0].outcome, BadRequest)
    assert asks[1].outcome.body == []


def test_a_failure_of_the_server_is_everybodys():
    """Whatever was asked together failed together; nothing is asked again."""
    asks = [read("flow", F1), read("flow", F2), read("flow", filter="n > 1")]
    (batch,) = batches(entries_of(asks))

    assert batch.settle(ServerError("busy", status=503)) == []
    assert [ask.outcome.status for ask in asks] == [503] * 3
    (mget,) = batches(entries_of(asks[:2]))
    assert mget.settle(ServerError("busy", status=503)) == []


def test_what_was_cut_for_the_size_of_the_batch_is_asked_for_alone():
    """The plain call would have had the whole bound for itself."""
    asks = [read("flow", filter="n > 1"), read("flow", filter="n > 2")]
    (batch,) = batches(entries_of(asks))
    again = batch.settle(Answer(200, [success([1]), failure(too_large(2**24))], OK))

    assert asks[0].outcome.body == [1]
    (alone,) = batches(again)
    assert alone.call(None) is asks[1].call
    alone.settle(too_large(2**24))
    assert isinstance(asks[1].outcome, BadRequest)


def test_an_answer_that_is_no_batch_is_an_error_of_the_protocol():
    """Another length, or no array."""
    (batch,) = batches(entries_of([read("flow", filter="a"), read("flow", filter="b")]))

    for body in ([], {}, [success([])]):
        with pytest.raises(ProtocolError):
            batch.settle(Answer(200, body, OK))


@pytest.mark.parametrize("status", [400, 404, 405, 413])
def test_a_batch_that_is_refused_as_a_whole_is_asked_for_one_by_one(status):
    """The server knows no batches, or takes smaller ones: the plain calls would have succeeded."""
    asks = [read("flow", filter="n > 1"), read("flow", F1), read("flow", F2)]
    (batch,) = batches(entries_of(asks))
    again = batch.settle(BadRequest("no", status=status))

    assert [each.call(None).method for each in batches(again)] == ["GET", "MGET"]
    assert [ask.outcome for ask in asks] == [None] * 3


def test_answers_of_another_shape_are_errors_of_the_protocol():
    """An MGET without a map, an entry without an envelope."""
    (mget,) = batches(entries_of([read("flow", F1), read("flow", F2)]))
    (batch,) = batches(entries_of([read("flow", filter="a"), read("flow", filter="b")]))

    for each, body in ((mget, None), (mget, []), (batch, [None, {}]), (batch, [{"head": 1}, 2])):
        with pytest.raises(ProtocolError):
            each.settle(Answer(200, body, OK))
