"""Filter-heavy look-ups: magnitudes, places by pattern and by distance, nulls, kinds of events.

Run it: ``python examples/look_ups.py`` (a private platform in this process, no server needed).
"""

from flowkit import EXISTS, NOT, embedded, mem
from flowkit.demo.earthquakes import load


def titles(events):
    """Magnitude and place of each event, on a line."""
    return [f"  {event['elems']['mag']:>4} {event['elems']['place']}" for event in events]


with embedded() as api:
    flows = load(api)
    world, alaska, northwest = flows["us"], flows["ak"], flows["uw"]

    strong = (mem.mag >= 5) & NOT(EXISTS(mem.alert))
    print("Strong, but without an alert level:")
    print(*titles(api.drop(world).find(strong, sort="mag", limit=5)), sep="\n")

    felt = mem.place.re("alaska$", "i") & (mem.felt > 0)
    print("Felt by somebody in Alaska:")
    print(*titles(api.drop(alaska).find(felt, sort="felt", limit=5)), sep="\n")

    hualien = mem.location.WITHIN(300, "KM", coords=(24.17, 121.65))
    print("Near Hualien, the strongest:")
    print(*titles(api.drop(world).find(hualien, sort="mag", limit=5)), sep="\n")

    blasts = mem.type.IN("explosion", "quarry blast")
    counted = sum(1 for _ in api.drop(northwest).find_iter(blasts))
    print(f"Explosions and quarry blasts of the north-west: {counted}")
