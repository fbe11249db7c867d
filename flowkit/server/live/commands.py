"""What a client sends over a session: each command the twin of a route, with the same rights,
defaults and errors.

A command becomes a request to the application with the credential of its session. Only
``subscribe``, ``unsubscribe`` and ``heartbeat`` are worked off here.

Source: protocol 9.2 (messages from the client), 9.3 (replies), ``positions`` 6.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from flowkit.errors import BadRequest, PlatformError, ServerError, UsageError
from flowkit.protocol.envelope import Request, failure, success
from flowkit.protocol.resources import RESOURCES, normal_path
from flowkit.protocol.subscribing import Subscribe
from flowkit.server.bodies import read_json
from flowkit.server.checking import filter_fault
from flowkit.server.live.frames import frame, frame_of
from flowkit.server.live.sessions import LiveSession

__all__ = ["IN_ORDER", "TYPES", "Command", "read_command", "work_off"]

_log = logging.getLogger(__name__)

TYPES = (
    "create",
    "find",
    "findmany",
    "update",
    "delete",
    "subscribe",
    "unsubscribe",
    "heartbeat",
)
"""What a message may ask for."""

IN_ORDER = frozenset({"subscribe", "unsubscribe"})
"""What is worked off one after the other; everything else side by side."""

_OBJECTS = {**RESOURCES, **{resource.route: resource for resource in RESOURCES.values()}}


@dataclass(frozen=True, slots=True)
class Command:
    """One message of a client.

    Attributes:
        type: one of ``TYPES``.
        said: its members.
        msg_id: what the reply repeats; None: no reply but to a failure.
    """

    type: str
    said: Mapping[str, Any]
    msg_id: str | int | float | None

    def reply(self, envelope: Mapping[str, Any]) -> bytes:
        """The frame of the reply."""
        return frame_of({**envelope, "head": {**_named(self.msg_id), **envelope["head"]}})

    def failed(self, error: PlatformError) -> bytes:
        """The frame of the reply to a failure."""
        return self.reply(failure(error))


class Misread(BadRequest):
    """A message that is no command; carries the ``msgId``, if that could be read."""

    def __init__(self, *errors: str, msg_id: Any = None) -> None:
        super().__init__(*errors)
        self.msg_id = msg_id

    def frame(self) -> bytes:
        """The frame of the reply."""
        return Command("", {}, self.msg_id).failed(self)


def read_command(text: bytes) -> Command:
    """The command that a frame holds.

    Raises:
        Misread: it is not JSON, no object, or of no known type.
    """
    try:
        said = read_json(text)
    except BadRequest as error:
        raise Misread(*error.errors) from None
    if not isinstance(said, dict):
        raise Misread("body: a message is a JSON object")
    msg_id = said.get("msgId")
    if msg_id is not None and (
        isinstance(msg_id, bool) or not isinstance(msg_id, str | int | float)
    ):
        raise Misread("msgId: a text or a number is needed")
    kind = said.get("type")
    if kind not in TYPES:
        raise Misread(f"type: must be one of {', '.join(TYPES)}", msg_id=msg_id)
    return Command(str(kind), said, msg_id)


def work_off(command: Command, session: LiveSession, handle: Callable[[Request], Any]) -> None:
    """Do what a command asks for and reply; waits.

    Args:
        command: what is asked for.
        session: whose it is.
        handle: answers requests (``App.handle``).
    """
    try:
        if command.type == "subscribe":
            _subscribe(command, session)
        elif command.type == "unsubscribe":
            _unsubscribe(command, session)
        elif command.type != "heartbeat":
            response = handle(_request(command, session))
            if command.msg_id is not None or response.status >= 400:
                session.reply(_spliced(command.msg_id, response.body))
    except PlatformError as error:
        session.reply(command.failed(error))
    except UsageError as error:
        session.reply(command.failed(filter_fault(error)))
    except Exception:  # noqa: BLE001 - one command fails, its connection goes on
        _log.exception("a command of a session failed")
        fault = ServerError("The server failed; its log has the reason")
        session.reply(command.failed(fault))


def _subscribe(command: Command, session: LiveSession) -> None:
    _check_drop(command)
    ask = Subscribe.read(command.said)

    def reply(body: Mapping[str, Any]) -> bytes:
        return command.reply(success(body))

    session.subscribe(ask, reply if command.msg_id is not None else None)


def _unsubscribe(command: Command, session: LiveSession) -> None:
    _check_drop(command)
    named = {name: command.said.get(name) for name in ("sub", "flowId", "path")}
    sub, flow_id, path = (_text(named, name) if named[name] is not None else None for name in named)
    if not (sub or flow_id or path):
        raise BadRequest("flowId: is required, or path or sub instead of it")
    session.unsubscribe(sub, flow_id, normal_path(path) if path else None)
    if command.msg_id is not None:
        session.reply(command.reply(success({})))


def _check_drop(command: Command) -> None:
    if command.said.get("object", "drop") != "drop":
        raise BadRequest("object: only drops are pushed, it must be drop")


def _request(command: Command, session: LiveSession) -> Request:
    """The request that a command is the twin of."""
    said = command.said
    name = said.get("object")
    resource = _OBJECTS.get(name) if isinstance(name, str) else None
    if resource is None:
        names = ", ".join(sorted(each.route for each in RESOURCES.values()))
        raise BadRequest(f"object: must be one of {names}")
    place = [resource.route]
    if resource.name == "drop" and said.get("flowId") is not None:
        place.append(_text(said, "flowId"))
    method, has_id, has_value = _METHODS[command.type]
    if has_id:
        if resource.name == "drop" and len(place) == 1:
            raise BadRequest("flowId: is required")
        place.append(_text(said, "id"))
    params = _params(said) if method == "GET" or said.get("options") is not None else {}
    if command.type == "findmany" and resource.name == "drop" and said.get("path"):
        params.setdefault("path", _text(said, "path"))
    body = b""
    if has_value:
        value = said.get("value")
        if not isinstance(value, dict):
            raise BadRequest("value: an object is needed")
        body = orjson.dumps(value)
    version = "v0.1" if session.typed else "v4.0"
    return Request(
        method,
        (version, session.account, *place),
        params,
        {"x-auth-token": session.token, "x-auth-account": session.account},
        body,
        session.peer,
    )


_METHODS = {
    "create": ("POST", False, True),
    "find": ("GET", True, False),
    "findmany": ("GET", False, False),
    "update": ("PUT", True, True),
    "delete": ("DELETE", True, False),
}
"""Method, whether an id and whether a value is needed."""


def _text(said: Mapping[str, Any], name: str) -> str:
    value = said.get(name)
    if not isinstance(value, str) or not value:
        raise BadRequest(f"{name}: is required, as a text")
    return value


def _params(said: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a find as query parameters; nulls are not given."""
    options = said.get("options")
    if options is None:
        return {}
    if not isinstance(options, dict):
        raise BadRequest("options: an object is needed")
    return {name: value for name, value in options.items() if value is not None}


def _named(msg_id: str | float | None) -> dict[str, Any]:
    return {} if msg_id is None else {"msgId": msg_id}


def _spliced(msg_id: str | float | None, body: bytes) -> bytes:
    """The frame of an answer of the application, with its ``msgId``, without reading it again."""
    if msg_id is None:
        return frame(body)
    head = b'{"head":{'
    assert body.startswith(head)
    return frame(b'{"head":{"msgId":%b,%b' % (orjson.dumps(msg_id), body[len(head) :]))
