"""A fleet on one server: finding devices, others beside that, and many that wait for a change.

Run alone: ``python tests/bench/bench_fleet.py [DEVICES [LARGE]]``; 10,000 devices with documents of
1 KB, which is as many as an account may have, and 3,000 whose documents are near their bound of 32
KiB, so that they are beyond 64 MiB in sum. A thousand devices of the former wait for a change of
what is desired of them. 0 leaves a part out; ``QUICK=1`` takes a tenth of everything.
"""

import argparse
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from fleet import Fleet, Refused, device_id  # noqa: E402
from receivers import open_files_max  # noqa: E402
from waiting_devices import WaitingDevices  # noqa: E402

SCALE = 10 if os.environ.get("QUICK") else 1
TURNS = 5
BESIDE_S = 6.0
WAITING = 1_000


def filled(fleet: Fleet, count: int) -> None:
    """Make the fleet, and say what that took."""
    spent = fleet.provision(count)
    print(f"  {'provisioned, autoApprove':<40}{count / spent:10,.0f} devices/s")
    spent = fleet.fill()
    print(f"  {'both documents and tags':<40}{count / spent:10,.0f} devices/s")
    print(f"  {'resident then':<40}{fleet.resident():10,.0f} MiB")


def timed(fleet: Fleet, name: str, call: Callable[[], object]) -> None:
    """The median time of a call, and the memory that the server took for it at most."""
    spans, found = [], None
    with fleet.peak() as peak:
        for _ in range(TURNS):
            began = time.perf_counter()
            try:
                found = call()
            except Refused as error:
                print(f"  {name:<40}refused: {error}")
                return
            spans.append(time.perf_counter() - began)
    count = f"{len(found):,} found" if isinstance(found, list) else ""
    print(
        f"  {name:<40}{statistics.median(spans) * 1e3:10,.1f} ms"
        f"{max(spans) * 1e3:10,.1f} at most{peak[0]:8,.0f} MiB more   {count}"
    )


def finds(fleet: Fleet) -> None:
    """Finds, with the master token and with a Token that may read one path."""
    middle = fleet.devices[len(fleet.devices) // 2]
    paths = {middle.path: {}}
    scoped = fleet.ask("POST", "/token", {"paths": paths})["tokenString"]
    by_id = f"deviceId == '{device_id(middle.number)}'"
    old = "reported.firmware < '2.0'"
    timed(fleet, "reported.firmware < '2.0', newest 20", lambda: fleet.find(old))
    timed(fleet, "the same, seen within the hour", lambda: fleet.find(f"{old} && {RECENT}"))
    timed(fleet, "tags.site == 'site-3', newest 20", lambda: fleet.find("tags.site == 'site-3'"))
    timed(fleet, by_id, lambda: fleet.find(by_id))
    timed(fleet, f"path == '{middle.path}'", lambda: fleet.find(f"path == '{middle.path}'"))
    timed(fleet, f"id == '{middle.id[:6]}…'", lambda: fleet.find(f"id == '{middle.id}'"))
    timed(fleet, "MATCHES /pump-0*7$/", lambda: fleet.find("MATCHES /pump-0*7$/"))
    timed(fleet, "newest 20", fleet.find)
    timed(fleet, "20 by lastSeen", lambda: fleet.find(sort="lastSeen"))
    timed(fleet, "all, only deviceId", lambda: fleet.find(limit=100_000, only="deviceId"))
    timed(fleet, "all, with a Token for one path", lambda: fleet.find(secret=scoped))
    timed(fleet, "the filter, with that Token", lambda: fleet.find(old, secret=scoped))
    timed(fleet, "one by its id", lambda: fleet.ask("GET", f"/device/{middle.id}"))
    own = middle.secret
    timed(
        fleet,
        "one by its id, with its own Token",
        lambda: fleet.ask("GET", f"/device/{middle.id}", secret=own),
    )
    numbers = iter(range(10_000))

    def report() -> object:
        patch = {"patch": {"n": next(numbers)}}
        return fleet.ask("POST", f"/device/{middle.id}/reported", patch, own)

    timed(fleet, "a device reports", report)


RECENT = "timeSinceLastSeen < 3600000"


def beside(fleet: Fleet) -> None:
    """How long a drop of a device takes while devices are found, without a pause."""
    ways = {
        "alone": None,
        "beside finds, newest 20": "",
        "beside finds by a filter": "reported.firmware < '2.0'",
        "beside two finds by a filter": "reported.firmware < '2.0'",
        "beside finds by regular expressions": REGULAR,
    }
    for name, text in ways.items():
        ended = threading.Event()
        counts: list[int] = []
        finders = 0 if text is None else 2 if "two" in name else 1
        threads = [
            threading.Thread(target=keep_finding, args=(fleet, text, counts, ended))
            for _ in range(finders)
        ]
        for thread in threads:
            thread.start()
        try:
            spans = dropped(fleet)
        finally:
            ended.set()
            for thread in threads:
                thread.join()
        cuts = statistics.quantiles(spans, n=100)
        print(
            f"  {name:<40}{cuts[49] * 1e3:10,.1f} ms{cuts[98] * 1e3:10,.1f} p99"
            f"{max(spans) * 1e3:10,.1f} at most   {len(counts) / BESIDE_S:.1f} finds/s"
        )


def keep_finding(fleet: Fleet, text: str, counts: list[int], ended: threading.Event) -> None:
    """Find without a pause until it has *ended*, or is refused."""
    while not ended.is_set():
        try:
            counts.append(len(fleet.find(text)))
        except Refused as error:
            print(f"  refused: {error}")
            return


REGULAR = " || ".join(f"reported.firmware =~ /^{n}[.]9+$/" for n in range(3))


def dropped(fleet: Fleet) -> list[float]:
    """Seconds that each drop took, one after the other with a short pause."""
    device = fleet.devices[0]
    path, spans = f"{device.path}/default", []
    until = time.perf_counter() + BESIDE_S
    while (began := time.perf_counter()) < until:
        fleet.ask("POST", "/drop", {"path": path, "elems": {"temp": 21.5}}, device.secret)
        spans.append(time.perf_counter() - began)
        time.sleep(0.002)
    return spans


def waiting(fleet: Fleet, count: int) -> None:
    """Long polls of many devices at once, then a change of what is desired of each."""
    devices = fleet.devices[:count]
    before = fleet.resident()
    with WaitingDevices(fleet.port, devices) as waiters:
        print(f"  {'long polls held at once':<40}{len(devices):10,}")
        each = (fleet.resident() - before) / len(devices) * 1024
        print(f"  {'memory for each':<40}{each:10,.1f} KiB")
        began = time.perf_counter()
        answered = dict(fleet.work(lambda device: (device.id, desired(fleet, device)), devices))
        heard = waiters.wait()
        behind = sorted(heard[key] - answered[key] for key in answered)
        last = max(heard.values()) - began
        print(f"  {'until all changes were written':<40}{max(answered.values()) - began:10,.2f} s")
        print(f"  {'until all devices had theirs':<40}{last:10,.2f} s")
        cut = statistics.quantiles(behind, n=100)
        print(
            f"  {'from the answer to the device':<40}{cut[49] * 1e3:10,.1f} ms"
            f"{cut[98] * 1e3:10,.1f} p99"
        )


def desired(fleet: Fleet, device) -> float:
    """Change what is desired of a device; when that was answered."""
    fleet.ask("POST", f"/device/{device.id}/desired", {"patch": {"interval": 30}})
    return time.perf_counter()


def main() -> None:
    """Every part, as asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("devices", nargs="?", type=int, default=10_000 // SCALE)
    parser.add_argument("large", nargs="?", type=int, default=3_000 // SCALE)
    chosen = parser.parse_args()
    open_files_max()
    for count, size in ((chosen.devices, 1_000), (chosen.large, 32_000)):
        if not count:
            continue
        print(f"{count:,} devices with two documents of {size:,} bytes each")
        with tempfile.TemporaryDirectory() as folder, Fleet(Path(folder) / "data", size) as fleet:
            filled(fleet, count)
            fleet.restart()
            print(f"  {'resident after a restart':<40}{fleet.resident():10,.0f} MiB")
            if size == 1_000:
                print(" waiting for what is desired")
                waiting(fleet, min(count, WAITING // SCALE))
                fleet.restart()
            print(" finds")
            finds(fleet)
            print(" a drop of a device")
            beside(fleet)
            print(f"  {'resident at the end':<40}{fleet.resident():10,.0f} MiB")


if __name__ == "__main__":
    main()
