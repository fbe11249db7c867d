"""kill -9 and power cuts: what ``put`` returned for is there afterwards.

A child writes from several threads, settles, drops and buries, and prints each receipt after the
call returned. It is killed at a random moment, or at a named crash point; then the file is opened
again, round after round on the same file. ``FLOWKIT_CRASH_ROUNDS`` sets the number of kills.

The power cut is recorded: a file system of our own under SQLite (a VFS of apsw) takes down each
write and each sync of a whole life of an outbox. From that record files are made as a disk may
have them after a cut: all that was synced, and of what was written since any part, torn anywhere.
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
from device.power_cut import Recorder, after_cut, recorded

from flowkit.device import Outbox, file

ROUNDS = int(os.environ.get("FLOWKIT_CRASH_ROUNDS", "6"))
SEED = int(os.environ.get("FLOWKIT_CRASH_SEED", "1"))

CHILD = """
import os, sys, threading
from flowkit.device import Outbox, file

box = Outbox(sys.argv[1])
lock = threading.Lock()

def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())

def work(number):
    stream = f"s{number % 3}"
    for n in range(100_000):
        if n % 7 == 3:
            receipts = box.put_many(stream, [{"n": n}, {"n": n}])
        else:
            receipts = [box.put(stream, {"n": n}, payload=b"x" * 3000 if n % 5 == 0 else None)]
        for receipt in receipts:
            say("put", receipt.stream, receipt.sequence, receipt.message)

def drain():
    while True:
        for stream in box.streams():
            rows = box.peek(stream, limit=20)
            box.sent(stream, rows[-1].to)
            entries = [row for row in rows if row.skip is None]
            with lock:
                if entries and entries[0].sequence % 3 == 0:
                    say("burying", entries[0].message)
                    box.bury(entries[0], "no")
                rows = box.peek(stream, limit=20)
                say("settling", stream, rows[len(rows) // 2].to)
                box.learn(stream, rows[len(rows) // 2].to, rows[len(rows) // 2].message)
                say("settled", stream, rows[len(rows) // 2].to)

for number in range(6):
    threading.Thread(target=work, args=(number,), daemon=True).start()
threading.Thread(target=drain, daemon=True).start()
say("ready")
threading.Event().wait()
"""

POINTS = ["before commit", "after commit"]


def crash(path: str, chance: random.Random, point: str | None) -> list[list[str]]:
    """Run the child until it is killed; the lines that it had printed."""
    environ = dict(os.environ)
    if point:
        environ["FLOWKIT_CRASH_POINT"] = f"{point}:{chance.randrange(20, 120)}"
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, path], stdout=subprocess.PIPE, bufsize=0, env=environ
    )
    assert child.stdout is not None
    heard: list[bytes] = []
    wanted = chance.randrange(50, 600)
    killer = threading.Timer(30, child.kill)
    killer.start()
    lines = 0
    while chunk := child.stdout.read(65536):
        heard.append(chunk)
        lines += chunk.count(b"\n")
        if point is None and lines >= wanted:
            child.send_signal(signal.SIGKILL)
            point = "killed"
    killer.cancel()
    assert child.wait(20) == -signal.SIGKILL
    return [line.split() for line in b"".join(heard).decode().splitlines()]


@pytest.mark.slow
@pytest.mark.timeout(60 + 5 * ROUNDS)
def test_what_was_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    """Every receipt waits under its number, is dead, or is settled; each stream has no hole."""
    chance, path = random.Random(SEED), str(tmp_path / "box.db")
    put: dict[str, tuple[str, int]] = {}
    settling: dict[str, int] = {}
    settled: dict[str, int] = {}
    for number in range(ROUNDS):
        point = POINTS[number % 3] if number % 3 < 2 else None
        for words in crash(path, chance, point):
            if words[0] == "put":
                put[words[3]] = words[1], int(words[2])
            elif words[0] == "settling":
                settling[words[1]] = max(settling.get(words[1], 0), int(words[2]))
            elif words[0] == "settled":
                settled[words[1]] = max(settled.get(words[1], 0), int(words[2]))
        with Outbox(path) as box:
            assert box.reports() == []
            dead = {letter.message for letter in box.dead()}
            first: dict[str, int] = {}
            waiting = {}
            for stream in box.streams():
                rows = box.peek(stream, limit=1_000_000, bytes_max=1 << 30)
                first[stream] = rows[0].sequence
                assert [row.sequence for row in rows[1:]] == [row.to + 1 for row in rows[:-1]]
                for row in rows:
                    waiting[row.message] = stream, row.sequence
                    if row.skip is None and row.payload is not None:
                        assert box.payload(row, 0, 4000) == b"x" * 3000
            entries = sum(1 for s in box.streams() for r in box.peek(s, limit=10**6) if not r.skip)
            assert box.pending.count == entries
        for stream, upto in settled.items():
            assert first.get(stream, upto + 1) > upto
        for message, place in put.items():
            stream, sequence = place
            here = waiting.get(message) == place or message in dead
            assert here or sequence <= settling.get(stream, 0), f"{place} is lost"
    assert len(put) > 20 * ROUNDS


def live(box: Outbox, recorder: Recorder, chance: random.Random) -> None:
    """A life of an outbox; what each call returned for is noted beside the writes."""
    done = recorder.log.append
    for number in range(60):
        stream = chance.choice(["a", "b"])
        what = chance.random()
        rows = box.peek(stream, limit=10)
        if what < 0.6 or not rows:
            payload = b"x" * 5000 if number % 9 == 0 else None
            receipt = box.put(stream, {"n": number}, payload=payload)
            done(("done", ("put", receipt.message)))
        elif what < 0.7:
            for receipt in box.put_many(stream, [{"n": number}] * 5):
                done(("done", ("put", receipt.message)))
        elif what < 0.9:
            box.sent(stream, rows[-1].to)
            done(("done", ("settling", {row.message for row in rows})))
            box.learn(stream, rows[-1].to, rows[-1].message)
            done(("done", ("settled", {row.message for row in rows})))
        elif rows[0].skip is None:
            box.sent(stream, rows[0].to)
            box.bury(rows[0], "no")
            done(("done", ("dead", rows[0].message)))


@pytest.mark.parametrize("seed", range(int(os.environ.get("FLOWKIT_CUT_SEEDS", "3"))))
def test_what_was_acknowledged_survives_a_power_cut(tmp_path, monkeypatch, seed):
    """Wherever the power goes, whatever of the writes under way reached the disk."""
    chance = random.Random(seed)
    with recorded(monkeypatch) as recorder:
        box = Outbox(str(tmp_path / "box.db"))
        live(box, recorder, chance)
        box.close()
    log = recorder.log
    begun = next(place for place, entry in enumerate(log) if entry[0] == "done")
    assert sum(entry[0] == "sync" for entry in log) > 50
    for number in range(25):
        cut = chance.randrange(begun, len(log))
        path = after_cut(log, cut, chance, tmp_path / f"cut {number}")
        (tmp_path / f"cut {number}" / "box.db.lock").write_bytes(file.MARK)
        said = [entry[1] for entry in log[:cut] if entry[0] == "done"]
        put = {what for kind, what in said if kind == "put"}
        gone = set().union(*(what for kind, what in said if kind == "settling"))
        settled = set().union(*(what for kind, what in said if kind == "settled"))
        with Outbox(path) as after:
            assert after.reports() == []
            dead = {letter.message for letter in after.dead()}
            waiting = {row.message for s in after.streams() for row in after.peek(s)}
        assert put - gone <= waiting | dead
        assert {what for kind, what in said if kind == "dead"} <= dead
        assert not settled & waiting


RARE = """
import os, sys
from flowkit.device import Outbox
box = Outbox(sys.argv[1])
box.put("air", {"n": 2})
os.write(1, b"put")
box.close()
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("point", "said"), [("file created", b""), ("set aside", b""), ("before close", b"put")]
)
def test_a_kill_at_a_rare_moment_leaves_a_file_that_opens(tmp_path, point, said):
    """While it is made, while a damaged one is set aside, while it is closed."""
    path = tmp_path / "box.db"
    if point == "set aside":
        with Outbox(str(path)) as box:
            box.put_many("air", [{"n": number, "text": "x" * 500} for number in range(100)])
        content = bytearray(path.read_bytes())
        content[4096:20_000] = os.urandom(20_000 - 4096)
        path.write_bytes(content)
    environ = {**os.environ, "FLOWKIT_CRASH_POINT": f"{point}:1"}
    child = subprocess.run(
        [sys.executable, "-c", RARE, str(path)], env=environ, capture_output=True, timeout=30
    )
    assert child.returncode == -signal.SIGKILL, child.stderr
    assert child.stdout == said
    with Outbox(str(path)) as box:
        waiting = box.pending.count
        box.put("air", {"n": 3})
        assert box.pending.count == waiting + 1
    assert waiting >= (point == "before close")
    if point == "set aside":
        assert list(tmp_path.glob("box.db.broken-*"))
