"""What the parts of a store can do that have verbs of their own, and what each verb promises.

They are reached through the transaction: ``reader.fleet.device_named(…)``; ``base.py`` has the
others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from flowkit.server.store.values import StoredObject

if TYPE_CHECKING:
    from flowkit.server.sql import Sieve

__all__ = ["FleetReader", "ObjectSifter"]

T = TypeVar("T")


class ObjectSifter(Protocol):
    """How all objects of a kind are looked at, whatever they are together."""

    @property
    def search(self) -> Callable[[Any, str], bool]:
        """Looks for a compiled pattern in a text, within the time for patterns of the job."""

    def sift(self, sieve: Sieve, judge: Callable[[StoredObject], T | None]) -> list[T]:
        """What *judge* makes of each object that the sieve lets through, None left out.

        The objects come one by one, in no order, with no more than what the sieve reads of them,
        and none counts against the bound in bytes.

        Raises:
            BadRequest: it takes longer than a job may.
        """

    def show(
        self,
        kind: str,
        ids: Sequence[str],
        members: Sequence[str] | None,
        show: Callable[[StoredObject], Any],
    ) -> list[Any]:
        """What *show* makes of these objects, in their order, as JSON text; that is counted.

        Args:
            kind: of the objects.
            ids: of the objects; one that is not there is left out.
            members: what is read of each, at least two; None for all of it.
            show: makes what is kept.

        Raises:
            BadRequest: it takes longer than a job may, or grows larger than an answer may.
        """

    def holds(self, kind: str, object_id: str) -> bool:
        """Whether there is an object of that kind with that id."""


class FleetReader(Protocol):
    """How devices and operations of provisioning are found and counted; answers are ids."""

    def device_named(self, account: str, device_id: str) -> str | None:
        """The device of *account* with that deviceId, whatever the case of its letters."""

    def device_at(self, account: str, path: str) -> str | None:
        """The oldest device of *account* at that path."""

    def operation_with(self, account: str, nonce_digest: str) -> str | None:
        """The newest operation that was begun with the nonce of that digest."""

    def operation_called(self, account: str, code: str) -> str | None:
        """The operation with that code."""

    def waiting(self, account: str, token_id: str, now_ms: int) -> tuple[int, int]:
        """How many operations wait: of the account, and of that provisioning token."""

    def ended(self, account: str, status: str, before_ms: int, limit: int) -> list[str]:
        """Some operations of that stored status whose ``expiresAt`` is not after *before_ms*."""

    def leading_to(self, account: str, device: str, device_id: str) -> list[str]:
        """The approved operations that made the device with the id *device*, or may become the
        deviceId *device_id*, whatever the case of its letters.
        """

    def outlived(self, kind: str, account: str, now_ms: int) -> list[str]:
        """The Tokens, Shares or provisioning tokens that have expired, but for those of devices."""

    def operations(self, account: str) -> int:
        """How many operations of the account are kept."""

    def figures(self, seen_since_ms: int, now_ms: int) -> tuple[int, int, int]:
        """How many devices there are, how many were seen since *seen_since_ms*, and how many
        operations wait for a decision at *now_ms* (ms since 1970 UTC); of all accounts.
        """

    def restoration(self) -> str:
        """A text that is another one after the store was restored from a backup."""
