"""MQTT connections against a real Mosquitto broker."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess

import pytest

from flowkit.green import monotonic, sleep
from flowkit.server.tasks.mqtt import drop_of

paho = pytest.importorskip(
    "paho.mqtt.client", reason="tasks need the extra: pip install 'flowkit[tasks]'"
)

BROKER = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")

needs_broker = pytest.mark.skipif(
    BROKER is None, reason="there is no Mosquitto broker (apt-get install mosquitto)"
)


class Broker:
    """A broker that can be stopped and started on the same port."""

    def __init__(self, folder) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.settings = folder / "mosquitto.conf"
        self.settings.write_text(f"listener {self.port} 127.0.0.1\nallow_anonymous true\n")
        self.start()

    def start(self) -> None:
        """Start it; it answers on return."""
        self.process = subprocess.Popen(
            [BROKER, "-c", str(self.settings)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until(lambda: self.is_open(), "the broker")

    def is_open(self) -> bool:
        """Whether it takes connections."""
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> None:
        """Stop it."""
        self.process.terminate()
        self.process.wait(10)

    @property
    def uri(self) -> str:
        """Where it is."""
        return f"tcp://127.0.0.1:{self.port}"


class Peer:
    """Another client of the broker, which hears everything and says something."""

    def __init__(self, broker) -> None:
        self.heard: list[tuple[str, object]] = []
        self.client = paho.Client(paho.CallbackAPIVersion.VERSION2)
        self.client.on_message = lambda _c, _d, message: self.heard.append(
            (message.topic, json.loads(message.payload))
        )
        self.client.on_connect = lambda client, *_: client.subscribe("out/#", 1)
        self.client.reconnect_delay_set(0.1, 0.5)
        self.client.connect("127.0.0.1", broker.port)
        self.client.loop_start()

    def say(self, topic: str, *payloads: bytes) -> None:
        """Publish; the broker has everything on return."""
        for payload in payloads:
            self.client.publish(topic, payload, 1).wait_for_publish(10)

    def stop(self) -> None:
        """Disconnect."""
        self.client.disconnect()
        self.client.loop_stop()


def until(right, what, seconds=20.0):
    """Ask again until *right* holds."""
    end = monotonic() + seconds
    while not right():
        assert monotonic() < end, f"{what} did not come"
        sleep(0.02)


@pytest.fixture
def broker(tmp_path):
    """A running broker."""
    running = Broker(tmp_path)
    yield running
    running.stop()


@pytest.fixture
def peer(broker):
    """Another client of it."""
    made = Peer(broker)
    yield made
    made.stop()


def connected(nora, broker, **members):
    """A connection that is up."""
    body = {"uri": broker.uri, "qos": 1, **members}
    made = nora.ask("POST", "/mqtt", body)
    assert made.status == 201, made.errors
    until(lambda: status_of(nora, made.body) == "OK", "the connection")
    return made.body


def status_of(nora, task):
    """How the connection says it is."""
    return nora.ask("GET", f"/mqtt/{task['id']}").body.get("status")


@pytest.mark.parametrize(
    ("payload", "input_format", "body"),
    [
        (b'{"elems": {"a": 1}}', None, {"elems": {"a": 1}}),
        (b'{"elems": {"a": 1}, "fhash": "x", "id": 5}', None, {"elems": {"a": 1}, "fhash": "x"}),
        (b'{"a": 1}', None, {"elems": {"a": 1}}),
        (b"21.5", "raw", {"elems": {"payload": "21.5"}}),
        (b"\xff", "raw", {"elems": {"payload": "\ufffd"}}),
    ],
)
def test_a_message_becomes_a_drop(payload, input_format, body):
    """The forms of 7.3."""
    assert drop_of(payload, input_format) == body


@pytest.mark.parametrize("payload", [b"21.5", b"[1]", b"", b"\xff", b"{"])
def test_what_is_no_object_is_refused_unless_it_is_raw(payload):
    """It is counted as an error in the report."""
    with pytest.raises(ValueError, match="no JSON object"):
        drop_of(payload, None)


@needs_broker
@pytest.mark.slow
def test_messages_of_a_topic_are_written_in_order(nora, broker, peer):
    """Each once; what cannot be read is left out and counted."""
    sink = nora.flow("/nora/in")
    connected(nora, broker, topic="house/#", destination="/nora/in")

    peer.say("house/a", *(json.dumps({"n": n}).encode() for n in range(50)), b"garbage")
    until(lambda: len(nora.drops(sink)) == 50, "the drops")

    assert nora.elems(sink) == list(range(50))


@needs_broker
@pytest.mark.slow
def test_a_broker_that_comes_back_gives_what_it_kept(nora, broker, peer):
    """The connection is made again by itself, and the topic subscribed anew."""
    sink = nora.flow("/nora/in")
    connected(nora, broker, topic="house/#", destination="/nora/in", clientId="flowkit")
    peer.say("house/a", b'{"n": 0}')
    until(lambda: len(nora.drops(sink)) == 1, "the first drop")
    broker.stop()
    broker.start()
    until(peer.client.is_connected, "the peer")

    def arrived() -> bool:
        peer.say("house/a", b'{"n": 1}')
        return len(nora.drops(sink)) > 1

    until(arrived, "a drop after the restart")


@needs_broker
@pytest.mark.slow
def test_drops_are_published_even_those_written_while_the_broker_was_away(nora, broker, peer):
    """In order of storage; a drop waits in the store until the broker has it."""
    source = nora.flow("/nora/out")
    task = connected(nora, broker, topic="out/x", source="/nora/out")
    for n in range(20):
        nora.drop(source, n=n)
    until(lambda: len(peer.heard) == 20, "the messages")
    broker.stop()
    for n in range(20, 25):
        nora.drop(source, n=n)
    broker.start()
    until(lambda: len({said["elems"]["n"] for _, said in peer.heard}) == 25, "the others")

    assert [said["elems"]["n"] for _, said in peer.heard[:20]] == list(range(20))
    assert {topic for topic, _ in peer.heard} == {"out/x"}
    until(lambda: not waiting(nora, task), "the end of the line")


def waiting(nora, task):
    """The drops that wait for a connection."""
    return nora.app.store.read(
        lambda reader: reader.deliveries(reader.object("mqtt_task", task["id"]), 100)
    )


@needs_broker
@pytest.mark.slow
def test_a_report_says_what_went_through(nora, broker, peer):
    """At its time, with the ids of the drops and the number of errors."""
    sink = nora.flow("/nora/in")
    task = connected(nora, broker, topic="house/#", destination="/nora/in", reportFrequency=60_000)
    peer.say("house/a", b'{"n": 0}', b"garbage")
    until(lambda: len(nora.drops(sink)) == 1, "the drop")
    reports = {"id": task["reportFlowId"]}
    nora.clock.now_ms += 61_000
    until(lambda: nora.drops(reports), "the report")
    nora.clock.now_ms += 61_000
    until(lambda: len(nora.drops(reports)) > 1, "the next report")

    said = [drop["elems"] for drop in nora.drops(reports)]
    (drop,) = nora.drops(sink)
    assert sum(one["messages"] for one in said) == 2
    assert sum(one["errorCount"] for one in said) == 1
    assert sum(one["connections"] for one in said) == 1
    assert [one for each in said for one in each["ids"]] == [
        {"flowId": drop["flowId"], "dropId": drop["id"]}
    ]


@needs_broker
@pytest.mark.slow
def test_a_disabled_connection_is_not_there(nora, broker, peer):
    """It is taken down, and comes back when it is enabled."""
    sink = nora.flow("/nora/in")
    task = connected(nora, broker, topic="house/#", destination="/nora/in")
    changed = nora.ask("PUT", f"/mqtt/{task['id']}", {"disabled": True})
    assert changed.status == 200
    until(lambda: not nora.app.tasks.is_connected(task["id"]), "the end of the connection")
    peer.say("house/a", b'{"n": 0}')
    nora.ask("PUT", f"/mqtt/{task['id']}", {"disabled": False})

    def arrived() -> bool:
        peer.say("house/a", b'{"n": 1}')
        return bool(nora.drops(sink))

    until(arrived, "a drop")
    assert 0 not in nora.elems(sink)


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({}, "destination: exactly one of destination and source is required"),
        (
            {"destination": "/nora/in", "source": "/nora/in"},
            "destination: exactly one of destination and source is required",
        ),
        ({"destination": "/nora/none"}, "destination: there is no Flow at /nora/none"),
        ({"destination": "/nora/in", "uri": "http://b"}, "uri: must be like tcp://broker:1883"),
        ({"destination": "/nora/in", "qos": 3}, "qos: must be between 0 and 2"),
        ({"destination": "/nora/in", "uri": "tcp://u:p@b"}, "uri: must hold no user name"),
    ],
)
def test_a_definition_that_cannot_work_is_refused(nora, members, said):
    """One sentence, which names the member."""
    nora.flow("/nora/in")
    answer = nora.ask("POST", "/mqtt", {"uri": "tcp://b.example.org", "topic": "t", **members})

    assert answer.status == 400
    assert answer.errors[0].startswith(said)


def test_a_password_is_told_to_nobody(nora):
    """It is kept, and stands in no answer, notification or report."""
    nora.flow("/nora/in")
    body = {
        "uri": "tcp://b.example.org",
        "topic": "t",
        "destination": "/nora/in",
        "username": "nora",
        "password": "hush-hush",
        "disabled": True,
    }
    made = nora.ask("POST", "/mqtt", body)
    read = nora.ask("GET", f"/mqtt/{made.body['id']}?refs=1")
    changed = nora.ask("PUT", f"/mqtt/{made.body['id']}", {"password": "new-hush"})
    inbox = nora.ask("GET", "/drop?path=/nora/:inbox")

    assert made.status == 201
    for answer in (made, read, changed, inbox):
        assert b"hush" not in answer.response.body
    kept = nora.app.store.read(lambda reader: reader.object("mqtt_task", made.body["id"]))
    assert kept.state["password"] == "new-hush"
