"""A real week of earthquakes as drops: one flow per reporting network.

The recording is shipped with the package; ``PROVENANCE.md`` beside it says where it is from.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterable
from importlib.resources import files
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flowkit.client.api import API

__all__ = ["flow_path", "load", "read_events"]

RECORDING = "usgs-earthquakes-week-2018-02.geojson.gz"
FLOW_CAPACITY = 2_000
DROPS_PER_REQUEST = 100

MEMBERS = (
    "mag magType place time updated tz felt cdi mmi alert status tsunami sig net nst dmin rms gap"
    " type"
).split()
"""What of an event's properties becomes an element; nulls are kept, as they came."""


def flow_path(account: str, network: str) -> str:
    """The flow of one reporting network."""
    return f"/{account}/quakes/{network}"


def read_events() -> list[dict[str, Any]]:
    """The 1,707 events as drops without a flow, oldest first.

    The event's own id becomes ``fhash``, so that loading it twice doubles nothing; its depth in
    kilometres becomes the element ``depth``.
    """
    text = gzip.decompress(files("flowkit.demo").joinpath(RECORDING).read_bytes())
    return [_drop(feature) for feature in reversed(json.loads(text)["features"])]


def _drop(feature: dict[str, Any]) -> dict[str, Any]:
    longitude, latitude, depth_km = feature["geometry"]["coordinates"]
    elems = {name: feature["properties"][name] for name in MEMBERS}
    return {
        "fhash": feature["id"],
        "location": {"lat": latitude, "lon": longitude},
        "elems": {**elems, "depth": depth_km},
    }


def load(
    api: API,
    *,
    events: Iterable[dict[str, Any]] | None = None,
    on_progress: Callable[[int], object] | None = None,
) -> dict[str, str]:
    """Write the events through *api*, each into the flow of its network.

    Args:
        api: whose account gets the flows.
        events: drops as ``read_events`` gives them (default: all of them).
        on_progress: called with the number of drops that each request stored.

    Returns:
        network name to flow id.
    """
    by_network: dict[str, list[dict[str, Any]]] = {}
    for event in read_events() if events is None else events:
        by_network.setdefault(event["elems"]["net"], []).append(event)
    flow_ids = {}
    for network, drops in by_network.items():
        path = flow_path(api.creds.account, network)
        flow = api.flow.create({"path": path, "capacity": FLOW_CAPACITY})
        flow_ids[network] = flow["id"]
        for first in range(0, len(drops), DROPS_PER_REQUEST):
            batch = drops[first : first + DROPS_PER_REQUEST]
            api.drop(flow["id"]).create_many(batch, raise_on_error=True)
            if on_progress:
                on_progress(len(batch))
    return flow_ids
