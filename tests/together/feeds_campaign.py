"""The campaign of subscriptions: worlds of every kind, until enough losses and drops were seen.

``python -m tests.together.feeds_campaign``, which ``tox -e feeds`` runs. Each world has a seed that
is printed if anything is found in it; worlds run in several processes. The exit code is 1 if there
was any difference.

Two kinds: a server in the same process, with the moments between page and hub drawn out, and a
``flowkit serve`` that is killed and restored, with the client library's subscriptions among the
readers. In both: what every reader heard is what happened (``positions`` 11, I1 to I6).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

from flowkit import limits
from tests.together.feeds.naive import late
from tests.together.feeds.servers import InProcess, OwnProcess
from tests.together.feeds.tiny import Tiny
from tests.together.feeds.world import Counts, Plan, World

KILLED = Plan(
    rounds=4,
    writes=80,
    connections=3,
    restarts=("kill", "kill", "stop", "back"),
    restart_share=0.8,
    guests=3,
)
IN_PROCESS = Plan(rounds=4, writes=120, connections=5)
BOUNDS = (
    Tiny(),
    Tiny(page=3, queue_messages=3, commit=1_000),
    Tiny(page=50, queue_messages=50, queue_bytes=100_000, progress=20, send_buffer=0),
)


@dataclass(slots=True)
class Outcome:
    """What came of one world.

    Attributes:
        seed: which.
        found: the violations, as sentences.
        counts: what went on in it.
        seconds: how long it took.
    """

    seed: str
    found: list[str] = field(default_factory=list)
    counts: Counts = field(default_factory=Counts)
    seconds: float = 0.0


def one(seed: str) -> Outcome:
    """Run the world of that seed: ``<campaign> <number>``."""
    number = int(seed.rpartition(" ")[2])
    limits.reconnect_first_delay_s = 0.02  # a campaign has no time for the usual pauses
    limits.reconnect_delay_max_s = limits.resubscribe_delay_max_s = 0.1
    tiny = BOUNDS[number % len(BOUNDS)]
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        if number % 2:
            world = World(OwnProcess(Path(folder), tiny), seed, KILLED)
            found = world.run()
        else:
            with tiny.here(), late():
                world = World(InProcess(Path(folder), tiny), seed, IN_PROCESS)
                found = world.run()
    return Outcome(seed, list(map(str, found)), world.counts, time.monotonic() - begun)


def campaign(name: str, *, disconnects: int, drops: int, seconds: float, processes: int) -> int:
    """Run worlds until there were so many losses and writes, or the time is up; how many failed."""
    total, worlds, failed, next_number = Counts(), 0, 0, 0
    begun = time.monotonic()
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        running: set[Future[Outcome]] = set()
        while True:
            enough = total.disconnects >= disconnects and total.drops >= drops
            is_over = enough or time.monotonic() - begun > seconds
            while not is_over and len(running) < processes:
                running.add(pool.submit(one, f"{name} {next_number}"))
                next_number += 1
            if not running:
                break
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for outcome in (each.result() for each in done):
                worlds += 1
                total += outcome.counts
                failed += bool(outcome.found)
                for text in outcome.found:
                    print(f"seed {outcome.seed!r}: {text}", flush=True)
            if worlds % 20 == 0:
                print(f"{worlds} worlds, {time.monotonic() - begun:.0f} s: {total}", flush=True)
    print(f"{worlds} worlds in {time.monotonic() - begun:.0f} s, {failed} failed: {total}")
    return failed


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--disconnects", type=int, default=1_000)
    parser.add_argument("--drops", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=900)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seed", default=str(int(time.time())))
    parser.add_argument("--world", help="run this one world alone, by the seed that was printed")
    asked = parser.parse_args()
    if asked.world:
        outcome = one(asked.world)
        print("\n".join(outcome.found), outcome.counts, sep="\n")
        sys.exit(bool(outcome.found))
    print(f"campaign of seed {asked.seed!r}", flush=True)
    failed = campaign(
        asked.seed,
        disconnects=asked.disconnects,
        drops=asked.drops,
        seconds=asked.seconds,
        processes=asked.processes,
    )
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
