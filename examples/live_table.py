"""A live table: the benches that are too dry, kept up to date by the server.

Run it: ``python examples/live_table.py``. The view is a mapping: print it, sort it, look things up
in it at any time. Its shifts say what came in, changed and left.
"""

from flowkit import embedded, mem

BENCHES = {"north": 31, "south": 62, "east": 38}


def show(view):
    """Print what the view holds now, the driest first."""
    rows = sorted((drop["elems"]["moisture"], drop["elems"]["bench"]) for drop in view.values())
    print("too dry:", ", ".join(f"{bench} {moisture} %" for moisture, bench in rows) or "none")


with embedded(account="nora") as api:
    flow = api.flow.create({"path": "/nora/benches"})
    benches = api.drop(flow["id"])
    # An fhash names a thing: writing it again replaces the drop.
    for bench, moisture in BENCHES.items():
        benches.create({"fhash": bench, "elems": {"bench": bench, "moisture": moisture}})

    with benches.live(mem.moisture < 40) as view:
        show(view.wait_ready())
        shifts = view.events()
        for shift in (next(shifts), next(shifts)):  # they begin with what it holds
            print(f"{shift.kind:6} {shift.after['elems']['bench']}")
        for bench, moisture in (("north", 70), ("south", 35), ("east", 39)):
            benches.create({"fhash": bench, "elems": {"bench": bench, "moisture": moisture}})
        for shift in shifts:
            bench = (shift.after or shift.before)["elems"]["bench"]
            print(f"{shift.kind:6} {bench}")
            if shift.kind == "update" and bench == "east":
                break
        show(view)
