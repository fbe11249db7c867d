"""Devices: made with a Token and Flows, kept up to date by themselves, removed with the Token."""

from __future__ import annotations

import pytest

from tests.server.visitor import Visitor

PATH = "/nora/house/bench-3"
FLOWS = ["commands", "default", "properties", "reports"]


@pytest.fixture
def device(nora):
    """A device."""
    made = nora.ask("POST", "/device", {"path": PATH, "displayName": "Bench 3"})
    assert made.status == 201, made.errors
    return made.body


@pytest.fixture
def itself(nora, device):
    """The device, with its Token."""
    secret = nora.ask("GET", f"/token/{device['tokenId']}").body["tokenString"]
    return Visitor(nora.app, nora.clock, "nora", secret)


def flows_of(who):
    """The paths of the flows that somebody sees."""
    return sorted(flow["path"] for flow in who.ask("GET", "/flow?limit=100").body)


def test_a_device_comes_with_a_token_and_its_flows(nora, device):
    """The Token has exactly the rights of section 11."""
    token = nora.ask("GET", f"/token/{device['tokenId']}").body

    assert (device["status"], device["timeSinceLastSeen"]) == ("UNSEEN", -1)
    assert flows_of(nora) == [f"{PATH}/{name}" for name in FLOWS]
    granted = {
        path: sorted(flag for flag, given in flags.items() if given)
        for path, flags in token["paths"].items()
    }
    assert granted == {
        f"{PATH}/default": ["dropRead", "dropWrite"],
        f"{PATH}/commands": ["dropRead"],
        f"{PATH}/reports": ["dropWrite"],
        f"{PATH}/properties": ["dropRead"],
    }


def test_flows_that_are_there_are_used(nora):
    """With what they hold."""
    before = nora.flow(f"{PATH}/default", capacity=5)
    nora.drop(before, n=1)
    assert nora.ask("POST", "/device", {"path": PATH}).status == 201

    assert nora.ask("GET", f"/flow/{before['id']}").body["capacity"] == 5
    assert nora.elems(before) == [1]


def test_a_refused_device_leaves_nothing(nora):
    """Neither Token nor Flow."""
    refused = nora.ask("POST", "/device", {"path": f"/nora/{'x' * 120}"})

    assert refused.status == 400
    assert flows_of(nora) == []
    assert nora.ask("GET", "/token").body == []


@pytest.mark.parametrize(
    ("name", "method", "status"),
    [
        ("default", "POST", 201),
        ("default", "GET", 200),
        ("reports", "POST", 201),
        ("reports", "GET", 403),
        ("commands", "POST", 403),
        ("commands", "GET", 200),
        ("properties", "POST", 403),
        ("properties", "GET", 200),
    ],
)
def test_the_token_opens_what_a_device_needs(nora, itself, name, method, status):
    """Data both ways, commands to it, reports from it."""
    if method == "POST":
        body = {"path": f"{PATH}/{name}", "elems": {"n": 1}}
        assert itself.ask("POST", "/drop", body).status == status
    else:
        assert itself.ask("GET", f"/drop?path={PATH}/{name}").status == status


def test_a_device_keeps_its_own_record(nora, device, itself):
    """And the owner sees how long ago that was."""
    body = {"lastSeen": nora.clock.now_ms, "status": "OK", "deviceSummary": {"cpu": "x"}}
    changed = itself.ask("PUT", f"/device/{device['id']}", body)
    nora.clock.now_ms += 5_000
    seen = nora.ask("GET", f"/device/{device['id']}").body

    assert changed.status == 200
    assert (seen["status"], seen["timeSinceLastSeen"]) == ("OK", 5_000)
    assert seen["deviceSummary"] == {"cpu": "x"}


def test_a_device_changes_nothing_else(nora, device, itself):
    """Not its name, not another device, and it cannot go."""
    other = nora.ask("POST", "/device", {"path": "/nora/other"}).body

    assert itself.ask("PUT", f"/device/{device['id']}", {"displayName": "x"}).status == 403
    assert itself.ask("PUT", f"/device/{other['id']}", {"status": "OK"}).status == 404
    assert itself.ask("DELETE", f"/device/{device['id']}").status == 403
    assert itself.ask("POST", "/device", {"path": "/nora/third"}).status == 403


def test_a_removed_device_is_locked_out_and_leaves_its_flows(nora, device, itself):
    """What it wrote stays."""
    itself.ask("POST", "/drop", {"path": f"{PATH}/default", "elems": {"n": 1}})
    assert nora.ask("DELETE", f"/device/{device['id']}").status == 200

    assert itself.ask("GET", "/flow").status == 403
    assert nora.ask("GET", f"/token/{device['tokenId']}").status == 404
    assert flows_of(nora) == [f"{PATH}/{name}" for name in FLOWS]
    assert len(nora.ask("GET", f"/drop?path={PATH}/default").body) == 1


def test_a_device_whose_token_was_revoked_is_disabled(nora, device, itself):
    """It shows, whatever it said last."""
    assert itself.ask("PUT", f"/device/{device['id']}", {"status": "OK"}).status == 200
    assert nora.ask("DELETE", f"/token/{device['tokenId']}").status == 200

    assert nora.ask("GET", f"/device/{device['id']}").body["status"] == "DISABLED"
    assert itself.ask("GET", "/flow").status == 403
