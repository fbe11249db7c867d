"""Streams: where devices send messages to, in groups; each is a flow.

A stream has a name in a group. Messages that name no group go to the account's default group, those
that name no stream to the default one of their group; the first message that needs them makes
``default`` in ``default``. What a stream receives are drops in its flow, whose path is made of
the two names; the completions of batches are drops in the flow ``batches`` below it. The flows
of a stream that is deleted stay.

A stream is its owner's; a device may send to every stream of its account, and change none.

Source: ``docs/reference/streams.rst``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from flowkit import limits
from flowkit.errors import BadRequest, NotFound
from flowkit.protocol.envelope import NOT_LOCATED
from flowkit.protocol.resources import normal_path
from flowkit.server.announce import announce
from flowkit.server.auth import Credential
from flowkit.server.autofill import BATCH, MESSAGE, check_pattern
from flowkit.server.call import Call, Result, Work
from flowkit.server.checking import Checked
from flowkit.server.handlers.objects import demand_master, noun_of, owns
from flowkit.server.store.base import Reader, StoredFlow, StoredObject, Writer

__all__ = ["STREAM", "batches_path", "flow_of", "open_work", "stream_for"]

CONCATENATIONS = ("none", "plain", "newline")
"""What a batch's payloads become once it is complete: nothing, one, one with lines."""

DEFAULT = "default"
"""The name of the group and of the stream that are made when a message needs them."""

_PLAIN = re.compile("[a-z0-9_.-]")
_BATCHES = "batches"


def path_of(account: str, group: str, name: str) -> str:
    """The path of a stream's flow; what a path cannot have becomes ``:`` and two digits a byte.

    Raises:
        BadRequest: it would be too long.
    """
    path = f"/{account}/streams/{_segment(group)}/{_segment(name)}"
    if normal_path(f"{path}/{_BATCHES}") is None:
        raise BadRequest(
            f"name: the path of the stream would be {path},"
            f" and a path has at most {limits.path_chars_max} characters"
        )
    return path


def _segment(text: str) -> str:
    """A name as one segment, another one for every other name.

    A flow with a segment that begins with a colon is the system's; so an underscore stands before
    a name that would begin with one, and one that begins with an underscore is such a name.
    """
    parts = ["".join(f":{byte:02x}" for byte in char.encode()) for char in text]
    plain = [_PLAIN.fullmatch(char) is not None for char in text]
    plain[0] = plain[0] and text[0] != "_" and text.strip(".") != ""
    segment = "".join(
        char if is_plain else part for char, part, is_plain in zip(text, parts, plain, strict=True)
    )
    return segment if plain[0] else f"_{segment}"


def batches_path(stream: StoredObject) -> str:
    """Where the completions of a stream's batches go."""
    return f"{stream.doc['path']}/{_BATCHES}"


def flow_of(writer: Writer, who: Credential, path: str) -> StoredFlow:
    """The flow at a path of a stream, made if it is not there (any more)."""
    flow = writer.flow_at(path)
    if flow is None:
        members = {"path": path, "capacity": limits.flow_capacity_max}
        flow = writer.create_flow(members, creator=who.account.identity_id)
        announce(writer, who, "CREATE", "flow", flow.doc)
    return flow


def stream_for(
    writer: Writer, who: Credential, group: str | None, name: str | None
) -> StoredObject:
    """The stream that a message names, or does not name.

    Raises:
        BadRequest: there is none; for good, so that a sender puts the message aside.
    """
    account = who.account.name
    found = writer.messages.stream_id(account, group, name)
    if found is None and name is None and group in (None, DEFAULT):
        return _default(writer, who, group)
    stream = writer.object("stream", found) if found is not None else None
    if stream is None:
        said = "no group" if group is None else f"the group {group!r}"
        wanted = "no default stream" if name is None else f"no stream {name!r}"
        raise BadRequest(f"message.stream: there is {wanted} in {said}")
    return stream


def _default(writer: Writer, who: Credential, group: str | None) -> StoredObject:
    """The stream ``default`` of the group ``default``, made for a message that needs it."""
    found = writer.messages.stream_id(who.account.name, DEFAULT, DEFAULT)
    stream = writer.object("stream", found) if found is not None else None
    if stream is not None and group is not None:
        raise BadRequest(f"message.stream: there is no default stream in the group {group!r}")
    if stream is not None:
        return stream
    members = {
        "group": DEFAULT,
        "name": DEFAULT,
        "isDefault": True,
        "isDefaultGroup": True,
        "messageIdPattern": "{uuid}",
        "concatenation": "none",
    }
    return _made(writer, who, members)


def _made(writer: Writer, who: Credential, members: Mapping[str, Any]) -> StoredObject:
    account = who.account.name
    path = path_of(account, members["group"], members["name"])
    if writer.messages.stream_id(account, members["group"], members["name"]) is not None:
        raise BadRequest(
            f"name: there is a stream {members['name']!r} in the group {members['group']!r} already"
        )
    flow_of(writer, who, path)
    made = writer.create_object(
        "stream", account, {**members, "path": path}, creator=who.account.identity_id
    )
    _unset_others(writer, made)
    return made


def _unset_others(writer: Writer, stream: StoredObject) -> None:
    """One default stream in a group, one default group in an account."""
    if not (stream.doc.get("isDefault") or stream.doc.get("isDefaultGroup")):
        return
    for other in writer.objects("stream", account=stream.account):
        is_beside = other.doc["group"] == stream.doc["group"] and stream.doc.get("isDefault")
        changes: dict[str, Any] = {}
        if other.id != stream.id and other.doc.get("isDefault") and is_beside:
            changes["isDefault"] = None
        if other.id != stream.id and other.doc.get("isDefaultGroup"):
            changes |= {"isDefaultGroup": None} if stream.doc.get("isDefaultGroup") else {}
        if changes:
            writer.update_object(other, changes, editor=None)


# The resource


def _seen(_reader: Reader, who: Credential, found: StoredObject) -> bool:
    return owns(who, found)


def _shown(reader: Reader, _who: Credential, found: StoredObject, _call: Call) -> dict[str, Any]:
    flow = reader.flow_at(found.doc["path"])
    return found.doc | ({"flowId": flow.id} if flow is not None else {})


def _check(_call: Call, checked: Checked) -> None:
    members = checked.members
    faults = [
        f"{name}: must have at least one character"
        for name in ("group", "name")
        if members.get(name) == ""
    ]
    if members.get("concatenation") not in (None, *CONCATENATIONS):
        faults.append(f"concatenation: must be one of {', '.join(CONCATENATIONS)}")
    for name, known in (("messageIdPattern", MESSAGE), ("batchIdPattern", BATCH)):
        if members.get(name) is not None:
            faults.extend(check_pattern(name, members[name], known))
    if faults:
        raise BadRequest(*faults)


def _create(writer: Writer, who: Credential, _call: Call, checked: Checked) -> StoredObject:
    demand_master(who, "make a Stream")
    return _made(writer, who, checked.members)


def _change(
    writer: Writer, who: Credential, found: StoredObject, changes: Mapping[str, Any], _call: Call
) -> StoredObject:
    made = writer.update_object(found, changes, editor=who.account.identity_id)
    _unset_others(writer, made)
    return made


STREAM = noun_of("stream", seen=_seen, shown=_shown, check=_check, create=_create, change=_change)
"""The noun of Streams."""


# What is open in it


def open_work(call: Call) -> Work:
    """``GET /stream/<id>/open``: batches and messages in chunks that are not complete."""
    call.query()  # tells of parameters that are not known

    def work(reader: Reader, who: Credential) -> Result:
        stream = reader.object("stream", call.args["id"])
        if stream is None or not owns(who, stream):
            raise NotFound(NOT_LOCATED)
        feeds = reader.messages.feeds(stream.id)
        batches = [
            {
                "device": feed.device,
                "batch": feed.batch,
                "since": feed.since_ms,
                "messages": feed.messages,
                "bytes": feed.bytes,
            }
            for feed in feeds
            if feed.batch is not None
        ]
        messages = [
            {
                "device": each.device,
                **({"batch": each.batch} if each.batch else {}),
                "message": each.message,
                "chunks": each.chunks,
                "bytes": reader.pieces.size(each.body),
                "at": each.at_ms,
            }
            for each in reader.messages.assemblies(stream.id)
        ]
        conflicts = sum(feed.conflicts for feed in feeds)
        return Result({"batches": batches, "messages": messages, "conflicts": conflicts})

    return work
