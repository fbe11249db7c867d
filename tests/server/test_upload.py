"""Uploads: pieces in any order and again, their bounds, and when they go."""

from __future__ import annotations

import hashlib

import pytest

from flowkit import limits
from flowkit.server.handlers.digests import Digests
from flowkit.server.store.sqlite import FILE_NAME
from flowkit.server.store.verify import verify
from tests.server.test_arrays import BOX, OTHER_BOX
from tests.server.visitor import Visitor

MESSAGE = "ab" * 8
PLACE = f"/upload/{BOX}/{MESSAGE}"


def token(nora, **paths):
    """Somebody with a Token of nora's."""
    said = {f"/nora/{name}": flags for name, flags in paths.items()}
    made = nora.ask("POST", "/token", {"paths": said}).body
    return Visitor(nora.app, nora.clock, "nora", made["tokenString"])


def test_pieces_come_in_any_order_and_again(nora):
    """What is there is what was said last under each number."""
    assert nora.ask("GET", PLACE).body == {"pieces": [], "bytes": 0}
    assert nora.ask("PUT", f"{PLACE}/2", b"end").body == {"pieces": [0, 0, 3], "bytes": 3}
    for data in (b"first", b"longer than that", b"first"):
        answer = nora.ask("PUT", f"{PLACE}/0", data)
        assert answer.body == {"pieces": [len(data), 0, 3], "bytes": len(data) + 3}
    nora.ask("PUT", f"{PLACE}/1", b"\x00\xff")

    def bodies(reader):
        body = reader.pieces.upload("/nora", BOX, MESSAGE)
        whole = reader.pieces.read(body, 0, 100)
        parts = [reader.pieces.read(body, at, 3) for at in range(0, 12, 3)]
        return (
            whole,
            parts,
            reader.pieces.size(body),
            Digests().of(reader.pieces.keys(body), reader.pieces.piece),
        )

    whole, parts, size, digest = nora.app.store.read(bodies)
    assert whole == b"first\x00\xffend" == b"".join(parts)
    assert size == 10
    assert digest == hashlib.sha256(whole).digest()
    assert verify(nora.app.settings.data / FILE_NAME) == []


def test_uploads_of_other_names_and_scopes_are_others(nora):
    """Another box, another message, a device."""
    made = nora.ask("POST", "/device", {"path": "/nora/probe"}).body
    string = nora.ask("GET", f"/token/{made['tokenId']}").body["tokenString"]
    probe = Visitor(nora.app, nora.clock, "nora", string)
    nora.ask("PUT", f"{PLACE}/0", b"x")

    for who, place in (
        (nora, f"/upload/{OTHER_BOX}/{MESSAGE}"),
        (nora, f"/upload/{BOX}/{'cd' * 8}"),
        (probe, PLACE),
    ):
        assert who.ask("GET", place).body["pieces"] == []
    probe.ask("PUT", f"{PLACE}/0", b"yy")
    assert nora.ask("GET", PLACE).body["bytes"] == 1
    nora.ask("DELETE", f"/device/{made['id']}")
    assert nora.app.store.read(lambda r: r.pieces.unfinished(made["id"]).count) == 0
    assert verify(nora.app.settings.data / FILE_NAME) == []


REFUSED = {
    "no number": ("x", b"x", 400, "n: "),
    "a number beyond": (str(limits.upload_pieces_max), b"x", 400, "n: "),
    "no bytes": ("0", b"", 400, "body: "),
    "too many bytes": ("0", b"x" * (limits.upload_piece_bytes_max + 1), 413, "body: "),
}


@pytest.mark.parametrize(("n", "data", "status", "said"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_piece_is_refused(nora, n, data, status, said):
    """One sentence, and nothing is begun."""
    answer = nora.ask("PUT", f"{PLACE}/{n}", data)

    assert (answer.status, len(answer.errors)) == (status, 1)
    assert answer.errors[0].startswith(said)
    assert nora.app.store.read(lambda r: r.pieces.unfinished("/nora").count) == 0


def test_names_that_are_none_are_refused(nora):
    """Both at once."""
    answer = nora.ask("GET", "/upload/X/Y")

    assert (answer.status, len(answer.errors)) == (400, 2)


def test_uploads_are_bounded(nora, monkeypatch):
    """In bytes of one, in number, and in bytes of all; what is there stays."""
    monkeypatch.setattr(limits, "upload_bytes_max", 10)
    monkeypatch.setattr(limits, "uploads_unfinished_max", 2)
    monkeypatch.setattr(limits, "uploads_unfinished_bytes_max", 15)
    other, third = (f"/upload/{OTHER_BOX}/{name * 8}" for name in ("ab", "cd"))

    assert nora.ask("PUT", f"{PLACE}/0", b"12345678").status == 200
    assert nora.ask("PUT", f"{PLACE}/1", b"123").status == 413
    assert nora.ask("PUT", f"{other}/0", b"12345678").status == 429
    assert nora.ask("PUT", f"{other}/0", b"123456").status == 200
    assert nora.ask("PUT", f"{PLACE}/0", b"87654321").status == 200  # again: no byte more
    assert nora.ask("PUT", f"{third}/0", b"1").status == 429
    assert nora.ask("GET", PLACE).body["bytes"] == 8
    assert nora.ask("GET", other).body["bytes"] == 6


def test_an_upload_that_nobody_claims_goes_after_its_time(nora):
    """With a later piece of another; one that was touched since stays."""
    nora.ask("PUT", f"{PLACE}/0", b"old")
    nora.ask("PUT", f"/upload/{BOX}/{'cd' * 8}/0", b"old too")
    nora.clock.now_ms += int(limits.upload_kept_s * 1_000) - 1
    nora.ask("PUT", f"{PLACE}/1", b"touched")
    nora.clock.now_ms += 10
    nora.ask("PUT", f"/upload/{BOX}/{'ef' * 8}/0", b"new")

    assert nora.ask("GET", f"/upload/{BOX}/{'cd' * 8}").body["bytes"] == 0
    assert nora.ask("GET", PLACE).body["bytes"] == 10
    assert verify(nora.app.settings.data / FILE_NAME) == []


def test_a_token_that_may_write_nowhere_cannot_upload(nora):
    """403; with dropWrite on any path it can."""
    assert token(nora, a={"dropRead": True}).ask("PUT", f"{PLACE}/0", b"x").status == 403
    assert token(nora, a={"dropWrite": True}).ask("PUT", f"{PLACE}/0", b"x").status == 200
