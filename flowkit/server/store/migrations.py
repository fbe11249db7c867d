"""From every earlier schema to the present one, a numbered step at a time.

Rules: a step is never changed once it has been released; what it makes equals what ``schema.py``
makes of a new file (a test compares them). All steps of one opening are one transaction: a crash in
the middle leaves the old file whole, and the next opening begins again.

Source: ``docs/howto/backup_and_restore.rst`` ("A newer flowkit").
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import apsw

from flowkit.server.store.schema import SCHEMA_VERSION, get_meta, set_meta

__all__ = ["STEPS", "migrate"]

_log = logging.getLogger(__name__)

STEPS: Mapping[int, Sequence[str]] = {
    # Tracks, credentials, sharing, statistics, leases; drops with a checksum.
    2: (
        "ALTER TABLE drop_row ADD COLUMN crc INTEGER",
        "ALTER TABLE credential ADD COLUMN object_id TEXT",
        "ALTER TABLE credential ADD COLUMN expires_at INTEGER",
        "CREATE INDEX credential_by_object ON credential (object_id) WHERE object_id IS NOT NULL",
        """CREATE TABLE object (
            id TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, account TEXT NOT NULL,
            creation_date INTEGER NOT NULL, creator_id TEXT,
            last_edit_date INTEGER, last_editor_id TEXT, doc BLOB NOT NULL,
            state BLOB NOT NULL)""",
        "CREATE INDEX object_by_account ON object (kind, account, id)",
        """CREATE INDEX share_by_issued_to ON object (json_extract(doc, '$.issuedTo'))
            WHERE kind = 'share'""",
        """CREATE INDEX track_by_source ON object (json_extract(doc, '$.source'))
            WHERE kind = 'track'""",
        """CREATE TABLE group_member (
            identity_id TEXT NOT NULL, group_id TEXT NOT NULL,
            PRIMARY KEY (identity_id, group_id)) WITHOUT ROWID""",
        "CREATE INDEX member_by_group ON group_member (group_id)",
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
    ),
    # The lines of senders; the Token of a device says whose it is.
    3: (
        # Devices and operations, found by what they are called.
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
        """UPDATE object SET state = jsonb_set(state, '$.deviceId', device)
            FROM (SELECT id AS device, json_extract(doc, '$.tokenId') AS token
                FROM object WHERE kind = 'device')
            WHERE id = token AND kind = 'token'""",
    ),
}
"""The version that a step leads to, from the one before it, and its statements."""


def migrate(connection: apsw.Connection) -> None:
    """Bring a file of an earlier version to the present one, in one transaction.

    The file must be a store of this or an earlier version (``schema.create_tables`` has checked).

    Raises:
        apsw.Error: it could not be done; the file is as it was.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        found = int(get_meta(connection, "schema_version"))
        for version in range(found + 1, SCHEMA_VERSION + 1):
            for statement in STEPS[version]:
                connection.execute(statement)
            set_meta(connection, "schema_version", version)
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
    if found < SCHEMA_VERSION:
        _log.info("the store was brought from schema %d to %d", found, SCHEMA_VERSION)
