"""The rules of a device's documents: desired and reported properties, tags, and the device's id.

Both ends check with this module, so that a device can refuse what the server would refuse before
it stores anything.

* A document is an object. Its names are texts that are not empty and hold neither ``.`` nor ``$``;
  its values are texts, finite numbers, true, false, arrays and objects.
* ``null`` is no value: in a **patch** it removes a name (RFC 7396), elsewhere it is a fault.
* Texts have at most ``limits.property_text_bytes_max`` bytes, a document has at most
  ``limits.properties_depth_max`` levels (itself is the first) and
  ``limits.properties_bytes_max`` bytes as compact JSON in UTF-8.
* Tags are a document without objects or arrays in it, of at most ``limits.tags_bytes_max`` bytes.

Source: ``docs/reference/devices.rst``.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from flowkit import limits
from flowkit.errors import UsageError

__all__ = [
    "check_device_id",
    "check_patch",
    "check_properties",
    "check_tags",
    "device_id_fault",
    "merge_patch",
    "patch_faults",
    "property_faults",
    "tag_faults",
]

_DEVICE_ID = re.compile(
    rf"[0-9a-zA-Z_.-]{{{limits.device_id_chars_min},{limits.device_id_chars_max}}}"
)
_FAULTS_MAX = 20
"""Most sentences about one document; more would only repeat."""


def check_properties(document: Any) -> None:
    """Refuse what is no document of properties.

    Raises:
        UsageError: says the first thing that is wrong, and where.
    """
    _refuse(property_faults(document))


def check_patch(patch: Any) -> None:
    """Refuse what is no merge patch; as ``check_properties``, but ``null`` removes a name."""
    _refuse(patch_faults(patch))


def check_tags(document: Any) -> None:
    """Refuse what is no document of tags; as ``check_properties``."""
    _refuse(tag_faults(document))


def check_device_id(text: Any) -> None:
    """Refuse what cannot be the id of a device.

    Raises:
        UsageError: says the rule.
    """
    fault = device_id_fault(text)
    _refuse([fault] if fault else [])


def _refuse(faults: list[str]) -> None:
    if faults:
        raise UsageError(faults[0])


def device_id_fault(text: Any) -> str | None:
    """What is wrong with *text* as the id of a device, None if nothing is."""
    if isinstance(text, str) and _DEVICE_ID.fullmatch(text):
        return None
    return (
        f"deviceId: must be {limits.device_id_chars_min} to {limits.device_id_chars_max} of the"
        " characters 0-9, a-z, A-Z, '-', '_', '.'"
    )


def property_faults(document: Any, name: str = "values") -> list[str]:
    """What is wrong with a document of properties, one sentence each; empty for a good one.

    Args:
        document: the decoded value.
        name: what sentences call it.
    """
    return _faults(document, name, nulls=False, bytes_max=limits.properties_bytes_max)


def patch_faults(patch: Any, name: str = "patch") -> list[str]:
    """What is wrong with a merge patch; its names may be removed by ``null``."""
    return _faults(patch, name, nulls=True, bytes_max=limits.properties_bytes_max)


def tag_faults(document: Any, name: str = "tags") -> list[str]:
    """What is wrong with a document of tags."""
    faults = _faults(document, name, nulls=False, bytes_max=limits.tags_bytes_max)
    if isinstance(document, dict) and not faults:
        faults = [
            f"{name}.{key}: tags hold no objects and no arrays"
            for key, value in document.items()
            if isinstance(value, dict | list | tuple)
        ]
    return faults[:_FAULTS_MAX]


def merge_patch(document: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """*document* after *patch*, a new value (RFC 7396): ``null`` removes, objects are merged,
    everything else replaces.
    """
    merged = dict(document)
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        elif isinstance(value, Mapping):
            before = merged.get(name)
            merged[name] = merge_patch(before if isinstance(before, Mapping) else {}, value)
        else:
            merged[name] = value
    return merged


def _faults(document: Any, name: str, *, nulls: bool, bytes_max: int) -> list[str]:
    if not isinstance(document, dict):
        return [f"{name}: must be an object"]
    faults: list[str] = []
    _look(document, name, 1, faults, nulls)
    if not faults:
        size = len(_encoded(document))
        if size > bytes_max:
            faults.append(f"{name}: has {size} bytes as JSON, the limit is {bytes_max}")
    return faults[:_FAULTS_MAX]


def _encoded(document: Any) -> bytes:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def _look(value: Any, where: str, depth: int, faults: list[str], nulls: bool) -> None:
    """Add what is wrong with *value*, which stands at *where* on the level *depth*."""
    if len(faults) >= _FAULTS_MAX:
        return
    if not isinstance(value, dict | list | tuple):
        fault = _value_fault(value)
        faults.extend([f"{where}: {fault}"] if fault else [])
    elif depth > limits.properties_depth_max:
        faults.append(f"{where}: is deeper than {limits.properties_depth_max} levels")
    elif isinstance(value, dict):
        faults.extend(f"{where}: {fault}" for fault in map(_name_fault, value) if fault)
        for key, part in value.items():
            if part is not None or not nulls:
                _look(part, f"{where}.{str(key)[:64]}", depth + 1, faults, nulls)
    else:
        for at, part in enumerate(value):
            _look(part, f"{where}.{at}", depth + 1, faults, nulls=False)


def _name_fault(key: Any) -> str | None:
    if not isinstance(key, str) or not key:
        return "a name must be a text that is not empty"
    if not _is_text(key):
        return "a name holds half of a surrogate pair"
    if "." in key or "$" in key:
        return f"the name {key[:64]!r} holds '.' or '$'"
    return None


def _value_fault(value: Any) -> str | None:
    if isinstance(value, str):
        if not _is_text(value):
            return "holds half of a surrogate pair"
        size, most = len(value.encode()), limits.property_text_bytes_max
        return f"is a text of {size} bytes, the limit is {most}" if size > most else None
    if value is None:
        return "null is no value; in a patch it removes a name"
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        fits = limits.integer_min <= value <= limits.integer_max
        return None if fits else f"is beyond {limits.integer_min} … {limits.integer_max}"
    if isinstance(value, float):
        return None if math.isfinite(value) else "is no finite number"
    return f"a {type(value).__name__} is no value of JSON"


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
