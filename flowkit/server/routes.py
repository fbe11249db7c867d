"""The URL table: every method and path that the server answers, as data.

Addresses are ``/v<digits>.<digits>/<account>/`` and one of the patterns below. A name in braces
stands for one segment. The first segment and the number of segments decide the pattern, so a
look-up is one step however long the table is. Trailing slashes are no segments.

Source: protocol 3.5 (routes), 3.6 (parameters), 0.2 (versions), 3.4 (404 and 405).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flowkit.errors import BadRequest, NotFound
from flowkit.protocol.envelope import NOT_LOCATED
from flowkit.server.call import Handler
from flowkit.server.handlers import (
    aggregate,
    batch,
    device,
    drop,
    flow,
    group,
    identity,
    origin,
    payload,
    properties,
    provisioning,
    provisioning_token,
    share,
    statistics,
    stream,
    task,
    token,
    track,
    trying,
    upload,
)
from flowkit.server.handlers.verbs import Noun, handlers_of

__all__ = ["ROUTES", "Match", "Route", "methods_at", "resolve"]

_VERSION = re.compile(r"v([0-9]{1,4})\.[0-9]{1,4}")

EVERYWHERE = frozenset({"pretty"})
READ = frozenset({"only", "refs"})
FIND = frozenset({"filter", "limit", "start", "skip", "sort", "order", "only", "refs", "explain"})
DROPS = frozenset({"hints", "positions"})
LEVEL = frozenset({"level"})
DEVICE = frozenset({"device"})
PART = frozenset({"offset", "size"})
FORGET = frozenset({"positions", "forget"})


@dataclass(frozen=True, slots=True)
class Route:
    """One row of the table.

    Attributes:
        method: ``GET POST PUT DELETE MGET MPUT``.
        pattern: the address below the account.
        handler: the endpoint.
        writes: whether its work runs on the writer.
        params: the query parameters that it has, beside ``pretty``.
        array: whether its body may be an array create, with the larger bound.
        provisioning: whether a provisioning token opens it.
    """

    method: str
    pattern: str
    handler: Handler
    writes: bool = False
    params: frozenset[str] = frozenset()
    array: bool = False
    provisioning: bool = False

    @property
    def is_quick(self) -> bool:
        """Whether it reads one thing by its id, so that it need not wait behind finds."""
        return self.method == "GET" and self.pattern.endswith("/{id}")

    @property
    def known(self) -> frozenset[str]:
        """Every parameter that the route has."""
        return self.params | EVERYWHERE


def _crud(noun: Noun) -> tuple[Route, ...]:
    """The rows of a resource with the verbs that all have."""
    return tuple(
        Route(
            method,
            noun.resource.route + rest,
            handler,
            writes=method not in ("GET", "MGET"),
            params=_CRUD_PARAMS.get((method, rest), frozenset()),
        )
        for (method, rest), handler in handlers_of(noun).items()
    )


_CRUD_PARAMS = {("GET", ""): FIND, ("MGET", ""): READ, ("GET", "/{id}"): READ}

ROUTES: Sequence[Route] = (
    *_crud(flow.FLOW),
    Route("GET", "drop", drop.find_by_path, params=FIND | DROPS | {"path"}),
    Route("MGET", "drop", drop.find_in_flows, params=FIND | DROPS),
    Route("POST", "drop", drop.create, writes=True, params=DROPS | READ, array=True),
    Route("GET", "drop/{flow}", drop.find, params=FIND | DROPS),
    Route("MGET", "drop/{flow}", drop.read_many, params=READ | DROPS),
    Route("POST", "drop/{flow}", drop.create, writes=True, params=DROPS | READ, array=True),
    Route("MPUT", "drop/{flow}", drop.update_many, writes=True, params=DROPS | READ),
    Route("DELETE", "drop/{flow}", drop.clear, writes=True, params=FORGET),
    Route("GET", "drop/{flow}/{id}", drop.read, params=READ | DROPS),
    Route("PUT", "drop/{flow}/{id}", drop.update, writes=True, params=DROPS | READ),
    Route("DELETE", "drop/{flow}/{id}", drop.delete, writes=True, params=FORGET),
    Route("PUT", "drop/{flow}/{id}/{member}", drop.update_member, writes=True, params=DROPS),
    Route("POST", "drop/{flow}/aggregate", aggregate.aggregate, params=frozenset({"explain"})),
    *_crud(identity.IDENTITY),
    *_crud(group.GROUP),
    *_crud(token.TOKEN),
    *_crud(share.SHARE),
    *_crud(track.TRACK),
    *_crud(device.DEVICE),
    Route("GET", "device/{id}/properties", properties.read),
    Route("POST", "device/{id}/desired", properties.change_desired, writes=True),
    Route("POST", "device/{id}/reported", properties.change_reported, writes=True),
    Route("POST", "device/{id}/refresh", provisioning.refresh, writes=True, provisioning=True),
    *_crud(provisioning_token.PROVISIONING_TOKEN),
    *(each for each in _crud(provisioning.PROVISIONING) if each.method != "POST"),
    Route("POST", "provisioning", provisioning.begin, writes=True, provisioning=True),
    Route(
        "POST",
        "provisioning/{id}/complete",
        provisioning.complete,
        writes=True,
        provisioning=True,
    ),
    *_crud(task.API_TASK),
    *_crud(task.RSS_TASK),
    *_crud(task.MQTT_TASK),
    Route("POST", "track/simulate", trying.simulate),
    Route("POST", "track/backtest", trying.backtest),
    *(
        Route("GET", "statistics/{type}/{id}" + rest, statistics.count, writes=True, params=LEVEL)
        for rest in ("", "/{year}", "/{year}/{month}", "/{year}/{month}/{day}")
    ),
    Route("GET", "origin/{box}", origin.read, params=DEVICE),
    Route("GET", "upload/{box}/{message}", upload.read),
    Route("PUT", "upload/{box}/{message}/{n}", upload.put, writes=True),
    *_crud(stream.STREAM),
    Route("GET", "stream/{id}/open", stream.open_work),
    Route("GET", "payload/{id}", payload.read, params=PART),
    Route("POST", "batch", batch.run),
)
"""Every route of this server."""

_BY_SHAPE: dict[tuple[str, int], dict[str, list[tuple[list[str], Route]]]] = {}
for _route in ROUTES:
    _parts = _route.pattern.split("/")
    _BY_SHAPE.setdefault((_parts[0], len(_parts)), {}).setdefault(_route.method, []).append(
        (_parts, _route)
    )


@dataclass(frozen=True, slots=True)
class Match:
    """A request's place in the table.

    Attributes:
        route: the row.
        account: the account in the address.
        typed: whether the version shows typed elements by default.
        args: the segments where the pattern has names.
    """

    route: Route
    account: str
    typed: bool
    args: Mapping[str, str]


def resolve(method: str, segments: Sequence[str]) -> Match:
    """The route of a request.

    Raises:
        NotFound: there is no such address.
        BadRequest: with status 405, the address has other methods.
    """
    version, account, *rest = segments if len(segments) > 2 else ("", "", "")
    major = _VERSION.fullmatch(version)
    by_method = _BY_SHAPE.get((rest[0], len(rest))) if major else None
    if by_method is None or major is None:
        raise NotFound(NOT_LOCATED)
    found = by_method.get(method)
    if found is None:
        allowed = ", ".join(by_method)
        raise BadRequest(
            f"{method[:16]} is not a method of this address, it has {allowed}", status=405
        )
    for names, route in found:
        args: dict[str, str] = {}
        for name, given in zip(names, rest, strict=True):
            if name[0] == "{":
                args[name[1:-1]] = given
            elif name != given:
                break
        else:
            return Match(route, account, int(major[1]) == 0, args)
    raise NotFound(NOT_LOCATED)


def methods_at(segments: Sequence[str]) -> list[str]:
    """The methods of an address, for OPTIONS; all of them are allowed to be asked about.

    Raises:
        NotFound: there is no such address.
    """
    if len(segments) < 3 or not _VERSION.fullmatch(segments[0]):
        raise NotFound(NOT_LOCATED)
    by_method = _BY_SHAPE.get((segments[2], len(segments) - 2))
    if by_method is None:
        raise NotFound(NOT_LOCATED)
    return list(by_method)
