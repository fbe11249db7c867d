"""Positions and what a reader may rely on who comes back with one."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flowkit.protocol.positions import Book, Position, Verdict, judge

FLOW, OTHER = "f5a2c11e09b1e4d7a6c3f0010", "f5a2c11e09b1e4d7a6c3f0011"
EPOCHS = (("aa", 1), ("bb", 11), ("cc", 21))
"""The flow of the table below: 1 to 10 under aa, 11 to 20 under bb, 21 to 30 under cc."""


def book(mark_e: int = 5, mark: int = 8) -> Book:
    """That flow at head 30, in a process whose own epoch is dd."""
    return Book(FLOW, 30, mark, mark_e, EPOCHS, "dd")


def at(epoch: str, seq: int) -> Position:
    """A position of that flow."""
    return Position(FLOW, epoch, seq)


TABLE = [
    ("start: all that is held", None, Verdict(0)),
    ("nothing was there yet", at("aa", 0), Verdict(0)),
    ("nothing was there yet, under an epoch that nobody knows", at("zz", 0), Verdict(0)),
    ("known, in the middle of its epoch", at("bb", 15), Verdict(15)),
    ("known, the first of its epoch", at("bb", 11), Verdict(11)),
    ("known, the last of its epoch", at("bb", 20), Verdict(20)),
    ("known, the head", at("cc", 30), Verdict(30)),
    ("known, below the marks: the page tells the gap", at("aa", 3), Verdict(3)),
    ("an earlier epoch went on elsewhere", at("bb", 21), Verdict(20, "rolled-back", 20)),
    ("the present epoch went on elsewhere", at("cc", 31), Verdict(30, "rolled-back", 30)),
    ("an unknown epoch, at E", at("zz", 5), Verdict(5, "unknown")),
    ("an unknown epoch, before E", at("zz", 1), Verdict(5, "unknown")),
    ("an unknown epoch, after E", at("zz", 6), Verdict(30, "unknown")),
    ("an unknown epoch, beyond head", at("zz", 999), Verdict(30, "unknown")),
    ("the flow was made anew", Position(OTHER, "bb", 15), Verdict(0, "recreated")),
    (
        "the flow was made anew, nothing was there",
        Position(OTHER, "bb", 0),
        Verdict(0, "recreated"),
    ),
]


@pytest.mark.parametrize(
    ("since", "verdict"), [row[1:] for row in TABLE], ids=[r[0] for r in TABLE]
)
def test_a_place_is_judged_as_the_table_says(since, verdict):
    """Each row of ``positions`` 5.3 that is told from the place alone."""
    assert judge(since, book()) == verdict


@pytest.mark.parametrize(
    ("since", "verdict"), [row[1:] for row in TABLE], ids=[r[0] for r in TABLE]
)
def test_a_verdict_is_exact_if_it_has_no_gap(since, verdict):
    """Only a place of this very history is exact."""
    assert judge(since, book()).is_exact is (verdict.gap is None)


def test_a_place_in_a_flow_without_changes_is_of_another_history():
    """A flow that was rolled back to before its first change knows no epoch at all."""
    empty = Book(FLOW, 0, 0, 0, (), "dd")

    assert judge(at("aa", 7), empty) == Verdict(0, "unknown")
    assert judge(None, empty) == Verdict(0)
    assert str(empty.at(0)) == f"p1.{FLOW}.dd.0"


@pytest.mark.parametrize(
    ("seq", "epoch"), [(1, "aa"), (10, "aa"), (11, "bb"), (20, "bb"), (21, "cc"), (30, "cc")]
)
def test_the_epoch_in_a_position_is_that_of_the_change(seq, epoch):
    """A position names one change in all histories (5.2)."""
    assert book().at(seq) == at(epoch, seq)


def test_the_last_number_of_an_epoch_is_before_the_next_or_the_head():
    """last(e) of the contract, for each epoch and for an unknown one."""
    said = {name: book().last_under(name) for name in ("aa", "bb", "cc", "dd")}

    assert said == {"aa": 10, "bb": 20, "cc": 30, "dd": None}


@given(
    st.from_regex(r"f[0-9a-f]{24}", fullmatch=True),
    st.from_regex(r"[a-z0-9]{1,16}", fullmatch=True),
    st.integers(0, 10**19 - 1),
)
def test_a_position_is_read_as_it_was_written(flow_id, epoch, seq):
    """The text and the three facts are the same thing."""
    position = Position(flow_id, epoch, seq)

    assert Position.parse(str(position)) == position


GOOD = f"p1.{FLOW}.k3v9q2xz.1842"


@given(st.one_of(st.text(max_size=60), st.text(alphabet="p1.f0ab\n ٣-+", max_size=60)))
@example("")
@example(GOOD + "\n")
@example(" " + GOOD)
@example(GOOD.replace("p1", "p2"))
@example(GOOD.replace(".1842", ".01842"))
@example(GOOD.replace(".1842", ".-1"))
@example(GOOD.replace(".1842", "."))
@example(GOOD.replace(".1842", ".٣"))
@example(GOOD.replace(".1842", "." + "9" * 20))
@example(GOOD.replace("k3v9q2xz", ""))
@example(GOOD.replace("k3v9q2xz", "K3"))
@example(GOOD.replace("k3v9q2xz", "k" * 17))
@example(GOOD.replace("p1.f", "p1.d"))
@example(GOOD.upper())
def test_garbage_is_no_position(text):
    """What ``str`` would not write is refused, with words that begin a sentence's end."""
    with pytest.raises(ValueError, match=r"^is not a position"):
        Position.parse(text)


@st.composite
def histories(draw):
    """Writing histories that branch: (the present one, every change that ever was).

    Each opening draws a new epoch and writes some changes; before one, an older copy of the store
    may come back, which loses what was written since.
    """
    present: list[tuple[str, int]] = []
    ever: set[tuple[str, int]] = set()
    for opening in range(draw(st.integers(1, 5))):
        del present[draw(st.integers(0, len(present))) if draw(st.booleans()) else len(present) :]
        for _ in range(draw(st.integers(0, 4))):
            present.append((f"e{opening}", len(present) + 1))
        ever |= set(present)
    return present, sorted(ever)


@given(histories(), st.data())
def test_a_place_of_a_lost_history_is_never_taken_for_one_of_this(history, data):
    """Exact means: that very change is here. Else the gap reaches back to where both agree."""
    present, ever = history
    epochs: dict[str, int] = {}
    for epoch, seq in present:
        epochs.setdefault(epoch, seq)
    forgotten = data.draw(st.integers(0, len(present)))
    ledger = Book(FLOW, len(present), forgotten, forgotten, tuple(epochs.items()), "now")
    for epoch, seq in ever:
        verdict = judge(at(epoch, seq), ledger)

        assert verdict.is_exact is ((epoch, seq) in present)
        assert 0 <= verdict.after <= len(present)
        if verdict.gap == "rolled-back":
            assert present[verdict.after - 1][0] == epoch
