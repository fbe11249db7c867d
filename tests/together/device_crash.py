"""Devices and a server that are killed, cut off and starved, and the account of it afterwards.

Real processes: ``flowkit serve`` on one folder, a device (``device_worker.py``) on one file, the
fault proxy between them. In each cycle something happens: the device is killed with -9, at a random
time or at a named crash point; the server is; the connections break, stall or slow down; the disk
of one of them is full. Every so often all is healed and everything is compared:

* every message whose ``enqueue_message`` returned is stored once, or is dead, or was dropped by the
  bound that the file was given (I8); none is stored twice, and none that was never enqueued;
* the messages of each stream are in their order;
* the reported properties are those of the last update that returned, or of a later one;
* every message to the device was handed out, and none again after its acknowledgement returned.

Campaign: ``python -m tests.together.device_crash --cycles 2000 --seed 1``.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, sleep

from flowkit import mem
from flowkit.client.api import API
from flowkit.client.credentials import Token
from flowkit.errors import FlowKitError
from flowkit.testing import FaultProxy
from tests.server_process import ServerProcess, environment

WORKER = Path(__file__).with_name("device_worker.py")
POINTS = (
    "before commit",
    "after commit",
    "before request",
    "after answer",
    "registered",
    "operation kept",
    "file created",
)
SETTLE_S = 40.0


class Differs(AssertionError):
    """The account does not come out even."""


@dataclass
class Life:
    """One device file from its making to its settlement.

    Attributes:
        name, db: the device and its file.
        rows_max: its bound.
        tried, accepted: numbers of messages that were begun, and whose call returned.
        reported: the last update that returned; *tried_report* the last one that was begun.
        sent: messages to the device that the server took.
        handed, acked: what the device said of those, in order.
    """

    name: str
    db: Path
    rows_max: int
    accepted: list[int] = field(default_factory=list)
    reported: int = 0
    sent: list[int] = field(default_factory=list)
    handed: Counter = field(default_factory=Counter)
    acked: Counter = field(default_factory=Counter)
    after_ack: list[int] = field(default_factory=list)
    dead: set[int] = field(default_factory=set)
    settled: tuple[int, int, str] | None = None


class Campaign:
    """Cycles of one seed.

    Args:
        folder: empty.
        seed: of everything that is decided here; the processes have their own chance.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self.chance = random.Random(seed)
        self.folder = folder
        self.cycle = 0
        self.lives = 0
        self.counts: Counter = Counter()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.server = ServerProcess(folder / "data", "--port", str(self.port))
        self.secret = self.server.secret
        self.proxy = FaultProxy(f"http://127.0.0.1:{self.port}")
        self.proxy.__enter__()
        self.worker: subprocess.Popen | None = None
        self.reader: threading.Thread | None = None
        with self._api() as api:
            made = api.provisioning_token.create({"autoApprove": True})
            self.token = "nora/" + made["provisioningToken"]
            for name in ("a", "b"):
                api.stream.create({"group": "g", "name": name, "messageIdPattern": "{uuid}"})
            api.stream.create({"group": "g", "name": "strict"})
        self.life = self._new_life()

    def close(self) -> None:
        """The end of all processes."""
        self._kill_worker()
        self.proxy.__exit__(None, None, None)
        self.server.__exit__(None, None, None)

    def run(self, cycles: int, *, until: float | None = None, life_cycles: int = 50) -> None:
        """That many cycles, or until a time of the monotonic clock."""
        for _ in range(cycles):
            if until is not None and monotonic() > until:
                break
            self.cycle += 1
            self._one_cycle()
            if self.cycle % life_cycles == 0:
                self.settle()
        if self.cycle % life_cycles:
            self.settle()

    # One cycle

    def _one_cycle(self) -> None:
        kind = self.chance.choices(
            ["kill device", "crash point", "kill server", "network", "device disk", "server disk"],
            [30, 30, 12, 18, 6, 4],
        )[0]
        self.counts[kind] += 1
        if kind == "server disk":
            self._restart_server(file_bytes=self._store_bytes() + self.chance.choice([0, 100_000]))
        if kind == "network":
            self._disturb()
        point = self.chance.choice(POINTS) if kind == "crash point" else ""
        self._start_worker(
            point=f"{point}:{self.chance.randint(1, 12)}" if point else "",
            file_bytes=self._file_bytes() if kind == "device disk" else 0,
        )
        self._command()
        sleep(self.chance.uniform(0.02, 0.25))
        if kind == "kill server":
            self._restart_server()
            sleep(self.chance.uniform(0.0, 0.1))
        self._kill_worker()
        if kind == "network":
            self.proxy.heal()
        if kind == "server disk":
            self._restart_server()

    def _disturb(self) -> None:
        fault = self.chance.choice(["reset", "stall", "slow", "reset"])
        if fault == "reset":
            self.proxy.set(latency_s=0.01)
            threading.Timer(self.chance.uniform(0.1, 0.4), self.proxy.reset).start()
        elif fault == "stall":
            self.proxy.set(stall=self.chance.uniform(0.1, 2.0))
        else:
            self.proxy.set(latency_s=self.chance.uniform(0.01, 0.1))

    def _command(self) -> None:
        """A message to the device, if the server takes it."""
        number = self.cycle
        try:
            with self._api() as api:
                api.drop.create(
                    {"path": f"/nora/devices/{self.life.name}/commands", "elems": {"n": number}}
                )
            self.life.sent.append(number)
        except FlowKitError:
            self.counts["commands refused"] += 1  # the device is not there yet, or the disk is full

    # Processes

    def _api(self) -> API:
        return API(
            Token("nora", self.secret),
            host=f"http://127.0.0.1:{self.port}",
            timeout=10.0,
            retries=0,
        )

    def _restart_server(self, file_bytes: int = 0) -> None:
        self.server.end(signal.SIGKILL)
        self.counts["server kills"] += 1
        first = "pass"
        if file_bytes:
            first = (
                "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
                f"resource.setrlimit(resource.RLIMIT_FSIZE, ({file_bytes}, -1))"
            )
        try:
            self.server = ServerProcess(self.folder / "data", "--port", str(self.port), first=first)
        except AssertionError:
            if not file_bytes:
                raise
            self.counts["no start on a full disk"] += 1
            self.server = ServerProcess(self.folder / "data", "--port", str(self.port))

    def _start_worker(self, *, point: str = "", file_bytes: int = 0, settle: float = 0.0) -> None:
        told = {
            "name": self.life.name,
            "token": self.token,
            "db": str(self.life.db),
            "url": self.proxy.url,
            "rows_max": self.life.rows_max,
            "first": self.cycle * 1_000,
            "file_bytes": file_bytes,
            "settle": settle,
        }
        self.worker = subprocess.Popen(
            [sys.executable, str(WORKER), json.dumps(told)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(**({"FLOWKIT_CRASH_POINT": point} if point else {})),
        )
        begun = threading.Event()
        self.reader = threading.Thread(
            target=self._read, args=(self.worker, self.life, begun), daemon=True
        )
        self.reader.start()
        begun.wait(10)

    def _kill_worker(self) -> None:
        worker = self.worker
        if worker is None:
            return
        if worker.poll() is None:
            worker.send_signal(signal.SIGKILL)
            self.counts["device kills"] += 1
        elif worker.returncode == -signal.SIGKILL:
            self.counts["kills at a crash point"] += 1
        worker.wait(10)
        if self.reader is not None:
            self.reader.join(10)
        errors = worker.stderr.read()
        worker.stderr.close()
        worker.stdout.close()
        self.worker = None
        if "Traceback" in errors:
            raise Differs(f"the device failed: {errors[-2000:]}")

    def _read(self, worker: subprocess.Popen, life: Life, begun: threading.Event) -> None:
        for line in worker.stdout:
            word, *rest = line.split()
            if word == "B":
                begun.set()
            elif word == "A":
                life.accepted.append(int(rest[0]))
            elif word == "R":
                life.reported = int(rest[0])
            elif word == "H":
                if life.acked[int(rest[0])]:
                    life.after_ack.append(int(rest[0]))
                life.handed[int(rest[0])] += 1
            elif word == "I":
                life.acked[int(rest[0])] += 1
            elif word == "D" and rest[0] != "None":
                life.dead.add(int(rest[0]))
            elif word == "S":
                life.settled = (int(rest[0]), int(rest[1]), " ".join(rest[2:]))
            elif word == "X":
                self.counts["refused by the device"] += 1
        begun.set()

    def _store_bytes(self) -> int:
        return max(path.stat().st_size for path in (self.folder / "data").iterdir())

    def _file_bytes(self) -> int:
        """A little more than the device's file has now."""
        sizes = [path.stat().st_size for path in self.life.db.parent.glob(f"{self.life.db.name}*")]
        return max([65_536, *sizes]) + self.chance.choice([4_096, 40_000, 400_000])

    def _new_life(self) -> Life:
        self.lives += 1
        rows_max = self.chance.choice([1_000_000, 1_000_000, 60])
        return Life(f"dev-{self.lives}", self.folder / f"dev{self.lives}.db", rows_max)

    # The account

    def settle(self) -> None:
        """All is healed: what has become of everything."""
        self.proxy.heal()
        life = self.life
        end = monotonic() + SETTLE_S
        while life.settled is None or life.settled[0]:
            if monotonic() > end:
                raise Differs(f"it does not come to rest: {life.settled}")
            self._start_worker(settle=10.0)
            self.worker.wait(30)
            self._kill_worker()
        self._compare(life)
        self.counts["settled"] += 1
        self.counts["accepted"] += len(life.accepted)
        self.counts["dead"] += len(life.dead)
        self.counts["dropped"] += life.settled[1]
        self.life = self._new_life()

    def _compare(self, life: Life) -> None:
        with self._api() as api:
            stored = {name: self._numbers(api, name, life) for name in ("a", "b", "strict")}
            (device,) = api.device.find(mem.deviceId == life.name)
        everything = [number for numbers in stored.values() for number in numbers]
        self.counts["stored"] += len(everything)
        twice = [number for number, count in Counter(everything).items() if count > 1]
        if twice:
            raise Differs(f"stored twice: {twice[:10]}")
        missing = set(life.accepted) - set(everything) - life.dead
        if len(missing) > life.settled[1]:
            raise Differs(f"{len(missing)} lost, {life.settled[1]} dropped: {sorted(missing)[:10]}")
        for name, numbers in stored.items():
            if numbers != sorted(numbers):
                raise Differs(f"out of order in {name}")
        reported = device["reported"].get("n", 0)
        if reported < life.reported:
            raise Differs(f"reported {reported}, the last that returned was {life.reported}")
        self._compare_commands(life)

    def _compare_commands(self, life: Life) -> None:
        again = [number for number, count in life.acked.items() if count > 1] + life.after_ack
        if again:
            raise Differs(f"handed out after its acknowledgement: {again}")
        never = [number for number in life.sent if not life.handed[number]]
        if never:
            raise Differs(f"never handed out: {never}")

    def _numbers(self, api: API, stream: str, life: Life) -> list[int]:
        path = f"/nora/streams/g/{stream}"
        params = {"path": path, "order": "asc", "limit": 100_000}
        drops = api.request("GET", "/drop", params=params)
        mine = [drop["elems"] for drop in drops if drop["elems"]["_message"]["device"] == life.name]
        return [int(elems.get("n", elems["_message"]["id"])) for elems in mine]


def main() -> None:
    """A campaign, and its report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cycles", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    began = monotonic()
    with TemporaryDirectory() as folder:
        campaign = Campaign(Path(folder), asked.seed)
        try:
            campaign.run(asked.cycles)
        finally:
            campaign.close()
            print(f"seed {asked.seed}, {campaign.cycle} cycles, {monotonic() - began:.0f} s")
            for what, count in sorted(campaign.counts.items()):
                print(f"  {what:<24} {count:>8,}")
    print("every account came out even")


if __name__ == "__main__":
    main()
