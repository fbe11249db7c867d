"""A device gets on with any Token that it was given last or before that, whatever order things
come in; beside a model of a few lines.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from flowkit import limits
from tests.server.visitor import Visitor, visiting

NONCE = "9e" * 16
LIFE_MS = 3 * limits.registration_grace_ms


class Registration(RuleBasedStateMachine):
    """One device; ``own`` and ``before`` are the Tokens that the model says it can use."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.visiting = visiting(Path(self.folder.name) / "data")
        self.nora, _ = self.visiting.__enter__()
        members = {"autoApprove": True, "registrationDuration": LIFE_MS}
        made = self.nora.ask("POST", "/provisioning-token", members).body
        self.maker = self.as_token(made["provisioningToken"])
        self.given: dict[str, int] = {}  # every string ever given, and when it ends
        self.own: str | None = None
        self.before: str | None = None
        self.device = ""
        self.is_disabled = False  # it is there, and its Tokens were removed
        self.operation = self.begun()
        self.complete()

    def teardown(self) -> None:
        """Close the platform."""
        self.visiting.__exit__(None, None, None)
        self.folder.cleanup()

    def as_token(self, string: str) -> Visitor:
        """Somebody with that token of nora's."""
        return Visitor(self.nora.app, self.nora.clock, "nora", string)

    @property
    def now_ms(self) -> int:
        """The time of the platform."""
        return self.nora.clock.now_ms

    def begun(self) -> str:
        """An operation that is approved: at once, or by a person where a Token was removed."""
        body = {"nonce": NONCE, "deviceId": "bench-3"}
        made = self.maker.ask("POST", "/provisioning", body).body
        assert made["status"] == ("pending" if self.is_disabled else "approved")
        if self.is_disabled:
            place = f"/provisioning/{made['id']}"
            assert self.nora.ask("PUT", place, {"status": "approved"}).status == 200
        return made["id"]

    def took(self, answer) -> None:
        """The device has a new Token."""
        assert answer.status == 200, answer.errors
        assert answer.body["expiresAt"] == self.now_ms + LIFE_MS
        self.own, self.device = answer.body["tokenString"], answer.body["id"]
        self.is_disabled = False
        self.given[self.own] = self.now_ms + LIFE_MS

    @rule()
    def complete(self) -> None:
        """Completing, again or for the first time, ends what was there."""
        place = f"/provisioning/{self.operation}/complete"
        answer = self.maker.ask("POST", place, {"nonce": NONCE})
        if answer.status == 404 or answer.body["status"] == "expired":
            self.operation = self.begun()
            answer = self.maker.ask(
                "POST", f"/provisioning/{self.operation}/complete", {"nonce": NONCE}
            )
        self.took(answer)
        self.before = None

    @rule(back=st.integers(0, 3), by_maker=st.booleans())
    def renew(self, back, by_maker) -> None:
        """With one of the last strings given, alone or beside the provisioning token."""
        used = [*self.given][-1 - min(back, len(self.given) - 1)]
        asker = self.maker if by_maker else self.as_token(used)
        body = {"registrationToken": used} if by_maker else {}
        answer = asker.ask("POST", f"/device/{self.device}/refresh", body)
        is_live = self.given[used] > self.now_ms
        if used not in (self.own, self.before) or not (by_maker or is_live):
            assert answer.status in (403, 404), used
            return
        if used == self.own:
            grace_ends = self.now_ms + limits.registration_grace_ms
            self.given[used] = min(self.given[used], grace_ends)
        self.before = used
        self.took(answer)

    @rule(part=st.sampled_from([0.6, 1.0, 3.5]))
    def wait(self, part) -> None:
        """Time goes by: less than a grace, a grace, more than a life; then the account makes a
        Token, which sweeps its expired ones but not those of the device.
        """
        self.nora.clock.now_ms += int(part * limits.registration_grace_ms)
        self.nora.ask("POST", "/token", {"paths": {"/nora/x": {"dropRead": True}}})

    @precondition(lambda self: self.own)
    @rule(what=st.sampled_from(["own", "before", "device"]))
    def remove(self, what) -> None:
        """Any of it means all of it."""
        ids = {one["tokenString"]: one["id"] for one in self.nora.ask("GET", "/token").body}
        gone = ids.get(getattr(self, what, "")) if what != "device" else self.device
        if gone is None:
            return  # there is none, or it has expired and is not shown
        kind = "device" if what == "device" else "token"
        assert self.nora.ask("DELETE", f"/{kind}/{gone}").status == 200
        self.own = self.before = None
        self.is_disabled = what != "device"

    @invariant()
    def only_those_work(self) -> None:
        """The model's Tokens while they live, and no other."""
        for string, ends in self.given.items():
            works = string in (self.own, self.before) and ends > self.now_ms
            status = self.as_token(string).ask("GET", "/flow").status
            assert status == (200 if works else 403), string


TestRegistration = Registration.TestCase
TestRegistration.settings = settings(max_examples=30, stateful_step_count=20, deadline=None)
