"""What it costs to hand a result from a native thread to greenlets, as every durable write does."""

import time
from collections.abc import Callable

import gevent

from flowkit.green import Cell, NativeQueue, spawn, start_thread

ROUNDS = 3


def through_a_thread(greenlets: int) -> Callable[[int], None]:
    """Each greenlet hands a cell to one native thread and waits for it, again and again."""
    queue = NativeQueue()

    def work() -> None:
        while (cell := queue.get()) is not None:
            cell.set(None)

    def ask(count: int) -> None:
        for _ in range(count):
            cell = Cell()
            queue.put(cell)
            cell.get()

    def run(count: int) -> None:
        start_thread(work)
        tasks = [spawn(ask, count // greenlets) for _ in range(greenlets)]
        gevent.joinall(tasks)
        queue.put(None)

    return run


def alone(count: int) -> None:
    """Make, set, get: nobody waits."""
    for _ in range(count):
        cell: Cell[int] = Cell()
        cell.set(1)
        cell.get()


def nothing() -> None:
    """A Python function: its first frame costs a greenlet more than all else."""


def spawned(count: int) -> None:
    """A hundred tasks at a time."""
    for _ in range(count // 100):
        for task in [spawn(nothing) for _ in range(100)]:
            task.cell.get()


def spawned_by_gevent(count: int) -> None:
    """The same with gevent's own."""
    for _ in range(count // 100):
        for task in [gevent.spawn(nothing) for _ in range(100)]:
            task.get()


CASES = {
    "make, set, get a cell": (100_000, lambda: alone),
    "native thread to 1 greenlet": (10_000, lambda: through_a_thread(1)),
    "native thread to 32 greenlets": (64_000, lambda: through_a_thread(32)),
    "native thread to 1,000 greenlets": (64_000, lambda: through_a_thread(1_000)),
    "spawn and get a task": (20_000, lambda: spawned),
    "spawn and get gevent's greenlet": (20_000, lambda: spawned_by_gevent),
}


def main() -> None:
    """Print microseconds and how many per second."""
    for name, (count, make) in CASES.items():
        taken = []
        for _ in range(ROUNDS):
            run = make()
            began = time.perf_counter()
            run(count)
            taken.append((time.perf_counter() - began) / count)
        best = min(taken)
        print(f"  {name:<34}{best * 1e6:8.2f} us {1 / best:12,.0f}/s")


if __name__ == "__main__":
    main()
