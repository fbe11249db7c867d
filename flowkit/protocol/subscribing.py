"""What a ``subscribe`` asks for: read from a message, checked, and written again.

A plain subscription has none of the members ``sub since filter changes live slow only hints``; any
of the first six makes it a *reader*, which then needs ``sub``.

Rules of this room (``flowkit/protocol``): pure.

Source: protocol 9.2, ``positions`` 4 (changes, views, filters) and 6 (the wire).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from flowkit.errors import BadRequest
from flowkit.protocol.positions import START, Position
from flowkit.protocol.resources import is_id, normal_path
from flowkit.query.nodes import Age, Everything, Filter
from flowkit.query.normal import shown
from flowkit.query.params import Query

__all__ = ["BEGINS", "DEFAULT_KINDS", "ENDS", "KINDS", "Subscribe"]

KINDS = ("create", "replace", "update", "delete", "evict")
"""The kinds of change that a listener may ask for; ``create`` includes ``pass``."""

BEGINS = frozenset({"create", "replace", "update"})
"""The kinds that begin a state: a listener of these alone needs mark E, any other mark V."""

ENDS = frozenset({"delete", "evict"})
"""The kinds whose filter is asked about the state that has ended."""

DEFAULT_KINDS = ("create", "replace")
"""What a listener gets that names no kinds, as old subscriptions do."""

SLOW = {"disconnect": "any reader", "drop": "a listener", "squash": "a view (live)"}
"""What happens to a reader that is too slow, and who may ask for it."""

_SUB_CHARS_MAX = 64
_OF_READERS = ("sub", "since", "filter", "changes", "live", "slow")
_OF_VIEWS_NEVER = ("start", "skip", "limit", "sort", "order")
_AGE_IN_VIEW = "filter: AGE cannot be used in a live query"


@dataclass(frozen=True, slots=True)
class Subscribe:
    """One subscription as it was asked for.

    Attributes:
        flow_id, path: the flow, by exactly one of them.
        sub: the name of the reader on its connection; None for a plain subscription.
        filter: which drops.
        since: where to go on: a position, ``"start"``, or None for now.
        changes: the kinds of change, for a listener.
        live: whether it is a view.
        slow: what to do when it is too slow.
        only: members to show, None for all.
        hints: whether elements show their types; None leaves it to the session.
    """

    flow_id: str | None = None
    path: str | None = None
    sub: str | None = None
    filter: Filter = field(default_factory=Everything)
    since: str | None = None
    changes: tuple[str, ...] = DEFAULT_KINDS
    live: bool = False
    slow: Literal["disconnect", "drop", "squash"] = "disconnect"
    only: tuple[str, ...] | None = None
    hints: bool | None = None

    @property
    def position(self) -> Position | None:
        """The position that ``since`` names; None for ``"start"`` and for now."""
        return None if self.since in (None, START) else Position.parse(str(self.since))

    @property
    def needs_old(self) -> bool:
        """Whether it needs old values, so mark V, and not new ones alone, mark E."""
        return self.live or not BEGINS.issuperset(self.changes)

    @classmethod
    def read(cls, said: Mapping[str, Any]) -> Subscribe:
        """The subscription that a ``subscribe`` message asks for.

        Raises:
            BadRequest: one sentence for each fault.
        """
        faults: list[str] = []
        flow_id, path = _place(said, faults)
        query = _query(said, faults)
        is_reader = any(said.get(name) is not None for name in _OF_READERS)
        found: dict[str, Any] = {}
        if is_reader:
            found = _reader(said, query.filter, faults)
            if found["since"] not in (None, START) and flow_id is not None:
                _check_flow(found["since"], flow_id, faults)
        if faults:
            raise BadRequest(*faults)
        return cls(flow_id, path, filter=query.filter, only=query.only, hints=query.hints, **found)

    def message(self) -> dict[str, Any]:
        """The members of the message that ``read`` reads as this; defaults are left out."""
        said: dict[str, Any] = {"object": "drop", "type": "subscribe"}
        said |= {"path": self.path} if self.flow_id is None else {"flowId": self.flow_id}
        said |= {"sub": self.sub} if self.sub is not None else {}
        if not isinstance(self.filter, Everything):
            said["filter"] = str(self.filter)
        if self.since is not None:
            said["since"] = self.since
        if self.changes != DEFAULT_KINDS and not self.live:
            said["changes"] = list(self.changes)
        if self.live:
            said["live"] = True
        if self.slow != "disconnect":
            said["slow"] = self.slow
        if self.only is not None:
            said["only"] = ",".join(self.only)
        if self.hints is not None:
            said["hints"] = self.hints
        return said


def _place(said: Mapping[str, Any], faults: list[str]) -> tuple[str | None, str | None]:
    flow_id, path = said.get("flowId"), said.get("path")
    if flow_id is not None:
        if not isinstance(flow_id, str) or not is_id(flow_id) or flow_id[0] != "f":
            faults.append("flowId: is not the id of a Flow")
            return None, None
        return flow_id, None
    normal = normal_path(path) if isinstance(path, str) else None
    if path is None:
        faults.append("flowId: is required, or path instead of it")
    elif normal is None:
        faults.append("path: is not the path of a Flow")
    return None, normal


def _query(said: Mapping[str, Any], faults: list[str]) -> Query:
    try:
        named = {name: said[name] for name in ("filter", "only", "hints") if name in said}
        return Query.from_wire(named)
    except BadRequest as error:
        faults.extend(error.errors)
        return Query()


def _reader(said: Mapping[str, Any], asked: Filter, faults: list[str]) -> dict[str, Any]:
    live = said.get("live")
    live = False if live is None else live
    if not isinstance(live, bool):
        faults.append("live: true or false is needed")
        live = False
    sub = said.get("sub")
    if not isinstance(sub, str) or not 0 < len(sub) <= _SUB_CHARS_MAX:
        faults.append(f"sub: a text of 1 to {_SUB_CHARS_MAX} characters is needed")
    found = {
        "sub": sub,
        "live": live,
        "since": _since(said.get("since"), live, faults),
        "slow": _slow(said.get("slow"), live, faults),
        "changes": _changes(said.get("changes"), live, faults),
    }
    if live:
        faults.extend(
            f"{name}: cannot be used in a live query, sort what it holds"
            for name in _OF_VIEWS_NEVER
            if said.get(name) is not None
        )
        if any(isinstance(rule, Age) for rule in asked.walk()):
            faults.append(_AGE_IN_VIEW)
    return found


def _since(since: Any, live: bool, faults: list[str]) -> str | None:
    if since is None or (since == START and not live):
        return since if since is None else START
    try:
        Position.parse(since if isinstance(since, str) else "")
    except ValueError as error:
        said = f"since: {shown(since)} {error}"
        faults.append(said if live else f'{said}, or "{START}"')
        return None
    return str(since)


def _check_flow(since: str, flow_id: str, faults: list[str]) -> None:
    if Position.parse(since).flow_id != flow_id:
        faults.append("since: is a position of another Flow")


def _slow(slow: Any, live: bool, faults: list[str]) -> str:
    if slow is None:
        return "disconnect"
    if not isinstance(slow, str) or slow not in SLOW:
        faults.append(f"slow: must be one of {', '.join(SLOW)}, not {shown(slow)}")
        return "disconnect"
    if slow == ("drop" if live else "squash"):
        faults.append(f"slow: {slow} is for {SLOW[slow]} only")
    return slow


def _changes(changes: Any, live: bool, faults: list[str]) -> tuple[str, ...]:
    if changes is None:
        return DEFAULT_KINDS
    if live:
        faults.append("changes: cannot be used with live, a view gets all of them")
        return DEFAULT_KINDS
    if not isinstance(changes, list) or not changes or not set(map(str, changes)) <= set(KINDS):
        faults.append(f"changes: a list out of {', '.join(KINDS)} is needed, not {shown(changes)}")
        return DEFAULT_KINDS
    return tuple(kind for kind in KINDS if kind in changes)
