"""The queue of one connection: order, bounds, and what squashing leaves."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from flowkit.server.live.pushes import COUNTED, Entry, Pushes


def entry(kind, key="", seq=0, reader="r", size=10):
    """A message of *size* bytes."""
    return Entry(b"x" * size, reader, kind, key, seq=seq, position=str(seq))


def remake(before, kind):
    """A frame that says what it was made of."""
    return f"{before.position} as {kind}".encode()


def kinds(pushes):
    """Reader, kind, drop and number of what waits."""
    return [(one.reader, one.kind, one.key, one.seq) for one in pushes._entries]


def test_what_is_put_comes_out_in_order_and_by_bytes():
    """At least one frame is taken, further ones while they fit."""
    pushes = Pushes(10, 1000)
    for size in (30, 10, 10, 50):
        pushes.put(entry("message", size=size))
    assert [len(frame) for frame in pushes.take(20)] == [30]
    assert [len(frame) for frame in pushes.take(20)] == [10, 10]
    assert [len(frame) for frame in pushes.take(20)] == [50]
    assert (len(pushes), pushes.messages, pushes.bytes) == (0, 0, 0)


def test_messages_count_against_the_bound_and_control_messages_do_not():
    """A place or a gap never makes anybody slow."""
    pushes = Pushes(2, 1000)
    for kind in ("gap", "end", "snapshot", "reply", "position"):
        pushes.put(entry(kind))
    assert (pushes.messages, pushes.is_full) == (0, False)
    pushes.put(entry("message"))
    pushes.put(entry("item"))
    assert (pushes.messages, pushes.is_full, pushes.has_room) == (2, True, False)


def test_everything_counts_in_bytes():
    """A queue of replies that nobody reads is full, too."""
    pushes = Pushes(100, 50)
    pushes.put(entry("reply", size=60))
    assert pushes.is_full
    pushes.take(1)
    assert pushes.has_room


def test_of_two_places_of_one_reader_in_a_row_the_later_one_stays():
    """They say the same, the later one better."""
    pushes = Pushes(10, 1000)
    for seq in (1, 2):
        pushes.put(entry("position", seq=seq))
    pushes.put(entry("position", seq=3, reader="other"))
    assert kinds(pushes) == [("r", "position", "", 2), ("other", "position", "", 3)]
    assert pushes.bytes == 20


CASES = {
    ("enter", "update"): ["enter"],
    ("enter", "leave"): ["position"],
    ("enter", "update", "leave"): ["position"],
    ("update", "update"): ["update"],
    ("update", "leave"): ["leave"],
    ("leave", "enter"): ["update"],
    ("leave", "enter", "leave"): ["leave"],
    ("update", "leave", "enter", "update"): ["update"],
    ("leave", "enter", "leave", "enter"): ["update"],
}


def test_squashing_leaves_one_entry_for_a_drop():
    """Case by case (positions 8)."""
    for before, after in CASES.items():
        pushes = Pushes(10, 1000)
        for seq, kind in enumerate(before, 1):
            pushes.put(entry(kind, "d1", seq))
        pushes.squash("r", remake)
        assert [kind for _, kind, _, _ in kinds(pushes)] == after, before
        assert kinds(pushes)[-1][3] == len(before), before


def test_squashing_spares_other_readers_and_what_waits_of_a_snapshot():
    """Items belong to a set that is told whole; others' messages are their own."""
    pushes = Pushes(10, 1000)
    pushes.put(entry("snapshot"))
    pushes.put(entry("item", "d1"))
    pushes.put(entry("snapshot", seq=5))
    pushes.put(entry("enter", "d2", 6))
    pushes.put(entry("message", "d2", 7, reader="other"))
    pushes.put(entry("leave", "d2", 8))
    pushes.squash("r", remake)
    assert kinds(pushes) == [
        ("r", "snapshot", "", 0),
        ("r", "item", "d1", 0),
        ("r", "snapshot", "", 5),
        ("other", "message", "d2", 7),
        ("r", "position", "d2", 8),
    ]


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=30),
    st.lists(st.integers(0, 29), max_size=4),
)
def test_a_view_ends_up_the_same_squashed_or_not(changes, squashes):
    """Whatever is squashed when: applied in order, the entries lead to the same set and place."""
    pushes = Pushes(1000, 100_000)
    held, started = {}, {"a": 0}
    for seq, (key, is_there) in enumerate(changes, 1):
        if is_there:
            pushes.put(entry("update" if key in held or key in started else "enter", key, seq))
            held[key] = seq
        elif held.pop(key, None) is not None or key in started:
            pushes.put(entry("leave", key, seq))
        started.pop(key, None)
        if seq in squashes:
            pushes.squash("r", remake)
    pushes.squash("r", remake)
    seen, place = {"a": 0}, 0
    for one in pushes._entries:
        assert one.seq > place
        place = one.seq
        if one.kind in ("enter", "update"):
            seen[one.key] = one.seq
        elif one.kind == "leave":
            seen.pop(one.key, None)
    assert seen == {**({"a": 0} if "a" in started else {}), **held}
    assert pushes.messages == sum(one.kind in COUNTED for one in pushes._entries)
    assert pushes.bytes == sum(len(one.frame) for one in pushes._entries)
