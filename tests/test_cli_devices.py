"""``flowkit devices`` as its user meets it."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from flowkit import API, Token
from flowkit.cli import cli
from flowkit.server.serve import Server
from flowkit.server.settings import Settings

NONCE = "3d" * 16


@pytest.fixture
def house(tmp_path, monkeypatch):
    """A server and its owner; the environment says where it is."""
    settings = Settings(data=tmp_path, account="nora", host="127.0.0.1", port=0, synchronous="OFF")
    with Server(settings) as server, API(Token("nora", server.first_token), host=server.url) as api:
        monkeypatch.setenv("FLOWKIT_HOST", server.url)
        monkeypatch.setenv("FLOWKIT_ACCOUNT", "nora")
        monkeypatch.setenv("FLOWKIT_TOKEN", server.first_token)
        yield api, server.url


def run(*arguments):
    """Run ``flowkit devices``: (exit code, lines of stdout, stderr)."""
    done = CliRunner().invoke(cli, ["devices", *map(str, arguments)])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.stdout.splitlines(), done.stderr


def test_a_device_is_approved_by_its_code(house):
    """From the token on the command line to the device in the list."""
    _, url = house
    code, (secret,), told = run("token", "create", "--description", "batch", "--days", "1")
    assert code == 0
    assert told.startswith("its id is p")
    with API(Token("nora", secret), host=url) as maker:
        operation = maker.provisioning.begin(NONCE, "bench-3")
        _, (line,), _ = run("pending")
        code, device_id, left = line.split("\t")
        assert (code, device_id) == (operation["code"], "bench-3")
        assert left in ("59 min left", "1 h left")
        typed = operation["code"].lower().replace("-", "")
        code, lines, _ = run("approve", typed, "--device-id", "bench-4")
        assert (code, lines) == (0, [f"{operation['code']} is approved as bench-4"])
        told = maker.provisioning.complete(operation["id"], NONCE)
    assert run("pending") == (0, [], "")
    _, (line,), _ = run("list", "deviceId == 'bench-4'")

    assert line.split("\t")[:3] == [told["id"], "bench-4", "OK"]
    assert run("list", "deviceId == 'bench-3'")[1] == []


def test_a_device_is_rejected(house):
    """And cannot be approved any more: one sentence, code 1."""
    api, url = house
    secret = api.provisioning_token.create({})["provisioningToken"]
    with API(Token("nora", secret), host=url) as maker:
        operation = maker.provisioning.begin(NONCE)
        assert run("reject", operation["code"])[0] == 0
        code, lines, told = run("approve", operation["code"])
        assert (code, lines) == (1, [])
        assert "is rejected already" in told
        assert maker.provisioning.complete(operation["id"], NONCE)["status"] == "rejected"


def test_members_of_a_provisioning_token_are_flags(house):
    """Each of them; days become ms."""
    api, _ = house
    flags = ["--device-id", "bench-1", "--device-id-mode", "device", "--auto-approve"]
    run("token", "create", *flags, "--registration-days", "0.5")
    (made,) = api.provisioning_token.find()

    assert (made["deviceId"], made["deviceIdMode"]) == ("bench-1", "device")
    assert (made["autoApprove"], made["registrationDuration"]) == (True, 43_200_000)
    assert "duration" not in made


def test_lists_are_for_programs_too_and_obey_nobody(house):
    """One JSON object a line; for people, what a device says of itself is only text."""
    api, _ = house
    made = api.device.create({"path": "/nora/bench", "status": "\x1b[2Jgone\nup" + "x" * 100})
    _, (line,), _ = run("list")
    _, (as_json,), _ = run("list", "--json", "-n", "1")

    assert line.split("\t")[:2] == [made["id"], "/nora/bench"]
    assert line.split("\t")[2].startswith("\\u001b[2Jgone\\nupxxx")
    assert line.split("\t")[3] == "never"
    assert line.isascii() or "…" in line
    assert json.loads(as_json)["id"] == made["id"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["approve", "nonsense!"], 2, "is no code"),
        (["reject", "BBBB-BBBB"], 1, "no operation with the code BBBB-BBBB"),
        (["list", "a =="], 1, "filter"),
        (["token", "create", "--device-id-mode", "token"], 1, "deviceId: is required"),
        (["token", "create", "--days", "0"], 2, "--days"),
    ],
)
def test_what_is_wrong_is_one_sentence(house, arguments, code, words):
    """No traceback."""
    assert house
    found, lines, told = run(*arguments)

    assert (found, lines) == (code, [])
    assert words in told
