"""The outbox against a server that is only a few lines, under everything that may happen to both.

The machine puts, sends, drops and buries; answers are lost, requests come twice or late; the file
is closed, copied, put back; the server is restored from a copy. At the end all is drained. What
must hold (I8): every accepted message is stored once, or was dead, dropped, or named by a report
of a hole or a fork; and each stream of each box is stored in the order of its sequences.
"""

from __future__ import annotations

import copy
import json
import os
import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from flowkit.device import Outbox
from flowkit.errors import OutboxFull

STREAMS = st.sampled_from(["air", "soil"])
DEVICES = st.integers(0, 2)
BAD = "bad"

EXAMPLES = int(os.environ.get("FLOWKIT_OUTBOX_EXAMPLES", "40"))
"""More of them: FLOWKIT_OUTBOX_EXAMPLES=2000 python -m pytest tests/device/test_outbox_model.py"""


class Server:
    """Marks and what is stored, by the rules of the contract (positions 9)."""

    def __init__(self):
        self.marks = {}
        self.stored = []

    def take(self, box, stream, rows):
        """The answer to an array: a word for each row, and the mark."""
        mark, message = self.marks.get((box, stream), (0, None))
        named = {row.to: row.message for row in rows} | {rows[0].sequence - 1: rows[0].after}
        if mark in named and named[mark] != message:
            return ["forked"] * len(rows), (mark, message)
        words = []
        for row in rows:
            if row.to <= mark:
                words.append("duplicate")
            elif row.sequence > mark + 1:
                words.append("expected")
                break
            elif row.skip is None and json.loads(row.entry).get(BAD):
                words.append("refused")
                break
            else:
                if row.skip is None:
                    self.stored.append((box, stream, row.sequence, row.message))
                mark, message = row.to, row.message
                words.append("stored")
        self.marks[box, stream] = mark, message
        return words, (mark, message)


class Machine(RuleBasedStateMachine):
    """Some devices, one server, and what is known of every message."""

    clones = True
    restores = True

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.now_ms = 1_700_000_000_000
        self.server, self.backup = Server(), None
        self.boxes, self.late, self.where = [], [], {}
        self.removed, self.said, self.at_risk, self.unconfirmed = set(), set(), set(), set()
        self.lost_ok, self.old, self.both = set(), None, [False, False]

    @initialize(
        keep=st.sampled_from([0, 2, 50]),
        policy=st.sampled_from(["refuse", "drop oldest", "drop by priority"]),
    )
    def begin(self, keep, policy):
        """One device; all its copies have the same settings."""
        self.settings = {
            "keep_acked": keep,
            "when_full": policy,
            "rows_max": 100_000 if policy == "refuse" else 12,
            "age_max_s": 600,
            "durable": False,
            "clock_ms": lambda: self.now_ms,
        }
        self.open(0)

    def open(self, number):
        """Open the file of that device."""
        box = Outbox(str(self.folder / f"{number}.db"), **self.settings)
        self.boxes[number:] = [box, *self.boxes[number + 1 :]]
        return box

    def box(self, number):
        """A device that exists."""
        return self.boxes[number % len(self.boxes)]

    def waiting(self, box):
        """(stream, sequence) of each message that waits, by message."""
        return {
            row.message: (stream, row.sequence)
            for stream in box.streams()
            for row in box.peek(stream, limit=100_000)
            if row.skip is None
        }

    def changing(self, box, change):
        """Call *change*; messages that it takes out are known to be gone."""
        before = self.waiting(box)
        result = change()
        self.removed |= before.keys() - self.waiting(box).keys()
        return result

    def known(self, box, receipts):
        """Accepted: from now on these must be stored, or accounted for."""
        for receipt in receipts:
            self.where.setdefault(receipt.message, set()).add((box.box, *receipt[:2]))

    @rule(
        number=DEVICES,
        stream=STREAMS,
        bad=st.integers(0, 9),
        priority=st.integers(0, 1),
        how=st.sampled_from(["put", "put", "put", "many", "replace"]),
    )
    def put(self, number, stream, bad, priority, how):
        """One entry, several, or one instead of all."""
        box, entry = self.box(number), {BAD: bad == 0}

        def change():
            if how == "many":
                return box.put_many(stream, [entry, {}, {}], priority=1)
            if how == "replace":
                return [box.replace(stream, entry, priority=1)]
            return [box.put(stream, entry, priority=1 if priority else 0)]

        before = box.pending.count
        try:
            receipts = self.changing(box, change)
        except OutboxFull:
            receipts = []
            assert box.pending.count == before
        self.known(box, receipts)

    @rule(
        number=DEVICES,
        stream=STREAMS,
        limit=st.integers(1, 8),
        fate=st.sampled_from(["ok", "ok", "ok", "answer lost", "request lost", "late", "twice"]),
    )
    def send(self, number, stream, limit, fate):
        """A request, as a sender makes it."""
        box = self.box(number)
        rows = box.peek(stream, limit=limit)
        if not rows:
            return
        box.sent(stream, rows[-1].to)
        request = (box.box, stream, rows)
        if fate in ("late", "twice"):
            self.late.append(request)
        if fate in ("late", "request lost"):
            return
        answer = self.server.take(*request)
        if fate != "answer lost":
            self.act(box, stream, rows, answer)

    def act(self, box, stream, rows, answer):
        """What a sender does with an answer."""
        words, mark = answer
        if self.learn(box, stream, mark, went_back="expected" in words):
            self.greet(box)
            return
        assert "forked" not in words, "the server sees a copy, and the file does not"
        if "refused" in words:
            row = rows[words.index("refused")]
            if row.message in self.waiting(box):
                self.changing(box, lambda: box.bury(row, "refused"))

    def learn(self, box, stream, mark, *, went_back):
        """Hand a mark to the outbox; whether it says that the file is a copy."""
        learned = box.learn(stream, *mark, went_back=went_back, forks=False)
        if learned.hole:
            first, last = learned.hole
            self.said |= {(box.box, stream, number) for number in range(first, last + 1)}
        return learned.kind == "forked"

    def fork(self, box):
        """Fork the outbox, and take down what that says."""
        old = box.box
        box.fork("a mark is not of this file")
        # The report says up to where the old box was acknowledged.
        (*_, report) = [each for each in box.reports() if each.kind == "forked"]
        for stream, upto in report.facts["acked"].items():
            self.unconfirmed |= {(old, stream, number) for number in range(1, upto + 1)}
        assert report.facts["old_box"] == old
        for message, (stream, sequence) in self.waiting(box).items():
            self.where[message].add((box.box, stream, sequence))

    @rule(place=st.integers(0, 100))
    def late_request(self, place):
        """A copy of a request arrives; nobody hears the answer."""
        if self.late:
            self.server.take(*self.late.pop(place % len(self.late)))

    @rule(number=DEVICES)
    def probe(self, number):
        """A new connection: the marks are asked for."""
        self.greet(self.box(number))

    def greet(self, box):
        """All marks are believed before the fork is made: what the server has is not sent anew."""
        names = {stream for key, stream in self.server.marks if key == box.box}
        marks = [
            (stream, self.server.marks.get((box.box, stream), (0, None)))
            for stream in sorted(names | {"air", "soil"})
        ]
        learned = [self.learn(box, stream, mark, went_back=True) for stream, mark in marks]
        if any(learned):
            self.fork(box)

    @rule(number=DEVICES, stream=STREAMS, data=st.data(), how=st.sampled_from(["ack", "drop"]))
    def take_out(self, number, stream, data, how):
        """Some rows, by somebody's will; skips among them are no matter."""
        box = self.box(number)
        rows = box.peek(stream, limit=20)
        some = [row for row in rows if data.draw(st.booleans())]
        self.changing(box, lambda: box.ack(some) if how == "ack" else box.drop(some, "unwanted"))

    @rule(number=DEVICES, discard=st.booleans())
    def letters(self, number, discard):
        """Dead letters are put again, under new messages, or discarded."""
        box = self.box(number)
        if discard:
            box.discard()
            return
        try:
            receipts = self.changing(box, box.requeue)
        except OutboxFull:
            return
        self.known(box, receipts)

    @rule(number=DEVICES, seconds=st.sampled_from([-100, 1, 100, 400]))
    def time_passes(self, number, seconds):
        """Forwards, or back; old entries go."""
        self.now_ms += seconds * 1000
        for box in self.boxes:
            self.changing(box, box.expire)

    @rule(number=DEVICES)
    def reopen(self, number):
        """The process ends and another one begins."""
        number %= len(self.boxes)
        before = (self.boxes[number].pending.count, self.waiting(self.boxes[number]))
        self.boxes[number].close()
        box = self.open(number)
        assert (box.pending.count, self.waiting(box)) == before

    @precondition(lambda self: self.clones and 0 < len(self.boxes) < 3)
    @rule(number=DEVICES)
    def clone(self, number):
        """The card of a device is copied into another one."""
        number %= len(self.boxes)
        self.boxes[number].close()
        new = len(self.boxes)
        shutil.copy(self.folder / f"{number}.db", self.folder / f"{new}.db")
        box = self.open(number)
        self.risk(box)
        self.boxes.append(None)
        self.open(new)
        self.both[0] = True

    def risk(self, box):
        """What is in two files now may be stored twice, what is kept as well."""
        self.at_risk |= set(
            box._file.read(lambda db: [r[0] for r in db.execute("SELECT message FROM row")])
        )

    @precondition(lambda self: self.clones and not self.restores)
    @rule(number=DEVICES)
    def put_back(self, number):
        """A copy of the file takes its place again later: what was put meanwhile is lost."""
        number %= len(self.boxes)
        self.boxes[number].close()
        path = self.folder / f"{number}.db"
        if self.old is None or self.old[0] != number:
            self.old = (number, path.read_bytes())
            self.open(number)
            return
        box = self.open(number)
        now, letters = self.waiting(box), box.dead()
        box.close()
        path.write_bytes(self.old[1])
        self.old = None
        box = self.open(number)
        self.risk(box)
        self.lost_ok |= now.keys() - self.waiting(box).keys()
        self.lost_ok |= {letter.message for letter in letters}

    @precondition(lambda self: self.restores)
    @rule()
    def back_up(self):
        """A copy of the server is made."""
        self.backup = copy.deepcopy(self.server)

    @precondition(lambda self: self.restores and self.backup)
    @rule()
    def restore(self):
        """It takes the server's place."""
        self.server, self.backup = self.backup, None
        self.late.clear()
        self.both[1] = True

    @invariant()
    def counts_are_true(self):
        """What is counted in memory is what stands in the file."""
        for box in self.boxes:
            rows = [row for stream in box.streams() for row in box.peek(stream, limit=100_000)]
            waiting = [row for row in rows if row.skip is None]
            assert box.pending.count == len(waiting)
            assert box.pending.bytes == sum(len(row.entry) for row in waiting)
            last = {}
            for row in rows:
                assert row.sequence == last.get(row.stream, (row.sequence - 1,))[0] + 1
                assert row.stream not in last or row.after == last[row.stream][1]
                last[row.stream] = row.to, row.message

    def drain(self):
        """Everything is sent, with all connections made anew."""
        for _ in range(200):
            for number in range(len(self.boxes)):
                self.probe(number)
            if not any(box.streams() for box in self.boxes):
                return
            for number, box in enumerate(self.boxes):
                for stream in box.streams():
                    self.send(number, stream, 50, "ok")
        raise AssertionError("rows never leave the outbox")

    def teardown(self):
        """Drain, then count."""
        try:
            if self.boxes:
                self.drain()
                self.account()
        finally:
            for box in self.boxes:
                box.close()
            shutil.rmtree(self.folder)

    def account(self):
        """I8."""
        stored = [row[3] for row in self.server.stored]
        said = self.said | (self.unconfirmed if all(self.both) else set())
        fine = set(stored) | self.removed | self.lost_ok
        lost = {m for m, where in self.where.items() if m not in fine and not where & said}
        assert not lost, "lost without a word"
        twice = {m for m in set(stored) if stored.count(m) > 1 and m not in self.at_risk}
        assert not twice, "stored twice"
        assert set(stored) <= set(self.where), "nobody put that"
        last = {}
        for box, stream, sequence, _ in self.server.stored:
            assert sequence > last.get((box, stream), 0), "out of order"
            last[box, stream] = sequence


class Alone(Machine):
    """One file that nobody copies, one server that is never restored."""

    clones = False
    restores = False


class Restored(Machine):
    """The server goes back."""

    clones = False


class Copied(Machine):
    """Files are copied and put back."""

    restores = False


def tried(machine):
    """The test case of a machine."""
    machine.TestCase.settings = settings(max_examples=EXAMPLES, stateful_step_count=40)
    return machine.TestCase


TestAlone = tried(Alone)
TestRestored = tried(Restored)
TestCopied = tried(Copied)
TestBoth = tried(Machine)
