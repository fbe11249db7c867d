"""Who runs which task when: one run at a time, one server of several, one run for many missed."""

from __future__ import annotations

import threading

import pytest

from flowkit import limits
from flowkit.green import monotonic, sleep
from flowkit.server.auth import ensure_account
from flowkit.server.store.sqlite import open_store
from flowkit.server.tasks.runs import Brought
from flowkit.server.tasks.schedule import Scheduler
from tests.server.visitor import Clock


def until(right, what, seconds=20.0):
    """Ask again until *right* holds."""
    end = monotonic() + seconds
    while not right():
        assert monotonic() < end, f"{what} did not come"
        sleep(0.005)


class Place:
    """A store with a flow, tasks in it, and schedulers on it; runs are counted, not fetched."""

    def __init__(self, folder) -> None:
        self.clock = Clock()
        self.store = open_store(folder, synchronous="OFF", clock_ms=self.clock)
        ensure_account(self.store, "nora")
        self.flow = self.store.write(
            lambda writer: writer.create_flow({"path": "/nora/a"}, creator="i1")
        )
        self.runs: list[tuple[str, str]] = []
        self.under_way = 0
        self.most_under_way = 0
        self.may_end = threading.Event()
        self.may_end.set()
        self.lock = threading.Lock()
        self.schedulers: list[Scheduler] = []

    def scheduler(self, name):
        """Another server on the same store."""

        def bring(task):
            with self.lock:
                self.runs.append((name, task.id))
                self.under_way += 1
                self.most_under_way = max(self.most_under_way, self.under_way)
            self.may_end.wait(20)
            with self.lock:
                self.under_way -= 1
            return Brought("OK", ({"elems": {"by": name}},))

        made = Scheduler(self.store, {"rss_task": bring}, clock_ms=self.clock, holder=name)
        self.schedulers.append(made)
        made.start()
        return made

    def task(self, **members):
        """A task, as its handler makes it."""
        doc = {"destination": "/nora/a", "periodicity": 60_000, "runCt": 0, "nextRun": 0, **members}
        return self.store.write(
            lambda writer: writer.create_object("rss_task", "nora", doc, creator="i1")
        )

    def now(self, task):
        """The task as it is."""
        return self.store.read(lambda reader: reader.object("rss_task", task.id)).doc

    def wake(self, task, **changes):
        """Change a task, which every scheduler is told of."""
        self.store.write(
            lambda writer: writer.update_object(
                writer.object("rss_task", task.id), changes or {"description": "x"}, editor=None
            )
        )

    def drops(self):
        """How many drops there are."""
        return self.store.read(lambda reader: reader.flow(self.flow.id).head)


@pytest.fixture
def place(tmp_path):
    """A place; its schedulers are closed at the end."""
    made = Place(tmp_path / "data")
    yield made
    made.may_end.set()
    for scheduler in made.schedulers:
        scheduler.close()
    made.store.close()


def test_a_task_runs_at_once_and_then_in_its_time(place):
    """The next run is a period after the start, and at most a twentieth later."""
    place.scheduler("one")
    task = place.task()
    until(lambda: place.now(task)["runCt"] == 1, "the first run")
    now = place.now(task)
    place.wake(task)
    place.clock.now_ms = now["nextRun"] - 1
    place.wake(task)
    place.clock.now_ms = now["nextRun"]
    place.wake(task)
    until(lambda: place.now(task)["runCt"] == 2, "the second run")

    wait_ms = now["nextRun"] - now["lastRun"]
    assert 60_000 <= wait_ms <= 60_000 * (1 + limits.task_jitter)
    assert len(place.runs) == 2
    assert place.drops() == 2


def test_what_was_missed_is_made_up_for_once(place):
    """However many periods have passed."""
    task = place.task()
    place.clock.now_ms += 60_000 * 50
    place.scheduler("one")
    until(lambda: place.now(task)["runCt"] == 1, "the run")
    place.wake(task)
    place.wake(task)

    assert place.now(task)["nextRun"] > place.clock.now_ms
    assert len(place.runs) == 1


def test_a_task_never_runs_twice_at_once(place):
    """However often it is due meanwhile; what was changed under way is asked again."""
    place.may_end.clear()
    place.scheduler("one")
    task = place.task()
    until(lambda: place.under_way == 1, "the run")
    for _ in range(5):
        place.clock.now_ms += 61_000
        place.wake(task)
    place.may_end.set()
    until(lambda: place.now(task)["runCt"] == 1, "its end")

    assert place.most_under_way == 1


def test_many_tasks_run_side_by_side_up_to_a_bound(place):
    """The others wait for their turn, and none is left out."""
    place.may_end.clear()
    tasks = [place.task() for _ in range(limits.task_threads_max + 3)]
    place.scheduler("one")
    until(lambda: place.under_way == limits.task_threads_max, "the runs")
    place.may_end.set()
    until(lambda: all(place.now(task)["runCt"] == 1 for task in tasks), "their ends")

    assert place.most_under_way == limits.task_threads_max


def test_a_disabled_task_does_not_run(place):
    """And runs at once when it is enabled."""
    place.scheduler("one")
    task = place.task(disabled=True)
    other = place.task()
    until(lambda: place.now(other)["runCt"] == 1, "the other")
    assert place.now(task)["runCt"] == 0
    place.wake(task, disabled=None)

    until(lambda: place.now(task)["runCt"] == 1, "its run")


def test_of_several_servers_one_runs_the_tasks(place):
    """Each task once, all by the holder of the lease; closed, it gives the lease to another."""
    first, _ = place.scheduler("one"), place.scheduler("two")
    tasks = [place.task() for _ in range(5)]
    until(lambda: all(place.now(task)["runCt"] == 1 for task in tasks), "the runs")
    holders = {name for name, _ in place.runs}
    assert len(place.runs) == 5
    assert len(holders) == 1
    (holder,) = holders
    place.schedulers["one two".split().index(holder)].close()
    place.clock.now_ms += 70_000
    place.wake(tasks[0])
    until(lambda: place.now(tasks[0])["runCt"] == 2, "a run by the other")

    assert {name for name, _ in place.runs[5:]} == {"one", "two"} - holders
    assert first in place.schedulers


def test_a_holder_that_died_is_followed_when_its_lease_is_over(place):
    """Until then nobody runs its tasks."""
    assert place.store.write(
        lambda writer: writer.take_lease("tasks", "dead", int(limits.lease_duration_s * 1000))
    )
    place.scheduler("one")
    task = place.task()
    place.wake(task)
    assert place.runs == []
    place.clock.now_ms += int(limits.lease_duration_s * 1000) + 1
    place.wake(task)

    until(lambda: place.now(task)["runCt"] == 1, "the run")


def test_who_has_lost_the_lease_stores_nothing(place):
    """What it brought is thrown away: another server may have run the task since."""
    place.may_end.clear()
    place.scheduler("one")
    task = place.task()
    until(lambda: place.under_way == 1, "the run")
    place.clock.now_ms += int(limits.lease_duration_s * 1000) + 1
    assert place.store.write(lambda writer: writer.take_lease("tasks", "two", 60_000))
    place.may_end.set()
    until(lambda: place.under_way == 0, "its end")
    place.schedulers[0].close()

    assert place.now(task)["runCt"] == 0
    assert place.drops() == 0


def test_a_fault_of_ours_is_an_error_of_the_run(place):
    """It is reported and not tried again at once."""

    def broken(_task):
        raise RuntimeError("ours")

    scheduler = Scheduler(place.store, {"rss_task": broken}, clock_ms=place.clock)
    place.schedulers.append(scheduler)
    scheduler.start()
    task = place.task()
    until(lambda: place.now(task)["runCt"] == 1, "the run")

    assert place.now(task)["status"] == "ERROR"
    assert place.now(task)["nextRun"] > place.clock.now_ms
