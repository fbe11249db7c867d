"""HTTP messages as values: no input does anything but parse or be refused."""

import gzip as stdlib_gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowkit.server.message import (
    ChunkedBody,
    Refused,
    accepts_gzip,
    find_head_end,
    gunzip,
    gzip,
    parse_head,
    phrase,
    render_head,
)

BITS = st.sampled_from(
    [
        *(b"GET ", b"/a", b" HTTP/1.1", b"\r\n", b"\n", b"\r", b"Host: x", b": ", b" ", b"%"),
        *(b"Content-Length: 3", b"Transfer-Encoding: chunked", b"\xff", b"\0", b"3", b"0", b"abc"),
        b";",
    ]
)
GARBAGE = st.lists(BITS | st.binary(max_size=5), max_size=30).map(b"".join)


def refusal(call):
    """The refusal that *call* ends with, or None."""
    try:
        call()
    except Refused as refused:
        return refused
    return None


@given(GARBAGE)
def test_garbage_is_parsed_or_refused(data):
    """Nothing else is raised, and a head that is accepted has a host or is HTTP/1.0."""

    def read():
        end = find_head_end(bytearray(data))
        if end >= 0:
            head = parse_head(data[:end])
            assert "host" in head.headers or head.minor == 0
            assert head.target.startswith("/") or head.target == "*"

    refused = refusal(read)

    assert refused is None or (400 <= refused.status < 500 and len(refused.errors) == 1)


@given(GARBAGE)
def test_a_head_is_found_alike_however_it_is_cut(data):
    """Looking again with more bytes finds what one look at all of them finds."""

    def look(pieces):
        buffer, searched = bytearray(), 0
        for piece in pieces:
            buffer += piece
            try:
                end = find_head_end(buffer, searched)
            except Refused:
                return "refused"
            if end >= 0:
                return _parsed(bytes(buffer[:end]))
            searched = len(buffer)
        return None

    assert look([data]) == look([data[at : at + 1] for at in range(len(data))])


def _parsed(data):
    """The head, or the word for a refusal: bytes that come in time are refused earlier."""
    try:
        return parse_head(data)
    except Refused:
        return "refused"


@given(GARBAGE)
def test_garbage_between_chunks_is_read_or_refused(data):
    """Nothing else is raised, and never more than the bound is kept."""
    body = ChunkedBody(10)

    refused = refusal(lambda: body.feed(bytearray(data)))

    assert refused is None or 400 <= refused.status < 500
    assert len(body.data) <= 10


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=8), st.integers(1, 7), st.binary())
def test_chunks_give_back_what_was_cut(parts, step, rest):
    """However the network cuts them, and without a byte of what follows."""
    wire = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n" + rest
    body, buffer, at = ChunkedBody(1000), bytearray(), 0
    ended = False
    while not ended:
        buffer += wire[at : at + step]
        at += step
        ended = body.feed(buffer)

    assert bytes(body.data) == b"".join(parts)
    assert bytes(buffer) + wire[at:] == rest


@given(st.binary(max_size=300_000))
def test_gzip_and_gunzip_are_a_pair(data):
    """What is packed is unpacked, by us and by the standard library."""
    assert gunzip(gzip(data), len(data)) == data
    assert stdlib_gzip.decompress(gzip(data)) == data


@given(st.binary())
def test_gunzip_of_garbage_is_a_refusal(data):
    """Bytes that are not gzip are a 400, nothing else."""
    refused = refusal(lambda: gunzip(data, 1000))

    assert refused is None or refused.status == 400


@pytest.mark.parametrize("size", [65_535, 65_536, 65_537, 200_000])
def test_the_bound_of_gunzip_is_exact(size):
    """A body of the bound passes, one byte more does not."""
    data = bytes(size)

    assert gunzip(stdlib_gzip.compress(data), size) == data
    with pytest.raises(Refused, match=f"larger than {size - 1} bytes once it is unpacked"):
        gunzip(stdlib_gzip.compress(data), size - 1)


def test_large_bodies_let_others_run():
    """A pause is made for each slice, so that no body keeps the event loop for long."""
    pauses = []
    data = bytes(1_000_000)

    packed = gzip(data, lambda: pauses.append("gzip"))
    gunzip(packed, len(data), lambda _: pauses.append("gunzip"))

    assert pauses.count("gzip") >= 15
    assert pauses.count("gunzip") >= 15


@pytest.mark.parametrize(
    ("header", "wanted"),
    [
        ("", False),
        ("gzip", True),
        ("GZip", True),
        ("deflate, gzip", True),
        ("gzip;q=0", False),
        ("gzip; q=0.000", False),
        ("gzip;q=0.001", True),
        ("gzip;q=rubbish", True),
        ("*", True),
        ("*;q=0", False),
        ("gzip;q=0, *", False),
        ("identity", False),
        (";;,,=", False),
    ],
)
def test_accept_encoding_is_understood(header, wanted):
    """Weights and the star count (RFC 9110, 12.5.3)."""
    assert accepts_gzip(header) is wanted


def test_an_answer_head_is_one_block_of_lines():
    """Status line, headers, empty line; a status without a name is still one."""
    assert render_head(200, [("a", "b")]) == b"HTTP/1.1 200 OK\r\na: b\r\n\r\n"
    assert phrase(299) == "Unknown"
    with pytest.raises(ValueError, match="line break"):
        render_head(200, [("a", "b\nc: d")])


def test_a_refused_header_is_not_quoted():
    """A broken header line may hold a token, so the refusal does not repeat it."""
    with pytest.raises(Refused) as caught:
        parse_head(b"GET / HTTP/1.1\r\nHost: x\r\nX-Auth-Token s3cret\r\n\r\n")

    assert "s3cret" not in str(caught.value)
