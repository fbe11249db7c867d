"""The rules of a sender's line: a table by hand, and a campaign against their words."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowkit import limits
from flowkit.errors import BadRequest, Conflict
from flowkit.server.marks import Line, Origin, read_origin
from flowkit.server.store.base import Mark

BOX = "0f" * 16
GOOD = {"box": BOX, "stream": "air", "sequence": 2, "message": "ab" * 8, "after": "cd" * 8}


def name(text: str) -> str:
    """A message called *text*."""
    return text.encode().hex().rjust(16, "0")


def entry(at, *, to=0, after=None, message=None, skip=None):
    """An entry: number *at*, called ``m<number>`` unless it says otherwise."""
    return Origin(
        BOX,
        "air",
        at,
        name(message or f"m{to or at}"),
        name(after) if after else None,
        to or at,
        skip,
    )


def mark(at):
    """The mark after message ``m<at>``."""
    return Mark(at, name(f"m{at}")) if at else Mark()


def outcomes(line, origins, bad=()):
    """What each entry gets, with the entries at the places *bad* refused by what they hold."""
    found = []
    for place, origin in enumerate(origins):
        try:
            if not line.judge(origin):
                found.append("duplicate")
            elif place in bad:
                line.stop()
                found.append("refused")
            else:
                found.append(line.settle(origin, 7))
        except Conflict as error:
            found.append(error.errors[0].split()[0])
        except BadRequest:
            line.stop()
            found.append("refused")
    return found


SKIP = "expired"
TABLE = {
    "the first entries of a line": (0, [entry(1), entry(2)], (), [1, 1], 2),
    "those that come next": (4, [entry(5, after="m4"), entry(6)], (), [1, 1], 6),
    "a request that was answered and is sent again": (
        2,
        [entry(1), entry(2)],
        (),
        ["duplicate", "duplicate"],
        2,
    ),
    "one that overlaps": (
        2,
        [entry(2, after="m1"), entry(3), entry(4)],
        (),
        ["duplicate", 1, 1],
        4,
    ),
    "a hole before the first": (
        2,
        [entry(4, after="m3"), entry(5)],
        (),
        ["expected", "expected"],
        2,
    ),
    "a hole in the middle": (0, [entry(1), entry(3), entry(4)], (), [1, "expected", "expected"], 1),
    "a line that does not begin": (0, [entry(2, after="m1")], (), ["expected"], 0),
    "an entry that is refused": (
        0,
        [entry(1), entry(2), entry(3)],
        (1,),
        [1, "refused", "expected"],
        1,
    ),
    "a duplicate that would be refused now": (
        1,
        [entry(1), entry(2)],
        (0,),
        ["duplicate", 1],
        2,
    ),
    "another message at the mark": (
        3,
        [entry(3, after="m2", message="x"), entry(4)],
        (),
        ["forked", "forked"],
        3,
    ),
    "another message before the first": (3, [entry(4, after="x")], (), ["forked"], 3),
    "another message later in the request": (
        3,
        [entry(2, after="m1"), entry(3, message="x"), entry(4)],
        (),
        ["forked", "forked", "forked"],
        3,
    ),
    "a message that the mark has passed may be another one": (
        3,
        [entry(1, message="x"), entry(2, message="y")],
        (),
        ["duplicate", "duplicate"],
        3,
    ),
    "nothing said of what is before": (3, [entry(4), entry(5)], (), ["refused", "expected"], 3),
    "one skip": (1, [entry(2, after="m1", skip=SKIP), entry(3)], (), [1, 1], 3),
    "a range": (1, [entry(2, after="m1", to=5, skip=SKIP), entry(6)], (), [4, 1], 6),
    "a range that was settled": (
        5,
        [entry(2, after="m1", to=5, skip=SKIP), entry(6)],
        (),
        ["duplicate", 1],
        6,
    ),
    "a range that was settled in part": (
        3,
        [entry(2, after="m1", to=5, skip=SKIP), entry(6)],
        (),
        [2, 1],
        6,
    ),
    "a range of another writer": (
        5,
        [entry(2, after="m1", to=5, skip=SKIP, message="x")],
        (),
        ["forked"],
        5,
    ),
    "two entries that contradict each other": (
        0,
        [entry(1), entry(1, message="x")],
        (),
        [1, "forked"],
        1,
    ),
    "what follows names another message than what was just stored": (
        0,
        [entry(1), entry(2, after="x")],
        (),
        [1, "forked"],
        1,
    ),
}


@pytest.mark.parametrize(("at", "origins", "bad", "wanted", "after"), TABLE.values(), ids=TABLE)
def test_a_line_is_judged_by_the_rules(at, origins, bad, wanted, after):
    """What each entry gets, and where the mark then stands."""
    line = Line(mark(at), origins)

    assert outcomes(line, origins, bad) == wanted
    assert line.mark == Mark(after, mark(after).message, line.mark.skipped)
    assert line.has_moved is (after != at)


def test_skips_are_counted_and_noted():
    """How many numbers, and which ranges, as far as they were settled just now."""
    line = Line(mark(3), [])
    outcomes(line, [entry(2, to=5, after="m1", skip="a"), entry(6), entry(7, skip="b")])

    assert [(each.first, each.last, each.reason, each.at_ms) for each in line.skips] == [
        (4, 5, "a", 7),
        (7, 7, "b", 7),
    ]
    assert line.mark.skipped == 3


# A campaign: two writers that share the beginning of a line, requests late, repeated and cut


@dataclass(frozen=True)
class Row:
    """A row of an outbox."""

    at: int
    to: int
    message: str
    skip: bool
    bad: bool


@st.composite
def histories(draw):
    """The rows of a writer, and those of a copy of it that went on differently."""

    def rows(first, count, mine):
        found, at = [], first
        for _ in range(count):
            skip = draw(st.integers(0, 4)) == 0
            to = at + (draw(st.integers(0, 3)) if skip else 0)
            bad = not skip and draw(st.integers(0, 7)) == 0
            found.append(Row(at, to, f"{mine}{to}", skip, bad))
            at = to + 1
        return found

    shared = rows(1, draw(st.integers(0, 6)), "s")
    ends = shared[-1].to + 1 if shared else 1
    lines = [shared + rows(ends, draw(st.integers(1, 8)), mine) for mine in "ab"]
    requests = []
    for _ in range(draw(st.integers(1, 12))):
        line = lines[draw(st.integers(0, 3)) == 0]
        start = draw(st.integers(0, len(line) - 1))
        requests.append((line, start, start + draw(st.integers(1, 6))))
    return requests


def said_by_the_rules(m, message, rows, after):
    """What the words of the contract say; ``m`` and *message* are the mark."""
    named = {row.to: row.message for row in rows}
    named[rows[0].at - 1] = after
    if m and named.get(m, message) != message:
        return ["forked"] * len(rows), m, message
    found: list[object] = []
    for row in rows:
        if found and found[-1] in ("expected", "refused"):
            found.append("expected")
        elif row.to <= m:
            found.append("duplicate")
        elif row.at > m + 1:
            found.append("expected")
        elif row.bad:
            found.append("refused")
        else:
            found.append(row.to - m)
            m, message = row.to, row.message
    return found, m, message


@given(histories())
def test_any_requests_are_judged_as_the_words_say(requests):
    """And what is settled is a line without a hole, in which no number comes twice."""
    now, settled = Mark(), []
    for history, start, end in requests:
        rows = history[start:end]
        after = history[start - 1].message if start else None
        origins = [
            entry(
                row.at,
                to=row.to,
                message=row.message,
                after=after if place == 0 else None,
                skip="s" if row.skip else None,
            )
            for place, row in enumerate(rows)
        ]
        told = {name(row.message): row.message for row in history}
        known = told.get(now.message, "another writer's") if now.message else None
        wanted, at, _ = said_by_the_rules(now.sequence, known, rows, after)
        line = Line(now, origins)

        assert outcomes(line, origins, [i for i, row in enumerate(rows) if row.bad]) == wanted
        assert line.mark.sequence == at
        for row, outcome in zip(rows, wanted, strict=True):
            if isinstance(outcome, int):
                settled.extend(range(row.to - outcome + 1, row.to + 1))
        now = line.mark

    assert settled == list(range(1, now.sequence + 1))


# What an origin may be


def test_an_origin_is_read():
    """All members, and the few that are needed."""
    assert read_origin(GOOD) == Origin(BOX, "air", 2, "ab" * 8, "cd" * 8, 2)
    least = {"box": BOX, "stream": "a", "sequence": 1, "message": "0" * 64}
    assert read_origin(least) == Origin(BOX, "a", 1, "0" * 64, None, 1)
    skipped = read_origin({**GOOD, "skip": "expired", "to": 9})
    assert (skipped.skip, skipped.last) == ("expired", 9)


FAULTS = {
    "no object": ([], "origin: must be an object"),
    "capitals in the box": ({"box": BOX.upper()}, "origin.box: "),
    "a short box": ({"box": BOX[:31]}, "origin.box: "),
    "no stream": ({"stream": ""}, "origin.stream: "),
    "a long stream": ({"stream": "x" * (limits.origin_stream_chars_max + 1)}, "origin.stream: "),
    "number 0": ({"sequence": 0}, "origin.sequence: "),
    "half a number": ({"sequence": 1.5}, "origin.sequence: "),
    "true": ({"sequence": True}, "origin.sequence: "),
    "a number that cannot be kept": ({"sequence": 2**63}, "origin.sequence: "),
    "a short message": ({"message": "a" * 15}, "origin.message: "),
    "another alphabet": ({"message": "g" * 16}, "origin.message: "),
    "a message before the first": ({"sequence": 1}, "origin.after: "),
    "no text before": ({"after": 5}, "origin.after: "),
    "a range of what is sent": ({"to": 5}, "origin.to: "),
    "a range backwards": ({"to": 1, "skip": "x"}, "origin.to: "),
    "a range to nowhere": ({"to": None, "skip": "x"}, "origin.to: "),
    "an empty reason": ({"skip": ""}, "origin.skip: "),
    "a misspelt member": ({"squence": 2}, "origin.squence: "),
}


@pytest.mark.parametrize(("change", "said"), FAULTS.values(), ids=FAULTS)
def test_an_origin_that_is_none_is_refused(change, said):
    """One sentence that names the member."""
    with pytest.raises(BadRequest) as caught:
        read_origin({**GOOD, **change} if isinstance(change, dict) else change)

    assert len(caught.value.errors) == 1
    assert caught.value.errors[0].startswith(said)
