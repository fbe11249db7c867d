"""Tasks: API tasks, RSS tasks and MQTT connections; what is particular about them.

A task writes to its destination, or reads its source, with the rights of who made it; they are
looked at when it is saved and at each run. Its reports go to a system Flow of its own, which goes
with it. The password of a connection is kept apart and shown to nobody.

Source: protocol 1.12 (tasks), 1.13 (report Flows), 7 (tasks), 8.2 (rights).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from flowkit import limits
from flowkit.errors import BadRequest, Forbidden
from flowkit.server.access import demand
from flowkit.server.auth import Credential
from flowkit.server.call import Call
from flowkit.server.checking import Checked
from flowkit.server.handlers.objects import demand_master, noun_of
from flowkit.server.handlers.verbs import Noun
from flowkit.server.store.base import Reader, StoredObject, Writer
from flowkit.server.tasks.runs import report_path

__all__ = ["API_TASK", "MQTT_TASK", "RSS_TASK"]

_MQTT_SCHEMES = frozenset({"tcp", "mqtt", "mqtts", "ssl"})
_NOT_RUN_YET = {"lastRun": 0, "nextRun": 0, "runCt": 0}
_SECRET = "password"  # noqa: S105 - the name of a member
_BY_CLOCK = frozenset({"api_task", "rss_task"})

_MAKERS_OWN = frozenset({"js", "uri", "host", "username", "password", "clientId"})
"""What only the account that made a task may change: a script runs with its rights, and a password
goes to whatever broker is named."""

_NO_CREDENTIALS = "must hold no user name and no password"


def _check(_call: Call, checked: Checked) -> None:
    """What a body can have wrong by itself."""
    members = checked.members
    faults: list[str] = []
    url = members.get("url")
    if url is not None and not _is_url(url, frozenset({"http", "https"})):
        faults.append("url: must begin with http:// or https:// and name a host")
    uri = members.get("uri")
    if uri is not None and not _is_url(uri, _MQTT_SCHEMES):
        faults.append("uri: must be like tcp://broker:1883 (tcp, mqtt, mqtts or ssl)")
    faults += [
        f"{name}: {_NO_CREDENTIALS}, answers show it"
        for name in ("url", "uri")
        if "@" in _authority(members.get(name))
    ]
    js = members.get("js")
    if js is not None and len(js) > limits.script_chars_max:
        faults.append(f"js: must have at most {limits.script_chars_max} characters")
    if faults:
        raise BadRequest(*faults)


def _authority(text: str | None) -> str:
    """The part of a URL that may hold credentials; empty if it cannot be read."""
    try:
        return urlsplit(text or "").netloc
    except ValueError:
        return ""


def _is_url(text: str, schemes: frozenset[str]) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _demand_rights(
    reader: Reader, who: Credential, kind: str, doc: Mapping[str, Any], before: Mapping[str, Any]
) -> None:
    """Refuse a task whose Flow is not there, or that may not write or read it."""
    named = [name for name in ("destination", "source") if doc.get(name) is not None]
    if kind == "mqtt_task" and len(named) != 1:
        raise BadRequest("destination: exactly one of destination and source is required")
    for name in named:
        path = doc[name]
        flow = reader.flow_at(path)
        public = flow is not None and bool(flow.doc.get("public"))
        demand(who, "dropWrite" if name == "destination" else "dropRead", path, public=public)
        if flow is None and before.get(name) != path:
            raise BadRequest(f"{name}: there is no Flow at {path}")


def _noun(kind: str) -> Noun:
    def create(writer: Writer, who: Credential, call: Call, checked: Checked) -> StoredObject:
        demand_master(who, "make a Task")
        members = dict(checked.members)
        _demand_rights(writer, who, kind, members, {})
        state: dict[str, Any] = {"typed": True} if call.typed else {}
        if _SECRET in members:
            state[_SECRET] = members.pop(_SECRET)
        made = writer.create_object(
            kind, who.account.name, members, creator=who.account.identity_id, state=state
        )
        path = report_path(made.account, made.id)
        flow = writer.create_flow(
            {"path": path, "capacity": limits.reports_capacity}, creator=who.account.identity_id
        )
        own = {"reportFlowId": flow.id, "reportPath": path}
        return writer.update_object(
            made, own | (_NOT_RUN_YET if kind in _BY_CLOCK else {}), editor=None
        )

    def change(
        writer: Writer,
        who: Credential,
        found: StoredObject,
        changes: Mapping[str, Any],
        _call: Call,
    ) -> StoredObject:
        changes = dict(changes)
        touched = sorted(name for name in _MAKERS_OWN.intersection(changes))
        if touched and found.account != who.account.name:
            raise Forbidden(f"{touched[0]}: only the account that made this Task may change it")
        merged = {**found.doc, **changes}
        _demand_rights(writer, who, kind, merged, found.doc)
        state = None
        if _SECRET in changes:
            secret = changes.pop(_SECRET)
            state = {name: value for name, value in found.state.items() if name != _SECRET}
            state |= {} if secret is None else {_SECRET: secret}
        if kind in _BY_CLOCK and any(
            name in changes and changes[name] != found.doc.get(name)
            for name in ("js", "url", "destination", "periodicity", "disabled")
        ):
            changes["nextRun"] = 0  # what it does was changed: it runs at once, as a new one does
        return writer.update_object(found, changes, editor=who.account.identity_id, state=state)

    def remove(writer: Writer, _who: Credential, found: StoredObject) -> None:
        reports = writer.flow_at(report_path(found.account, found.id))
        if reports is not None:
            writer.delete_flow(reports)
        writer.delete_object(found)

    return noun_of(kind, check=_check, create=create, change=change, remove=remove)


API_TASK = _noun("api_task")
"""The noun of API tasks."""

RSS_TASK = _noun("rss_task")
"""The noun of RSS tasks."""

MQTT_TASK = _noun("mqtt_task")
"""The noun of MQTT connections."""
