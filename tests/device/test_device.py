"""DeviceClient against a real server: provisioning, messages, properties, inbound, the end.

The names D1 to D30 are those of the defects of the device SDK that is taken up; each has its test.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import threading
from contextlib import closing, contextmanager
from queue import SimpleQueue
from time import monotonic
from urllib.parse import urlsplit

import pytest

from flowkit import limits, mem
from flowkit.client.api import API
from flowkit.client.credentials import Token
from flowkit.device import Compression, DeviceClient, bounds
from flowkit.errors import (
    BadRequest,
    DeadlineExceeded,
    Forbidden,
    OutboxError,
    SettingsError,
    UsageError,
)
from flowkit.testing import FaultProxy
from tests.server_process import ServerProcess


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server in a process of its own."""
    with ServerProcess(tmp_path_factory.mktemp("device") / "data") as running:
        yield running


@pytest.fixture(scope="module")
def api(server):
    """Its owner."""
    with API(Token("nora", server.secret), host=server.url) as owner:
        yield owner


@pytest.fixture(scope="module")
def fleet(api):
    """A provisioning token that approves by itself."""
    return "nora/" + api.provisioning_token.create({"autoApprove": True})["provisioningToken"]


@pytest.fixture
def name(request):
    """A device id of this test's own."""
    return f"d-{abs(hash(request.node.name)) % 10**9}"


@contextmanager
def device(name, token, folder, url, **how):
    """A client that is closed at the end."""
    client = DeviceClient.start(name, token, folder / f"{name}.db", url, timeout=20, **how)
    try:
        yield client
    finally:
        client.close(0)


def until(right, seconds=10.0):
    """Ask again until *right* holds; what it gave."""
    end = monotonic() + seconds
    while not (found := right()):
        assert monotonic() < end, "it did not come"
    return found


def stored(api, name, group="default", stream="default"):
    """The elements of a device's messages in a stream, oldest first."""
    path = f"/nora/streams/{group}/{stream}"
    drops = api.request("GET", "/drop", params={"path": path, "order": "asc", "limit": 10_000})
    return [
        drop["elems"] for drop in drops if drop["elems"].get("_message", {}).get("device") == name
    ]


# Provisioning


def test_a_person_approves_by_the_code_and_may_choose_the_name(api, server, tmp_path, name):
    """The callback gets what the person compares."""
    token = "nora/" + api.provisioning_token.create({})["provisioningToken"]
    shown = []

    def approve(operation):
        shown.append(operation)
        (found,) = api.provisioning.find(mem.code == operation.verification_code)
        api.provisioning.update({"id": found["id"], "status": "approved", "deviceId": name + "x"})

    with device(
        name, token, tmp_path, server.url, display_provisioning_operation_callback=approve
    ) as client:
        assert client.device_id == name + "x"
        assert client.workspace_id == "nora"
    assert shown[0].expiration_time.endswith("+00:00")
    assert len(shown) == 1


def test_waiting_for_approval_has_an_end_and_goes_on_with_the_same_operation(
    api, server, tmp_path, name
):
    """D9: a time limit; the next start asks nobody twice."""
    token = "nora/" + api.provisioning_token.create({})["provisioningToken"]
    codes = []

    def start(timeout):
        return DeviceClient.start(
            name,
            token,
            tmp_path / "d.db",
            server.url,
            lambda operation: codes.append(operation.verification_code),
            timeout=timeout,
        )

    with pytest.raises(DeadlineExceeded):
        start(0.3)
    (operation,) = api.provisioning.find(mem.deviceId == name)
    api.provisioning.update({"id": operation["id"], "status": "approved"})
    start(20).close()
    assert len(codes) == 1


def test_a_rejected_device_is_told_so(api, server, tmp_path, name):
    """And a wrong token, and a host that is none: at once."""
    token = "nora/" + api.provisioning_token.create({})["provisioningToken"]

    def reject(operation):
        (found,) = api.provisioning.find(mem.code == operation.verification_code)
        api.provisioning.update({"id": found["id"], "status": "rejected"})

    with pytest.raises(Forbidden, match="rejected"):
        DeviceClient.start(name, token, tmp_path / "a.db", server.url, reject, timeout=20)
    with pytest.raises(Forbidden) as wrong:
        DeviceClient.start(name, "nora/" + "x" * 28, tmp_path / "b.db", server.url, timeout=20)
    assert "xxx" not in str(wrong.value)


def test_without_waiting_messages_are_queued_before_anybody_approves(api, server, tmp_path, name):
    """A non-blocking start, and a state that says how it goes."""
    token = "nora/" + api.provisioning_token.create({})["provisioningToken"]
    with device(name, token, tmp_path, server.url, wait=False) as client:
        client.create_stream_sender().enqueue_message({"n": 1})
        assert client.pending_messages_count == 1
        assert not client.is_provisioned
        with pytest.raises(UsageError, match="not provisioned"):
            _ = client.device_id
        (operation,) = until(lambda: api.provisioning.find(mem.deviceId == name))
        api.provisioning.update({"id": operation["id"], "status": "approved"})
        assert client.wait_enqueued_messages_sent(20)
    assert [elems["n"] for elems in stored(api, name)] == [1]


def test_waiting_for_messages_waits_for_the_approval_first(api, server, tmp_path, name, caplog):
    """Nothing is asked with the provisioning token; closing ends the wait, too."""
    token = "nora/" + api.provisioning_token.create({})["provisioningToken"]
    with device(name, token, tmp_path, server.url, wait=False) as client:
        client.create_stream_sender().enqueue_message({"n": 1})
        assert not client.wait_enqueued_messages_sent(0.5)
        assert client.state.error == ""
        closing = threading.Timer(0.3, client.close, (0,))
        closing.start()
        with pytest.raises(UsageError, match="closed"):
            client.wait_enqueued_messages_sent()
        closing.join()
    assert [each.message for each in caplog.records if "offline" in each.message] == []


def test_a_device_that_was_switched_off_for_longer_than_its_token_needs_nobody(
    api, server, tmp_path, name
):
    """D5: renewed with the provisioning token beside it."""
    made = api.provisioning_token.create({"autoApprove": True, "registrationDuration": 1_000})
    token = "nora/" + made["provisioningToken"]
    with device(name, token, tmp_path, server.url):
        pass
    (found,) = api.device.find(mem.deviceId == name)
    old = found["tokenId"]
    until(lambda: not api.token.find(mem.id == old), 20)
    api.provisioning_token.create({})  # nobody approves anything meanwhile
    with device(name, token, tmp_path, server.url) as client:
        client.create_stream_sender().send_message({"n": 1}, timeout=20)
    assert [elems["n"] for elems in stored(api, name)] == [1]


def test_what_goes_well_is_no_warning(server, fleet, tmp_path, name, caplog):
    """A script without logging set up prints nothing of its own accord."""
    events = []
    with device(
        name, fleet, tmp_path, server.url, on_event=lambda word, _: events.append(word)
    ) as client:
        client.create_stream_sender().send_message({"n": 1}, timeout=20)
    assert {"provisioned", "online"} <= set(events)
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == []


def test_without_a_network_it_starts_from_what_it_has(api, server, fleet, tmp_path, name):
    """D3, D26: at once, with its messages, its properties and its callback; close returns."""
    with FaultProxy(server.url) as proxy:
        with device(name, fleet, tmp_path, proxy.url) as client:
            (found,) = api.device.find(mem.deviceId == name)
            api.request("POST", f"/device/{found['id']}/desired", {"values": {"rate": 5}})
            until(lambda: client.get_desired_properties().version == 1)
        proxy.set(stall=60.0)
        heard = []
        began = monotonic()
        with device(
            name, fleet, tmp_path, proxy.url, desired_properties_updated_callback=heard.append
        ) as client:
            assert monotonic() - began < 2
            until(lambda: heard)
            assert heard[0].values == {"rate": 5}
            client.create_stream_sender().enqueue_message({"n": 1})
            assert client.close(0.2).count == 1
        assert monotonic() - began < 8


# Messages


def test_payloads_are_elements_or_bytes_and_come_back_as_they_were(
    api, server, fleet, tmp_path, name
):
    """A JSON object can be filtered; anything else is read back byte for byte."""
    payloads = [
        b"\x00\xff binary",
        "text \u00fc",
        b"[1, 2]",
        b'{"a": 1, "a": 2}',
        bytearray(b"x"),
        b"",
    ]
    large = os.urandom(700_000)
    with device(name, fleet, tmp_path, server.url) as client:
        sender = client.create_stream_sender(compression=Compression.SMALLEST_SIZE)
        sender.send_message('{"temp": 21.5}', timeout=20)
        for payload in (*payloads, large):
            sender.send_message(payload, content_type=None, timeout=20)
    first, *others = stored(api, name)
    assert first["temp"] == 21.5
    back = [api.payload.read(elems["_message"]["payload"]) for elems in others]
    wanted = [each.encode() if isinstance(each, str) else bytes(each) for each in payloads]
    assert [bytes(each) for each in back] == [*wanted, large]


def test_several_threads_share_a_sender(api, server, fleet, tmp_path, name):
    """D8, and one that waits blocks nobody."""
    with device(name, fleet, tmp_path, server.url) as client:
        sender = client.create_stream_sender("shared", None)
        api.stream.create(
            {"group": "shared", "name": "s", "isDefault": True, "messageIdPattern": "{uuid}"}
        )
        errors = []

        def work(first):
            try:
                for number in range(first, first + 50):
                    sender.enqueue_message({"n": number})
            except Exception as error:  # noqa: BLE001 - any error at all is what is looked for
                errors.append(error)

        threads = [threading.Thread(target=work, args=(at * 50,)) for at in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not errors
        assert client.wait_enqueued_messages_sent(30)
    assert sorted(elems["n"] for elems in stored(api, name, "shared", "s")) == list(range(200))


def test_a_refused_message_is_said_and_blocks_nothing(api, server, fleet, tmp_path, name):
    """D14, D16: an unknown stream, or an id that the stream needs."""
    api.stream.create({"group": "strict", "name": name, "batching": True})
    with device(name, fleet, tmp_path, server.url) as client:
        with pytest.raises(BadRequest):
            client.create_stream_sender("nowhere", "never").send_message({"n": 1}, timeout=20)
        strict = client.create_stream_sender("strict", name)
        with pytest.raises(BadRequest, match=r"batchId|messageId"):
            strict.send_message({"n": 2}, timeout=20)
        strict.send_message({"n": 3}, batch_id="b", message_id="m", timeout=20)
        assert len(client.outbox.dead()) == 2
        assert client.pending_messages_count == 0
    assert [elems["n"] for elems in stored(api, name, "strict", name)] == [3]


def test_batches_and_chunks_are_completed(api, server, fleet, tmp_path, name):
    """A batch ends with the block; chunks become one message."""
    api.stream.create({"group": "parts", "name": name, "batching": True})
    with device(name, fleet, tmp_path, server.url) as client:
        sender = client.create_stream_sender("parts", name)
        with sender.batch("b1") as inside:
            sender.enqueue_message(b"one ", "b1", "m1", chunk_id="c1")
            inside.enqueue_message(b"two", message_id="m1", chunk_id="c2")
            inside.enqueue_message_completion(None, "m1")
        assert client.wait_enqueued_messages_sent(20)
        assert client.outbox.dead() == []
    (elems,) = stored(api, name, "parts", name)
    assert bytes(api.payload.read(elems["_message"]["payload"])) == b"one two"
    path = f"/nora/streams/parts/{name}/batches"
    (done,) = api.request("GET", "/drop", params={"path": path})
    assert done["elems"]["batch"] == "b1"


def test_a_large_message_without_a_network_holds_up_nobody(server, fleet, tmp_path, name):
    """D2: enqueuing, counting and closing stay quick."""
    with FaultProxy(server.url) as proxy, device(name, fleet, tmp_path, proxy.url) as client:
        proxy.set(stall=60.0)
        began = monotonic()
        sender = client.create_stream_sender()
        sender.enqueue_message(bytes(3_000_000))
        for number in range(20):
            sender.enqueue_message({"n": number})
        assert client.pending.count == 21
        assert client.close(0.1).count == 21
        assert monotonic() - began < 6


def test_a_large_message_on_its_way_holds_up_no_other_stream(api, server, fleet, tmp_path, name):
    """It has a lane of its own; what is enqueued after it arrives before it."""
    api.stream.create({"group": "lanes", "name": name, "messageIdPattern": "{uuid}"})
    with FaultProxy(server.url) as proxy, device(name, fleet, tmp_path, proxy.url) as client:
        proxy.set(latency_s=0.1)
        large = client.create_stream_sender().enqueue_message(os.urandom(4_000_000))
        client.create_stream_sender("lanes", name).send_message({"n": 1}, timeout=20)
        assert client.pending.count == 1
        client._sender.wait(large, 20)
    (elems,) = stored(api, name)
    assert elems["_message"]["bytes"] == 4_000_000


def test_many_payloads_of_some_size_go_in_requests_that_the_server_takes(
    api, server, fleet, tmp_path, name
):
    """Eighteen megabytes that waited together: more than one body may have."""
    told = []
    with (
        FaultProxy(server.url) as proxy,
        device(
            name, fleet, tmp_path, proxy.url, on_event=lambda word, text: told.append((word, text))
        ) as client,
    ):
        proxy.refuse()
        proxy.reset()
        sender = client.create_stream_sender()
        for number in range(300):
            sender.enqueue_message(bytes(60_000), message_id=f"{name}-{number}")
        proxy.heal()
        client._sender.wake()
        assert client.wait_enqueued_messages_sent(40)
    assert len(stored(api, name)) == 300
    # a status, and no part of a port
    assert not [text for word, text in told if " 413: " in text or word == "dead"]


@pytest.mark.parametrize(
    ("payload", "ids", "said"),
    [
        (17, {}, "no payload"),
        (b"", {"batch_id": ""}, "batch_id"),
        (b"", {"message_id": 5}, "message_id"),
        (b"", {"chunk_id": "1"}, "give message_id"),
        ({"n": float("nan")}, {}, "JSON"),
        (b"", {"properties": {"a": 1}}, "texts"),
    ],
)
def test_what_cannot_be_sent_is_refused_before_it_is_stored(
    server, fleet, tmp_path_factory, payload, ids, said
):
    """D17: with a class and the value."""
    folder = tmp_path_factory.getbasetemp()
    client = _common(folder, fleet, server.url)
    with pytest.raises(UsageError, match=said):
        client.create_stream_sender().enqueue_message(payload, **ids)
    with pytest.raises(UsageError):
        client.create_stream_sender("", None)
    assert client.pending_messages_count == 0


_clients: dict[str, DeviceClient] = {}


def _common(folder, fleet, url):
    if url not in _clients:
        _clients[url] = DeviceClient.start("common", fleet, folder / "common.db", url, timeout=20)
    return _clients[url]


# Properties


def test_reported_properties_arrive_and_can_be_read_back(api, server, fleet, tmp_path, name):
    """D25: replaced, patched, confirmed; found by a filter."""
    with device(name, fleet, tmp_path, server.url) as client:
        client.update_reported_properties(
            {"firmware": "1.9", "net": {"ip": "10.0.0.1", "up": True}}
        )
        client.patch_reported_properties({"net": {"ip": None}})
        assert client.wait_enqueued_messages_sent(20)
        assert not client.any_pending_reported_properties_updates
        reported = client.get_reported_properties()
        assert reported.is_confirmed
        assert reported.values == {"firmware": "1.9", "net": {"up": True}}
    (found,) = api.device.find((mem.deviceId == name) & (mem.reported.firmware < "2.0"))
    assert found["reported"] == reported.values


def test_the_newest_reported_state_wins_after_any_break(api, server, fleet, tmp_path, name):
    """D6: also one that was made in an earlier run."""
    with FaultProxy(server.url) as proxy:
        with device(name, fleet, tmp_path, proxy.url) as client:
            proxy.set(stall=60.0)
            for number in range(5):
                client.update_reported_properties({"n": number})
            assert client.any_pending_reported_properties_updates
            client.close(0)
        proxy.heal()
        with device(name, fleet, tmp_path, proxy.url) as client:
            assert client.wait_enqueued_messages_sent(20)
        (found,) = api.device.find(mem.deviceId == name)
        assert found["reported"] == {"n": 4}


@pytest.mark.parametrize("wrong", [{"a.b": 1}, {"a": "x" * 5000}, {"a": None}, [1]])
def test_documents_that_break_a_rule_are_refused_before_they_are_stored(
    server, fleet, tmp_path_factory, wrong
):
    """D4: on the device, with a sentence."""
    client = _common(tmp_path_factory.getbasetemp(), fleet, server.url)
    with pytest.raises(UsageError):
        client.update_reported_properties(wrong)
    assert not client.any_pending_reported_properties_updates


def test_a_large_document_is_no_hang(api, server, fleet, tmp_path, name):
    """D4: 30 KiB both ways."""
    big = {f"k{number}": "x" * 1000 for number in range(29)}
    with device(name, fleet, tmp_path, server.url) as client:
        client.update_reported_properties(big)
        assert client.wait_enqueued_messages_sent(20)
        (found,) = api.device.find(mem.deviceId == name)
        assert found["reported"] == big
        api.request("POST", f"/device/{found['id']}/desired", {"values": big})
        until(lambda: client.get_desired_properties().values == big)
        assert client.get_desired_properties_if_newer(1) is None
        assert client.get_desired_properties_if_newer(0).version == 1
        assert client.get_desired_properties_if_newer().version == 1


@pytest.mark.slow
def test_a_device_follows_a_platform_whose_folder_was_put_back(tmp_path, name):
    """Copied by hand, so the generation is the same and the version lower."""
    data, copy = tmp_path / "data", tmp_path / "copy"

    def desire(server, values):
        with server.connect(secret) as api:
            (found,) = api.device.find(mem.deviceId == name)
            said = api.request("POST", f"/device/{found['id']}/desired", {"values": values})
        return said["version"]

    with ServerProcess(data) as server:
        port, secret, url = urlsplit(server.url).port, server.secret, server.url
        with server.connect() as api:
            made = api.provisioning_token.create({"autoApprove": True})
        token = "nora/" + made["provisioningToken"]
        with device(name, token, tmp_path, url):
            pass
        assert desire(server, {"rate": 1}) == 1
    shutil.copytree(data, copy)
    with ServerProcess(data, "--port", str(port)) as server:
        assert desire(server, {"rate": 2}) == 2
        with device(name, token, tmp_path, url) as client:
            until(lambda: client.get_desired_properties().values == {"rate": 2})
    shutil.rmtree(data)
    shutil.copytree(copy, data)
    with ServerProcess(data, "--port", str(port)), device(name, token, tmp_path, url) as client:
        until(lambda: client.get_desired_properties().version == 1)
        assert client.get_desired_properties().values == {"rate": 1}
        assert client.get_desired_properties_if_newer(2).version == 1


# Messages to the device


def test_inbound_messages_come_again_until_they_are_acknowledged(
    api, server, fleet, tmp_path, name
):
    """D13: sent while it was away, in order, each once."""
    with device(name, fleet, tmp_path, server.url):
        pass
    (found,) = api.device.find(mem.deviceId == name)
    for number in range(3):
        api.drop.create({"path": f"{found['path']}/commands", "elems": {"n": number}})
    with device(name, fleet, tmp_path, server.url) as client:
        first = client.receive(10)
        assert first.payload == {"n": 0}
        first.ack()
        assert client.receive(10).payload == {"n": 1}
    with device(name, fleet, tmp_path, server.url) as client:
        messages = client.messages()
        assert [next(messages).payload["n"] for _ in range(2)] == [1, 2]
        assert client.receive(0.1) is None


def test_messages_that_nobody_takes_stay_with_the_platform(
    api, server, fleet, tmp_path, name, monkeypatch
):
    """Beyond the bound none is fetched, the properties go on, and all come in the end, in order."""
    monkeypatch.setattr(bounds, "inbound_messages_max", 4)
    with device(name, fleet, tmp_path, server.url) as client:
        (found,) = api.device.find(mem.deviceId == name)

        def command(number):
            api.drop.create({"path": f"{found['path']}/commands", "elems": {"n": number}})

        def desire(number):
            api.request("POST", f"/device/{found['id']}/desired", {"values": {"n": number}})
            until(lambda: client.get_desired_properties().values == {"n": number})

        desire(1)  # it listens
        for number in range(4):
            command(number)
        held = [client.receive(10) for _ in range(4)]
        desire(2)
        for number in range(4, 7):
            command(number)
        desire(3)
        assert client.receive(0) is None, "fetched beyond the bound"
        held[0].ack()
        held[0].ack()
        held[1].ack()
        desire(4)
        assert client.receive(0) is None, "fetched before half of the bound was free"
        held[2].ack()  # and nothing else happens that would end a poll
        rest = [client.receive(10) for _ in range(3)]
        assert [each.payload["n"] for each in held + rest] == list(range(7))


def test_a_message_as_large_as_a_request_can_be_is_heard(api, server, fleet, tmp_path, name):
    """It is kept with what says which it is, and both fit."""
    with device(name, fleet, tmp_path, server.url) as client:
        (found,) = api.device.find(mem.deviceId == name)
        path = f"{found['path']}/commands"
        text = "x" * (limits.body_bytes_max - len(json.dumps({"path": path, "elems": {"x": ""}})))
        api.drop.create({"path": path, "elems": {"x": text}})
        assert client.receive(10).payload == {"x": text}


# The end, and the file


def test_after_close_everything_says_that_it_is_closed(server, fleet, tmp_path, name):
    """D10: an ordinary error, and closing twice is harmless."""
    with device(name, fleet, tmp_path, server.url) as client:
        sender = client.create_stream_sender()
        client.close()
        assert client.close().count == 0
        for call in (
            lambda: client.pending,
            lambda: client.receive(1),
            lambda: client.get_desired_properties(),
            lambda: client.update_reported_properties({}),
            lambda: client.create_stream_sender(),
            lambda: sender.enqueue_message(b"x"),
        ):
            with pytest.raises(UsageError, match="closed"):
                call()
        assert list(client.messages()) == []


SCRIPT = """
import logging, sys
from flowkit.device import DeviceClient
logging.basicConfig(level=logging.DEBUG)
client = DeviceClient.start(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4], timeout=20)
client.create_stream_sender().enqueue_message({"n": 1})
assert "gevent" not in sys.modules and "greenlet" not in sys.modules
"""


@pytest.mark.slow
def test_a_script_that_ends_without_closing_ends_cleanly(api, server, fleet, tmp_path, name):
    """D11: with debug logging on; what it queued goes out after the next start."""
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT, name, fleet, str(tmp_path / f"{name}.db"), server.url],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert "Traceback" not in ended.stderr
    assert fleet.split("/")[1] not in ended.stderr
    with device(name, fleet, tmp_path, server.url) as client:
        assert client.wait_enqueued_messages_sent(20)
    assert [elems["n"] for elems in stored(api, name)] == [1]


def test_the_file_is_its_owners_alone_and_open_once(server, fleet, tmp_path, name):
    """D19, D21."""
    with device(name, fleet, tmp_path, server.url):
        path = tmp_path / f"{name}.db"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        with pytest.raises(SettingsError, match="open in"):
            DeviceClient.start(name, fleet, path, server.url)


def test_a_file_with_messages_of_another_device_is_refused(server, fleet, tmp_path, name):
    """D28, D30: before anybody is asked to approve; the same for another platform."""
    with FaultProxy(server.url) as proxy:
        with device(name, fleet, tmp_path, proxy.url) as client:
            proxy.set(stall=60.0)
            client.create_stream_sender().enqueue_message({"n": 1})
            client.close(0)
        path = tmp_path / f"{name}.db"
        with pytest.raises(SettingsError, match=name):
            DeviceClient.start(name + "-other", fleet, path, proxy.url, timeout=5)
        with pytest.raises(SettingsError):
            DeviceClient.start(name, fleet, path, server.url, timeout=5)
        proxy.heal()
        with device(name, fleet, tmp_path, proxy.url) as client:
            assert client.wait_enqueued_messages_sent(20)


def test_a_file_that_changes_hands_keeps_the_credential_and_nothing_else(
    api, server, fleet, tmp_path, name
):
    """D30: neither the documents nor the messages of the former one; and nobody is asked again."""
    file = tmp_path / "shared.db"
    seen, asked = [], []
    with closing(DeviceClient.start(name + "a", fleet, file, server.url, timeout=20)) as first:
        (found,) = api.device.find(mem.deviceId == name + "a")
        api.device.patch_desired(found["id"], {"mine": 1})
        until(lambda: first.get_desired_properties().values == {"mine": 1})
    how = {
        "desired_properties_updated_callback": lambda desired: seen.append(dict(desired.values)),
        "display_provisioning_operation_callback": asked.append,
    }
    with closing(DeviceClient.start(name + "b", fleet, file, server.url, timeout=20, **how)) as now:
        assert now.get_desired_properties().values == {}
        assert now.device_id == name + "b"
    with FaultProxy(server.url) as proxy:
        proxy.set(stall=60.0)
        again = DeviceClient.start(name + "b", fleet, file, server.url, timeout=5, **how)
        with closing(again):
            assert again.device_id == name + "b"
            assert again.outbox.kept("registration")["device_id"] == name + "b"
    assert {"mine": 1} not in seen
    assert asked == []


def test_bounds_of_the_queue_are_the_users_choice(server, fleet, tmp_path, name):
    """D15: refuse, or drop with a report."""
    with (
        FaultProxy(server.url) as proxy,
        device(name, fleet, tmp_path, proxy.url, rows_max=3, when_full="drop oldest") as client,
    ):
        proxy.set(stall=60.0)
        sender = client.create_stream_sender()
        receipts = [sender.enqueue_message({"n": number}) for number in range(5)]
        assert client.pending.count == 3
        with pytest.raises(OutboxError, match="dropped"):
            client._sender.wait(receipts[0], 1)
        assert [report.kind for report in client.outbox.reports()][-1] == "dropped"


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"allow_remote_access": True}, UsageError, "remote access"),
        ({"device_id": "a b"}, UsageError, "deviceId"),
        ({"instance": "not a host"}, SettingsError, "host"),
        ({"db": None}, UsageError, "db=None is no file"),
        ({"token": None}, UsageError, "provisioning token"),
        ({"on_event": 5}, UsageError, "5 is no callback"),
        ({"desired_properties_updated_callback": "f"}, UsageError, "'f' is no callback"),
        ({"token": "ab"}, SettingsError, "account"),
        ({"verify": "/none.pem", "instance": "https://localhost:1"}, SettingsError, "/none.pem"),
    ],
)
def test_wrong_arguments_are_refused_at_once(server, tmp_path, monkeypatch, arguments, error, said):
    """With the value and the way out."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("FLOWKIT_ACCOUNT", raising=False)
    given = {"token": "nora/" + "x" * 28, "instance": server.url, **arguments}
    token = given.pop("token")
    name, db = given.pop("device_id", "d-00"), given.pop("db", tmp_path / "d.db")
    with pytest.raises(error, match=said):
        DeviceClient.start(name, token, db, timeout=2, **given)


def test_a_host_without_a_server_is_tried_until_the_time_is_up(tmp_path):
    """D9, D20: with pauses that grow, and an end."""
    with pytest.raises(DeadlineExceeded, match=r"could not ask to be approved: .*127\.0"):
        DeviceClient.start("d-00", "nora/" + "x" * 28, tmp_path / "d.db", "127.0.0.1:9", timeout=1)


def test_a_server_without_tls_is_told_from_one_that_is_away(server, tmp_path):
    """The commonest wrong setting of a first try on another machine than one's own."""
    there = server.url.replace("http://", "https://")
    with pytest.raises(DeadlineExceeded, match=r"does not speak TLS .*say http://"):
        DeviceClient.start("d-00", "nora/" + "x" * 28, tmp_path / "d.db", there, timeout=1)


def test_a_device_that_waits_to_be_approved_again_can_be_closed(api, server, tmp_path, name):
    """Its sender waits for a new credential, and that for a person."""
    token = api.provisioning_token.create({"autoApprove": True})["provisioningToken"]
    said: SimpleQueue[str] = SimpleQueue()
    with device(
        name, f"nora/{token}", tmp_path, server.url, on_event=lambda word, _: said.put(word)
    ) as client:
        (made,) = api.device.find(mem.deviceId == name)
        api.token.delete(made["tokenId"])
        client.create_stream_sender().enqueue_message({"n": 1})
        while said.get(timeout=20) != "failed":
            pass
        assert client.close(0.2).count == 1


def test_the_names_of_the_package_are_there():
    """D18: a real enumeration, and exported names that import."""
    import flowkit.device

    assert {each.value for each in Compression} == {"none", "fastest", "smallest"}
    assert json.dumps(Compression.FASTEST.value) == '"fastest"'
    for each in flowkit.device.__all__:
        assert getattr(flowkit.device, each) is not None
