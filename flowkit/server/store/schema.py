"""The tables of the SQLite store, and how a connection to them is opened.

Rules: one statement per ``execute``; every pragma is read back and checked; a file of a newer
schema is refused, never guessed at.

A drop's **row** is one state of it, true from ``seq`` (the change that began it) up to, not
including, ``until`` (the change that ended it). Live rows have no ``until``. ``began`` and
``ended`` hold the kinds of the two changes, ``at`` and ``ended_at`` their server times in ms; so
the rows are the log of changes too, and none beside them is needed. ``crc`` is the checksum of what
never changes in a row (``rows.checksum``), NULL in rows that were written before schema 2.

An **object** is a track, group, token, share, device or task; what else must be found by it has a
table or an index of its own. A **delivery** is a drop that waits for the tracks of its source; it
goes when the last of them has passed its place.

Source: ``positions`` 1 to 3 and 5, protocol 1.4 to 1.12, 2.3, 3.2, 6, 10.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

import apsw

from flowkit.errors import SettingsError

__all__ = [
    "ROW_BYTES_LEAST",
    "SCHEMA_VERSION",
    "check_version",
    "create_tables",
    "get_meta",
    "open_file",
    "set_meta",
]

SCHEMA_VERSION = 3
"""What this flowkit writes; ``migrations.py`` leads from every earlier one to it."""

SYNCHRONOUS = {"OFF": 0, "NORMAL": 1, "FULL": 2, "EXTRA": 3}
"""SQLite's levels. FULL: a commit returns after fsync. OFF: for stores that are thrown away."""

ROW_BYTES_LEAST = 128
"""What a row without any blob or text of its own counts against a flow's bound in bytes."""

TABLES = (
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID",
    """CREATE TABLE identity (
        id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, email TEXT, salutation TEXT,
        first_name TEXT, middle_name TEXT, last_name TEXT, icon TEXT,
        creation_date INTEGER NOT NULL, creator_id TEXT,
        last_edit_date INTEGER, last_editor_id TEXT) WITHOUT ROWID""",
    """CREATE TABLE credential (
        secret_hash BLOB PRIMARY KEY, account TEXT NOT NULL, kind TEXT NOT NULL,
        creation_date INTEGER NOT NULL, object_id TEXT, expires_at INTEGER) WITHOUT ROWID""",
    "CREATE INDEX credential_by_object ON credential (object_id) WHERE object_id IS NOT NULL",
    # AUTOINCREMENT: the key of a deleted flow never comes back, so its rows can never be another's.
    """CREATE TABLE flow (
        key INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, account TEXT NOT NULL,
        path TEXT NOT NULL UNIQUE, capacity INTEGER NOT NULL, description TEXT, filter TEXT,
        public INTEGER, history INTEGER, creation_date INTEGER NOT NULL, creator_id TEXT,
        last_edit_date INTEGER, last_editor_id TEXT,
        head INTEGER NOT NULL DEFAULT 0, mark_e INTEGER NOT NULL DEFAULT 0,
        mark_v INTEGER NOT NULL DEFAULT 0, live INTEGER NOT NULL DEFAULT 0,
        ended INTEGER NOT NULL DEFAULT 0, ended_bytes INTEGER NOT NULL DEFAULT 0)""",
    "CREATE INDEX flow_by_account ON flow (account)",
    """CREATE TABLE drop_row (
        flow INTEGER NOT NULL, seq INTEGER NOT NULL, born INTEGER NOT NULL, until INTEGER,
        at INTEGER NOT NULL, id TEXT NOT NULL, creation_date INTEGER NOT NULL, creator_id TEXT,
        last_edit_date INTEGER, last_editor_id TEXT, version INTEGER NOT NULL, fhash TEXT,
        elems BLOB NOT NULL, location BLOB, parent BLOB, types TEXT,
        began TEXT NOT NULL, ended TEXT, ended_at INTEGER, bytes INTEGER NOT NULL,
        crc INTEGER, PRIMARY KEY (flow, seq)) WITHOUT ROWID""",
    "CREATE UNIQUE INDEX live_by_born ON drop_row (flow, born) WHERE until IS NULL",
    """CREATE UNIQUE INDEX live_by_fhash ON drop_row (flow, fhash)
        WHERE until IS NULL AND fhash IS NOT NULL""",
    "CREATE INDEX live_by_date ON drop_row (flow, creation_date, id) WHERE until IS NULL",
    "CREATE UNIQUE INDEX ended_by_until ON drop_row (flow, until) WHERE until IS NOT NULL",
    # All rows, not the live ones alone: forgetting a drop at once must find its earlier states.
    "CREATE INDEX row_by_id ON drop_row (flow, id)",
    """CREATE TABLE epoch (
        flow INTEGER NOT NULL, name TEXT NOT NULL, first_seq INTEGER NOT NULL,
        PRIMARY KEY (flow, first_seq)) WITHOUT ROWID""",
    # In the order of writing, so that the bodies of one commit share pages; names are random, and
    # an index of their digests alone stays small.
    """CREATE TABLE answer (
        key INTEGER PRIMARY KEY, name BLOB NOT NULL, at INTEGER NOT NULL,
        status INTEGER NOT NULL, body BLOB NOT NULL)""",
    "CREATE UNIQUE INDEX answer_by_name ON answer (name)",
    "CREATE INDEX answer_by_at ON answer (at)",
    # Ids of one kind rise in the order of their making, so the index lists them oldest first.
    """CREATE TABLE object (
        id TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, account TEXT NOT NULL,
        creation_date INTEGER NOT NULL, creator_id TEXT,
        last_edit_date INTEGER, last_editor_id TEXT, doc BLOB NOT NULL, state BLOB NOT NULL)""",
    "CREATE INDEX object_by_account ON object (kind, account, id)",
    """CREATE INDEX share_by_issued_to ON object (json_extract(doc, '$.issuedTo'))
        WHERE kind = 'share'""",
    """CREATE INDEX track_by_source ON object (json_extract(doc, '$.source'))
        WHERE kind = 'track'""",
    """CREATE INDEX device_by_name ON object (account, lower(json_extract(doc, '$.deviceId')))
        WHERE kind = 'device'""",
    """CREATE INDEX device_by_path ON object (account, json_extract(doc, '$.path'))
        WHERE kind = 'device'""",
    """CREATE INDEX operation_by_nonce ON object (account, json_extract(state, '$.nonce'))
        WHERE kind = 'provisioning'""",
    """CREATE INDEX operation_by_code ON object (account, json_extract(doc, '$.code'))
        WHERE kind = 'provisioning'""",
    """CREATE INDEX operation_by_end ON object (account, json_extract(doc, '$.status'),
        json_extract(doc, '$.expiresAt'), json_extract(doc, '$.provisioningTokenId'))
        WHERE kind = 'provisioning'""",
    """CREATE TABLE group_member (
        identity_id TEXT NOT NULL, group_id TEXT NOT NULL,
        PRIMARY KEY (identity_id, group_id)) WITHOUT ROWID""",
    "CREATE INDEX member_by_group ON group_member (group_id)",
    # AUTOINCREMENT: a place that was passed never comes back.
    """CREATE TABLE delivery (
        place INTEGER PRIMARY KEY AUTOINCREMENT, source TEXT NOT NULL, hops INTEGER NOT NULL,
        doc BLOB NOT NULL, types TEXT, bytes INTEGER NOT NULL)""",
    "CREATE INDEX delivery_by_source ON delivery (source, place)",
    """CREATE TABLE track_place (
        track TEXT PRIMARY KEY, place INTEGER NOT NULL, failures INTEGER NOT NULL DEFAULT 0,
        skipped INTEGER NOT NULL DEFAULT 0, last_failure TEXT,
        last_failure_at INTEGER) WITHOUT ROWID""",
    """CREATE TABLE statistic (
        id TEXT NOT NULL, kind TEXT NOT NULL, hour INTEGER NOT NULL, count INTEGER NOT NULL,
        PRIMARY KEY (id, kind, hour)) WITHOUT ROWID""",
    """CREATE TABLE lease (
        name TEXT PRIMARY KEY, holder TEXT NOT NULL, until INTEGER NOT NULL) WITHOUT ROWID""",
    # Senders: how far each line has come, and what it skipped last.
    """CREATE TABLE mark (
        scope TEXT NOT NULL, box TEXT NOT NULL, stream TEXT NOT NULL,
        sequence INTEGER NOT NULL, message TEXT NOT NULL, skipped INTEGER NOT NULL,
        PRIMARY KEY (scope, box, stream)) WITHOUT ROWID""",
    """CREATE TABLE skip (
        scope TEXT NOT NULL, box TEXT NOT NULL, stream TEXT NOT NULL, first INTEGER NOT NULL,
        last INTEGER NOT NULL, reason TEXT NOT NULL, at INTEGER NOT NULL,
        PRIMARY KEY (scope, box, stream, first)) WITHOUT ROWID""",
    # Bytes in pieces: of uploads that are not finished, and of drops.
    "CREATE TABLE body (key INTEGER PRIMARY KEY AUTOINCREMENT, bytes INTEGER NOT NULL)",
    "CREATE TABLE piece (key INTEGER PRIMARY KEY AUTOINCREMENT, data BLOB NOT NULL)",
    """CREATE TABLE body_piece (
        body INTEGER NOT NULL, n INTEGER NOT NULL, piece INTEGER NOT NULL,
        bytes INTEGER NOT NULL, PRIMARY KEY (body, n)) WITHOUT ROWID""",
    "CREATE INDEX body_by_piece ON body_piece (piece)",
    """CREATE TABLE upload (
        scope TEXT NOT NULL, box TEXT NOT NULL, message TEXT NOT NULL, body INTEGER NOT NULL,
        at INTEGER NOT NULL, PRIMARY KEY (scope, box, message)) WITHOUT ROWID""",
    "CREATE INDEX upload_by_at ON upload (at)",
    """CREATE TABLE payload (
        id TEXT PRIMARY KEY, flow INTEGER NOT NULL, flow_id TEXT NOT NULL,
        drop_id TEXT NOT NULL, body INTEGER NOT NULL, content_type TEXT) WITHOUT ROWID""",
    "CREATE INDEX payload_by_drop ON payload (flow, drop_id)",
    # Streams: what each device has sent to each.
    """CREATE UNIQUE INDEX stream_by_name ON object
        (account, json_extract(doc, '$.group'), json_extract(doc, '$.name'))
        WHERE kind = 'stream'""",
    """CREATE TABLE feed (
        stream TEXT NOT NULL, device TEXT NOT NULL, number INTEGER NOT NULL, batch TEXT,
        since INTEGER, messages INTEGER NOT NULL, bytes INTEGER NOT NULL, slices TEXT NOT NULL,
        body INTEGER, cut INTEGER NOT NULL, conflicts INTEGER NOT NULL,
        PRIMARY KEY (stream, device)) WITHOUT ROWID""",
    "CREATE INDEX feed_by_device ON feed (device)",
    """CREATE TABLE message_name (
        stream TEXT NOT NULL, device TEXT NOT NULL, number INTEGER NOT NULL, name BLOB NOT NULL,
        digest BLOB NOT NULL, PRIMARY KEY (stream, device, number)) WITHOUT ROWID""",
    "CREATE UNIQUE INDEX message_by_name ON message_name (stream, device, name)",
    """CREATE TABLE assembly (
        stream TEXT NOT NULL, device TEXT NOT NULL, batch TEXT NOT NULL, message TEXT NOT NULL,
        body INTEGER NOT NULL, chunks INTEGER NOT NULL, at INTEGER NOT NULL,
        PRIMARY KEY (stream, device, batch, message)) WITHOUT ROWID""",
)


def open_file(path: str, *, synchronous: str = "FULL", read_only: bool = False) -> apsw.Connection:
    """A connection to the database at *path*, set up and checked.

    Raises:
        SettingsError: *synchronous* is no level, or the file is not ours to open.
    """
    if synchronous not in SYNCHRONOUS:
        raise SettingsError(
            f"synchronous={synchronous!r} is no level", hint=f"one of {', '.join(SYNCHRONOUS)}"
        )
    flags = (
        apsw.SQLITE_OPEN_READONLY
        if read_only
        else apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
    )
    connection = apsw.Connection(path, flags=flags)
    try:
        connection.set_busy_timeout(5_000)
        if not read_only:
            _set(connection, "journal_mode", "wal", reads="wal")
        _set(connection, "synchronous", synchronous, reads=SYNCHRONOUS[synchronous])
        _set(connection, "wal_autocheckpoint", "4000", reads=4_000)
        # Savepoints copy the pages they change; in memory that costs next to nothing.
        _set(connection, "temp_store", "memory", reads=2)
        _set(connection, "cache_size", "-32000", reads=-32_000)
        _set(connection, "trusted_schema", "0", reads=0)
    except apsw.NotADBError:
        connection.close()
        raise SettingsError(f"{path} is not a database", hint="name another data folder") from None
    except BaseException:
        connection.close()
        raise
    return connection


def create_tables(connection: apsw.Connection, path: str) -> None:
    """Make the tables of a new file, or check that an old one is of this or an earlier version.

    Raises:
        SettingsError: the file was written by a newer flowkit, or by something else.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        if connection.execute("SELECT count(*) FROM sqlite_schema").get == 0:
            for statement in TABLES:
                connection.execute(statement)
            set_meta(connection, "schema_version", SCHEMA_VERSION)
            set_meta(connection, "node", secrets.token_hex(3))
        check_version(connection, path)
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def get_meta(connection: apsw.Connection, name: str) -> Any:
    """The value of a fact about the whole store, None if it was never set."""
    return connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).get


def set_meta(connection: apsw.Connection, name: str, value: int | str) -> None:
    """Set a fact about the whole store."""
    connection.execute("INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)", (name, value))


def check_version(connection: apsw.Connection, path: str) -> int:
    """The version of the schema in the file at *path*.

    Raises:
        SettingsError: it was written by a newer flowkit, or by something else.
    """
    tables: Sequence[Any] = connection.execute(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name = 'meta'"
    ).fetchall()
    found = get_meta(connection, "schema_version") if tables else None
    if found is None:
        raise SettingsError(f"{path} is not a flowkit store", hint="name another data folder")
    if found > SCHEMA_VERSION:
        raise SettingsError(
            f"{path} has schema version {found}, this flowkit knows up to {SCHEMA_VERSION}",
            hint="use the newer flowkit that wrote it",
        )
    return int(found)


def _set(connection: apsw.Connection, name: str, value: str, *, reads: object) -> None:
    """Set a pragma and read it back: SQLite ignores what it does not know or cannot do."""
    connection.execute(f"PRAGMA {name} = {value}").fetchall()
    found = connection.execute(f"PRAGMA {name}").get
    if found != reads:
        raise SettingsError(f"SQLite did not take {name} = {value}, it stayed at {found}")
