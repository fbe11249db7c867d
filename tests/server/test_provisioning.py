"""Provisioning: from a token in a box of many devices to a device of its own, and on from there."""

from __future__ import annotations

import re
from urllib.parse import quote

import apsw
import pytest

from flowkit import limits
from flowkit.server.store.fleet import DEVICE_AT, DEVICE_NAMED, OPERATION_QUERIES
from flowkit.server.store.sqlite import FILE_NAME
from flowkit.server.store.verify import verify
from tests.server.visitor import Visitor, visiting

NONCE = "5f" * 16
OTHER = "a0" * 16


def as_token(nora, string):
    """Somebody with that token of nora's."""
    return Visitor(nora.app, nora.clock, "nora", string)


def maker(nora, **members):
    """Somebody with a new provisioning token."""
    made = nora.ask("POST", "/provisioning-token", members)
    assert made.status == 201, made.errors
    return as_token(nora, made.body["provisioningToken"])


def begun(who, device_id=None, nonce=NONCE):
    """The operation of a device."""
    body = {"nonce": nonce, **({"deviceId": device_id} if device_id else {})}
    made = who.ask("POST", "/provisioning", body)
    assert made.status in (200, 201), made.errors
    return made.body


def completed(who, operation, nonce=NONCE):
    """What completing it answers."""
    made = who.ask("POST", f"/provisioning/{operation['id']}/complete", {"nonce": nonce})
    assert made.status == 200, made.errors
    return made.body


def decide(nora, operation, status="approved", **members):
    """The owner's word."""
    return nora.ask("PUT", f"/provisioning/{operation['id']}", {"status": status, **members})


def registered(nora, device_id="Bench-3", **members):
    """A device that came all the way; what it was told, and it."""
    told = completed(who := maker(nora, autoApprove=True, **members), begun(who, device_id))
    assert told["status"] == "approved"
    return told, as_token(nora, told["tokenString"])


def test_a_device_becomes_one_of_the_account(nora):
    """It asks, shows a code, is approved, and gets a Token that does what a device needs."""
    asker = maker(nora)
    operation = begun(asker, "Bench-3")
    assert re.fullmatch("[BCDFGHJKLMNPQRSTVWXZ]{4}-[BCDFGHJKLMNPQRSTVWXZ]{4}", operation["code"])
    assert (operation["status"], operation["deviceId"]) == ("pending", "Bench-3")
    assert operation["expiresAt"] == nora.clock.now_ms + limits.provisioning_expiry_ms
    assert completed(asker, operation)["status"] == "pending"

    found = nora.ask("GET", f"/provisioning?filter={quote('code == ' + repr(operation['code']))}")
    assert [one["id"] for one in found.body] == [operation["id"]]
    assert decide(nora, operation).body["status"] == "approved"
    told = completed(asker, operation)

    assert told["path"] == "/nora/devices/bench-3"
    device = as_token(nora, told["tokenString"])
    for name in ("default", "reports"):
        body = {"path": f"{told['path']}/{name}", "elems": {"n": 1}}
        assert device.ask("POST", "/drop", body).status == 201
    seen = nora.ask("GET", f"/device/{told['id']}").body
    assert (seen["deviceId"], seen["status"], seen["timeSinceLastSeen"]) == ("Bench-3", "OK", 0)
    assert nora.ask("GET", f"/provisioning/{operation['id']}").body["registeredAs"] == told["id"]


def test_a_device_that_asks_again_gets_its_operation_back(nora):
    """By its nonce; another device has another one."""
    asker = maker(nora)
    first = begun(asker, "Bench-3")

    assert begun(asker, "Bench-3") == first
    assert begun(asker, "Bench-4", OTHER)["id"] != first["id"]
    assert len(nora.ask("GET", "/provisioning").body) == 2


def test_nobody_else_completes_an_operation(nora):
    """Neither another nonce, nor another provisioning token, nor the owner or a Token."""
    asker = maker(nora)
    operation = begun(asker)
    decide(nora, operation)
    place = f"/provisioning/{operation['id']}/complete"

    assert asker.ask("POST", place, {"nonce": OTHER}).status == 404
    assert maker(nora).ask("POST", place, {"nonce": NONCE}).status == 404
    assert nora.ask("POST", place, {"nonce": NONCE}).status == 403
    assert asker.ask("POST", place, {"nonce": "short"}).status == 400


def test_a_rejected_operation_stays_so(nora):
    """The device is told, the owner cannot approve it any more, and it may begin again."""
    asker = maker(nora)
    operation = begun(asker)
    assert decide(nora, operation, "rejected").status == 200

    assert completed(asker, operation)["status"] == "rejected"
    assert decide(nora, operation).status == 409
    assert begun(asker)["id"] != operation["id"]


def test_an_operation_expires(nora):
    """Undecided or approved; it cannot be approved then, and goes a while later."""
    asker = maker(nora)
    first, second = begun(asker), begun(asker, nonce=OTHER)
    decide(nora, second)
    nora.clock.now_ms += limits.provisioning_expiry_ms

    assert completed(asker, first)["status"] == "expired"
    assert completed(asker, second, OTHER)["status"] == "expired"
    assert decide(nora, first).status == 409
    nora.clock.now_ms += limits.provisioning_kept_ms
    third = begun(asker)
    assert [one["id"] for one in nora.ask("GET", "/provisioning").body] == [third["id"]]


def test_completing_again_ends_the_token_before(nora):
    """An answer may have been lost; the device stays what it is."""
    asker = maker(nora)
    operation = begun(asker, "Bench-3")
    decide(nora, operation)
    first, second = completed(asker, operation), completed(asker, operation)

    assert first["id"] == second["id"]
    assert as_token(nora, first["tokenString"]).ask("GET", "/flow").status == 403
    assert as_token(nora, second["tokenString"]).ask("GET", "/flow").status == 200
    assert len(nora.ask("GET", "/token").body) == 1


MODES = [
    # mode, of the token, asked for, by the approver: what it becomes, None: refused
    ("any", "own-1", "asked-1", "said-1", "said-1"),
    ("any", "own-1", "asked-1", None, "asked-1"),
    ("any", "own-1", None, None, "own-1"),
    ("device", "own-1", "asked-1", None, "asked-1"),
    ("device", "own-1", "asked-1", "said-1", None),
    ("device", "own-1", None, None, "own-1"),
    ("token", "own-1", "asked-1", None, "own-1"),
    ("token", "own-1", "asked-1", "said-1", None),
    ("approver", None, "asked-1", "said-1", "said-1"),
    ("approver", None, "asked-1", None, None),
    ("approver", "own-1", "asked-1", None, "own-1"),
]


@pytest.mark.parametrize(("mode", "own", "asked", "said", "becomes"), MODES)
def test_who_chooses_the_device_id(nora, mode, own, asked, said, becomes):
    """By the mode of the provisioning token."""
    asker = maker(nora, deviceIdMode=mode, **({"deviceId": own} if own else {}))
    operation = begun(asker, asked)
    answer = decide(nora, operation, **({"deviceId": said} if said else {}))

    if becomes is None:
        assert answer.status == 400
        assert answer.errors[0].startswith("deviceId: ")
        assert completed(asker, operation)["status"] == "pending"
    else:
        assert completed(asker, operation)["deviceId"] == becomes


def test_a_device_that_nobody_names_gets_a_name(nora):
    """So many devices with one token need no configuration at all."""
    told, _ = registered(nora, None)

    assert re.fullmatch("device-[0-9a-f]{24}", told["deviceId"])


@pytest.mark.parametrize("bad", ["abc", "x" * 91, "with space", "späte", "a/b/c", ""])
def test_a_device_id_has_a_rule(nora, bad):
    """Wherever it comes from."""
    asker = maker(nora)
    assert asker.ask("POST", "/provisioning", {"nonce": NONCE, "deviceId": bad}).status == 400
    assert decide(nora, begun(asker), deviceId=bad).status == 400
    assert nora.ask("POST", "/provisioning-token", {"deviceId": bad}).status == 400
    assert nora.ask("POST", "/device", {"path": "/nora/x", "deviceId": bad}).status == 400


def test_a_device_id_stands_for_one_device(nora):
    """Whatever the case of its letters; its approver is told which one it takes over."""
    told, old = registered(nora)
    body = {"path": "/nora/elsewhere", "deviceId": "BENCH-3"}
    assert nora.ask("POST", "/device", body).status == 409
    asker = maker(nora)
    operation = begun(asker, "bENCH-3")
    assert operation["replaces"] == told["id"]
    decide(nora, operation)
    again = completed(asker, operation)

    assert (again["id"], again["deviceId"]) == (told["id"], "Bench-3")
    assert again["generation"] == told["generation"]
    assert old.ask("GET", "/flow").status == 403


def test_a_device_that_is_there_is_not_taken_over_without_a_person(nora):
    """Unless it comes with the token that it came with before."""
    asker = maker(nora, autoApprove=True)
    first = completed(asker, begun(asker, "Bench-3"))

    assert begun(maker(nora, autoApprove=True), "Bench-3")["status"] == "pending"
    again = begun(asker, "Bench-3", OTHER)
    assert completed(asker, again, OTHER)["id"] == first["id"]


@pytest.mark.parametrize("how", ["by itself", "by a person"])
def test_an_approval_does_not_hold_for_a_device_that_came_after_it(nora, how):
    """The id was free when it was agreed; who has it by now keeps it until somebody agrees."""
    asker = maker(nora, autoApprove=how == "by itself")
    operation = begun(asker, "pump-1")
    if how == "by a person":
        decide(nora, operation)
    made = nora.ask("POST", "/device", {"path": "/nora/pump", "deviceId": "Pump-1"}).body
    string = nora.ask("GET", f"/token/{made['tokenId']}").body["tokenString"]

    told = completed(asker, operation)
    assert (told["status"], set(told)) == ("pending", {"status", "expiresAt"})
    assert as_token(nora, string).ask("GET", f"/device/{made['id']}").status == 200
    (waits,) = nora.ask("GET", "/provisioning").body
    assert (waits["status"], waits["replaces"]) == ("pending", made["id"])
    assert begun(asker, "pump-1")["id"] == operation["id"]

    assert decide(nora, operation).status == 200
    assert completed(asker, operation)["id"] == made["id"]
    assert completed(asker, operation)["id"] == made["id"]
    assert as_token(nora, string).ask("GET", f"/device/{made['id']}").status == 403


def test_too_many_devices_wait(nora, monkeypatch):
    """Of one token and of the account: 429, and those that wait already are answered."""
    monkeypatch.setattr(limits, "provisioning_pending_per_token_max", 2)
    monkeypatch.setattr(limits, "provisioning_pending_per_account_max", 3)
    first, second = maker(nora), maker(nora)
    for nonce in ("1" * 32, "2" * 32):
        begun(first, nonce=nonce)
    begun(second, nonce="3" * 32)
    for asker in (first, second):
        refused = asker.ask("POST", "/provisioning", {"nonce": "4" * 32})
        assert refused.status == 429
        assert refused.response.headers["retry-after"] == "60"

    assert begun(first, nonce="2" * 32)["status"] == "pending"


def test_a_provisioning_token_ends(nora):
    """By its duration, or removed, with what was begun with it."""
    short = maker(nora, duration=5_000)
    nora.clock.now_ms += 5_000
    assert short.ask("POST", "/provisioning", {"nonce": NONCE}).status == 403
    gone = maker(nora)
    begun(gone)
    (one,) = nora.ask("GET", "/provisioning-token").body
    assert nora.ask("DELETE", f"/provisioning-token/{one['id']}").status == 200

    assert gone.ask("POST", "/provisioning", {"nonce": NONCE}).status == 403
    assert nora.ask("GET", "/provisioning").body == []


@pytest.mark.parametrize(
    "members",
    [
        {"deviceIdMode": "mine"},
        {"deviceIdMode": "token"},
        {"deviceIdMode": "approver", "autoApprove": True},
    ],
)
def test_a_provisioning_token_that_cannot_work_is_refused(nora, members):
    """When it is made, not when a thousand devices come with it."""
    assert nora.ask("POST", "/provisioning-token", members).status == 400


def test_secrets_that_are_not_kept_are_told_once(tmp_path):
    """The provisioning token and the Token of the device alike."""
    with visiting(tmp_path / "data", keep_token_strings=False) as (nora, _):
        asker = maker(nora, autoApprove=True)
        told = completed(asker, begun(asker, "Bench-3"))
        shown = nora.ask("GET", "/provisioning-token").body + nora.ask("GET", "/token").body

        assert as_token(nora, told["tokenString"]).ask("GET", "/flow").status == 200
        assert len(shown) == 2
        stored = b"".join(file.read_bytes() for file in (tmp_path / "data").iterdir())
        assert told["tokenId"].encode() in stored
        for secret in (asker.token, told["tokenString"], NONCE):
            assert secret.encode() not in stored
        assert not any({"tokenString", "provisioningToken"} & set(one) for one in shown)


# Renewing


def test_a_token_is_renewed_and_works_on_for_a_while(nora):
    """The old one for an hour, the new one as long as the provisioning token says."""
    day = 24 * 3_600_000
    told, old = registered(nora, registrationDuration=day)
    assert told["expiresAt"] == nora.clock.now_ms + day
    new = old.ask("POST", f"/device/{told['id']}/refresh").body
    young = as_token(nora, new["tokenString"])

    assert new["expiresAt"] == nora.clock.now_ms + day
    assert old.ask("GET", f"/device/{told['id']}").status == 200
    assert young.ask("GET", f"/device/{told['id']}").status == 200
    nora.clock.now_ms += limits.registration_grace_ms
    assert old.ask("GET", f"/device/{told['id']}").status == 403
    assert young.ask("GET", f"/device/{told['id']}").status == 200


def test_a_token_that_is_renewed_again_in_its_grace_ends_the_new_one(nora):
    """The answer with that one was lost, or is somebody else's."""
    told, old = registered(nora)
    place = f"/device/{told['id']}/refresh"
    lost = as_token(nora, old.ask("POST", place).body["tokenString"])
    new = as_token(nora, old.ask("POST", place).body["tokenString"])

    assert lost.ask("GET", "/flow").status == 403
    assert old.ask("GET", "/flow").status == new.ask("GET", "/flow").status == 200


def test_a_new_token_that_renews_ends_the_old_one_for_good(nora):
    """Its grace is over then."""
    told, old = registered(nora)
    place = f"/device/{told['id']}/refresh"
    new = as_token(nora, old.ask("POST", place).body["tokenString"])
    newer = as_token(nora, new.ask("POST", place).body["tokenString"])

    assert old.ask("POST", place).status == 403
    assert new.ask("GET", "/flow").status == newer.ask("GET", "/flow").status == 200
    assert len(nora.ask("GET", "/token").body) == 2


def test_an_expired_token_is_renewed_with_a_provisioning_token(nora):
    """The approval is remembered, though the account has made other Tokens since (D5)."""
    told, old = registered(nora, registrationDuration=60_000)
    nora.clock.now_ms += 3_600_000
    place = f"/device/{told['id']}/refresh"
    nora.ask("POST", "/token", {"paths": {"/nora/x": {"dropRead": True}}})  # sweeps
    assert old.ask("POST", place).status == 403
    new = maker(nora).ask("POST", place, {"registrationToken": told["tokenString"]})

    assert new.status == 200
    assert new.body["expiresAt"] == nora.clock.now_ms + 60_000
    young = as_token(nora, new.body["tokenString"])
    assert young.ask("GET", f"/device/{told['id']}").body["status"] == "OK"


def test_only_the_own_token_renews(nora):
    """Not the owner's, not another device's, not a provisioning token alone."""
    told, device = registered(nora)
    other = nora.ask("POST", "/device", {"path": "/nora/other"}).body
    place, body = f"/device/{told['id']}/refresh", {"registrationToken": told["tokenString"]}

    assert nora.ask("POST", place).status == 403
    assert device.ask("POST", f"/device/{other['id']}/refresh").status == 404
    asker = maker(nora)
    assert asker.ask("POST", place).status == 400
    assert asker.ask("POST", place, {"registrationToken": "x" * 28}).status == 403
    assert asker.ask("POST", f"/device/{other['id']}/refresh", body).status == 403


@pytest.mark.parametrize("what", ["device", "token"])
def test_who_removes_a_device_or_its_token_means_all_of_it(nora, what):
    """The Token in its grace, the renewing of an expired one, the approval."""
    asker = maker(nora)
    operation = begun(asker, "Bench-3")
    decide(nora, operation)
    told = completed(asker, operation)
    old = as_token(nora, told["tokenString"])
    place = f"/device/{told['id']}/refresh"
    new = as_token(nora, old.ask("POST", place).body["tokenString"])
    gone = told["id"] if what == "device" else nora.ask("GET", place[:-8]).body["tokenId"]
    assert nora.ask("DELETE", f"/{what}/{gone}").status == 200

    assert old.ask("GET", "/flow").status == new.ask("GET", "/flow").status == 403
    renewed = asker.ask("POST", place, {"registrationToken": new.token})
    assert renewed.status in (403, 404)
    assert (
        asker.ask("POST", f"/provisioning/{operation['id']}/complete", {"nonce": NONCE}).status
        == 404
    )
    assert nora.ask("GET", "/token").body == []


def test_a_device_whose_token_was_removed_does_not_come_back_by_itself(nora):
    """A stolen one has the provisioning token, too; one whose Token has expired may."""
    asker = maker(nora, autoApprove=True, registrationDuration=1_000)
    told = completed(asker, begun(asker, "Bench-3"))
    nora.clock.now_ms += 2_000
    again = begun(asker, "Bench-3", nonce=OTHER)
    assert again["status"] == "approved"
    assert completed(asker, again, OTHER)["id"] == told["id"]
    left = begun(asker, "Bench-3", nonce="b1" * 16)
    token_id = nora.ask("GET", f"/device/{told['id']}").body["tokenId"]
    assert nora.ask("DELETE", f"/token/{token_id}").status == 200

    place = f"/provisioning/{left['id']}/complete"
    assert asker.ask("POST", place, {"nonce": "b1" * 16}).status == 404
    waits = begun(asker, "Bench-3", nonce="c2" * 16)
    assert (waits["status"], waits["replaces"]) == ("pending", told["id"])
    assert completed(asker, waits, "c2" * 16)["status"] == "pending"
    assert nora.ask("GET", f"/device/{told['id']}").body["status"] == "DISABLED"
    decide(nora, waits)
    assert completed(asker, waits, "c2" * 16)["id"] == told["id"]


def test_a_device_that_is_made_again_is_another_generation(nora):
    """Its id is the same, what is remembered of it is not true any more."""
    told, _ = registered(nora)
    assert nora.ask("DELETE", f"/device/{told['id']}").status == 200
    again, _ = registered(nora)

    assert again["deviceId"] == told["deviceId"]
    assert again["generation"] != told["generation"]


@pytest.mark.parametrize("keep", [True, False])
def test_a_repeated_request_gets_the_same_token(tmp_path, keep):
    """No second one is made; a string that is not kept is not told again."""
    with visiting(tmp_path / "data", keep_token_strings=keep) as (nora, _):
        asker = maker(nora, autoApprove=True)
        place = f"/provisioning/{begun(asker)['id']}/complete"
        first, again = (
            asker.ask("POST", place, {"nonce": NONCE}, headers={"x-request-id": "once"})
            for _ in range(2)
        )

        assert first.body["tokenId"] == again.body["tokenId"]
        assert ("tokenString" in again.body) is keep
        assert as_token(nora, first.body["tokenString"]).ask("GET", "/flow").status == 200


def test_the_fleet_stands_in_the_figures(nora):
    """Devices ever and within a day, operations that wait, what was asked for."""
    told, device = registered(nora)
    nora.ask("POST", "/device", {"path": "/nora/never"})
    begun(maker(nora))
    device.ask("POST", f"/device/{told['id']}/refresh")

    def figures():
        page = nora.app.metrics.page().decode()
        return dict(
            re.findall(r"^(flowkit_(?:devices|provisioning)\S*) (\S+)$", page, re.MULTILINE)
        )

    assert figures() == {
        'flowkit_devices{seen="ever"}': "2.0",
        'flowkit_devices{seen="day"}': "1.0",
        "flowkit_provisioning_pending": "1.0",
        'flowkit_provisioning_total{outcome="begun"}': "2.0",
        'flowkit_provisioning_total{outcome="registered"}': "1.0",
        'flowkit_provisioning_total{outcome="renewed"}': "1.0",
    }
    nora.clock.now_ms += limits.device_seen_ms
    assert figures()['flowkit_devices{seen="day"}'] == "0.0"
    assert figures()["flowkit_provisioning_pending"] == "0.0"


def test_verify_finds_a_device_id_that_two_have(nora):
    """Whatever the case of its letters; and provisioning leaves a sound store."""
    registered(nora, "Bench-3")
    registered(nora, "bench-4")
    begun(maker(nora))
    file = nora.app.settings.data / FILE_NAME
    assert verify(file) == []
    connection = apsw.Connection(str(file))
    connection.execute(
        "UPDATE object SET doc = jsonb_set(doc, '$.deviceId', 'bENCH-3')"
        " WHERE kind = 'device' AND json_extract(doc, '$.deviceId') = 'bench-4'"
    )
    connection.close()

    assert verify(file) == ["1 devices have the same deviceId as another of their account"]


def test_a_fleet_may_have_more_tokens_than_an_account_makes(nora, monkeypatch):
    """Each device has its own, and for a while the one before; the account's bound is as ever."""
    monkeypatch.setattr(limits, "objects_max", 3)
    for n in range(3):
        told, device = registered(nora, f"bench-{n}")
        assert device.ask("POST", f"/device/{told['id']}/refresh").status == 200
        for one in nora.ask("GET", "/provisioning-token").body:
            nora.ask("DELETE", f"/provisioning-token/{one['id']}")
    assert len(nora.ask("GET", "/token").body) == 6
    body = {"paths": {"/nora/x": {"dropRead": True}}}
    statuses = [nora.ask("POST", "/token", body).status for _ in range(4)]

    assert statuses == [201, 201, 201, 400]


def test_devices_and_operations_are_looked_up_by_indexes(nora):
    """However many there are, and however large what they said of themselves is."""
    connection = apsw.Connection(str(nora.app.settings.data / FILE_NAME))
    for statement in (DEVICE_NAMED, DEVICE_AT, *OPERATION_QUERIES):
        wanted = ["x"] * (3 if "?1" in statement else statement.count("?"))
        plan = connection.execute(f"EXPLAIN QUERY PLAN {statement}", wanted).fetchall()
        assert re.search("SEARCH object USING (COVERING )?INDEX (device|operation)_by", plan[0][3])
    connection.close()
