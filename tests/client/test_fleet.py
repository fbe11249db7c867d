"""The services of devices, in this process and over HTTP."""

from __future__ import annotations

import pytest

pytest.importorskip("apsw", reason="needs the extra: pip install 'flowkit[server]'")

from flowkit import API, Conflict, Forbidden, NotFound, Token, UsageError, mem
from flowkit.testing import Platform

NONCE = "7c" * 16


@pytest.fixture(scope="module")
def world():
    """A platform."""
    with Platform() as opened:
        yield opened


@pytest.fixture(params=["in this process", "over HTTP"])
def api(world, request):
    """The owner, through one of the two doors."""
    if request.param == "in this process":
        yield world.api
        return
    with world.connect() as over_http:
        yield over_http


def as_token(world, string):
    """Somebody with that token of the owner's account, over HTTP."""
    return API(Token(world.account, string), host=world.url)


def test_a_device_is_provisioned_and_lives(world, api):
    """Begin, approve by the code, complete, report, renew; found by what it reported."""
    made = api.provisioning_token.create({"description": "batch"})
    with as_token(world, made["provisioningToken"]) as maker:
        operation = maker.provisioning.begin(NONCE, "Bench-3")
        assert maker.provisioning.complete(operation["id"], NONCE)["status"] == "pending"
        assert api.provisioning.find(mem.code == operation["code"])[0]["id"] == operation["id"]
        code = operation["code"].lower().replace("-", " ")
        assert api.provisioning.approve(code, "bench-4")["deviceId"] == "bench-4"
        told = maker.provisioning.complete(operation["id"], NONCE)
        with pytest.raises(Forbidden):
            maker.device.find()
        again = maker.device.refresh(told["id"], told["tokenString"])
    with as_token(world, again["tokenString"]) as device:
        assert device.device.set_reported(told["id"], {"firmware": "2.1"})["version"] == 1
        assert device.device.patch_reported(told["id"], {"up": True})["version"] == 2
        assert "tokenString" in device.device.refresh(told["id"])
        with pytest.raises(Forbidden):
            device.device.patch_desired(told["id"], {"x": 1})
    found = api.device.find(mem.reported.firmware < "3.0", mem.reported.up == True)  # noqa: E712
    assert [each["deviceId"] for each in found] == ["bench-4"]
    api.device.delete(told["id"])


def test_what_is_desired_is_changed(api):
    """By a patch or as a whole, over no change of somebody else."""
    made = api.device.create({"path": "/test/bench", "tags": {"site": "oslo"}})
    assert api.device.patch_desired(made, {"a": 1})["version"] == 1
    changed = api.device.set_desired(made["id"], {"b": {"c": 2}}, version=1)

    assert (changed["values"], changed["version"]) == ({"b": {"c": 2}}, 2)
    with pytest.raises(Conflict):
        api.device.patch_desired(made, {"a": 1}, version=1)
    shown = api.device.properties(made)
    assert shown["desired"] == {"values": {"b": {"c": 2}}, "version": 2}
    assert shown["generation"] == changed["generation"]
    assert len(api.device.find(mem.tags.site == "oslo", mem.desired.b.c == 2)) == 1
    api.device.delete(made["id"])


def test_a_code_is_looked_at(world, api):
    """What is none is said before anything is sent; what nobody has is not found."""
    with pytest.raises(UsageError):
        api.provisioning.approve("bench-3")
    with pytest.raises(NotFound):
        api.provisioning.reject("BBBB-BBBB")
    made = api.provisioning_token.create({})
    with as_token(world, made["provisioningToken"]) as maker:
        operation = maker.provisioning.begin(NONCE)
    assert api.provisioning.reject(operation)["status"] == "rejected"
    with pytest.raises(Conflict):
        api.provisioning.approve(operation["id"])
    api.provisioning_token.delete(made["id"])
