"""The services of an API: one object for each resource, with the same verbs.

A verb checks its arguments, says what it wants (method, path, parameters, body) and hands that to
``api.call``; it does nothing else. Every keyword that is not an argument of the verb is a query
parameter, except these two, which every verb takes:

* ``timeout=``: seconds that the call may take, repetitions included;
* ``envelope=True``: the whole answer (a ``Result``) in place of its body.

With ``refs=True`` a verb returns the pair ``(body, references)``.

Source: protocol 3.5 (routes), 3.6 (query parameters), 13.1 (the contract), 13.2 (defects 24 to 40).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar, cast

from flowkit import limits
from flowkit.client import finding
from flowkit.client.arguments import plain
from flowkit.client.calls import NOTHING
from flowkit.client.changes import M, P
from flowkit.client.originals import is_original
from flowkit.errors import NotFound, UsageError
from flowkit.green import NativeLock
from flowkit.protocol.resources import Resource

if TYPE_CHECKING:
    from flowkit.client.api import API
    from flowkit.client.live.runner import WebSocket

__all__ = ["Grants", "Identities", "Root", "Service", "Tracks", "WebSockets", "verb"]

_Verb = TypeVar("_Verb", bound=Callable[..., Any])


def verb(method: _Verb) -> _Verb:
    """Make *method* a verb: thunks among its arguments are waited for, a ``P`` becomes keywords."""

    @wraps(method)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        given, named = plain(args), plain(kwargs)
        for params in [value for value in given if P in type(value).__mro__]:
            named = {**params, **named}
            given = [value for value in given if value is not params]
        return method(self, *given, **named)

    return cast(_Verb, call)


class Grants:
    """A resource that can be created, found and deleted but not changed: tokens and shares.

    Args:
        api: whose credentials and transport are used, as they are at the time of each call.
        resource: route and members; None for a subclass that says ``route`` itself
            (``api.add_service``).
    """

    route = ""
    server_set: frozenset[str] = frozenset({"id"})

    def __init__(self, api: API, resource: Resource | None = None) -> None:
        self._api = api
        if resource is not None:
            self.route = resource.route
            self.server_set = resource.server_set

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.route} of {self._api!r}>"

    def _ends_with_its_call(self, name: str) -> bool:
        """Whether the verb *name* does nothing with the answer of its tail call but return it.

        So it is for ours, as long as those that they go through are ours, too: another form of one
        of them may look at the answer. Asked by parallel calls.
        """
        kind = type(self)
        return (
            name in _TAIL_VERBS
            and (kind.read, kind.read_many, kind.find_many, kind.find) == _TAIL_FUNCTIONS
            and _TAIL_VERBS.isdisjoint(vars(self))
            and is_original(self._api, "call")
        )

    def _place(self, *rest: str) -> tuple[str, ...]:
        """The segments of this resource, and below it."""
        return (self.route, *rest)

    def _find_place(self) -> tuple[tuple[str, ...], dict[str, Any]]:
        """Where a find goes, and the parameters that say so."""
        return self._place(), {}

    @verb
    def read(self, id: Any, **params: Any) -> Any:  # noqa: A002 - the contract's name
        """The object with this *id* (or the id of the model given).

        Raises:
            NotFound: there is none, or none that these credentials may read.
        """
        return self._api.call("GET", self._place(finding.one_id(id)), params, is_tail=True)

    @verb
    def read_or_else(self, id: Any, default: Any = None, **params: Any) -> Any:  # noqa: A002
        """Like ``read``, but *default* in place of a 404 (with ``refs`` the pair of it and
        ``{}``).
        """
        try:
            return self._api.call("GET", self._place(finding.one_id(id)), params)
        except NotFound:
            return (default, {}) if params.get("refs") else default

    @verb
    def read_many(self, ids: Iterable[Any], **params: Any) -> Any:
        """The objects with these *ids*, as a dict of id to object; missing ones are left out."""
        return self._api.call("MGET", self._place(), params, finding.listed_ids(ids), is_tail=True)

    @verb
    def find_many(self, *filters: Any, filter: Any = None, **params: Any) -> Any:  # noqa: A002
        """The objects that satisfy all *filters*, as a list: 20 of them unless ``limit=`` says
        more.

        Args:
            filters: ``Filter`` values or raw texts, joined with AND.
            filter: one more, or a list of them.
            params: ``limit start sort order only refs`` …, as query parameters (protocol 3.6).
        """
        place, extra = self._find_place()
        params = {
            **params,
            **extra,
            "filter": finding.filter_text(*finding.present(filters), filter),
        }
        return self._api.call("GET", place, params, is_find=True, is_tail=True)

    @verb
    def find(self, *what: Any, filter: Any = None, **params: Any) -> Any:  # noqa: A002
        """Read, read many, or find, by the type of the first argument.

        * one text: ``read`` (a single raw filter goes as ``filter=`` or to ``find_many``);
        * one list, tuple, set or other iterable of ids: ``read_many``;
        * everything else: ``find_many``. Several texts are raw filters.

        Args:
            what: an id, ids, or filters joined with AND.
            filter: one more filter.
            params: ``limit`` (20 unless it is given), ``start sort order only refs`` …, as in
                ``find_many``.
        """
        if len(what) == 1 and not _is_filter(what[0]):
            if filter is not None:
                raise UsageError(
                    "an id and filter= were given together",
                    hint="several raw filters go as find_many('…', filter='…')",
                )
            one = what[0]
            if isinstance(one, str):
                return self.read(one, **params)
            if isinstance(one, Iterable) and not isinstance(one, Mapping):
                return self.read_many(one, **params)
        return self.find_many(*what, filter=filter, **params)

    @verb
    def find_iter(
        self,
        *filters: Any,
        page: int = limits.find_iter_page_max,
        limit: int | None = None,
        order: str = "desc",
        filter: Any = None,  # noqa: A002 - the contract's name
        **params: Any,
    ) -> Iterator[dict[str, Any]]:
        """Every object that satisfies all *filters*, one after the other, without a cap.

        Each object that was there, matched and was not changed during the whole walk comes exactly
        once, whatever others create, delete or evict meanwhile. What changes during the walk may or
        may not come, but nothing comes twice.

        Args:
            page: objects fetched with one request.
            limit: stop after so many; None: go on to the end.
            order: ``"desc"``, the newest first, or ``"asc"``; the order is that of the ids, which
                is the order of creation on one server.
            params: as in ``find_many``, but no ``sort``, ``start``, ``refs``; ``timeout=`` is for
                each request.
        """
        finding.checked_walk(page, limit, order, params)
        condition = finding.filter_text(*finding.present(filters), filter)
        return finding.walk(
            self.find_many, condition, page=page, limit=limit, order=order, params=params
        )

    @verb
    def create(self, model: Mapping[str, Any], **params: Any) -> Any:
        """Create an object; returns it as the server stored it."""
        return self._api.call("POST", self._place(), params, _as_model(model))

    @verb
    def delete(self, id: Any, data: Any = None, **params: Any) -> Any:  # noqa: A002
        """Delete the object with this *id*; *data* is sent as a body if it is given."""
        body = NOTHING if data is None else data
        return self._api.call("DELETE", self._place(finding.one_id(id)), params, body)


_TAIL_FUNCTIONS = (Grants.read, Grants.read_many, Grants.find_many, Grants.find)
_TAIL_VERBS = frozenset(function.__name__ for function in _TAIL_FUNCTIONS)
"""The verbs that end with a tail call (``API.call``)."""


class Service(Grants):
    """A resource with all verbs: flows, tracks, groups, devices, tasks, and your own."""

    @verb
    def update(self, model: Mapping[str, Any], **params: Any) -> Any:
        """Change an object; returns it as it is then.

        Args:
            model: an ``M``, of which only the changes are sent, or the object with its ``id``; the
                members that only the server sets are left out.

        With nothing to change it is only read.

        Raises:
            UsageError: the model has no id.
        """
        id, changes = self._changes(_as_model(model))  # noqa: A001
        if not changes:
            return self._api.call("GET", self._place(id), params)
        return self._api.call("PUT", self._place(id), params, changes)

    @verb
    def update_many(self, models: Iterable[Mapping[str, Any]], **params: Any) -> Any:
        """Change several objects with one request, all or none; returns a dict of id to object.

        An ``M`` without changes is left out.
        """
        if isinstance(models, str | Mapping) or not isinstance(models, Iterable):
            raise UsageError("models are a list of models", hint="update(model) changes one")
        pairs = [self._changes(_as_model(model)) for model in models]
        changes = dict(pairs)
        if len(changes) < len(pairs):
            raise UsageError("two of the models have the same id")
        wanted = {id: change for id, change in changes.items() if change}  # noqa: A001
        if not wanted:
            return self._api.call("MGET", self._place(), params, list(changes))
        return self._api.call("MPUT", self._place(), params, wanted)

    @verb
    def update_member(self, id: Any, member: str, value: Any, **params: Any) -> Any:  # noqa: A002
        """Change one *member*; returns ``{member: value}`` as the server stored it."""
        place = self._place(finding.one_id(id), member)
        return self._api.call("PUT", place, params, {member: value})

    @verb
    def save(self, model: Any, **params: Any) -> Any:
        """Update what has an id (``update``, for a list ``update_many``), create what has none."""
        if isinstance(model, Mapping):
            id = model.id if isinstance(model, M) else model.get("id")  # noqa: A001
            return self.create(model, **params) if id is None else self.update(model, **params)
        return self.update_many(model, **params)

    def _changes(self, model: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """The id of *model* and the members to send."""
        if not isinstance(model, M):
            kept = {name: value for name, value in model.items() if name not in self.server_set}
            return finding.one_id(model), kept
        if model.id is None:
            raise UsageError("the model has no id", hint="create it, or read it first")
        changes = model.diff
        if "id" in changes:
            raise UsageError("the id of a model cannot be changed")
        return finding.one_id(model.id), changes


class Identities(Service):
    """Identities. Others than the server's administrator may only read, and change their own."""

    @verb
    def create(self, model: Mapping[str, Any], **params: Any) -> Any:
        """For the server's administrator; everybody else gets ``Forbidden``."""
        return super().create(model, **params)

    @verb
    def delete(self, id: Any, data: Any = None, **params: Any) -> Any:  # noqa: A002
        """For the server's administrator; everybody else gets ``Forbidden``."""
        return super().delete(id, data, **params)


class Tracks(Service):
    """Tracks, and trying one without any effect."""

    @verb
    def simulate(
        self,
        drop: Mapping[str, Any],
        js: str | None = None,
        *,
        filter: Any = None,  # noqa: A002 - the contract's name
        source: str | None = None,
        destination: Any = None,
        **params: Any,
    ) -> Any:
        """Run a definition on one *drop*; nothing is stored (protocol 6.6).

        Args:
            drop: a drop, with its ``elems``.
            js, filter, source, destination: the definition; a ``js``, or a filter or a destination.

        Returns:
            ``{"drops": […], "log": […], "errors": […]}``.

        Raises:
            UsageError: there is nothing to run.
        """
        definition = _definition(js, filter, source, destination)
        if not set(definition) - {"source"}:
            raise UsageError(
                "there is nothing to run", hint="simulate(drop, js='function (drop) { … }')"
            )
        body = {"drop": dict(_as_model(drop)), **definition}
        return self._api.call("POST", self._place("simulate"), params, body, is_read=True)

    @verb
    def backtest(
        self,
        track: Any = None,
        *,
        js: str | None = None,
        filter: Any = None,  # noqa: A002 - the contract's name
        source: str | None = None,
        destination: Any = None,
        limit: int | None = None,
        **params: Any,
    ) -> Any:
        """Run a track over the newest drops that its source holds; nothing is stored.

        Args:
            track: the id of a stored track, the track itself, or the model of a proposed one.
            js, filter, source, destination: a proposed track in words of its own.
            limit: how many drops; None: what the server takes.

        Returns:
            what would have been delivered and refused, and what failed and why.

        Raises:
            UsageError: both a stored and a proposed track were given, or neither.
        """
        body = _definition(js, filter, source, destination)
        if isinstance(track, Mapping) and track.get("id") is None and not body:
            model = _as_model(track)
            given = [model.get(name) for name in ("js", "filter", "source", "destination")]
            track, body = None, _definition(*given)
        if (track is None) is not bool(body):
            raise UsageError(
                "backtest needs a stored track or a proposed one",
                hint="backtest(track_id), or backtest(source='/…', filter=…)",
            )
        if track is not None:
            body["track"] = finding.one_id(track)
        if limit is not None:
            body["limit"] = limit
        return self._api.call("POST", self._place("backtest"), params, body, is_read=True)


def _definition(
    js: str | None, condition: Any, source: str | None, destination: Any
) -> dict[str, Any]:
    """The members of a track that were given."""
    text = None if condition is None else finding.filter_text(condition)
    given = {"js": js, "filter": text, "source": source, "destination": destination}
    return {name: value for name, value in given.items() if value is not None}


class Root:
    """Any route, by method: ``api.root.get("flow", limit=5)``, ``api.root.post("flow", {"path":
    …})``.

    Paths are relative to version and account and percent-encoded by the caller where they must be.
    """

    def __init__(self, api: API) -> None:
        self._api = api

    def __repr__(self) -> str:
        return f"<Root of {self._api!r}>"

    @verb
    def get(self, path: str = "", **params: Any) -> Any:
        """``GET`` *path*."""
        return self._api.request("GET", path, None, params)

    @verb
    def post(self, path: str, data: Any = None, **params: Any) -> Any:
        """``POST`` *data* to *path*."""
        return self._api.request("POST", path, data, params)

    @verb
    def put(self, path: str, data: Any = None, **params: Any) -> Any:
        """``PUT`` *data* to *path*."""
        return self._api.request("PUT", path, data, params)

    @verb
    def delete(self, path: str, data: Any = None, **params: Any) -> Any:
        """``DELETE`` *path*."""
        return self._api.request("DELETE", path, data, params)


class WebSockets:
    """Subscriptions: runners with handlers, and the one that the API's own iterations share."""

    def __init__(self, api: API) -> None:
        self._api = api
        self._lock = NativeLock()
        self._shared: WebSocket | None = None

    def __repr__(self) -> str:
        return f"<WebSockets of {self._api!r}>"

    def connect(
        self,
        on_open: Callable[[WebSocket], object] | None = None,
        on_message: Callable[[WebSocket, str, dict[str, Any]], object] | None = None,
        on_close: Callable[[WebSocket], object] | None = None,
        on_error: Callable[[WebSocket, Exception], object] | None = None,
        **options: Any,
    ) -> WebSocket:
        """A runner for subscriptions. Nothing is sent before it runs (``run``, ``start``, ``with``)
        or is asked for something.

        Args:
            on_open: called as ``on_open(ws)`` each time that it is connected.
            on_message: called as ``on_message(ws, flow_id, drop)`` for each drop that has no
                handler of its own.
            on_close: called as ``on_close(ws)`` each time that a connection has ended.
            on_error: called as ``on_error(ws, error)`` for whatever goes wrong.
            options: ``hints``, ``heartbeat_s``, ``silence_s``; see ``WebSocket``.
        """
        from flowkit.client.live.runner import WebSocket

        return WebSocket(
            self._api,
            on_open=on_open,
            on_message=on_message,
            on_close=on_close,
            on_error=on_error,
            **options,
        )

    def shared(self, *, with_handlers: bool = False) -> WebSocket:
        """The runner of this API's own iterations and views, connected or about to be; made at
        first use, and again when it has ended.

        Args:
            with_handlers: also call handlers in the background.
        """
        with self._lock:
            if self._shared is None or self._shared.is_closed:
                self._shared = self.connect()
            self._shared.begin(with_handlers=with_handlers)
            return self._shared

    def close(self, timeout_s: float = limits.close_timeout_s) -> None:
        """Close the shared runner: its iterations end. Runners of ``connect`` are their makers'."""
        with self._lock:
            shared, self._shared = self._shared, None
        if shared is not None:
            shared.close(timeout_s=timeout_s)


def _is_filter(value: Any) -> bool:
    return not isinstance(value, str | Iterable) or isinstance(value, Mapping)


def _as_model(model: Any) -> Mapping[str, Any]:
    if not isinstance(model, Mapping):
        raise UsageError(
            f"a model is a mapping, not a {type(model).__name__}",
            hint="several go to update_many(…), drops to create_many(…)",
        )
    return model
