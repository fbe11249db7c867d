"""The outbox, case by case: what is put, what waits, what leaves it, what a mark does."""

from __future__ import annotations

import json
import os
import threading
from datetime import UTC, datetime

import pytest

from flowkit.device import Outbox, bounds
from flowkit.device.outbox import Pending
from flowkit.errors import LimitError, OutboxFull, SettingsError, UsageError


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self, ms: int = 1_700_000_000_000) -> None:
        self.ms = ms

    def __call__(self) -> int:
        """Milliseconds since 1970."""
        return self.ms


@pytest.fixture
def clock():
    """A clock that stands."""
    return Clock()


@pytest.fixture
def path(tmp_path):
    """Where the outbox is."""
    return str(tmp_path / "box.db")


@pytest.fixture
def box(path, clock):
    """An empty outbox that keeps nothing from power cuts, so that the tests are quick."""
    with Outbox(path, durable=False, clock_ms=clock) as opened:
        yield opened


def put(box, *numbers, stream="air", **options):
    """Put an entry for each number; the receipts."""
    return [box.put(stream, {"n": number}, **options) for number in numbers]


def shown(box, stream="air"):
    """What waits: the number of each entry, (from, to, reason) of each skip."""
    return [
        json.loads(row.entry)["n"] if row.skip is None else (row.sequence, row.to, row.skip)
        for row in box.peek(stream)
    ]


def send_all(box, stream="air"):
    """What a sender does before rows go out; the rows."""
    rows = box.peek(stream)
    box.sent(stream, rows[-1].to)
    return rows


# Put and peek


def test_an_entry_gets_the_next_number_of_its_stream_and_a_message_of_its_own(box):
    """Sequences are counted for each stream, from 1."""
    first, second = put(box, 1, 2)
    (other,) = put(box, 1, stream="soil")

    assert [first.sequence, second.sequence, other.sequence] == [1, 2, 1]
    assert len({first.message, second.message, other.message}) == 3
    assert first.box == box.box
    assert len(box.box) == 32


def test_rows_come_in_order_and_each_names_the_message_before_it(box):
    """``after`` is what a request says of its first entry."""
    receipts = put(box, 1, 2, 3)
    rows = box.peek("air")

    assert [row.sequence for row in rows] == [1, 2, 3]
    assert [row.after for row in rows] == [None, receipts[0].message, receipts[1].message]
    assert [row.to for row in rows] == [1, 2, 3]
    assert rows[0].entry == b'{"n":1}'


def test_a_look_is_bounded_by_rows_and_bytes_and_shows_at_least_one(box):
    """A request has room for so much; a large entry goes alone."""
    put(box, *range(10))

    assert len(box.peek("air", limit=3)) == 3
    assert len(box.peek("air", bytes_max=15)) == 2
    assert len(box.peek("air", bytes_max=1)) == 1
    assert box.peek("nothing") == []


def test_several_entries_are_kept_in_one_commit_or_not_at_all(box):
    """One that cannot be said in JSON keeps out the others."""
    with pytest.raises(UsageError):
        box.put_many("air", [{"n": 1}, {"n": float("nan")}])
    assert box.pending.count == 0

    receipts = box.put_many("air", [{"n": 1}, {"n": 2}])
    assert [receipt.sequence for receipt in receipts] == [1, 2]
    assert box.put_many("air", []) == []


@pytest.mark.parametrize(
    "entry",
    [
        {"n": float("nan")},
        {"n": float("inf")},
        {"n": b"x"},
        {"n": datetime(2026, 1, 1, tzinfo=UTC)},
        {"n": "\ud800"},
        {"origin": {}},
        [1],
        "text",
        None,
    ],
    ids=repr,
)
def test_what_no_json_says_is_refused_and_leaves_no_trace(box, entry):
    """The error names the fault; sequence 1 is still free."""
    with pytest.raises(UsageError):
        box.put("air", entry)

    assert box.pending == Pending(0, 0, None)
    assert box.put("air", {}).sequence == 1


def test_a_value_that_holds_itself_is_refused(box):
    """Also what is nested without end."""
    endless = {}
    endless["n"] = endless
    deep = []
    for _ in range(100_000):
        deep = [deep]

    for entry in (endless, {"n": deep}):
        with pytest.raises(UsageError):
            box.put("air", entry)


@pytest.mark.parametrize("stream", ["", "x" * 251, 5, None, "\udc00"])
def test_the_name_of_a_stream_is_a_text_of_1_to_250_characters(box, stream):
    """Anything else is refused; characters are counted, not bytes."""
    with pytest.raises(UsageError):
        box.put(stream, {})

    assert box.put("ö" * 250, {}).sequence == 1


def test_an_entry_has_a_bound(box):
    """Payloads have none but the room of the outbox."""
    with pytest.raises(LimitError, match=r"the entry is .* bytes, the limit is 921600 bytes"):
        box.put("air", {"text": "x" * bounds.outbox_entry_bytes_max})


def test_an_entry_is_compact_utf_8(box):
    """What is measured is what is sent."""
    box.put("air", {"größe": [1, 2.5, True, None, "…"]})

    assert box.peek("air")[0].entry == '{"größe":[1,2.5,true,null,"…"]}'.encode()


def test_streams_are_bounded(box, monkeypatch):
    """A platform keeps only so many marks."""
    monkeypatch.setattr(bounds, "outbox_streams_max", 2)
    put(box, 1, stream="a")
    put(box, 1, stream="b")

    with pytest.raises(LimitError, match="streams"):
        put(box, 1, stream="c")
    assert put(box, 2, stream="b")[0].sequence == 2


# What waits


def test_pending_counts_entries_and_bytes_and_knows_the_oldest(box, clock):
    """For all streams and for one; skips do not count."""
    assert box.pending == Pending(0, 0, None)
    put(box, 1)
    clock.ms += 2_000
    put(box, 2, stream="soil")
    clock.ms += 500

    assert box.pending == Pending(2, 14, 2.5)
    assert box.pending_of("soil") == Pending(1, 7, 0.5)
    assert box.pending_of("nothing") == Pending(0, 0, None)
    box.drop(box.peek("air"), "unwanted")
    assert box.pending == Pending(1, 7, 0.5)


def test_the_stream_that_waits_longest_comes_first(box):
    """A sender goes through them in that order; one with nothing to send is not there."""
    put(box, 1, stream="c")
    put(box, 1, stream="a")
    put(box, 1, stream="b")
    assert box.streams() == ["c", "a", "b"]

    row = send_all(box, "c")[-1]
    box.learn("c", row.to, row.message)
    assert box.streams() == ["a", "b"]
    put(box, 2, stream="c")
    assert box.streams() == ["a", "b", "c"]


def test_a_stream_with_only_skips_has_something_to_send(box):
    """The server must hear of them, or the stream would have a hole."""
    put(box, 1)
    box.drop(box.peek("air"), "unwanted")

    assert box.pending.count == 0
    assert box.streams() == ["air"]


def test_a_closed_outbox_says_so(path):
    """Closing twice is harmless."""
    box = Outbox(path)
    box.close()
    box.close()

    for use in (lambda: box.put("air", {}), lambda: box.peek("air"), lambda: box.pending):
        with pytest.raises(UsageError, match="closed"):
            use()


def test_all_is_there_after_opening_again(path):
    """Rows, numbers, box, dead letters and kept values."""
    with Outbox(path) as box:
        put(box, 1, 2, 3)
        box.keep("where", {"host": "a"})
        box.bury(send_all(box)[0], "no")
        before = (box.box, box.peek("air"), box.dead(), box.pending.count)
    with Outbox(path) as box:
        assert (box.box, box.peek("air"), box.dead(), box.pending.count) == before
        assert box.kept("where") == {"host": "a"}
        assert put(box, 4)[0].sequence == 4


def test_a_number_is_never_given_twice(path):
    """Also when everything before it is settled and the file was closed."""
    with Outbox(path) as box:
        put(box, 1, 2)
        row = send_all(box)[-1]
        box.learn("air", 2, row.message)
    with Outbox(path) as box:
        assert put(box, 3)[0].sequence == 3
        assert box.peek("air")[0].after == row.message


# Payloads


def test_a_payload_is_read_in_parts(box):
    """Any part of it, also across pieces and beyond its end."""
    payload = os.urandom(3 * bounds.outbox_piece_bytes + 17)
    box.put("air", {"n": 1}, payload=payload)
    (row,) = box.peek("air")

    assert row.payload_bytes == len(payload)
    assert box.pending.bytes == len(payload) + 7
    for offset, size in ((0, 5), (bounds.outbox_piece_bytes - 2, 5), (0, len(payload)), (17, 1)):
        assert box.payload(row, offset, size) == payload[offset : offset + size]
    assert box.payload(row, len(payload) - 3, 100) == payload[-3:]
    assert box.payload(row, len(payload), 100) == b""


def test_the_payload_of_what_is_settled_goes_with_it(box):
    """Reading it then is an error, not an empty part."""
    box.put("air", {"n": 1}, payload=b"x" * 1000)
    (row,) = send_all(box)
    box.learn("air", 1, row.message)

    with pytest.raises(UsageError, match="no longer there"):
        box.payload(row, 0, 10)
    put(box, 2)
    with pytest.raises(UsageError, match="has no payload"):
        box.payload(box.peek("air")[0], 0, 10)


@pytest.mark.parametrize("payload", ["text", 5, [1]])
def test_a_payload_is_bytes(box, payload):
    """Nothing else is turned into bytes by guessing."""
    with pytest.raises(UsageError, match="a payload is bytes"):
        box.put("air", {}, payload=payload)


def test_an_empty_payload_and_a_view_are_payloads(box):
    """An array of numbers is taken as its bytes."""
    box.put("air", {"n": 1}, payload=b"")
    box.put("air", {"n": 2}, payload=memoryview(bytearray(b"abc")))
    first, second = box.peek("air")

    assert first.payload is not None
    assert first.payload_bytes == 0
    assert box.payload(first, 0, 5) == b""
    assert box.payload(second, 0, 5) == b"abc"


# Bounds


def test_a_full_outbox_refuses_and_names_the_bound(path):
    """Count or bytes; what was in it stays, and there is room again when something leaves."""
    with Outbox(path, rows_max=2) as box:
        put(box, 1, 2)
        with pytest.raises(OutboxFull, match=r"box\.db is 3 entries, the limit is 2 entries"):
            put(box, 3)
        assert shown(box) == [1, 2]
        box.ack(box.peek("air")[:1])
        assert put(box, 3)[0].sequence == 3
    with Outbox(path, bytes_max=20) as box, pytest.raises(OutboxFull, match="21 bytes"):
        put(box, 4)


def test_the_oldest_is_dropped_for_the_new(path):
    """Of whichever stream; a skip stands in its place, and the reports count it."""
    told = []
    with Outbox(path, rows_max=3, when_full="drop oldest", on_event=told.append) as box:
        put(box, 1, stream="soil")
        put(box, 1, 2, 3, 4)

        assert shown(box, "soil") == [(1, 1, "dropped")]
        assert shown(box) == [(1, 1, "dropped"), 2, 3, 4]
        counted = {report.facts["stream"]: report.facts["count"] for report in box.reports()}
        assert counted == {"soil": 1, "air": 1}
        assert [report.kind for report in told] == ["dropped", "dropped"]
        put(box, 5, 6)
        assert shown(box) == [(1, 3, "dropped"), 4, 5, 6]


def test_of_the_lowest_priority_the_oldest_is_dropped(path):
    """Nothing goes for something less important."""
    with Outbox(path, rows_max=3, when_full="drop by priority") as box:
        put(box, 1, priority=5)
        put(box, 2, 3, priority=1)
        put(box, 4, priority=1)
        assert shown(box) == [1, (2, 2, "dropped"), 3, 4]
        put(box, 5, 6, priority=9)
        assert shown(box) == [1, (2, 4, "dropped"), 5, 6]
        with pytest.raises(OutboxFull):
            put(box, 7, priority=4)
        assert shown(box) == [1, (2, 4, "dropped"), 5, 6]


def test_what_can_never_fit_is_refused_whatever_the_policy(path):
    """And nothing is dropped for it."""
    with Outbox(path, rows_max=2, bytes_max=100, when_full="drop oldest") as box:
        put(box, 1, 2)
        with pytest.raises(OutboxFull):
            box.put_many("air", [{}, {}, {}])
        with pytest.raises(OutboxFull):
            box.put("air", {}, payload=b"x" * 100)
        assert shown(box) == [1, 2]


def test_a_payload_makes_room_for_itself(path):
    """As many entries go as its bytes need."""
    with Outbox(path, bytes_max=100, when_full="drop oldest") as box:
        put(box, *range(10))
        box.put("air", {"n": 10}, payload=b"x" * 60)
        assert shown(box) == [(1, 6, "dropped"), 6, 7, 8, 9, 10]


@pytest.mark.parametrize(
    "wrong",
    [
        {"when_full": "drop"},
        {"rows_max": 0},
        {"bytes_max": -1},
        {"age_max_s": 0},
        {"rows_max": 1.5},
        {"keep_acked": -1},
        {"rows_max": True},
    ],
    ids=str,
)
def test_a_bound_that_is_none_is_refused(path, wrong):
    """Before any file is made."""
    with pytest.raises(SettingsError):
        Outbox(path, **wrong)

    assert not os.path.exists(path)


def test_what_is_too_old_expires(path, clock):
    """At the next put, or when asked for; skips say so."""
    with Outbox(path, age_max_s=60, clock_ms=clock) as box:
        put(box, 1, 2)
        clock.ms += 30_000
        put(box, 3)
        clock.ms += 31_000
        put(box, 4)
        assert shown(box) == [(1, 2, "expired"), 3, 4]
        clock.ms += 60_000
        assert box.expire() == 2
        assert shown(box) == [(1, 4, "expired")]
        assert [r.facts["count"] for r in box.reports()] == [4]


# Clocks


def test_a_clock_that_goes_back_makes_nothing_older_or_younger_than_0(path, clock):
    """Numbers are no clock, and ages count what passes."""
    with Outbox(path, age_max_s=60, clock_ms=clock) as box:
        put(box, 1)
        clock.ms -= 10_000_000
        put(box, 2)
        assert box.pending.oldest_age_s == 0
        assert box.expire() == 0
        clock.ms += 59_000
        assert box.expire() == 0
        clock.ms += 2_000
        assert box.expire() == 2


def test_a_device_that_hears_the_time_does_not_forget_what_it_put_before(path):
    """Its wall clock jumps by decades, what has passed does not: the system's clock says that."""
    with Outbox(path, age_max_s=60) as box:
        box._ages.wall_ms = Clock(5_000)
        put(box, 1)
        box._ages.wall_ms = Clock(1_700_000_000_000)
        put(box, 2)
        assert box.expire() == 0
        assert [row.made_ms for row in box.peek("air")] == [5_000, 1_700_000_000_000]


def test_the_time_between_two_openings_counts_unless_the_clock_was_never_set(path):
    """From a clock in 1970 nothing can be said; a clock that went back says 0."""
    for before, after, age_s in (
        (1_700_000_000_000, 1_700_000_090_000, 90),
        (1_700_000_000_000, 1_600_000_000_000, 0),
        (5_000, 1_700_000_000_000, 0),
    ):
        with Outbox(path, clock_ms=Clock(before)) as box:
            put(box, 1)
        with Outbox(path, clock_ms=Clock(after)) as box:
            assert box.pending.oldest_age_s == age_s
            box.ack(box.peek("air"))


# What is taken out


def test_exactly_the_named_rows_are_acknowledged(box):
    """Not those before them; a skip stands in their place."""
    put(box, 1, 2, 3, 4)
    rows = box.peek("air")

    assert box.ack([rows[1], rows[3]]) == 2
    assert shown(box) == [1, (2, 2, "acknowledged"), 3, (4, 4, "acknowledged")]
    assert box.ack([rows[1], rows[0]]) == 1
    assert shown(box) == [(1, 2, "acknowledged"), 3, (4, 4, "acknowledged")]
    assert box.ack([rows[2], rows[2]]) == 1
    assert shown(box) == [(1, 4, "acknowledged")]


def test_what_may_have_been_sent_keeps_its_message_when_it_is_skipped(box):
    """The server may have it under that message; what was never sent is joined."""
    put(box, 1, 2, 3, 4, 5)
    box.sent("air", 2)
    rows = box.peek("air")
    box.drop(rows, "unwanted")
    skips = box.peek("air")

    assert [(row.sequence, row.to) for row in skips] == [(1, 1), (2, 2), (3, 5)]
    assert [row.message for row in skips[:2]] == [row.message for row in rows[:2]]
    assert skips[2].message not in {row.message for row in rows}
    assert skips[2].after == rows[1].message


def test_only_the_latest_of_a_stream_is_kept_when_it_replaces(box):
    """Earlier ones that wait are superseded; those of other streams are not."""
    put(box, 1, 2, stream="state")
    put(box, 1)
    receipt = box.replace("state", {"n": 3})

    assert receipt.sequence == 3
    assert shown(box, "state") == [(1, 2, "superseded"), 3]
    assert shown(box) == [1]
    assert box.reports() == []


def test_replacing_makes_its_own_room(path):
    """A full outbox takes what takes the place of something."""
    with Outbox(path, rows_max=1) as box:
        put(box, 1)
        box.replace("air", {"n": 2})
        assert shown(box) == [(1, 1, "superseded"), 2]
        with pytest.raises(OutboxFull):
            box.replace("soil", {"n": 1})


def test_a_failure_is_counted_and_its_last_words_are_kept(box):
    """Shortened, so that a page of HTML does not fill the file."""
    put(box, 1)
    box.failed(box.peek("air"), "503 later")
    box.failed(box.peek("air"), "x" * 10_000)
    (row,) = box.peek("air")

    assert row.attempts == 2
    assert row.error == "x" * bounds.outbox_error_chars_max


# Marks


def test_a_mark_with_the_right_message_settles_everything_up_to_it(box):
    """Rows beyond it stay, the next one follows on the message of the mark."""
    put(box, 1, 2, 3)
    rows = send_all(box)
    learned = box.learn("air", 2, rows[1].message)

    assert (learned.kind, learned.rows) == ("settled", 2)
    assert shown(box) == [3]
    assert box.peek("air")[0].after == rows[1].message
    assert box.pending == Pending(1, 7, 0)


def test_the_same_mark_again_says_nothing(box):
    """Nor does an older one that comes late."""
    put(box, 1, 2)
    rows = send_all(box)
    box.learn("air", 2, rows[1].message)

    assert box.learn("air", 2, rows[1].message).kind == "nothing"
    assert box.learn("air", 1, rows[0].message).kind == "nothing"
    assert box.learn("air", 0, None).kind == "nothing"
    assert box.learn("unknown", 0, None).kind == "nothing"


def test_a_mark_that_this_file_never_wrote_forks_the_outbox(box):
    """A new box; what waits is numbered from 1 again under the same messages, skips are gone."""
    put(box, 1, 2, 3, 4)
    put(box, 9, stream="soil")
    rows = send_all(box)
    box.learn("air", 1, rows[0].message)
    box.drop(box.peek("air")[1:2], "unwanted")
    old = box.box
    learned = box.learn("air", 3, "ab" * 12)

    assert (learned.kind, learned.rows) == ("forked", 3)
    assert box.box != old
    assert shown(box) == [2, 4]
    assert [(r.sequence, r.message, r.after) for r in box.peek("air")] == [
        (1, rows[1].message, None),
        (2, rows[3].message, rows[1].message),
    ]
    assert shown(box, "soil") == [9]
    (report,) = [each for each in box.reports() if each.kind == "forked"]
    assert report.facts["acked"] == {"air": 1}
    assert (report.facts["old_box"], report.facts["box"]) == (old, box.box)


@pytest.mark.parametrize(
    ("sequence", "message"), [(2, "cd" * 12), (5, "cd" * 12), (1, "cd" * 12)], ids=str
)
def test_every_foreign_mark_is_a_fork(path, sequence, message):
    """At what is settled, beyond what was ever put, and below, where it is kept."""
    with Outbox(path, keep_acked=5) as box:
        put(box, 1, 2, 3)
        rows = send_all(box)
        box.learn("air", 2, rows[1].message)

        assert box.learn("air", sequence, message).kind == "forked"
        assert shown(box) == [3]


def test_a_mark_of_a_stream_that_was_never_written_is_a_fork(box):
    """The file is an old copy of one that had it."""
    put(box, 1)

    assert box.learn("other", 3, "cd" * 12).kind == "forked"


def test_a_server_that_went_back_gets_a_skip_for_what_is_no_longer_here(box):
    """The hole is reported; a mark that is merely old says nothing."""
    put(box, 1, 2, 3, 4)
    rows = send_all(box)
    box.learn("air", 3, rows[2].message)
    learned = box.learn("air", 1, rows[0].message, went_back=True)

    assert learned == ("rewound", 0, (2, 3))
    assert shown(box) == [(2, 3, "acknowledged before a restore"), 4]
    assert box.peek("air")[0].after == rows[0].message
    (report,) = box.reports()
    assert (report.kind, report.facts["from"], report.facts["to"]) == ("hole", 2, 3)
    assert box.pending.count == 1


def test_what_is_kept_is_sent_again_to_a_server_that_went_back(path):
    """Under the same numbers and messages; what was kept longer ago is the hole."""
    with Outbox(path, keep_acked=2) as box:
        put(box, 1, 2, 3, 4, 5)
        rows = send_all(box)
        box.learn("air", 4, rows[3].message)
        assert shown(box) == [5]
        assert box.pending.count == 1
        learned = box.learn("air", 0, None, went_back=True)

        assert learned == ("rewound", 2, (1, 2))
        assert shown(box) == [(1, 2, "acknowledged before a restore"), 3, 4, 5]
        assert [row.message for row in box.peek("air")[1:]] == [row.message for row in rows[2:]]
        assert box.pending.count == 3
    with Outbox(path, keep_acked=2) as box:
        assert box.pending.count == 3


def test_a_mark_inside_a_skip_that_was_sent_settles_its_part(box):
    """Before the skip was joined, or before a restore, the server may have got some of it."""
    put(box, 1, 2, 3, 4)
    rows = send_all(box)
    box.learn("air", 3, rows[2].message)
    box.learn("air", 0, None, went_back=True)
    assert shown(box) == [(1, 3, "acknowledged before a restore"), 4]
    learned = box.learn("air", 2, rows[1].message)

    assert learned.kind == "settled"
    assert shown(box) == [(3, 3, "acknowledged before a restore"), 4]


def test_what_goes_out_must_be_there(box):
    """Nobody can have sent what was never put."""
    put(box, 1)
    with pytest.raises(UsageError):
        box.sent("air", 2)
    with pytest.raises(UsageError):
        box.sent("nothing", 1)
    box.sent("air", 1)
    box.sent("air", 1)


def test_a_refusal_of_the_server_forks_too(box):
    """It is what ``forked`` says where no mark is shown."""
    put(box, 1)
    old = box.box

    assert box.fork("the server said so") == box.box != old
    assert box.reports()[0].facts["reason"] == "the server said so"


# Dead letters


def test_what_is_refused_for_good_is_kept_apart_with_a_skip_in_its_place(box):
    """The stream goes on; the letter says what was refused, and why."""
    put(box, 1, 2)
    rows = send_all(box)
    box.bury(rows[0], "400 no such unit")
    (letter,) = box.dead()

    assert shown(box) == [(1, 1, "refused"), 2]
    assert box.peek("air")[0].message == rows[0].message == letter.message
    assert (letter.stream, letter.sequence, letter.error) == ("air", 1, "400 no such unit")
    assert (letter.entry, letter.box) == (b'{"n":1}', box.box)
    assert box.pending.count == 1
    with pytest.raises(UsageError):
        box.bury(rows[0], "again")


def test_a_letter_that_is_put_again_is_a_new_message_at_the_end(box):
    """Its payload goes with it."""
    box.put("air", {"n": 1}, payload=b"abc")
    put(box, 2)
    rows = send_all(box)
    box.bury(rows[0], "no")
    (receipt,) = box.requeue(box.dead()[0].id)

    assert receipt.sequence == 3
    assert receipt.message != rows[0].message
    assert shown(box) == [(1, 1, "refused"), 2, 1]
    assert box.payload(box.peek("air")[2], 0, 9) == b"abc"
    assert box.dead() == []
    assert box.pending.count == 2


def test_all_letters_are_put_again_or_discarded(box):
    """Or one of them, by its id; an unknown id is an error."""
    put(box, 1, 2, 3)
    for row in send_all(box):
        box.bury(row, "no")
    with pytest.raises(UsageError, match="no dead letter 77"):
        box.requeue(77)
    with pytest.raises(UsageError, match="no dead letter 77"):
        box.discard(77)

    assert box.discard(box.dead()[1].id) == 1
    assert [r.sequence for r in box.requeue()] == [4, 5]
    assert box.requeue() == []
    assert box.discard() == 0


def test_letters_that_do_not_fit_stay_dead(path):
    """All or nothing, and nothing is lost."""
    with Outbox(path, rows_max=3) as box:
        put(box, 1, 2, 3)
        for row in send_all(box)[:2]:
            box.bury(row, "no")
        put(box, 4)
        before = shown(box)
        with pytest.raises(OutboxFull):
            box.requeue()

        assert len(box.dead()) == 2
        assert shown(box) == before
        assert box.pending.count == 2
        assert len(box.requeue(box.dead()[0].id)) == 1


def test_dead_letters_are_bounded_and_the_end_of_one_is_reported(box, monkeypatch):
    """The oldest is discarded."""
    monkeypatch.setattr(bounds, "outbox_dead_max", 2)
    put(box, 1, 2, 3)
    rows = send_all(box)
    for row in rows:
        box.bury(row, "no")

    assert [letter.sequence for letter in box.dead()] == [2, 3]
    (report,) = box.reports()
    assert (report.kind, report.facts["message"]) == ("discarded", rows[0].message)


# Reports and values


def test_reports_are_bounded_but_counts_stay(box, monkeypatch):
    """The oldest go; what counts dropped entries is one report for each stream and reason."""
    monkeypatch.setattr(bounds, "outbox_reports_max", 3)
    put(box, 1, 2)
    box.drop(box.peek("air"), "unwanted")
    for number in range(5):
        box.fork(f"reason {number}")

    reports = box.reports()
    assert [r.facts["reason"] for r in reports] == ["unwanted", "reason 2", "reason 3", "reason 4"]
    assert reports[0].facts["count"] == 2


def test_a_callback_that_fails_harms_no_put(path, caplog):
    """It is logged."""
    with Outbox(path, rows_max=1, when_full="drop oldest", on_event=lambda _: 1 / 0) as box:
        put(box, 1, 2)
        assert shown(box) == [(1, 1, "dropped"), 2]
    assert "on_event failed" in caplog.text


def test_values_are_kept_by_name(box):
    """JSON, written over, taken out with None."""
    assert box.kept("token") is None
    box.keep("token", {"a": [1, "ü"]})
    box.keep("token", {"b": 2})
    assert box.kept("token") == {"b": 2}
    box.keep("token", None)
    assert box.kept("token") is None
    with pytest.raises(UsageError):
        box.keep("token", float("nan"))
    with pytest.raises(LimitError):
        box.keep("token", "x" * bounds.outbox_value_bytes_max)


def test_the_repr_shows_no_entry_and_no_value(box):
    """It goes into logs."""
    put(box, 1)
    box.keep("token", "secret-value")

    assert "secret-value" not in repr(box)
    assert "1 waiting" in repr(box)


# Whose it is


def test_a_file_with_entries_of_another_device_is_refused(path):
    """The error names both and the way out; nothing is changed."""
    with Outbox(path, device="a", instance="https://one") as box:
        put(box, 1)
    with pytest.raises(SettingsError, match=r"'a' at https://one.*'b' at https://one"):
        Outbox(path, device="b")
    with pytest.raises(SettingsError, match="https://two"):
        Outbox(path, device="a", instance="https://two")
    with Outbox(path, device="a") as box:
        assert shown(box) == [1]
        assert box.instance == "https://one"


def test_an_empty_file_is_bound_anew_with_a_new_box(path):
    """What was kept for the other device is forgotten with it; the report says so."""
    with Outbox(path, device="a") as box:
        put(box, 1)
        box.keep("token", "of a")
        box.ack(box.peek("air"))
        old = box.box
    with Outbox(path, device="b") as box:
        assert box.device == "b"
        assert box.box != old
        assert box.kept("token") is None
        assert box.streams() == []
        assert [report.kind for report in box.reports()] == ["rebound"]


def test_a_file_is_bound_when_the_device_is_known(path):
    """What was put before belongs to it; another device is refused from then on."""
    with Outbox(path) as box:
        put(box, 1)
        old = box.box
        box.bind("a", "https://one")
        assert (box.device, box.instance, box.box) == ("a", "https://one", old)
        with pytest.raises(SettingsError):
            box.bind("b")
        box.bind("a")
    with Outbox(path) as box:
        assert box.device == "a"


def test_dead_letters_bind_as_entries_do(path):
    """They are the other device's data."""
    with Outbox(path, device="a") as box:
        put(box, 1)
        box.bury(send_all(box)[0], "no")
    with pytest.raises(SettingsError, match="1 dead letters"):
        Outbox(path, device="b")


# Room on the disk


def test_a_file_that_was_emptied_gives_its_room_back(path):
    """Commit by commit, not in one long pause."""
    with Outbox(path, durable=False) as box:
        for _ in range(20):
            box.put_many("air", [{"text": "x" * 1000} for _ in range(500)])
    full = os.path.getsize(path)
    with Outbox(path, durable=False) as box:
        while rows := box.peek("air", limit=50):
            box.sent("air", rows[-1].to)
            box.learn("air", rows[-1].to, rows[-1].message)
    assert full > 10_000_000
    assert os.path.getsize(path) < 2_000_000


def test_large_payloads_that_have_gone_give_their_room_back(path):
    """A queue of pictures leaves no file of their size behind, though few marks settle it."""
    with Outbox(path, durable=False) as box:
        for number in range(8):
            box.put("air", {"n": number}, payload=b"x" * 4_000_000)
    assert os.path.getsize(path) > 30_000_000
    with Outbox(path, durable=False) as box:
        for row in box.peek("air"):
            box.sent("air", row.to)
            box.learn("air", row.to, row.message)
    assert os.path.getsize(path) < 2_000_000


# Threads


def test_threads_share_commits_and_lose_nothing(path):
    """Each gets its own receipt; the numbers are all different."""
    receipts = []
    with Outbox(path) as box:

        def work(thread):
            receipts.extend((thread, *put(box, number)) for number in range(25))

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        rows = {row.sequence: row.message for row in box.peek("air")}

    assert len(receipts) == len(rows) == 200
    for thread in range(8):
        mine = [receipt for owner, receipt in receipts if owner == thread]
        assert [r.sequence for r in mine] == sorted(r.sequence for r in mine)
        assert all(rows[r.sequence] == r.message for r in mine)


def test_a_refusal_in_a_shared_commit_harms_no_other(path):
    """Beside entries that are refused, all others are kept, each once."""
    refused = []
    with Outbox(path, bytes_max=100_000) as box:

        def work(number):
            for n in range(20):
                try:
                    box.put("air", {"n": n}, payload=b"x" * (200_000 if number % 2 else 1))
                except OutboxFull:
                    refused.append(n)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)

        assert len(refused) == 60
        assert box.pending.count == 60
        assert len(box.peek("air")) == 60


def test_what_waits_again_after_a_restore_counts_and_may_be_dropped(path):
    """It is the oldest again, though younger entries were dropped before."""
    with Outbox(path, rows_max=3, when_full="drop oldest", keep_acked=5) as box:
        put(box, 1, 2, 3)
        rows = send_all(box)
        box.learn("air", 2, rows[1].message)
        put(box, 4, 5, 6)
        assert shown(box) == [(3, 3, "dropped"), 4, 5, 6]
        box.learn("air", 0, None, went_back=True)
        assert shown(box) == [1, 2, (3, 3, "dropped"), 4, 5, 6]
        put(box, 7)
        assert shown(box)[:3] == [(1, 1, "dropped"), (2, 2, "dropped"), (3, 3, "dropped")]
        assert shown(box)[3:] == [(4, 4, "dropped"), 5, 6, 7]


def test_what_was_taken_keeps_its_message_whatever_happens_to_it(box):
    """Dropped while it is on its way: the server's mark of it is no fork."""
    put(box, 1, 2)
    put(box, 3, stream="soil")
    name, taken = box.take(["air", "soil"], limit=2, bytes_max=10_000)
    assert name == box.box
    assert {stream: len(found) for stream, found in taken.items()} == {"air": 2}
    rows = taken["air"]
    box.drop(rows, "changed my mind")
    assert [row.message for row in box.peek("air")] == [row.message for row in rows]
    assert box.learn("air", 2, rows[1].message).kind == "settled"
