"""The server: start and memory, durable writes at 1 and 32 writers, finds over 100,000 drops.

Peers in the same run: SQLite with one commit per insert (what group commit replaces), and the
predicate run over the same drops held in a Python list (what SQL replaces).
"""

import random
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

from timing import best_of, show

from flowkit import EXISTS, embedded, mem
from flowkit.demo.server import demo_server
from flowkit.green import spawn
from flowkit.query.match import predicate

DROPS = 100_000
WRITES = 8_000
FILTERS = {
    "temp > 99 (1 %)": mem.temp > 99,
    "bench == 'b7' && temp > 50": (mem.bench == "b7") & (mem.temp > 50),
    "name =~ /7$/ (regex)": mem.name.re("7$"),
    "tags CONTAINS ['x','y']": mem.tags.CONTAINS("x", "y"),
    "NOT (EXISTS humid)": ~EXISTS(mem.humid),
    "location WITHIN 50 KM": mem.location.WITHIN(50, "KM", coords=(59.9, 10.7)),
}


def resident_mib(pid: int) -> float:
    """Resident memory of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


@contextmanager
def platform(synchronous_folder: bool):
    """An embedded platform: durable in a folder, or private and temporary."""
    if not synchronous_folder:
        with embedded(account="bench") as api:
            yield api
        return
    with tempfile.TemporaryDirectory() as folder, embedded(folder, account="bench") as api:
        yield api


def measure_start() -> None:
    """Seconds from the command to the first answer, and the memory then."""
    spans, memory = [], 0.0
    for _ in range(5):
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            with demo_server(Path(folder), "bench") as server:
                with server.connect() as api:
                    api.flow.find()
                spans.append(time.perf_counter() - start)
                children = subprocess.run(
                    ["pgrep", "-f", folder], capture_output=True, text=True, check=True
                ).stdout.split()
                memory = max(resident_mib(int(pid)) for pid in children)
    print(f"start to first answer: {sorted(spans)[2]:.2f} s; resident: {memory:.0f} MiB")


def in_threads(work, workers: int) -> None:
    """Run *work* in that many plain threads."""
    threads = [Thread(target=work) for _ in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def in_greenlets(work, workers: int) -> None:
    """Run *work* in that many greenlets, as the server does."""
    for task in [spawn(work) for _ in range(workers)]:
        task.get()


def write_rate(write, run, writers: int, total: int) -> float:
    """Writes per second of several writers, run side by side by *run*."""
    share = total // writers
    start = time.perf_counter()
    run(lambda: [write(step) for step in range(share)], writers)
    return share * writers / (time.perf_counter() - start)


def one_by_one(folder: Path, total: int) -> float:
    """The peer: one commit per insert, the same durability."""
    with sqlite3.connect(folder / "peer.db", isolation_level=None) as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=FULL")
        database.execute("CREATE TABLE drop_row (id INTEGER PRIMARY KEY, elems TEXT)")
        start = time.perf_counter()
        for step in range(total):
            database.execute("INSERT INTO drop_row (elems) VALUES (?)", (f'{{"temp": {step}}}',))
        return total / (time.perf_counter() - start)


def measure_writes() -> None:
    """Durable single-drop writes per second."""
    from flowkit.server.store.base import Writer
    from flowkit.server.store.sqlite import open_store

    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        figures["peer: sqlite3, one commit per insert"] = one_by_one(Path(folder), WRITES // 4)
        store = open_store(Path(folder) / "store")

        def prepare(tx: Writer):
            account = tx.create_account("bench", b"0" * 32)
            members = {"path": "/bench/f", "capacity": DROPS}
            return account.identity_id, tx.create_flow(members, creator=account.identity_id)

        creator, flow = store.write(prepare)

        def write(step: int) -> None:
            def job(tx: Writer):
                return tx.create_drop(
                    tx.flow(flow.id), {"elems": {"temp": step}}, {}, creator=creator
                )

            store.write(job)

        figures["the store alone, 1 greenlet"] = write_rate(write, in_greenlets, 1, WRITES // 4)
        figures["the store alone, 32 greenlets"] = write_rate(write, in_greenlets, 32, 3 * WRITES)
        figures["the store alone, 32 threads"] = write_rate(write, in_threads, 32, WRITES)
        store.close()
    with platform(synchronous_folder=True) as api:
        flow = api.flow.create({"path": "/bench/f", "capacity": DROPS})
        drops = api.drop(flow["id"])

        def create(step: int) -> None:
            drops.create({"elems": {"temp": step}})

        figures["embedded API, 1 thread"] = write_rate(create, in_threads, 1, WRITES // 4)
        figures["embedded API, 32 greenlets"] = write_rate(create, in_greenlets, 32, WRITES)
        figures["embedded API, 32 threads"] = write_rate(create, in_threads, 32, WRITES // 2)
    with (
        tempfile.TemporaryDirectory() as folder,
        demo_server(Path(folder), "bench") as server,
        server.connect() as api,
    ):
        flow = api.flow.create({"path": "/bench/f", "capacity": DROPS})
        for bound in (1, 32):
            calls = api.async_(bound)
            start = time.perf_counter()
            for step in range(WRITES // 2):
                calls.drop(flow["id"]).create({"elems": {"temp": step}})
            assert len(list(calls.results())) == WRITES // 2
            figures[f"over HTTP, async_({bound})"] = WRITES // 2 / (time.perf_counter() - start)
    print("durable single-drop writes per second")
    show(figures, "writes/s")


def random_drop(step: int, chance: random.Random) -> dict:
    """A drop with the members that the filters ask about."""
    elems = {
        "temp": round(chance.uniform(0, 100), 2),
        "bench": f"b{chance.randrange(20)}",
        "name": f"sensor-{step}",
        "tags": chance.sample("uvwxyz", 3),
    }
    if step % 3:
        elems["humid"] = chance.randrange(100)
    location = {"lat": 59.9 + chance.gauss(0, 1), "lon": 10.7 + chance.gauss(0, 1)}
    return {"elems": elems, "location": location}


def measure_finds() -> None:
    """Milliseconds of a filtered find over a full flow."""
    chance = random.Random(2018)
    with platform(synchronous_folder=False) as api:
        flow = api.flow.create({"path": "/bench/f", "capacity": DROPS})
        drops = api.drop(flow["id"])
        start = time.perf_counter()
        for first in range(0, DROPS, 5_000):
            drops.create_many([random_drop(first + step, chance) for step in range(5_000)])
        print(f"bulk create: {DROPS / (time.perf_counter() - start):,.0f} drops/s")
        held = list(drops.find_iter())
        assert len(held) == DROPS
        for words, condition in FILTERS.items():
            test = predicate(condition)
            matching = sum(test(drop, 0) for drop in held)
            print(f"find {words}, {matching:,} of {DROPS:,} match")
            show(
                best_of(
                    1,
                    5,
                    {
                        "newest 20": lambda: drops.find(condition),  # noqa: B023 - called in this turn
                        "20 by another member": lambda: drops.find(condition, sort="temp"),  # noqa: B023
                        "count by predicate over a list": lambda: sum(test(d, 0) for d in held),  # noqa: B023
                    },
                ),
                "ms",
                1e3,
            )


if __name__ == "__main__":
    print(f"Python {sys.version.split()[0]}, SQLite through apsw; a folder on the local disk")
    measure_start()
    measure_writes()
    measure_finds()
