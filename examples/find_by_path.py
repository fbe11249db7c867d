"""Find drops by the path of their flow, change the flow, walk through everything.

Run it: ``python examples/find_by_path.py``.
"""

from flowkit import AGE, M, embedded, mem

with embedded() as api:
    path = f"/{api.creds.account}/greenhouse"
    flow = api.flow.create({"path": path, "filter": "EXISTS temp"})
    api.drop(flow["id"]).create_many([{"elems": {"temp": 15 + step / 10}} for step in range(100)])

    newest = api.drop.find((mem.temp > 20) & (AGE < 60_000), path=path, limit=3)
    print("The newest three above 20 degrees:", [drop["elems"]["temp"] for drop in newest])

    changed = M(flow)
    changed["description"] = "the small one behind the house"
    print("Described:", api.flow.update(changed)["description"])

    total = sum(drop["elems"]["temp"] for drop in api.drop(flow["id"]).find_iter())
    print(f"Mean of all: {total / 100:.2f} degrees")
