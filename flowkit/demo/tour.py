"""The three things flowkit is for, done on the earthquakes: look-ups, compositions, a find by path.

Each function takes an ``API`` and returns what it found; ``flowkit.demo.run`` prints it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flowkit.client.transport import Transport
from flowkit.green import sleep
from flowkit.protocol.envelope import Request, Response
from flowkit.query import EXISTS, NOT, Filter, mem

if TYPE_CHECKING:
    from flowkit.client.api import API

__all__ = ["LOOK_UPS", "SlowTransport", "compose_async", "compose_lazy", "compose_sequential"]

Neighbours = dict[str, list[str]]
"""Event (``fhash``) to the events within ``NEAR_KM`` of it."""

HUALIEN = (24.17, 121.65)
NEAR_KM = 100
STRONGEST = 5

LOOK_UPS: dict[str, Filter] = {
    "magnitude 5.5 and more": mem.mag >= 5.5,
    "felt by somebody in Alaska": mem.place.re("alaska$", "i") & (mem.felt > 0),
    "within 300 km of Hualien, Taiwan": mem.location.WITHIN(300, "KM", coords=HUALIEN)
    & (mem.mag >= 5),
    "strong, but without an alert level": (mem.mag >= 5) & (mem.alert == None),  # noqa: E711
    "explosions that are not quarry blasts": (mem.type != "earthquake")
    & NOT(mem.type == "quarry blast"),
    "deep, or shallow and with a tsunami flag": (mem.depth > 500)
    | ((mem.depth < 20) & (mem.tsunami == 1)),
    "located by 50, 100, 150 … stations": EXISTS(mem.felt) & (mem.nst % 50 == 0),
}
"""What is asked, in words and as a filter; elements are reached by their bare names."""


class SlowTransport:
    """A transport that waits before every request, as a distant server would make you wait.

    Args:
        inner: the transport that really asks.
        latency_s: added to every request, in seconds.
    """

    def __init__(self, inner: Transport, latency_s: float) -> None:
        self.inner = inner
        self.latency_s = latency_s

    def send(self, request: Request, *, timeout_s: float) -> Response:
        """Wait, then ask."""
        sleep(self.latency_s)
        return self.inner.send(request, timeout_s=timeout_s)

    def close(self) -> None:
        """Close the inner transport."""
        self.inner.close()


def look_up(api: API, condition: Filter) -> list[dict[str, Any]]:
    """The events of all networks that match, strongest first: one request for all flows."""
    flows = api.flow.find(_quake_flows(api), limit=100)
    found = api.drop.find_in({flow["id"]: {"filter": condition, "limit": 2_000} for flow in flows})
    events = [event for drops in found.values() for event in drops]
    return sorted(events, key=lambda event: event["elems"]["mag"] or 0, reverse=True)


def compose_sequential(api: API) -> Neighbours:
    """Flows, then the strongest events of each, then the neighbours of those: one by one."""
    neighbours: Neighbours = {}
    for flow in api.flow.find(_quake_flows(api), limit=100):
        for event in api.drop(flow["id"]).find(sort="mag", limit=STRONGEST):
            near = api.drop(flow["id"]).find(_near(event), limit=2_000)
            neighbours[event["fhash"]] = _names(near)
    return neighbours


def compose_async(api: API) -> Neighbours:
    """The same with ``async_()``: level by level, each level in parallel."""
    calls = api.async_()
    for flow in api.flow.find(_quake_flows(api), limit=100):
        calls.drop(flow["id"]).find(sort="mag", limit=STRONGEST)
    events = [event for strongest in calls.results() for event in strongest]
    calls = api.async_()
    for event in events:
        calls.drop(event["flowId"]).find(_near(event), limit=2_000)
    return {
        event["fhash"]: _names(near) for event, near in zip(events, calls.results(), strict=True)
    }


def compose_lazy(api: API) -> Neighbours:
    """The same with ``lazy()``: written like the sequential one, run side by side."""
    lazy = api.lazy()
    strongest = [
        lazy.drop(flow["id"]).find(sort="mag", limit=STRONGEST)
        for flow in lazy.flow.find(_quake_flows(api), limit=100)
    ]
    near = {
        event["fhash"]: lazy.drop(event["flowId"]).find(_near(event), limit=2_000)
        for events in strongest
        for event in events
    }
    return {name: _names(drops) for name, drops in near.items()}


def _quake_flows(api: API) -> Filter:
    return mem.path.re(f"^/{api.creds.account}/quakes/")


def _near(event: dict[str, Any]) -> Filter:
    place = (event["location"]["lat"], event["location"]["lon"])
    another: Filter = mem.fhash != event["fhash"]
    return mem.location.WITHIN(NEAR_KM, "KM", coords=place) & another


def _names(drops: list[dict[str, Any]]) -> list[str]:
    return [drop["fhash"] for drop in drops]
