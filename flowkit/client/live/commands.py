"""The commands of protocol 9.2 beside subscribing, as the messages that ask for them.

Each is the twin of the HTTP verb of the same name: the same object, the same rights and errors.

Source: protocol 9.2, 9.3.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from flowkit import green
from flowkit.client import finding
from flowkit.client.arguments import plain
from flowkit.client.calls import wire_params
from flowkit.client.changes import M
from flowkit.client.live.asking import plain_subscription
from flowkit.client.live.waiting import Pending
from flowkit.errors import DeadlineExceeded, FlowKitError, NotFound, UsageError
from flowkit.protocol.resources import BY_ROUTE, RESOURCES, Resource
from flowkit.query.build import mem

__all__ = ["Commands"]

_SLACK_S = 0.5


class Commands:
    """What a runner can ask besides subscribing; ``WebSocket`` is one."""

    def _open(self) -> None:
        raise NotImplementedError

    def _ask(self, message: Mapping[str, Any], pending: Pending | None) -> None:
        raise NotImplementedError

    def _timeout_s(self, timeout: float | None) -> float:
        raise NotImplementedError

    def _replying(self, callback: Callable[..., object]) -> Callable[..., object]:
        raise NotImplementedError

    def send(
        self,
        message: Mapping[str, Any],
        callback: Callable[..., object] | None = None,
        *,
        timeout: float | None = None,
    ) -> None:
        """Send a message of the protocol, now or as soon as it is connected; *message* stays as it
        is.

        Args:
            callback: called as ``callback(ws, body)`` with the reply; one that takes ``error=``
                also when it fails, otherwise ``on_error`` is.
            timeout: seconds that the reply may take.

        Raises:
            UsageError: it has no JSON form, is too large, or the runner is closed.
        """
        message = plain(message)
        if not isinstance(message, Mapping):
            raise UsageError(f"a message is a mapping, not a {type(message).__name__}")
        pending = None
        if callback is not None:
            what = f"{message.get('type')} {message.get('object', '')}".strip()
            pending = Pending(what, self._replying(callback), self._timeout_s(timeout))
        self._ask(message, pending)

    def create(
        self,
        kind: str,
        model: Any,
        *,
        flow: Any = None,
        timeout: float | None = None,
    ) -> Any:
        """Create an object (``"drop"``, ``"flow"``, ``"track"`` …); returns it as stored.

        Args:
            flow: of a drop: its flow, unless the model names it.
        """
        return self._command(_create(kind, model, flow), timeout)

    def find(
        self,
        kind: str,
        id: Any,  # noqa: A002 - the contract's name
        *,
        flow: Any = None,
        timeout: float | None = None,
        **params: Any,
    ) -> Any:
        """The object with this id.

        Raises:
            NotFound: there is none, or none that this credential may read.
        """
        said = _find(kind, id, self._flow_id(flow), **params)
        return _found(self._command(said, timeout), kind)

    def find_many(
        self,
        kind: str,
        *filters: Any,
        flow: Any = None,
        timeout: float | None = None,
        **params: Any,
    ) -> Any:
        """The objects that satisfy all *filters*: 20 unless ``limit=`` says more."""
        said = _find_many(kind, *filters, flow=flow, **params)
        return _listed(self._command(said, timeout))

    def update(
        self,
        kind: str,
        model: Any,
        *,
        flow: Any = None,
        timeout: float | None = None,
    ) -> Any:
        """Change an object: a model with its ``id``, or an ``M``; returns it as it is then."""
        if flow is None and isinstance(model, Mapping):
            flow = model.get("flowId")
        return self._command(_update(kind, model, self._flow_id(flow)), timeout)

    def delete(
        self,
        kind: str,
        id: Any,  # noqa: A002 - the contract's name
        *,
        flow: Any = None,
        timeout: float | None = None,
    ) -> Any:
        """Delete the object with this id."""
        return self._command(_delete(kind, id, self._flow_id(flow)), timeout)

    def _flow_id(self, flow: Any) -> Any:
        """The id of *flow*, which is looked up if only its path is known."""
        if flow is None:
            return None
        ask = plain_subscription(flow)
        if ask.path is None:
            return ask.flow_id
        found = self.find_many("flow", mem.path == ask.path, limit=1)
        if not found:
            raise NotFound(f"there is no flow at {ask.path}", method="find", path="(WebSocket)")
        return found[0]["id"]

    def _command(self, message: dict[str, Any], timeout: float | None) -> Any:
        timeout_s = self._timeout_s(timeout)
        outcome: green.Cell[Any] = green.Cell()

        def done(error: FlowKitError | None, body: Any) -> None:
            if error is None:
                outcome.set(body)
            else:
                outcome.fail(error)

        what = f"{message['type']} {message['object']}"
        self._open()
        self._ask(message, Pending(what, done, timeout_s))
        if not outcome.wait(timeout_s + _SLACK_S):
            raise DeadlineExceeded(f"no reply to {what} came within {timeout_s:g} s")
        return outcome.get()


def _create(kind: str, model: Any, flow: Any = None) -> dict[str, Any]:
    """The message that creates an object."""
    resource = _resource(kind)
    value = plain(model)
    if not isinstance(value, Mapping):
        raise UsageError(f"a {resource.name} is a mapping, not a {type(value).__name__}")
    said = {"object": resource.route, "type": "create", "value": dict(value)}
    if flow is not None:
        flow_id, path = finding.flow_place(plain(flow))
        said |= {"flowId": flow_id} if flow_id else {"value": {**value, "path": path}}
    return said


def _find(kind: str, id: Any, flow: Any = None, **params: Any) -> dict[str, Any]:  # noqa: A002
    """The message that reads one object."""
    said = {"object": _resource(kind).route, "type": "find", "id": finding.one_id(plain(id))}
    return said | _of_flow(flow) | _options(params)


def _find_many(kind: str, *filters: Any, flow: Any = None, **params: Any) -> dict[str, Any]:
    """The message that finds objects."""
    given = [plain(one) for one in (*finding.present(filters), params.pop("filter", None))]
    said = {"object": _resource(kind).route, "type": "findmany"}
    place, path = _of_flow(flow), None
    if "path" in place:
        path = place.pop("path")
    return said | place | _options({**params, "path": path, "filter": finding.filter_text(*given)})


def _update(kind: str, model: Any, flow: Any = None) -> dict[str, Any]:
    """The message that changes an object: a model with its ``id``, or an ``M``."""
    resource = _resource(kind)
    model = plain(model)
    if isinstance(model, M):
        value: dict[str, Any] = model.diff
        id = finding.one_id({"id": model.id})  # noqa: A001 - the contract's name
    else:
        id = finding.one_id(model)  # noqa: A001
        value = {name: one for name, one in model.items() if name not in resource.server_set}
    said = {"object": resource.route, "type": "update", "id": id, "value": value}
    return said | _of_flow(flow)


def _delete(kind: str, id: Any, flow: Any = None) -> dict[str, Any]:  # noqa: A002
    """The message that deletes one object."""
    said = {"object": _resource(kind).route, "type": "delete", "id": finding.one_id(plain(id))}
    return said | _of_flow(flow)


def _found(body: Any, kind: str) -> Any:
    """The object of a ``find``; a server may say null where it means that there is none."""
    if body is None:
        raise NotFound(f"there is no such {kind}", method="find", path="(WebSocket)")
    return body


def _listed(body: Any) -> Any:
    """The objects of a ``findmany``; a server may say null where it means none."""
    return [] if body is None else body


def _resource(kind: str) -> Resource:
    name = str(kind).lower()
    resource = RESOURCES.get(name) or BY_ROUTE.get(name)
    if resource is None:
        raise UsageError(f"{kind!r} is no object", hint=f"one of {', '.join(BY_ROUTE)}")
    return resource


def _of_flow(flow: Any) -> dict[str, Any]:
    if flow is None:
        return {}
    flow_id, path = finding.flow_place(plain(flow))
    return {"flowId": flow_id} if flow_id else {"path": path}


def _options(params: Mapping[str, Any]) -> dict[str, Any]:
    options = wire_params({name: plain(value) for name, value in params.items()})
    return {"options": options} if options else {}
