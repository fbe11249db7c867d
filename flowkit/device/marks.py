"""What the mark of a server means for a stream: settled, nothing new, forked, or it went back.

Source: positions 9, the sender's rules 2 to 4; each case stands in the model of devices that the
design was checked with.
"""

from __future__ import annotations

import secrets
import sqlite3
from typing import Literal, NamedTuple

from flowkit.device.letters import Report, report
from flowkit.device.rows import Ledger, Line, row_at
from flowkit.device.schema import KEPT, SKIP, WAITS

__all__ = [
    "RESTORED",
    "Learned",
    "Mark",
    "fork",
    "learn",
    "report_fork",
    "report_rewind",
]

Db = sqlite3.Connection

RESTORED = "acknowledged before a restore"
"""The reason of a skip for what a server had, and has no longer, and which is not kept here."""


_NAMED_MAX = 100
"""Streams that the report of a fork names; it counts the others."""


class Learned(NamedTuple):
    """What became of a mark.

    Attributes:
        kind: ``settled``: entries up to the mark are done. ``nothing``: the mark says nothing new.
            ``forked``: the server has what this file never wrote, so the file was copied or put
            back; the outbox has a new box now. ``rewound``: the server went back (it was restored);
            what is kept is sent again.
        rows: entries that were settled, renumbered, or are sent again.
        hole: first and last sequence that the server has lost and that are not kept here.
    """

    kind: Literal["settled", "nothing", "forked", "rewound"]
    rows: int = 0
    hole: tuple[int, int] | None = None


class Mark(NamedTuple):
    """The last message of a stream that a server has settled; 0 and None for none."""

    sequence: int
    message: str | None


def take_in(
    db: Db,
    ledger: Ledger,
    stream: str,
    mark: Mark,
    *,
    went_back: bool,
    forks: bool,
    keep: int,
    now: tuple[int, int],
) -> tuple[Learned, list[Report]]:
    """``learn``, the fork if it *forks*, and the report if there is anything to tell."""
    learned = learn(db, ledger, stream, mark, went_back=went_back, keep=keep, now=now)
    if learned.kind == "rewound":
        return learned, [report_rewind(db, ledger, stream, learned, now[0])]
    if learned.kind != "forked" or not forks:
        return learned, []
    reason = f"the server's mark of {stream!r} is not of this file"
    told = report_fork(db, ledger, reason, now[0])
    return Learned("forked", ledger.count), [told]


def learn(
    db: Db,
    ledger: Ledger,
    stream: str,
    mark: Mark,
    *,
    went_back: bool,
    keep: int,
    now: tuple[int, int],
) -> Learned:
    """Take in the mark of a stream; of a fork only that it must be done.

    Args:
        mark: as the server said it.
        went_back: whether a mark below ours means that the server was restored: it stands in the
            answer to a question for the marks, or beside an ``expected``.
        keep: entries that are kept after they were settled.
        now: the clock and the clock of ages, in milliseconds.
    """
    line = ledger.lines.get(stream)
    if line is None:
        return Learned("forked" if mark.sequence else "nothing")
    if mark.sequence > line.acked:
        if not _ours(db, line, mark):
            return Learned("forked")
        assert mark.message is not None
        return Learned("settled", ledger.settle(db, line, mark.sequence, mark.message, keep))
    if mark.sequence == line.acked:
        same = mark.sequence == 0 or mark.message == line.message
        return Learned("nothing" if same else "forked")
    row = row_at(db, line, mark.sequence)
    if row is not None and row[3] != mark.message:
        return Learned("forked")
    if not went_back:
        return Learned("nothing")
    return _rewind(db, ledger, line, mark, now)


def _ours(db: Db, line: Line, mark: Mark) -> bool:
    """Whether this file wrote what the mark names.

    A skip of several sequences that may have been sent is believed for each of them: before it was
    joined, the server may have got one of its parts.
    """
    row = row_at(db, line, mark.sequence)
    if row is None or mark.message is None:
        return False
    sequence, upto, state, message = row
    if mark.sequence == upto:
        return message == mark.message
    return state == SKIP and sequence <= line.sent


def _rewind(db: Db, ledger: Ledger, line: Line, mark: Mark, now: tuple[int, int]) -> Learned:
    """Go back to the mark: entries beyond it that are kept are sent again, the others skipped."""
    kept = db.execute(
        "SELECT sequence, bytes FROM row WHERE stream=? AND state=? AND sequence>?"
        " ORDER BY sequence",
        (line.id, KEPT, mark.sequence),
    ).fetchall()
    db.execute(
        "UPDATE row SET state=? WHERE stream=? AND state=? AND sequence>?",
        (WAITS, line.id, KEPT, mark.sequence),
    )
    holes, following = [], mark.sequence + 1
    for sequence in (*(row[0] for row in kept), line.acked + 1):
        if sequence > following:
            holes.append((following, sequence - 1))
        following = sequence + 1
    for hole in holes:
        ledger.add_skip(db, line, hole, RESTORED, now)
    line.acked, line.message = mark
    db.execute(
        "UPDATE stream SET acked=?, message=? WHERE id=?", (mark.sequence, mark.message, line.id)
    )
    ledger.regain(line, len(kept), sum(row[1] for row in kept))
    ledger.first(db, line)
    return Learned("rewound", len(kept), (holes[0][0], holes[-1][1]) if holes else None)


def fork(db: Db, ledger: Ledger) -> int:
    """Begin a new box: what waits is numbered from 1 in each stream, all else is forgotten.

    Returns:
        the number of entries that wait.
    """
    db.execute(
        "DELETE FROM piece WHERE payload IN (SELECT payload FROM row WHERE state=? AND payload IS"
        " NOT NULL)",
        (KEPT,),
    )
    db.execute("DELETE FROM row WHERE state<>?", (WAITS,))
    for line in ledger.lines.values():
        _renumber(db, line.id)
    db.execute("UPDATE stream SET sent=0, acked=0, message=NULL")
    db.execute("DELETE FROM stream WHERE id NOT IN (SELECT stream FROM row)")
    db.execute("UPDATE meta SET value=? WHERE name='box'", (secrets.token_hex(16),))
    ledger.load(db)
    return ledger.count


def report_fork(db: Db, ledger: Ledger, reason: str, at_ms: int) -> Report:
    """Fork, and say what a server had acknowledged of the old box: nobody vouches for that now."""
    old = ledger.box
    acked = {line.name: line.acked for line in ledger.lines.values() if line.acked}
    count = fork(db, ledger)
    named = dict(sorted(acked.items())[:_NAMED_MAX])
    facts = {"reason": reason, "old_box": old, "box": ledger.box, "entries": count}
    return report(db, "forked", at_ms, {**facts, "acked": named, "streams": len(acked)})


def report_rewind(db: Db, ledger: Ledger, stream: str, learned: Learned, at_ms: int) -> Report:
    """Say which sequences a restored server has lost, and how many entries are sent again."""
    facts = {"stream": stream, "box": ledger.box, "sent_again": learned.rows}
    facts |= {"from": learned.hole and learned.hole[0], "to": learned.hole and learned.hole[1]}
    return report(db, "hole" if learned.hole else "went back", at_ms, facts)


def _renumber(db: Db, stream: int, page: int = 1000) -> None:
    """Close the gaps between the rows of a stream, from 1; downward, so no number is met twice."""
    number, after = 0, 0
    while True:
        rows = db.execute(
            "SELECT id, sequence FROM row WHERE stream=? AND sequence>? ORDER BY sequence LIMIT ?",
            (stream, after, page),
        ).fetchall()
        if not rows:
            return
        db.executemany(
            "UPDATE row SET sequence=?, upto=? WHERE id=?",
            [(number + n, number + n, row[0]) for n, row in enumerate(rows, 1)],
        )
        number, after = number + len(rows), rows[-1][1]
