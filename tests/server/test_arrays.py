"""Array create with the lines of senders: what is stored, what is answered, what is kept."""

from __future__ import annotations

import threading

import apsw
import pytest

from flowkit import limits
from flowkit.server.store.backup import backup, restore
from flowkit.server.store.base import Mark
from flowkit.server.store.sqlite import FILE_NAME, clock_ms, look_into
from flowkit.server.store.verify import verify
from tests.server.visitor import Visitor

BOX, OTHER_BOX = "0f" * 16, "1e" * 16
FLOW = "/nora/air"


def message(at, line="air"):
    """The name of a message."""
    return f"{line}{at}".encode().hex().rjust(16, "0")


def origin(at, *, first=False, line="air", box=BOX, **members):
    """The origin of number *at*; the *first* of an array names the one before it."""
    found = {"box": box, "stream": line, "sequence": at, "message": message(at, line), **members}
    if first and at > 1:
        found.setdefault("after", message(at - 1, line))
    return found


def entry(at, *, first=False, line="air", **members):
    """A drop with the element ``n``."""
    return {
        "path": FLOW,
        "elems": {"n": at},
        "origin": origin(at, first=first, line=line),
        **members,
    }


def entries(first, last, **members):
    """The drops of some numbers."""
    return [entry(at, first=at == first, **members) for at in range(first, last + 1)]


def skip(first, last, why="expired", **members):
    """A range without drops; the first in its array."""
    place = origin(first, first=True, message=message(last), to=last, skip=why, **members)
    return {"origin": place}


def marks_of(answer):
    """Stream to number and message, as the head of an answer tells them."""
    return {
        each["stream"]: (each["sequence"], each.get("message")) for each in answer.head["marks"]
    }


def item(answer_item):
    """One item of an answer in a word: the status and first word of a refusal, or what was done."""
    if "errors" in answer_item:
        return answer_item["status"], answer_item["errors"][0].split()[0]
    return next(name for name in ("id", "duplicate", "skipped") if name in answer_item)


@pytest.fixture
def air(nora):
    """The flow."""
    return nora.flow(FLOW)


@pytest.fixture
def device(nora):
    """Somebody with the Token of a device of nora's, which may write ``/nora/probe/default``."""
    made = nora.ask("POST", "/device", {"path": "/nora/probe"}).body
    token = nora.ask("GET", f"/token/{made['tokenId']}").body["tokenString"]
    return made, Visitor(nora.app, nora.clock, "nora", token)


def test_what_is_sent_again_is_stored_once(nora, air):
    """The whole array, or a part of it with more behind."""
    stored = nora.ask("POST", "/drop", entries(1, 3))
    again = nora.ask("POST", "/drop", entries(1, 3))
    more = nora.ask("POST", "/drop", entries(2, 5))

    assert stored.status == 201
    assert [drop["elems"] for drop in stored.body] == [{"n": 1}, {"n": 2}, {"n": 3}]
    assert (again.status, again.body) == (207, [{"status": 200, "duplicate": True}] * 3)
    assert [item(each) for each in more.body] == ["duplicate", "duplicate", "id", "id"]
    assert marks_of(stored) == marks_of(again) == {"air": (3, message(3))}
    assert marks_of(more) == {"air": (5, message(5))}
    assert nora.elems(air) == [1, 2, 3, 4, 5]


def test_nothing_is_stored_behind_a_hole(nora, air):
    """409 `expected`, for that and all that follows."""
    nora.ask("POST", "/drop", entries(1, 1))
    answer = nora.ask("POST", "/drop", entries(3, 4))

    assert [item(each) for each in answer.body] == [(409, "expected")] * 2
    assert answer.status == 207
    assert marks_of(answer) == {"air": (1, message(1))}
    assert nora.elems(air) == [1]


def test_what_is_refused_does_not_move_the_mark(nora, air):
    """A fault in the body, a path without a flow, a foreign path: the rest of the line waits."""
    for body, status in (
        ({"elems": 5}, 400),
        ({"path": "/nora/none"}, 404),
        ({"path": "/bob/x"}, 403),
    ):
        bad = entry(1) | body
        answer = nora.ask("POST", "/drop", [bad, entry(2), entry(1, line="other")])
        assert [item(each)[0] for each in answer.body[:2]] == [status, 409]
        assert marks_of(answer)["air"] == (0, None)

    assert nora.elems(air) == [1]  # of the other line, once
    assert [item(each) for each in nora.ask("POST", "/drop", entries(1, 2)).body] == ["id", "id"]


def test_lines_in_one_array_do_not_disturb_each_other(nora, air):
    """Interleaved, one of them broken, others without any origin."""
    alone = {"path": FLOW, "elems": {"n": 100}}
    answer = nora.ask(
        "POST",
        "/drop",
        [entry(1), entry(1, line="b"), alone, entry(3), entry(2, line="b"), {"elems": {}}],
    )

    said = ["id", "id", "id", (409, "expected"), "id", (400, "path:")]
    assert [item(each) for each in answer.body] == said
    assert marks_of(answer) == {"air": (1, message(1)), "b": (2, message(2, "b"))}
    assert nora.elems(air) == [1, 1, 100, 2]


def test_another_writer_of_the_line_is_noticed(nora, air):
    """409 `forked`, by the message at the mark or before the first; nothing is stored."""
    nora.ask("POST", "/drop", entries(1, 2))
    other = [entry(2, first=True), entry(3)]
    other[0]["origin"]["message"] = message(2, "copy")
    third = entry(3)
    third["origin"]["after"] = message(2, "copy")

    for request in (other, [third, entry(4)]):
        answer = nora.ask("POST", "/drop", request)
        assert [item(each) for each in answer.body] == [(409, "forked")] * 2
        assert marks_of(answer) == {"air": (2, message(2))}
    assert nora.elems(air) == [1, 2]


def test_a_skip_settles_numbers_without_a_drop(nora, air):
    """A range, again, one that lies partly behind the mark; counted and told."""
    nora.ask("POST", "/drop", entries(1, 2))
    first = nora.ask("POST", "/drop", [skip(3, 5)])
    again = nora.ask("POST", "/drop", [skip(3, 5)])
    nora.clock.now_ms += 1_000
    partly = nora.ask("POST", "/drop", [skip(4, 7, "dropped"), entry(8)])

    assert (first.status, first.body) == (207, [{"status": 200, "skipped": 3}])
    assert again.body == [{"status": 200, "duplicate": True}]
    assert partly.body[0] == {"status": 200, "skipped": 2}
    assert marks_of(partly) == {"air": (8, message(8))}
    told = nora.ask("GET", f"/origin/{BOX}").body
    at = nora.clock.now_ms
    assert told == {
        "air": {
            "sequence": 8,
            "message": message(8),
            "skipped": 5,
            "skips": [
                {"from": 3, "to": 5, "reason": "expired", "at": at - 1_000},
                {"from": 6, "to": 7, "reason": "dropped", "at": at},
            ],
        }
    }
    assert nora.elems(air) == [1, 2, 8]


def test_the_newest_skips_are_kept_and_all_are_counted(nora, air):
    """A hundred ranges of each line."""
    kept = limits.origin_skips_kept
    for start in (1, kept + 21):
        there = [{"origin": origin(at, skip="x")} for at in range(start, start + kept + 20)]
        there[0]["origin"] |= {"after": message(start - 1)} if start > 1 else {}
        assert nora.ask("POST", "/drop", there).status == 207
    told = nora.ask("GET", f"/origin/{BOX}").body["air"]

    assert told["skipped"] == told["sequence"] == 2 * kept + 40
    assert [each["from"] for each in told["skips"]] == list(range(kept + 41, 2 * kept + 41))


def test_a_skip_stands_alone(nora, air):
    """Beside a drop it is refused, for nobody could say which of the two was meant."""
    answer = nora.ask("POST", "/drop", [entry(1, origin=origin(1, skip="x")), entry(2)])

    assert [item(each)[0] for each in answer.body] == [400, 409]
    assert nora.elems(air) == []


def test_an_origin_without_an_array_is_refused(nora, air):
    """What looks sent once must be sent once."""
    answer = nora.ask("POST", "/drop", entry(1))

    assert (answer.status, answer.errors) == (
        400,
        ["origin: stands in the entries of an array: send [{…}]"],
    )
    assert nora.elems(air) == []


def test_a_bad_origin_is_answered_at_its_place(nora, air):
    """The line of the others is not disturbed; no line is made of it."""
    bad = entry(1)
    bad["origin"]["box"] = "x"
    answer = nora.ask("POST", "/drop", [bad, entry(1, line="b")])

    assert answer.body[0]["errors"] == ["origin.box: must be 32 hexadecimal digits, 0-9 and a-f"]
    assert list(marks_of(answer)) == ["b"]


def test_the_flow_may_stand_in_the_address(nora, air):
    """The same rules, and the position of the flow."""
    answer = nora.ask("POST", f"/drop/{air['id']}?positions=1", entries(1, 2))

    assert answer.status == 201
    assert answer.head["position"].endswith(".2")
    assert marks_of(answer) == {"air": (2, message(2))}


def test_arrays_without_lines_are_answered_as_before(nora, air):
    """No marks in the head, and doubled when they are sent again."""
    for _ in range(2):
        answer = nora.ask("POST", "/drop", [{"path": FLOW, "elems": {"n": 1}}])
        assert "marks" not in answer.head

    assert nora.elems(air) == [1, 1]


# Scopes


def test_a_device_has_lines_of_its_own(nora, air, device):
    """Those of the account are others, though box and stream are called alike."""
    made, probe = device
    there = [entry(at) | {"path": "/nora/probe/default"} for at in (1, 2)]
    nora.ask("POST", "/drop", entries(1, 1))
    answer = probe.ask("POST", "/drop", there)

    assert answer.status == 201
    assert marks_of(answer) == {"air": (2, message(2))}
    assert probe.ask("GET", f"/origin/{BOX}").body["air"]["sequence"] == 2
    assert probe.ask("GET", f"/origin/{BOX}?device={made['id']}").body["air"]["sequence"] == 2
    assert nora.ask("GET", f"/origin/{BOX}").body["air"]["sequence"] == 1
    assert nora.ask("GET", f"/origin/{BOX}?device={made['id']}").body["air"]["sequence"] == 2
    assert nora.ask("GET", f"/origin/{OTHER_BOX}").body == {}


def test_marks_go_with_their_device(nora, device):
    """And with nothing else: its Token may go before."""
    made, probe = device
    probe.ask("POST", "/drop", [entry(1) | {"path": "/nora/probe/default"}])
    nora.ask("DELETE", f"/token/{made['tokenId']}")
    place = f"/origin/{BOX}?device={made['id']}"
    assert nora.ask("GET", place).body["air"]["sequence"] == 1

    nora.ask("DELETE", f"/device/{made['id']}")
    assert nora.ask("GET", place).status == 404
    assert nora.app.store.read(lambda reader: reader.marks.of_box(made["id"], BOX)) == {}


def test_marks_go_with_their_account(nora, air):
    """Those of an account of the same name that comes later begin anew."""
    nora.ask("POST", "/drop", [*entries(1, 1), skip(2, 3)])
    nora.app.store.write(lambda writer: writer.delete_account("nora"))

    assert nora.app.store.read(lambda reader: reader.marks.lines("/nora")) == 0


def test_lines_are_refused_beyond_their_bound_and_none_is_forgotten(nora, air, monkeypatch):
    """409, which a sender waits on; the lines that are there go on."""
    monkeypatch.setattr(limits, "origin_lines_max", 3)
    nora.ask("POST", "/drop", [entry(1, line="a")])
    lines = [entry(1, line=name) for name in "bcdb"]
    answer = nora.ask("POST", "/drop", [*lines, entry(2, line="c"), entry(2, line="d")])

    said = ["id", "id", (409, "origin:"), "duplicate", "id", (409, "expected")]
    assert [item(each) for each in answer.body] == said
    assert nora.ask("POST", "/drop", entries(2, 3, line="a")).status == 201
    assert [item(each) for each in nora.ask("POST", "/drop", [entry(1, line="d")]).body] == [
        (409, "origin:")
    ]


def test_the_box_of_a_question_is_one(nora):
    """400 otherwise."""
    assert nora.ask("GET", "/origin/none").errors == [
        "box: must be 32 hexadecimal digits, 0-9 and a-f"
    ]


# Once, whatever happens


def test_two_requests_at_once_store_what_one_does(nora, air):
    """Many threads send the same line; every number is stored once, in its order."""
    answers = []

    def send():
        starts = range(1, 31, 3)
        answers.extend(nora.ask("POST", "/drop", entries(at, at + 2)) for at in starts)

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    done = [item(each) for answer in answers for each in answer.body]
    assert (done.count("id"), done.count("duplicate")) == (30, 90)
    assert nora.elems(air) == list(range(1, 31))


def test_a_fault_of_the_store_leaves_the_marks_where_they_were(nora, air):
    """A job that fails is undone as a whole, its marks too."""

    class Stop(Exception):
        """What went wrong."""

    def job(writer):
        writer.marks.settle("/nora", (BOX, "air"), Mark(5, message(5)))
        raise Stop

    with pytest.raises(Stop):
        nora.app.store.write(job)

    assert marks_of(nora.ask("POST", "/drop", entries(1, 2))) == {"air": (2, message(2))}


def test_a_kept_answer_is_that_of_the_request(nora, air):
    """With X-Request-Id the same request is answered alike, marks included."""
    headers = {"x-request-id": "first"}
    answer = nora.ask("POST", "/drop", entries(1, 2), headers=headers)
    nora.ask("POST", "/drop", entries(3, 3))
    again = nora.ask("POST", "/drop", entries(1, 2), headers=headers)

    assert again.response.body == answer.response.body
    assert nora.elems(air) == [1, 2, 3]


def test_what_the_rules_did_is_counted(nora, air):
    """Duplicates, skipped numbers, refusals of the rules."""
    nora.ask("POST", "/drop", entries(1, 2))
    nora.ask("POST", "/drop", [*entries(1, 2), skip(3, 5)])
    nora.ask("POST", "/drop", entries(9, 10))

    counted = [
        nora.app.metrics.value("flowkit_origin_entries_total", outcome)
        for outcome in ("duplicate", "skipped", "refused")
    ]
    assert counted == [2, 3, 2]


def test_marks_are_part_of_a_backup(nora, air, tmp_path):
    """A restored store refuses what it has, and takes what it has not."""
    nora.ask("POST", "/drop", [*entries(1, 2), {"origin": origin(3, skip="x")}])
    folder = nora.app.settings.data
    backup(folder, tmp_path / "copy")
    restore(tmp_path / "copy", tmp_path / "again", now_ms=clock_ms())

    told = look_into(tmp_path / "again", lambda reader: reader.marks.of_box("/nora", BOX))
    assert (told["air"].mark.sequence, told["air"].mark.skipped) == (3, 1)
    assert [each.reason for each in told["air"].skips] == ["x"]
    assert verify(tmp_path / "again" / FILE_NAME) == []


BROKEN = {
    "UPDATE mark SET sequence = 0": "marks of senders contradict themselves",
    "UPDATE mark SET skipped = 9": "marks of senders contradict themselves",
    "UPDATE mark SET scope = '/none'": "marks of senders belong to no device and no account",
    "UPDATE skip SET last = 9": "skipped ranges contradict themselves or their mark",
    "DELETE FROM mark": "skipped ranges contradict themselves or their mark",
    "UPDATE object SET state = jsonb_set(state, '$.deviceId', 'v0') WHERE kind = 'token'": (
        "tokens say that they are of a device that does not have them"
    ),
}


@pytest.mark.parametrize(("statement", "fault"), BROKEN.items(), ids=BROKEN)
def test_verify_names_what_is_wrong_with_marks(nora, air, device, statement, fault):
    """Each invariant has a statement that breaks it."""
    nora.ask("POST", "/drop", [*entries(1, 2), {"origin": origin(3, skip="x")}])
    file = nora.app.settings.data / FILE_NAME
    assert verify(file) == []
    connection = apsw.Connection(str(file))
    connection.execute(statement)
    connection.close()

    assert f"1 {fault}" in verify(file)
