"""The endpoint of statistics: ``GET /statistics/<type>/<id>[/<year>[/<month>[/<day>]]]``.

It runs on the writer, although it changes nothing: there alone it sees the counts that still wait
for a commit, so the numbers are exact. The call that asks is counted before it is answered.

Who may read a Flow, or the source of a Track, may read its statistics; those of an Identity are for
its owner alone.

Source: protocol 10 (statistics), 8.2 (Tokens), 3.4 (404 before 403).
"""

from __future__ import annotations

from typing import Any

from flowkit.errors import BadRequest, Forbidden, NotFound
from flowkit.protocol.envelope import NOT_LOCATED
from flowkit.server.access import flow_with_id, is_readable
from flowkit.server.auth import Credential
from flowkit.server.call import Call, Result, Work
from flowkit.server.statistics import KINDS, added_up, read_level, read_period
from flowkit.server.store.base import Reader, Writer

__all__ = ["count"]


def count(call: Call) -> Work:
    """Counts per period, as a list of whole numbers."""
    kind, object_id = call.args["type"], call.args["id"]
    if kind not in KINDS:
        raise BadRequest(f"type: must be one of {', '.join(KINDS)}, not {kind[:40]!r}")
    period = read_period(call.args)
    level = read_level(call.params.get("level"))
    call.query()  # tells of parameters that are not known

    def work(writer: Writer, who: Credential) -> Result:
        doc = _readable(writer, who, KINDS[kind], object_id)
        bounds = period.bounds(level, int(doc["creationDate"]), call.now_ms)
        counts = writer.statistics(kind, object_id, bounds[0], bounds[-1])
        return Result(added_up(counts, bounds))

    return work


def _readable(reader: Reader, who: Credential, resource: str, object_id: str) -> dict[str, Any]:
    """The object, if *who* may read its statistics.

    Raises:
        NotFound: there is none that *who* may read.
        Forbidden: it is an Identity, and *who* is not its owner.
    """
    if resource == "flow":
        return flow_with_id(reader, who, object_id, "read").doc
    if resource == "track":
        return _track(reader, who, object_id)
    identity = reader.identity(object_id)
    is_own = object_id == who.account.identity_id
    if identity is None or not (who.is_owner or is_own):
        raise NotFound(NOT_LOCATED)
    if not is_own or not who.is_owner:
        raise Forbidden("id: statistics of an Identity are for its owner alone")
    return identity


def _track(reader: Reader, who: Credential, track_id: str) -> dict[str, Any]:
    """A Track of the account, or one whose source *who* may read."""
    found = reader.object("track", track_id)
    if found is None:
        raise NotFound(NOT_LOCATED)
    if who.is_owner and found.account == who.account.name:
        return found.doc
    source = reader.flow_at(str(found.doc["source"]))
    if source is None or not is_readable(source, who):
        raise NotFound(NOT_LOCATED)
    return found.doc
