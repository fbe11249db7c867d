"""What goes out: only to public addresses or where the operator allows it, and within bounds."""

from __future__ import annotations

import gzip
import socket
import ssl
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import trustme

from flowkit.green import monotonic
from flowkit.server.outgoing import OutgoingError, check_address, fetch

HERE = "127.0.0.1"


@contextmanager
def serving(answer, tls=None):
    """A server on this machine; *answer* gets the handler. Yields its port and what was asked."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def answered(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            headers = {name.lower(): value for name, value in self.headers.items()}
            asked.append((self.command, self.path, headers, self.rfile.read(length)))
            answer(self)

        do_GET = do_POST = answered  # noqa: N815 - the names of the base class

        def log_message(self, *_args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer((HERE, 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1], asked
    finally:
        server.shutdown()
        server.server_close()


def saying(body=b"hello", status=200, **headers):
    """An answer."""

    def answer(handler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def fetched(url, **options):
    """A fetch that may reach this machine."""
    return fetch("GET", url, **{"allow_hosts": HERE, "timeout_s": 5.0, **options})


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "::1",
        "0.0.0.0",
        "::",
        "169.254.169.254",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "224.0.0.1",
        "255.255.255.255",
        "fe80::1",
        "fc00::1",
        "0x7f000001",
        "2130706433",
        "017700000001",
        "127.1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
    ],
)
def test_what_is_not_public_is_refused_in_every_spelling(host):
    """Loopback, link-local, private, shared and inside other forms of address."""
    with pytest.raises(OutgoingError, match=r"not on the public internet|not known"):
        check_address(host, 80)


def test_a_public_address_and_an_allowed_host_are_let_through():
    """By name, by address, and whatever the case."""
    assert check_address("93.184.216.34", 80) == ["93.184.216.34"]
    assert check_address("2606:2800:220:1::1", 443) == ["2606:2800:220:1::1"]
    assert check_address(HERE, 80, f"feeds.lan, {HERE}") == [HERE]
    assert check_address("Feeds.LAN", 80, "feeds.lan", look_up=lambda *_: ["10.0.0.1"]) == [
        "10.0.0.1"
    ]


def test_one_private_address_among_several_refuses_the_name():
    """Every address of a name is looked at."""
    with pytest.raises(OutgoingError, match="not on the public internet"):
        check_address("two.example.org", 80, look_up=lambda *_: ["93.184.216.34", "10.0.0.1"])


def test_a_name_is_looked_up_once():
    """The connection goes to the address that was checked: a second answer would not be (DNS
    rebinding)."""
    answers = [[HERE], ["10.255.255.1"]]
    with serving(saying()) as (port, asked):
        found = fetched(
            f"http://rebinding.example.org:{port}/x",
            allow_hosts="rebinding.example.org",
            look_up=lambda *_: answers.pop(0),
        )

    assert found.body == b"hello"
    assert asked[0][2]["host"] == f"rebinding.example.org:{port}"
    assert len(answers) == 1


def test_an_answer_is_status_headers_and_unpacked_body():
    """Names of headers in lower case."""
    packed = gzip.compress(b"x" * 5_000)
    with serving(saying(packed, 404, Content_Encoding="gzip", X_Thing="y")) as (port, asked):
        found = fetched(f"http://{HERE}:{port}/a%20b?c=d")

    assert (found.status, found.body, found.headers["x-thing"]) == (404, b"x" * 5_000, "y")
    assert asked[0][1] == "/a%20b?c=d"


def test_a_body_is_sent():
    """With the headers given."""
    with serving(saying()) as (port, asked):
        fetch("POST", f"http://{HERE}:{port}/", {"X-A": "b"}, b"body", allow_hosts=HERE)

    method, _, headers, body = asked[0]
    assert (method, headers["x-a"], body) == ("POST", "b", b"body")


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ftp://e.org/",
        "http://",
        "gopher://e.org",
        "//e.org",
        "x",
        "http://[::",
    ],
)
def test_only_http_goes_out(url):
    """And a host must be named."""
    with pytest.raises(OutgoingError, match=r"must begin with http|cannot be read"):
        fetched(url)


@pytest.mark.parametrize("place", ["http://localhost:1/", "http://169.254.169.254/", "//10.0.0.1/"])
def test_a_redirect_to_what_is_refused_is_refused(place):
    """Each target is checked like the first."""

    def look_up(host, port):
        return [HERE] if host == "feeds.lan" else [entry[4][0] for entry in found(host, port)]

    found = socket.getaddrinfo
    with (
        serving(saying(b"", 302, Location=place)) as (port, asked),
        pytest.raises(OutgoingError, match="not on the public internet"),
    ):
        fetched(f"http://feeds.lan:{port}/", allow_hosts="feeds.lan", look_up=look_up)

    assert len(asked) == 1


def test_a_redirect_is_followed_without_secrets_for_another_host():
    """The path may change on the same host; another host gets no credentials."""
    with serving(saying()) as (there, asked):
        onward = saying(b"", 302, Location=f"http://localhost:{there}/x")
        with serving(onward) as (port, _):
            found = fetch(
                "GET",
                f"http://{HERE}:{port}/",
                {"Authorization": "secret", "Cookie": "secret", "X-Other": "kept"},
                allow_hosts=f"{HERE},localhost",
            )

    assert found.body == b"hello"
    assert "secret" not in str(asked)
    assert asked[0][2]["x-other"] == "kept"


def test_redirects_come_to_an_end():
    """After some, nothing more is asked."""
    with (
        serving(saying(b"", 302, Location="/again")) as (port, asked),
        pytest.raises(OutgoingError, match="more than 5 redirects"),
    ):
        fetched(f"http://{HERE}:{port}/")

    assert len(asked) == 6


def test_an_answer_that_grows_too_large_is_ended():
    """Counted unpacked: a little sent may be a lot."""
    bomb = gzip.compress(b"\0" * 5_000_000)
    with (
        serving(saying(bomb, Content_Encoding="gzip")) as (port, _),
        pytest.raises(OutgoingError, match="larger than 100000 bytes"),
    ):
        fetched(f"http://{HERE}:{port}/", bytes_max=100_000)


def test_a_server_that_dribbles_is_let_go():
    """One deadline holds for everything, however often a byte comes."""

    def dribble(handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        try:
            for _ in range(100):
                handler.wfile.write(b"x")
                handler.wfile.flush()
                time.sleep(0.05)
        except OSError:
            return

    begun = monotonic()
    with serving(dribble) as (port, _), pytest.raises(OutgoingError) as caught:
        fetched(f"http://{HERE}:{port}/", timeout_s=0.5)

    assert caught.value.timed_out
    assert monotonic() - begun < 4


def test_a_server_that_says_nothing_is_let_go():
    """And the error says that it was the time."""
    with socket.socket() as silent:
        silent.bind((HERE, 0))
        silent.listen()
        with pytest.raises(OutgoingError) as caught:
            fetched(f"http://{HERE}:{silent.getsockname()[1]}/", timeout_s=0.3)

    assert caught.value.timed_out


def test_credentials_of_an_address_are_used_and_never_told():
    """Neither when it goes well nor in an error."""
    with serving(saying()) as (port, asked):
        fetched(f"http://nora:hush@{HERE}:{port}/")
    with pytest.raises(OutgoingError) as caught:
        fetched(f"http://nora:hush@{HERE}:1/")

    assert asked[0][2]["authorization"] == "Basic bm9yYTpodXNo"
    assert "hush" not in asked[0][2]["host"]
    assert "hush" not in str(caught.value)


def test_tls_is_verified_against_the_name():
    """A certificate that nobody trusts is refused, though the address was allowed."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("feeds.lan").configure_cert(context)
    with serving(saying(), context) as (port, asked), pytest.raises(OutgoingError):
        fetched(f"https://feeds.lan:{port}/", allow_hosts="feeds.lan", look_up=lambda *_: [HERE])

    assert asked == []
