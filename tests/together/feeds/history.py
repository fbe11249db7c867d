"""What truly happened to a flow: every change, in every history that the store ever had.

Rules: plain data, nothing of flowkit's server. An **era** is one opening of the store; a restore of
an older copy makes the history of the next era shorter than that of the one before.

Source: ``positions`` 1 (words), 2 (what is numbered), 4 (which changes a reader gets).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["BEGINS", "Happened", "History", "Key", "Predicate", "View"]

Key = tuple[str, int]
"""Epoch and number: one change in all histories."""

Predicate = Callable[[Mapping[str, Any]], bool]
"""Whether the members of a drop pass a filter."""

View = dict[str, Mapping[str, Any]]
"""Drops by id."""

BEGINS = frozenset({"create", "replace", "update", "pass"})
"""Changes whose new value a listener's filter is asked about."""


@dataclass(frozen=True, slots=True)
class Happened:
    """One change.

    Attributes:
        epoch, seq: its name.
        kinds: what it was; more than one where the store's rows do not tell a delete from an evict.
        drop_id: the drop.
        old, new: its members before and after.
    """

    epoch: str
    seq: int
    kinds: frozenset[str]
    drop_id: str
    old: Mapping[str, Any] | None
    new: Mapping[str, Any] | None

    @property
    def key(self) -> Key:
        """Its name in all histories."""
        return self.epoch, self.seq

    @property
    def value(self) -> Mapping[str, Any]:
        """What a listener is shown: the new state, or the last one."""
        shown = self.new if self.kinds & BEGINS else self.old
        assert shown is not None
        return shown

    def is_certain_for(self, changes: frozenset[str]) -> bool:
        """Whether a listener of these kinds must get it, whatever its filter."""
        return {_named(kind) for kind in self.kinds} <= changes

    def is_possible_for(self, changes: frozenset[str]) -> bool:
        """Whether a listener of these kinds may get it."""
        return bool({_named(kind) for kind in self.kinds} & changes)


def _named(kind: str) -> str:
    return "create" if kind == "pass" else kind


@dataclass(slots=True)
class History:
    """One flow, from its first change on.

    Attributes:
        flow_id: the flow.
        eras: the changes of each era as they stood at its end; number n at index n - 1.
        marks_e, marks_v: every value that the marks ever had.
        is_gone: whether the flow was deleted in the end.
    """

    flow_id: str
    eras: dict[int, Sequence[Happened]] = field(default_factory=dict)
    marks_e: set[int] = field(default_factory=set)
    marks_v: set[int] = field(default_factory=set)
    is_gone: bool = False

    def in_era(self, era: int) -> Sequence[Happened]:
        """The changes of an era; nothing if the flow was not there."""
        return self.eras.get(era, ())

    def has(self, era: int, key: Key) -> bool:
        """Whether a change is part of the history of an era; number 0 is part of all."""
        epoch, seq = key
        changes = self.in_era(era)
        return seq == 0 or (seq <= len(changes) and changes[seq - 1].epoch == epoch)


def apply(view: View, change: Happened, matches: Predicate) -> None:
    """Move a view over one change."""
    if change.kinds == {"pass"}:
        return
    if change.new is not None and matches(change.new):
        view[change.drop_id] = change.new
    else:
        view.pop(change.drop_id, None)
