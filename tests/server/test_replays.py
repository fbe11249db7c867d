"""Kept answers: each is there within time and size; beyond either the oldest have gone."""

import pytest

from flowkit import limits
from flowkit.server.store.sqlite import open_store


class Clock:
    """A clock that moves when it is told to."""

    ms = 1_600_000_000_000

    def __call__(self):
        """Now."""
        return self.ms


@pytest.fixture
def store(tmp_path, monkeypatch):
    """A store that keeps a thousand bytes of answers."""
    monkeypatch.setattr(limits, "kept_answers_bytes_max", 1000)
    opened = open_store(tmp_path, synchronous="OFF", clock_ms=Clock())
    yield opened
    opened.close()


def keep(store, *names, size=100):
    """Keep an answer under each name, one commit each."""
    for name in names:
        store.write(lambda writer, name=name: writer.keep_answer("nora", name, 200, b"x" * size))


def kept(store, *names):
    """Which of them are still there."""
    return [name for name in names if store.read(lambda reader, n=name: reader.answer("nora", n))]


def test_up_to_the_bound_all_are_kept(store):
    """Ten of a hundred bytes."""
    names = [f"r{n}" for n in range(10)]
    keep(store, *names)

    assert kept(store, *names) == names


def test_beyond_the_bound_the_oldest_go(store):
    """Down to nine tenths, so that not every write has to sweep."""
    names = [f"r{n}" for n in range(11)]
    keep(store, *names)

    assert kept(store, *names) == names[2:]


def test_an_answer_above_the_bound_goes_itself(store):
    """It is answered all the same, and does not stay for others to pay."""
    keep(store, "small")
    keep(store, "huge", size=5000)
    keep(store, "next")

    assert kept(store, "small", "huge", "next") == ["next"]


def test_what_was_undone_takes_no_room(store):
    """A job that raises leaves the others where they were."""
    keep(store, "first")

    def fail(writer):
        writer.keep_answer("nora", "failed", 200, b"x" * 900)
        raise ValueError

    for _ in range(3):
        with pytest.raises(ValueError, match=r"^$"):
            store.write(fail)
    keep(store, "second")

    assert kept(store, "first", "second", "failed") == ["first", "second"]


def test_what_was_there_at_the_start_counts(tmp_path, monkeypatch):
    """The bound holds across a restart."""
    monkeypatch.setattr(limits, "kept_answers_bytes_max", 1000)
    names = [f"r{n}" for n in range(10)]
    for name in [*names, "last"]:
        opened = open_store(tmp_path, synchronous="OFF", clock_ms=Clock())
        keep(opened, name)
        found = kept(opened, *names, "last")
        opened.close()

    assert found == [*names[2:], "last"]
