"""Checks a store's file against the invariants of its data.

``verify`` names every one that is broken.

I1: each number above the mark V is the beginning of exactly one row, or the end of exactly one row
that was deleted or evicted; no number is above the head. I2: live rows within the capacity, ended
rows within the history, E <= V <= head. And what the writer relies on: counters, epochs, the rows
of superseded states. The capacity of earlier times is not kept, so I2 is checked at the head.

Source: ``positions`` 11 (I1, I2).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from os import PathLike
from typing import Any

import apsw

from flowkit import limits
from flowkit.server.store.objects import ENABLED, FOLLOWS
from flowkit.server.store.rows import DROP_COLUMNS, SUMMED_COLUMNS, checksum
from flowkit.server.store.schema import ROW_BYTES_LEAST, check_version, open_file

__all__ = ["verify"]

_FLOWS = (
    "SELECT key, id, capacity, history, head, mark_e, mark_v, live, ended, ended_bytes FROM flow"
)

_ROWS_OF_NO_FLOW = "SELECT count(*) FROM drop_row WHERE flow NOT IN (SELECT key FROM flow)"
_EPOCHS_OF_NO_FLOW = "SELECT count(*) FROM epoch WHERE flow NOT IN (SELECT key FROM flow)"

_SOURCES = f"SELECT json_extract(doc, '$.source') FROM object WHERE {FOLLOWS} AND {ENABLED}"
_MEMBERS = (
    "SELECT value, object.id FROM object, json_each(object.doc, '$.memberIds') WHERE kind = 'group'"
)
_THINGS = "SELECT id FROM identity UNION ALL SELECT id FROM flow UNION ALL SELECT id FROM object"

_BESIDE_THE_FLOWS = (
    (
        "objects contradict themselves",
        "SELECT count(*) FROM object WHERE NOT (json_valid(doc, 8) AND json_valid(state, 8)"
        " AND json_extract(doc, '$.id') IS id AND"
        " json_extract(doc, '$.creationDate') IS creation_date)",
    ),
    (
        "objects belong to no account",
        "SELECT count(*) FROM object WHERE account NOT IN (SELECT name FROM identity)",
    ),
    (
        "secrets belong to no account",
        "SELECT count(*) FROM credential WHERE account NOT IN (SELECT name FROM identity)",
    ),
    (
        "secrets belong to no object",
        "SELECT count(*) FROM credential WHERE (object_id IS NULL) != (kind = 'master')"
        " OR (object_id IS NOT NULL AND object_id NOT IN (SELECT id FROM object))",
    ),
    (
        "members of groups are in no group's list, or are missing from the index",
        f"SELECT (SELECT count(*) FROM (SELECT * FROM group_member EXCEPT {_MEMBERS})) +"
        f" (SELECT count(*) FROM ({_MEMBERS} EXCEPT SELECT * FROM group_member))",
    ),
    (
        "deliveries have a source without an enabled track",
        f"SELECT count(*) FROM delivery WHERE source NOT IN ({_SOURCES})",
    ),
    (
        "deliveries wait for nobody",
        "SELECT count(*) FROM delivery JOIN (SELECT json_extract(doc, '$.source') AS path,"
        " min(place) AS least FROM object JOIN track_place ON track = id"
        f" WHERE {FOLLOWS} AND {ENABLED} GROUP BY path) ON path = source"
        " WHERE delivery.place <= least",
    ),
    (
        "tracks have no place, or places no track",
        f"SELECT (SELECT count(*) FROM object WHERE {FOLLOWS} AND id NOT IN"
        " (SELECT track FROM track_place)) + (SELECT count(*) FROM track_place WHERE track"
        f" NOT IN (SELECT id FROM object WHERE {FOLLOWS}))",
    ),
    (
        "tracks are beyond the end of the line",
        "SELECT count(*) FROM track_place WHERE place > coalesce("
        "(SELECT seq FROM sqlite_sequence WHERE name = 'delivery'), 0)",
    ),
    (
        "statistics are of nothing that exists",
        f"SELECT count(*) FROM statistic WHERE count < 1 OR id NOT IN ({_THINGS})",
    ),
)
"""What must not be, since schema 2: a sentence without its number, and the number."""

_SCOPES = "SELECT id FROM object WHERE kind = 'device' UNION ALL SELECT '/' || name FROM identity"
_OWNED = (
    "SELECT body FROM upload UNION ALL SELECT body FROM payload UNION ALL SELECT body FROM assembly"
    " UNION ALL SELECT body FROM feed WHERE body IS NOT NULL"
)
_FEEDS = (
    "SELECT stream, device FROM feed UNION ALL SELECT stream, device FROM assembly"
    " UNION ALL SELECT stream, device FROM message_name"
)

_SENDERS = (
    (
        "marks of senders contradict themselves",
        "SELECT count(*) FROM mark WHERE sequence < 1 OR skipped NOT BETWEEN 0 AND sequence",
    ),
    (
        "marks of senders belong to no device and no account",
        f"SELECT count(*) FROM mark WHERE scope NOT IN ({_SCOPES})",
    ),
    (
        "skipped ranges contradict themselves or their mark",
        "SELECT count(*) FROM skip LEFT JOIN mark USING (scope, box, stream)"
        " WHERE first NOT BETWEEN 1 AND last OR sequence IS NULL OR last > sequence",
    ),
    (
        "bodies have other bytes than their pieces",
        "SELECT count(*) FROM body WHERE bytes != (SELECT coalesce(sum(bytes), 0) FROM body_piece"
        " WHERE body_piece.body = key)",
    ),
    (
        "bodies have pieces that are not there, or of another size",
        "SELECT count(*) FROM body_piece LEFT JOIN piece ON key = piece"
        " WHERE data IS NULL OR length(data) != bytes OR body NOT IN (SELECT key FROM body)",
    ),
    (
        "pieces are of no body",
        "SELECT count(*) FROM piece WHERE key NOT IN (SELECT piece FROM body_piece)",
    ),
    (
        "bodies belong to nothing, or to more than one thing",
        f"SELECT (SELECT count(*) FROM body WHERE key NOT IN ({_OWNED})) + (SELECT count(*) FROM"
        f" (SELECT body FROM ({_OWNED}) GROUP BY body HAVING count(*) > 1))",
    ),
    (
        "payloads are of no drop",
        "SELECT count(*) FROM payload WHERE NOT EXISTS (SELECT 1 FROM drop_row WHERE"
        " drop_row.flow = payload.flow AND drop_row.id = payload.drop_id)",
    ),
    (
        "uploads belong to no device and no account",
        f"SELECT count(*) FROM upload WHERE scope NOT IN ({_SCOPES})",
    ),
    (
        "messages are of no stream or no device",
        f"SELECT count(*) FROM ({_FEEDS}) WHERE stream NOT IN (SELECT id FROM object WHERE"
        " kind = 'stream') OR device NOT IN (SELECT id FROM object WHERE kind = 'device')",
    ),
    (
        "tokens say that they are of a device that does not have them",
        "SELECT count(*) FROM object AS token LEFT JOIN object AS device"
        " ON device.id = json_extract(token.state, '$.deviceId') AND device.kind = 'device'"
        " WHERE token.kind = 'token' AND json_extract(token.state, '$.deviceId') IS NOT NULL"
        " AND device.id IS NULL",
    ),
    (
        "devices have the same deviceId as another of their account",
        "SELECT count(*) - count(DISTINCT account || '/' || lower(json_extract(doc, '$.deviceId')))"
        " FROM object WHERE kind = 'device' AND json_extract(doc, '$.deviceId') IS NOT NULL",
    ),
)
"""The same, since schema 3."""

_SUMMED = f"SELECT crc, {SUMMED_COLUMNS}, {DROP_COLUMNS} FROM drop_row WHERE crc IS NOT NULL"

_ROW_BYTES = (
    f"({ROW_BYTES_LEAST} + length(elems) + coalesce(length(location), 0)"
    " + coalesce(length(parent), 0) + coalesce(octet_length(types), 0)"
    " + coalesce(octet_length(fhash), 0))"
)

_COUNTS = (
    "SELECT count(*) FILTER (WHERE until IS NULL), count(*) FILTER (WHERE until IS NOT NULL),"
    " coalesce(sum(bytes) FILTER (WHERE until IS NOT NULL), 0),"
    " coalesce(max(max(seq, born, coalesce(until, 0))), 0),"
    " count(*) FILTER (WHERE born > seq OR until < seq OR (until IS NULL) != (ended IS NULL)"
    f" OR bytes != {_ROW_BYTES}"
    " OR (born = seq) != (began IN ('create', 'pass')) OR NOT json_valid(elems, 8))"
    " FROM drop_row WHERE flow = ?"
)

_NUMBERS = (
    "SELECT count(*), count(DISTINCT n) FROM ("
    "SELECT seq AS n FROM drop_row WHERE flow = ?1 AND seq > ?2 UNION ALL "
    "SELECT until FROM drop_row WHERE flow = ?1 AND until > ?2 AND ended IN ('delete', 'evict'))"
)

_LOOSE_ENDS = (
    "SELECT count(*) FROM drop_row AS old WHERE flow = ?1 AND until > ?2 AND ("
    "(ended IN ('replace', 'update') AND NOT EXISTS (SELECT 1 FROM drop_row AS new"
    " WHERE new.flow = ?1 AND new.seq = old.until AND new.id = old.id AND new.born = old.born"
    " AND new.began = old.ended))"
    " OR (ended = 'pass' AND (until != seq OR began != 'pass'))"
    " OR ended NOT IN ('replace', 'update', 'delete', 'evict', 'pass'))"
)

_LIVE_TWICE = (
    "SELECT count(*) FROM (SELECT 1 FROM drop_row WHERE flow = ? AND until IS NULL"
    " GROUP BY id HAVING count(*) > 1)"
)


def verify(store: apsw.Connection | str | PathLike[str]) -> list[str]:
    """Every invariant that the store's file breaks, one sentence each; empty for a sound file.

    Args:
        store: the database file, or a connection to it. All is read in one transaction.

    A file of an earlier schema is checked for what that schema has.

    Raises:
        SettingsError: it is no store, or one of a newer flowkit.
    """
    if not isinstance(store, apsw.Connection):
        try:
            connection = open_file(str(store), read_only=True)
        except apsw.Error as error:
            return [f"the file: {error}"]
        try:
            return verify(connection)
        finally:
            connection.close()
    store.execute("BEGIN")
    try:
        try:
            version = check_version(store, store.filename)
        except apsw.Error as error:
            return [f"the file: {error}"]
        checks = [check for since, check in _CHECKS if version >= since]
        return [fault for check in checks for fault in _outcome(check, store)]
    finally:
        with suppress(apsw.Error):  # on a damaged file even that may fail
            store.execute("COMMIT")


def _outcome(check: Callable[[apsw.Connection], list[str]], store: apsw.Connection) -> list[str]:
    """What a check finds; what cannot be read, or is of another type, is a fault like any other."""
    try:
        return check(store)
    except (apsw.Error, TypeError, ValueError) as error:
        return [f"the file: {error}"]


def _check_file(store: apsw.Connection) -> list[str]:
    said: list[Any] = store.execute("PRAGMA integrity_check").fetchall()
    faults = [f"the file: {text}" for (text,) in said if text != "ok"]
    for what, sql in (("rows", _ROWS_OF_NO_FLOW), ("epochs", _EPOCHS_OF_NO_FLOW)):
        count = store.execute(sql).get
        if count:
            faults.append(f"{count} {what} belong to no flow")
    return faults


def _check_rest(store: apsw.Connection) -> list[str]:
    """What stands beside the flows."""
    return _counted(store, _BESIDE_THE_FLOWS)


def _check_senders(store: apsw.Connection) -> list[str]:
    """The lines of senders."""
    return _counted(store, _SENDERS)


def _counted(store: apsw.Connection, rules: Sequence[tuple[str, str]]) -> list[str]:
    counted = [(store.execute(sql).get, what) for what, sql in rules]
    return [f"{count} {what}" for count, what in counted if count]


def _check_sums(store: apsw.Connection) -> list[str]:
    """Every drop against its checksum; rows from before schema 2 have none."""
    cursor = store.execute(_SUMMED)
    wrong = sum(1 for crc, *values in cursor if checksum(values) != crc)
    return [f"{wrong} rows of drops differ from their checksum"] if wrong else []


def _check_flows(store: apsw.Connection) -> list[str]:
    flows: list[Any] = store.execute(_FLOWS).fetchall()
    return [
        f"flow {flow[1]}: {fault}"
        for flow in flows
        for fault in (*_check_flow(store, flow), *_epochs(store, flow))
    ]


def _check_flow(store: apsw.Connection, flow: tuple[Any, ...]) -> list[str]:
    key, _, capacity, history, head, mark_e, mark_v, live, ended, ended_bytes = flow
    if history is None:
        history = min(capacity, limits.flow_history_default_max)
    counts: Any = store.execute(_COUNTS, (key,)).get
    found_live, found_ended, found_bytes, highest, malformed = counts
    numbers: Any = store.execute(_NUMBERS, (key, mark_v)).get
    given, distinct = numbers
    loose = store.execute(_LOOSE_ENDS, (key, mark_v)).get
    twice = store.execute(_LIVE_TWICE, (key,)).get
    wanted = head - mark_v
    return [
        fault
        for broken, fault in (
            (not 0 <= mark_e <= mark_v <= head, f"E {mark_e}, V {mark_v}, head {head}"),
            (highest > head, f"a row has the number {highest}, the head is {head}"),
            (
                not given == distinct == wanted,
                f"of the {wanted} changes after V {distinct} are held, {given - distinct} twice",
            ),
            (bool(loose), f"{loose} ended rows do not say how they ended"),
            (bool(malformed), f"{malformed} rows contradict themselves"),
            (bool(twice), f"{twice} drops live twice"),
            (found_live != live, f"{found_live} live rows, counted {live}"),
            (found_ended != ended, f"{found_ended} ended rows, counted {ended}"),
            (found_bytes != ended_bytes, f"{found_bytes} ended bytes, counted {ended_bytes}"),
            (live > capacity, f"{live} live rows, the capacity is {capacity}"),
            (ended > history, f"{ended} ended rows, the history is {history}"),
            (
                ended_bytes > limits.flow_history_bytes_max,
                f"{ended_bytes} ended bytes, the bound is {limits.flow_history_bytes_max}",
            ),
        )
        if broken
    ]


def _epochs(store: apsw.Connection, flow: tuple[Any, ...]) -> list[str]:
    """The list of epochs reaches from the first held change to the newest."""
    head, mark_e = flow[4], flow[5]
    rows: list[Any] = store.execute(
        "SELECT first_seq, name FROM epoch WHERE flow = ? ORDER BY first_seq", (flow[0],)
    ).fetchall()
    if not rows:
        return ["it has changes and no epoch"] if head else []
    faults = []
    if rows[0][0] > mark_e + 1:
        faults.append(f"changes before {rows[0][0]} have no epoch, E is {mark_e}")
    if rows[-1][0] > head:
        faults.append(f"an epoch begins at {rows[-1][0]}, the head is {head}")
    if len({name for _, name in rows}) < len(rows):
        faults.append("an epoch is listed twice")
    return faults


_CHECKS = (
    (1, _check_file),
    (1, _check_flows),
    (2, _check_rest),
    (2, _check_sums),
    (3, _check_senders),
)
"""Each check with the first schema that has what it looks at."""
