"""What a subscription hands out beside plain drops: changes, gaps, and the shifts of a view.

Source: ``positions`` 2 (kinds of change), 5.4 (gaps), 4 (views).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["Change", "Gap", "GapWarning", "Shift"]


class GapWarning(UserWarning):
    """Changes may be missing from a subscription that nobody gave an ``on_gap``."""


@dataclass(frozen=True, slots=True)
class Change:
    """One change of one drop.

    Attributes:
        kind: ``create``, ``replace``, ``update``, ``delete`` or ``evict``.
        drop: the state that began, for ``delete`` and ``evict`` the one that ended.
        position: where the subscription stands after it; a ``since=`` for later.
    """

    kind: str
    drop: dict[str, Any]
    position: str


@dataclass(frozen=True, slots=True)
class Gap:
    """Changes that may be missing: those after *since*, up to and including *to*.

    Attributes:
        reason: ``forgotten`` (the flow does not keep them any more; what it does keep follows),
            ``slow`` (this reader was too slow and had asked for ``slow="drop"``), ``rolled-back``
            (the server lost its newest changes), ``unknown`` (the place is not of this history),
            ``recreated`` (the flow was deleted and made again).
        since: the position before the gap; None: not known.
        to: the position at its end.
    """

    reason: str
    since: str | None
    to: str | None

    def __str__(self) -> str:
        return f"changes after {self.since} up to {self.to} may be missing: {self.reason}"


@dataclass(frozen=True, slots=True)
class Shift:
    """One drop that came into a view, changed in it, or left it.

    Attributes:
        kind: ``enter``, ``update`` or ``leave``.
        id: of the drop.
        before: the drop as the view held it; None for ``enter``.
        after: as it holds it now; None for ``leave``.
        reason: why it left: ``changed``, ``deleted``, ``evicted``; None where nobody said so, as
            after a new snapshot.
    """

    kind: Literal["enter", "update", "leave"]
    id: str
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None
    reason: str | None = None
