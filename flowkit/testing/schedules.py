"""Seeded schedules of faults: what ``FaultProxy.disturb`` will do and when, known beforehand.

A plan is a function of its arguments alone, so a run that failed is repeated by its seed. Steps do
not overlap: each ends before the next begins.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from flowkit.errors import UsageError
from flowkit.testing.conditions import DIRECTIONS, FaultSettings, Toward

__all__ = ["KINDS", "Plan", "Step", "plan"]


@dataclass(frozen=True, slots=True)
class Step:
    """One fault of a plan.

    Attributes:
        at_s: when it begins, in seconds from the beginning of the plan.
        lasts_s: how long, 0 for what is done in an instant.
        kind: its name, one of ``KINDS``.
        direction: ``up``, ``down`` or ``both``.
        changes: what it gives to ``FaultProxy.set``; empty where the kind says it all.
    """

    at_s: float
    lasts_s: float
    kind: str
    direction: Toward
    changes: FaultSettings

    def __str__(self) -> str:
        values = ", ".join(f"{name}={value!r}" for name, value in self.changes.items())
        for_s = f" for {self.lasts_s:.3f} s" if self.lasts_s else ""
        return f"{self.at_s:8.3f} s  {self.kind} {self.direction}{for_s}  {values}".rstrip()


_VALUES: dict[str, Callable[[random.Random], FaultSettings]] = {
    "latency": lambda dice: {
        "latency_s": round(dice.uniform(0.005, 0.3), 3),
        "jitter_s": round(dice.uniform(0, 0.1), 3),
    },
    "bandwidth": lambda dice: {"bandwidth_bytes_per_s": round(10 ** dice.uniform(3, 6))},
    "slice": lambda dice: {"slice_bytes": dice.choice((1, 2, 3, 7, 50, 500))},
    "stall": lambda _: {"stall": True},
    "black_hole": lambda _: {"black_hole": True},
    "reset_after": lambda dice: {"reset_after_bytes": round(10 ** dice.uniform(0, 5))},
    "close_after": lambda dice: {"close_after_bytes": round(10 ** dice.uniform(0, 5))},
}

_INSTANTS = ("reset", "close", "half_open")
_DOORS = ("refuse", "ignore")

KINDS: tuple[str, ...] = (*_VALUES, *_INSTANTS, *_DOORS)
"""What a plan may draw: settings for a while, cuts of all connections, doors shut for a while."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The steps that a seed means.

    Attributes:
        seed: what it was drawn from.
        duration_s: within how many seconds all steps lie.
        steps: in their order.
        arguments: how to draw it again, for ``repr``.
    """

    seed: object
    duration_s: float
    steps: tuple[Step, ...]
    arguments: str

    def __repr__(self) -> str:
        return f"plan({self.arguments})"

    def __str__(self) -> str:
        return "\n".join([repr(self), *map(str, self.steps)])


def plan(
    seed: int | str,
    duration_s: float = 10.0,
    *,
    kinds: Sequence[str] = KINDS,
    every_s: tuple[float, float] = (0.1, 1.0),
    lasting_s: tuple[float, float] = (0.1, 1.0),
) -> Plan:
    """Draw a plan: the same for the same arguments, everywhere.

    Args:
        seed: any number or text.
        duration_s: seconds after which nothing begins and nothing lasts.
        kinds: what may be drawn, out of ``KINDS``.
        every_s: shortest and longest pause before each step.
        lasting_s: shortest and longest time of a step that lasts.

    Raises:
        UsageError: an unknown kind, none at all, or a span that is none.
    """
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown or not kinds:
        raise UsageError(f"{unknown or kinds!r} cannot be drawn", hint=f"there are: {KINDS}")
    for low, high in (every_s, lasting_s):
        if not 0 < low <= high:
            raise UsageError(f"({low!r}, {high!r}) is no span", hint="give 0 < shortest <= longest")
    dice = random.Random(repr(seed))  # noqa: S311 - it must be repeatable
    steps: list[Step] = []
    at_s = dice.uniform(*every_s)
    while at_s < duration_s:
        step = _step(dice, at_s, dice.choice(list(kinds)), lasting_s)
        steps.append(step)
        at_s = step.at_s + step.lasts_s + dice.uniform(*every_s)
    while steps and steps[-1].at_s + steps[-1].lasts_s > duration_s:
        steps.pop()
    arguments = f"{seed!r}, {duration_s!r}"
    if tuple(kinds) != KINDS:
        arguments += f", kinds={tuple(kinds)!r}"
    arguments += f", every_s={every_s!r}, lasting_s={lasting_s!r}"
    return Plan(seed, duration_s, tuple(steps), arguments)


def _step(dice: random.Random, at_s: float, kind: str, lasting_s: tuple[float, float]) -> Step:
    changes: FaultSettings = {}
    direction: Toward = "both"
    if kind in _VALUES:
        changes = _VALUES[kind](dice)
        direction = dice.choice((*DIRECTIONS, "both"))
    elif kind == "half_open":
        direction = dice.choice(DIRECTIONS)
    lasts_s = 0.0 if kind in _INSTANTS else round(dice.uniform(*lasting_s), 3)
    return Step(round(at_s, 3), lasts_s, kind, direction, changes)
