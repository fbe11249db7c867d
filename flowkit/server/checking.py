"""Bodies against the table of ``protocol/resources.py``: what may be stored, and every fault.

One sentence per fault, naming the member first; all faults of a body at once. What is not a fault
but was not followed either (an unknown member, one that the server sets) becomes a note, shown in
``head.messages``, so that ``capcity: 5`` is not lost in silence.

Source: protocol 1 (members), 2 (elements), 3.4 (one sentence per fault), 1.2 (unknown members).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from flowkit import limits
from flowkit.errors import BadRequest, FilterSyntaxError, UsageError
from flowkit.protocol.resources import Kind, Member, Resource, is_id, normal_path
from flowkit.query.match import predicate
from flowkit.query.parse import parse
from flowkit.server.elements import read_location, read_typed

__all__ = [
    "NOTES_MAX",
    "PATH_RULE",
    "Checked",
    "check_create",
    "check_ids",
    "check_many",
    "check_member",
    "check_object",
    "check_update",
    "filter_fault",
    "notes_for_unknown",
    "settle",
]

NOTES_MAX = 20
"""Most notes about one request; more would only repeat."""

PATH_RULE = "must be /<account>/<name>/… of a-z, 0-9, '_', ':', '.', '-', at most 128 characters"


@dataclass(slots=True)
class Checked:
    """A body that may be stored.

    Attributes:
        members: the members that it names and that a caller may choose, normalised; None unsets.
        types: the types of typed elements, None if the body names no elements.
        ignored: what it says about members that the server sets.
        notes: sentences for ``head.messages``.
    """

    members: dict[str, Any] = field(default_factory=dict)
    types: Mapping[str, str] | None = None
    ignored: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def check_object(body: Any, what: str = "body") -> dict[str, Any]:
    """*body*, if it is an object."""
    if not isinstance(body, dict):
        raise BadRequest(f"{what}: must be an object")
    return body


def check_create(resource: Resource, body: Any, *, typed: bool = False) -> Checked:
    """Check the body of a create; defaults are filled in and unset members left out.

    Args:
        resource: what is made.
        body: the decoded body.
        typed: whether elements may be typed (``v0.*``).

    Raises:
        BadRequest: one sentence per fault.
    """
    checked, faults = _check(resource, check_object(body), typed)
    checked.members = {name: value for name, value in checked.members.items() if value is not None}
    for member in resource.members.values():
        if member.name in checked.members or member.read_only:
            continue
        if member.required and not _named_in(member.name, faults):
            faults.append(f"{member.name}: is required")
        if member.default is not None:
            checked.members[member.name] = member.default
    if faults:
        raise BadRequest(*faults)
    _note_server_set(checked, {})
    return checked


def check_update(resource: Resource, body: Any, *, typed: bool = False) -> Checked:
    """Check the body of an update: only what it names is looked at, null unsets."""
    checked, faults = _check(resource, check_object(body), typed)
    for name, value in checked.members.items():
        member = resource.members[name]
        if value is None and member.required:
            faults.append(f"{name}: cannot be unset")
        elif value is None and member.default is not None:
            checked.members[name] = member.default
    if faults:
        raise BadRequest(*faults)
    return checked


def settle(resource: Resource, checked: Checked, current: Mapping[str, Any]) -> dict[str, Any]:
    """The changes that *checked* makes to *current*.

    An immutable member may be repeated but not changed; a member that the server sets is ignored,
    with a note if it differs.

    Raises:
        BadRequest: an immutable member would change, or the body names another object.
    """
    faults = [
        f"{name}: cannot be changed, it is {current.get(name)}"
        for name, value in checked.members.items()
        if resource.members[name].immutable and value != current.get(name)
    ]
    if checked.ignored.get("id", current["id"]) != current["id"]:
        faults.append("id: is not the id in the address")
    if faults:
        raise BadRequest(*faults)
    _note_server_set(checked, current)
    members = resource.members
    return {name: val for name, val in checked.members.items() if not members[name].immutable}


def check_ids(body: Any) -> list[str]:
    """The body of an MGET: an array of ids."""
    if not isinstance(body, list) or not all(isinstance(entry, str) for entry in body):
        raise BadRequest("body: must be an array of ids")
    if len(body) > limits.many_ids_max:
        raise BadRequest(f"body: has {len(body)} ids, the limit is {limits.many_ids_max}")
    return list(dict.fromkeys(body))


def check_many(body: Any, check: Callable[[Any], Checked]) -> dict[str, Checked]:
    """The body of an MPUT: a map from id to changes, each checked; faults name the id."""
    if len(check_object(body)) > limits.many_ids_max:
        raise BadRequest(f"body: has {len(body)} ids, the limit is {limits.many_ids_max}")
    checked: dict[str, Checked] = {}
    faults: list[str] = []
    for key, changes in body.items():
        try:
            checked[key] = check(changes)
        except BadRequest as error:
            faults.extend(f"{key[:64]}.{sentence}" for sentence in error.errors)
    if faults:
        raise BadRequest(*faults[:100])
    return checked


def check_member(resource: Resource, name: str, body: Any) -> dict[str, Any]:
    """The body of a member update: exactly the member that the address names.

    Raises:
        BadRequest: it has another member, or the member is not a caller's to change.
    """
    others = [other for other in check_object(body) if other != name]
    faults = [f"{other[:64]}: is not the member in the address" for other in others]
    if name in resource.server_set:
        faults.append(f"{name}: is set by the server")
    elif name not in resource.members:
        faults.append(f"{name[:64]}: is not a member of this resource")
    elif name not in body:
        faults.append(f"{name[:64]}: is missing from the body")
    if faults:
        raise BadRequest(*faults[:20])
    return {name: body[name]}


def filter_fault(error: UsageError) -> BadRequest:
    """A fault that only running a filter shows, such as a postal code that is not known."""
    said = str(error)
    return BadRequest(said if said.startswith("filter:") else f"filter: {said}")


def notes_for_unknown(names: Any, what: str) -> list[str]:
    """One note per unknown name, bounded in number and length."""
    notes = [f"{str(name)[:64]}: is not {what} and was ignored" for name in names]
    return notes[:NOTES_MAX]


def _note_server_set(checked: Checked, current: Mapping[str, Any]) -> None:
    checked.notes.extend(
        f"{name}: is set by the server and was ignored"
        for name, value in checked.ignored.items()
        if value is not None and value != current.get(name)
    )


def _named_in(name: str, faults: list[str]) -> bool:
    return any(fault.startswith((f"{name}:", f"{name}.")) for fault in faults)


def _check(resource: Resource, body: dict[str, Any], typed: bool) -> tuple[Checked, list[str]]:
    checked = Checked()
    faults: list[str] = []
    article = "an" if resource.name[0] in "aeiou" else "a"
    unknown = [name for name in body if name not in resource.members]
    checked.notes = notes_for_unknown(unknown, f"a member of {article} {resource.name}")
    for name, member in resource.members.items():
        if name not in body:
            continue
        value = body[name]
        if member.read_only:
            checked.ignored[name] = value
        elif value is None:
            checked.members[name] = None
        elif member.kind == "elems":
            _check_elems(value, typed, checked, faults)
        else:
            checked.members[name] = _CHECKS[member.kind](value, member, faults, checked.notes)
    return checked, faults


def _check_elems(value: Any, typed: bool, checked: Checked, faults: list[str]) -> None:
    if not isinstance(value, dict):
        faults.append("elems: must be an object")
        return
    checked.members["elems"], checked.types = value, {}
    if typed:
        try:
            checked.members["elems"], checked.types = read_typed(value)
        except BadRequest as error:
            faults.extend(error.errors)


# The kinds. Each check takes (value, member, faults, notes) and returns what may be stored.

_Check = Callable[[Any, Member, list[str], list[str]], Any]


def _as_it_is(value: Any, member: Member, faults: list[str], notes: list[str]) -> Any:
    del member, faults, notes
    return value


def _instance(kind: type, what: str) -> _Check:
    def check(value: Any, member: Member, faults: list[str], notes: list[str]) -> Any:
        del notes
        if not isinstance(value, kind):
            faults.append(f"{member.name}: must be {what}")
        return value

    return check


def _string(value: Any, member: Member, faults: list[str], notes: list[str]) -> Any:
    del notes
    most = member.chars_max
    if not isinstance(value, str):
        faults.append(f"{member.name}: must be a string")
    elif most is not None and len(value) > most:
        faults.append(f"{member.name}: must have at most {most} characters")
    return value


def _integer(value: Any, member: Member, faults: list[str], notes: list[str]) -> Any:
    del notes
    low, high = member.low, member.high
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        value = int(value)  # 5.0 is how some JSON writers say 5
    if not isinstance(value, int) or isinstance(value, bool):
        faults.append(f"{member.name}: must be a whole number")
    elif low is not None and high is not None and not low <= value <= high:
        faults.append(f"{member.name}: must be between {low} and {high}")
    elif low is not None and value < low:
        faults.append(f"{member.name}: must be at least {low}")
    return value


def _filter(value: Any, member: Member, faults: list[str], notes: list[str]) -> Any:
    del notes
    if not isinstance(value, str):
        faults.append(f"{member.name}: must be the text of a filter")
        return value
    try:
        predicate(parse(value))  # compiled once, so that nothing can be wrong with it later
    except FilterSyntaxError as error:
        faults.append(f"{member.name}: {error.summary}")
    except UsageError as error:
        faults.append(f"{member.name}: {error}")
    except BadRequest as error:
        faults.extend(error.errors)
    return value


def _path(value: Any, member: Member, faults: list[str], notes: list[str]) -> Any:
    del notes
    path = normal_path(value) if isinstance(value, str) else None
    if path is None:
        faults.append(f"{member.name}: {PATH_RULE}")
    return path


def _destinations(value: Any, member: Member, faults: list[str], notes: list[str]) -> Any:
    if isinstance(value, list):
        return [_path(entry, member, faults, notes) for entry in value]
    return _path(value, member, faults, notes)


def _id(value: Any, member: Member, faults: list[str], notes: list[str]) -> Any:
    del notes
    if not is_id(value):
        faults.append(f"{member.name}: must be an id")
    return value


def _ids(value: Any, member: Member, faults: list[str], notes: list[str]) -> Any:
    del notes
    if not isinstance(value, list) or not all(is_id(entry) for entry in value):
        faults.append(f"{member.name}: must be an array of ids")
    return value


def _location(value: Any, member: Member, faults: list[str], notes: list[str]) -> Any:
    return read_location(value, member.name, faults, notes)


_CHECKS: Mapping[Kind, _Check] = {
    "any": _as_it_is,
    "array": _instance(list, "an array"),
    "boolean": _instance(bool, "true or false"),
    "destinations": _destinations,
    "filter": _filter,
    "grants": _instance(dict, "an object of paths"),
    "id": _id,
    "ids": _ids,
    "integer": _integer,
    "location": _location,
    "object": _instance(dict, "an object"),
    "path": _path,
    "string": _string,
}
"""How the value of each kind is checked; ``elems`` is missing because it also yields types."""
