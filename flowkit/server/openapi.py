"""The description of the HTTP API in OpenAPI 3.1, made of the route table and the resources.

Nothing about a route or a member is written here a second time: addresses and parameters come from
``ROUTES``, bodies from ``RESOURCES`` (``shapes.py``). OpenAPI has no word for the methods MGET and
MPUT, so they are described as what they may be sent as: a POST with ``X-HTTP-Method-Override``.

Source: protocol 3.3 (envelope), 3.4 (statuses), 3.5 (routes, overrides), 3.6 (parameters).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import orjson

from flowkit import limits
from flowkit._version import __version__
from flowkit.protocol.resources import BY_ROUTE
from flowkit.server.routes import ROUTES, Route
from flowkit.server.shapes import PARAMETERS, Schema, bodies, ref, schemas
from flowkit.server.shapes_sending import RAW

__all__ = ["SESSIONS", "UNVERSIONED", "document", "page"]

_ANY: Schema = {}
_TEXT: Schema = {"type": "string"}

_REQUEST_ID: Mapping[str, Any] = {
    "name": "X-Request-Id",
    "in": "header",
    "description": "A write with an id is done once and answered again, for ten minutes.",
    "schema": {
        "type": "string",
        "pattern": "^[!-~]+$",
        "maxLength": limits.request_id_chars_max,
    },
}

_ACCOUNT: Mapping[str, Any] = {
    "name": "X-Auth-Account",
    "in": "header",
    "required": True,
    "description": "The account that the token is of.",
    "schema": _TEXT,
}

_HINTS: Mapping[str, Any] = {
    "name": "hints",
    "in": "query",
    "description": "Whether everything that is said over the session shows the types of elements.",
    "schema": {"type": "boolean"},
}

_REFUSALS: Mapping[str, str] = {
    "400": "The body, a member, a parameter, a path or a filter is at fault.",
    "403": "The token is missing or wrong, or does not give the right that this needs.",
    "404": "There is no such object, or none that the caller may read.",
    "409": "A conflict with what is there.",
    "413": "The body is too large.",
    "414": "The request line is too long.",
    "429": "Too many requests; Retry-After says how many seconds to wait.",
    "503": "The server is stopping, or has too much to do.",
}

UNVERSIONED: Mapping[str, tuple[str, str]] = {
    "/health": ("Whether the server works, for whoever watches over it", "text/plain"),
    "/metrics": ("Figures for Prometheus", "text/plain"),
    "/openapi.json": ("This description", "application/json"),
}
"""The addresses outside of version and account: what each answers, and its media type."""

SESSIONS: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "/session": {"post": ("Make a session for subscriptions", "201")},
    "/session/{id}/ws": {"get": ("Become the WebSocket of a session", "101")},
    "/session/{id}/streaming": {"get": ("Get the messages of a session as one answer", "200")},
    "/session/{id}/polling": {
        "get": ("Wait for the messages of a session", "200"),
        "post": ("Send a message over a session", "200"),
    },
}
"""The addresses of sessions (9.1): what each method does, and the status of its success."""

_CRUD: Mapping[tuple[str, str], str] = {
    ("GET", ""): "Find {}s",
    ("MGET", ""): "Read many {}s: ids to objects, without those that are not there",
    ("MPUT", ""): "Change many {}s, all or none",
    ("POST", ""): "Create a {}",
    ("GET", "/{id}"): "Read a {}",
    ("PUT", "/{id}"): "Change a {}",
    ("PUT", "/{id}/{member}"): "Change one member of a {}",
    ("DELETE", "/{id}"): "Delete a {}",
}
"""What each verb does, as it stands in the description."""


_OTHERS: Mapping[tuple[str, str], str] = {
    ("GET", "drop"): "Find in the flow at a path",
    ("MGET", "drop"): "Find in several flows",
    ("POST", "drop"): "Create a drop, or an array of them in one commit",
    ("GET", "drop/{flow}"): "Find in one flow",
    ("MGET", "drop/{flow}"): "Read many drops: ids to objects, without those that are not there",
    ("POST", "drop/{flow}"): "Create a drop, or an array of them in one commit",
    ("MPUT", "drop/{flow}"): "Change many drops, all or none",
    ("DELETE", "drop/{flow}"): "Delete all drops of a flow",
    ("GET", "drop/{flow}/{id}"): "Read a drop",
    ("PUT", "drop/{flow}/{id}"): "Change a drop",
    ("DELETE", "drop/{flow}/{id}"): "Delete a drop",
    ("PUT", "drop/{flow}/{id}/{member}"): "Change one member of a drop",
    ("POST", "drop/{flow}/aggregate"): "Compute over groups of drops",
    ("POST", "track/simulate"): "Run a track that is not stored, on one drop, without any effect",
    ("POST", "track/backtest"): "Run a track over what its source holds, without any effect",
    ("GET", "origin/{box}"): "Read how far each stream of an outbox has come",
    ("GET", "stream/{id}/open"): "Read which batches and messages are not complete",
    ("GET", "payload/{id}"): "Read a part of the bytes of a message",
    ("GET", "upload/{box}/{message}"): "Read which pieces of an upload are there",
    ("PUT", "upload/{box}/{message}/{n}"): "Send one piece of an upload",
    ("GET", "device/{id}/properties"): "Read what is desired of a device and what it reported",
    ("POST", "device/{id}/desired"): "Change what is desired of a device",
    ("POST", "device/{id}/reported"): "Report the properties of a device, with its own Token",
    ("POST", "device/{id}/refresh"): "Renew the Token of a device",
    ("POST", "provisioning"): "Begin an operation of provisioning, with a provisioning token",
    ("POST", "provisioning/{id}/complete"): "Become a device, once the operation is approved",
    ("POST", "batch"): "Many reads in one request, each with an answer of its own",
}
"""What the other routes do."""


@cache
def document(account: str | None = None) -> dict[str, Any]:
    """The description; the same value for the same *account*, not to be changed.

    Args:
        account: stands in the example addresses; None: ``nora``.

    Returns:
        an OpenAPI 3.1 document, ready for JSON.
    """
    paths: dict[str, Any] = {}
    for pattern in dict.fromkeys(route.pattern for route in ROUTES):
        paths[f"/{pattern}"] = _path_item([each for each in ROUTES if each.pattern == pattern])
    for path, (summary, media) in UNVERSIONED.items():
        answer = {"description": summary, "content": {media: {"schema": _ANY}}}
        operation = {"summary": summary, "security": [], "responses": {"200": answer}}
        operation["operationId"] = path.strip("/").replace(".", "-")
        paths[path] = {"servers": [{"url": "/"}], "get": operation}
    for path, methods in SESSIONS.items():
        paths[path] = _session_item(path, methods)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "flowkit",
            "version": __version__,
            "summary": "Streams of device data: flows of drops, tracks between them.",
        },
        "servers": [
            {
                "url": "/v{generation}/{account}",
                "variables": {
                    "generation": {
                        "default": "4.0",
                        "description": "0.1 shows typed elements, any other plain ones",
                    },
                    "account": {"default": account or "nora"},
                },
            }
        ],
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": schemas(),
            "securitySchemes": {
                "token": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "X-Auth-Token",
                    "description": "The master token of the account, the string of a Token, or,"
                    " where devices are provisioned, a provisioning token.",
                }
            },
        },
    }


# Operations


def _session_item(path: str, methods: Mapping[str, tuple[str, str]]) -> dict[str, Any]:
    """The operations of an address of sessions. Behind ``/session`` the id is the secret."""
    item: dict[str, Any] = {"servers": [{"url": "/"}]}
    if "{id}" in path:
        item["parameters"] = [{"name": "id", "in": "path", "required": True, "schema": _TEXT}]
    for method, (summary, status) in methods.items():
        operation: dict[str, Any] = {
            "operationId": "-".join([method, *re.findall(r"\w+", path)]),
            "summary": summary,
            "responses": {status: {"description": summary}},
        }
        if path == "/session":
            operation["parameters"] = [_ACCOUNT, _HINTS]
        else:
            operation["security"] = []
        item[method] = operation
    return item


@cache
def page() -> bytes:
    """The description as ``GET /openapi.json`` answers it."""
    return orjson.dumps(document())


def _path_item(routes: Sequence[Route]) -> dict[str, Any]:
    """The operations of one address; MGET and MPUT become part of its POST."""
    item: dict[str, Any] = {}
    posts = [each for each in routes if each.method in ("POST", "MGET", "MPUT")]
    for route in routes:
        if route.method in ("GET", "PUT", "DELETE"):
            item[route.method.lower()] = _operation([route])
    if posts:
        item["post"] = _operation(sorted(posts, key=lambda each: each.method != "POST"))
    names = re.findall(r"{(\w+)}", routes[0].pattern)
    if names:
        item["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": _TEXT} for name in names
        ]
    return item


def _operation(routes: Sequence[Route]) -> dict[str, Any]:
    """One operation: of one route, or of a POST with those that go by override."""
    first = routes[0]
    sent = [body for body, _ in map(bodies, routes) if body is not None]
    answered = [answer for _, answer in map(bodies, routes)]
    known = {name for route in routes for name in route.known}
    operation: dict[str, Any] = {
        "operationId": re.sub(r"\W+", "-", f"{first.method.lower()}-{first.pattern}").strip("-"),
        "summary": _summary(first),
        "tags": [first.pattern.partition("/")[0]],
        "parameters": [_parameter(name) for name in PARAMETERS if name in known],
        "responses": _responses(first, answered),
    }
    others = [route for route in routes if route.method != "POST"] if first.method == "POST" else []
    if len(routes) > 1 or first.method in ("MGET", "MPUT"):
        operation["parameters"].append(_override(routes))
        operation["description"] = " ".join(
            f"With X-HTTP-Method-Override: {each.method}: {_summary(each)}."
            for each in others or routes
        )
    if any(route.writes and route.method not in ("GET", "MGET") for route in routes):
        operation["parameters"].append(_REQUEST_ID)
    if sent:
        schema = sent[0] if len(sent) == 1 else {"anyOf": sent}
        media = "application/octet-stream" if schema is RAW else "application/json"
        operation["requestBody"] = {"required": True, "content": {media: {"schema": schema}}}
    return operation


def _override(routes: Sequence[Route]) -> dict[str, Any]:
    methods = [each.method for each in routes if each.method != "POST"]
    return {
        "name": "X-HTTP-Method-Override",
        "in": "header",
        "required": routes[0].method != "POST",
        "schema": {"type": "string", "enum": methods},
        "description": "What the POST stands for, where a method of HTTP is not at hand.",
    }


def _parameter(name: str) -> dict[str, Any]:
    description, schema = PARAMETERS[name]
    return {"name": name, "in": "query", "description": description, "schema": schema}


def _responses(route: Route, answered: Sequence[Schema]) -> dict[str, Any]:
    body = answered[0] if len(answered) == 1 else {"anyOf": list(answered)}
    envelope = {
        "type": "object",
        "required": ["head", "body"],
        "properties": {"head": ref("Head"), "body": body},
    }
    content = {"application/json": {"schema": envelope}}
    responses: dict[str, Any] = {"200": {"description": "Done.", "content": content}}
    if route.method == "POST":
        responses["201"] = {"description": "Created.", "content": content}
    if route.array:
        said = "Some entries of the array were not stored."
        responses["207"] = {"description": said, "content": content}
    refusal = {"application/json": {"schema": ref("Refusal")}}
    for status, description in _REFUSALS.items():
        responses[status] = {"description": description, "content": refusal}
    return responses


def _summary(route: Route) -> str:
    """What a route does, in one sentence without its full stop."""
    said = _OTHERS.get((route.method, route.pattern))
    if said is not None:
        return said
    first, slash, rest = route.pattern.partition("/")
    resource, verb = BY_ROUTE.get(first), _CRUD.get((route.method, slash + rest))
    if resource is None or verb is None:
        line = (route.handler.__doc__ or route.pattern).splitlines()[0]
        return line.replace("``", "").rstrip(".")
    sentence = verb.format(resource.name.replace("_", " ")).replace("identitys", "identities")
    return re.sub(r"\ba (?=[aei])", "an ", sentence)
