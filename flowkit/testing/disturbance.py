"""A schedule of faults under way: who goes through a plan, step by step, in the proxy's loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self

from flowkit.green import Loop, Signal, monotonic
from flowkit.testing.conditions import HEALTHY
from flowkit.testing.schedules import Plan, Step

if TYPE_CHECKING:
    from flowkit.testing.faults import FaultProxy

__all__ = ["Disturbance"]


class Disturbance:
    """Made by ``FaultProxy.disturb``; as a context manager it is stopped at the end of the block.

    Attributes:
        plan: what will be done, in order; ``print(disturbance)`` shows it line by line, and its
            ``repr`` how to have the same again.
    """

    def __init__(self, proxy: FaultProxy, drawn: Plan, loop: Loop) -> None:
        self.plan = drawn
        self._proxy = proxy
        self._loop = loop
        self._stopped: Any = loop.call(Signal)
        self._done = loop.spawn(self._run)

    @property
    def is_over(self) -> bool:
        """Whether its time is up or it was stopped."""
        return self._done.is_ready

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait for its end; False if it is not over within *timeout_s* seconds."""
        return self._done.wait(timeout_s)

    def stop(self) -> None:
        """End it now: the step that is in force is taken back. May be called twice."""
        if self._loop.post(self._stopped.set):
            self._done.wait()

    def _run(self) -> None:
        began = monotonic()
        for step in self.plan.steps:
            if self._pause(began + step.at_s):
                return
            take_back = self._do(step)
            self._pause(began + step.at_s + step.lasts_s)
            take_back()
        self._pause(began + self.plan.duration_s)

    def _pause(self, until: float) -> bool:
        """Wait for a moment; True if it was stopped."""
        return bool(self._stopped.wait(max(0.0, until - monotonic())))

    def _do(self, step: Step) -> Callable[[], object]:
        """Do what *step* says; how to take it back."""
        proxy = self._proxy
        if step.changes:
            proxy.set(step.direction, **step.changes)
            every: Any = HEALTHY
            healthy = {name: every[name] for name in step.changes}
            return lambda: proxy.set(step.direction, **healthy)
        if step.kind in ("refuse", "ignore"):
            proxy.refuse() if step.kind == "refuse" else proxy.ignore()
            return proxy.accept
        if step.kind == "half_open":
            proxy.half_open("up" if step.direction == "up" else "down")
        elif step.kind == "reset":
            proxy.reset()
        else:
            proxy.close_connections()
        return lambda: None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __str__(self) -> str:
        return str(self.plan)

    def __repr__(self) -> str:
        return f"<disturbance {self.plan!r}{', over' if self.is_over else ''}>"
