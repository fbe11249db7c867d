"""What the verbs of a store take and give: documents with what the store knows beside them.

Documents are plain dicts with the member names of the protocol (``flowId``, ``creationDate`` …),
without unset members. Two things ride along that are no members: a Drop's typed elements
(``StoredDrop.types``) and a Flow's key and positions (``StoredFlow``).

Source: protocol 1 (data model), ``positions`` 1, 2, 3 and 5 (changes, rows, marks, epochs).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = [
    "Account",
    "Assembly",
    "Change",
    "Commit",
    "Delivery",
    "Feed",
    "FlowCommit",
    "Found",
    "LineTold",
    "Mark",
    "Payload",
    "Secret",
    "Skip",
    "StoredDrop",
    "StoredFlow",
    "StoredObject",
    "TrackState",
    "Unfinished",
    "Written",
]


@dataclass(frozen=True, slots=True)
class Account:
    """An account: the namespace ``/<name>/…`` and the identity that owns it."""

    name: str
    identity_id: str


@dataclass(frozen=True, slots=True)
class Secret:
    """What a secret stands for.

    Attributes:
        account: whose it is.
        object_id: the Token that it belongs to; None for the master token.
        expires_at: when it stops working, in ms since 1970 UTC; None for never.
    """

    account: Account
    object_id: str | None = None
    expires_at: int | None = None


@dataclass(frozen=True, slots=True)
class Mark:
    """How far the line of a sender has come (``positions`` 9).

    Attributes:
        sequence: the number of the last message that was settled, 0 for none.
        message: the name of that message, None for none.
        skipped: how many numbers of the line were settled without storing anything.
    """

    sequence: int = 0
    message: str | None = None
    skipped: int = 0


@dataclass(frozen=True, slots=True)
class Skip:
    """A range of numbers that a sender settled without sending anything under them.

    Attributes:
        first, last: the range.
        reason: what the sender says.
        at_ms: when the server was told, in ms since 1970 UTC.
    """

    first: int
    last: int
    reason: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class LineTold:
    """A line with its mark and the newest ranges that it skipped, oldest first."""

    mark: Mark
    skips: tuple[Skip, ...]


@dataclass(frozen=True, slots=True)
class Unfinished:
    """Uploads that are not finished."""

    count: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Payload:
    """Bytes that belong to a drop.

    Attributes:
        id: under which they are read.
        flow_id: the flow of the drop.
        body: the store's own number of the bytes.
        bytes: how many.
        content_type: as the sender said, None for nothing.
    """

    id: str
    flow_id: str
    body: int
    bytes: int
    content_type: str | None


@dataclass(slots=True)
class Feed:
    """What one device has sent to one stream.

    Attributes:
        stream, device: their ids.
        number: how many messages and chunks have come.
        batch: the name of the open batch, None for none.
        since_ms: when that was begun, in ms since 1970 UTC.
        messages, bytes: how many messages are in it, and the bytes of their payloads.
        slices: the names of its slices, up to a bound.
        body: the payloads joined, where the stream joins them.
        is_cut: whether some did not fit in there.
        conflicts: how many messages came under a name that another one had.
    """

    stream: str
    device: str
    number: int = 0
    batch: str | None = None
    since_ms: int | None = None
    messages: int = 0
    bytes: int = 0
    slices: list[str] = field(default_factory=list)
    body: int | None = None
    is_cut: bool = False
    conflicts: int = 0


@dataclass(frozen=True, slots=True)
class Assembly:
    """A message that comes in chunks and is not complete.

    Attributes:
        device: the id of its sender.
        batch, message: its names; no batch is an empty one.
        body: the bytes so far.
        chunks: how many have come.
        at_ms: when the newest came, in ms since 1970 UTC.
    """

    device: str
    batch: str
    message: str
    body: int
    chunks: int
    at_ms: int


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object that is no Flow, Drop or Identity: a track, group, token, share, device or task.

    Attributes:
        kind: the name of its resource (``protocol/resources.py``).
        account: whose it is.
        doc: the members shown to users, ``id`` and dates among them, as they were last written.
        state: what only the server knows of it (an ETag, a password); never shown.
    """

    kind: str
    account: str
    doc: dict[str, Any]
    state: dict[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """The id."""
        return str(self.doc["id"])


@dataclass(frozen=True, slots=True)
class StoredFlow:
    """A Flow with what the store needs to know beside its members.

    Attributes:
        key: the store's own number of the flow; stands in every row of its drops.
        doc: the members shown to users.
        head: the ``seq`` of its newest change, 0 for none.
        epoch: the epoch of that change (``positions`` 5), the store's present one for none.
        mark_e, mark_v: the marks E and V (``positions`` 3).
    """

    key: int
    doc: dict[str, Any]
    head: int
    epoch: str
    mark_e: int
    mark_v: int

    @property
    def id(self) -> str:
        """The id."""
        return str(self.doc["id"])

    @property
    def path(self) -> str:
        """The path."""
        return str(self.doc["path"])

    @property
    def account(self) -> str:
        """The account in whose namespace it is."""
        return self.path.split("/", 2)[1]

    @property
    def capacity(self) -> int:
        """Most drops it holds."""
        return int(self.doc["capacity"])

    @property
    def position(self) -> str:
        """The position of the newest change, as text (``positions`` 5)."""
        return f"p1.{self.id}.{self.epoch}.{self.head}"


@dataclass(frozen=True, slots=True)
class StoredDrop:
    """A Drop's members and, where typed elements were written, member path to type name (2.3)."""

    doc: dict[str, Any]
    types: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Written:
    """What one write to a flow did.

    Attributes:
        kind: ``create replace update delete evict pass`` (``positions`` 2).
        drop: the new state, or the last one for ``delete`` and ``evict``.
        old: the state before, for ``replace`` and ``update``.
        position: the position of the change, as text.
    """

    kind: str
    drop: StoredDrop
    old: StoredDrop | None
    position: str


@dataclass(frozen=True, slots=True)
class Delivery:
    """A drop that waits for the Tracks of its flow.

    Attributes:
        place: its number in the line of its source; numbers rise in the order of commit.
        drop: the drop as it was written.
        hops: how many Tracks it has come through (6.5).
    """

    place: int
    drop: StoredDrop
    hops: int


@dataclass(frozen=True, slots=True)
class TrackState:
    """How far a Track has come, and what went wrong on the way.

    Attributes:
        place: everything up to this delivery has been dealt with.
        failures: deliveries that failed, ever.
        skipped: deliveries that were forgotten because the Track was too far behind, ever.
        last_failure: one sentence about the newest of either, None for none yet.
        last_failure_at: when that was, in ms since 1970 UTC.
    """

    place: int
    failures: int = 0
    skipped: int = 0
    last_failure: str | None = None
    last_failure_at: int | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """One transition of one drop (``positions`` 1).

    Attributes:
        seq: its number in the flow.
        kind: ``create replace update delete evict pass`` (``positions`` 2).
        at: the server's time of it, in ms since 1970 UTC.
        new: the state that it began, None for ``delete`` and ``evict``.
        old: the state that it ended, None for ``create`` and ``pass``, and for a replay that does
            not hold it any more (not after mark V).
    """

    seq: int
    kind: str
    at: int
    new: StoredDrop | None
    old: StoredDrop | None


@dataclass(frozen=True, slots=True)
class FlowCommit:
    """What one commit did to one flow.

    Attributes:
        first: the number of its first change here.
        head: the number of its last one; ``first - 1`` where there was none.
        changes: all of them, in order; None where nobody watched the flow when they were made, or
            where they were too many: they stand in the store.
        is_gone: whether the flow was deleted.
    """

    first: int
    head: int
    changes: tuple[Change, ...] | None = None
    is_gone: bool = False


@dataclass(frozen=True, slots=True)
class Commit:
    """What one commit changed, for those who act on it.

    Attributes:
        sources: paths of flows whose Tracks have new deliveries.
        kinds: resources of which objects were created, changed or deleted.
        flows: each flow that it changed, by id.
        epoch: the epoch of the changes.
    """

    sources: frozenset[str]
    kinds: frozenset[str]
    flows: Mapping[str, FlowCommit] = field(default_factory=dict)
    epoch: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    """The answer to a find: the matching objects in order, and where they were read.

    Attributes:
        objects: ``StoredDrop`` for drops, plain dicts for other resources; or what was shown of
            each, as JSON text.
        position: of the flow, for a find in one flow.
        scanned: objects that the Python remainder looked at; equal to the objects that the database
            let through.
    """

    objects: list[Any]
    position: str | None = None
    scanned: int = 0
