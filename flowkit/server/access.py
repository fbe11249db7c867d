"""The Flow that a request is about, or the refusal that the caller gets instead.

Whether an object exists is not revealed to who may not read it: 404 then, whatever the verb; 403
only for what the caller may read and not change, and for making something under a path that it may
not write.

A Flow and its Drops are read by different rights. Whoever has the right that it asks for gets it,
whatever else it may do: Drops can be written where neither the Flow nor they can be read. A refusal
is 403 for who may read the Flow, or its Drops where it wants to write some.

Source: protocol 3.4 (404 before 403), 8.2 (flags), 1.5 (``public``).
"""

from __future__ import annotations

from flowkit.errors import BadRequest, Forbidden, NotFound
from flowkit.protocol.envelope import NOT_LOCATED
from flowkit.protocol.resources import normal_path
from flowkit.server.auth import Action, Credential, may
from flowkit.server.checking import PATH_RULE
from flowkit.server.store.base import Reader, StoredFlow

__all__ = ["checked_path", "demand", "flow_at", "flow_with_id", "is_readable"]


def is_readable(flow: StoredFlow, who: Credential, action: Action = "read") -> bool:
    """Whether *who* may do that reading *action* on *flow*."""
    return bool(may(who, action, flow.path, public=bool(flow.doc.get("public"))))


def flow_with_id(reader: Reader, who: Credential, flow_id: str, action: Action) -> StoredFlow:
    """The flow with that id, if *who* may do *action* on it.

    Raises:
        NotFound: there is none that *who* may read.
        Forbidden: *who* may read it, but not do that.
    """
    return _allowed(reader.flow(flow_id), who, action)


def flow_at(reader: Reader, who: Credential, path: str, action: Action) -> StoredFlow:
    """The flow at that normalised path; refusals as in ``flow_with_id``."""
    return _allowed(reader.flow_at(path), who, action)


def _allowed(flow: StoredFlow | None, who: Credential, action: Action) -> StoredFlow:
    if flow is None:
        raise NotFound(NOT_LOCATED)
    verdict = may(who, action, flow.path, public=bool(flow.doc.get("public")))
    if verdict:
        return flow
    if is_readable(flow, who) or (action == "dropWrite" and is_readable(flow, who, "dropRead")):
        raise Forbidden(verdict.why_not)
    raise NotFound(NOT_LOCATED)


def demand(who: Credential, action: Action, path: str, *, public: bool = False) -> None:
    """Refuse with the reason unless *who* may do *action* at *path*."""
    verdict = may(who, action, path, public=public)
    if not verdict:
        raise Forbidden(verdict.why_not)


def checked_path(text: object) -> str:
    """A path of a parameter, normalised.

    Raises:
        BadRequest: it is no path.
    """
    path = normal_path(text) if isinstance(text, str) else None
    if path is None:
        raise BadRequest(f"path: {PATH_RULE}")
    return path
