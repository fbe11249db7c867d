"""Many simulated worlds of senders: ``python -m tests.together.sending_campaign --worlds 500``."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic

from tests.together.sending import Differs, World
from tests.together.test_sending import WORLDS


def main() -> None:
    """Run them, print a line for each kind, and end with 1 if any differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worlds", type=int, default=500, help="of each kind")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    asked = parser.parse_args()
    logging.disable(logging.CRITICAL)
    broken = 0
    for name, kind in WORLDS.items():
        began, entries, forks, wrong = monotonic(), 0, 0, 0
        for seed in range(asked.first, asked.first + asked.worlds):
            with TemporaryDirectory() as folder:
                try:
                    world = World(seed, Path(folder), **kind)
                    entries += len(world.books.places)
                    forks += world.books.forks
                except Differs as error:
                    wrong += 1
                    print(f"  seed {seed}: {error}")
        seconds = monotonic() - began
        print(
            f"{name}: {asked.worlds} worlds, {entries} entries, {forks} forks,"
            f" {wrong} differ, {seconds:.0f} s",
            flush=True,
        )
        broken += wrong
    sys.exit(bool(broken))


if __name__ == "__main__":
    main()
