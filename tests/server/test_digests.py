"""Digests of pieces: summed before the writer's job, and right whatever happens in between."""

from __future__ import annotations

import hashlib

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowkit.errors import ServerError
from flowkit.server.auth import Credential
from flowkit.server.handlers.digests import Digests, sum_ahead
from flowkit.server.handlers.sent_message import check_message
from flowkit.server.marks import read_origin
from flowkit.server.store.pieces import Pieces
from flowkit.server.store.schema import TABLES
from flowkit.server.store.sqlite import FILE_NAME
from flowkit.server.store.verify import verify
from tests.server.test_arrays import BOX, item, message
from tests.server.test_message import AIR, Sender, claim, payload_of, stream, told

PARTS = [bytes([number]) * 20_000 for number in range(4)]
"""More than small parts that share a piece."""


@pytest.fixture
def probe(nora):
    """A device."""
    sender = Sender(nora)
    yield sender
    assert verify(nora.app.settings.data / FILE_NAME) == []


def put(probe, number, *parts):
    """Upload the pieces of message *number*."""
    for n, part in enumerate(parts):
        assert probe.visitor.ask("PUT", f"/upload/{BOX}/{message(number)}/{n}", part).status == 200


def looked_ahead(nora, device, *entries):
    """What a reader sums for *entries* of the device with that id; None for the account itself."""
    sent = [
        (read_origin(each["origin"]), check_message(None, {"message": each["message"]}))
        for each in entries
    ]

    def job(reader):
        who = Credential(reader.account("nora"), "token", device_id=device)
        return sum_ahead(reader, who, sent)

    return nora.app.store.read(job)


def unread(key):
    """What gives the bytes of a piece where none must be read."""
    raise AssertionError(f"the piece {key} was read")


def keys_of(nora, scope, number):
    """The pieces of the upload of a message."""
    return nora.app.store.read(
        lambda r: r.pieces.keys(r.pieces.upload(scope, BOX, message(number)))
    )


def test_the_writer_reads_nothing_of_what_a_reader_has_summed(nora, probe):
    """Neither for an upload nor for a message in chunks, most of which came earlier."""
    stream(nora, messageIdPattern="{uuid}")
    film = {**AIR, "messageId": "film"}
    put(probe, 1, PARTS[0])
    probe.send(**film, chunkId="a", upload=claim(PARTS[0]))
    put(probe, 2, PARTS[1], b"end")
    put(probe, 3, *PARTS[2:])
    chunk = probe.entry(2, **film, chunkId="b", upload=claim(PARTS[1] + b"end", 2))
    whole = probe.entry(3, **AIR, upload=claim(b"".join(PARTS[2:]), 2))
    last = probe.entry(4, **film, complete="message")
    before = nora.app.store.read(
        lambda r: [
            r.pieces.keys(each.body)
            for each in r.messages.assemblies(
                r.messages.stream_id("nora", AIR["group"], AIR["stream"]), probe.id
            )
        ]
    )

    found = looked_ahead(nora, probe.id, chunk, whole, last)

    chunks = keys_of(nora, probe.id, 2)
    for keys, data in (
        (chunks, PARTS[1] + b"end"),
        (keys_of(nora, probe.id, 3), b"".join(PARTS[2:])),
        ((*before[0], *chunks), PARTS[0] + PARTS[1] + b"end"),
    ):
        assert found.of(keys, unread) == hashlib.sha256(data).digest()
    stored = probe.visitor.ask("POST", "/drop", [chunk, whole, last]).body
    assert [each["status"] for each in stored] == [201, 201, 201]


def test_what_changed_after_the_look_ahead_is_summed_again(nora, probe):
    """A piece that was replaced has another key: the old digest is not found for it."""
    stream(nora, messageIdPattern="{uuid}")
    put(probe, 1, PARTS[0], PARTS[1])
    entry = probe.entry(**AIR, upload=claim(PARTS[0] + PARTS[1], 2))
    found = looked_ahead(nora, probe.id, entry)
    before = keys_of(nora, probe.id, 1)
    put(probe, 1, PARTS[2])

    after = keys_of(nora, probe.id, 1)
    data = {before[1]: PARTS[1], after[0]: PARTS[2]}
    assert found.of(before, unread) == hashlib.sha256(PARTS[0] + PARTS[1]).digest()
    assert found.of(after, data.__getitem__) == hashlib.sha256(PARTS[2] + PARTS[1]).digest()
    assert item(probe.visitor.ask("POST", "/drop", [entry]).body[0])[0] == 400


def test_an_upload_that_many_entries_name_is_summed_once(nora, probe):
    """No request makes a reader sum more than what was uploaded."""
    stream(nora)
    put(probe, 1, PARTS[0])
    film = {**AIR, "messageId": "film", "upload": claim(PARTS[0])}
    entries = [probe.entry(1, **film, chunkId=str(n)) for n in range(50)]
    found = looked_ahead(nora, probe.id, *entries, probe.entry(2, **AIR, complete="message",
                                                            messageId="film"))  # fmt: skip

    keys = keys_of(nora, probe.id, 1)
    assert found.of(keys, unread) == hashlib.sha256(PARTS[0]).digest()
    with pytest.raises(AssertionError, match="was read"):
        found.of(keys * 2, unread)


def test_nothing_is_summed_for_who_is_no_device(nora, probe):
    """A Token of the account may upload, and may send no message: the job refuses each."""
    stream(nora)
    assert nora.ask("PUT", f"/upload/{BOX}/{message(1)}/0", PARTS[0]).status == 200
    entry = probe.entry(1, **AIR, messageId="film", upload=claim(PARTS[0]))

    found = looked_ahead(nora, None, entry)

    assert nora.ask("POST", "/drop", [entry]).body[0]["status"] == 403
    with pytest.raises(AssertionError, match="was read"):
        found.of(keys_of(nora, "/nora", 1), unread)


@pytest.mark.parametrize(("batch", "is_summed"), [({"batchId": "x"}, True), ({}, True),
                                                  ({"batchId": "y"}, False)])  # fmt: skip
def test_what_another_batch_has_under_that_name_is_not_summed(nora, probe, batch, is_summed):
    """Else a completion that completes nothing costs as much as one that does, again and again."""
    found = stream(nora, batching=True)
    film = {**AIR, "messageId": "film"}
    probe.send(**film, batchId="x", chunkId="a", data="eA==")
    there = nora.app.store.read(
        lambda r: [r.pieces.keys(each.body) for each in r.messages.assemblies(found["id"])]
    )
    summed = looked_ahead(nora, probe.id, probe.entry(2, **film, **batch, complete="message"))

    if is_summed:
        assert summed.of(there[0], unread) == hashlib.sha256(b"x").digest()
    else:
        with pytest.raises(AssertionError, match="was read"):
            summed.of(there[0], unread)


def test_a_write_does_not_fail_for_readers_that_have_too_much_to_do(nora, probe):
    """What could not be summed before is summed in the job."""
    stream(nora, messageIdPattern="{uuid}")
    put(probe, 1, PARTS[0])
    store = nora.app.store
    store._readers._line._jobs_max = 0
    with pytest.raises(ServerError, match="busy"):
        store.read(lambda _reader: None)
    assert probe.send(**AIR, upload=claim(PARTS[0]))["status"] == 201


def test_joined_payloads_share_their_pieces(nora, probe):
    """A batch that is joined takes no further room, and neither goes with the other."""
    found = stream(nora, messageIdPattern="{uuid}", batching=True, concatenation="plain")
    for number, part in enumerate(PARTS, 1):
        put(probe, number, part)
        probe.send(**AIR, batchId="x", upload=claim(part))
    probe.send(**AIR, batchId="x", complete="batch")
    (batch,) = nora.ask("GET", f"/drop?path={found['path']}/batches").body
    flow = nora.ask("GET", f"/stream/{found['id']}").body["flowId"]
    kept = [each["payload"] for each in told(nora, found, "_message")]
    file = nora.app.settings.data / FILE_NAME

    def pieces():
        return apsw.Connection(str(file)).execute("SELECT count(*) FROM piece").get

    assert pieces() == len(PARTS)
    nora.ask("DELETE", f"/drop/{flow}/{nora.ask('GET', f'/drop/{flow}').body[0]['id']}?forget=1")
    assert payload_of(nora, batch["elems"]["payload"]) == b"".join(PARTS)
    nora.ask("DELETE", f"/flow/{batch['flowId']}")
    assert [payload_of(nora, each) for each in kept[:3]] == PARTS[:3]
    assert pieces() == len(PARTS) - 1


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["set", "append", "copy", "move", "discard"]),
        st.integers(0, 2),
        st.integers(0, 2),
        st.binary(min_size=1, max_size=3) | st.binary(min_size=9_000, max_size=9_001),
    ),
    max_size=14,
)


@given(STEPS)
def test_bodies_are_their_bytes_whatever_is_done_to_them(steps):
    """Against lists of bytes, with one keeper of digests for all of it; nothing is left over."""
    connection = apsw.Connection(":memory:")
    for statement in TABLES:
        connection.execute(statement)
    pieces, digests = Pieces(connection), Digests()
    bodies = [pieces.begin() for _ in range(3)]
    model: list[list[bytes]] = [[], [], []]
    for what, one, other, data in steps:
        if what == "set":
            at = min(other, len(model[one]))
            pieces.set_piece(bodies[one], at, data)
            model[one][at : at + 1] = [data]
        elif what == "append":
            pieces.append(bodies[one], data)
            shares = model[one] and len(model[one][-1]) + len(data) <= 16_384
            model[one].append(model[one].pop() + data if shares else data)
        elif what == "discard" or one == other:
            pieces.discard(bodies[one])
            bodies[one], model[one] = pieces.begin(), []
        else:
            getattr(pieces, what)(bodies[one], bodies[other])
            model[other] = model[other] + model[one]
            if what == "move":
                bodies[one], model[one] = pieces.begin(), []
        for body, parts in zip(bodies, model, strict=True):
            whole = b"".join(parts)
            assert pieces.sizes(body) == [len(part) for part in parts]
            assert (pieces.size(body), pieces.read(body, 0, 1 << 20)) == (len(whole), whole)
            digest = digests.of(pieces.keys(body), pieces.piece)
            assert digest == hashlib.sha256(whole).digest()
    left = "SELECT count(*) FROM piece WHERE key NOT IN (SELECT piece FROM body_piece)"
    assert connection.execute(left).get == 0
