"""A store of every earlier schema opens with everything in it, and becomes one of the present."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import apsw
import pytest

from flowkit.query.params import Query
from flowkit.server.auth import authenticate, hash_secret
from flowkit.server.plan import plan_find
from flowkit.server.store import migrations
from flowkit.server.store.base import Secret
from flowkit.server.store.schema import SCHEMA_VERSION, create_tables, get_meta
from flowkit.server.store.sqlite import FILE_NAME, look_into, open_store
from flowkit.server.store.verify import verify

STORES = Path(__file__).parents[1] / "corpus" / "stores"
EARLIER = range(1, SCHEMA_VERSION)

LIVE = {
    "/nora/kept": [0, 1, 22, 5, 6, 7, None, 100],
    "/nora/small": [7, 8, 100],
    "/nora/none": [],
    "/emil/keyed": [5],
}
"""The element ``n`` of the live drops, oldest first, as the writing program left them."""


@pytest.fixture(params=EARLIER)
def folder(request, tmp_path):
    """A data folder written by the code of an earlier schema."""
    packed = (STORES / f"schema_{request.param}.sqlite.gz").read_bytes()
    (tmp_path / FILE_NAME).write_bytes(gzip.decompress(packed))
    return tmp_path


def tables(file: Path | str) -> dict[str, object]:
    """Every table with its columns and every index with its own, whatever the spelling."""
    connection = apsw.Connection(str(file))
    try:
        found: dict[str, object] = {}
        for kind, name, sql in connection.execute("SELECT type, name, sql FROM sqlite_schema"):
            if kind == "table":
                columns = connection.execute(f"PRAGMA table_xinfo({name})").fetchall()
                options = re.findall("AUTOINCREMENT|WITHOUT ROWID", sql)
                found[name] = (columns, options)
            else:
                found[name] = sql and " ".join(sql.split())
        return found
    finally:
        connection.close()


def drops(store, path):
    """The live drops of a flow, oldest first."""

    def job(reader):
        flow = reader.flow_at(path)
        query = Query.from_wire({"limit": 100, "order": "asc", "sort": "creationDate"})
        return reader.find(plan_find("drop", query, now_ms=0, flow=flow)).objects

    return store.read(job)


def test_there_is_a_store_of_every_earlier_schema():
    """A new schema brings along a store of the one before it."""
    assert [(STORES / f"schema_{version}.sqlite.gz").exists() for version in EARLIER] == [
        True for _ in EARLIER
    ]
    assert list(migrations.STEPS) == [version + 1 for version in EARLIER]


def test_an_earlier_store_is_sound_as_it_is(folder):
    """It can be checked before it is touched."""
    assert verify(folder / FILE_NAME) == []


def test_everything_is_found_after_the_opening(folder):
    """Accounts, tokens, flows, drops with types and places, positions, answers."""
    store = open_store(folder, clock_ms=lambda: 1_512_837_400_000)
    try:
        for name in ("nora", "emil"):
            account = store.read(lambda r, n=name: r.account(n))
            hashed = hash_secret(f"{name}'s token of schema 1")
            assert store.read(lambda r, h=hashed: r.credential(h)) == Secret(account)
        nora = store.read(lambda r: r.account("nora"))
        assert store.read(lambda r: r.identity(nora.identity_id))["email"] == "nora@example.com"
        for path, wanted in LIVE.items():
            assert [each.doc["elems"].get("n") for each in drops(store, path)] == wanted
        typed = drops(store, "/nora/kept")[6]
        assert typed.types == {"len": "length"}
        assert typed.doc["location"] == {"lat": 59.9, "lon": 10.7, "alt": 5}
        heads = [store.read(lambda r, p=path: r.flow_at(p)).head for path in LIVE]
        assert heads == [13, 17, 3, 7]
        kept = store.read(lambda r: r.flow_at("/nora/kept"))
        assert (kept.doc["description"], kept.doc["public"]) == ("keeps a hundred", True)
        assert store.read(lambda r: r.answer("nora", "request 1")) == (201, b'{"head": {}}')
        assert store.read(lambda r: r.objects("track")) == []
    finally:
        store.close()
    assert verify(folder / FILE_NAME) == []


def test_a_migrated_store_takes_what_is_new(folder):
    """Tracks, deliveries and statistics work in it, and a second opening changes nothing."""
    for _ in range(2):
        store = open_store(folder)
        flow = store.read(lambda r: r.flow_at("/nora/kept"))
        if not store.read(lambda r: r.objects("track")):
            track = {"source": flow.path, "destination": "/nora/small"}
            store.write(lambda w, t=track: w.create_object("track", "nora", t, creator="i1"))

        def put(writer, flow=flow):
            drop = writer.create_drop(flow, {"elems": {}}, {}, creator="i1").drop
            writer.route(flow, drop, hops=0)
            writer.count("flowDropAdded", flow.id)

        store.write(put)
        track = store.read(lambda r: r.tracks_from("/nora/kept"))[0]
        store.close()

    assert len(look_into(folder, lambda r: r.deliveries(track, 10))) == 2
    assert verify(folder / FILE_NAME) == []


def test_the_tokens_of_devices_say_whose_they_are_since_schema_3(tmp_path):
    """Those of the two devices that have theirs still, and no other."""
    packed = (STORES / "schema_2.sqlite.gz").read_bytes()
    (tmp_path / FILE_NAME).write_bytes(gzip.decompress(packed))
    store = open_store(tmp_path, clock_ms=lambda: 1_512_837_400_000)
    try:
        tokens = store.read(lambda r: r.objects("token"))
        wanted = {each.doc["tokenId"]: each for each in store.read(lambda r: r.objects("device"))}
        assert [each.doc["path"] for each in wanted.values() if each.state == {}] == [
            "/nora/devices/first",
            "/nora/devices/second",
            "/nora/devices/gone",
        ]
        assert [token.state.get("deviceId") for token in tokens] == [
            wanted[token.id].id if token.id in wanted else None for token in tokens
        ]
        assert len(tokens) == 3

        def known(reader, token):
            string = token.state["tokenString"]
            return authenticate(reader, string, "nora", 1_512_837_400_000).scope

        scopes = [store.read(lambda r, t=token: known(r, t)) for token in tokens]
        assert scopes == [*(wanted[token.id].id for token in tokens[:2]), "/nora"]
    finally:
        store.close()


def test_a_migrated_store_has_the_tables_of_a_new_one(folder, tmp_path):
    """Columns, keys and indexes are the same, in the same order."""
    open_store(folder).close()
    new = apsw.Connection(str(tmp_path / "new.sqlite"))
    create_tables(new, "new")
    new.close()

    assert tables(folder / FILE_NAME) == tables(tmp_path / "new.sqlite")


def test_a_step_that_fails_leaves_the_earlier_store_whole(folder, monkeypatch):
    """Nothing of a step that broke off stays behind, and the next opening begins again."""
    before = tables(folder / FILE_NAME)
    steps = {**migrations.STEPS, SCHEMA_VERSION: (*migrations.STEPS[SCHEMA_VERSION], "no SQL")}
    monkeypatch.setattr(migrations, "STEPS", steps)
    connection = apsw.Connection(str(folder / FILE_NAME))
    found = get_meta(connection, "schema_version")
    with pytest.raises(apsw.SQLError):
        migrations.migrate(connection)
    assert get_meta(connection, "schema_version") == found
    connection.close()
    assert tables(folder / FILE_NAME) == before

    monkeypatch.undo()
    open_store(folder).close()
    assert tables(folder / FILE_NAME) != before
