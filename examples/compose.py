"""A dependent composition three ways: flows, the strongest events of each, the neighbours of those.

Run it: ``python examples/compose.py``. To see what parallel queries save when the server is far
away, run ``flowkit demo``, which does the same over HTTP with 20 ms of latency added.
"""

from flowkit import embedded, mem
from flowkit.demo.earthquakes import load

quakes = mem.path.re("/quakes/")


def near(event):
    """A filter: within 100 km of an event, the event itself left out."""
    place = (event["location"]["lat"], event["location"]["lon"])
    return mem.location.WITHIN(100, "KM", coords=place) & (mem.fhash != event["fhash"])


with embedded() as api:
    load(api)

    one_by_one = {}
    for flow in api.flow.find(quakes):
        strongest = api.drop(flow["id"]).find(sort="mag", limit=1)[0]
        one_by_one[flow["path"]] = len(api.drop(flow["id"]).find(near(strongest), limit=2000))

    flows = api.flow.find(quakes)
    calls = api.async_()
    for flow in flows:
        calls.drop(flow["id"]).find(sort="mag", limit=1)
    strongest = [events[0] for events in calls.results()]
    calls = api.async_()
    for event in strongest:
        calls.drop(event["flowId"]).find(near(event), limit=2000)
    level_by_level = {
        flow["path"]: len(events) for flow, events in zip(flows, calls.results(), strict=True)
    }

    with api.lazy() as graph:
        events_near = {}
        for flow in flows:
            strongest = graph.drop(flow["id"]).find(sort="mag", limit=1)[0]
            events_near[flow["path"]] = graph.drop(flow["id"]).find(near(strongest), limit=2000)
    as_written = {path: len(events) for path, events in events_near.items()}

    assert one_by_one == level_by_level == as_written
    for path, count in sorted(as_written.items()):
        print(f"{path}: {count} events within 100 km of the strongest")
