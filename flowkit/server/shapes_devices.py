"""The JSON schemas of provisioning and of the documents of a device.

Source: ``docs/reference/devices.rst``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flowkit import limits

__all__ = ["DEVICE_EXAMPLES", "DEVICE_ROUTES"]

Schema = dict[str, Any]

_TEXT: Schema = {"type": "string"}
_VERSION: Schema = {"type": "integer", "minimum": 0}
_OBJECT: Schema = {"type": "object"}
_NONCE: Schema = {"type": "string", "pattern": "^[0-9a-f]{32,64}$"}
_DEVICE_ID: Schema = {
    "type": "string",
    "pattern": "^[0-9a-zA-Z_.-]+$",
    "minLength": limits.device_id_chars_min,
    "maxLength": limits.device_id_chars_max,
}
_DOCUMENT: Schema = {
    "type": "object",
    "required": ["values", "version"],
    "properties": {"values": _OBJECT, "version": _VERSION, "generation": _TEXT},
}
_CHANGE: Schema = {
    "type": "object",
    "properties": {"values": _OBJECT, "patch": _OBJECT, "version": _VERSION},
    "oneOf": [{"required": ["values"]}, {"required": ["patch"]}],
    "examples": [{"patch": {"interval": 60, "debug": None}, "version": 3}],
}
_REGISTERED: Schema = {
    "type": "object",
    "properties": {
        "status": {"enum": ["pending", "approved", "rejected", "expired"]},
        "deviceId": _DEVICE_ID,
        "id": {"type": "string", "pattern": "^v[0-9a-f]{24}$"},
        "tokenId": {"type": "string", "pattern": "^k[0-9a-f]{24}$"},
        "path": {"$ref": "#/components/schemas/Path"},
        "generation": _TEXT,
        "tokenString": _TEXT,
        "expiresAt": {"type": "integer"},
    },
}

DEVICE_ROUTES: Mapping[tuple[str, str], tuple[Schema | None, Schema]] = {
    ("GET", "device/{id}/properties"): (
        None,
        {
            "type": "object",
            "required": ["desired", "reported", "generation"],
            "properties": {"desired": _DOCUMENT, "reported": _DOCUMENT, "generation": _TEXT},
        },
    ),
    ("POST", "device/{id}/desired"): (_CHANGE, _DOCUMENT),
    ("POST", "device/{id}/reported"): (
        _CHANGE,
        {
            "type": "object",
            "required": ["version", "generation"],
            "properties": {"version": _VERSION, "generation": _TEXT},
        },
    ),
    ("POST", "device/{id}/refresh"): (
        {"type": "object", "properties": {"registrationToken": _TEXT}},
        _REGISTERED,
    ),
    ("POST", "provisioning"): (
        {
            "type": "object",
            "required": ["nonce"],
            "properties": {"nonce": _NONCE, "deviceId": _DEVICE_ID},
        },
        {"$ref": "#/components/schemas/Provisioning"},
    ),
    ("POST", "provisioning/{id}/complete"): (
        {"type": "object", "required": ["nonce"], "properties": {"nonce": _NONCE}},
        _REGISTERED,
    ),
}
"""What is sent and answered at the addresses of devices that the resources do not say."""

DEVICE_EXAMPLES: Mapping[str, Mapping[str, Any]] = {
    "device": {
        "path": "/nora/greenhouse/bench-3",
        "displayName": "Bench 3",
        "desired": {"interval": 60},
        "tags": {"site": "oslo"},
    },
    "provisioning_token": {"description": "batch 17", "autoApprove": False},
    "provisioning": {"nonce": "5f" * 16, "deviceId": "bench-3"},
}
"""A body that creates each."""
