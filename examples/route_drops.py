"""Tracks: what is too warm goes to a flow of its own, once the past has shown what that would be.

Run it: ``python examples/route_drops.py``.
"""

import time

from flowkit import embedded, mem

with embedded() as api:
    home = f"/{api.creds.account}/greenhouse"
    flows = {name: api.flow.create({"path": f"{home}/{name}"}) for name in ("temps", "alarms")}
    source, alarms = flows["temps"]["path"], flows["alarms"]["path"]

    for degrees in (19, 34, 41):
        api.drop(flows["temps"]["id"]).create({"elems": {"temp": degrees}})

    hot = {"source": source, "destination": alarms, "filter": str(mem.temp > 30)}
    tested = api.track.backtest(hot)
    print(f"of {tested['seen']} drops {tested['passed']} would have gone to {alarms}")

    api.track.create(hot)
    api.drop(flows["temps"]["id"]).create({"elems": {"temp": 36}})
    until = time.monotonic() + 10
    while not (found := api.drop(flows["alarms"]["id"]).find()) and time.monotonic() < until:
        time.sleep(0.01)
    print(f"alarm: {found[0]['elems']['temp']} degrees")
