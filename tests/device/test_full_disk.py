"""A disk that an outbox has filled: what waits goes out all the same, and makes room."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest

from flowkit.device import Outbox, bounds
from flowkit.device.inbound import Inbound
from flowkit.errors import OutboxError

FILL_AND_SETTLE = """
import sys
from flowkit.device import Outbox
from flowkit.errors import OutboxError

folder, size = sys.argv[1], int(sys.argv[2])
with Outbox(f"{folder}/box.db") as box:
    try:
        for number in range(1_000_000):
            box.put_many("air", [{"n": number, "text": "x" * size} for _ in range(20)])
    except OutboxError as error:
        assert error.full, error
        assert "the disk is full" in str(error), error
    put = box.pending.count
    while rows := box.peek("air", limit=500):
        box.sent("air", rows[-1].to)
        box.learn("air", rows[-1].to, rows[-1].message)
    receipt = box.put("air", {"n": -1})
    assert box.pending.count == 1, box.pending
    print(put)
"""

IN_A_SMALL_DISK = """
set -e
mount -t tmpfs -o size=24m tmpfs "$1"
"$2" -c "$3" "$1" "$4"
"""


def in_a_small_disk(folder, code, *told):
    """The end of a process that ran on a disk of 24 MiB; skips where none can be mounted."""
    unshare = shutil.which("unshare")
    if unshare is None:
        pytest.skip("no small disk without unshare")
    own = [unshare, "--user", "--map-root-user", "--mount", "sh", "-c"]
    if subprocess.run(
        [*own, 'mount -t tmpfs -o size=24m tmpfs "$0"', folder], capture_output=True, timeout=20
    ).returncode:
        pytest.skip("this system lets nobody mount a small disk")
    return subprocess.run(
        [*own, IN_A_SMALL_DISK, "small", folder, sys.executable, code, *told],
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.slow
@pytest.mark.parametrize("size", [100, 20_000])
def test_what_has_filled_its_disk_goes_out_and_makes_room(tmp_path, size):
    """A disk full to its last byte could not even note that something was sent."""
    done = in_a_small_disk(str(tmp_path), FILL_AND_SETTLE, str(size))
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) * size > 4_000_000


def disk(monkeypatch, free, total=1 << 40):
    """Let the disk say how many bytes it has."""
    told = SimpleNamespace(f_frsize=1, f_bavail=free, f_blocks=total)
    monkeypatch.setattr(os, "statvfs", lambda path: told)


def test_a_put_leaves_room_for_sending(tmp_path, monkeypatch):
    """Twice what is put, since it stands in the log first; and nothing of it is kept."""
    with Outbox(str(tmp_path / "box.db")) as box:
        disk(monkeypatch, bounds.outbox_disk_left_bytes + 3_000)
        box.put("air", {"text": "x" * 1000})
        with pytest.raises(OutboxError, match="8194 KiB are left, of which 8192 KiB stay") as told:
            box.put("air", {"n": 1}, payload=b"x" * 2000)
        assert told.value.full
        assert box.pending.count == 1


def test_a_small_disk_is_kept_free_by_a_quarter(tmp_path, monkeypatch):
    """Not by more than it has."""
    with Outbox(str(tmp_path / "box.db")) as box:
        disk(monkeypatch, 2_100_000, total=8_000_000)
        box.put("air", {"n": 1})
        disk(monkeypatch, 1_900_000, total=8_000_000)
        with pytest.raises(OutboxError, match="1855 KiB are left, of which 1953 KiB stay free"):
            box.put("air", {"n": 2})


def test_room_inside_the_file_is_room(tmp_path, monkeypatch):
    """A file that was emptied takes entries again on a disk that others have filled."""
    with Outbox(str(tmp_path / "box.db")) as box:
        box.put("air", {"n": 1}, payload=b"x" * 3 * bounds.outbox_disk_left_bytes)
        disk(monkeypatch, 0)
        with pytest.raises(OutboxError, match="the disk is full"):
            box.put("air", {"n": 2})
        box.ack(box.peek("air"))
        box.put("air", {"n": 3})
        assert box.pending.count == 1


def test_messages_to_a_device_leave_room_for_sending(tmp_path, monkeypatch):
    """They stay with the platform, and none is lost; what says where to go on is small."""
    text = "x" * 2000
    heard = [
        {"type": "message", "position": f"p{n}", "value": {"id": f"d{n}", "elems": {"n": text}}}
        for n in range(2)
    ]
    with Outbox(str(tmp_path / "box.db")) as box:
        inbound = Inbound(box)
        inbound.hear(heard[0])
        disk(monkeypatch, bounds.outbox_disk_left_bytes + 3_000)
        with pytest.raises(OutboxError, match="the disk is full"):
            inbound.hear(heard[1])
        assert inbound.place == "p0"
        box.keep("desired", {"values": {}})  # the document itself is never refused
        inbound.receive(0).ack()
        disk(monkeypatch, bounds.outbox_disk_left_bytes + 6_000)
        inbound.hear(heard[1])
        assert (inbound.place, inbound.receive(0).id) == ("p1", "d1")
