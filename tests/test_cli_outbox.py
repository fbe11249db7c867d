"""``flowkit outbox`` as its user meets it."""

from __future__ import annotations

import base64
import json
import os

import pytest
from click.testing import CliRunner

from flowkit import mem
from flowkit.cli import cli
from flowkit.device import DeviceClient, Outbox, Streamer
from flowkit.testing import FaultProxy, Platform


def run(*arguments, **options):
    """Run ``flowkit outbox``: (exit code, lines of stdout, stderr)."""
    done = CliRunner().invoke(cli, ["outbox", *map(str, arguments)], **options)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.stdout.splitlines(), done.stderr


@pytest.fixture
def path(tmp_path, monkeypatch):
    """An outbox with three entries, one of them dead, and the files of streamers elsewhere."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    name = str(tmp_path / "box.db")
    with Outbox(name, device="d1", clock_ms=lambda: 1_700_000_000_000) as box:
        box.put("air", {"n": 1, "text": "\x1b[31m"})
        box.put("air", {"n": 2}, payload=b"abc")
        box.put("air", {"n": 3})
        rows = box.peek("air")
        box.sent("air", 3)
        box.bury(rows[0], "400 no such unit")
        box.failed(rows[1:2], "503 later")
    return name


def test_it_lists_shows_and_exports_while_a_program_has_the_file(path):
    """Nothing is changed, and nobody is kept out."""
    with Outbox(path) as box:
        code, lines, _ = run("list", path)
        assert code == 0
        assert "2 entries" in lines[0]
        assert "oldest 2023-11-14T22:13:20Z  1 dead  d1 at -  open in this process" in lines[0]
        code, lines, _ = run("show", path)
        assert lines == [
            f"box {box.box}",
            "stream air  2 entries  17 bytes  1 skips  settled up to 0",
        ]
        assert run("show", path, "--stream", "air")[1] == [
            "1  skip: refused",
            '2  2023-11-14T22:13:20Z  {"n":2}  1 attempts, last: 503 later',
            '3  2023-11-14T22:13:20Z  {"n":3}',
        ]
        (letter,) = run("dead", path)[1]
        assert letter.endswith("400 no such unit")
        assert "\x1b" not in letter
        said = [json.loads(line) for line in run("export", path)[1]]
        assert [each["entry"]["n"] for each in said] == [1, 2, 3]
        assert said[0]["dead"] == "400 no such unit"
        assert base64.b64decode(said[1]["payload"]) == b"abc"
        box.put("air", {"n": 4})
    assert "open in no process" in run("list", path)[1][0]


def test_a_dead_letter_is_exported_with_its_payload(path):
    """What was refused is the most worth rescuing; one larger than a piece is whole, too."""
    payload = bytes(range(256)) * 2000
    with Outbox(path) as box:
        box.put("air", {"n": 4}, payload=payload)
        box.bury(box.peek("air")[-1], "400 no such stream")
    dead = [json.loads(line) for line in run("export", path)[1]][1]
    assert (dead["entry"], dead["dead"]) == ({"n": 4}, "400 no such stream")
    assert base64.b64decode(dead["payload"]) == payload


def test_what_changes_the_file_is_refused_while_it_is_open(path):
    """With the words that say who has it."""
    with Outbox(path):
        for command in (("requeue", path), ("drop", path, "--letters", "--yes"), ("replay", path)):
            code, _, told = run(*command)
            assert code == 2
            assert "is open in this process already" in told


def test_letters_are_put_again_or_dropped(path):
    """It asks before anything is gone."""
    assert run("requeue", path, 77)[0] == 2
    assert run("requeue", path)[1] == ["1 put again"]
    code, _, _ = run("drop", path, "--stream", "air", input="n\n")
    assert code == 1
    assert run("drop", path, "--stream", "air", "--yes")[1] == ["3 dropped"]
    assert run("drop", path, "--letters", "--yes")[1] == ["0 dropped"]
    assert run("drop", path)[0] == 2
    with Outbox(path) as box:
        assert box.pending.count == 0


def test_all_of_a_stream_is_dropped_also_what_was_sent_before(path):
    """Its skips stand in front and are not joined."""
    with Outbox(path) as box:
        box.put_many("soil", [{"n": n} for n in range(2500)])
        box.sent("soil", 2200)
    assert run("drop", path, "--stream", "soil", "--yes")[1] == ["2500 dropped"]


def test_a_file_that_is_none_is_said_in_one_sentence(tmp_path, path):
    """And never made."""
    (tmp_path / "x.db").write_text("dear diary")
    for command in ("show", "dead", "export", "requeue", "replay"):
        for name, words in (("x.db", "is no outbox"), ("nothing.db", "there is no file")):
            code, lines, told = run(command, tmp_path / name)
            assert (code, lines) == (2, [])
            assert words in told
    assert not os.path.exists(tmp_path / "nothing.db")
    assert run("list") == (0, [], "")


def test_what_waits_is_sent(path, monkeypatch):
    """As the program would; what cannot be sent is said."""
    with Platform() as platform:
        monkeypatch.setenv("FLOWKIT_ACCOUNT", platform.account)
        monkeypatch.setenv("FLOWKIT_TOKEN", platform.token.token)
        monkeypatch.setenv("FLOWKIT_HOST", platform.url)
        flow = f"/{platform.account}/air"
        platform.api.flow.create({"path": flow})
        other = path + ".other"
        with Outbox(other) as box:
            box.put("air", {"path": flow, "elems": {"n": 1}})
            box.put("lost", {"path": flow + "/nowhere", "elems": {"n": 2}})
        code, lines, told = run("replay", other, "--timeout", 1)
        assert lines == ["1 of 2 entries are settled, 1 wait"]
        assert code == 1
        assert "nowhere" in told
        (drop,) = platform.api.request("GET", "/drop", params={"path": flow})
        assert drop["elems"] == {"n": 1}


def test_what_a_device_has_left_is_sent_as_that_device(tmp_path):
    """With the credential in its file: its lines are those of the device, not of the account."""
    file = tmp_path / "d.db"
    with Platform() as platform, FaultProxy(platform.url) as proxy:
        made = platform.api.provisioning_token.create({"autoApprove": True})
        token = f"{platform.account}/{made['provisioningToken']}"
        with DeviceClient.start("bench-3", token, file, proxy.url, timeout=20) as client:
            sender = client.create_stream_sender()
            sender.send_message({"n": 1}, timeout=20)
            proxy.set("down", stall=True)
            sender.enqueue_message({"n": 2})
            client.close(0.5)
        proxy.heal()
        assert run("replay", file) == (0, ["1 of 1 entries are settled, 0 wait"], "")
        path = f"/{platform.account}/streams/default/default"
        drops = platform.api.request("GET", "/drop", params={"path": path, "order": "asc"})
        assert [drop["elems"]["n"] for drop in drops] == [1, 2]


def test_what_a_streamer_has_left_is_sent_and_its_bucket_made(tmp_path, monkeypatch):
    """As whom it was logged: the file names the account."""
    file = tmp_path / "s.db"
    with Platform() as platform, FaultProxy(platform.url) as proxy:
        proxy.refuse()
        where = {"host": proxy.url, "account": platform.account, "access_key": "none"}
        with Streamer("House", db=file, **where) as streamer:
            streamer.log("temp", 21.5)
            streamer.close(0)
        proxy.heal()
        monkeypatch.setenv("FLOWKIT_TOKEN", platform.token.token)
        assert run("replay", file)[:2] == (0, ["1 of 1 entries are settled, 0 wait"])
        (flow,) = platform.api.flow.find(mem.description == "House")
        (drop,) = platform.api.request("GET", f"/drop/{flow['id']}")
        assert drop["elems"]["temp"] == 21.5
