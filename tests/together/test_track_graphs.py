"""Any graph of Tracks, any drops, any restarts: every flow holds what a plain model says."""

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowkit import limits
from flowkit.server.app import App
from flowkit.server.settings import Settings
from flowkit.server.store.sqlite import open_store
from tests.server.visitor import Clock, Visitor, visiting

NAMES = ("a", "b", "c", "d")
FLOW = st.sampled_from(NAMES)
TRACKS = st.lists(
    st.tuples(FLOW, st.lists(FLOW, min_size=1, max_size=2, unique=True), st.integers(0, 3)),
    max_size=3,
)
STEPS = st.lists(
    st.one_of(st.tuples(FLOW, st.integers(0, 4)), st.just("restart")), min_size=1, max_size=8
)
HOPS = 4


def modelled(tracks, steps):
    """What each flow holds, by a plain reading of the protocol: elements, counted."""
    held = {name: [] for name in NAMES}

    def arrive(name, n, hops):
        held[name].append(n)
        if hops == HOPS:
            return
        for source, destinations, least in tracks:
            if source == name and n >= least:
                for destination in destinations:
                    arrive(destination, n, hops + 1)

    for step in steps:
        if step != "restart":
            arrive(*step, 0)
    return {name: sorted(values) for name, values in held.items()}


def opened(folder):
    """An app on a store, as after a start."""
    clock = Clock()
    return App(open_store(folder, synchronous="OFF", clock_ms=clock), Settings(), clock_ms=clock)


@settings(max_examples=int(os.environ.get("FLOWKIT_TRACK_EXAMPLES", "25")))
@given(tracks=TRACKS, steps=STEPS)
def test_every_flow_holds_what_the_model_says(tmp_path_factory, tracks, steps):
    """Over any graph of Tracks, with the store closed and opened between: none lost, none twice."""
    folder = tmp_path_factory.mktemp("graph") / "data"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "track_hops_max", HOPS)
        with visiting(folder) as (nora, _bob):
            ids = {name: nora.flow(f"/nora/{name}", capacity=100_000) for name in NAMES}
            for source, destinations, least in tracks:
                paths = [f"/nora/{name}" for name in destinations]
                nora.track(f"/nora/{source}", paths, filter=f"n >= {least}" if least else None)
        app, token = opened(folder), nora.token
        try:
            for step in [*steps, "restart"]:
                if step == "restart":
                    app.close()
                    app = opened(folder)
                    continue
                visitor = Visitor(app, nora.clock, "nora", token)
                visitor.drop(ids[step[0]], n=step[1])
            visitor = Visitor(app, nora.clock, "nora", token)
            assert {name: sorted(visitor.elems(ids[name])) for name in NAMES} == modelled(
                tracks, steps
            )
        finally:
            app.close()
