"""The one door to gevent: cells, slots, tasks, threads."""

from __future__ import annotations

import os
import threading
import time

import gevent
import pytest
from own_process import needs_eventlet, run_process

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


def test_waiting_for_a_foreign_thread_alone_is_no_deadlock_to_gevent():
    """A hub with nothing else to do waits for the thread, instead of giving up."""
    cell = green.Cell()
    gevent.get_hub()
    green.start_thread(lambda: (time.sleep(0.05), cell.set("late")))

    assert cell.get() == "late"


def test_a_hub_in_which_nobody_waits_any_more_can_end():
    """What woke the waiters does not keep the event loop alive."""
    cell = green.Cell()
    task = green.spawn(cell.get)
    gevent.sleep(0)
    green.start_thread(cell.set, 1)
    task.join(timeout=5)

    assert gevent.wait(timeout=5) is True


def test_a_callback_of_the_event_loop_is_told_that_it_cannot_wait():
    """Waiting there would stop everything."""
    cell, said = green.Cell(), []

    def ask():
        try:
            cell.wait()
        except UsageError as error:
            said.append(str(error))

    gevent.get_hub().loop.run_callback(ask)
    gevent.sleep(0.01)

    assert "cannot wait" in said[0]


def test_waiters_of_several_hubs_and_threads_survive_kills_and_timeouts():
    """Whatever others do, each waiter that stays gets the value of its cell, once."""
    cells = [green.Cell() for _ in range(200)]
    wrong, ended = green.NativeQueue(), green.NativeQueue()

    def hub_of_greenlets(seed):
        tasks = [(number, green.spawn(cell.get)) for number, cell in enumerate(cells)]
        short = [green.spawn(cell.wait, 0.001 * (number % 7)) for number, cell in enumerate(cells)]
        gevent.sleep(0)
        victims = {number for number, _ in tasks if number % 5 == seed}
        gevent.killall([task for number, task in tasks if number in victims])
        for number, task in tasks:
            if number not in victims and task.get(timeout=20) != number:
                wrong.put(number)
        gevent.joinall(short, timeout=20)
        gevent.get_hub().destroy(destroy_loop=True)
        ended.put(None)

    def plain():
        for number, cell in enumerate(cells):
            if cell.get(20) != number:
                wrong.put(number)
        ended.put(None)

    def setter():
        for number, cell in enumerate(cells):
            cell.set(number)

    threads = [threading.Thread(target=hub_of_greenlets, args=(seed,)) for seed in range(3)]
    threads += [threading.Thread(target=plain) for _ in range(3)]
    for thread in threads:
        thread.start()
    time.sleep(0.01)
    green.start_thread(setter)
    for _ in threads:
        ended.get(timeout=30)
    for thread in threads:
        thread.join()

    assert wrong.empty()


def test_only_one_of_many_setters_wins():
    """Of eight threads that set one cell, one is told that it did."""
    for _ in range(50):
        cell, won = green.Cell(), green.NativeQueue()
        threads = [
            threading.Thread(target=lambda n=n, c=cell, w=won: c.set(n) and w.put(n))
            for n in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert won.qsize() == 1
        assert won.get() == cell.get()


def test_closed_slots_let_nobody_through():
    """Who waits and who comes is told why; who holds one may still give it back."""
    slots = green.Slots(1)
    slots.acquire()
    waiting = green.spawn(slots.acquire)
    gevent.sleep(0)

    slots.close(UsageError("closed"))

    with pytest.raises(UsageError, match="closed"):
        waiting.get(timeout=5)
    with pytest.raises(UsageError, match="closed"):
        slots.acquire()
    slots.release()
    assert slots.in_use == 0


def test_a_killed_waiter_gives_its_turn_to_the_next():
    """The slot that was meant for a greenlet that is gone is not lost."""
    slots = green.Slots(1)
    slots.acquire()
    first, second = green.spawn(slots.acquire), green.spawn(slots.acquire)
    gevent.sleep(0)
    slots.release()
    first.kill()

    second.get(timeout=5)
    assert slots.in_use == 1


def test_a_deadline_counts_down_and_says_what_was_late():
    """None never ends; a past one raises with what took too long."""
    assert green.Deadline(None).left_s() is None
    assert 0 < green.Deadline(5).left_s() <= 5
    with pytest.raises(DeadlineExceeded, match=r"the walk took longer than 0 s"):
        green.Deadline(0, "the walk").left_s()


def test_a_native_thread_is_seen_by_debuggers_and_coverage():
    """The trace function for new threads holds for native ones, too."""
    seen = []
    done = green.Cell()
    before = threading.gettrace()
    threading.settrace(lambda frame, _event, _argument: seen.append(frame.f_code.co_name))
    try:
        green.start_thread(done.set, 1, name="traced")
        done.get(timeout_s=10)
    finally:
        threading.settrace(before)

    assert "set" in seen


def test_an_error_in_a_native_thread_is_logged_with_its_name(caplog):
    """It ends the thread and is not lost."""
    ended = threading.Event()

    def fail():
        try:
            raise ValueError("in the thread")
        finally:
            ended.set()

    green.start_thread(fail, name="the writer")
    ended.wait(5)
    until = time.monotonic() + 5
    while "the writer" not in caplog.text and time.monotonic() < until:
        gevent.sleep(0.001)

    assert "the writer" in caplog.text
    assert "in the thread" in caplog.text


@pytest.mark.slow
def test_in_a_patched_process_threads_and_locks_stay_native():
    """A native thread blocks on a native queue while the greenlets of the main one go on."""
    shown = run_process("""
        from gevent import monkey; monkey.patch_all()
        import threading, gevent
        from flowkit import green
        native_id = monkey.get_original("_thread", "get_ident")
        queue, cell, ids = green.NativeQueue(), green.Cell(), []
        def work():
            ids.append(native_id())
            cell.set(queue.get())
        green.start_thread(work)
        ticks = 0
        def tick():
            global ticks
            while not cell.is_ready:
                ticks += 1
                gevent.sleep(0.001)
        ticker = green.spawn(tick)
        gevent.sleep(0.05)
        queue.put("done")
        print(cell.get(5), ids[0] != native_id(), ticks > 5, "threading" in green.patched())
        thread = threading.Thread(target=lambda: print(cell.get(5)))
        thread.start(); thread.join()
    """).split()

    assert shown == ["done", "True", "True", "True", "done"]


@pytest.mark.slow
def test_under_eventlet_cells_tasks_and_slots_are_eventlets():
    """Green threads of eventlet wait side by side, for each other and for a native thread."""
    needs_eventlet()
    shown = run_process("""
        import eventlet; eventlet.monkey_patch()
        import time
        from flowkit import green
        from flowkit.errors import Cancelled
        cell = green.Cell()
        waiting = [green.spawn(cell.get, 5) for _ in range(5)]
        eventlet.sleep(0)
        green.spawn(cell.set, "here")
        print(*[task.get(timeout=5) for task in waiting])
        foreign = green.Cell()
        green.start_thread(lambda: foreign.set("native"))
        print(foreign.get(5), foreign.wait(0.01))
        slots, began = green.Slots(5), time.monotonic()
        def work():
            with slots:
                green.sleep(0.02)
        for task in [green.spawn(work) for _ in range(20)]:
            task.get(timeout=5)
        print(0.07 < time.monotonic() - began < 0.35)
        never = green.Cell()
        victim, unborn = green.spawn(never.get), None
        eventlet.sleep(0)
        unborn = green.spawn(never.get)
        unborn.kill()
        victim.kill()
        print(*[isinstance(task.cell.outcome(5)[0], Cancelled) for task in (victim, unborn)])
        print(green.has_hub(), never.wait(0.01))
    """).split()

    assert shown == ["here"] * 5 + ["native", "True", "True", "True", "True", "False", "False"]


# The end of the process


@pytest.mark.slow
@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="counts threads in /proc")
@pytest.mark.parametrize(
    "work",
    [
        "lazy = api.lazy(); found = lazy.flow.find(); print(len(found))",
        "kept = api.drop('/nora/a').subscribe().wait_ready(5); print(0)",
    ],
    ids=["lazy calls", "subscriptions"],
)
def test_no_loop_runs_on_while_the_interpreter_is_taken_down(work):
    """A thread inside a loop would crash the process there, now and then, after its work."""
    printed = run_process(
        f"""
        import atexit, os, time

        def count():
            until = time.monotonic() + 5  # the system takes a moment to let go of a thread
            while len(os.listdir("/proc/self/task")) > 1 and time.monotonic() < until:
                time.sleep(0.01)
            print("threads", len(os.listdir("/proc/self/task")))

        atexit.register(count)  # before the library's own, and so called after them
        from flowkit.testing import Platform
        with Platform() as platform:
            platform.api.flow.create({{"path": "/test/a"}})
            from flowkit import API
            api = API(platform.token, host=platform.url)
            {work.replace("/nora/", "/test/")}
        """
    )
    assert printed.split()[-2:] == ["threads", "1"]
