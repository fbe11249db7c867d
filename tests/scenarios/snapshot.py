"""Everything that a store holds, and the difference of two such snapshots as lines.

Every table of the file is read. A table that nobody has put into words here is still compared, row
by row, so no effect can hide in a table that came later.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import apsw

__all__ = ["differences", "snapshot"]

Row = dict[str, Any]
Table = dict[tuple[Any, ...], Row]

_KEYS: Mapping[str, tuple[str, ...]] = {
    "flow": ("key",),
    "drop_row": ("flow", "seq"),
    "object": ("id",),
    "identity": ("id",),
    "credential": ("secret_hash",),
    "delivery": ("place",),
    "track_place": ("track",),
    "statistic": ("id", "kind"),
    "group_member": ("identity_id", "group_id"),
    "lease": ("name",),
    "meta": ("name",),
    "answer": ("name",),
    "epoch": ("flow", "first_seq"),
    "mark": ("scope", "box", "stream"),
    "skip": ("scope", "box", "stream", "first"),
    "upload": ("scope", "box", "message"),
    "feed": ("stream", "device"),
    "message_name": ("stream", "device", "number"),
    "body": ("key",),
    "body_piece": ("body", "n"),
    "piece": ("key",),
}
_JSON = {"elems", "location", "parent", "doc", "state"}
_BOOKKEEPING = {"head", "mark_e", "mark_v", "live", "ended", "ended_bytes"}
"""Columns of a flow that follow from its rows; ``verify`` recounts them."""


def _follows(table: str, row: Row) -> bool:
    """Whether a row follows from others: the newest id, and the epochs of rows (also verified)."""
    return table == "epoch" or (table == "meta" and row["name"] == "last_id")


def snapshot(file: Path) -> dict[str, Table]:
    """Every row of every table, by the key of its table."""
    connection = apsw.Connection(str(file), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        with connection:
            names = connection.execute(
                "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
            )
            return {name: _table(connection, name) for (name,) in names.fetchall()}
    finally:
        connection.close()


def _table(connection: apsw.Connection, name: str) -> Table:
    columns = [row[1] for row in connection.execute(f"PRAGMA table_info({name})").fetchall()]
    chosen = ", ".join(f"json({each})" if each in _JSON else each for each in columns)
    rows = connection.execute(f"SELECT {chosen} FROM {name}").fetchall()
    keys = _KEYS.get(name, tuple(columns))
    found: Table = {}
    for values in rows:
        row = dict(zip(columns, values, strict=True))
        for column in _JSON & set(row):
            row[column] = json.loads(row[column]) if row[column] is not None else None
        key = tuple(row[each] for each in keys)
        if name == "statistic" and key in found:
            row["count"] += found[key]["count"]
        found[key] = row
    return found


def differences(
    before: Mapping[str, Table], after: Mapping[str, Table], called: Callable[[Any], str]
) -> list[str]:
    """What changed, one line for each effect.

    Args:
        before, after: two snapshots.
        called: the name of an id in the lines.
    """
    lines: list[str] = []
    paths = {key[0]: row["path"] for at in (before, after) for key, row in at["flow"].items()}
    inboxes = {
        row["id"]: f"the inbox of {row['account']}"
        for at in (before, after)
        for row in at["flow"].values()
        if row["path"].endswith("/:inbox")
    }

    def named(found: Any) -> str:
        return inboxes.get(found) or called(found)

    for name in sorted({*before, *after}):
        told = _TOLD.get(name, _told_plainly(name))
        old, new = before.get(name, {}), after.get(name, {})
        for key in {**old, **new}:
            row = new.get(key) or old[key]
            if old.get(key) != new.get(key) and not _follows(name, row):
                lines.extend(told(old.get(key), new.get(key), named, paths))
    return sorted(lines)


Told = Callable[[Row | None, Row | None, Callable[[Any], str], Mapping[int, str]], Iterator[str]]


def _told_plainly(name: str) -> Told:
    """A table without words of its own."""

    def told(old: Row | None, new: Row | None, called: Any, _paths: Any) -> Iterator[str]:
        row = new or old or {}
        subject = called(row.get("id") or row.get("name") or row.get("flow"))
        yield f"{name} {_verb(old, new)}: {subject}"

    return told


def _verb(old: Row | None, new: Row | None) -> str:
    return "made" if old is None else "removed" if new is None else "changed"


def _changed(old: Row, new: Row) -> str:
    return ", ".join(sorted(name for name in {**old, **new} if old.get(name) != new.get(name)))


def _thing(kind: str, old: Row | None, new: Row | None, called: Any) -> Iterator[str]:
    """An object with an id: made, removed, or which members changed."""
    verb = _verb(old, new)
    members = f" ({_changed(old, new)})" if old and new else ""
    yield f"{kind} {verb}: {called((new or old or {})['id'])}{members}"


def _flow(old: Row | None, new: Row | None, called: Any, _paths: Any) -> Iterator[str]:
    kept = [
        {name: value for name, value in row.items() if name not in _BOOKKEEPING} if row else None
        for row in (old, new)
    ]
    if kept[0] != kept[1]:
        path = (new or old or {})["path"]
        if path.endswith("/:inbox") and old is None:
            yield f"flow made: {path}"
        else:
            yield from _thing("flow", kept[0], kept[1], called)


def _object(old: Row | None, new: Row | None, called: Any, _paths: Any) -> Iterator[str]:
    flat = [
        {**{name: value for name, value in row.items() if name != "doc"}, **row["doc"]}
        if row
        else None
        for row in (old, new)
    ]
    yield from _thing((new or old or {})["kind"], flat[0], flat[1], called)


def _drop_row(old: Row | None, new: Row | None, called: Any, paths: Any) -> Iterator[str]:
    row = new or old or {}
    path, name = paths[row["flow"]], called(row["id"])
    if new is None:
        yield f"row gone from {path}: {name}"
        return
    if old is None and path.endswith("/:inbox"):
        said = new["elems"]
        thing = said["object"]
        what = f"{said['action']} {thing['kind']} {called(thing['id'])}"
        yield f"inbox of {path.split('/')[1]}: {what}"
    elif old is None:
        yield f"row begun in {path}: {new['began']} {name}"
    if new["until"] is not None and (old is None or old["until"] is None):
        yield f"row ended in {path}: {new['ended']} {name}"


def _statistic(old: Row | None, new: Row | None, called: Any, _paths: Any) -> Iterator[str]:
    row = new or old or {}
    more = row["count"] - (old["count"] if old else 0)
    yield f"{row['kind']} of {called(row['id'])} {f'{more:+}' if new else 'forgotten'}"


def _delivery(old: Row | None, new: Row | None, called: Any, _paths: Any) -> Iterator[str]:
    row = new or old or {}
    verb = "waits" if old is None else "is done"
    yield f"delivery {verb} at {row['source']}: {called(row['doc']['id'])}"


def _credential(old: Row | None, new: Row | None, called: Any, _paths: Any) -> Iterator[str]:
    row = new or old or {}
    yield f"secret {_verb(old, new)}: {called(row['object_id'] or row['account'])}"


def _member(old: Row | None, new: Row | None, called: Any, _paths: Any) -> Iterator[str]:
    row = new or old or {}
    verb = "is in" if old is None else "is no more in"
    yield f"{called(row['identity_id'])} {verb} {called(row['group_id'])}"


def _track_place(old: Row | None, new: Row | None, called: Any, _paths: Any) -> Iterator[str]:
    row = new or old or {}
    yield f"place of {called(row['track'])} {_verb(old, new)}"


def _answer(old: Row | None, new: Row | None, _called: Any, _paths: Any) -> Iterator[str]:
    yield "answer kept" if old is None else f"answer {_verb(old, new)}"


def _mark(_old: Row | None, new: Row | None, called: Any, _paths: Any) -> Iterator[str]:
    row = new or {}
    scope = row["scope"] if row["scope"][0] == "/" else called(row["scope"])
    yield f"mark of {scope} in {row['stream']}: {row['sequence']}, {row['skipped']} skipped"


def _skip(_old: Row | None, new: Row | None, _called: Any, _paths: Any) -> Iterator[str]:
    row = new or {}
    yield f"skip in {row['stream']}: {row['first']} to {row['last']}, {row['reason']}"


def _upload(old: Row | None, new: Row | None, _called: Any, _paths: Any) -> Iterator[str]:
    yield f"upload {_verb(old, new)} by {(new or old or {})['scope']}"


def _body(old: Row | None, new: Row | None, _called: Any, _paths: Any) -> Iterator[str]:
    yield f"body {_verb(old, new)}: {(new or old or {})['bytes']} bytes"


def _piece(old: Row | None, new: Row | None, _called: Any, _paths: Any) -> Iterator[str]:
    row = new or old or {}
    yield f"piece {row['n']} {_verb(old, new)}: {row['bytes']} bytes"


def _bytes(old: Row | None, new: Row | None, _called: Any, _paths: Any) -> Iterator[str]:
    yield f"bytes of a piece {_verb(old, new)}: {(new or old or {})['data']!r}"


def _feed(said: str) -> Told:
    """What a device sent to a stream."""

    def told(old: Row | None, new: Row | None, called: Any, _paths: Any) -> Iterator[str]:
        row = new or old or {}
        place = f"{called(row['device'])} to {called(row['stream'])}"
        yield f"{said} {_verb(old, new)}: {place}, {row['number']}"

    return told


_TOLD: Mapping[str, Told] = {
    "upload": _upload,
    "feed": _feed("feed"),
    "message_name": _feed("message name"),
    "body": _body,
    "body_piece": _piece,
    "piece": _bytes,
    "answer": _answer,
    "credential": _credential,
    "delivery": _delivery,
    "drop_row": _drop_row,
    "flow": _flow,
    "group_member": _member,
    "mark": _mark,
    "skip": _skip,
    "identity": lambda old, new, called, _paths: _thing("identity", old, new, called),
    "object": _object,
    "statistic": _statistic,
    "track_place": _track_place,
}
