"""The store's threads: what shares a commit, who gets which error, what a closed line does."""

from __future__ import annotations

import threading

import gevent
import pytest

from flowkit.errors import BadRequest, ServerError
from flowkit.green import Cell
from flowkit.server.store.workers import BatchLost, Readers, WriterThread

pytestmark = pytest.mark.timeout(20)


class Pages:
    """A write session that keeps its batches in memory; jobs are functions of the open batch."""

    def __init__(self) -> None:
        self.batches: list[list[object]] = []
        self.open: list[object] | None = None
        self.fails_at = ""
        self.abandoned = 0
        self.closed = 0

    def _at(self, step: str) -> None:
        if self.fails_at == step:
            raise OSError(f"the disk said no at {step}")

    def begin(self) -> None:
        """A new batch."""
        self._at("begin")
        assert self.open is None
        self.open = []

    def run(self, job):
        """A job; undone when it raises."""
        assert self.open is not None
        before = list(self.open)
        try:
            return job(self.open)
        except BaseException as error:
            self.open[:] = before
            if isinstance(error, MemoryError):
                raise BatchLost from error
            raise

    def commit(self) -> None:
        """The batch is kept."""
        assert self.open is not None
        self._at("commit")
        self.batches.append(self.open)
        self.open = None

    def abandon(self) -> None:
        """The batch is gone."""
        self.abandoned += 1
        self.open = None

    def close(self) -> None:
        """The end."""
        self._at("close")
        self.closed += 1


@pytest.fixture
def pages():
    """A session."""
    return Pages()


@pytest.fixture
def writer(pages):
    """The thread that drives it."""
    writer = WriterThread(pages, jobs_max=20, batch_jobs_max=10)
    yield writer
    pages.fails_at = ""
    writer.close()


class Held:
    """A job that stops the writer until it is let go, so that others queue up behind it."""

    def __init__(self, writer) -> None:
        self.begun, self.let_go = threading.Event(), threading.Event()
        self.thread = threading.Thread(target=writer.run, args=(self,))
        self.thread.start()
        assert self.begun.wait(10)

    def __call__(self, batch) -> None:
        """The job."""
        self.begun.set()
        assert self.let_go.wait(10)
        batch.append("held")

    def end(self) -> None:
        """Let it go."""
        self.let_go.set()
        self.thread.join()


def queued(writer, jobs):
    """Greenlets that wait for *jobs*, which are in the line when this returns."""
    greenlets = [gevent.spawn(writer.run, job) for job in jobs]
    gevent.sleep(0)
    return greenlets


def outcomes(greenlets):
    """Value or error of each."""
    gevent.joinall(greenlets)
    return [each.exception or each.value for each in greenlets]


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    """Greenlets that fail on purpose print nothing."""
    monkeypatch.setattr(gevent.get_hub(), "exception_stream", None)


def note(text):
    """A job that writes *text* and answers it."""

    def job(batch):
        batch.append(text)
        return text

    return job


def test_what_waits_shares_a_commit(writer, pages):
    """Jobs that queue behind a commit are one batch, up to the bound, in their order."""
    held = Held(writer)
    greenlets = queued(writer, [note(n) for n in range(12)])
    held.end()

    assert outcomes(greenlets) == list(range(12))
    assert pages.batches == [["held"], list(range(10)), [10, 11]]


def test_small_jobs_go_before_large_ones_which_go_alone(writer, pages):
    """A small one that comes while large ones wait is answered before the next of them begins."""
    held = Held(writer)
    waiting = [gevent.spawn(writer.run, note(name), large=True) for name in "AB"]
    gevent.sleep(0)
    small = queued(writer, [note(1), note(2)])
    held.end()

    assert outcomes([*waiting, *small]) == ["A", "B", 1, 2]
    assert pages.batches == [["held"], [1, 2], ["A"], ["B"]]


def test_closing_finishes_large_jobs_too(writer, pages):
    """What waits is done, whatever its size."""
    held = Held(writer)
    greenlets = [gevent.spawn(writer.run, note(n), large=n % 2 == 0) for n in range(5)]
    gevent.sleep(0)
    closing = gevent.spawn(writer.close)
    gevent.sleep(0)
    held.end()

    assert outcomes(greenlets) == list(range(5))
    closing.join()
    assert pages.batches == [["held"], [1, 3], [0], [2], [4]]


def test_a_job_that_raises_is_undone_alone(writer, pages):
    """Its caller gets the error, its neighbours their commit."""

    def bad(batch):
        batch.append("half")
        raise BadRequest("no")

    held = Held(writer)
    greenlets = queued(writer, [note(1), bad, note(2)])
    held.end()

    first, error, second = outcomes(greenlets)
    assert (first, second) == (1, 2)
    assert isinstance(error, BadRequest)
    assert pages.batches == [["held"], [1, 2]]


@pytest.mark.parametrize("step", ["begin", "commit"])
def test_a_commit_that_fails_fails_its_whole_batch(writer, pages, step):
    """Every caller gets a server error, nothing is stored, and the next batch goes on."""
    held = Held(writer)
    greenlets = queued(writer, [note(1), note(2)])
    if step == "begin":
        pages.fails_at = step
        held.end()
    else:
        held.end()
        gevent.joinall(greenlets)
        pages.fails_at = step
        greenlets = queued(writer, [note(3), note(4)])

    found = outcomes(greenlets)
    assert all(isinstance(each, ServerError) for each in found)
    assert f"nothing of it was stored: the disk said no at {step}" in str(found[0])
    pages.fails_at = ""
    assert writer.run(note(5)) == 5
    assert pages.batches[-1] == [5]
    assert pages.abandoned >= 1


def test_a_lost_transaction_fails_the_jobs_before_it_too(writer, pages):
    """What ran in the same batch is gone with it; what had not run yet runs in the next."""

    def fatal(batch):
        raise MemoryError("no room")

    held = Held(writer)
    greenlets = queued(writer, [note(1), fatal, note(2)])
    held.end()

    first, second, third = outcomes(greenlets)
    assert isinstance(first, ServerError)
    assert isinstance(second, ServerError)
    assert "no room" in str(second)
    assert third == 2
    assert pages.batches == [["held"], [2]]


def test_a_long_job_does_not_keep_a_batch_open(pages):
    """When the time of a batch is up it commits, and the rest waits for the next."""
    writer = WriterThread(pages, batch_time_s=0.0)
    held = Held(writer)
    greenlets = queued(writer, [note(1), note(2)])
    held.end()

    assert outcomes(greenlets) == [1, 2]
    assert pages.batches == [["held"], [1], [2]]
    writer.close()


def test_a_full_line_refuses_at_once(writer):
    """503 with a time to try again; what waited is done."""
    held = Held(writer)
    greenlets = queued(writer, [note(n) for n in range(20)])
    with pytest.raises(ServerError, match="20 writes wait already") as caught:
        writer.run(note("too many"))
    held.end()

    assert (caught.value.status, caught.value.retry_after_s) == (503, 1.0)
    assert outcomes(greenlets) == list(range(20))


def test_closing_finishes_what_waits(writer, pages):
    """Jobs in the line are done first; later ones are refused; a second close does nothing."""
    held = Held(writer)
    greenlets = queued(writer, [note(n) for n in range(3)])
    closing = gevent.spawn(writer.close)
    gevent.sleep(0)
    with pytest.raises(ServerError, match="closed"):
        writer.run(note("late"))
    held.end()
    closing.get()
    writer.close()

    assert outcomes(greenlets) == [0, 1, 2]
    assert pages.closed == 1


def test_a_session_that_cannot_be_closed_says_so(pages):
    """The closing caller gets the error."""
    writer = WriterThread(pages)
    pages.fails_at = "close"

    with pytest.raises(OSError, match="the disk said no at close"):
        writer.close()


def test_a_waiting_greenlet_lets_others_run(writer):
    """The event loop goes on while the writer is busy."""
    turns: list[int] = []
    held = Held(writer)
    waiting = gevent.spawn(writer.run, note(1))
    for n in range(3):
        gevent.sleep(0)
        turns.append(n)
    assert not waiting.ready()
    held.end()

    assert waiting.get() == 1
    assert turns == [0, 1, 2]


class Shelf:
    """A read session; jobs are functions of its number."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.closed = False

    def run(self, job, timeout_s):
        """A job."""
        return job(self.number, timeout_s)

    def close(self) -> None:
        """The end."""
        self.closed = True


def test_readers_work_side_by_side():
    """As many jobs as readers are under way at once, each on a session of its own."""
    shelves = [Shelf(n) for n in range(3)]
    readers = Readers(shelves)
    together = threading.Barrier(3, timeout=10)

    def job(number, timeout_s):
        together.wait()
        return number, timeout_s

    found = outcomes([gevent.spawn(readers.run, job, 1.5) for _ in range(3)])
    readers.close()

    assert sorted(found) == [(0, 1.5), (1, 1.5), (2, 1.5)]
    assert all(shelf.closed for shelf in shelves)


def test_an_error_of_a_read_reaches_its_caller_alone():
    """The reader goes on with the next job."""
    readers = Readers([Shelf(0)])

    def bad(number, timeout_s):
        raise BadRequest("no")

    with pytest.raises(BadRequest, match="no"):
        readers.run(bad)
    assert readers.run(lambda number, timeout_s: "next") == "next"
    readers.close()


def test_a_full_line_of_readers_refuses_at_once():
    """503, as for writers."""
    readers = Readers([Shelf(0)], jobs_max=1)
    begun: Cell[None] = Cell()
    let_go = threading.Event()

    def slow(number, timeout_s):
        begun.set(None)
        return let_go.wait(10)

    first = gevent.spawn(readers.run, slow)
    begun.wait(10)
    second = gevent.spawn(readers.run, lambda number, timeout_s: number)
    gevent.sleep(0)
    with pytest.raises(ServerError, match="1 reads wait already"):
        readers.run(lambda number, timeout_s: number)
    let_go.set()

    assert (first.get(), second.get()) == (True, 0)
    readers.close()


def test_a_read_that_waited_too_long_is_refused_instead_of_run():
    """503 with a time to come back; the reader goes on with those who wait less long."""
    readers = Readers([Shelf(0)], wait_s=0.5)
    begun: Cell[None] = Cell()
    let_go = threading.Event()

    def slow(number, timeout_s):
        begun.set(None)
        return let_go.wait(10)

    first = gevent.spawn(readers.run, slow)
    begun.wait(10)
    late = gevent.spawn(readers.run, lambda number, timeout_s: pytest.fail("was run"))
    gevent.sleep(0.6)
    let_go.set()

    assert first.get() is True
    with pytest.raises(ServerError, match=r"waited more than 0\.5 s") as caught:
        late.get()
    assert (caught.value.status, caught.value.retry_after_s) == (503, 1.0)
    assert readers.run(lambda number, timeout_s: number) == 0
    readers.close()


def test_readers_finish_what_waits_and_refuse_the_rest():
    """As the writer does; a second close does nothing."""
    readers = Readers([Shelf(0)])
    waiting = [gevent.spawn(readers.run, lambda number, timeout_s: number) for _ in range(5)]
    gevent.sleep(0)
    readers.close()
    readers.close()

    assert outcomes(waiting) == [0] * 5
    with pytest.raises(ServerError, match="closed"):
        readers.run(lambda number, timeout_s: number)
