"""How the benches time things: several rounds, the contenders in turn, the median of each."""

import statistics
import time
from collections.abc import Callable


def best_of(
    calls: int, rounds: int, contenders: dict[str, Callable[[], object]]
) -> dict[str, float]:
    """Median seconds per call of each contender; every round times all of them in turn.

    Taking turns keeps a drift of the machine's speed out of the comparison.
    """
    spans: dict[str, list[float]] = {name: [] for name in contenders}
    for call in contenders.values():
        call()
    for _ in range(rounds):
        for name, call in contenders.items():
            start = time.perf_counter()
            for _ in range(calls):
                call()
            spans[name].append((time.perf_counter() - start) / calls)
    return {name: statistics.median(taken) for name, taken in spans.items()}


def show(figures: dict[str, float], unit: str, scale: float = 1.0) -> None:
    """A line for each figure, and how it compares with the first one."""
    first = next(iter(figures.values()))
    width = max(map(len, figures))
    for name, figure in figures.items():
        ratio = f"{figure / first:8.2f} x" if first else ""
        print(f"  {name:<{width}}  {figure * scale:14,.2f} {unit} {ratio}")
