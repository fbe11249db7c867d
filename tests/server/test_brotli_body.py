"""Brotli bodies: unpacked within bounds, refused where they are none."""

from __future__ import annotations

import os

import pytest

from flowkit.errors import BadRequest
from flowkit.server.brotli_body import IS_OFFERED, unbrotli

brotli = pytest.importorskip("brotli", reason="needs the extra: pip install 'flowkit[brotli]'")


@pytest.mark.parametrize("size", [0, 1, 1000, 300_000])
def test_what_was_packed_comes_back(size):
    """Compressible or not, at any quality."""
    for data in (bytes(size), os.urandom(size)):
        for quality in (0, 1, 11):
            packed = brotli.compress(data, quality=quality)
            assert unbrotli(packed, size) == data


def test_a_body_that_unpacks_beyond_the_bound_is_refused():
    """However small it is packed, and without holding it all."""
    bomb = brotli.compress(bytes(300_000_000), quality=5)
    assert len(bomb) < 10_000
    sizes = []
    with pytest.raises(BadRequest) as refused:
        unbrotli(bomb, 1_000_000, sizes.append)
    assert refused.value.status == 413
    assert sum(sizes) <= 1_000_000


@pytest.mark.parametrize("wrong", [b"no brotli at all", brotli.compress(b"x" * 5000)[:-2]])
def test_what_is_no_brotli_is_refused(wrong):
    """With status 400 and a sentence."""
    with pytest.raises(BadRequest, match="Brotli") as refused:
        unbrotli(wrong, 1_000_000)
    assert refused.value.status == 400


def test_it_is_offered_where_it_can_be_bounded():
    """The installed version can."""
    assert IS_OFFERED
