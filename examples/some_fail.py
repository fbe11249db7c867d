"""Many queries at once, some of which fail: which, and why, with nothing lost.

Run it: ``python examples/some_fail.py``.
"""

from flowkit import PlatformError, embedded

with embedded() as api:
    path = f"/{api.creds.account}/greenhouse"
    flow = api.flow.create({"path": path})
    api.drop.create({"path": path, "elems": {"temp": 21.4}})

    wanted = [flow["id"], "f" + "0" * 24, flow["id"]]
    calls = api.async_()
    for flow_id in wanted:
        calls.drop(flow_id).find(limit=10)

    for flow_id, (error, drops) in zip(wanted, calls.results(with_exceptions=True), strict=True):
        if isinstance(error, PlatformError):
            print(f"{flow_id}: {error.status} {'; '.join(error.errors)}")
        else:
            print(f"{flow_id}: {len(drops)} drops")
