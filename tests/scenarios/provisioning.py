"""Provisioning and the documents of devices: ``docs/reference/devices.rst``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from tests.scenarios.devices import FLOWS
from tests.scenarios.finds import Sample, crud
from tests.scenarios.scenario import ANYTHING, Given, Scenario, made

TOKEN = Sample(
    kind="provisioning token",
    route="provisioning-token",
    body={"description": "batch 17", "deviceIdMode": "device", "duration": 60_000},
    second={"autoApprove": True, "registrationDuration": 86_400_000},
    shown={
        "description": "batch 17",
        "deviceIdMode": "device",
        "duration": 60_000,
        "expiresInMs": ANYTHING,
        "issuedBy": "<nora>",
        "provisioningToken": ANYTHING,
    },
    second_shown={
        "autoApprove": True,
        "deviceIdMode": "any",
        "registrationDuration": 86_400_000,
        "issuedBy": "<nora>",
        "provisioningToken": ANYTHING,
    },
    passing="description == 'batch 17'",
    made=("secret made: <first>",),
    removed=("secret removed: <first>",),
    inbox="PROVISIONING_TOKEN",
)

MAKER = made("maker", "provisioning-token", description="batch 17")
WAITS = {
    "code": ANYTHING,
    "status": "pending",
    "expiresAt": ANYTHING,
    "provisioningTokenId": "<maker>",
}
OPERATION = Sample(
    kind="provisioning",
    route="provisioning",
    given=(MAKER,),
    secret="<maker.provisioningToken>",
    body={"nonce": "1" * 32, "deviceId": "bench-1"},
    second={"nonce": "2" * 32},
    shown={**WAITS, "deviceId": "bench-1"},
    second_shown=WAITS,
    passing="deviceId == 'bench-1'",
    change={"deviceId": "bench-9"},
    changed_shown={"deviceId": "bench-9"},
    member="deviceId",
    sort="deviceId",
    inbox="PROVISIONING",
)

DEVICE = made("device", "device", path="/nora/bench")
ITSELF = Given("token", "/token/<device.tokenId>", None, method="GET")
KNOWN = {"id": "<device>", "path": "/nora/bench", "generation": ANYTHING}


def _plain_and_indented(one: Scenario) -> Iterator[Scenario]:
    yield one
    params = {**one.params, "pretty": "1"}
    yield replace(one, name=f"{one.name}: indented", params=params, is_indented=True)


def _told(kind: str) -> tuple[Given, ...]:
    """A document that was told once, by the owner or by the device, and the drop that tells it."""
    secret = "<token.tokenString>" if kind == "reported" else None
    return (
        *FLOWS,
        DEVICE,
        ITSELF,
        Given("before", f"/device/<device>/{kind}", {"values": {"n": 1}}, secret=secret),
        Given("drop", "/drop/<properties>", None, method="GET"),
    )


def _effects(kind: str, members: str) -> tuple[str, ...]:
    return (
        f"device changed: <device> ({members})",
        "row ended in /nora/bench/properties: replace <drop>",
        "row begun in /nora/bench/properties: replace <drop>",
        "flowDropAdded of <properties> +1",
        "dropCreatedBy of <nora> +1",
    )


def _documents() -> Iterator[Scenario]:
    yield from _plain_and_indented(
        Scenario(
            name="the documents of a device are read",
            given=_told("desired"),
            method="GET",
            target="/device/<device>/properties",
            secret="<token.tokenString>",
            answer={
                "desired": {"values": {"n": 1}, "version": 1},
                "reported": {"values": {}, "version": 0},
                "generation": ANYTHING,
            },
        )
    )
    yield from _plain_and_indented(
        Scenario(
            name="what is desired of a device is changed by a patch",
            given=_told("desired"),
            method="POST",
            target="/device/<device>/desired",
            body={"patch": {"n": None, "m": {"x": True}}, "version": 1},
            answer={"values": {"m": {"x": True}}, "version": 2, "generation": ANYTHING},
            effects=_effects("desired", "desired, desiredVersion, lastEditDate, last_edit_date"),
        )
    )
    yield Scenario(
        name="what is desired of a device is not changed over a change of somebody else",
        given=_told("desired"),
        method="POST",
        target="/device/<device>/desired",
        body={"patch": {"n": 2}, "version": 0},
        status=409,
        errors=("version: is 1, not 0",),
    )
    yield Scenario(
        name="what is desired already changes nothing",
        given=_told("desired"),
        method="POST",
        target="/device/<device>/desired",
        body={"values": {"n": 1}},
        answer={"values": {"n": 1}, "version": 1, "generation": ANYTHING},
    )
    yield from _plain_and_indented(
        Scenario(
            name="a device reports its properties",
            given=_told("reported"),
            method="POST",
            target="/device/<device>/reported",
            secret="<token.tokenString>",
            body={"values": {"firmware": "2.1"}},
            answer={"version": 2, "generation": ANYTHING},
            effects=_effects("reported", "lastSeen, reported, reportedVersion"),
        )
    )
    yield Scenario(
        name="an owner does not report for a device",
        given=_told("reported"),
        method="POST",
        target="/device/<device>/reported",
        body={"values": {}},
        status=403,
        errors=("reported: it takes the right of the Device's own Token to report its properties",),
    )


FLEET = tuple(
    Given(name, "/flow", {"path": f"/nora/devices/bench-1/{name}"})
    for name in ("default", "commands", "reports", "properties")
)
SURE = made("maker", "provisioning-token", autoApprove=True)
BEGUN = Given(
    "operation",
    "/provisioning",
    {"nonce": "1" * 32, "deviceId": "Bench-1"},
    secret="<maker.provisioningToken>",
)


def _becoming() -> Iterator[Scenario]:
    yield Scenario(
        name="a device that asks again gets the operation that it has begun",
        given=(SURE, BEGUN),
        method="POST",
        target="/provisioning",
        secret="<maker.provisioningToken>",
        body={"nonce": "1" * 32, "deviceId": "Bench-1"},
        answer={
            **WAITS,
            "id": "<operation>",
            "creationDate": "<operation.creationDate>",
            "creatorId": "<nora>",
            "status": "approved",
            "deviceId": "Bench-1",
        },
    )
    yield Scenario(
        name="an owner begins no provisioning",
        method="POST",
        target="/provisioning",
        body={"nonce": "1" * 32},
        status=403,
        errors=("provisioning: to begin one it takes the right of a provisioning token",),
    )
    yield from _plain_and_indented(
        Scenario(
            name="an approved device becomes one of the account",
            given=(*FLEET, SURE, BEGUN),
            method="POST",
            target="/provisioning/<operation>/complete",
            secret="<maker.provisioningToken>",
            body={"nonce": "1" * 32},
            answer={
                "status": "approved",
                "deviceId": "Bench-1",
                "id": "<device>",
                "tokenId": "<token>",
                "path": "/nora/devices/bench-1",
                "generation": ANYTHING,
                "tokenString": ANYTHING,
            },
            effects=(
                "device made: <device>",
                "token made: <token>",
                "secret made: <token>",
                "provisioning changed: <operation> (registeredAs)",
                "inbox of nora: CREATE DEVICE <device>",
                "inbox of nora: CREATE TOKEN <token>",
            ),
        )
    )
    yield from _plain_and_indented(
        Scenario(
            name="a device renews its token",
            given=(*FLOWS, DEVICE, ITSELF),
            method="POST",
            target="/device/<device>/refresh",
            secret="<token.tokenString>",
            body={},
            answer={**KNOWN, "tokenId": "<new>", "tokenString": ANYTHING},
            effects=(
                "device changed: <device> (lastSeen, state, status, tokenId)",
                "token made: <new>",
                "secret made: <new>",
                "token changed: <device.tokenId> (duration)",
                "secret changed: <device.tokenId>",
                "inbox of nora: CREATE TOKEN <new>",
            ),
        )
    )


TABLE = (*crud(TOKEN), *crud(OPERATION), *_documents(), *_becoming())
"""Scenarios of provisioning, and of the documents of devices."""
