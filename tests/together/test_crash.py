"""kill -9 during load: every acknowledged drop is there, the file is sound, the folder is free.

A child process writes from many threads and prints the id of each drop after ``Store.write`` has
returned. It is killed at a random moment; then the same folder is opened again, round after round,
so that later rounds also crash during and after recovery.

``FLOWKIT_CRASH_ROUNDS`` sets the number of crashes.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from flowkit.errors import SettingsError
from flowkit.server.store.sqlite import FILE_NAME, open_store
from flowkit.server.store.verify import verify

ROUNDS = int(os.environ.get("FLOWKIT_CRASH_ROUNDS", "5"))
ROUNDS_PER_FOLDER = 10
"""A round writes some 3,000 drops at most: all of them fit into the flow that keeps them."""

WRITERS = 16
CAPACITY = 100_000

CHILD = f"""
import os, sys, threading
from flowkit.server.store.sqlite import open_store

store = open_store(sys.argv[1])

def flow(name, capacity):
    path = "/nora/" + name
    return store.read(lambda r: r.flow_at(path)) or store.write(
        lambda w: w.create_flow({{"path": path, "capacity": capacity}}, creator="i1")
    )

kept, small = flow("kept", {CAPACITY}), flow("small", 5)

def put(target, n, **members):
    members["elems"] = {{"n": n}}
    return store.write(lambda w: w.create_drop(target, members, {{}}, creator="i1"))

def work(number):
    n = 0
    while True:
        n += 1
        mine = put(kept, n)
        os.write(1, f"{{mine.drop.doc['id']}} {{mine.position}}\\n".encode())
        put(small, n, fhash=str(n % 7))
        if n % 5 == 0:
            store.write(lambda w: w.clear(small))

for number in range({WRITERS}):
    threading.Thread(target=work, args=(number,), daemon=True).start()
os.write(1, b"ready\\n")
threading.Event().wait()
"""


def crash(folder: Path, chance: random.Random) -> list[tuple[str, str]]:
    """Run the child on *folder*, kill it at a random moment; what it had acknowledged."""
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(folder)], stdout=subprocess.PIPE, bufsize=0
    )
    assert child.stdout is not None
    heard: list[bytes] = []
    enough = threading.Event()
    wanted = chance.randrange(1, 3_000)

    def listen() -> None:
        assert child.stdout is not None
        count = 0
        while piece := child.stdout.read(65_536):
            heard.append(piece)
            count += piece.count(b"\n")
            if count >= wanted:
                enough.set()
        enough.set()

    listener = threading.Thread(target=listen)
    listener.start()
    assert enough.wait(30), "the child wrote too little"
    child.send_signal(signal.SIGKILL)
    child.wait()
    listener.join()
    child.stdout.close()
    said = b"".join(heard).decode()
    whole = said[: said.rfind("\n") + 1].split("\n")
    return [(line.split()[0], line.split()[1]) for line in whole if " " in line]


def check(folder: Path, acknowledged: list[tuple[str, str]]) -> int:
    """Open *folder* again: every acknowledged drop is there, the file is sound; how many live."""
    assert verify(folder / FILE_NAME) == []
    store = open_store(folder)
    try:
        kept = store.read(lambda r: r.flow_at("/nora/kept"))
        found = store.read(lambda r: r.drops(kept, [each for each, _ in acknowledged]))
        missing = [each for each, _ in acknowledged if each not in found]
        assert missing == []
        positions = [position for _, position in acknowledged]
        assert len(set(positions)) == len(positions), "a position was given twice"
        head = store.read(lambda r: r.flow(kept.id).head)
        assert head >= len(positions)
        assert head >= max((int(each.rsplit(".", 1)[1]) for each in positions), default=0)
        with pytest.raises(SettingsError, match="in use by process"):
            open_store(folder)
    finally:
        store.close()
    assert verify(folder / FILE_NAME) == []
    return head


def rounds(folder: Path, count: int, chance: random.Random) -> int:
    """*count* crashes on one folder; how many drops were acknowledged in all."""
    acknowledged: list[tuple[str, str]] = []
    for _ in range(count):
        acknowledged += crash(folder, chance)
        head = check(folder, acknowledged)
        assert head < CAPACITY, "more drops than the flow can keep: fewer rounds per folder"
    return len(acknowledged)


@pytest.mark.slow
@pytest.mark.timeout(60 + 40 * ROUNDS)
def test_every_acknowledged_drop_survives_kill_9(tmp_path):
    """Crashes during load, many on the same folder, lose nothing that was answered."""
    chance = random.Random()
    for start in range(0, ROUNDS, ROUNDS_PER_FOLDER):
        some = min(ROUNDS_PER_FOLDER, ROUNDS - start)
        assert rounds(tmp_path / f"data{start}", some, chance) > 0
