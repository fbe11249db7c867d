"""kill -9 during load: every acknowledged drop is there, the file is sound, the folder is free.

A child process writes from many threads and prints the id of each drop after ``Store.write`` has
returned. Every drop is counted, and waits for two tracks, which copy it, each into a flow of its
own, in the commit that moves their place: one at once, the other far behind. It is killed at a
random moment; then the same folder is opened again, round after round, so that later rounds also
crash during and after recovery. No delivery is lost or doubled, and the counts are exact.

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
from typing import Any

import pytest

from flowkit import limits
from flowkit.errors import SettingsError
from flowkit.query.params import Query
from flowkit.server.plan import plan_find
from flowkit.server.store.base import Store, StoredFlow
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

if store.read(lambda r: r.account("nora")) is None:
    store.write(lambda w: w.create_account("nora", b"nora"))
me = store.read(lambda r: r.account("nora")).identity_id

def flow(name, capacity):
    path = "/nora/" + name
    return store.read(lambda r: r.flow_at(path)) or store.write(
        lambda w: w.create_flow({{"path": path, "capacity": capacity}}, creator="i1")
    )

kept, small = flow("kept", {CAPACITY}), flow("small", 5)
copies = {{name: flow(name, {CAPACITY}) for name in ("quick", "slow")}}

def track(name):
    members = {{"source": kept.path, "destination": copies[name].path}}
    found = [t for t in store.read(lambda r: r.objects("track"))
             if t.doc["destination"] == members["destination"]]
    return found[0] if found else store.write(
        lambda w: w.create_object("track", "nora", members, creator=me)
    )

def create(writer, target, members, hops):
    mine = writer.create_drop(target, members, {{}}, creator=me)
    writer.route(target, mine.drop, hops=hops)
    writer.count("flowDropAdded", target.id)
    writer.count("dropCreatedBy", me)
    return mine

def put(target, n, **members):
    members["elems"] = {{"n": n}}
    store.count_later("apiCallByIdentity", me)
    return store.write(lambda w: create(w, target, members, 0))

def copy(name, most):
    mine = track(name)
    def work(writer):
        waiting = writer.deliveries(mine, most)
        for each in waiting:
            parent = {{"dropId": each.drop.doc["id"]}}
            members = {{"elems": each.drop.doc["elems"], "parentDropId": parent}}
            create(writer, copies[name], members, each.hops + 1)
        if waiting:
            writer.count("trackHit", mine.id, len(waiting))
            writer.settle_track(mine, waiting[-1].place)
    while True:
        store.write(work)

def work(number):
    n = 0
    while True:
        n += 1
        mine = put(kept, n)
        os.write(1, f"{{mine.drop.doc['id']}} {{mine.position}}\\n".encode())
        put(small, n, fhash=str(n % 7))
        if n % 5 == 0:
            store.write(lambda w: w.clear(small))

for name in copies:
    track(name)
for name, most in (("quick", 500), ("slow", 3)):
    threading.Thread(target=copy, args=(name, most), daemon=True).start()
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
        check_tracks(store)
        with pytest.raises(SettingsError, match="in use by process"):
            open_store(folder)
    finally:
        store.close()
    assert verify(folder / FILE_NAME) == []
    return head


def check_tracks(store: Store) -> None:
    """No delivery is lost or doubled, and every count is the number of what it counts."""

    def count(kind: str, object_id: str) -> int:
        return sum(store.read(lambda r: r.statistics(kind, object_id, 0, 10**9)).values())

    kept = store.read(lambda r: r.flow_at("/nora/kept"))
    made = drops_in(store, kept)
    added = len(made)
    tracks = store.read(lambda r: r.objects("track"))
    assert len(tracks) == 2
    for track in tracks:
        waiting = store.read(lambda r, t=track: r.deliveries(t, CAPACITY))
        copies = store.read(lambda r, t=track: r.flow_at(t.doc["destination"]))
        came = [each["parentDropId"]["dropId"] for each in drops_in(store, copies)]
        passed = came + [each.drop.doc["id"] for each in waiting]
        assert sorted(passed) == sorted(each["id"] for each in made), track.doc["destination"]
        assert count("trackHit", track.id) == len(came)
        assert count("flowDropAdded", copies.id) == len(came)
        added += len(came)
    assert count("flowDropAdded", kept.id) == len(made)
    small = store.read(lambda r: r.flow_at("/nora/small"))
    me = store.read(lambda r: r.account("nora")).identity_id
    assert count("dropCreatedBy", me) == added + count("flowDropAdded", small.id)
    # What no write goes with may be lost with the last second, and is never more than there was.
    assert count("apiCallByIdentity", me) > 0


def drops_in(store: Store, flow: StoredFlow) -> list[dict[str, Any]]:
    """All live drops of a flow."""
    query = Query.from_wire({"limit": CAPACITY})
    plan = plan_find("drop", query, now_ms=0, flow=flow)
    return [each.doc for each in store.read(lambda r: r.find(plan)).objects]


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
def test_every_acknowledged_drop_survives_kill_9(tmp_path, monkeypatch):
    """Crashes during load, many on the same folder, lose nothing that was answered."""
    monkeypatch.setattr(limits, "track_batch_bytes_max", 2**30)  # all that waits, in one look
    chance = random.Random()
    for start in range(0, ROUNDS, ROUNDS_PER_FOLDER):
        some = min(ROUNDS_PER_FOLDER, ROUNDS - start)
        assert rounds(tmp_path / f"data{start}", some, chance) > 0
