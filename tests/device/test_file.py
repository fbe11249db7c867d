"""The file of an outbox: who may open it, what becomes of a damaged one, what a disk may do."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import threading

import pytest

from flowkit.device import Outbox
from flowkit.device import file as file_module
from flowkit.device.schema import APPLICATION_ID, VERSION
from flowkit.errors import OutboxError, SettingsError, UsageError


@pytest.fixture
def path(tmp_path):
    """Where the outbox is."""
    return str(tmp_path / "box.db")


def fill(path, count=5, **options):
    """An outbox with entries and a kept value, closed; its box."""
    with Outbox(path, **options) as box:
        for number in range(1, count + 1):
            box.put("air", {"n": number})
        box.keep("token", {"a": 1})
        return box.box


def numbers(box):
    """The entries that wait, as JSON."""
    return [row.entry for row in box.peek("air", limit=10_000) if row.skip is None]


# Who may open it


def test_nobody_else_may_read_the_files(path):
    """From the first byte, whatever the umask says; an open file is made private."""
    before = os.umask(0)
    try:
        with Outbox(path) as box:
            box.put("air", {})
            names = sorted(os.listdir(os.path.dirname(path)))
            modes = {
                stat.S_IMODE(os.stat(os.path.join(os.path.dirname(path), n)).st_mode) for n in names
            }
    finally:
        os.umask(before)
    assert names == ["box.db", "box.db-shm", "box.db-wal", "box.db.lock"]
    assert modes == {0o600}

    os.chmod(path, 0o644)
    with Outbox(path):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600


def test_one_process_has_the_file(path):
    """Another one is told which; when that has ended, however, it is free."""
    code = (
        "import sys, os; from flowkit.device import Outbox; box = Outbox(sys.argv[1]);"
        "box.put('air', {}); os.write(1, b'open\\n'); sys.stdin.read()"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert child.stdout.readline() == b"open\n"
        with pytest.raises(SettingsError, match=f"{path} is open in process {child.pid}"):
            Outbox(path)
        child.send_signal(signal.SIGKILL)
        child.wait(20)
        with Outbox(path) as box:
            assert len(numbers(box)) == 1
    finally:
        child.kill()
        child.communicate()


def test_the_same_process_cannot_open_it_twice(path):
    """Nor under another name; after closing it can."""
    os.symlink(path, path + ".link")
    with Outbox(path):
        for name in (path, path + ".link"):
            with pytest.raises(SettingsError, match="open in this process already"):
                Outbox(name)
    Outbox(path).close()


def test_an_outbox_that_is_forgotten_frees_its_file(path):
    """Without ``close``; nobody has to wait for the end of the process."""
    box = Outbox(path)
    box.put("air", {"n": 1})
    del box
    with Outbox(path) as again:
        assert numbers(again) == [b'{"n":1}']


def test_a_forked_child_is_told(path):
    """It neither uses nor locks the file, and does its parent no harm when it ends."""
    box = Outbox(path)
    box.put("air", {"n": 1})
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            box.put("air", {"n": 2})
        except UsageError as error:
            code = 0 if "forked" in str(error) else 2
        box.close()
        os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0

    box.put("air", {"n": 3})
    assert numbers(box) == [b'{"n":1}', b'{"n":3}']
    box.close()
    Outbox(path).close()


def test_a_child_that_lives_on_does_not_keep_the_file(path):
    """Its copy of the lock is closed at the fork."""
    box = Outbox(path)
    reads, writes = os.pipe()
    lives, says = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(writes)
        os.write(says, b"x")
        os.read(reads, 1)
        os._exit(0)
    os.close(reads)
    os.read(lives, 1)  # it is past what Python does after a fork
    box.close()
    Outbox(path).close()
    os.close(writes)
    os.waitpid(pid, 0)


# What is not ours


def test_a_file_that_is_no_outbox_is_left_alone(path):
    """A text, another program's database, a folder, a folder that is not there."""
    with open(path, "w") as file:
        file.write("dear diary")
    with pytest.raises(SettingsError, match="is no outbox"):
        Outbox(path)
    with pytest.raises(SettingsError, match="is no outbox"):
        Outbox(path)  # that it was tried once makes it none
    with open(path) as file:
        assert file.read() == "dear diary"

    other = path + ".other"
    with sqlite3.connect(other) as db:
        db.execute("CREATE TABLE cats (name TEXT)")
    with pytest.raises(SettingsError, match="another program"):
        Outbox(other)
    with pytest.raises(SettingsError, match="is a folder"):
        Outbox(os.path.dirname(path))
    with pytest.raises(SettingsError, match="does not exist"):
        Outbox(path + "/nowhere/box.db")


def test_a_newer_file_is_refused_and_not_touched(path):
    """The entries in it are somebody's."""
    fill(path)
    db = sqlite3.connect(path)
    db.execute(f"PRAGMA user_version={VERSION + 1}")
    db.close()
    for _ in range(2):
        with pytest.raises(SettingsError, match="newer flowkit"):
            Outbox(path)
    db = sqlite3.connect(path)
    assert db.execute("SELECT count(*) FROM row").fetchone() == (5,)
    db.close()


def test_an_empty_file_is_a_new_outbox(path):
    """As ``mktemp`` leaves it, or a power cut just after it was made."""
    open(path, "w").close()

    with Outbox(path) as box:
        assert box.reports() == []


def test_a_folder_that_may_not_be_written_is_said(tmp_path):
    """The error names the file."""
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    os.chmod(tmp_path, 0o500)
    with pytest.raises(OutboxError, match=r"box\.db"):
        Outbox(str(tmp_path / "box.db"))


# Damage

PLACES = ["head", "page 2", "middle", "end", "cut", "cut to nothing", "zeros"]


def damage(path, place):
    """Do to the file what a dying card does."""
    size = os.path.getsize(path)
    with open(path, "r+b") as file:
        if place.startswith("cut"):
            file.truncate(0 if place == "cut to nothing" else size // 3)
            return
        at = {"head": 0, "page 2": 4096, "middle": size // 8 * 4, "end": size - 4096, "zeros": 0}
        file.seek(at[place])
        file.write(b"\0" * size if place == "zeros" else b"\xa5" * 4096)


@pytest.mark.parametrize("place", PLACES)
def test_a_damaged_outbox_is_set_aside_and_a_new_one_begun(path, place, caplog):
    """With what can be read of it; said in the log, to the callback and in the reports."""
    old, told = fill(path, 3000), []
    shutil.copy(path, path + ".whole")
    damage(path, place)
    with Outbox(path, on_event=told.append) as box:
        (report,) = box.reports()
        assert report.kind == "set aside"
        assert os.path.exists(report.facts["file"])
        assert box.box != old
        found = numbers(box)
        assert len(found) == report.facts["salvaged"]["entries"] == box.pending.count
        wanted = [b'{"n":%d}' % number for number in range(1, 3001)]
        assert set(found) <= set(wanted)
        assert found == sorted(found, key=wanted.index)
        if place in ("middle", "end"):
            assert len(found) > 1000
        box.put("air", {"n": 0})
    assert [report.kind for report in told] == ["set aside"]
    assert "set aside" in caplog.text
    with Outbox(path) as box:
        assert len(numbers(box)) == len(found) + 1


def test_whatever_byte_is_damaged_an_outbox_opens(path, tmp_path):
    """It is sound as it is, or set aside; it never crashes, and never gives out wrong entries."""
    fill(path, 200, durable=False)
    with open(path, "rb") as file:
        whole = file.read()
    wanted = {b'{"n":%d}' % number for number in range(1, 201)}
    for number in range(60):
        name = str(tmp_path / f"{number}.db")
        shutil.copy(path + ".lock", name + ".lock")
        at = (number * 7919) % len(whole)
        with open(name, "wb") as file:
            file.write(
                whole[:at] + bytes(255 - byte for byte in whole[at : at + 16]) + whole[at + 16 :]
            )
        if at <= 72 and at + 16 >= 60:
            continue  # the bytes that say whose file it is: those have a test of their own
        with Outbox(name, durable=False) as box:
            if "set aside" in [report.kind for report in box.reports()]:
                assert set(numbers(box)) <= wanted


def test_a_torn_end_of_the_log_is_no_damage(path, tmp_path):
    """It is what a power cut leaves: the last commit is not there, all others are."""
    box = Outbox(path)
    for number in range(20):
        box.put("air", {"n": number})
    copy = str(tmp_path / "copy.db")
    for suffix in ("", ".lock", "-wal"):
        shutil.copy(path + suffix, copy + suffix)
    box.close()
    with open(copy + "-wal", "r+b") as file:
        file.truncate(os.path.getsize(copy + "-wal") - 100)
    with Outbox(copy) as torn:
        assert numbers(torn) == [b'{"n":%d}' % number for number in range(19)]
        assert torn.reports() == []


def test_damage_in_use_is_an_error_and_mended_by_opening_again(path):
    """Nothing is read past it."""
    fill(path, 3000)
    box = Outbox(path)
    with open(path, "r+b") as file:
        file.seek(4096)
        file.write(b"\xa5" * (os.path.getsize(path) - 4096))
    with pytest.raises(OutboxError):
        box.peek("air", limit=3000)
    box.close()
    with Outbox(path) as again:
        assert [report.kind for report in again.reports()] == ["set aside"]


# The disk


def test_a_full_disk_refuses_and_nothing_is_lost(path):
    """What was there stays, settling goes on, and there is room again when there is."""
    with Outbox(path) as box:
        box.put("air", {"n": 1})
        writer = box._file._writer
        pages = writer.execute("PRAGMA page_count").fetchone()[0]
        writer.execute(f"PRAGMA max_page_count={pages + 3}")
        kept, refused = 1, None
        while refused is None:
            try:
                box.put("air", {"n": kept + 1, "text": "x" * 1000})
                kept += 1
            except OutboxError as error:
                refused = error
        assert refused.full
        assert "box.db: database or disk is full" in str(refused)
        assert box.pending.count == len(numbers(box)) == kept
        rows = box.peek("air")
        box.ack(rows[: kept // 2 + 1])
        box.sent("air", rows[-1].to)
        box.put("air", {"n": 0})
        writer.execute("PRAGMA max_page_count=1000000")
        receipt = box.put("air", {"text": "x" * 100_000})
        assert receipt.sequence == kept + 2


LIMITED = """
import os, resource, signal, sys
from flowkit.device import Outbox
from flowkit.errors import OutboxError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
box = Outbox(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
kept = refused = 0
for number in range(200):
    try:
        box.put("air", {"n": number, "text": "x" * 3000})
        kept += 1
    except OutboxError as error:
        assert sys.argv[1] in str(error), error
        refused += 1
assert kept and refused, (kept, refused)
assert box.pending.count == kept
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
box.put("air", {"n": -1})
assert box.pending.count == kept + 1
box.close()
print(kept + 1)
"""


@pytest.mark.slow
def test_a_file_that_may_not_grow_refuses_and_goes_on_when_it_may(path):
    """The system's own bound on files: writes of the log fail in the midst of a commit."""
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, path], capture_output=True, text=True, timeout=50
    )
    assert done.returncode == 0, done.stderr
    with Outbox(path) as box:
        assert len(numbers(box)) == int(done.stdout)
        assert box.reports() == []


class Lost(sqlite3.OperationalError):
    """What SQLite says when the disk could not keep what was written."""

    sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
    sqlite_errorname = "SQLITE_IOERR_FSYNC"


def test_after_a_failed_fsync_the_file_is_opened_and_checked_anew(path):
    """The put that failed is refused; the next is on connections that know nothing of it."""

    def fails(point):
        if point == "before commit":
            raise Lost("disk I/O error")

    with Outbox(path) as box:
        box.put("air", {"n": 1})
        writer = box._file._writer
        file_module.when_reached(fails)
        try:
            with pytest.raises(OutboxError, match="SQLITE_IOERR_FSYNC"):
                box.put("air", {"n": 2})
        finally:
            file_module.when_reached(None)
        assert box.put("air", {"n": 3}).sequence == 2
        assert box._file._writer is not writer
        assert numbers(box) == [b'{"n":1}', b'{"n":3}']
        assert box.pending.count == 2


# Threads and jobs


def test_a_job_that_fails_after_it_wrote_leaves_no_trace_and_harms_no_other(path):
    """Those that shared its transaction are run again without it, each once."""
    with Outbox(path) as box:
        file, together = box._file, threading.Barrier(4)
        failures = []

        def breaks(db):
            db.execute("INSERT INTO value VALUES ('broken', x'00')")
            raise ValueError("broken on purpose")

        def work(number):
            for n in range(20):
                together.wait(20)
                if number:
                    box.put("air", {"n": n})
                    continue
                try:
                    file.write(breaks)
                except ValueError:
                    failures.append(n)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)

        assert len(failures) == 20
        assert box.kept("broken") is None
        assert box.pending.count == len(numbers(box)) == 60


def test_reading_does_not_wait_for_a_commit(path):
    """A reader sees what was committed last while a commit is under way."""
    with Outbox(path) as box:
        box.put("air", {"n": 1})
        under_way, go_on = threading.Event(), threading.Event()

        def job(db):
            under_way.set()
            go_on.wait(20)

        thread = threading.Thread(target=box._file.write, args=(job,))
        thread.start()
        assert under_way.wait(20)
        assert numbers(box) == [b'{"n":1}']
        go_on.set()
        thread.join(20)


def test_closing_waits_for_the_puts_under_way(path):
    """Each put that was begun is kept, or told that the outbox is closed; never neither."""
    box, kept, refused = Outbox(path), [], []

    def work():
        for number in range(1000):
            try:
                kept.append(box.put("air", {"n": number}).sequence)
            except UsageError:
                refused.append(number)
                return

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    while len(kept) < 20:
        pass
    box.close()
    for thread in threads:
        thread.join(20)
    with Outbox(path) as again:
        assert sorted(row.sequence for row in again.peek("air", limit=10_000)) == sorted(kept)
    assert len(refused) == 4


@pytest.mark.parametrize("leads", [True, False], ids=["who leads", "who waits"])
def test_an_interrupted_thread_takes_nobody_with_it(path, leads):
    """Ctrl-C in the thread that commits for others, or in one that waits: the rest goes on."""
    with Outbox(path) as box:
        under_way, go_on, caught = threading.Event(), threading.Event(), []

        def job(db):
            under_way.set()
            go_on.wait(20)
            if leads:
                raise KeyboardInterrupt

        def first():
            try:
                box._file.write(job)
            except KeyboardInterrupt:
                caught.append(True)

        threads = [threading.Thread(target=first)]
        threads[0].start()
        assert under_way.wait(20)
        others = [threading.Thread(target=box.put, args=("air", {"n": n})) for n in range(5)]
        for thread in others:
            thread.start()
        while len(box._file._waiting) < 5:
            pass
        if not leads:
            # As if a signal had come into the first of those who wait.
            box._file._waiting[0].gone = True
        go_on.set()
        for thread in (*threads, *others[not leads :]):
            thread.join(20)
            assert not thread.is_alive()

        assert caught == [True] * leads
        assert box.pending.count == 5
        if not leads:
            box._file._guard.acquire()
            box._file._guard.release()
        assert box.put("air", {}).sequence == 6


IN_GEVENT = """
import sys
if sys.argv[2] == "early": import gevent.monkey; gevent.monkey.patch_all()
from flowkit.device import Outbox
if sys.argv[2] == "late": import gevent.monkey; gevent.monkey.patch_all()
import gevent
box = Outbox(sys.argv[1])
def work(number):
    for n in range(20):
        box.put("air", {"n": n, "who": number}); box.pending; gevent.sleep(0)
jobs = [gevent.spawn(work, number) for number in range(8)]
jobs += [gevent.get_hub().threadpool.spawn(work, number) for number in range(8, 11)]
for job in jobs: job.get(timeout=40)
print(box.pending.count, len(box.peek("air")))
box.close()
"""


@pytest.mark.slow
@pytest.mark.parametrize("patched", ["early", "late", "not at all"])
def test_it_works_in_green_threads_and_beside_them(path, patched):
    """In a process that gevent has patched, before or after the import, and in one it has not."""
    pytest.importorskip("gevent")
    done = subprocess.run(
        [sys.executable, "-c", IN_GEVENT, path, patched],
        capture_output=True,
        text=True,
        timeout=55,
    )
    assert done.stdout.strip() == "220 220", done.stderr


def test_the_device_side_imports_no_gevent():
    """Nor anything of the server, of requests, or of the store."""
    code = (
        "import sys; from flowkit.device import Outbox; import flowkit.device.outbox;"
        "heavy = 'gevent greenlet requests apsw simplejson urllib3 numpy'.split();"
        "print([m for m in sys.modules if m.split('.')[0] in heavy or 'flowkit.server' in m])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_marks_of_the_file_are_what_it_is_known_by(path):
    """The header says whose it is, without SQLite having to be asked."""
    fill(path)
    with open(path, "rb") as file:
        head = file.read(100)
    assert head[:16] == b"SQLite format 3\x00"
    assert head[68:72] == APPLICATION_ID.to_bytes(4, "big")
