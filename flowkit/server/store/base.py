"""What every store can do, and what each verb promises.

There are two implementations in the house's plan: SQLite (``sqlite.py``) and PostgreSQL. A store
runs **jobs**: plain functions of a transaction. ``Store.read(job)`` runs one against a snapshot,
beside any number of others; ``Store.write(job)`` runs one on the single writer, in a savepoint of
its own, and returns after the commit that holds it is on disk (many jobs share one commit). A job
that raises leaves no trace and its error is raised to its caller alone. Jobs may run on another
thread than their caller's.

What the verbs take and give stands in ``values.py``.

Source: protocol 1 (data model), ``positions`` 1, 2, 3 and 5 (changes, rows, marks, epochs).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from flowkit.server.store.parts import FleetReader, ObjectSifter
from flowkit.server.store.values import (
    Account,
    Assembly,
    Change,
    Commit,
    Delivery,
    Feed,
    FlowCommit,
    Found,
    LineTold,
    Mark,
    Payload,
    Secret,
    Skip,
    StoredDrop,
    StoredFlow,
    StoredObject,
    TrackState,
    Unfinished,
    Written,
)

if TYPE_CHECKING:
    from flowkit.server.plan import Plan

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
    "MarkReader",
    "MarkWriter",
    "MessageReader",
    "MessageWriter",
    "Payload",
    "PieceReader",
    "PieceWriter",
    "Reader",
    "Secret",
    "Skip",
    "Store",
    "StoredDrop",
    "StoredFlow",
    "StoredObject",
    "TrackState",
    "Unfinished",
    "Written",
    "Writer",
]

T = TypeVar("T")


class MarkReader(Protocol):
    """What a reading transaction knows of the lines of senders (``positions`` 9).

    A scope is the id of a device, or the name of an account behind a slash.
    """

    def of(self, scope: str, box: str, stream: str) -> Mark:
        """The mark of a line; number 0 where nothing was ever settled."""

    def of_box(self, scope: str, box: str) -> dict[str, LineTold]:
        """Stream to its mark and the ranges it skipped last, of every line of a box."""

    def lines(self, scope: str) -> int:
        """How many lines a scope has."""


class MarkWriter(MarkReader, Protocol):
    """How a writing transaction moves the marks of lines."""

    def settle(
        self, scope: str, line: tuple[str, str], mark: Mark, skips: Sequence[Skip] = ()
    ) -> None:
        """Move the mark of a line (box, stream), and note what it skipped on the way."""

    def forget(self, scope: str) -> None:
        """Remove every mark of a scope that is gone."""


class PieceReader(Protocol):
    """Bytes in pieces: uploads of a scope that are not finished, and payloads of drops."""

    def size(self, body: int) -> int:
        """How many bytes a body has; 0 for none."""

    def sizes(self, body: int) -> list[int]:
        """The bytes of each piece by its number, 0 for one that is not there."""

    def read(self, body: int, offset: int, size: int) -> bytes:
        """At most *size* bytes of a body from *offset* on."""

    def keys(self, body: int) -> tuple[int, ...]:
        """The keys of a body's pieces, in their order; a key stands for its bytes for ever."""

    def piece(self, key: int) -> bytes:
        """The bytes of a piece, empty if it is gone."""

    def upload(self, scope: str, box: str, message: str) -> int | None:
        """The body of an upload; None if nothing of it came."""

    def unfinished(self, scope: str) -> Unfinished:
        """How many uploads of a scope are not finished, and their bytes."""

    def payload(self, payload_id: str) -> Payload | None:
        """The payload with that id."""


class PieceWriter(PieceReader, Protocol):
    """How bytes in pieces come and go."""

    def begin(self) -> int:
        """A new body without bytes."""

    def append(self, body: int, data: bytes) -> None:
        """Put *data* behind what a body has."""

    def set_piece(self, body: int, n: int, data: bytes) -> None:
        """Make *data* the piece *n* of a body, whatever was there."""

    def copy(self, body: int, target: int) -> None:
        """Put what a body has behind what another one has."""

    def move(self, body: int, target: int) -> None:
        """Put what a body has behind what another one has; nothing is left of the first."""

    def discard(self, body: int) -> None:
        """Remove a body that belongs to nothing any more."""

    def open_upload(self, scope: str, box: str, message: str, at_ms: int) -> int:
        """The body of an upload, begun if there is none; it counts as used at *at_ms*."""

    def close_upload(self, scope: str, box: str, message: str) -> None:
        """An upload is finished: its body belongs to something else from now on."""

    def drop_upload(self, scope: str, box: str, message: str) -> None:
        """Remove an upload, if there is one, that no entry will claim any more."""

    def sweep(self, before_ms: int) -> int:
        """Remove some uploads that nobody has touched since *before_ms*; how many."""

    def forget(self, scope: str) -> None:
        """Remove every upload of a scope that is gone."""

    def keep_payload(
        self, payload_id: str, flow_id: str, drop_id: str, body: int, content_type: str | None
    ) -> None:
        """Give a body to a drop, with whose last state it goes."""


class MessageReader(Protocol):
    """What is known of streams and of the messages that devices send to them."""

    def stream_id(self, account: str, group: str | None, name: str | None) -> str | None:
        """The id of a stream; no *group*: the default one, no *name*: the default of its group."""

    def feed(self, stream: str, device: str) -> Feed:
        """What a device has sent to a stream."""

    def feeds(self, stream: str) -> list[Feed]:
        """What every device has sent to a stream."""

    def named(self, feed: Feed, name: bytes) -> bytes | None:
        """The digest of the message of that name, if it is among the newest of the feed."""

    def assembly(self, feed: Feed, batch: str, message: str) -> Assembly | None:
        """A message that is not complete."""

    def assemblies(self, stream: str, device: str | None = None) -> list[Assembly]:
        """The messages to a stream that are not complete, of one device or of all."""


class MessageWriter(MessageReader, Protocol):
    """How messages come."""

    def keep_feed(self, feed: Feed) -> None:
        """Write a feed as it is now."""

    def keep_name(self, feed: Feed, name: bytes, digest: bytes) -> None:
        """Note a message as the newest of its feed, and forget the one that is too old by now."""

    def keep_assembly(self, feed: Feed, assembly: Assembly) -> None:
        """Write a message that is not complete."""

    def close_assembly(self, feed: Feed, assembly: Assembly) -> None:
        """A message is complete: its body belongs to something else from now on."""

    def sweep(self, feed: Feed, before_ms: int, kept: Assembly | None) -> int:
        """Give up all but *kept* to which nothing was added since then; how many."""


class Reader(Protocol):
    """The verbs of a reading transaction: one snapshot for all of them.

    What all of them give together is bounded in bytes; beyond, they raise ``BadRequest``.
    """

    @property
    def marks(self) -> MarkReader:
        """The marks of senders."""

    @property
    def pieces(self) -> PieceReader:
        """Uploads and payloads."""

    @property
    def messages(self) -> MessageReader:
        """Streams and what devices send to them."""

    @property
    def fleet(self) -> FleetReader:
        """Devices and operations of provisioning, by what they are called."""

    @property
    def sifter(self) -> ObjectSifter:
        """All objects of a kind, one by one."""

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
        self, flow: StoredFlow, at: int, after: int, limit: int, bytes_max: int
    ) -> tuple[list[tuple[int, StoredDrop]], bool]:
        """The drops of *flow* as they were at the number *at*, and whether they are all.

        *at* is V or later. Those with a ``seq`` after *after*, in its order, each with it; at most
        *limit*, and none more once they hold *bytes_max* bytes.
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

    @property
    def marks(self) -> MarkWriter:
        """The marks of senders, to be moved in the commit of what they speak of."""

    @property
    def pieces(self) -> PieceWriter:
        """Uploads and payloads."""

    @property
    def messages(self) -> MessageWriter:
        """Streams and what devices send to them."""

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

    def write(self, job: Callable[[Writer], T], *, large: bool = False) -> T:
        """Run *job* on the writer; returns once what it wrote will survive power loss.

        A *large* one has a commit of its own, behind the others that wait. A job must not call
        ``write`` itself: there is one writer, and it would wait for itself.
        """

    def count_later(self, kind: str, object_id: str) -> None:
        """Count something that no write goes with; stored within a second. Never waits."""

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
