"""How a device comes to its credential, and keeps it: provisioning, then refreshing for ever.

A device that was approved once is never sent back to a person as long as the platform still knows
one of its tokens: the stored Token is tried first, then its renewal, then its renewal with the
provisioning token beside it; only when all that is refused does a new operation begin.

Everything that must survive stands in the device's file: the nonce before it is first shown, the
operation, the Token before it is first used.

Source: ``docs/reference/devices.rst`` (operations, renewal).
"""

from __future__ import annotations

import hashlib
import json
import logging
import secrets
import socket
import ssl
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from threading import Event
from time import monotonic
from typing import Any, Protocol

from flowkit.device import bounds
from flowkit.device.file import crash_point
from flowkit.device.link import HttpLink
from flowkit.device.pauses import about_s, backoff_s
from flowkit.errors import (
    DeadlineExceeded,
    FlowKitError,
    Forbidden,
    PlatformError,
    TransportError,
)

__all__ = ["Notes", "ProvisioningOperation", "Registrar", "Registration"]

_log = logging.getLogger(__name__)

_NAME_TRIES = 5
"""How often a host name may fail to be found before it is taken for a wrong one."""

_DEAD = frozenset({401, 403, 404})


class Notes(Protocol):
    """Small values that survive; an ``Outbox`` is one."""

    def keep(self, name: str, value: Any) -> None:
        """Store *value* under *name*; on disk on return."""

    def kept(self, name: str) -> Any:
        """The value under *name*; None for none."""


@dataclass(frozen=True, slots=True)
class ProvisioningOperation:
    """An operation that waits for somebody's approval.

    Attributes:
        id: its id.
        verification_code: what the approver compares with the device's display.
        expiration_time: until when it can be approved, RFC 3339.
    """

    id: str
    verification_code: str
    expiration_time: str


@dataclass(frozen=True, slots=True)
class Registration:
    """Who the device is to the platform.

    Attributes:
        device_id: the name of the device, as it was finally chosen.
        object_id: the id of its resource.
        path: where its Flows are.
        token: its credential.
        expires_ms: when that ends, in ms since 1970 by the server's clock; None for never.
        requested: the name that was asked for; None for none.
        origin: a digest of the host, the account and the provisioning token that led to it.
    """

    device_id: str
    object_id: str
    path: str
    token: str
    expires_ms: int | None
    requested: str | None
    origin: str

    def __repr__(self) -> str:
        return f"<Registration of {self.device_id}>"


Display = Callable[[ProvisioningOperation], object]


class Registrar:
    """Obtains and renews the credential of one device.

    Args:
        link: the platform; its token is set to whatever has to be shown.
        provisioning_token: its secret.
        notes: where things survive.
        device_id: the name to ask for; None leaves it to the token or the approver.
        display: shows an operation to people.
    """

    def __init__(
        self,
        link: HttpLink,
        provisioning_token: str,
        notes: Notes,
        *,
        device_id: str | None,
        display: Display,
    ) -> None:
        self._link = link
        self._secret = provisioning_token
        self._notes = notes
        self._wanted = device_id
        self._display = display
        self._operation: ProvisioningOperation | None = None
        self._trouble = ""
        about = json.dumps([link.url, link.account, provisioning_token]).encode()
        self._origin = hashlib.sha256(about).hexdigest()

    def stored(self) -> Registration | None:
        """What an earlier run has obtained from the same platform, for the same name."""
        said = self._notes.kept("registration")
        if not isinstance(said, dict):
            return None
        found = Registration(**said)
        same = found.origin == self._origin and self._wanted in (None, found.requested)
        return found if same else None

    def obtain(self, ended: Event, deadline: float | None) -> Registration:
        """Provision: until somebody has approved, or it cannot be.

        Args:
            ended: set when nobody waits any more.
            deadline: on the monotonic clock; the operation goes on and the next call resumes it.

        Raises:
            DeadlineExceeded: the time was up.
            Forbidden: the token is refused, or the operation was rejected.
            TransportError: the host is a wrong one, or its certificate is not trusted.
        """
        failures = 0
        while not ended.is_set():
            try:
                found = self._attempt()
            except (TransportError, PlatformError) as error:
                failures += 1
                if _is_final(error, failures):
                    raise
                _log.warning("provisioning: %s", error)
                self._trouble = str(error)
                pause_s = max(backoff_s(failures), getattr(error, "retry_after_s", None) or 0.0)
            else:
                if found is not None:
                    return found
                failures, self._trouble = 0, ""
                pause_s = about_s(bounds.provisioning_poll_s)
            left_s = pause_s if deadline is None else min(pause_s, deadline - monotonic())
            if left_s <= 0:
                raise DeadlineExceeded(self.why_not_yet())
            ended.wait(left_s)
        raise DeadlineExceeded("the device was closed before it was approved")

    def why_not_yet(self) -> str:
        """What a caller whose time is up is told."""
        if self._trouble:
            return f"the device could not ask to be approved: {self._trouble}"
        return "nobody has approved the device in time"

    def _attempt(self) -> Registration | None:
        """One step: begin an operation, or ask how it is."""
        self._link.set_token(self._secret)
        note = self._notes.kept("provisioning") or {}
        if note.get("origin") != self._origin:
            note = {"nonce": secrets.token_hex(16), "origin": self._origin, "operation": None}
            self._notes.keep("provisioning", note)
        if note["operation"] is None:
            self._operation = self._begin(note["nonce"])
            note["operation"] = self._operation.id
            self._notes.keep("provisioning", note)
        asked = json.dumps({"nonce": note["nonce"]}).encode()
        crash_point("operation kept")
        try:
            said = self._link.ask("POST", ("provisioning", note["operation"], "complete"), asked)
        except PlatformError as error:
            if error.status != 404:
                raise
            self._forget_operation()  # swept away, or the server went back
            return None
        status = said.body.get("status")
        if status == "rejected":
            self._forget_operation()
            raise Forbidden("the provisioning of this device was rejected", status=403)
        if status == "expired":
            self._forget_operation()
        if status == "pending" and self._operation is not None:
            operation, self._operation = self._operation, None
            self._display(operation)
        return self._registered(said.body) if status == "approved" else None

    def _begin(self, nonce: str) -> ProvisioningOperation:
        asked = {"nonce": nonce} | ({"deviceId": self._wanted} if self._wanted else {})
        said = self._link.ask("POST", ("provisioning",), json.dumps(asked).encode()).body
        until = datetime.fromtimestamp(said["expiresAt"] / 1000, UTC).isoformat(timespec="seconds")
        return ProvisioningOperation(said["id"], said["code"], until)

    def _forget_operation(self) -> None:
        self._notes.keep("provisioning", None)

    def _registered(self, said: dict[str, Any]) -> Registration:
        made = Registration(
            said["deviceId"],
            said["id"],
            said["path"],
            said["tokenString"],
            said.get("expiresAt"),
            self._wanted,
            self._origin,
        )
        self._keep(made)
        self._forget_operation()
        return made

    def _keep(self, registration: Registration) -> None:
        crash_point("registered")
        self._notes.keep("registration", asdict(registration))
        self._link.set_token(registration.token)

    def renew(self, present: Registration) -> Registration | None:
        """A new Token for the present one; None when the platform knows neither.

        Raises:
            TransportError, PlatformError: it could not be asked; the present one stays.
        """
        address = ("device", present.object_id, "refresh")
        self._link.set_token(present.token)
        try:
            said = self._link.ask("POST", address).body
        except PlatformError as error:
            if error.status not in _DEAD:
                raise
            shown = json.dumps({"registrationToken": present.token}).encode()
            self._link.set_token(self._secret)
            try:
                said = self._link.ask("POST", address, shown).body
            except PlatformError as again:
                if again.status not in _DEAD:
                    raise
                return None
        finally:
            self._link.set_token(present.token)
        made = replace(present, token=said["tokenString"], expires_ms=said.get("expiresAt"))
        self._keep(made)
        return made

    def renewal_in_s(self, registration: Registration, now_s: float) -> float | None:
        """Seconds until half of what is left of the Token's life; None if it does not end.

        Args:
            now_s: seconds since 1970 by this device's clock; its answers tell the server's.
        """
        if registration.expires_ms is None:
            return None
        left_s = registration.expires_ms / 1000 - (now_s + self._link.clock_ahead_s)
        return max(0.0, about_s(left_s / 2))


def _is_final(error: FlowKitError, failures: int) -> bool:
    """Whether trying again cannot help."""
    if isinstance(error, PlatformError):
        return 400 <= error.status < 500 and error.status not in (408, 409, 423, 429)
    cause = error.__cause__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return True
    unknown = isinstance(cause, socket.gaierror) and cause.errno != socket.EAI_AGAIN
    return unknown and failures >= _NAME_TRIES
