"""All figures in one run: the machine, the versions, then every ``bench_*.py`` of this folder.

``tox -e bench`` runs everything, ``tox -e bench -- filters import`` only those two. Nothing is
asserted: the figures of record stand in ``docs/explanation/performance.rst``.
"""

import argparse
import importlib.metadata
import os
import platform
import runpy
import sys
from pathlib import Path

HERE = Path(__file__).parent
SHOWN = (
    "flowkit gevent requests geventhttpclient apsw orjson google-re2 simplejson aiohttp h11 "
    "httptools grequests lark lazy-object-proxy wrapt websockets websocket-client"
).split()


def describe_machine() -> None:
    """Print what a figure means nothing without."""
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    print(f"{os.cpu_count()} cores of {model}, {platform.system()} {platform.release()}")
    print(f"Python {platform.python_version()}", end="")
    for name in SHOWN:
        try:
            print(f", {name} {importlib.metadata.version(name)}", end="")
        except importlib.metadata.PackageNotFoundError:
            print(f", {name} not installed", end="")
    print("\n")


def main() -> None:
    """Run the benches that were named, or all of them."""
    names = sorted(path.stem.removeprefix("bench_") for path in HERE.glob("bench_*.py"))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bench", nargs="*", metavar="BENCH", help=f"any of: {', '.join(names)}")
    chosen = parser.parse_args().bench or names
    unknown = set(chosen) - set(names)
    if unknown:
        parser.error(f"no such bench: {', '.join(sorted(unknown))} (there are {', '.join(names)})")
    describe_machine()
    sys.path.insert(0, str(HERE))
    for name in chosen:
        print(f"== {name} ==", flush=True)
        sys.argv = [str(HERE / f"bench_{name}.py")]
        runpy.run_path(sys.argv[0], run_name="__main__")
        print(flush=True)


if __name__ == "__main__":
    main()
