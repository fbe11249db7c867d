"""Messages, chunks and batches in any order, against a model of a few lines."""

from __future__ import annotations

import base64
import itertools

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flowkit.server.store.sqlite import FILE_NAME
from flowkit.server.store.verify import verify
from tests.scenarios.snapshot import differences, snapshot
from tests.server.test_arrays import BOX, message
from tests.server.test_message import (
    WRONG,
    Sender,
    b64,
    batches,
    claim,
    payload_of,
    stream,
    told,
)

BATCHES = st.sampled_from("ab")
NAMES = st.sampled_from("12")
DATA = st.sampled_from([b"x", b"yy", b"zzz"])
CHUNKS = st.sampled_from("pq")
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), BATCHES, NAMES, DATA),
        st.tuples(st.just("chunk"), BATCHES, NAMES, DATA, CHUNKS, st.booleans()),
        st.tuples(st.just("end"), BATCHES, NAMES),
        st.tuples(st.just("close"), st.one_of(st.none(), BATCHES)),
    ),
    max_size=14,
)


class Model:
    """What a stream with batches should hold, and what each entry is told."""

    def __init__(self):
        self.names = {}
        self.assemblies = {}
        self.stored = []
        self.completed = []
        self.open = None
        self.conflicts = 0

    def put(self, batch, name, data):
        """A whole message."""
        known = self._known((batch, name, ""), data)
        if known:
            return known
        if self.open is not None and self.open[0] != batch:
            self.close(None)
        if self.open is None:
            self.open = [batch, 0, 0]
        self.stored.append(data)
        self.open[1] += 1
        self.open[2] += len(data)
        return "stored"

    def chunk(self, batch, name, data, chunk, is_last):
        """A chunk, perhaps the last one."""
        known = self._known((batch, name, chunk), data)
        if not known:
            self.assemblies.setdefault((batch, name), []).append(data)
        return self.end(batch, name) if is_last else known or "stored"

    def end(self, batch, name):
        """The end of a message in chunks."""
        parts = self.assemblies.pop((batch, name), None)
        return "nothing" if parts is None else self.put(batch, name, b"".join(parts))

    def close(self, batch):
        """The end of a batch."""
        if self.open is None or batch not in (None, self.open[0]):
            return "nothing"
        self.completed.append((*self.open, []))
        self.open = None
        return "stored"

    def _known(self, key, data):
        if key not in self.names:
            self.names[key] = data
            return None
        self.conflicts += self.names[key] != data
        return "duplicate"


def members_of(place, step):
    """The message that a step sends."""
    kind, batch, *rest = step
    said = {**place, **({} if batch is None else {"batchId": batch})}
    if kind == "close":
        said["complete"] = "batch"
    else:
        said["messageId"] = rest[0]
    if kind in ("put", "chunk"):
        said["data"] = b64(rest[1])
    if kind == "chunk":
        said["chunkId"] = rest[2]
    if kind == "end" or (kind == "chunk" and rest[3]):
        said["complete"] = "message"
    return said


def sent(probe, place, step):
    """Do a step; what it is told, in a word."""
    answer = probe.send(**members_of(place, step))
    assert "errors" not in answer, answer
    if answer.get("completed") is False:
        return "nothing"
    return "duplicate" if answer.get("duplicate") else "stored"


@pytest.fixture
def probe(nora):
    """A device."""
    return Sender(nora)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps=STEPS)
def test_messages_are_stored_as_the_model_says(nora, probe, steps):
    """What is stored in which order, what is completed, what is left, and a sound file."""
    name = f"s{next(COUNTER)}"
    found = stream(nora, name, batching=True)
    place = {"group": "house", "stream": name}
    model = Model()
    for step in steps:
        kind, *rest = step
        assert sent(probe, place, step) == getattr(model, kind)(*rest), step

    payloads = [each["payload"] for each in told(nora, found, "_message")] if steps else []
    assert [payload_of(nora, each) for each in payloads] == model.stored
    assert batches(nora, found) == model.completed
    left = nora.ask("GET", f"/stream/{found['id']}/open").body
    assert {(each["batch"], each["message"]) for each in left["messages"]} == set(model.assemblies)
    assert [each["batch"] for each in left["batches"]] == ([model.open[0]] if model.open else [])
    assert left["conflicts"] == model.conflicts
    assert verify(nora.app.settings.data / FILE_NAME) == []


COUNTER = itertools.count()


@pytest.fixture
def pair(nora):
    """Two devices."""
    return Sender(nora, "/nora/one"), Sender(nora, "/nora/two")


def uploaded(probe, number, said):
    """The same message, with its payload uploaded before, in two pieces if it has two bytes."""
    data = base64.b64decode(said["data"])
    parts = [part for part in (data[:1], data[1:]) if part]
    for n, part in enumerate(parts):
        assert probe.visitor.ask("PUT", f"/upload/{BOX}/{message(number)}/{n}", part).status == 200
    rest = {name: value for name, value in said.items() if name != "data"}
    return {**rest, "upload": claim(data, len(parts))}


def seen(nora, found):
    """What came of the messages to a stream: payloads, completions with theirs, what is open."""
    payloads = [payload_of(nora, each["payload"]) for each in told(nora, found, "_message")]
    answer = nora.ask("GET", f"/drop?path={found['path']}/batches&limit=1000")
    done = sorted(answer.body, key=lambda drop: drop["id"]) if answer.status == 200 else []
    joined = [payload_of(nora, each["elems"]["payload"]) for each in done]
    left = nora.ask("GET", f"/stream/{found['id']}/open").body
    for each in (*left["batches"], *left["messages"]):
        del each["device"]
    return payloads, batches(nora, found), joined, left


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps=STEPS, uploads=st.sets(st.integers(0, 13)), how=st.sampled_from(["plain", "newline"]))
def test_messages_of_one_request_are_stored_as_those_of_many(nora, pair, steps, uploads, how):
    """All in one array, or each in one of its own: the same answers, and the same is there."""
    answers, streams = [], []
    for probe in pair:
        name = f"s{next(COUNTER)}"
        streams.append(stream(nora, name, batching=True, concatenation=how))
        entries = []
        for at, step in enumerate(steps):
            said = members_of({"group": "house", "stream": name}, step)
            if at in uploads and "data" in said:
                said = uploaded(probe, probe.next, said)
            entries.append(probe.entry(probe.next, **said))
            probe.next += 1
        arrays = [entries] if probe is pair[0] else [[entry] for entry in entries]
        asked = [probe.visitor.ask("POST", "/drop", array) for array in arrays if array]
        told_each = [each for answer in asked for each in answer.body]
        answers.append([{**each, "id": "", "flowId": ""} for each in told_each])
    assert answers[0] == answers[1]
    assert not any("errors" in each for each in answers[0])
    assert seen(nora, streams[0]) == seen(nora, streams[1])
    assert verify(nora.app.settings.data / FILE_NAME) == []


@pytest.mark.parametrize(("members", "_said"), WRONG.values(), ids=WRONG)
def test_what_is_refused_leaves_nothing(nora, probe, members, _said):
    """Not a row anywhere but that of the call itself."""
    stream(nora)
    nora.app.router.close()
    file = nora.app.settings.data / FILE_NAME
    before = snapshot(file)
    answer = probe.visitor.ask("POST", "/drop", [probe.entry(**members)])
    nora.ask("GET", "/identity")  # its write comes after
    nora.app.store.write(lambda _writer: None)

    assert [each["status"] for each in answer.body] == [400]
    changed = differences(before, snapshot(file), str)
    assert [line for line in changed if not line.startswith("apiCallByIdentity")] == []
