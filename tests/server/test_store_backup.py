"""A copy of a store in use is whole and sound, and a data folder can be made of it."""

from __future__ import annotations

import random
import stat
import threading

import apsw
import pytest

from flowkit.errors import FlowKitError, SettingsError
from flowkit.server.store.backup import backup, restore
from flowkit.server.store.sqlite import FILE_NAME, clock_ms, look_into, open_store
from flowkit.server.store.verify import verify


@pytest.fixture
def folder(tmp_path):
    """A data folder with a hundred drops of 1 kB in one flow."""
    folder = tmp_path / "data"
    store = open_store(folder, synchronous="OFF")
    store.write(lambda w: w.create_account("nora", b"secret of nora"))
    flow = store.write(
        lambda w: w.create_flow({"path": "/nora/a", "capacity": 100_000}, creator="i1")
    )
    for n in range(100):
        put(store, flow, n)
    store.close()
    return folder


def put(store, flow, n):
    """Write one drop."""
    members = {"elems": {"n": n, "text": "x" * 1_000}}
    return store.write(lambda w: w.create_drop(flow, members, {}, creator="i1"))


def head(folder):
    """The number of the newest change of the flow."""
    return look_into(folder, lambda r: r.flow_at("/nora/a").head)


def test_a_backup_is_one_private_file_that_is_the_store(folder, tmp_path):
    """Nothing stands beside it, only its owner may read it, and a store of it holds everything."""
    copies = tmp_path / "copies"
    copies.mkdir()
    steps: list[tuple[int, int]] = []
    size = backup(folder, copies / "one", progress=lambda done, total: steps.append((done, total)))

    assert [each.name for each in copies.iterdir()] == ["one"]
    assert stat.S_IMODE((copies / "one").stat().st_mode) == 0o600
    assert size == (copies / "one").stat().st_size == steps[-1][0] == steps[-1][1]
    assert verify(copies / "one") == []
    restore(copies / "one", tmp_path / "again", now_ms=clock_ms())
    assert head(tmp_path / "again") == 100


def test_a_backup_of_a_store_under_load_is_of_one_moment(folder, tmp_path):
    """Writers go on while it is made; it holds all that was answered before it, nothing by half."""
    store = open_store(folder, synchronous="OFF")
    flow = store.read(lambda r: r.flow_at("/nora/a"))
    stop, written = threading.Event(), []

    def write() -> None:
        while not stop.is_set():
            written.append(put(store, flow, len(written)).drop.doc["id"])

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    seen: list[tuple[int, int]] = []
    for number in range(3):
        before = len(written)
        backup(
            folder,
            tmp_path / f"copy{number}",
            progress=lambda *_, before=before: seen.append((before, len(written))),
        )
    stop.set()
    for thread in threads:
        thread.join()
    store.close()

    assert any(later > earlier for earlier, later in seen), "nothing was written meanwhile"
    for number in range(3):
        restored = tmp_path / f"folder{number}"
        restore(tmp_path / f"copy{number}", restored, now_ms=clock_ms())
        assert 100 <= head(restored) <= 100 + len(written)
        assert verify(restored / FILE_NAME) == []


def test_a_restored_store_goes_on_under_a_new_epoch(folder, tmp_path):
    """Changes made after the backup and changes made after the restore cannot be confused."""
    backup(folder, tmp_path / "copy")
    restore(tmp_path / "copy", tmp_path / "again", now_ms=clock_ms())
    positions = set()
    for each in (folder, tmp_path / "again"):
        store = open_store(each)
        positions.add(put(store, store.read(lambda r: r.flow_at("/nora/a")), 1).position)
        store.close()

    assert len(positions) == 2
    assert {position.rsplit(".", 1)[1] for position in positions} == {"101"}


def test_a_file_that_is_there_is_replaced_only_when_asked(folder, tmp_path):
    """It is as it was until the new one is whole."""
    target = tmp_path / "copy"
    target.write_text("mine")

    with pytest.raises(SettingsError, match="there already"):
        backup(folder, target)
    assert target.read_text() == "mine"
    backup(folder, target, replace=True)
    assert verify(target) == []


def test_an_unsound_store_is_not_copied(folder, tmp_path):
    """The error says what is wrong; no file is left, and the one that was there stays."""
    connection = apsw.Connection(str(folder / FILE_NAME))
    connection.execute("UPDATE flow SET live = live + 1")
    connection.close()
    target = tmp_path / "copy"
    target.write_text("the last good one")

    with pytest.raises(FlowKitError, match="100 live rows, counted 101"):
        backup(folder, target, replace=True)
    assert target.read_text() == "the last good one"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["copy", "data"]


def test_nothing_is_restored_over_something_else(folder, tmp_path):
    """A folder with anything in it, or in use, is refused and left alone."""
    backup(folder, tmp_path / "copy")
    full = tmp_path / "full"
    full.mkdir()
    (full / "notes.txt").write_text("mine")

    for place, said in ((full, "holds notes.txt"), (folder, f"holds {FILE_NAME}")):
        with pytest.raises(SettingsError, match=said):
            restore(tmp_path / "copy", place, now_ms=clock_ms())
    assert (full / "notes.txt").read_text() == "mine"
    assert head(folder) == 100


@pytest.mark.parametrize(
    "content", [b"", b"no store " * 1_000, None], ids=["empty", "foreign", "damaged"]
)
def test_what_is_no_backup_is_not_restored(folder, tmp_path, content):
    """The new folder is not left behind."""
    copy = tmp_path / "copy"
    backup(folder, copy)
    if content is None:
        damaged = bytearray(copy.read_bytes())
        page = len(damaged) // 2 // 4096 * 4096  # its head; in its midst may be nothing
        for at in range(page, page + 200):
            damaged[at] ^= 0xFF
        content = bytes(damaged)
    copy.write_bytes(content)

    with pytest.raises(FlowKitError):
        restore(copy, tmp_path / "again", now_ms=clock_ms())
    assert not (tmp_path / "again").exists()


def test_a_folder_without_a_store_is_named(tmp_path):
    """Neither backup nor restore makes anything of nothing."""
    with pytest.raises(SettingsError, match="there is no store at"):
        backup(tmp_path, tmp_path / "copy")
    with pytest.raises(SettingsError, match="there is no store at"):
        restore(tmp_path / "copy", tmp_path / "again", now_ms=clock_ms())
    with pytest.raises(SettingsError, match="there is no store in"):
        look_into(tmp_path, lambda r: r.accounts())
    assert list(tmp_path.iterdir()) == []


def test_damage_in_the_content_of_drops_is_seen(folder):
    """A single bit in a text that is still a text breaks the checksum of its row.

    Pages hold remains of rows that were moved; damage there changes nothing.
    """
    file = folder / FILE_NAME
    whole = file.read_bytes()
    before = contents(file)
    places = [at for at in range(len(whole)) if whole[at : at + 40] == b"x" * 40][::3_000]
    seen = 0
    for at in places:
        damaged = bytearray(whole)
        damaged[at] ^= 1
        file.write_bytes(damaged)
        if contents(file) != before:
            assert verify(file) == ["1 rows of drops differ from their checksum"]
            seen += 1
        else:
            assert verify(file) == []
    assert seen > 10


def contents(file):
    """The stored elements of every drop."""
    connection = apsw.Connection(str(file), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        return connection.execute("SELECT seq, elems FROM drop_row").fetchall()
    finally:
        connection.close()


def test_a_damaged_file_is_said_to_be_damaged_wherever_it_is_damaged(folder):
    """Whatever bytes are wrong, the check ends with sentences, never with a fault of its own."""
    file = folder / FILE_NAME
    whole = file.read_bytes()
    chance = random.Random(3)
    for _ in range(60):
        damaged = bytearray(whole)
        at = chance.randrange(100, len(whole) - 64)
        damaged[at : at + 64] = chance.randbytes(64)
        file.write_bytes(damaged)
        faults = verify(file)
        assert all(isinstance(fault, str) and fault for fault in faults)
    file.write_bytes(b"SQLite format 3" + bytes(1_000))
    with pytest.raises(SettingsError):
        verify(file)
