"""The services of devices: their documents, renewing a Token, and deciding who becomes one.

Source: ``docs/reference/devices.rst``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flowkit.client import finding
from flowkit.client.services import Service, verb
from flowkit.errors import Conflict, NotFound, UsageError
from flowkit.protocol.resources import RESOURCES
from flowkit.query.build import mem

__all__ = ["Devices", "Operations"]

_OPERATION = RESOURCES["provisioning"]


class Devices(Service):
    """Devices, and the two documents of each: what is desired of it, and what it reported."""

    @verb
    def properties(self, id: Any, **params: Any) -> Any:  # noqa: A002 - the contract's name
        """Both documents: ``{"desired": {"values", "version"}, "reported": {…}, "generation"}``."""
        return self._api.call("GET", self._place(finding.one_id(id), "properties"), params)

    @verb
    def patch_desired(
        self,
        id: Any,  # noqa: A002 - the contract's name
        patch: Mapping[str, Any],
        *,
        version: int | None = None,
        **params: Any,
    ) -> Any:
        """Change what is desired of a device by a merge patch: None removes a name.

        Args:
            id: of the device, or the device.
            patch: the changes.
            version: what the version must be now; None for whatever it is.

        Returns:
            ``{"values", "version", "generation"}`` as they are then.

        Raises:
            Conflict: the version is another one.
        """
        return self._change(id, "desired", {"patch": patch, "version": version}, params)

    @verb
    def set_desired(
        self,
        id: Any,  # noqa: A002 - the contract's name
        values: Mapping[str, Any],
        *,
        version: int | None = None,
        **params: Any,
    ) -> Any:
        """Replace what is desired of a device; as ``patch_desired``."""
        return self._change(id, "desired", {"values": values, "version": version}, params)

    @verb
    def patch_reported(self, id: Any, patch: Mapping[str, Any], **params: Any) -> Any:  # noqa: A002
        """Change what a device reported by a merge patch, with the Token of that device.

        Returns:
            ``{"version", "generation"}`` as they are then.
        """
        return self._change(id, "reported", {"patch": patch}, params)

    @verb
    def set_reported(self, id: Any, values: Mapping[str, Any], **params: Any) -> Any:  # noqa: A002
        """Replace what a device reported; as ``patch_reported``."""
        return self._change(id, "reported", {"values": values}, params)

    @verb
    def refresh(self, id: Any, registration_token: str | None = None, **params: Any) -> Any:  # noqa: A002
        """A new Token for the device, of which these credentials are; the old one ends in a while.

        Args:
            id: of the device.
            registration_token: the string of its Token, which may have expired, where these
                credentials are a provisioning token.

        Returns:
            ``{"tokenString", "tokenId", "id", "deviceId", "path", "generation", "expiresAt"}``.
        """
        body = {} if registration_token is None else {"registrationToken": registration_token}
        place = self._place(finding.one_id(id), "refresh")
        # An answer that is repeated may lack the string; asking anew gives another Token.
        return self._api.call("POST", place, params, body, is_repeatable=False)

    def _change(
        self,
        id: Any,  # noqa: A002 - the contract's name
        kind: str,
        change: Mapping[str, Any],
        params: dict[str, Any],
    ) -> Any:
        body = {name: value for name, value in change.items() if value is not None}
        return self._api.call("POST", self._place(finding.one_id(id), kind), params, body)


class Operations(Service):
    """Operations of provisioning: devices that ask to become one of this account."""

    @verb
    def begin(self, nonce: str, device_id: str | None = None, **params: Any) -> Any:
        """Begin an operation, or get the one that was begun with this nonce.

        For a device; the credentials are a provisioning token.

        Args:
            nonce: 32 to 64 hexadecimal digits that the device has drawn and keeps.
            device_id: the deviceId that it asks for.
        """
        asked = {"nonce": nonce, "deviceId": device_id}
        body = {name: value for name, value in asked.items() if value is not None}
        return self._api.call("POST", self._place(), params, body)

    @verb
    def complete(self, id: Any, nonce: str, **params: Any) -> Any:  # noqa: A002 - the contract's name
        """How far an operation is and, once it is approved, the Token of the device.

        Returns:
            ``{"status"}``; with ``"approved"`` also ``"tokenString"``, ``"id"``, ``"deviceId"``,
            ``"path"``, ``"generation"`` and, if the Token ends, ``"expiresAt"`` (ms).
        """
        place = self._place(finding.one_id(id), "complete")
        return self._api.call("POST", place, params, {"nonce": nonce}, is_repeatable=False)

    @verb
    def approve(self, operation: Any, device_id: str | None = None, **params: Any) -> Any:
        """Let the device of an operation become one of this account.

        Args:
            operation: the code that the device shows, the id of the operation, or the operation.
            device_id: the deviceId that it gets, where the approver may choose it.

        Raises:
            NotFound: there is no such operation.
            Conflict: it was decided otherwise, or has expired.
        """
        chosen = {} if device_id is None else {"deviceId": device_id}
        return self._decide(operation, {"status": "approved", **chosen}, params)

    @verb
    def reject(self, operation: Any, **params: Any) -> Any:
        """Refuse the device of an operation; as ``approve``."""
        return self._decide(operation, {"status": "rejected"}, params)

    def _decide(self, operation: Any, body: dict[str, Any], params: dict[str, Any]) -> Any:
        if isinstance(operation, str) and not _OPERATION.is_id(operation):
            operation = self._waiting(operation)
        return self._api.call("PUT", self._place(finding.one_id(operation)), params, body)

    def _waiting(self, code: str) -> str:
        """The id of the operation with that code, however its letters are written."""
        letters = code.replace("-", "").replace(" ", "").upper()
        if len(letters) != 8 or not letters.isalpha():
            raise UsageError(f"{code[:40]!r} is no code", hint="eight letters, such as BCDF-GHJK")
        found = self.find_many(mem.code == f"{letters[:4]}-{letters[4:]}")
        if not found:
            raise NotFound(
                f"There is no operation with the code {letters[:4]}-{letters[4:]}; "
                "those that wait are told by `flowkit devices pending`"
            )
        if found[0]["status"] == "expired":
            raise Conflict("The operation with this code has expired; the device must ask again")
        return str(found[0]["id"])
