"""A subscription through a storm of faults: every drop once and in order, whatever was cut."""

import threading
import time

import pytest

from flowkit import API
from flowkit.testing import FaultProxy, Platform

SPANS = {"every_s": (0.02, 0.1), "lasting_s": (0.02, 0.15)}


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_a_subscription_outlasts_a_storm(seed):
    """A listener with a filter gets each drop once and in order, and a view equals the store."""
    got, confirmed = [], threading.Event()
    with Platform() as platform:
        flow = platform.api.flow.create({"path": "/test/a", "capacity": 10_000})["id"]
        drops = platform.api.drop(flow)
        with (
            FaultProxy(platform.url) as proxy,
            API(platform.token, host=proxy.url, timeout=1.0) as api,
            api.websocket.connect(on_error=lambda *_: None, heartbeat_s=0.2, silence_s=0.6) as ws,
        ):
            ws.subscribe(
                flow,
                lambda *_: confirmed.set(),
                filter="n >= 0",
                on_drop=lambda drop: got.append(drop["elems"]["n"]),
            )
            view = ws.subscribe(flow, filter="odd == 1", live=True)
            assert confirmed.wait(10)
            disturbance = proxy.disturb(seed, 1.5, **SPANS)
            count = 0
            while not disturbance.is_over:
                drops.create({"elems": {"n": count, "odd": count % 2}})
                count += 1
                time.sleep(0.002)  # a writer's pace, so that there are some hundreds
            odd = {drop["id"]: drop for drop in drops.find(filter="odd == 1", limit=1_000)}
            until = time.monotonic() + 20
            while time.monotonic() < until and (len(got) < count or view.snapshot() != odd):
                time.sleep(0.02)

            assert got == list(range(count)), disturbance
            assert view.snapshot() == odd, disturbance
            assert sum(proxy.counts.faults.values()) > 2
