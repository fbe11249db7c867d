"""``flowkit tail``: the drops of a flow as lines, as they come.

Text is for people: the time, the elements, what happened if it is not a new drop. JSON is for
programs: one object for each line, the drop as it is, or with ``--changes`` what happened to it.
What is not a drop (a gap, the place to go on from) goes to stderr, so that stdout can be piped.

Source: ``docs/reference/cli.rst``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from flowkit.client.live.values import Change, Gap

if TYPE_CHECKING:
    from os import PathLike

    from flowkit.client.api import API

__all__ = ["tail"]

Say = Callable[[str], object]


def tail(
    api: API,
    flow: str,
    filters: Sequence[str] = (),
    *,
    say: Say,
    tell: Say,
    since: str | None = None,
    changes: Sequence[str] | None = None,
    only: str | None = None,
    resume_file: str | PathLike[str] | None = None,
    as_json: bool = False,
    count: int | None = None,
) -> None:
    """Say each drop of a flow that matches, until *count* of them were said or the caller stops it.

    Args:
        api: whose eyes see the flow.
        flow: an id or a path.
        filters: texts of the filter language, joined with AND.
        say: gets a line for each drop.
        tell: gets what is no drop: gaps, and at the end the place to go on from.
        since: a position, or ``"start"``; None: from now.
        changes: kinds of change; None: new drops and those that replace others.
        only: members to show, with commas between.
        resume_file: where the place is kept for the next time.
        as_json: one JSON object for each line.
        count: stop after so many; None: never.

    Raises:
        FlowKitError: the flow is not there, may not be read, or the filter cannot be used.
    """
    subscription = api.drop(flow).subscribe(
        *filters, since=since, changes=changes, only=only, resume_file=resume_file
    )
    shown = _as_json if as_json else partial(_as_text, members=_names(only))
    events = _at_most(subscription.events(), count)
    lines = ((event, shown(event, is_told=changes is not None)) for event in events)
    try:
        with subscription:
            for event, line in lines:
                (tell if isinstance(event, Gap) else say)(line)
    except KeyboardInterrupt:
        pass  # the usual end
    finally:
        if subscription.place is not None and resume_file is None:
            tell(f"go on with: --since {subscription.place}")


def _at_most(events: Iterator[Change | Gap], count: int | None) -> Iterator[Change | Gap]:
    """Events up to and including the *count*-th change."""
    left = count
    for event in events:
        yield event
        if left is not None and isinstance(event, Change):
            left -= 1
            if not left:
                return


def _as_json(event: Change | Gap, *, is_told: bool) -> str:
    if isinstance(event, Gap):
        return _gap(event)
    said: Any = event.drop
    if is_told:
        said = {"change": event.kind, "position": event.position, "value": event.drop}
    return json.dumps(said, ensure_ascii=False, separators=(",", ":"))


def _as_text(event: Change | Gap, *, is_told: bool, members: Sequence[str]) -> str:
    if isinstance(event, Gap):
        return _gap(event)
    drop = event.drop
    at = drop.get("lastEditDate", drop.get("creationDate"))
    time = "-" if at is None else _clock(at)
    kind = f"{event.kind:8}" if is_told else ""
    said = json.dumps(_said(drop, members), ensure_ascii=False)
    return f"{time}  {kind}{_printable(said)}"


def _names(only: str | None) -> list[str]:
    """The members of a drop that are asked for by name, but for its elements."""
    return [name for each in (only or "").split(",") if (name := each.strip()) != "elems"]


def _said(drop: dict[str, Any], members: Sequence[str]) -> Any:
    """The elements; with their name beside other members that were asked for."""
    named = {name: drop[name] for name in members if name in drop}
    if not named:
        return drop.get("elems", {})
    return {**named, "elems": drop["elems"]} if "elems" in drop else named


def _gap(gap: Gap) -> str:
    return f"gap: changes may be missing ({gap.reason}), up to {gap.to}"


def _clock(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def _printable(text: str) -> str:
    """*text* without what a terminal would obey: drops come from strangers."""
    return "".join(each if each.isprintable() else f"\\u{ord(each):04x}" for each in text)
