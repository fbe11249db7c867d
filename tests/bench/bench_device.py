"""What the device side costs: keeping, sending, waiting.

Durable puts are held against bare SQLite doing the same (one table, WAL, FULL, a commit each); the
sender against a loop that sends one message and waits for its answer, over the same link with a
round trip of 50 ms. ``QUICK=1`` measures a tenth of everything.
"""

import json
import os
import resource
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from server_process import ServerProcess  # noqa: E402

from flowkit.device import HttpLink, Outbox, Sender, Streamer  # noqa: E402

SCALE = 10 if os.environ.get("QUICK") else 1
ENTRY = {"path": "/nora/field", "elems": {"temp": 21.5, "humidity": 40, "state": "ok"}}
TEXT = json.dumps(ENTRY)
ROUNDS = 5


class Bare:
    """What a careful programmer writes in ten lines: one table, a lock, a commit for each row."""

    def __init__(self, path: Path) -> None:
        self.db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self.db.execute("PRAGMA journal_mode=WAL")
        self.db.execute("PRAGMA synchronous=FULL")
        self.db.execute("CREATE TABLE row (id INTEGER PRIMARY KEY, stream TEXT, entry TEXT)")
        self.lock = threading.Lock()

    def put(self) -> None:
        """One row, one commit."""
        with self.lock:
            self.db.execute("INSERT INTO row (stream, entry) VALUES ('air', ?)", (TEXT,))

    def put_100(self) -> None:
        """A hundred rows, one commit."""
        with self.lock:
            self.db.execute("BEGIN")
            self.db.executemany(
                "INSERT INTO row (stream, entry) VALUES ('air', ?)", [(TEXT,)] * 100
            )
            self.db.execute("COMMIT")


def rate(call, times: int, threads: int = 1) -> float:
    """Calls a second of that many threads."""

    def work() -> None:
        for _ in range(times // threads):
            call()

    workers = [threading.Thread(target=work) for _ in range(threads)]
    began = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return times / (time.perf_counter() - began)


def puts(folder: Path) -> None:
    """Durable puts a second."""
    box, bare = Outbox(str(folder / "puts.db")), Bare(folder / "bare.db")
    times = 2_000 // SCALE
    ways = {
        "outbox, one thread": lambda: rate(lambda: box.put("air", ENTRY), times),
        "bare SQLite, one thread": lambda: rate(bare.put, times),
        "outbox, 8 threads": lambda: rate(lambda: box.put("air", ENTRY), 4 * times, 8),
        "bare SQLite, 8 threads": lambda: rate(bare.put, times, 8),
        "outbox, put_many of 100": lambda: (
            100 * rate(lambda: box.put_many("air", [ENTRY] * 100), times // 20)
        ),
        "bare SQLite, 100 in a commit": lambda: 100 * rate(bare.put_100, times // 20),
    }
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            taken[name].append(way())
    medians = {name: statistics.median(each) for name, each in taken.items()}
    for name, figure in medians.items():
        print(f"  {name:<30} {figure:12,.0f} puts/s")
    print(
        f"  8 threads / one: {medians['outbox, 8 threads'] / medians['outbox, one thread']:.1f} x"
        f" (bare {medians['bare SQLite, 8 threads'] / medians['bare SQLite, one thread']:.1f} x)"
    )
    box.close()


SLOW = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <unistd.h>
static int slow(const char *name, int fd) {
    int (*real)(int) = dlsym(RTLD_NEXT, name);
    usleep(SYNC_US);
    return real(fd);
}
int fsync(int fd) { return slow("fsync", fd); }
int fdatasync(int fd) { return slow("fdatasync", fd); }
"""


def slow_disk(folder: Path, milliseconds: int) -> None:
    """One thread and eight where a sync takes longer, as on a memory card; needs a C compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        print("  (no C compiler: a slower disk was not tried)")
        return
    source, library = folder / "slow.c", folder / "slow.so"
    source.write_text(SLOW)
    flags = [f"-DSYNC_US={milliseconds * 1000}", "-shared", "-fPIC", "-o", str(library)]
    subprocess.run([compiler, *flags, str(source), "-ldl"], check=True)
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from bench_device import *;"
        "box = Outbox(sys.argv[2]); put = lambda: box.put('air', ENTRY);"
        "one, eight = rate(put, 400), rate(put, 3200, 8);"
        "print(f'  one thread {one:,.0f} puts/s, 8 threads {eight:,.0f}: {eight / one:.1f} x')"
    )
    subprocess.run(
        [sys.executable, "-c", code, str(HERE), str(folder / f"slow{milliseconds}.db")],
        env={**os.environ, "LD_PRELOAD": str(library)},
        check=True,
    )


def drain(folder: Path, server: ServerProcess, url: str) -> None:
    """Messages a second over a round trip of 50 ms."""
    link = HttpLink(url, "nora", server.secret)
    count = 20_000 // SCALE
    with Outbox(str(folder / "drain.db")) as box:
        for at in range(0, count, 1000):
            box.put_many("air", [ENTRY] * min(1000, count - at))
        began = time.perf_counter()
        with Sender(box, link) as sender:
            assert sender.flush(120).count == 0
            taken = time.perf_counter() - began
    print(f"  sender, one stream       {count / taken:12,.0f} messages/s")
    with Outbox(str(folder / "drain8.db")) as box:
        for at in range(0, count, 1000):
            box.put_many(f"s{at // 1000 % 8}", [ENTRY] * min(1000, count - at))
        began = time.perf_counter()
        with Sender(box, link) as sender:
            assert sender.flush(120).count == 0
            taken = time.perf_counter() - began
    print(f"  sender, eight streams    {count / taken:12,.0f} messages/s")
    connection = link.connection()
    began, singles = time.perf_counter(), 100 // SCALE
    for _ in range(singles):
        connection.ask("POST", ("drop",), TEXT.encode())
    taken = time.perf_counter() - began
    print(f"  one for each answer      {singles / taken:12,.0f} messages/s")
    connection.close()


def black_hole(folder: Path, url: str, secret: str) -> None:
    """How long a put takes while nothing answers."""
    with Outbox(str(folder / "hole.db")) as box:
        sender = Sender(box, HttpLink(url, "nora", secret))
        spans = []
        for _ in range(3_000 // SCALE):
            began = time.perf_counter()
            box.put("air", ENTRY)
            spans.append(time.perf_counter() - began)
        sender.close(0)
    spans.sort()
    p99 = spans[int(len(spans) * 0.99)]
    print(
        f"  put, network black-holed: median {spans[len(spans) // 2] * 1e3:.2f} ms,"
        f" p99 {p99 * 1e3:.2f} ms, most {spans[-1] * 1e3:.1f} ms"
    )


def log(folder: Path, url: str, secret: str) -> None:
    """How long a call of ``log`` takes, with a file of one's own and without."""
    os.environ["XDG_STATE_HOME"] = str(folder / "state")
    for name, how in (("without db=", {}), ("with db=", {"db": str(folder / "log.db")})):
        with Streamer("bench", access_key=secret, account="nora", host=url, **how) as streamer:
            spans = []
            for number in range(3_000 // SCALE):
                began = time.perf_counter()
                streamer.log("temp", number)
                spans.append(time.perf_counter() - began)
                time.sleep(0.001)
            streamer.flush(30)
        spans.sort()
        median, p99 = spans[len(spans) // 2], spans[int(len(spans) * 0.99)]
        print(f"  log, {name:<12} median {median * 1e3:.2f} ms, p99 {p99 * 1e3:.2f} ms")


IDLE = """
import sys, time
from flowkit.device import HttpLink, Outbox, Sender
path, url, secret = sys.argv[1:4]
rows, rate = int(sys.argv[4]), float(sys.argv[5])
box = Outbox(path, rows_max=2_000_000)
entry = {"path": "/nora/field", "elems": {"temp": 21.5, "humidity": 40, "state": "ok"}}
for _ in range(rows // 10_000):
    box.put_many("air", [entry] * 10_000)
sender = Sender(box, HttpLink(url, "nora", secret))
if rows == 0:
    box.put("air", entry)
    sender.flush(10)
print("ready", flush=True)
if rate:
    while True:
        time.sleep(1 / rate)
        box.put("air", entry)
sys.stdin.read()
"""


def resident(folder: Path, url: str, secret: str, *, rows: int = 0, rate: float = 0.0) -> None:
    """What a process of its own takes."""
    command = [sys.executable, "-c", IDLE, str(folder / f"own{rows}{rate}.db"), url, secret]
    process = subprocess.Popen(
        [*command, str(rows), str(rate)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        process.stdout.readline()
        time.sleep(1)
        seen = psutil.Process(process.pid)
        if rate:
            before, began = seen.cpu_times(), time.perf_counter()
            time.sleep(20 / SCALE)
            after, span = seen.cpu_times(), time.perf_counter() - began
            used = after.user + after.system - before.user - before.system
            print(f"  processor at {rate:g} messages/s: {100 * used / span:.2f} % of one core")
        else:
            size = seen.memory_info().rss / 2**20
            print(f"  resident, sender idle, {rows:,} rows queued: {size:.0f} MiB")
    finally:
        process.kill()
        process.wait()


def main() -> None:
    """All tables."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DISK")) as name:
        folder = Path(name)
        print("durable puts")
        puts(folder)
        for milliseconds in (1, 5):
            print(f"the same, with {milliseconds} ms more for each sync")
            slow_disk(folder, milliseconds)
        with ServerProcess(folder / "data") as server:
            owner = HttpLink(server.url, "nora", server.secret)
            flow = json.dumps({"path": "/nora/field", "capacity": 1_000}).encode()
            owner.ask("POST", ("flow",), flow)
            slow = subprocess.Popen(
                [sys.executable, str(HERE / "slow_link.py"), server.url, "50"],
                stdout=subprocess.PIPE,
                text=True,
            )
            hole = subprocess.Popen([sys.executable, "-c", HOLE], stdout=subprocess.PIPE, text=True)
            try:
                print("draining, 50 ms there and back")
                drain(folder, server, slow.stdout.readline().strip())
                dark = hole.stdout.readline().strip()
                print("logging")
                log(folder, server.url, server.secret)
                print("while the network answers nothing")
                black_hole(folder, dark, server.secret)
                print("a device at rest and at work")
                resident(folder, server.url, server.secret)
                resident(folder, dark, server.secret, rows=1_000_000 // SCALE)
                resident(folder, server.url, server.secret, rate=10)
            finally:
                slow.kill()
                hole.kill()
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"  (this process had {own:.0f} MiB at most)")


HOLE = """
import socket, time
door = socket.create_server(("127.0.0.1", 0))
print("http://127.0.0.1:%d" % door.getsockname()[1], flush=True)
kept = []
while True:
    kept.append(door.accept())
"""


if __name__ == "__main__":
    main()
