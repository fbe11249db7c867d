"""What importing costs: each line is a fresh interpreter, with the bare interpreter taken off."""

import statistics
import subprocess
import sys
import time

ROUNDS = 9
SCRIPTS = {
    "(bare interpreter)": "pass",
    "import flowkit": "import flowkit",
    "from flowkit import mem": "from flowkit import mem",
    "from flowkit import API": "from flowkit import API",
    "from flowkit import embedded": "from flowkit import embedded; embedded",
    "import requests": "import requests",
    "import gevent": "import gevent",
    "import aiohttp": "import aiohttp",
}


def main() -> None:
    """Print milliseconds for each import."""
    spans = {name: [] for name in SCRIPTS}
    for _ in range(ROUNDS):
        for name, script in SCRIPTS.items():
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", script], check=True)
            spans[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(taken) for name, taken in spans.items()}
    bare = medians.pop("(bare interpreter)")
    print(f"  (bare interpreter)            {bare * 1e3:8.1f} ms")
    for name, taken in medians.items():
        print(f"  {name:<30}{(taken - bare) * 1e3:8.1f} ms")


if __name__ == "__main__":
    main()
