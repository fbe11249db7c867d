"""What one file keeps about itself: whose it is, its clock, its values, its free room."""

from __future__ import annotations

import contextlib
import secrets
import sqlite3
from collections.abc import Callable, Mapping

from flowkit.device import bounds
from flowkit.device.ages import AgeClock
from flowkit.device.letters import Report, report
from flowkit.device.opening import Opened
from flowkit.device.room import Room, check_disk
from flowkit.device.rows import Ledger
from flowkit.device.salvage import salvage
from flowkit.errors import FlowKitError, SettingsError

__all__ = [
    "Owner",
    "begin",
    "bind",
    "free_pages",
    "give_back",
    "give_back_more",
    "keep_all",
    "kept",
    "kept_sizes",
    "note_clock",
]

Db = sqlite3.Connection
Owner = tuple[str | None, str | None]


def begin(
    db: Db, ledger: Ledger, ages: AgeClock, *, opened: Opened, room: Room, owner: Owner
) -> list[Report]:
    """Read what the file holds when it is opened, or take over what can be read of a damaged one.

    Raises:
        SettingsError: it holds entries of another device.
    """
    ledger.load(db)
    noted = dict(db.execute("SELECT name, value FROM meta WHERE name IN ('age', 'wall')"))
    ages.begin(noted.get("age", 0), noted.get("wall", 0))
    room.prepare(db)
    told = []
    if opened.aside is not None:
        now = (ages.wall_ms(), ages.now())
        taken_over = salvage(db, ledger, opened.aside, now)
        facts = {"file": opened.aside, "problem": opened.problem, "salvaged": taken_over}
        told.append(report(db, "set aside", now[0], {**facts, "box": ledger.box}))
    if owner != (None, None):
        told += bind(db, ledger, room.path, owner, ages.wall_ms())
    return told


def bind(db: Db, ledger: Ledger, path: str, owner: Owner, at_ms: int) -> list[Report]:
    """Make the file that of *owner* (device and instance; None leaves what it is).

    Raises:
        SettingsError: it is another's and holds entries or dead letters of it.
    """
    before = (ledger.device, ledger.instance)
    after = (owner[0] or before[0], owner[1] or before[1])
    if after == before:
        return []
    told = []
    if any(was is not None and was != now for was, now in zip(before, after, strict=True)):
        dead = db.execute("SELECT count(*) FROM dead").fetchone()[0]
        if ledger.count or dead:
            raise SettingsError(
                f"the outbox {path} holds {ledger.count} entries and {dead} dead letters of "
                f"{_named(before)}, and was opened for {_named(after)}",
                hint="send them as the former, drop them, or take another file",
            )
        db.execute("DELETE FROM row")
        db.execute("DELETE FROM piece")
        db.execute("DELETE FROM stream")
        # The credential that is just obtained says itself whose it is.
        db.execute("DELETE FROM value WHERE name NOT IN ('registration', 'provisioning')")
        db.execute("UPDATE meta SET value=? WHERE name='box'", (secrets.token_hex(16),))
        facts = {"from": list(before), "to": list(after)}
        told.append(report(db, "rebound", at_ms, facts))
    for name, value in zip(("device", "instance"), after, strict=True):
        if value is not None:
            db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))
    ledger.load(db)
    return told


def _named(owner: Owner) -> str:
    device, instance = owner
    at = f" at {instance}" if instance else ""
    return f"the device {device!r}{at}" if device else f"a device without a name{at}"


def note_clock(db: Db, ages: AgeClock, *, always: bool = False) -> None:
    """Write the clock of ages into the file, now and then."""
    note = ages.to_note(always=always)
    if note is not None:
        db.execute("INSERT OR REPLACE INTO meta VALUES ('age', ?), ('wall', ?)", note)


def give_back(db: Db, pages: int = bounds.outbox_free_pages_step) -> bool:
    """Give some room of a file that is mostly empty back to the disk; whether there was any.

    Python's sqlite3 stops after the first page of a larger count, so they are asked for one by one.
    """
    free = free_pages(db)
    if free < bounds.outbox_free_pages_min:
        return False
    if free * 2 <= db.execute("PRAGMA page_count").fetchone()[0]:
        return False
    for _ in range(pages):
        db.execute("PRAGMA incremental_vacuum(1)")
    return True


def give_back_more(write: Callable[[Callable[[Db], bool]], bool], freed: int) -> None:
    """The same after many pages were freed at once, as by a large payload: twice as many of them.

    So a file is not much larger than twice what is in it. Each step is a commit of its own and lets
    those in between who put something. Where it fails, the next time will do.
    """
    step = bounds.outbox_free_pages_alone
    with contextlib.suppress(FlowKitError):
        for _ in range(2 * freed // step):
            if not write(lambda db: give_back(db, step)):
                return


def free_pages(db: Db) -> int:
    """Pages of the file in which there is nothing."""
    found: int = db.execute("PRAGMA freelist_count").fetchone()[0]
    return found


def kept(db: Db, name: str) -> bytes | None:
    """A value as it was written."""
    found = db.execute("SELECT json FROM value WHERE name=?", (name,)).fetchone()
    return None if found is None else found[0]


def keep_all(db: Db, values: Mapping[str, bytes | None], spared: str | None = None) -> None:
    """Write values, or take them out; if the disk of the path *spared* has room for a put."""
    if spared is not None:
        check_disk(db, spared, sum(len(data or b"") for data in values.values()))
    for name, data in values.items():
        if data is None:
            db.execute("DELETE FROM value WHERE name=?", (name,))
        else:
            db.execute("INSERT OR REPLACE INTO value VALUES (?, ?)", (name, data))


def kept_sizes(db: Db, prefix: str) -> dict[str, int]:
    """The bytes of each value whose name begins with *prefix*."""
    found = db.execute(
        "SELECT name, length(json) FROM value WHERE substr(name, 1, ?) = ?", (len(prefix), prefix)
    )
    return dict(found.fetchall())
