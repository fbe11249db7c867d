"""The tables of a device's file, and the marks by which it is known.

``row`` holds what is to be sent, and what was settled and is kept. Nothing states the next
sequence of a stream: the rows beyond ``acked`` follow one another without a hole, so it is the one
after the last row, or after ``acked`` where there is none.
"""

from __future__ import annotations

__all__ = ["APPLICATION_ID", "KEPT", "SKIP", "TABLES", "VERSION", "WAITS"]

APPLICATION_ID = 0x666B6F62
"""Stands in the header of the file; nothing else is an outbox."""

VERSION = 1
"""Of the tables; a file with a higher one was written by a newer flowkit."""

WAITS, SKIP, KEPT = 0, 1, 2
"""States of a row: to be sent; nothing is sent for its sequences; settled and kept."""

TABLES = (
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID",
    "CREATE TABLE value (name TEXT PRIMARY KEY, json BLOB NOT NULL)",
    "CREATE TABLE stream ("
    " id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE,"
    " sent INTEGER NOT NULL DEFAULT 0, acked INTEGER NOT NULL DEFAULT 0, message TEXT)",
    "CREATE TABLE row ("
    " id INTEGER PRIMARY KEY, stream INTEGER NOT NULL, sequence INTEGER NOT NULL,"
    " upto INTEGER NOT NULL, state INTEGER NOT NULL, bytes INTEGER NOT NULL,"
    " priority INTEGER NOT NULL, made_ms INTEGER NOT NULL, aged_ms INTEGER NOT NULL,"
    " attempts INTEGER NOT NULL, payload INTEGER, payload_bytes INTEGER NOT NULL,"
    " message TEXT NOT NULL, skip TEXT, error TEXT, entry BLOB)",
    "CREATE UNIQUE INDEX row_in_order ON row (stream, sequence)",
    "CREATE TABLE piece ("
    " payload INTEGER NOT NULL, number INTEGER NOT NULL, bytes BLOB NOT NULL,"
    " PRIMARY KEY (payload, number))",
    "CREATE TABLE dead ("
    " id INTEGER PRIMARY KEY AUTOINCREMENT, stream TEXT NOT NULL, box TEXT NOT NULL,"
    " sequence INTEGER NOT NULL, message TEXT NOT NULL, priority INTEGER NOT NULL,"
    " made_ms INTEGER NOT NULL, died_ms INTEGER NOT NULL, attempts INTEGER NOT NULL,"
    " payload INTEGER, payload_bytes INTEGER NOT NULL, error TEXT NOT NULL, entry BLOB NOT NULL)",
    "CREATE TABLE report ("
    " id INTEGER PRIMARY KEY AUTOINCREMENT, at_ms INTEGER NOT NULL, kind TEXT NOT NULL,"
    " about TEXT UNIQUE, facts TEXT NOT NULL)",
)
"""One statement each, run in one transaction together with the marks above."""
