"""The HTTP shell alone, over real sockets, byte by byte; the application behind it is an echo."""

import gzip
import json
import socket
import time
from contextlib import contextmanager

import pytest
from echo_app import BOMB, Echo

from flowkit import limits
from flowkit.server.asked import Watch
from flowkit.server.http import Bounds, HttpServer
from flowkit.server.metrics import Metrics
from flowkit.server.settings import Settings

QUICK = Bounds(
    head_timeout_s=0.4,
    body_timeout_s=0.4,
    keep_alive_timeout_s=0.4,
    stall_timeout_s=0.4,
    linger_timeout_s=0.4,
    shutdown_timeout_s=5.0,
)
"""Time-outs short enough to be waited for; only for tests that wait for them."""


@contextmanager
def serving(app=None, bounds=QUICK, host="127.0.0.1", watch=None):
    """A running server; stopped at the end."""
    server = HttpServer(app or Echo(), host, 0, bounds=bounds, watch=watch)
    server.start()
    try:
        yield server
    finally:
        server.stop(0)


def wait_until(is_so):
    """Wait for something that another thread brings about."""
    deadline = time.monotonic() + 10
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.005)


BULKY = bytes(200_000)


def packed_lines(data):
    """The headers of a body sent with gzip, the last of its connection."""
    size = len(gzip.compress(data))
    return f"Content-Length: {size}", "Content-Encoding: gzip", "Connection: close"


@pytest.fixture(scope="module")
def server():
    """One server with the usual bounds for the tests that do not stop it."""
    with serving(bounds=Bounds()) as running:
        yield running


@pytest.fixture(scope="module")
def quick():
    """One server with short time-outs."""
    with serving() as running:
        yield running


class Raw:
    """A socket to the server that sends bytes and reads answers."""

    def __init__(self, server):
        self.sock = socket.create_connection(("127.0.0.1", server.port), timeout=10)
        self.file = self.sock.makefile("rb")

    def send(self, data):
        """Send bytes; returns itself."""
        self.sock.sendall(data)
        return self

    def answer(self, *, bodiless=False):
        """(status, headers, body) of the next answer; None at the end of the connection."""
        line = self.file.readline()
        if not line:
            return None
        status = int(line.split()[1])
        headers = {}
        while (line := self.file.readline()) not in (b"\r\n", b""):
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
        size = 0 if bodiless or status == 100 else int(headers["content-length"])
        return status, headers, self.file.read(size)

    @property
    def is_closed(self):
        """Whether the server has closed, with nothing more said."""
        return self.file.read(1) == b""

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.file.close()
        self.sock.close()


def ask(server, data):
    """Send bytes on a connection of their own; the answer and whether the server closed."""
    with Raw(server) as raw:
        status, headers, body = raw.send(data).answer()
        closed = headers.get("connection") == "close" and raw.is_closed
        return status, headers, body, closed


def get(target="/a", *lines):
    """A GET with further header lines."""
    return "\r\n".join([f"GET {target} HTTP/1.1", "Host: x", *lines, "", ""]).encode("latin-1")


def post(*lines, body=b"", target="/a"):
    """A POST with header lines as given and a body as given."""
    head = "\r\n".join([f"POST {target} HTTP/1.1", "Host: x", *lines, "", ""])
    return head.encode("latin-1") + body


LONG = "a" * (limits.request_line_bytes_max + 1)
MANY = [f"X-{n}: 1" for n in range(limits.request_headers_max + 1)]
BULK = [f"X-{n}: {'v' * 2000}" for n in range(limits.request_head_bytes_max // 2000 + 1)]
CHUNKED = "Transfer-Encoding: chunked"

REFUSED = {
    # request line
    "HTTP/0.9": (b"GET /a\r\n\r\n", 400, "0.9"),
    "HTTP/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "HTTP/1.1"),
    "HTTP/1.2": (b"GET /a HTTP/1.2\r\nHost: x\r\n\r\n", 400, "HTTP/1.1"),
    "no version number": (b"GET /a HTTP\r\nHost: x\r\n\r\n", 400, "request line"),
    "two spaces": (b"GET  /a HTTP/1.1\r\nHost: x\r\n\r\n", 400, "request line"),
    "a tab for a space": (b"GET\t/a HTTP/1.1\r\nHost: x\r\n\r\n", 400, "request line"),
    "a broken method": (b"G(T /a HTTP/1.1\r\nHost: x\r\n\r\n", 400, "method"),
    "not HTTP at all": (b"\x16\x03\x01\x02\x00\x01", 400, "TLS"),
    "a target outside ASCII": ("GET /ä HTTP/1.1\r\nHost: x\r\n\r\n".encode(), 400, "ASCII"),
    "a target with a broken percent": (get("/a%zz"), 400, "%25"),
    "a target that ends in a percent": (get("/a?b=100%"), 400, "%25"),
    "a target that is not UTF-8": (get("/a%ff"), 400, "UTF-8"),
    "a target with a fragment": (get("/a#b"), 400, "%23"),
    "a relative target": (get("a"), 400, "begins"),
    "a target with a broken host": (get("http://x@y/a"), 400, "host"),
    "a request line of more than 64 KiB": (get(f"/{LONG}"), 414, "request line"),
    "a request line without an end": (f"GET /{LONG}".encode(), 414, "request line"),
    # headers
    "no Host": (b"GET /a HTTP/1.1\r\n\r\n", 400, "Host is missing"),
    "two Hosts": (get("/a", "Host: y"), 400, "host stands there twice"),
    "the same Host twice": (get("/a", "Host: x"), 400, "host stands there twice"),
    "a Host that is none": (b"GET /a HTTP/1.1\r\nHost: a b/c\r\n\r\n", 400, "Host is not"),
    "a lone LF": (b"GET /a HTTP/1.1\nHost: x\n\n", 400, "CR LF"),
    "a lone LF within": (get("/a", "X: 1\nY: 2"), 400, "CR LF"),
    "a lone CR": (get("/a", "X: 1\rY: 2"), 400, "CR LF"),
    "a folded line": (get("/a", "X: 1", " more"), 400, "folded"),
    "a space before the colon": (get("/a", "X : 1"), 400, "space before its colon"),
    "a smuggled length": (post("Content-Length : 3", body=b"abc"), 400, "space before"),
    "a line without a colon": (get("/a", "nothing"), 400, "no colon"),
    "an empty name": (get("/a", ": 1"), 400, "header name"),
    "a broken name": (get("/a", "X[]: 1"), 400, "header name"),
    "a NUL in a value": (get("/a", "X: a\0b"), 400, "0x00"),
    "a control character": (get("/a", "X: a\x0bb"), 400, "0x0b"),
    "too many headers": (get("/a", *MANY), 431, "more than 100 headers"),
    "too much of headers": (get("/a", *BULK), 431, "headers are longer"),
    "an unknown expectation": (get("/a", "Expect: wonders"), 417, "100-continue"),
    # length of the body
    "two lengths": (post("Content-Length: 3", "Content-Length: 4", body=b"abcd"), 400, "twice"),
    "one length twice": (post("Content-Length: 3", "Content-Length: 3", body=b"abc"), 400, "twice"),
    "a list of lengths": (post("Content-Length: 3, 3", body=b"abc"), 400, "plain number"),
    "a negative length": (post("Content-Length: -1"), 400, "plain number"),
    "a length with a sign": (post("Content-Length: +3", body=b"abc"), 400, "plain number"),
    "a length in hex": (post("Content-Length: 0x3", body=b"abc"), 400, "plain number"),
    "a length with an underscore": (post("Content-Length: 1_0"), 400, "plain number"),
    "an empty length": (post("Content-Length:"), 400, "plain number"),
    "an endless length": (post(f"Content-Length: {'9' * 40}"), 400, "plain number"),
    "a length in other digits": (post("Content-Length: \xb2"), 400, "plain number"),
    "a body that is too large": (post(f"Content-Length: {2**20 + 1}"), 413, "1048576 bytes"),
    "both lengths": (
        post(CHUNKED, "Content-Length: 3", body=b"0\r\n\r\n"),
        400,
        "exclude one another",
    ),
    "a coding other than chunked": (post("Transfer-Encoding: gzip"), 400, "only be chunked"),
    "two codings": (post("Transfer-Encoding: gzip, chunked"), 400, "only be chunked"),
    "chunked twice": (post(CHUNKED, CHUNKED, body=b"0\r\n\r\n"), 400, "twice"),
    "almost chunked": (post("Transfer-Encoding: xchunked"), 400, "only be chunked"),
    "chunked with a hidden space": (post("Transfer-Encoding: \x0bchunked"), 400, "0x0b"),
    "identity": (post("Transfer-Encoding: identity", "Content-Length: 0"), 400, "only be chunked"),
    "no coding": (post("Transfer-Encoding:"), 400, "only be chunked"),
    "chunked in HTTP/1.0": (
        b"POST /a HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
        "HTTP/1.0",
    ),
    # chunks
    "a chunk without a size": (post(CHUNKED, body=b"\r\nabc\r\n0\r\n\r\n"), 400, "hex digits"),
    "a chunk with a sign": (post(CHUNKED, body=b"+3\r\nabc\r\n0\r\n\r\n"), 400, "hex digits"),
    "a chunk with 0x": (post(CHUNKED, body=b"0x3\r\nabc\r\n0\r\n\r\n"), 400, "hex digits"),
    "a chunk line with a lone LF": (post(CHUNKED, body=b"3\nabc\r\n0\r\n\r\n"), 400, "CR LF"),
    "a chunk that is longer": (post(CHUNKED, body=b"3\r\nabcdef\r\n"), 400, "longer than its size"),
    "a chunk line without an end": (post(CHUNKED, body=b"3;" + b"x" * 2000), 400, "too long"),
    "a chunk that is too large": (post(CHUNKED, body=b"fffffff\r\n"), 413, "1048576 bytes"),
    "a chunk of 64 bits": (post(CHUNKED, body=b"f" * 16 + b"\r\n"), 400, "hex digits"),
    "a trailer without a colon": (post(CHUNKED, body=b"0\r\nodd\r\n\r\n"), 400, "trailer"),
    "trailers without an end": (
        post(CHUNKED, body=b"0\r\n" + b"X-Long: 123456789\r\n" * 100),
        431,
        "trailers",
    ),
}


@pytest.mark.parametrize(("data", "status", "words"), REFUSED.values(), ids=REFUSED)
def test_what_http_forbids_is_refused_in_the_envelope_and_the_connection_closed(
    server, data, status, words
):
    """Each rule answers its status with one sentence, and no byte after it is read as a request."""
    got, headers, body, closed = ask(server, data)

    said = json.loads(body)
    assert (got, closed) == (status, True)
    assert words in said["head"]["errors"][0]
    assert said == {
        "head": {
            "status": status,
            "ok": False,
            "messages": [],
            "errors": said["head"]["errors"],
            "references": {},
        },
        "body": {},
    }
    assert len(said["head"]["errors"]) == 1
    assert headers["content-type"] == "application/json; charset=utf-8"
    assert headers["x-request-replay"] == "1"
    assert headers["access-control-allow-origin"] == "*"


def test_a_refused_request_does_not_let_the_next_one_in(server):
    """A smuggled second request behind a refused one is never answered."""
    with Raw(server) as raw:
        raw.send(post(CHUNKED, "Content-Length: 3", body=b"0\r\n\r\n") + get("/smuggled"))

        assert raw.answer()[0] == 400
        assert raw.is_closed


ACCEPTED = {
    "plain": (get("/v4.0/nora/flow?limit=2"), {"segments": ["v4.0", "nora", "flow"]}),
    "a query": (get("/a?x=%C3%A4+b&x=2&y="), {"params": {"x": "2", "y": ""}}),
    "an encoded slash": (get("/a%2Fb/%E2%82%AC"), {"segments": ["a/b", "€"]}),
    "an absolute target": (get("http://other:81/a/b?c=1"), {"segments": ["a", "b"]}),
    "an absolute target of a host alone": (get("http://other"), {"segments": []}),
    "an absolute target with a query alone": (get("http://h?c=1"), {"params": {"c": "1"}}),
    "an empty line before": (b"\r\n\r\n" + get("/a"), {"segments": ["a"]}),
    "HTTP/1.0 without Host": (b"GET /a HTTP/1.0\r\n\r\n", {"segments": ["a"]}),
    "a longest request line": (
        get(f"/{'a' * (limits.request_line_bytes_max - 20)}"),
        {"method": "GET"},
    ),
    "MGET": (
        b'MGET /a HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\n["f1"]',
        {"method": "MGET", "body": '["f1"]'},
    ),
    "OPTIONS of everything": (
        b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
        {"method": "OPTIONS", "segments": []},
    ),
    "a body": (post("Content-Length: 3", body=b"abc"), {"body": "abc"}),
    "a body of nothing": (post("Content-Length: 0"), {"body": ""}),
    "no length at all": (post(), {"body": ""}),
    "chunks": (post(CHUNKED, body=b"3\r\nabc\r\n02\r\nde\r\n0\r\n\r\n"), {"body": "abcde"}),
    "Chunked in capitals": (post("Transfer-Encoding: Chunked", body=b"0\r\n\r\n"), {"body": ""}),
    "chunks with extensions and trailers": (
        post(CHUNKED, body=b"3;a=b\r\nabc\r\n0\r\nX-After: 1\r\n\r\n"),
        {"body": "abc"},
    ),
    "gzip": (
        post("Content-Encoding: gzip", "Content-Length: 23", body=gzip.compress(b"abc")),
        {"body": "abc"},
    ),
    "gzip of two members": (
        post("Content-Encoding: gzip", "Content-Length: 46", body=gzip.compress(b"abc") * 2),
        {"body": "abcabc"},
    ),
    "an IPv6 host": (b"GET /a HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n", {"segments": ["a"]}),
    "an empty host": (b"GET /a HTTP/1.1\r\nHost:\r\n\r\n", {"segments": ["a"]}),
}


@pytest.mark.parametrize(("data", "seen"), ACCEPTED.values(), ids=ACCEPTED)
def test_what_http_allows_reaches_the_application(server, data, seen):
    """The application sees the request decoded: no framing, no compression, no percent signs."""
    with Raw(server) as raw:
        status, _, body = raw.send(data).answer()

    said = json.loads(body)
    assert status == 200
    assert {name: said[name] for name in seen} == seen
    assert "content-encoding" not in said["headers"]


@pytest.mark.parametrize(
    "data",
    [get("/a"), ACCEPTED["chunks"][0], ACCEPTED["gzip"][0]],
    ids=["no body", "chunks", "gzip"],
)
def test_a_request_may_arrive_byte_by_byte(server, data):
    """How the network cuts a request does not matter."""
    with Raw(server) as raw:
        raw.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(len(data)):
            raw.send(data[at : at + 1])

        assert raw.answer()[0] == 200


def test_headers_of_one_name_are_joined_and_their_names_lowered(server):
    """A doubled header arrives as one, joined by a comma."""
    _, _, body, _ = ask(server, get("/a", "X-B: 1", "x-b:  2 ", "Connection: close"))

    assert json.loads(body)["headers"]["x-b"] == "1, 2"


def test_a_connection_serves_many_requests_in_their_order(server):
    """Keep-alive, also for requests that are sent before the answers are read (pipelining)."""
    wanted = [f"/{n}" for n in range(50)]
    with Raw(server) as raw:
        raw.send(b"".join(get(target) for target in wanted))
        seen = ["/" + json.loads(raw.answer()[2])["segments"][0] for _ in wanted]

    assert seen == wanted


def test_a_pipelined_request_behind_a_body_is_found(server):
    """The next request begins exactly where the body ends."""
    with Raw(server) as raw:
        raw.send(post("Content-Length: 3", body=b"abc") + ACCEPTED["chunks"][0] + get("/last"))
        bodies = [json.loads(raw.answer()[2]) for _ in range(3)]

    assert [said["body"] for said in bodies] == ["abc", "abcde", ""]
    assert bodies[2]["segments"] == ["last"]


def test_connection_close_is_obeyed(server):
    """The client's wish to end ends the connection, and the answer says so."""
    assert ask(server, get("/a", "Connection: Close"))[3]
    assert ask(server, b"GET /a HTTP/1.0\r\nHost: x\r\n\r\n")[3]


def test_http_1_0_may_keep_a_connection(server):
    """An old client that asks for keep-alive gets it, and is told."""
    with Raw(server) as raw:
        for _ in range(2):
            raw.send(b"GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            assert raw.answer()[1]["connection"] == "keep-alive"


def test_an_idle_connection_is_closed_after_its_time(quick):
    """Without a further request the server hangs up, silently."""
    with Raw(quick) as raw:
        assert raw.send(get("/a")).answer()[0] == 200
        began = time.monotonic()

        assert raw.is_closed
        assert time.monotonic() - began > 0.2


def test_a_connection_that_says_nothing_is_closed(quick):
    """Who connects and sends nothing is let go after the time for the head."""
    with Raw(quick) as raw:
        assert raw.is_closed


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"GET /a HTTP/1.1\r\nHost: x\r\nX-Slow", "the headers did not arrive"),
        (post("Content-Length: 10", body=b"abc"), "the body did not arrive"),
        (post(CHUNKED, body=b"3\r\nab"), "the body did not arrive"),
    ],
    ids=["head", "body", "chunks"],
)
def test_a_request_that_stops_halfway_is_answered_408(quick, data, words):
    """Head and body have a time in which they must have arrived."""
    status, _, body, closed = ask(quick, data)

    assert (status, closed) == (408, True)
    assert words in json.loads(body)["head"]["errors"][0]


def test_dripping_bytes_do_not_prolong_the_time():
    """The time for the head counts from its first byte, not from the last one."""
    with serving() as server, Raw(server) as raw:
        began = time.monotonic()
        raw.sock.settimeout(0.05)
        answer = b""
        raw.send(b"GET /a HTTP/1.1\r\nHost: x\r\nX: ")
        while not answer and time.monotonic() - began < 5:
            try:
                raw.send(b"a")
                answer = raw.sock.recv(4096)
            except TimeoutError:
                continue

        assert answer.startswith(b"HTTP/1.1 408 ")
        assert time.monotonic() - began < 2


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"GET /a HTT", "within the headers"),
        (post("Content-Length: 10", body=b"abc"), "3 of 10 bytes"),
        (post(CHUNKED, body=b"3\r\na"), "within the chunks"),
    ],
    ids=["head", "body", "chunks"],
)
def test_a_request_that_ends_halfway_is_answered_400(server, data, words):
    """A client that closes its sending half too early still gets told why."""
    with Raw(server) as raw:
        raw.send(data).sock.shutdown(socket.SHUT_WR)
        status, _, body = raw.answer()

    assert status == 400
    assert words in json.loads(body)["head"]["errors"][0]


def test_a_client_that_closes_its_sending_half_gets_its_answer(server):
    """Half-closed after a whole request is fine."""
    with Raw(server) as raw:
        raw.send(get("/a")).sock.shutdown(socket.SHUT_WR)

        assert raw.answer()[0] == 200
        assert raw.is_closed


def test_a_refusal_arrives_while_the_body_is_still_being_sent(server):
    """413 comes at once, what still arrives is read away, and the client is not reset."""
    with Raw(server) as raw:
        raw.send(post("Content-Length: 60000000"))
        raw.send(b"x" * 30_000_000)
        status, headers, _ = raw.answer()

        assert (status, headers["connection"]) == (413, "close")
        assert raw.is_closed


def test_an_array_create_may_be_larger(server):
    """POST below /drop has the bound of arrays, everything else the plain one."""
    size = limits.body_bytes_max + 1
    head = f"Content-Length: {size}"

    assert ask(server, post(head, body=b"x" * size, target="/v4.0/nora/flow"))[0] == 413
    for target in ("/v4.0/nora/drop", "/v4.0/nora/drop/f1?x=1"):
        with Raw(server) as raw:
            assert raw.send(post(head, body=b"x" * size, target=target)).answer()[0] == 200
    over = f"Content-Length: {limits.body_array_bytes_max + 1}"
    assert ask(server, post(over, target="/v4.0/nora/drop"))[0] == 413


UNPACKABLE = {
    "a bomb": (BOMB, 413, "unpacked"),
    "what is not gzip": (b"abc", 400, "not the gzip"),
    "half of it": (gzip.compress(b"abc" * 1000)[:-9], 400, "cut short"),
    "rubbish behind it": (gzip.compress(b"abc") + b"rubbish", 400, "not the gzip"),
    "a wrong checksum": (gzip.compress(b"abc")[:-8] + bytes(8), 400, "not the gzip"),
    "a thousand members": (gzip.compress(b"") * 1000, 400, "more than 64 members"),
}


@pytest.mark.parametrize(("packed", "status", "words"), UNPACKABLE.values(), ids=UNPACKABLE)
def test_a_packed_body_is_bounded_and_checked(server, packed, status, words):
    """The bound counts unpacked bytes; the connection goes on, its framing was sound."""
    with Raw(server) as raw:
        raw.send(post("Content-Encoding: gzip", f"Content-Length: {len(packed)}", body=packed))
        got, _, body = raw.answer()

        assert got == status
        assert words in json.loads(body)["head"]["errors"][0]
        assert raw.send(get("/a")).answer()[0] == 200


def test_an_unknown_content_encoding_is_refused(server):
    """Only gzip is understood, and Brotli where it is installed."""
    status, _, body, _ = ask(server, post("Content-Encoding: zstd", "Connection: close"))

    assert status == 415
    assert "only be gzip" in json.loads(body)["head"]["errors"][0]


@pytest.mark.parametrize(
    ("accept", "size", "packed"),
    [
        ("gzip", 80_000, True),
        ("deflate, GZIP;q=0.5", 80_000, True),
        ("*", 80_000, True),
        ("gzip;q=0", 80_000, False),
        ("br", 80_000, False),
        ("gzip", 800, False),
        ("gzip", 1_000_000, True),
    ],
)
def test_an_answer_is_packed_where_it_is_wanted_and_pays(server, accept, size, packed):
    """Large answers only, and only for clients that take gzip; the content is the same."""
    with Raw(server) as raw:
        _, headers, body = raw.send(
            get(f"/large?size={size}", f"Accept-Encoding: {accept}")
        ).answer()

    assert (headers.get("content-encoding") == "gzip") == packed
    assert (gzip.decompress(body) if packed else body) == b"flowkit " * (size // 8)
    assert (len(body) < size / 10) == packed
    assert ("vary" in headers) == (size >= limits.gzip_bytes_min)


def test_expect_100_continue_is_answered_before_the_body(server):
    """A client that asks first is told to go on, once."""
    with Raw(server) as raw:
        raw.send(post("Content-Length: 3", "Expect: 100-continue"))
        assert raw.answer()[0] == 100
        status, _, body = raw.send(b"abc").answer()

    assert (status, json.loads(body)["body"]) == (200, "abc")


def test_expect_100_continue_is_refused_at_once_where_the_body_is_too_large(server):
    """The point of asking: nothing is sent in vain."""
    assert ask(server, post("Content-Length: 60000000", "Expect: 100-continue"))[0] == 413


def test_head_is_a_get_without_the_body(server):
    """Status and headers of the GET, its length included, and the connection goes on."""
    with Raw(server) as raw:
        raw.send(b"HEAD /large?size=8000 HTTP/1.1\r\nHost: x\r\n\r\n")
        status, headers, _ = raw.answer(bodiless=True)

        assert (status, headers["content-length"]) == (200, "8000")
        assert raw.send(get("/a")).answer()[0] == 200


def test_every_answer_has_a_date_and_its_length(server):
    """Both are the server's duty (RFC 9110)."""
    with Raw(server) as raw:
        _, headers, body = raw.send(get("/a")).answer()

    assert headers["date"].endswith(" GMT")
    assert int(headers["content-length"]) == len(body)


def test_a_fault_of_the_application_is_a_500_without_a_word_of_it(server, caplog):
    """The client gets the envelope, the log gets the traceback, the connection goes on."""
    with Raw(server) as raw:
        status, _, body = raw.send(get("/fault")).answer()
        assert raw.send(get("/a")).answer()[0] == 200

    assert status == 500
    assert b"secret" not in body
    assert b"Traceback" not in body
    assert "a secret inside" in caplog.text


def test_a_refusal_of_the_application_becomes_its_envelope(server):
    """Status, sentence and Retry-After of a PlatformError."""
    with Raw(server) as raw:
        status, headers, body = raw.send(get("/refuse")).answer()

    assert (status, headers["retry-after"]) == (429, "7")
    assert json.loads(body)["head"]["errors"] == ["no: because"]


def test_an_answer_header_cannot_begin_a_line(server, caplog):
    """Response splitting is impossible: the connection ends without an answer, the log says why."""
    with Raw(server) as raw:
        assert raw.send(get("/split")).answer() is None

    assert "holds a line break" in caplog.text


def test_a_client_that_goes_away_leaves_nothing_behind(caplog, capfd):
    """Resets at any moment: no line in the log, nothing on stderr, no connection kept."""
    with serving() as server:
        for data in (
            b"",
            b"GET /a",
            get("/a"),
            get("/large?size=8000000"),
            post("Content-Length: 9"),
        ):
            raw = Raw(server).send(data)
            raw.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            raw.file.close()
            raw.sock.close()
        with Raw(server) as raw:
            assert raw.send(get("/a")).answer()[0] == 200
        server.stop()

        assert not server.connections
    assert caplog.text == ""
    assert capfd.readouterr().err == ""


def test_a_client_that_reads_nothing_is_let_go():
    """An answer that nobody takes does not hold its memory for ever."""
    with serving() as server, Raw(server) as raw:
        raw.send(get("/large?size=64000000"))
        began = time.monotonic()
        server.stop(30)  # ends with the last connection

        assert time.monotonic() - began < 15


def test_one_slow_client_does_not_hold_up_the_others():
    """Requests of other connections are answered while one waits in the application."""
    app = Echo()
    with serving(app) as server, Raw(server) as slow, Raw(server) as other:
        slow.send(get("/wait"))
        app.entered.wait(5)
        assert other.send(get("/a")).answer()[0] == 200
        app.may_go_on.set()

        assert slow.answer()[0] == 200


def test_a_large_body_does_not_hold_up_the_others():
    """It is worked off beside the event loop, which answers meanwhile."""
    app = Echo()
    size = limits.body_aside_bytes_min
    with serving(app, Bounds()) as server, Raw(server) as large, Raw(server) as other:
        large.send(post(f"Content-Length: {size}", body=b"x" * size, target="/block"))
        app.entered.wait(5)
        assert other.send(get("/a")).answer()[0] == 200
        app.may_go_on.set()
        status, _, body = large.answer()

        assert (status, len(json.loads(body)["body"])) == (200, size)
        fault = post(f"Content-Length: {size}", body=b"x" * size, target="/fault")
        assert large.send(fault).answer()[0] == 500


def test_pipelined_requests_let_others_have_their_turn():
    """Of many requests in one go, a request of another connection waits for a part of them."""
    app = Echo()
    order = []
    app.seen = order.append
    with serving(app, Bounds()) as server, Raw(server) as greedy, Raw(server) as modest:
        modest.send(get("/hello")).answer()
        greedy.send(get("/block") + get("/greedy") * 1_000)
        app.entered.wait(10)
        modest.send(get("/modest"))
        app.may_go_on.set()
        modest.answer()
        assert all(greedy.answer()[0] == 200 for _ in range(1_001))

    assert order.index("modest") < 500


def test_all_bodies_together_are_bounded():
    """Beyond the bound a large body is told to come later; small ones pass; all is given back."""
    bounds = Bounds(bodies_bytes_max=1_000_000)
    large = post(f"Content-Length: {len(BULKY)}", body=BULKY)
    with serving(bounds=bounds) as server, Raw(server) as slow:
        slow.send(post("Content-Length: 1000000", body=bytes(900_000)))
        wait_until(lambda: server.held_bytes == 900_000)
        status, headers, body, closed = ask(server, large)
        assert (status, headers["retry-after"], closed) == (503, "1", True)
        assert b"large bodies" in body
        assert ask(server, post("Content-Length: 3", "Connection: close", body=b"abc"))[0] == 200

        slow.send(bytes(100_000))
        assert slow.answer()[0] == 200
        assert ask(server, post(*packed_lines(BULKY), body=gzip.compress(BULKY)))[0] == 200
        wait_until(lambda: server.held_bytes == 0)


def test_what_bodies_open_to_counts_towards_their_bound():
    """A packed body is small on the way; what counts is what it takes once it is unpacked."""
    with serving(bounds=Bounds(bodies_bytes_max=100_000)) as server:
        status, _, body, _ = ask(server, post(*packed_lines(BULKY), body=gzip.compress(BULKY)))

        assert status == 503
        assert b"large bodies" in body
        assert server.held_bytes == 0


def test_a_stop_lets_requests_under_way_end():
    """What was asked is answered, idle connections end, no new ones begin; clients may hold on."""
    app = Echo()
    with (
        serving(app, Bounds(linger_timeout_s=60)) as server,
        Raw(server) as busy,
        Raw(server) as idle,
    ):
        idle.send(get("/a")).answer()
        busy.send(get("/wait"))
        app.entered.wait(5)
        server.begin_stop()
        assert idle.is_closed
        with pytest.raises(ConnectionError):
            Raw(server)
        assert not server.wait_stopped(0.05)
        app.may_go_on.set()
        status, headers, _ = busy.answer()

        assert (status, headers["connection"]) == (200, "close")
        assert server.wait_stopped(5)
        assert busy.is_closed


def test_a_stop_lets_a_body_on_its_way_arrive():
    """A request whose head has arrived is under way."""
    bounds = Bounds(body_timeout_s=5, linger_timeout_s=0.2)
    with serving(bounds=bounds) as server, Raw(server) as raw:
        raw.send(post("Content-Length: 6", "Expect: 100-continue"))
        assert raw.answer()[0] == 100
        server.begin_stop()
        raw.send(b"abc")
        assert not server.wait_stopped(0.05)
        status, _, body = raw.send(b"def").answer()

        assert (status, json.loads(body)["body"]) == (200, "abcdef")


def test_a_stop_ends_after_its_time_whatever_is_under_way():
    """A request that takes too long is cut off; so is one at the second word."""
    for stop in (lambda server: server.stop(0.2), lambda server: _twice(server)):
        app = Echo()
        with serving(app) as server, Raw(server) as raw:
            raw.send(get("/wait"))
            app.entered.wait(5)
            began = time.monotonic()
            stop(server)

            assert time.monotonic() - began < 2
            assert raw.answer() is None


def _twice(server):
    server.begin_stop()
    server.begin_stop()
    assert server.wait_stopped(2)


def test_a_stop_before_the_start_and_a_second_one_are_harmless():
    """Stopping twice, or without a start, gives the port back and returns."""
    server = HttpServer(Echo(), "127.0.0.1", 0)
    server.stop()
    server.stop()
    with serving() as running:
        running.stop()
        running.stop()
    HttpServer(Echo(), "127.0.0.1", server.port).stop()


def test_a_port_can_be_had_again_at_once():
    """A restart on the same port does not wait for old connections to be forgotten."""
    with serving() as server, Raw(server) as raw:
        raw.send(get("/a", "Connection: close")).answer()
        port = server.port
        server.stop()
        again = HttpServer(Echo(), "127.0.0.1", port)

        again.stop()


def test_ipv6_is_served():
    """The URL of an IPv6 address has brackets and works."""
    if not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    try:
        with serving(host="::1") as server:
            assert server.url == f"http://[::1]:{server.port}"
            with socket.create_connection(("::1", server.port), timeout=5) as sock:
                sock.sendall(get("/a"))

                assert sock.recv(100).startswith(b"HTTP/1.1 200 ")
    except OSError as error:
        pytest.skip(f"this machine has no IPv6: {error}")


def test_more_connections_than_the_bound_wait_for_their_turn():
    """The bound holds, and who waits is served when another one leaves."""
    with serving(bounds=Bounds(connections_max=2, linger_timeout_s=0.2)) as server:
        first, second, third = Raw(server), Raw(server), Raw(server)
        for raw in (first, second):
            assert raw.send(get("/a")).answer()[0] == 200
        third.send(get("/a")).sock.settimeout(0.1)
        with pytest.raises(TimeoutError):
            third.sock.recv(1)
        first.__exit__()
        third.sock.settimeout(5)

        assert third.sock.recv(100).startswith(b"HTTP/1.1 200 ")
        second.__exit__()
        third.__exit__()


# What an operator sees


def test_what_is_refused_before_the_application_has_an_id_and_is_counted():
    """Noise, a head that is too long, gzip that is none: each answer can be found in the log."""
    watch = Watch(Settings(), Metrics())
    noise = [b"NOISE\r\n\r\n", get("/" + "a" * limits.request_line_bytes_max)]
    packed = post("Content-Length: 3", "Content-Encoding: gzip", "Connection: close", body=b"abc")
    with serving(watch=watch) as server:
        ids = {ask(server, data)[1]["x-request-id"] for data in [*noise, packed]}
        counted = [
            watch.metrics.value("flowkit_requests_total", "(http)", "other", status)
            for status in ("400", "414")
        ]

    assert len(ids) == 3
    assert counted == [2, 1]


def test_connections_and_bytes_are_shown_and_the_loop_is_watched():
    """Every byte of both directions; how late the loop comes, a few times a second."""
    watch = Watch(Settings(), Metrics())
    with serving(Echo(), Bounds(), watch=watch) as server, Raw(server) as raw:
        asked = get("/large?size=1000000")
        raw.send(asked).answer()
        wait_until(lambda: watch.metrics.value("flowkit_loop_stall_seconds") >= 2)
        page = watch.metrics.page().decode()

    assert "flowkit_http_connections 1.0" in page
    assert f"flowkit_http_received_bytes_total {len(asked)}.0" in page
    assert 1_000_000 < server.sent_bytes < 1_001_000


def test_the_application_is_told_who_asks():
    """The address of the other end, for the limit of those without a credential."""
    peers = []

    class Asking(Echo):
        def handle(self, request):
            peers.append(request.peer)
            return super().handle(request)

    with serving(Asking()) as server:
        ask(server, get("/a", "Connection: close"))

    assert peers == ["127.0.0.1"]


def read_slowly(raw, begun):
    """Take what there is, a little at a time; the bytes until the server has enough."""
    raw.sock.settimeout(10)
    total = 0
    while time.monotonic() < begun + 10:
        try:
            data = raw.sock.recv(65_536)
        except ConnectionError:
            return total
        if not data:
            return total
        total += len(data)
        time.sleep(0.01)
    raise AssertionError("the server never let go")


@pytest.mark.slow
def test_who_reads_a_large_answer_slice_by_slice_but_too_slowly_is_let_go():
    """Each slice in time, all of it not: the answer is not held for as long as somebody likes."""
    bounds = Bounds(stall_timeout_s=0.5, answer_bytes_per_s_min=100_000_000)
    with serving(bounds=bounds) as server, Raw(server) as raw:
        begun = time.monotonic()
        raw.send(get("/large?size=64000000"))
        total = read_slowly(raw, begun)
        wait_until(lambda: server.answers_bytes == 0)

    assert 0 < total < 64_000_000


def test_large_answers_on_their_way_are_bounded():
    """One that nobody takes is held; beside it a second one is refused, a small one is not."""
    bounds = Bounds(answers_bytes_max=30_000_000)
    with serving(bounds=bounds) as server, Raw(server) as greedy:
        greedy.send(get("/large?size=24000000"))
        wait_until(lambda: server.answers_bytes > 24_000_000)
        status, headers, body, _ = ask(server, get("/large?size=24000000", "Connection: close"))
        assert (status, headers["retry-after"]) == (503, "1")
        assert b"large answers" in body
        assert ask(server, get("/large?size=800", "Connection: close"))[0] == 200
        assert greedy.answer()[0] == 200
        wait_until(lambda: server.answers_bytes == 0)
        assert ask(server, get("/large?size=24000000", "Connection: close"))[0] == 200
