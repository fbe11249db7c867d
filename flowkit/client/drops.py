"""The drops: ``api.drop`` for the account, ``api.drop(flow)`` for one flow.

A flow is named by its id, its path, or itself (a dict with ``id`` or ``path``). By path, finds and
creates go straight to the path; the other verbs need the id and look it up first, with one more
request each time: a flow that is deleted and made again has another id, so it is not remembered.

Source: protocol 3.5 (drops), 5.1 (aggregation), 12 (array create), 13.1, 13.2 (defects 33, 37, 39).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from flowkit import limits
from flowkit.client import finding
from flowkit.client.arguments import plain
from flowkit.client.options import seconds
from flowkit.client.services import Service, verb
from flowkit.errors import (
    LimitError,
    NotFound,
    PlatformError,
    ProtocolError,
    UsageError,
    platform_error,
)
from flowkit.protocol.resources import RESOURCES
from flowkit.query.build import mem

if TYPE_CHECKING:
    from os import PathLike

    from flowkit.client.api import API
    from flowkit.client.live.subscription import Subscription
    from flowkit.client.live.values import Gap, Shift
    from flowkit.client.live.view import LiveView

__all__ = ["Drops", "FlowDrops"]


class FlowDrops(Service):
    """The drops of one flow, with all verbs of a resource and ``create_many delete_all
    aggregate``.
    """

    def __init__(self, api: API, flow: Any) -> None:
        super().__init__(api, RESOURCES["drop"])
        self._flow_id, self._path = finding.flow_place(flow)

    def __repr__(self) -> str:
        return f"<drops of {self._flow_id or self._path} of {self._api!r}>"

    def _place(self, *rest: str) -> tuple[str, ...]:
        return (self.route, self._flow_id or self._looked_up(), *rest)

    def _find_place(self) -> tuple[tuple[str, ...], dict[str, Any]]:
        if self._flow_id:
            return (self.route, self._flow_id), {}
        return (self.route,), {"path": self._path}

    def _looked_up(self) -> str:
        """The id of the flow that is at the path now."""
        condition = str(mem.path == self._path)
        found = self._api.call("GET", ("flow",), {"filter": condition, "only": "id", "limit": 1})
        if not found:
            raise NotFound(f"there is no flow at {self._path}", method="GET", path=self._path)
        return str(found[0]["id"])

    @verb
    def create(self, model: Mapping[str, Any], **params: Any) -> Any:
        """Write a drop; returns it as stored. With an ``fhash`` that the flow holds it replaces
        that one.
        """
        place, extra = self._find_place()
        return self._api.call("POST", place, params, {**_as_drop(model), **extra})

    @verb
    def create_many(
        self, models: Iterable[Mapping[str, Any]], raise_on_error: bool = False, **params: Any
    ) -> Any:
        """Write several drops with one request and one commit.

        Each entry succeeds or fails for itself.

        Args:
            models: at most 10,000.
            raise_on_error: raise the first failed entry's error instead of returning it; the
                error's ``entries`` holds what would have been returned. What succeeded stays
                written.

        Returns:
            a list in the order of *models*: the drop, or a ``PlatformError`` (not raised).
        """
        place, extra = self._find_place()
        entries = [{**model, **extra} for model in _listed(models)]
        return _create_many(self._api, place, entries, raise_on_error, params)

    @verb
    def delete_all(self, **params: Any) -> Any:
        """Delete every drop of the flow. The flow stays."""
        return self._api.call("DELETE", self._place(), params)

    @verb
    def aggregate(
        self,
        output: Iterable[str] | None = None,
        group_by: Iterable[str] | None = None,
        filter: Any = None,  # noqa: A002 - the contract's name
        rules: Mapping[str, Any] | None = None,
        sorts: Iterable[str] | None = None,
        *,
        outputs: Iterable[str] | None = None,
        **params: Any,
    ) -> Any:
        """Compute over groups of drops; returns a list of rows (protocol 5).

        Args:
            output: selectors: ``["$count", "$avg:temp"]``. (*outputs* is its name in old manuals.)
            group_by: element names and date selectors; none: one group over everything.
            filter: a ``Filter``, a raw text, or a list of them: which drops take part.
            rules: name to filter; each becomes a member that is 1 or 0.
            sorts: entries of *output* or *group_by*, each with ``:asc`` or ``:desc`` behind it or
                not.

        Raises:
            UsageError: one of them has another shape, or a sort names neither an output nor a
            group.
        """
        if (output is None) == (outputs is None):
            raise UsageError("aggregate needs output, a list of selectors", hint='["$count"]')
        wanted = _texts("output", output if outputs is None else outputs)
        if not wanted:
            raise UsageError("output is empty", hint='["$count"]')
        body: dict[str, Any] = {"output": wanted, "groupBy": _texts("group_by", group_by or [])}
        condition = finding.filter_text(filter)
        if condition is not None:
            body["filter"] = condition
        if rules is not None:
            body["rules"] = _rules(rules)
        if sorts is not None:
            body["sorts"] = _sorts(sorts, {*wanted, *body["groupBy"]})
        return self._api.call("POST", self._place("aggregate"), params, body, is_read=True)

    def subscribe(
        self,
        *filters: Any,
        since: str | None = None,
        changes: Iterable[str] | None = None,
        slow: str | None = None,
        only: str | Iterable[str] | None = None,
        hints: bool | None = None,
        on_gap: Callable[[Gap], object] | None = None,
        resume_file: str | PathLike[str] | None = None,
        timeout_s: float | None = None,
    ) -> Subscription:
        """The drops to come that satisfy all *filters*, one after the other:
        ``for drop in api.drop(flow).subscribe(mem.elems.temp > 20)``.

        Each matching change comes exactly once, in order, whatever is lost and restarted meanwhile;
        where that cannot be, a gap is told: to *on_gap*, or by a ``GapWarning``. ``events()`` gives
        changes and gaps instead of drops. All subscriptions of an API share one connection, which
        is made now. It does not wait for that: ``wait_ready()`` of what it returns does, for who
        writes next and wants to see it come.

        Args:
            filters: ``Filter`` values or raw texts, joined with AND.
            since: a position to go on after, or ``"start"`` for all that is still held; None: from
                now.
            changes: kinds out of ``create replace update delete evict``; None: the first two.
            slow: what the server does if this end is too slow: ``disconnect`` (it resumes then) or
                ``drop`` (a gap).
            only, hints: as in a find.
            on_gap: called with each ``Gap``.
            resume_file: where to keep the place, so that the next run goes on there. If the file is
                there, *since* is not looked at.
            timeout_s: the loop ends when nothing came for so many seconds; None: it never does.

        Raises:
            UsageError: it cannot be asked for like this.
            SettingsError: *resume_file* is not the place of this flow.
        """
        from flowkit.client.live.asking import Asked
        from flowkit.client.live.subscription import Handlers

        limit_s = None if timeout_s is None else seconds(timeout_s, "timeout_s")
        asked = Asked(finding.present(filters), since, changes, False, slow, only, hints)
        return self._api.websocket.shared().listen(
            self._flow_id or self._path,
            asked,
            Handlers(gap=on_gap),
            resume_file=resume_file,
            timeout_s=limit_s,
            is_iterated=True,
        )

    def live(
        self,
        *filters: Any,
        slow: str | None = None,
        only: str | Iterable[str] | None = None,
        hints: bool | None = None,
        on_change: Callable[[Shift], object] | None = None,
    ) -> LiveView:
        """The drops that satisfy all *filters*, by id, as a mapping that keeps itself up to date.

        Args:
            filters: ``Filter`` values or raw texts, joined with AND; not ``AGE``, which changes by
                mere waiting.
            slow: what the server does if this end is too slow: ``disconnect`` or ``squash``.
            only, hints: as in a find.
            on_change: called with each ``Shift``, in the background.

        Raises:
            UsageError: it cannot be asked for like this.
        """
        from flowkit.client.live.asking import Asked

        asked = Asked(finding.present(filters), None, None, True, slow, only, hints)
        shared = self._api.websocket.shared(with_handlers=on_change is not None)
        return shared.view(self._flow_id or self._path, asked, on_change)


class Drops:
    """The drops of the account. ``api.drop(flow)`` gives those of one flow."""

    def __init__(self, api: API) -> None:
        self._api = api

    def __repr__(self) -> str:
        return f"<Drops of {self._api!r}>"

    def __call__(self, flow: Any) -> FlowDrops:
        """The drops of *flow*: its id, its path, or the flow itself.

        Raises:
            UsageError: *flow* is none of these.
        """
        return FlowDrops(self._api, plain(flow))

    def __getattr__(self, name: str) -> NoReturn:
        if hasattr(FlowDrops, name):
            raise AttributeError(f"api.drop has no {name}: write api.drop(flow).{name}(…)")
        raise AttributeError(f"api.drop has no {name}")

    @verb
    def find(self, *filters: Any, path: str | None = None, **params: Any) -> Any:
        """``api.drop(path).find(*filters, **params)``."""
        return self._at(path).find(*filters, **params)

    @verb
    def find_many(self, *filters: Any, path: str | None = None, **params: Any) -> Any:
        """``api.drop(path).find_many(*filters, **params)``."""
        return self._at(path).find_many(*filters, **params)

    @verb
    def find_iter(
        self, *filters: Any, path: str | None = None, **options: Any
    ) -> Iterator[dict[str, Any]]:
        """``api.drop(path).find_iter(*filters, **options)``."""
        return self._at(path).find_iter(*filters, **options)

    @verb
    def find_in(self, flows: Any, *filters: Any, filter: Any = None, **params: Any) -> Any:  # noqa: A002
        """Find drops in several flows with one request; returns a dict of flow id to list of drops.

        Args:
            flows: an iterable of flow ids (or flows), or a mapping of flow id to the find
                parameters of that flow, which are joined with *filters* and win over *params*.
            filters, filter, params: for all of them, as in ``find_many``.
        """
        each = flows if isinstance(flows, Mapping) else dict.fromkeys(finding.listed_ids(flows))
        body = []
        words = ("timeout", "envelope", "refs")
        own_words: dict[str, Any] = {word: params.pop(word) for word in words if word in params}
        for flow, own in each.items():
            own = dict(own or {})
            condition = finding.filter_text(
                *finding.present(filters), filter, own.pop("filter", None)
            )
            texts = self._api.texts({**params, **own, "filter": condition})
            body.append({"flowId": finding.one_id(flow)} | ({"params": texts} if texts else {}))
        return self._api.call("MGET", ("drop",), own_words, body)

    @verb
    def create(self, model: Mapping[str, Any], **params: Any) -> Any:
        """Write a drop into the flow that it names by ``path`` or ``flowId``; returns it as
        stored.
        """
        model = _as_drop(model)
        flow = model.get("flowId") or model.get("path")
        if not flow:
            raise UsageError("the drop names no flow", hint="give it a path, or api.drop(flow)")
        return FlowDrops(self._api, flow).create(model, **params)

    @verb
    def create_many(
        self, models: Iterable[Mapping[str, Any]], raise_on_error: bool = False, **params: Any
    ) -> Any:
        """``FlowDrops.create_many`` for drops that name their flows by ``path`` or ``flowId``."""
        return _create_many(self._api, ("drop",), _listed(models), raise_on_error, params)

    def _at(self, path: str | None) -> FlowDrops:
        if path is None:
            raise UsageError(
                "a find on drops needs their flow",
                hint="api.drop(flow).find(…), api.drop.find(…, path='/…'), api.drop.find_in(flows)",
            )
        return FlowDrops(self._api, path)


def _as_drop(model: Any) -> Mapping[str, Any]:
    if not isinstance(model, Mapping):
        raise UsageError(
            f"a drop is a mapping, not a {type(model).__name__}",
            hint="{'elems': …}; several go to create_many",
        )
    return model


def _listed(models: Any) -> list[Mapping[str, Any]]:
    if isinstance(models, str | Mapping) or not isinstance(models, Iterable):
        raise UsageError("create_many takes a list of drops", hint="create(model) writes one")
    entries = [_as_drop(model) for model in models]
    if len(entries) > limits.array_create_entries_max:
        raise LimitError(
            "the array create",
            size=len(entries),
            limit=limits.array_create_entries_max,
            unit="drops",
        )
    return entries


def _create_many(
    api: API,
    place: tuple[str, ...],
    entries: Sequence[Mapping[str, Any]],
    raise_on_error: bool,
    params: Mapping[str, Any],
) -> Any:
    """The array create; repeated after a lost answer only if no entry could be stored twice."""
    is_repeatable = all("fhash" in entry or "origin" in entry for entry in entries)

    def shape(body: Any) -> Any:
        if not isinstance(body, list) or len(body) != len(entries):
            raise ProtocolError("the answer to an array create has another number of entries")
        written = [_entry(entry, index, place) for index, entry in enumerate(body)]
        failed = [entry for entry in written if isinstance(entry, PlatformError)]
        if failed and raise_on_error:
            failed[0].entries = written
            raise failed[0]
        return written

    return api.call("POST", place, params, entries, is_repeatable=is_repeatable, shape=shape)


def _entry(entry: Any, index: int, place: tuple[str, ...]) -> Any:
    """One entry of the answer: the drop, or the error that the entry stands for."""
    status = entry.get("status") if isinstance(entry, Mapping) and "id" not in entry else None
    if not isinstance(status, int) or status < 400:
        return entry
    said = entry.get("errors")
    errors = [str(error) for error in said] if isinstance(said, list) else []
    return platform_error(status)(
        *errors, status=status, method="POST", path=f"/{'/'.join(place)} (entry {index})"
    )


def _texts(name: str, given: Any) -> list[str]:
    """A list of texts; one text alone is refused, its letters are not meant."""
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise UsageError(f"{name} is a list of texts, not {given!r}", hint=f"[{given!r}]")
    entries = list(given)
    for entry in entries:
        if not isinstance(entry, str) or not entry:
            raise UsageError(f"{name} holds {entry!r}, which is not a text")
    return entries


def _rules(rules: Any) -> dict[str, str]:
    if not isinstance(rules, Mapping):
        raise UsageError(f"rules are a mapping of name to filter, not a {type(rules).__name__}")
    return {name: finding.filter_text(rule) or "" for name, rule in rules.items()}


def _sorts(sorts: Any, known: set[str]) -> list[str]:
    entries = _texts("sorts", sorts)
    for entry in entries:
        if entry not in known and entry.removesuffix(":asc").removesuffix(":desc") not in known:
            raise UsageError(f"sorts: {entry!r} is neither in output nor in group_by")
    return entries
