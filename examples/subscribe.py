"""A subscription in ten lines: what is hot, as it is written.

Run it: ``python examples/subscribe.py``. Against a server only the first line changes:
``with connect() as api:``.
"""

from flowkit import embedded, mem

with embedded(account="nora") as api:
    api.flow.create({"path": "/nora/greenhouse"})
    hot = api.drop("/nora/greenhouse").subscribe(mem.temp > 30).wait_ready()
    for degrees in (19, 34, 28, 41):  # in real life somebody else writes
        api.drop.create({"path": "/nora/greenhouse", "elems": {"temp": degrees}})
    for drop in hot:
        print(f"hot: {drop['elems']['temp']} degrees")
        if drop["elems"]["temp"] > 40:
            break
