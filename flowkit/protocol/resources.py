"""The resources of the platform: their routes, id prefixes and members, as one table.

Both shells read it. The server checks bodies against it (``flowkit/server/checking.py``), the
client leaves out of an update what the server sets. A fact about a member stands here and nowhere
else; the bounds themselves stand in ``flowkit/limits.py``.

How the flags of a member differ:

* ``read_only``: set by the server; in a body it is ignored, whatever it says;
* ``immutable``: chosen by the caller on create; an update may repeat it but not change it;
* ``required``: a create without it is refused.

Source: protocol 1.2 to 1.12 (data model), 3.5 (routes).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from flowkit import limits

__all__ = [
    "BY_ROUTE",
    "ID",
    "PREFIXES",
    "RESOURCES",
    "Kind",
    "Member",
    "Resource",
    "is_id",
    "normal_path",
]

Kind = Literal[
    "any",
    "array",
    "boolean",
    "destinations",
    "elems",
    "filter",
    "grants",
    "id",
    "ids",
    "integer",
    "location",
    "object",
    "path",
    "string",
]
"""What a member's value is: JSON's own kinds, and those with a rule of their own.

``destinations`` is a path or a list of paths (1.6), ``elems`` an object of element values (2),
``filter`` the text of a filter (4), ``grants`` a map from path to flags (1.9), ``id`` and ``ids``
identifiers (1.1), ``location`` a place (2.4), ``path`` a Flow path (1.3).
"""

ID = re.compile(r"[a-z][0-9a-f]{24}")
"""An identifier: the prefix letter of its resource and 24 hexadecimal digits (1.1)."""

_PATH = re.compile(r"(/[a-z0-9_:.-]+){2,}")


@dataclass(frozen=True, slots=True)
class Member:
    """One member of a resource.

    Attributes:
        name: as it stands on the wire.
        kind: what its value is.
        required: a create must have it.
        read_only: set by the server.
        immutable: cannot be changed after the create.
        default: the value of a new object that names none; None: the member is left out.
        low, high: bounds of an integer, both inclusive.
        chars_max: the most characters of a string.
    """

    name: str
    kind: Kind
    required: bool = False
    read_only: bool = False
    immutable: bool = False
    default: Any = None
    low: int | None = None
    high: int | None = None
    chars_max: int | None = None


@dataclass(frozen=True, slots=True)
class Resource:
    """One kind of object.

    Attributes:
        name: the name of the client's service: ``flow``, ``api_task`` …
        route: the segment in the URL: ``flow``, ``api-task`` …
        prefix: the first letter of its ids.
        members: by name, in the order in which answers show them.
        updatable: False for what can only be created and deleted (tokens, shares).
    """

    name: str
    route: str
    prefix: str
    members: Mapping[str, Member]
    updatable: bool = True

    @property
    def server_set(self) -> frozenset[str]:
        """The members that only the server writes; a client need not send them."""
        return frozenset(name for name, member in self.members.items() if member.read_only)

    def is_id(self, text: object) -> bool:
        """Whether *text* has the form of an id of this resource."""
        return is_id(text) and str(text)[0] == self.prefix


def is_id(text: object) -> bool:
    """Whether *text* has the form of an id of any resource (1.1)."""
    return isinstance(text, str) and ID.fullmatch(text) is not None


def normal_path(text: str) -> str | None:
    """The normalised form of a Flow path (1.3), or None if there is none.

    Repeated slashes become one, a trailing slash goes, letters become lower case.
    """
    if len(text) > 2 * limits.path_chars_max:
        return None
    path = re.sub("/+", "/", text).rstrip("/").lower()
    return path if len(path) <= limits.path_chars_max and _PATH.fullmatch(path) else None


_KEPT_BY_SERVER = (
    Member("id", "id", read_only=True),
    Member("creationDate", "integer", read_only=True),
    Member("creatorId", "id", read_only=True),
    Member("lastEditDate", "integer", read_only=True),
    Member("lastEditorId", "id", read_only=True),
)
"""The members common to all stored objects (1.2)."""

_TASK = (
    Member("displayName", "string", chars_max=2_048),
    Member("description", "string"),
    Member("disabled", "boolean"),
    Member("reportFlowId", "id", read_only=True),
    Member("reportPath", "path", read_only=True),
    Member("status", "string", read_only=True),
)

_PERIODIC = (
    Member("destination", "path", required=True),
    Member(
        "periodicity",
        "integer",
        default=3_600_000,
        low=limits.task_periodicity_ms_min,
        high=limits.task_periodicity_ms_max,
    ),
    *_TASK,
    Member("lastRun", "integer", read_only=True),
    Member("nextRun", "integer", read_only=True),
    Member("runCt", "integer", read_only=True),
)

_CREDENTIAL = (
    Member("paths", "grants", required=True),
    Member("duration", "integer", low=0, high=limits.credential_duration_ms_max),
    Member("description", "string"),
    Member("expiresInMs", "integer", read_only=True),
    Member("issuedBy", "id", read_only=True),
)


def _resource(
    name: str,
    prefix: str,
    members: Iterable[Member],
    *,
    route: str | None = None,
    updatable: bool = True,
) -> Resource:
    table = {member.name: member for member in (*_KEPT_BY_SERVER, *members)}
    return Resource(name, route or name, prefix, table, updatable)


RESOURCES: Mapping[str, Resource] = {
    resource.name: resource
    for resource in (
        _resource(
            "flow",
            "f",
            [
                Member("path", "path", required=True, immutable=True),
                Member(
                    "capacity",
                    "integer",
                    default=limits.flow_capacity_default,
                    low=0,
                    high=limits.flow_capacity_max,
                ),
                Member("description", "string"),
                Member("filter", "filter"),
                Member("public", "boolean"),
                Member("history", "integer", low=0, high=limits.flow_history_max),
            ],
        ),
        _resource(
            "drop",
            "d",
            [
                Member("flowId", "id", immutable=True),
                Member("path", "path", immutable=True),
                Member("elems", "elems", required=True),
                Member("location", "location"),
                Member("fhash", "string", chars_max=limits.fhash_chars_max),
                Member("parentDropId", "object", read_only=True),
                Member("version", "integer", read_only=True),
            ],
        ),
        _resource(
            "track",
            "t",
            [
                Member("source", "path", required=True),
                Member("destination", "destinations"),
                Member("filter", "filter"),
                Member("js", "string"),
                Member("description", "string"),
                Member("disabled", "boolean"),
                Member("metadata", "object"),
                Member("failureCt", "integer", read_only=True),
                Member("skippedCt", "integer", read_only=True),
                Member("lastFailure", "string", read_only=True),
                Member("lastFailureDate", "integer", read_only=True),
            ],
        ),
        _resource(
            "group",
            "g",
            [
                Member("memberIds", "ids", required=True),
                Member("displayName", "string"),
                Member("description", "string"),
            ],
        ),
        _resource(
            "identity",
            "i",
            [
                Member("name", "string", read_only=True),
                Member("email", "string"),
                Member("salutation", "string"),
                Member("firstName", "string"),
                Member("middleName", "string"),
                Member("lastName", "string"),
                Member("icon", "string"),
                Member("groupIds", "ids", read_only=True),
                Member("shares", "object", read_only=True),
                Member("masterToken", "string", read_only=True),
            ],
        ),
        _resource(
            "api_task", "q", [Member("js", "string", required=True), *_PERIODIC], route="api-task"
        ),
        _resource(
            "rss_task",
            "r",
            [
                Member("url", "string", required=True),
                Member("category", "string"),
                Member("icon", "string"),
                Member("favicon", "string"),
                Member("isFeatured", "boolean"),
                *_PERIODIC,
            ],
            route="rss",
        ),
        _resource(
            "mqtt_task",
            "m",
            [
                Member("uri", "string", required=True),
                Member("topic", "string", required=True),
                Member("source", "path"),
                Member("destination", "path"),
                Member("host", "string"),
                Member("username", "string"),
                Member("password", "string"),
                Member("clientId", "string"),
                Member("qos", "integer", low=0, high=2),
                Member("version", "string"),
                Member("reportFrequency", "integer"),
                Member("inputFormat", "any"),
                Member("outputFormat", "any"),
                *_TASK,
            ],
            route="mqtt",
        ),
        _resource(
            "token",
            "k",
            [*_CREDENTIAL, Member("tokenString", "string", read_only=True)],
            updatable=False,
        ),
        _resource(
            "share",
            "s",
            [Member("issuedTo", "id", required=True), *_CREDENTIAL],
            updatable=False,
        ),
        _resource(
            "device",
            "v",
            [
                Member("path", "path", required=True, immutable=True),
                Member("displayName", "string", chars_max=2_048),
                Member("reportPeriodicity", "integer", low=0),
                Member("tokenId", "id", read_only=True),
                Member("deviceSummary", "object"),
                Member("status", "string"),
                Member("lastSeen", "integer"),
                Member("timeSinceLastSeen", "integer", read_only=True),
                Member("tracks", "object"),
                Member("deviceId", "string", immutable=True, chars_max=limits.device_id_chars_max),
                Member("desired", "object"),
                Member("desiredVersion", "integer", read_only=True),
                Member("reported", "object", read_only=True),
                Member("reportedVersion", "integer", read_only=True),
                Member("generation", "string", read_only=True),
                Member("tags", "object"),
            ],
        ),
        _resource(
            "provisioning_token",
            "p",
            [
                Member("deviceId", "string", chars_max=limits.device_id_chars_max),
                Member("deviceIdMode", "string", default="any"),
                Member("autoApprove", "boolean"),
                Member(
                    "registrationDuration",
                    "integer",
                    low=0,
                    high=limits.credential_duration_ms_max,
                ),
                *_CREDENTIAL[1:],
                Member("provisioningToken", "string", read_only=True),
            ],
            route="provisioning-token",
            updatable=False,
        ),
        _resource(
            "provisioning",
            "o",
            [
                Member("nonce", "string", required=True, immutable=True),
                Member("code", "string", read_only=True),
                Member("status", "string"),
                Member("deviceId", "string", chars_max=limits.device_id_chars_max),
                Member("expiresAt", "integer", read_only=True),
                Member("provisioningTokenId", "id", read_only=True),
                Member("replaces", "id", read_only=True),
                Member("registeredAs", "id", read_only=True),
            ],
        ),
        _resource(
            "stream",
            "w",
            [
                Member(
                    "group",
                    "string",
                    required=True,
                    immutable=True,
                    chars_max=limits.stream_name_chars_max,
                ),
                Member(
                    "name",
                    "string",
                    required=True,
                    immutable=True,
                    chars_max=limits.stream_name_chars_max,
                ),
                Member("isDefault", "boolean"),
                Member("isDefaultGroup", "boolean"),
                Member("batching", "boolean"),
                Member("messageIdPattern", "string", chars_max=limits.message_name_chars_max),
                Member("batchIdPattern", "string", chars_max=limits.message_name_chars_max),
                Member("concatenation", "string", default="none"),
                Member("description", "string"),
                Member("path", "path", read_only=True),
                Member("flowId", "id", read_only=True),
            ],
        ),
    )
}
"""Every resource by the name of its service."""

BY_ROUTE: Mapping[str, Resource] = {resource.route: resource for resource in RESOURCES.values()}
"""Every resource by its segment in the URL."""

PREFIXES: Mapping[str, str] = {resource.prefix: resource.name for resource in RESOURCES.values()}
"""The first letter of an id to the name of its resource (1.1)."""
