"""The allow-list: which column holds which member, and of which kind it is.

Nothing that a user wrote becomes part of a statement: a member that is not listed here has no
column, names inside maps travel as parameters (JSON paths), and so do all values.

Source: protocol 1.4, 1.5, 1.8 (members), 4.2 (members of filters).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from flowkit.query.meaning import is_index
from flowkit.query.nodes import Path

__all__ = ["DOCUMENT", "FIELDS", "JSON_TYPES", "TABLES", "Field", "index_step", "json_path"]


@dataclass(frozen=True, slots=True)
class Field:
    """A member that has a column.

    Attributes:
        column: the name of the column.
        kind: what the column holds; ``boolean`` is 0 or 1, ``json`` is JSONB.
        nullable: whether it may be NULL, which means that the member is absent.
    """

    column: str
    kind: Literal["integer", "text", "boolean", "json"]
    nullable: bool = True


_STORED: Mapping[str, Field] = {
    "id": Field("id", "text", nullable=False),
    "creationDate": Field("creation_date", "integer", nullable=False),
    "creatorId": Field("creator_id", "text"),
    "lastEditDate": Field("last_edit_date", "integer"),
    "lastEditorId": Field("last_editor_id", "text"),
}
"""Members of every stored object (1.2)."""

FIELDS: Mapping[str, Mapping[str, Field]] = {
    "drop": {
        **_STORED,
        "version": Field("version", "integer", nullable=False),
        "fhash": Field("fhash", "text"),
        "elems": Field("elems", "json", nullable=False),
        "location": Field("location", "json"),
        "parentDropId": Field("parent", "json"),
    },
    "flow": {
        **_STORED,
        "path": Field("path", "text", nullable=False),
        "capacity": Field("capacity", "integer", nullable=False),
        "description": Field("description", "text"),
        "filter": Field("filter", "text"),
        "public": Field("public", "boolean"),
        "history": Field("history", "integer"),
    },
    "identity": {
        **_STORED,
        "name": Field("name", "text", nullable=False),
        "email": Field("email", "text"),
        "salutation": Field("salutation", "text"),
        "firstName": Field("first_name", "text"),
        "middleName": Field("middle_name", "text"),
        "lastName": Field("last_name", "text"),
        "icon": Field("icon", "text"),
    },
}
"""Resource to member to column. ``path`` and ``flowId`` of a Drop are those of its Flow: no
columns."""

DOCUMENT = Field("doc", "json", nullable=False)
"""Where all members of an object stand: a track, token, device …; it has no column for one."""

TABLES: Mapping[str, str] = {"drop": "drop_row", "flow": "flow", "identity": "identity"}
"""Resource to table."""

JSON_TYPES: Mapping[str, tuple[str, ...]] = {
    "integer": ("integer",),
    "long": ("integer",),
    "float": ("real",),
    "string": ("text",),
    "boolean": ("true", "false"),
    "map": ("object",),
    "list": ("array",),
}
"""Inferred type of an element (2.1) to the names that ``json_type`` gives such values."""


def json_path(segments: Path) -> str:
    """The JSON path of a member inside maps; names are quoted and escaped as JSON, whatever they
    hold.

    A segment of digits means the key of that name here; see ``index_step`` for arrays.
    """
    return "$" + "".join(f".{_quoted(segment)}" for segment in segments)


def index_step(segment: str) -> str | None:
    """The step into an array for a segment of digits; None if it is no index that an array can
    have."""
    # SQLite counts in 32 bits and would wrap around.
    return f"[{int(segment)}]" if is_index(segment) and len(segment) <= 9 else None


def _quoted(name: str) -> str:
    try:
        name.encode()
    except UnicodeEncodeError:  # half a surrogate pair cannot be bound; its escape can
        return json.dumps(name)
    return json.dumps(name, ensure_ascii=False)
