"""The question of a probe: honest, bounded in time, and cheap however often it is asked."""

import threading
import time

import pytest

from flowkit.green import monotonic
from flowkit.server.health import Health
from flowkit.server.store.sqlite import open_store


@pytest.fixture
def store(tmp_path):
    """An open store."""
    opened = open_store(tmp_path, synchronous="OFF")
    yield opened
    opened.close()


class Counting:
    """A store whose jobs are counted."""

    def __init__(self, store):
        self.store, self.reads, self.writes = store, 0, 0

    def read(self, job, **how):
        """As the store's."""
        self.reads += 1
        return self.store.read(job, **how)

    def write(self, job, **how):
        """As the store's."""
        self.writes += 1
        return self.store.write(job, **how)


def test_a_store_that_works_has_no_fault(store):
    """Reader and writer answered."""
    assert Health(store).fault() == ""


def test_a_store_that_is_closed_has_one(tmp_path):
    """In words that name no file."""
    store = open_store(tmp_path)
    store.close()

    assert Health(store).fault() == "the store cannot read"


def test_a_crowd_that_asks_costs_one_look(store):
    """No token is needed to ask, so asking must not keep the writer busy."""
    counting = Counting(store)
    health = Health(counting, fresh_s=60)

    assert {health.fault() for _ in range(100)} == {""}
    assert (counting.reads, counting.writes) == (1, 1)


def test_a_finding_grows_old(store):
    """After its time the store is looked at again."""
    counting = Counting(store)
    health = Health(counting, fresh_s=0)
    health.fault()
    health.fault()

    assert counting.writes == 2


def test_a_writer_that_hangs_is_told_within_the_bound_and_waited_for_by_one_look(store):
    """Three probes: each is answered in time, one job waits; then all is well."""
    held, go = threading.Event(), threading.Event()

    def hang(_writer):
        held.set()
        go.wait(30)

    blocking = threading.Thread(target=store.write, args=(hang,))
    blocking.start()
    held.wait(10)
    counting = Counting(store)
    health, begun = Health(counting, timeout_s=0.1, fresh_s=0), monotonic()

    assert [health.fault() for _ in range(3)] == ["the store has not answered within 0.1 s"] * 3
    assert monotonic() - begun < 5
    assert counting.writes == 1
    go.set()
    blocking.join()
    deadline = monotonic() + 10
    while health.fault() and monotonic() < deadline:
        time.sleep(0.01)
    assert health.fault() == ""
