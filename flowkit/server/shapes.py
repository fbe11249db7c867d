"""The JSON schemas of what is sent and answered, made of the members of the resources.

Source: protocol 1 (members), 3.3 (envelope), 3.5 (bodies), 3.6 (parameters).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flowkit import limits
from flowkit.protocol.resources import BY_ROUTE, RESOURCES, Member, Resource
from flowkit.server.routes import Route
from flowkit.server.shapes_devices import DEVICE_EXAMPLES, DEVICE_ROUTES
from flowkit.server.shapes_sending import SENDING_ROUTES, SENDING_SCHEMAS

__all__ = ["PARAMETERS", "Schema", "bodies", "ref", "schemas"]

Schema = dict[str, Any]

_ID = "^[a-z][0-9a-f]{24}$"
_PATH = r"^(/[a-z0-9_:.-]+){2,}$"
_PATH_GIVEN = r"^(/+[A-Za-z0-9_:.-]+){2,}/*$"

_ANY: Schema = {}
_NOTHING: Schema = {"type": "object", "maxProperties": 0}
_OBJECT: Schema = {"type": "object"}
_TEXT: Schema = {"type": "string"}
_SWITCH: Schema = {"type": "boolean"}
_WHOLE: Schema = {
    "type": "integer",
    "minimum": limits.integer_min,
    "maximum": limits.integer_max,
}
_IDS: Schema = {
    "type": "array",
    "items": {"type": "string", "pattern": _ID},
    "maxItems": limits.many_ids_max,
}
_FILTER: Schema = {"type": "string", "maxLength": limits.filter_text_chars_max}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_START: Schema = {"type": "integer", "minimum": 0, "maximum": limits.integer_max, "default": 0}

PARAMETERS: Mapping[str, tuple[str, Schema]] = {
    "filter": ("an expression of the filter language", _FILTER),
    "limit": (
        "most results",
        {
            "type": "integer",
            "minimum": 0,
            "maximum": limits.find_limit_max,
            "default": limits.find_limit_default,
        },
    ),
    "start": ("index of the first result", _START),
    "skip": ("another name of start", _START),
    "sort": ("the member to sort on", {"type": "string", "default": "creationDate"}),
    "order": (
        "the direction",
        {"type": "string", "enum": ["asc", "desc"], "default": "desc"},
    ),
    "only": ("members to show, with commas between", _TEXT),
    "refs": ("fill head.references", _SWITCH),
    "hints": ("typed elements (1) or plain ones (0)", _SWITCH),
    "device": ("the id of a Device", {"type": "string", "pattern": _ID}),
    "offset": ("the first byte", _START),
    "size": (
        "most bytes",
        {"type": "integer", "minimum": 0, "maximum": limits.payload_part_bytes_max},
    ),
    "path": ("path of a Flow", {"type": "string", "pattern": _PATH_GIVEN}),
    "positions": ("fill head.position", _SWITCH),
    "explain": ("fill head.plan", _SWITCH),
    "forget": ("keep no last state of what is deleted", _SWITCH),
    "pretty": ("an indented answer", _SWITCH),
    "level": (
        "the length of the periods that are counted, in any case",
        {"type": "string", "enum": ["YEAR", "MONTH", "DAY", "HOUR"]},
    ),
}
"""Every query parameter: what it does and what it may be (3.6)."""

_KINDS: Mapping[str, Schema] = {
    "any": _ANY,
    "array": {"type": "array"},
    "boolean": _SWITCH,
    "destinations": {
        "oneOf": [
            {"$ref": "#/components/schemas/Path"},
            {"type": "array", "items": {"$ref": "#/components/schemas/Path"}},
        ]
    },
    "elems": {"type": "object", "description": "names to values"},
    "filter": _FILTER,
    "grants": {"$ref": "#/components/schemas/Grants"},
    "id": {"type": "string", "pattern": _ID},
    "ids": {"type": "array", "items": {"type": "string", "pattern": _ID}},
    "integer": _WHOLE,
    "location": {"$ref": "#/components/schemas/Location"},
    "object": _OBJECT,
    "path": {"$ref": "#/components/schemas/Path"},
    "string": _TEXT,
}
"""The schema of each kind of member."""

_COMMON: Mapping[str, Schema] = {
    "Path": {
        "type": "string",
        "pattern": _PATH_GIVEN,
        "maxLength": 2 * limits.path_chars_max,
        "description": f"Answered in lower case without doubled slashes, as {_PATH}, "
        f"at most {limits.path_chars_max} characters.",
    },
    "Grants": {
        "type": "object",
        "description": "Paths to what may be done there and below.",
        "propertyNames": {"pattern": _PATH_GIVEN},
        "additionalProperties": {
            "type": "object",
            "properties": dict.fromkeys(
                ("read", "write", "dropRead", "dropWrite", "administer"), _SWITCH
            ),
        },
    },
    "Location": {
        "type": "object",
        "required": ["lat", "lon"],
        "properties": {
            "lat": {"type": "number", "minimum": -90, "maximum": 90},
            "lon": {"type": "number", "minimum": -180, "maximum": 180},
            "specifiers": _OBJECT,
        },
    },
    "Head": {
        "type": "object",
        "required": ["status", "ok", "messages", "errors", "references"],
        "properties": {
            "status": {"type": "integer", "description": "equals the HTTP status"},
            "ok": _SWITCH,
            "messages": {"type": "array", "items": _TEXT},
            "errors": {"type": "array", "items": _TEXT},
            "references": {"type": "object", "description": "ids to objects, with refs=1"},
        },
    },
    "Refusal": {
        "type": "object",
        "required": ["head", "body"],
        "description": "One sentence per fault, the member or parameter first.",
        "properties": {
            "head": {
                "allOf": [
                    {"$ref": "#/components/schemas/Head"},
                    {
                        "properties": {
                            "ok": {"const": False},
                            "errors": {"type": "array", "items": _TEXT, "minItems": 1},
                        }
                    },
                ]
            },
            "body": _NOTHING,
        },
    },
    **SENDING_SCHEMAS,
    "EntryError": {
        "type": "object",
        "required": ["status", "errors"],
        "description": "An entry of an array create that was not stored.",
        "properties": {
            "status": {"type": "integer", "minimum": 400},
            "errors": {"type": "array", "items": _TEXT, "minItems": 1},
        },
    },
}

_EXAMPLES: Mapping[str, Mapping[str, Any]] = {
    "flow": {"path": "/nora/greenhouse", "capacity": 5000, "filter": "EXISTS temp"},
    "drop": {
        "path": "/nora/greenhouse",
        "fhash": "bench-3",
        "location": {"lat": 59.91, "lon": 10.75, "specifiers": {"city": "Oslo"}},
        "elems": {"temp": 21.4, "humid": 61, "tags": ["north", "glass"]},
    },
    "track": {
        "source": "/nora/greenhouse",
        "destination": "/nora/alarms",
        "filter": "temp > 30",
    },
    "group": {"memberIds": ["i5a2c0fd09b1e4d7a6c3f0000"], "displayName": "Gardeners"},
    "identity": {"firstName": "Nora", "email": "nora@example.org"},
    "api_task": {
        "destination": "/nora/weather",
        "periodicity": 3_600_000,
        "js": "function () { return {elems: {asked: true}}; }",
    },
    "rss_task": {"destination": "/nora/news", "url": "https://news.example.org/feed.xml"},
    "mqtt_task": {
        "uri": "tcp://broker.example.org:1883",
        "topic": "greenhouse/#",
        "destination": "/nora/greenhouse",
    },
    "token": {"paths": {"/nora/greenhouse": {"dropRead": True, "dropWrite": True}}},
    "share": {
        "issuedTo": "i5a2c0fd09b1e4d7a6c3f0000",
        "paths": {"/nora/greenhouse": {"read": True, "dropRead": True}},
    },
    "stream": {"group": "greenhouse", "name": "air", "messageIdPattern": "{uuid}"},
    **DEVICE_EXAMPLES,
}
"""A body that creates each resource, or changes an identity."""


_EXAMPLE_ID = "5a2c12009b1e4d7a6c3f0031"
_EXAMPLE_FACTS = {"creationDate": 1_512_837_376_123, "creatorId": "i5a2c0fd09b1e4d7a6c3f0000"}


def schemas() -> dict[str, Schema]:
    """The named schemas: what is common, and for each resource what is shown, sent and changed."""
    named = dict(_COMMON)
    for resource in RESOURCES.values():
        name = _title(resource)
        members = resource.members.values()
        shown = {each.name: _schema(each, resource) for each in members}
        asked = {each.name: _schema(each, resource) for each in members if not each.read_only}
        changed = {key: {"anyOf": [one, {"type": "null"}]} for key, one in asked.items()}
        required = [each.name for each in members if each.required]
        example = _EXAMPLES[resource.name]
        known = {"id": f"{resource.prefix}{_EXAMPLE_ID}", **_EXAMPLE_FACTS, **example}
        named[name] = {
            "type": "object",
            "required": ["id"],
            "properties": shown,
            "examples": [known],
        }
        named[f"{name}Create"] = {
            "type": "object",
            "properties": asked,
            "examples": [example],
        }
        if required:
            named[f"{name}Create"]["required"] = required
        if resource.updatable:
            named[f"{name}Change"] = {
                "type": "object",
                "description": "Only what is named changes; null unsets.",
                "properties": changed,
            }
    return named


def _title(resource: Resource) -> str:
    return "".join(part.capitalize() for part in resource.name.split("_"))


def _schema(member: Member, resource: Resource) -> Schema:
    schema = dict(_KINDS[member.kind])
    if member.name == "id":
        schema["pattern"] = f"^{resource.prefix}[0-9a-f]{{24}}$"
    facts = {
        "minimum": member.low,
        "maximum": member.high,
        "maxLength": member.chars_max,
        "default": member.default,
        "readOnly": member.read_only or None,
    }
    schema |= {name: value for name, value in facts.items() if value is not None}
    if member.immutable:
        schema["description"] = "cannot be changed"
    return schema


def ref(name: str) -> Schema:
    """The named schema."""
    return {"$ref": f"#/components/schemas/{name}"}


def _array(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _map(values: Schema) -> Schema:
    return {"type": "object", "additionalProperties": values}


_TEXTS = _array(_TEXT)
_DROP = ref("Drop")
_MANY_DROPS = _array({"anyOf": [_DROP, ref("SentAnswer"), ref("EntryError")]})
_DROP_CREATE: Schema = {
    "oneOf": [
        ref("DropCreate"),
        {
            **_array({"anyOf": [ref("DropCreate"), ref("Sent")]}),
            "maxItems": limits.array_create_entries_max,
        },
    ]
}
_READS: Schema = {
    "type": "array",
    "maxItems": limits.batch_requests_max,
    "items": {
        "type": "object",
        "required": ["method", "path"],
        "properties": {
            "method": {"enum": ["GET", "MGET"]},
            "path": {"type": "string", "pattern": "^[^?]*$"},
            "params": _OBJECT,
            "body": _ANY,
        },
    },
    "examples": [[{"method": "GET", "path": "/flow", "params": {"limit": 5}}]],
}
_AGGREGATE: Schema = {
    "type": "object",
    "required": ["output"],
    "properties": {
        "output": _TEXTS,
        "groupBy": _TEXTS,
        "filter": _FILTER,
        "rules": _map(_FILTER),
        "sorts": _TEXTS,
    },
    "examples": [
        {
            "rules": {"hot": "temp > 30"},
            "groupBy": ["bench", "$day"],
            "output": ["$count", "$avg:temp", "$avg:hot"],
            "sorts": ["$avg:hot:desc", "bench:asc"],
        }
    ],
}
_SIMULATION: Schema = {
    "type": "object",
    "required": ["drop"],
    "properties": {
        "drop": _OBJECT,
        "js": _TEXT,
        "filter": _FILTER,
        "source": ref("Path"),
        "destination": _KINDS["destinations"],
    },
    "examples": [
        {
            "drop": {"elems": {"a": 1}},
            "js": "function (d) { d.elems.b = d.elems.a * 3; return d; }",
        }
    ],
}
_BACKTEST: Schema = {
    "type": "object",
    "description": "A stored track, or the definition of a proposed one.",
    "properties": {
        "track": {"type": "string", "pattern": "^t[0-9a-f]{24}$"},
        "limit": {"type": "integer", "minimum": 0, "maximum": limits.backtest_drops_max},
        **{name: _SIMULATION["properties"][name] for name in ("js", "filter", "source")},
        "destination": _KINDS["destinations"],
    },
    "examples": [
        {"source": "/nora/greenhouse", "destination": "/nora/alarms", "filter": "temp > 30"}
    ],
}
_BACKTESTED: Schema = {
    "type": "object",
    "required": ["seen", "passed", "stopped", "failed", "delivered", "refused", "drops"],
    "properties": {
        **dict.fromkeys(("seen", "passed", "stopped", "failed"), _COUNT),
        **dict.fromkeys(("delivered", "refused"), _map({"type": "integer", "minimum": 1})),
        **dict.fromkeys(("drops", "failures"), _array(_ANY)),
        "complete": _SWITCH,
    },
}
_SIMULATED: Schema = {
    "type": "object",
    "required": ["drops", "log", "errors"],
    "properties": {"drops": {"type": "array"}, "log": {"type": "array"}, "errors": _TEXTS},
}

_SPECIAL: Mapping[tuple[str, str], tuple[Schema | None, Schema]] = {
    ("MGET", "drop"): (
        {
            "type": "array",
            "maxItems": limits.find_flows_max,
            "items": {
                "type": "object",
                "required": ["flowId"],
                "properties": {"flowId": {"type": "string"}, "params": _OBJECT},
            },
        },
        _map(_array(_DROP)),
    ),
    ("POST", "drop"): (_DROP_CREATE, {"anyOf": [_DROP, _MANY_DROPS]}),
    ("POST", "drop/{flow}"): (
        # the address says which flow, and elems may be all that is sent
        _DROP_CREATE,
        {"anyOf": [_DROP, _MANY_DROPS]},
    ),
    ("GET", "drop/{flow}"): (None, _array(_DROP)),
    ("MGET", "drop/{flow}"): (_IDS, _map(_DROP)),
    ("MPUT", "drop/{flow}"): (_map(ref("DropChange")), _map(_DROP)),
    ("DELETE", "drop/{flow}"): (None, _NOTHING),
    **SENDING_ROUTES,
    ("POST", "batch"): (_READS, _array({"type": "object", "required": ["head", "body"]})),
    ("POST", "drop/{flow}/aggregate"): (_AGGREGATE, _array(_OBJECT)),
    ("POST", "track/simulate"): (_SIMULATION, _SIMULATED),
    ("POST", "track/backtest"): (_BACKTEST, _BACKTESTED),
    **DEVICE_ROUTES,
}
"""What is sent and what is answered where the address does not say it."""


def bodies(route: Route) -> tuple[Schema | None, Schema]:
    """The schema of what a route takes (None: nothing) and of what it answers."""
    special = _SPECIAL.get((route.method, route.pattern))
    if special is not None:
        return special
    first, _, rest = route.pattern.partition("/")
    if first == "statistics":
        return None, _array({"type": "integer", "minimum": 0})
    resource = BY_ROUTE.get(first)
    if resource is None:
        return (None if route.method in ("GET", "DELETE") else _ANY), _ANY
    one = ref(_title(resource))
    if rest.endswith("{member}"):
        return _OBJECT, _OBJECT
    change = ref(f"{_title(resource)}Change")
    by_method: dict[str, tuple[Schema | None, Schema]] = {
        "GET": (None, one if rest else _array(one)),
        "MGET": (_IDS, _map(one)),
        "POST": (ref(f"{_title(resource)}Create"), one),
        "PUT": (change, one),
        "MPUT": (_map(change), _map(one)),
        "DELETE": (None, _NOTHING),
    }
    return by_method[route.method]
