"""What every store can do, and what each verb promises.

There are two implementations in the house's plan: SQLite (``sqlite.py``) and PostgreSQL. A store
runs **jobs**: plain functions of a transaction. ``Store.read(job)`` runs one against a snapshot,
beside any number of others; ``Store.write(job)`` runs one on the single writer, in a savepoint of
its own, and returns after the commit that holds it is on disk (many jobs share one commit). A job
that raises leaves no trace and its error is raised to its caller alone. Jobs may run on another
thread than their caller's.

Documents are plain dicts with the member names of the protocol (``flowId``, ``creationDate`` …),
without unset members. Two things ride along that are no members: a Drop's typed elements
(``StoredDrop.types``) and a Flow's key and positions (``StoredFlow``).

Source: protocol 1 (data model), ``positions`` 1, 2, 3 and 5 (changes, rows, marks, epochs).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from flowkit.server.plan import Plan

__all__ = [
    "Account",
    "Change",
    "Commit",
    "Delivery",
    "FlowCommit",
    "Found",
    "Reader",
    "Secret",
    "Store",
    "StoredDrop",
    "StoredFlow",
    "StoredObject",
    "TrackState",
    "Written",
    "Writer",
]

T = TypeVar("T")


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


class Reader(Protocol):
    """The verbs of a reading transaction: one snapshot for all of them.

    What all of them give together is bounded in bytes; beyond, they raise ``BadRequest``.
    """

    def account(self, name: str) -> Account | None:
        """The account of that name."""

    def accounts(self) -> list[Account]:
        """Every account, oldest first."""

    def account_of(self, identity_id: str) -> Account | None:
        """The account that an identity owns."""

    def credential(self, secret_hash: bytes) -> Secret | None:
        """What the secret with that hash stands for, expired or not."""

    def identity(self, identity_id: str) -> dict[str, Any] | None:
        """An Identity's members, without secrets."""

    def flow(self, flow_id: str) -> StoredFlow | None:
        """The flow with that id."""

    def flow_at(self, path: str) -> StoredFlow | None:
        """The flow at that (normalised) path."""

    def flows(self, flow_ids: Sequence[str]) -> dict[str, StoredFlow]:
        """The flows among those ids that exist."""

    def drops(self, flow: StoredFlow, drop_ids: Sequence[str]) -> dict[str, StoredDrop]:
        """The live drops of *flow* among those ids."""

    def epochs(self, flow: StoredFlow) -> list[tuple[str, int]]:
        """Name and first number of each epoch of *flow* that is known, oldest first."""

    def changes(
        self, flow: StoredFlow, after: int, limit: int, bytes_max: int
    ) -> tuple[list[Change], bool]:
        """The held changes of *flow* after that number, in order, and whether they are all.

        At most *limit*, and none more once they hold *bytes_max* bytes. Old states are held of all
        changes after V; what is not held of the others is left out.
        """

    def states(
        self, flow: StoredFlow, at: int, after: int, limit: int
    ) -> list[tuple[int, StoredDrop]]:
        """The drops of *flow* as they were at the number *at*, which is V or later.

        Those with a ``seq`` after *after*, in its order, each with it; at most *limit*.
        """

    def find(self, plan: Plan, show: Callable[[Any], Any] | None = None) -> Found:
        """Run a find; raises ``BadRequest`` when it passes its time or size bound.

        Given *show*, each object is what that makes of it, encoded at once: a large answer is then
        held as its text alone, and only what is shown counts against the bound.
        """

    def object(self, kind: str, object_id: str) -> StoredObject | None:
        """The object of that kind with that id."""

    def objects(self, kind: str, *, account: str | None = None) -> list[StoredObject]:
        """The objects of a kind, oldest first: those of one account, or all."""

    def groups_of(self, identity_id: str) -> list[str]:
        """The ids of the groups that an identity is a member of, whoever made them."""

    def shares_to(self, identity_id: str) -> list[StoredObject]:
        """The shares issued to an identity or to a group that it is in, expired ones included."""

    def tracks_from(self, path: str) -> list[StoredObject]:
        """The enabled tracks whose source is that path, in the order of their creation."""

    def track_state(self, track_id: str) -> TrackState:
        """How far a track has come."""

    def deliveries(self, track: StoredObject, limit: int) -> list[Delivery]:
        """The drops that wait for *track*, oldest first, at most *limit*, fewer if large."""

    def waiting_tracks(self) -> list[str]:
        """The ids of enabled tracks for which drops wait; what a start asks for."""

    def waiting_drops(self) -> int:
        """How many drops wait for tracks, each once however many tracks it waits for."""

    def statistics(self, kind: str, object_id: str, since: int, until: int) -> dict[int, int]:
        """Counts by hour (hours since 1970 UTC), from *since* up to, not including, *until*."""

    def answer(self, account: str, request_id: str) -> tuple[int, bytes] | None:
        """Status and body of the answer already given to that request, within the replay window."""


class Writer(Reader, Protocol):
    """The verbs of a writing transaction; they see what the transaction has written so far."""

    def create_account(self, name: str, secret_hash: bytes) -> Account:
        """A new account with its identity and master token."""

    def set_secret(self, account: str, secret_hash: bytes) -> None:
        """Replace the master token of an account; the old one stops working with the commit."""

    def update_identity(
        self, identity_id: str, changes: Mapping[str, Any], *, editor: str
    ) -> dict[str, Any]:
        """Change members of an identity."""

    def create_flow(self, members: Mapping[str, Any], *, creator: str) -> StoredFlow:
        """A new flow; raises ``BadRequest`` when the path is taken."""

    def update_flow(
        self, flow: StoredFlow, changes: Mapping[str, Any], *, editor: str
    ) -> StoredFlow:
        """Change members (None unsets); a lowered capacity or history evicts or forgets at once."""

    def delete_flow(self, flow: StoredFlow) -> None:
        """Remove the flow and everything it held."""

    def create_drop(
        self,
        flow: StoredFlow,
        members: Mapping[str, Any],
        types: Mapping[str, str],
        *,
        creator: str,
    ) -> Written:
        """Add a drop, evicting the oldest of a full flow, or replace the one with its ``fhash``."""

    def update_drop(
        self,
        flow: StoredFlow,
        drop_id: str,
        changes: Mapping[str, Any],
        types: Mapping[str, str] | None,
        *,
        editor: str,
    ) -> Written | None:
        """Change members of a drop (None unsets, *types* None keeps); None if there is none."""

    def delete_drop(
        self, flow: StoredFlow, drop_id: str, *, forget: bool = False
    ) -> Written | None:
        """End a drop; None if there is none. *forget* forgets all its states at once."""

    def clear(self, flow: StoredFlow, *, forget: bool = False) -> int:
        """Delete every drop, oldest first, each with a number of its own; how many there were."""

    def delete_account(self, name: str) -> None:
        """Remove an account with everything in its namespace and all that it made."""

    def create_credential(
        self, secret_hash: bytes, account: str, object_id: str, expires_at: int | None
    ) -> None:
        """The secret of a Token; it goes with the object of that id."""

    def create_object(
        self,
        kind: str,
        account: str,
        members: Mapping[str, Any],
        *,
        creator: str,
        state: Mapping[str, Any] | None = None,
    ) -> StoredObject:
        """A new object with a new id; raises ``BadRequest`` when the account has too many."""

    def update_object(
        self,
        found: StoredObject,
        changes: Mapping[str, Any],
        *,
        editor: str | None,
        state: Mapping[str, Any] | None = None,
    ) -> StoredObject:
        """Change members (None unsets); *state* None keeps the state.

        With *editor* None the server itself keeps the object up to date: no edit is noted.
        """

    def delete_object(self, found: StoredObject) -> None:
        """Remove an object, with its secret, its place or whatever else hangs on it."""

    def route(self, flow: StoredFlow, drop: StoredDrop, *, hops: int) -> None:
        """Let *drop* wait for every enabled track of its flow, if there is any."""

    def settle_track(
        self, track: StoredObject, place: int, *, failures: int = 0, last_failure: str | None = None
    ) -> None:
        """Everything up to *place* has been dealt with; drops that nobody waits for any more go.

        Raises ``NotFound`` for a track that is gone; what its run wrote is undone with the job.
        """

    def count(self, kind: str, object_id: str, times: int = 1) -> None:
        """Count something for the statistics (10), in the commit of what is counted."""

    def take_lease(self, name: str, holder: str, duration_ms: int) -> bool:
        """Take or prolong a lease; False while another holder has it."""

    def release_lease(self, name: str, holder: str) -> None:
        """Give a lease back, if *holder* has it."""

    def keep_answer(self, account: str, request_id: str, status: int, body: bytes) -> None:
        """Remember an answer for the replay window, in the commit of what it answers."""


class Store(Protocol):
    """A place that keeps accounts, flows and drops."""

    def read(
        self, job: Callable[[Reader], T], *, timeout_s: float | None = None, quick: bool = False
    ) -> T:
        """Run *job* on a snapshot; a query beyond the time is ended and raises ``BadRequest``.

        A *quick* job reads by id what takes no millisecond; it does not wait behind the others.
        """

    def write(self, job: Callable[[Writer], T]) -> T:
        """Run *job* on the writer; returns once what it wrote will survive power loss.

        A job must not call ``write`` itself: there is one writer, and it would wait for itself.
        """

    def count_later(self, kind: str, object_id: str) -> None:
        """Count something that no write goes with; stored with the next commit, within a second.

        Never waits.
        """

    def watch(self, flow_ids: frozenset[str]) -> None:
        """From now on, hand out the changes of these flows with each commit, and of no others.

        A commit under way may still lack them. Never waits.
        """

    def on_commit(self, told: Callable[[Commit], None]) -> None:
        """Call *told* after each commit that changed anything it speaks of.

        On the writer's thread, before the writers of the commit are answered: *told* must not wait.
        """

    def on_batch(self, told: Callable[[int, float], object]) -> None:
        """Call *told* with the number of jobs and the seconds of each commit; it must not wait."""

    def waiting(self) -> dict[str, int]:
        """How many jobs wait for a thread: ``writes``, ``reads`` and ``quick`` ones."""

    def close(self) -> None:
        """Finish what is under way, checkpoint, and release the data folder."""
