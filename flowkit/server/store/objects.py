"""Objects in the store: tracks, groups, tokens, shares, devices and tasks, their secrets, leases.

An object is one row with its document. What finds it by something else is kept beside it: the
members of a group in a table, the receiver of a share and the source of a track in indexes over
the document, the secret of a token in ``credential``.

Rules: one ``Objects`` is used by one thread, inside a transaction that is its caller's.

Source: protocol 1.6 to 1.12 (the objects), 8 (credentials).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from typing import Any

import apsw

from flowkit import limits
from flowkit.errors import BadRequest, NotFound
from flowkit.protocol.resources import RESOURCES
from flowkit.server.ids import Ids
from flowkit.server.sql import Parameters, Sieve, part_of
from flowkit.server.store.base import Account, Secret, StoredObject

__all__ = ["ENABLED", "FOLLOWS", "Objects", "Making"]

_COLUMNS = "kind, account, doc, state"
_DATES = ("creationDate", "creatorId", "lastEditDate", "lastEditorId")
_KEPT = frozenset({"id", *_DATES})

ENABLED = "NOT coalesce(json_extract(doc, '$.disabled'), 0)"
"""Of tracks: whether it runs."""

FOLLOWS = "kind IN ('track', 'mqtt_task') AND json_extract(doc, '$.source') IS NOT NULL"
"""What drops of a flow wait for: Tracks, and MQTT connections that publish them."""

BY_ID = f"SELECT {_COLUMNS} FROM object WHERE id = ? AND kind = ?"
HELD = "SELECT 1 FROM object WHERE id = ? AND kind = ?"
OF_KIND = f"SELECT {_COLUMNS} FROM object WHERE kind = ? ORDER BY id"
OF_ACCOUNT = f"SELECT {_COLUMNS} FROM object WHERE kind = ? AND account = ? ORDER BY id"
GROUPS_OF = "SELECT group_id FROM group_member WHERE identity_id = ? ORDER BY group_id"
SHARES_TO = (
    f"SELECT {_COLUMNS} FROM object WHERE kind = 'share' AND json_extract(doc, '$.issuedTo') IN"
    " (SELECT ?1 UNION ALL SELECT group_id FROM group_member WHERE identity_id = ?1) ORDER BY id"
)
TRACKS_FROM = (
    f"SELECT {_COLUMNS} FROM object WHERE kind = 'track' AND json_extract(doc, '$.source') = ?"
    f" AND {ENABLED} ORDER BY id"
)
CREDENTIAL = (
    "SELECT name, id, object_id, expires_at FROM credential JOIN identity ON name = account"
    " WHERE secret_hash = ?"
)


class Objects:
    """The reading verbs.

    Args:
        connection: in a transaction of the caller's.
        count: told the bytes of each object that is given out.
    """

    def __init__(self, connection: apsw.Connection, count: Callable[[int], None]) -> None:
        self._connection = connection
        self._count = count

    def credential(self, secret_hash: bytes) -> Secret | None:
        """What the secret with that hash stands for."""
        found: list[Any] = self._connection.execute(CREDENTIAL, (secret_hash,)).fetchall()
        if not found:
            return None
        name, identity_id, object_id, expires_at = found[0]
        return Secret(Account(name, identity_id), object_id, expires_at)

    def get(self, kind: str, object_id: str) -> StoredObject | None:
        """The object of that kind with that id."""
        found = self._all(BY_ID, object_id, kind)
        return found[0] if found else None

    def of_kind(self, kind: str, account: str | None) -> list[StoredObject]:
        """Those of one account, or all; oldest first."""
        if account is None:
            return self._all(OF_KIND, kind)
        return self._all(OF_ACCOUNT, kind, account)

    def sifted(self, sieve: Sieve) -> Generator[StoredObject, None, None]:
        """Those that a sieve lets through, with what it reads of each; not counted."""
        cursor = self._connection.execute(sieve.sql, sieve.params)
        try:
            for row in cursor:
                yield _in_part(row, sieve.members)
        finally:
            cursor.close(True)

    def parts(
        self, kind: str, ids: Iterable[str], members: Sequence[str] | None
    ) -> Iterator[StoredObject]:
        """The objects of that kind with these ids, with these *members* alone; not counted.

        Those that are not there are left out.
        """
        parameters = Parameters()
        read, named = part_of(members, parameters), parameters.add(kind)
        sql = f"SELECT kind, account, {read}, state FROM object WHERE kind = {named} AND id = ?"
        given = parameters.of(sql)
        for object_id in ids:
            for row in self._connection.execute(sql, (*given, object_id)).fetchall():
                yield _in_part(row, members)

    def holds(self, kind: str, object_id: str) -> bool:
        """Whether there is an object of that kind with that id."""
        return self._connection.execute(HELD, (object_id, kind)).get is not None

    def groups_of(self, identity_id: str) -> list[str]:
        """The ids of an identity's groups."""
        found: list[Any] = self._connection.execute(GROUPS_OF, (identity_id,)).fetchall()
        return [group_id for (group_id,) in found]

    def shares_to(self, identity_id: str) -> list[StoredObject]:
        """The shares issued to an identity or to one of its groups."""
        return self._all(SHARES_TO, identity_id)

    def tracks_from(self, path: str) -> list[StoredObject]:
        """The enabled tracks of a source, in the order of their creation."""
        return self._all(TRACKS_FROM, path)

    def _all(self, sql: str, *params: Any) -> list[StoredObject]:
        cursor = self._connection.execute(sql, params)
        try:
            return [self._one(*row) for row in cursor]
        finally:
            cursor.close(True)

    def _one(self, kind: str, account: str, doc: bytes, state: bytes) -> StoredObject:
        self._count(len(doc))
        decoded: tuple[Any, Any] = (apsw.jsonb_decode(doc), apsw.jsonb_decode(state))
        return StoredObject(kind, account, *decoded)


class Making:
    """The writing verbs, on the writer's connection.

    Args:
        connection: in a transaction of the caller's.
        ids: the giver of ids.
        clock_ms: now, in milliseconds since 1970-01-01 UTC.
    """

    def __init__(self, connection: apsw.Connection, ids: Ids, clock_ms: Callable[[], int]) -> None:
        self._execute = connection.execute
        self._changed = connection.changes
        self._ids = ids
        self._clock_ms = clock_ms

    def create(
        self,
        kind: str,
        account: str,
        members: Mapping[str, Any],
        *,
        creator: str,
        state: Mapping[str, Any] | None,
    ) -> StoredObject:
        """A new object with a new id."""
        _check(kind, members)
        self._refuse_too_many(kind, account)
        kept = {
            "id": self._ids.next(RESOURCES[kind].prefix),
            "creationDate": self._clock_ms(),
            "creatorId": creator,
        }
        made = StoredObject(kind, account, _document(kind, {**members, **kept}), dict(state or {}))
        self._execute(
            "INSERT INTO object (id, kind, account, creation_date, creator_id, doc, state)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (made.id, kind, account, kept["creationDate"], creator, *_blobs(made)),
        )
        self._enter_members(made)
        return made

    def _refuse_too_many(self, kind: str, account: str) -> None:
        most = limits.objects_max
        if kind == "token":  # each device has two at most, beside those that the account makes
            most += 2 * self._held("device", account)
        if self._held(kind, account) >= most:
            raise BadRequest(
                f"{account} has {limits.objects_max} objects of this kind already ({kind}),"
                " and no account may have more: delete one first"
            )

    def _held(self, kind: str, account: str) -> int:
        held: list[Any] = self._execute(
            "SELECT count(*) FROM object WHERE kind = ? AND account = ?", (kind, account)
        ).fetchall()
        return int(held[0][0])

    def update(
        self,
        now: StoredObject,
        changes: Mapping[str, Any],
        *,
        editor: str | None,
        state: Mapping[str, Any] | None,
    ) -> StoredObject:
        """Change members of an object as it is *now*."""
        _check(now.kind, changes)
        edit: dict[str, Any] = {}
        if editor is not None:
            edit = {"lastEditDate": self._clock_ms(), "lastEditorId": editor}
        made = StoredObject(
            now.kind,
            now.account,
            _document(now.kind, {**now.doc, **changes, **edit}),
            dict(now.state if state is None else state),
        )
        self._execute(
            "UPDATE object SET last_edit_date = ?, last_editor_id = ?, doc = ?, state = ?"
            " WHERE id = ?",
            (made.doc.get("lastEditDate"), made.doc.get("lastEditorId"), *_blobs(made), made.id),
        )
        if "memberIds" in changes:
            self._remove_members(made.id)
            self._enter_members(made)
        if "duration" in changes:
            self._end_secret(made)
        return made

    def _end_secret(self, made: StoredObject) -> None:
        """The secret of a Token ends when its document says so."""
        duration = made.doc.get("duration")
        ends = int(made.doc["creationDate"]) + int(duration) if duration else None
        self._execute("UPDATE credential SET expires_at = ? WHERE object_id = ?", (ends, made.id))

    def delete(self, object_id: str) -> None:
        """Remove an object's row, its secret and its members."""
        self._execute("DELETE FROM object WHERE id = ?", (object_id,))
        if not self._changed():
            raise NotFound(f"There is no object {object_id} any more")
        self._execute("DELETE FROM credential WHERE object_id = ?", (object_id,))
        self._remove_members(object_id)

    def keep_secret(
        self, secret_hash: bytes, account: str, object_id: str, expires_at: int | None
    ) -> None:
        """The secret of a Token."""
        self._execute(
            "INSERT INTO credential (secret_hash, account, kind, creation_date, object_id,"
            " expires_at) VALUES (?, ?, 'token', ?, ?, ?)",
            (secret_hash, account, self._clock_ms(), object_id, expires_at),
        )

    def take_lease(self, name: str, holder: str, duration_ms: int) -> bool:
        """Take or prolong a lease."""
        now = self._clock_ms()
        self._execute(
            "INSERT INTO lease (name, holder, until) VALUES (?1, ?2, ?3) ON CONFLICT (name)"
            " DO UPDATE SET holder = ?2, until = ?3 WHERE holder = ?2 OR until <= ?4",
            (name, holder, now + duration_ms, now),
        )
        return self._changed() == 1

    def release_lease(self, name: str, holder: str) -> None:
        """Give a lease back."""
        self._execute("DELETE FROM lease WHERE name = ? AND holder = ?", (name, holder))

    def _enter_members(self, made: StoredObject) -> None:
        if made.kind == "group":
            for identity_id in dict.fromkeys(made.doc.get("memberIds", ())):
                self._execute(
                    "INSERT INTO group_member (identity_id, group_id) VALUES (?, ?)",
                    (identity_id, made.id),
                )

    def _remove_members(self, group_id: str) -> None:
        self._execute("DELETE FROM group_member WHERE group_id = ?", (group_id,))


def _in_part(row: tuple[Any, ...], members: Sequence[str] | None) -> StoredObject:
    """The object of a row of a sieve; what is not there is not in its document either."""
    kind, account, read, state = row
    found: Any = apsw.jsonb_decode(read)
    if members is not None:
        there = zip(members, found, strict=True)
        found = {name: value for name, value in there if value is not None}
    known: Any = apsw.jsonb_decode(state)
    return StoredObject(kind, account, found, known)


def _check(kind: str, members: Mapping[str, Any]) -> None:
    unknown = sorted(set(members) - (set(RESOURCES[kind].members) - _KEPT))
    if unknown:
        raise ValueError(f"the store cannot change {', '.join(unknown)} of a {kind}")


def _document(kind: str, members: Mapping[str, Any]) -> dict[str, Any]:
    """The set members, in the order of the resource's table."""
    return {
        name: members[name] for name in RESOURCES[kind].members if members.get(name) is not None
    }


def _blobs(made: StoredObject) -> tuple[bytes, bytes]:
    return apsw.jsonb_encode(made.doc), apsw.jsonb_encode(made.state)
