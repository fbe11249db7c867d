"""What a Track costs: how long until its output is stored, and what it takes from who writes.

**Latency**: one drop at a time; from the answer to its write until a find of the destination shows
what the Track made of it, looked at every tenth of a millisecond.

**Rate**: durable creates per second through the application by 1 and 32 writers, with no Track, one
with a filter, and one with a script; and once the writers have stopped, how long until the last
output is stored. The three take turns, so that a drift of the machine's speed meets all of them.
"""

import statistics
import tempfile
import time
from pathlib import Path

from bench_server import in_greenlets

from flowkit import embedded

TURNS = 5
SECONDS_PER_TURN = 2.0
LATENCY_DROPS = 400
TRACKS = {
    "no Track": None,
    "a filter": {"filter": "temp > 0"},
    "a script": {"js": "function (drop) { drop.elems.temp += 1; return drop; }"},
}


class Contender:
    """A platform with a source, a destination, and one kind of Track between them."""

    def __init__(self, folder: Path, members: dict | None) -> None:
        self.api = embedded(folder, account="bench")
        self.store = self.api._transport._app.store
        create = self.api.flow.create
        self.source = create({"path": "/bench/source", "capacity": 100_000})["id"]
        create({"path": "/bench/sink", "capacity": 100_000})
        if members is not None:
            way = {"source": "/bench/source", "destination": "/bench/sink"}
            self.api.track.create({**way, **members})

    def write(self) -> None:
        """One drop, durable when it returns."""
        self.api.drop(self.source).create({"elems": {"temp": 21}})

    def is_quiet(self) -> bool:
        """Whether no drop waits."""
        return not self.store.read(lambda reader: reader.waiting_tracks())

    def latencies_ms(self) -> list[float]:
        """From the answer of a write to the commit of the output, milliseconds each."""
        sink = self.store.read(lambda reader: reader.flow_at("/bench/sink").id)
        found = []
        for number in range(LATENCY_DROPS + 20):
            head = self.store.read(lambda reader: reader.flow(sink).head)
            self.write()
            answered = time.perf_counter()
            while self.store.read(lambda reader: reader.flow(sink).head) == head:
                time.sleep(0.0001)
            if number >= 20:  # the first ones warm up
                found.append((time.perf_counter() - answered) * 1e3)
        return found

    def turn(self, writers: int) -> tuple[float, float]:
        """Creates per second of one turn, and seconds until all their outputs were stored."""
        until = time.perf_counter() + SECONDS_PER_TURN
        written = 0

        def work() -> None:
            nonlocal written
            while time.perf_counter() < until:
                self.write()
                written += 1

        start = time.perf_counter()
        in_greenlets(work, writers)
        ended = time.perf_counter()
        while not self.is_quiet():
            time.sleep(0.002)
        return written / (ended - start), time.perf_counter() - ended


def main() -> None:
    """Print the figures."""
    with tempfile.TemporaryDirectory() as folder:
        contenders = {
            name: Contender(Path(folder) / str(number), members)
            for number, (name, members) in enumerate(TRACKS.items())
        }
        print(f"from the answer of a write to the stored output, {LATENCY_DROPS} drops one by one:")
        for name in ("a filter", "a script"):
            found = sorted(contenders[name].latencies_ms())
            p50, p99 = (found[int(len(found) * part)] for part in (0.5, 0.99))
            print(f"  {name}: p50 {p50:.2f} ms, p99 {p99:.2f} ms")
        for writers in (1, 32):
            turns: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
            for _ in range(TURNS):
                for name, each in contenders.items():
                    turns[name].append(each.turn(writers))
            print(f"{writers} writer(s) for {SECONDS_PER_TURN:g} s, median of {TURNS} turns:")
            for name, found in turns.items():
                rate, late = (statistics.median(each) for each in zip(*found, strict=True))
                print(f"  {name:<9} {rate:8,.0f} creates/s, the last output {late:6.2f} s later")
        for each in contenders.values():
            each.api.close()


if __name__ == "__main__":
    main()
