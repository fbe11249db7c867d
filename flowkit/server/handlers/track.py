"""Tracks: what is particular about them.

A Track runs with the rights of who made it: ``dropRead`` on its source, ``dropWrite`` on every
destination. They are looked at when it is saved, for who saves it and for its maker, and again at
each run. Who saves it under ``v0.*`` gets a script that sees typed elements.

Source: protocol 1.6 (Track), 6.3 (without scripts), 8.2 (what a Track needs), 6.5 (loops).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flowkit import limits
from flowkit.errors import BadRequest, Forbidden
from flowkit.server.access import demand
from flowkit.server.auth import Credential, credential_of
from flowkit.server.call import Call
from flowkit.server.checking import Checked
from flowkit.server.handlers.flow import check_places
from flowkit.server.handlers.objects import demand_master, noun_of
from flowkit.server.store.base import Reader, StoredObject, Writer
from flowkit.server.tracks import can_only_loop, destinations_of

__all__ = ["TRACK", "check_definition", "demand_rights"]

NOT_ENABLED = "js: JavaScript Tracks are not enabled"

LOOPS = (
    "This Track can only loop: each Drop that it writes leads to another one at its source, until"
    f" {limits.track_hops_max} Tracks have been run"
)

OTHERS_SCRIPT = (
    "js: only the account that made this Track may change it, since it runs with that one's rights"
)

_RUN = ("source", "destination", "filter", "js")
"""What a change of asks for the rights of a run; a Track may be disabled without them."""


def check_definition(call: Call, checked: Checked) -> None:
    """Look at what can be wrong with a definition by itself.

    Raises:
        BadRequest: one sentence per fault.
    """
    check_places(call, checked)
    faults: list[str] = []
    destinations = destinations_of(checked.members)
    if len(destinations) > limits.track_destinations_max:
        faults.append(
            f"destination: has {len(destinations)} paths, the limit is"
            f" {limits.track_destinations_max}"
        )
    if checked.members.get("destination") == []:
        faults.append("destination: names no path")
    js = checked.members.get("js")
    if js:
        faults += _script_faults(call, js)
    if faults:
        raise BadRequest(*faults)


def _script_faults(call: Call, js: str) -> list[str]:
    if len(js) > limits.script_chars_max:
        return [f"js: must have at most {limits.script_chars_max} characters"]
    if call.scripts is None or not call.scripts.is_available:
        return [NOT_ENABLED] if call.settings.strict_scripts else []
    return []


def demand_rights(
    reader: Reader, who: Credential, track: Mapping[str, Any], *, before: Mapping[str, Any] = {}
) -> None:
    """Refuse a Track that may not read and write its Flows, or names one that is not there.

    Args:
        reader: the transaction.
        who: for whom.
        track: the definition.
        before: the Track as it stands; a Flow that it names already may have gone since (1.5).

    Raises:
        BadRequest: a Flow is not there, or there is no destination and no script to say one.
        Forbidden: *who* lacks a right.
    """
    faults: list[str] = []
    destinations = destinations_of(track)
    if not destinations and not track.get("js"):
        faults.append("destination: is required where there is no js")
    named = {before.get("source"), *destinations_of(before)}
    for member, path in [
        ("source", track["source"]),
        *(("destination", to) for to in destinations),
    ]:
        flow = reader.flow_at(path)
        public = flow is not None and bool(flow.doc.get("public"))
        demand(who, "dropRead" if member == "source" else "dropWrite", path, public=public)
        if flow is None and path not in named:
            faults.append(f"{member}: there is no Flow at {path}")
    if faults:
        raise BadRequest(*faults)


def _warn(reader: Reader, call: Call, track: Mapping[str, Any]) -> None:
    def certain_from(path: str) -> list[Mapping[str, Any]]:
        """The Tracks of a Flow that lets everything in."""
        flow = reader.flow_at(path)
        if flow is None or flow.doc.get("filter"):
            return []
        return [one.doc for one in reader.tracks_from(path)]

    if can_only_loop(track, certain_from):
        call.note([LOOPS])


def _create(writer: Writer, who: Credential, call: Call, checked: Checked) -> StoredObject:
    demand_master(who, "make a Track")
    demand_rights(writer, who, checked.members)
    made = writer.create_object(
        "track",
        who.account.name,
        checked.members,
        creator=who.account.identity_id,
        state={"typed": True} if call.typed else None,
    )
    _warn(writer, call, made.doc)
    return made


def _change(
    writer: Writer, who: Credential, found: StoredObject, changes: Mapping[str, Any], call: Call
) -> StoredObject:
    merged = {name: value for name, value in {**found.doc, **changes}.items() if value is not None}
    if any(merged.get(name) != found.doc.get(name) for name in _RUN):
        demand_rights(writer, who, merged, before=found.doc)
        if found.account != who.account.name:
            _check_for_creator(writer, who, found, merged)
    state = {**found.state, "typed": True} if call.typed and "js" in changes else None
    if not call.typed and "js" in changes and found.state.get("typed"):
        state = {name: value for name, value in found.state.items() if name != "typed"}
    changed = writer.update_object(found, changes, editor=who.account.identity_id, state=state)
    _warn(writer, call, changed.doc)
    return changed


def _check_for_creator(
    reader: Reader, who: Credential, found: StoredObject, merged: Mapping[str, Any]
) -> None:
    """The Track of another account must go on being one that its maker may run.

    Its script is that account's alone: it could read and write whatever that one may.
    """
    if merged.get("js") is not None and merged.get("js") != found.doc.get("js"):
        raise Forbidden(OTHERS_SCRIPT)
    account = reader.account(found.account)
    try:
        if account is None:
            raise Forbidden
        demand_rights(reader, credential_of(reader, account, who.at_ms), merged, before=found.doc)
    except Forbidden:
        raise Forbidden(
            "The account that made this Track may not read and write its Flows"
        ) from None


def _shown(reader: Reader, _who: Credential, found: StoredObject, _call: Call) -> dict[str, Any]:
    """With what went wrong at its runs, which is no part of the protocol."""
    state = reader.track_state(found.id)
    more = {
        "failureCt": state.failures or None,
        "skippedCt": state.skipped or None,
        "lastFailure": state.last_failure,
        "lastFailureDate": state.last_failure_at,
    }
    return found.doc | {name: value for name, value in more.items() if value is not None}


TRACK = noun_of("track", check=check_definition, create=_create, change=_change, shown=_shown)
"""The noun of Tracks."""
