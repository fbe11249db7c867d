"""What a user asks a subscription for, checked before anything is sent.

Source: protocol 9.2, ``positions`` 4 and 6.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from flowkit.client import finding
from flowkit.client.arguments import plain
from flowkit.errors import BadRequest, UsageError
from flowkit.protocol.subscribing import Subscribe
from flowkit.query.nodes import Everything, Filter

__all__ = ["Asked", "not_with_live", "plain_subscription", "reader_of", "signature"]


@dataclass(frozen=True, slots=True)
class Asked:
    """The arguments that say what a reader gets, as users give them; None: not given.

    Attributes:
        filters: ``Filter`` values and raw texts, joined with AND.
        since: a position, or ``"start"``.
        changes: names of kinds.
        live: whether it is a view.
        slow: ``disconnect``, ``drop`` or ``squash``.
        only: members to show: a text, or a list.
        hints: whether elements show their types.
    """

    filters: tuple[Any, ...] = ()
    since: str | None = None
    changes: Iterable[str] | None = None
    live: bool = False
    slow: str | None = None
    only: str | Iterable[str] | None = None
    hints: bool | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing was asked for, as for a plain subscription."""
        return self == Asked() or self == Asked(filters=(None,))


def plain_subscription(flow: Any) -> Subscribe:
    """A plain subscription to *flow*: its id, its path, or the flow itself.

    Raises:
        UsageError: it is none of these.
    """
    flow_id, path = finding.flow_place(plain(flow))
    return Subscribe(flow_id, path)


def reader_of(flow: Any, asked: Asked, sub: str) -> Subscribe:
    """A reader of *flow* under the name *sub*.

    Raises:
        FilterError: a filter is none.
        UsageError: something else cannot be asked for; the message says all of it.
    """
    flow_id, path = finding.flow_place(plain(flow))
    said: dict[str, Any] = {"sub": sub, "flowId": flow_id, "path": path}
    said["since"] = None if asked.since is None else str(plain(asked.since))
    said["slow"] = asked.slow
    if asked.changes is not None:
        said["changes"] = _listed("changes", asked.changes)
    if asked.live:
        said["live"] = True
    given = {name: value for name, value in said.items() if value is not None}
    only = asked.only
    if only is not None:
        given["only"] = only if isinstance(only, str) else ",".join(_listed("only", only))
    if asked.hints is not None:
        given["hints"] = asked.hints
    condition = _filter(asked.filters)
    if not isinstance(condition, Everything):
        given["filter"] = str(condition)
    try:
        return Subscribe.read(given)
    except BadRequest as error:
        raise UsageError("; ".join(error.errors)) from None


def signature(ask: Subscribe) -> tuple[Any, ...]:
    """What makes two readers the same but for their names and places."""
    return (
        *(ask.flow_id, ask.path, str(ask.filter), ask.changes),
        *(ask.live, ask.slow, ask.only, ask.hints),
    )


def not_with_live(**given: Any) -> None:
    """Arguments that a view does not take.

    Raises:
        UsageError: one of them was given.
    """
    wrong = [name for name, value in given.items() if value is not None]
    if wrong:
        raise UsageError(f"{', '.join(wrong)}: not with live", hint="on_change hears of a view")


def _filter(filters: tuple[Any, ...]) -> Filter:
    text = finding.filter_text(*(plain(one) for one in filters))
    return Everything() if text is None else Filter.parse(text)


def _listed(name: str, given: Any) -> list[str]:
    given = plain(given)
    if isinstance(given, str | Mapping) or not isinstance(given, Iterable):
        raise UsageError(f"{name} is a list of texts, not {given!r}", hint=f"[{given!r}]")
    return [str(one) for one in given]
