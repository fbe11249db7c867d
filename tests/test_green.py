"""The one door to gevent: cells, slots, tasks, threads."""

from __future__ import annotations

import threading
import time

import gevent
import pytest

from flowkit import green
from flowkit.errors import Cancelled, DeadlineExceeded, UsageError


def test_a_value_set_by_a_thread_reaches_greenlets_and_threads():
    """Every kind of waiter gets the one value."""
    cell = green.Cell()
    seen = green.NativeQueue()
    threads = [threading.Thread(target=lambda: seen.put(cell.get(5))) for _ in range(3)]
    for thread in threads:
        thread.start()
    tasks = [green.spawn(cell.get, 5) for _ in range(3)]
    gevent.sleep(0)

    green.start_thread(cell.set, 42)

    assert [task.get(timeout=5) for task in tasks] == [42] * 3
    assert [seen.get(timeout=5) for _ in range(3)] == [42] * 3
    for thread in threads:
        thread.join()


def test_a_cell_is_set_once():
    """The second result is refused and changes nothing."""
    cell = green.Cell()

    assert cell.set(1)
    assert not cell.set(2)
    assert not cell.fail(ValueError())
    assert cell.get() == 1


def test_a_failed_cell_raises_its_error_to_each_reader():
    """get raises what was stored, outcome hands it out."""
    cell = green.Cell()
    error = ValueError("no")
    cell.fail(error)

    for _ in range(2):
        with pytest.raises(ValueError, match="no"):
            cell.get()
    assert cell.outcome() == (error, None)


def test_a_wait_ends_at_its_timeout():
    """wait says False, get raises DeadlineExceeded, in a greenlet and in a thread."""
    cell = green.Cell()
    said = green.NativeQueue()
    thread = threading.Thread(target=lambda: said.put(cell.wait(0.01)))
    thread.start()

    assert said.get(timeout=5) is False
    thread.join()
    assert green.spawn(cell.wait, 0.01).get(timeout=5) is False
    with pytest.raises(DeadlineExceeded, match=r"0\.01 s"):
        cell.get(0.01)


def test_a_killed_greenlet_says_cancelled_and_others_go_on():
    """Killed waiting or before it began: its outcome is Cancelled; the cell serves the rest."""
    cell = green.Cell()
    waiting, other = green.spawn(cell.get), green.spawn(cell.get)
    gevent.sleep(0)
    unborn = green.spawn(cell.get)
    unborn.kill()
    waiting.kill()
    cell.set(7)

    assert other.get(timeout=5) == 7
    for task in (waiting, unborn):
        assert isinstance(task.cell.outcome(5)[0], Cancelled)


def test_a_failing_task_prints_nothing(capfd):
    """The error is in the outcome and nowhere else."""

    def fail():
        raise ValueError("mine")

    task = green.spawn(fail)

    with pytest.raises(ValueError, match="mine"):
        task.get(timeout=5)
    assert not task.successful()
    assert isinstance(task.exception, ValueError)
    assert capfd.readouterr() == ("", "")


def test_a_hub_that_died_breaks_no_other_waiter():
    """A greenlet's hub may be destroyed while it waits: the setter and the others do not notice."""
    cell = green.Cell()

    def lose_a_hub():
        green.spawn(cell.get)
        gevent.sleep(0)
        gevent.get_hub().destroy(destroy_loop=True)

    thread = threading.Thread(target=lose_a_hub)
    thread.start()
    thread.join()
    other = green.spawn(cell.get)
    gevent.sleep(0)

    cell.set("here")

    assert other.get(timeout=5) == "here"


def test_callbacks_run_once_and_an_error_of_one_stops_no_other(caplog):
    """on_ready calls at once when set, else at the setting."""
    cell, seen = green.Cell(), []
    cell.on_ready(lambda _: 1 / 0)
    cell.on_ready(lambda ready: seen.append(ready.get()))
    cell.set(5)
    cell.on_ready(lambda ready: seen.append(ready.get() + 1))

    assert seen == [5, 6]
    assert "callback" in caplog.text


def test_slots_bound_how_many_run_at_once_over_threads_and_greenlets():
    """Never more than the limit, and everyone gets a turn."""
    slots, lock = green.Slots(3), green.NativeLock()
    now, most, done = 0, 0, 0

    def work():
        nonlocal now, most, done
        with slots:
            with lock:
                now += 1
                most = max(most, now)
            green.sleep(0.002)
            with lock:
                now -= 1
                done += 1

    threads = [threading.Thread(target=work) for _ in range(10)]
    tasks = [green.spawn(work) for _ in range(20)]
    for thread in threads:
        thread.start()
    gevent.joinall(tasks, timeout=10)
    for thread in threads:
        thread.join()

    assert (done, slots.in_use) == (30, 0)
    assert 1 < most <= 3


def test_a_slot_that_does_not_come_in_time_is_not_held():
    """The one who gave up leaves the queue; the next gets the slot."""
    slots = green.Slots(1)
    slots.acquire()

    with pytest.raises(DeadlineExceeded):
        slots.acquire(green.Deadline(0.01))
    slots.release()

    slots.acquire(green.Deadline(0.01))
    assert slots.in_use == 1


def test_slots_need_room_for_one():
    """A bound of nothing would wait for ever."""
    with pytest.raises(UsageError, match="0"):
        green.Slots(0)


def test_a_greenlet_sleeping_lets_others_run():
    """Twenty sleeps side by side take the time of one."""
    began = time.monotonic()

    gevent.joinall([green.spawn(green.sleep, 0.05) for _ in range(20)])

    assert time.monotonic() - began < 0.5
