"""HttpTransport against real servers that say exactly what a test wants."""

from __future__ import annotations

import gzip
import importlib.util
import os
import threading
import time

import gevent
import pytest
import requests
from client.scripted_server import Asked, ScriptedServer, answer
from client.transport_contract import TransportContract

from flowkit import limits
from flowkit.client.transport import HttpTransport, check_async_lib
from flowkit.errors import (
    ConnectError,
    ConnectionLost,
    DeadlineExceeded,
    FlowKitError,
    ProtocolError,
    SettingsError,
    UsageError,
)
from flowkit.green import spawn
from flowkit.protocol.envelope import Request

GET = Request("GET", ("v4.0", "nora", "flow"), {"limit": "2"}, {"x-auth-token": "s3cret-token"})
POST = Request("POST", ("v4.0", "nora", "flow"), headers=GET.headers, body=b'{"path": "/nora/a"}')
MGET = Request("MGET", ("v4.0", "nora", "flow"), headers=GET.headers, body=b'["f1"]')


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch):
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"):
            monkeypatch.delenv(name)


@pytest.fixture
def serve():
    """Start scripted servers; all are closed at the end."""
    servers = []

    def start(script, tls=None):
        servers.append(ScriptedServer(script, tls))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture(params=["lean", "full"])
def open_transport(request):
    """Make a transport of either path."""
    made = []

    def start(url, **options):
        if request.param == "full":
            session = requests.Session()
            session.trust_env = False
            options["session"] = session
        made.append(HttpTransport(url, **options))
        return made[-1]

    yield start
    for transport in made:
        transport.close()


def in_thread(work):
    """The outcome of *work* in a plain thread that has no event loop."""
    out = []

    def run():
        try:
            out.append((None, work()))
        except BaseException as error:  # noqa: BLE001 - handed to the caller
            out.append((error, None))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(20)
    error, value = out[0]
    if error:
        raise error
    return value


@pytest.fixture(params=["greenlet", "thread"])
def run(request):
    """Run a function in a greenlet, or in a plain thread."""
    return in_thread if request.param == "thread" else lambda work: spawn(work).get(timeout=20)


def echo(asked: Asked):
    """200 for the one known place, 404 elsewhere."""
    known = asked.target.startswith("/v4.0/nora/flow")
    return answer(b'{"head": {}}', 200 if known else 404)


class TestContract(TransportContract):
    """Both paths keep the contract."""

    @pytest.fixture
    def transport(self, open_transport, serve):
        """A transport of either path, to a server of the test's own."""
        return open_transport(serve(echo).url)

    @pytest.fixture
    def request_200(self):
        """What that server answers with 200."""
        return GET


@pytest.mark.parametrize("request_", [GET, POST, MGET], ids=lambda request: request.method)
def test_a_request_arrives_as_it_was_made(serve, open_transport, run, request_):
    """Method, percent-encoded target, headers and body reach the server unchanged."""
    server = serve(echo)
    transport = open_transport(server.url)

    run(lambda: transport.send(request_, timeout_s=5))

    asked = server.asked[0]
    assert (asked.method, asked.target, asked.body) == (
        request_.method,
        request_.target,
        request_.body,
    )
    assert asked.headers["x-auth-token"] == "s3cret-token"
    assert asked.headers["user-agent"].startswith("flowkit/")
    assert asked.headers["host"] == f"127.0.0.1:{server.port}"


def test_requests_one_after_another_use_one_connection(serve, open_transport, run):
    """The connection is kept (defect 7)."""
    server = serve(echo)
    transport = open_transport(server.url)

    run(lambda: [transport.send(GET, timeout_s=5) for _ in range(5)])

    assert server.connections == 1


def test_a_silent_server_costs_the_timeout_and_no_more(serve, open_transport, run):
    """One deadline for the whole call (defect 6)."""
    hold = threading.Event()
    server = serve(lambda asked: hold.wait(10) and None)
    transport = open_transport(server.url)
    began = time.monotonic()

    with pytest.raises(DeadlineExceeded, match=r"0\.2 s") as caught:
        run(lambda: transport.send(GET, timeout_s=0.2))

    hold.set()
    assert 0.1 < time.monotonic() - began < 2
    assert (caught.value.method, caught.value.path) == ("GET", "/v4.0/nora/flow")


@pytest.mark.parametrize(
    ("beginning", "drop"),
    [(b"", b"X: y\r\n"), (b"Content-Length: 999\r\n\r\n", b"x")],
    ids=["head", "body"],
)
def test_a_trickling_server_cannot_stretch_the_deadline(
    serve, open_transport, run, beginning, drop
):
    """Each byte that comes does not start the time anew, on neither path."""
    stop = threading.Event()

    def trickle(asked):
        def parts():
            yield b"HTTP/1.1 200 OK\r\n" + beginning
            while not stop.wait(0.02):
                yield drop

        return _Endless(parts())

    transport = open_transport(serve(trickle).url)
    began = time.monotonic()

    with pytest.raises(DeadlineExceeded):
        run(lambda: transport.send(GET, timeout_s=0.3))

    stop.set()
    assert time.monotonic() - began < 2


class _Endless(tuple):
    """A tuple by type only: parts that are made while they are sent."""

    def __new__(cls, parts):
        made = super().__new__(cls)
        made.parts = parts
        return made

    def __iter__(self):
        return self.parts


def test_nobody_listening_is_a_connect_error(open_transport, run, unused_port):
    """Nothing was sent, and the place is named (defect 13)."""
    transport = open_transport(f"http://127.0.0.1:{unused_port}")

    with pytest.raises(ConnectError, match=rf"127\.0\.0\.1:{unused_port}.*refused"):
        run(lambda: transport.send(POST, timeout_s=5))


@pytest.fixture
def unused_port():
    """A port on which nobody listens."""
    server = ScriptedServer(echo)
    server.close()
    return server.port


def test_a_connection_that_ends_without_an_answer_is_lost(serve, open_transport, run):
    """The server may have acted: this is not repeated here."""
    server = serve(lambda asked: None)
    transport = open_transport(server.url)

    with pytest.raises(ConnectionLost):
        run(lambda: transport.send(POST, timeout_s=5))

    assert len(server.asked) == 1


def test_an_answer_cut_short_is_lost_and_not_returned(serve, open_transport, run):
    """Half a body is no body."""
    server = serve(lambda asked: (answer(b'{"a": 1234567890}')[:-5],))
    transport = open_transport(server.url)

    with pytest.raises(ConnectionLost):
        run(lambda: transport.send(GET, timeout_s=5))


def test_a_safe_request_survives_an_idle_connection_that_ended(serve, open_transport, run):
    """The server hung up between two requests: the second goes out on a new connection."""
    server = serve(lambda asked: echo(asked) if asked.number == 1 else None)
    transport = open_transport(server.url)

    def twice():
        transport.send(GET, timeout_s=5)
        server.hang_up()
        return transport.send(GET, timeout_s=5)

    assert run(twice).status == 200
    assert server.connections == 2


def test_a_write_on_a_stale_connection_is_sent_on_a_new_one_when_none_of_it_was(serve, run):
    """A closed idle connection is noticed before a write goes out on it."""
    server = serve(echo)
    transport = HttpTransport(server.url)

    def twice():
        transport.send(POST, timeout_s=5)
        server.hang_up()
        wait_until(lambda: server.open_now == 0)
        return transport.send(POST, timeout_s=5)

    assert run(twice).status == 200
    assert len(server.asked) == 2
    transport.close()


def test_a_write_that_may_have_been_seen_is_not_sent_again(serve, run):
    """The server reads the second POST, then hangs up: the caller must decide."""
    server = serve(lambda asked: echo(asked) if asked.number == 1 else None)
    transport = HttpTransport(server.url)

    def twice():
        transport.send(POST, timeout_s=5)
        transport.send(POST, timeout_s=5)

    with pytest.raises(ConnectionLost):
        run(twice)
    assert len(server.asked) == 2
    transport.close()


def test_a_find_sent_as_post_is_safe_to_repeat(serve, run):
    """The override says what is meant (protocol 3.5)."""
    find = Request("POST", POST.segments, headers={"x-http-method-override": "GET"}, body=b"{}")
    server = serve(lambda asked: echo(asked) if asked.number == 1 else None)
    transport = HttpTransport(server.url)

    def twice():
        transport.send(find, timeout_s=5)
        return transport.send(find, timeout_s=5)

    assert run(twice).status == 200
    transport.close()


def wait_until(is_true, timeout_s=5.0):
    """Give the server's threads room until something holds."""
    until = time.monotonic() + timeout_s
    while not is_true():
        assert time.monotonic() < until, "it never came true"
        gevent.sleep(0.001)


def test_a_server_that_says_close_is_taken_at_its_word(serve, run):
    """Its connection is not used again, nor one that has been idle for too long."""
    server = serve(lambda asked: answer(b"{}", 200, ("Connection: close",)))
    transport = HttpTransport(server.url)

    run(lambda: [transport.send(POST, timeout_s=5) for _ in range(3)])

    assert server.connections == 3
    assert transport.connections == 0
    transport.close()


def test_a_connection_idle_for_too_long_is_dropped(serve, run, monkeypatch):
    """Before the server does it."""
    monkeypatch.setattr(limits, "idle_connection_s", 0.0)
    server = serve(echo)
    transport = HttpTransport(server.url)

    run(lambda: [transport.send(GET, timeout_s=5) for _ in range(3)])

    assert server.connections == 3
    transport.close()


def test_connections_that_a_burst_left_behind_go_by_themselves(serve, monkeypatch):
    """A client that goes on with one request at a time lets the other connections go."""
    server = serve(lambda asked: time.sleep(0.02) or echo(asked))
    transport = HttpTransport(server.url)
    gevent.joinall([spawn(lambda: transport.send(GET, timeout_s=5)) for _ in range(6)])
    assert transport.connections == 6
    monkeypatch.setattr(limits, "idle_connection_s", 0.01)

    for _ in range(8):
        transport.send(GET, timeout_s=5)

    assert transport.connections <= 2
    transport.close()


def test_bytes_beyond_an_answer_are_nobodys_answer(serve, run):
    """A second answer that nobody asked for is not given to the next request."""
    server = serve(lambda asked: answer(b'{"a": 1}') + answer(b'{"forged": 1}'))
    transport = HttpTransport(server.url)

    bodies = run(lambda: [transport.send(GET, timeout_s=5).body for _ in range(3)])

    assert bodies == [b'{"a": 1}'] * 3
    assert server.connections == 3
    transport.close()


def test_a_socks_proxy_without_its_library_is_refused_at_once(monkeypatch):
    """The error names what to install."""
    if importlib.util.find_spec("socks") is not None:
        pytest.skip("PySocks is installed")
    monkeypatch.setenv("ALL_PROXY", "socks5://nora:s3cret@127.0.0.1:1080")

    with pytest.raises(SettingsError, match=r"requests\[socks\]") as caught:
        HttpTransport("http://platform.invalid")
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_an_error_and_never_followed(serve, open_transport, status):
    """The token must not go to another host (defect 10)."""
    other = serve(echo)
    server = serve(lambda asked: answer(b"", status, (f"Location: {other.url}/x?t=1",)))
    transport = open_transport(server.url)

    with pytest.raises(ProtocolError, match="redirect to http://127"):
        transport.send(GET, timeout_s=5)

    assert other.asked == []


def test_a_page_of_html_is_passed_up(serve, open_transport):
    """What the body says is for the caller to judge (defect 9)."""
    server = serve(lambda asked: answer(b"<html>busy", 502, ("Content-Type: text/html",)))

    response = open_transport(server.url).send(GET, timeout_s=5)

    assert (response.status, response.body) == (502, b"<html>busy")


def test_an_empty_answer_is_an_answer(serve, open_transport):
    """204 has no body (defect 17)."""
    server = serve(lambda asked: b"HTTP/1.1 204 No Content\r\n\r\n")

    assert open_transport(server.url).send(GET, timeout_s=5).body == b""


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"


@pytest.mark.parametrize(
    ("said", "body"),
    [
        (CHUNKED, b"{}"),
        ((b"HTTP/1.0 200 OK\r\n\r\n{}",), b"{}"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + answer(b"{}"), b"{}"),
        (answer(gzip.compress(b'{"a": 1}'), 200, ("Content-Encoding: gzip",)), b'{"a": 1}'),
        (tuple(answer(b"{}")[i : i + 1] for i in range(len(answer(b"{}")))), b"{}"),
    ],
    ids=["chunked", "to the end", "after 100", "gzip", "byte by byte"],
)
def test_every_framing_of_http_is_read(serve, open_transport, run, said, body):
    """The body comes out plain, however it was framed or packed."""
    transport = open_transport(serve(lambda asked: said).url)

    response = run(lambda: transport.send(GET, timeout_s=5))

    assert (response.status, response.body) == (200, body)
    assert "content-encoding" not in response.headers


def test_what_is_not_http_is_a_protocol_error(serve):
    """A wrong port is named as such."""
    transport = HttpTransport(serve(lambda asked: (b"SSH-2.0-OpenSSH\r\n",)).url)

    with pytest.raises(ProtocolError, match="does not speak HTTP"):
        transport.send(GET, timeout_s=5)
    transport.close()


def test_an_answer_beyond_the_bound_is_refused(serve, open_transport, monkeypatch):
    """Plain or packed, an endless answer does not fill the memory."""
    monkeypatch.setattr(limits, "answer_bytes_max", 100_000)
    monkeypatch.setattr(limits, "answer_slack_bytes", 0)
    bomb = gzip.compress(bytes(10_000_000))
    answers = [answer(bytes(200_000)), answer(bomb, 200, ("Content-Encoding: gzip",))]
    transport = open_transport(serve(lambda asked: answers[asked.number - 1]).url)

    with pytest.raises(ProtocolError, match="100000 bytes"):
        transport.send(GET, timeout_s=5)
    transport = open_transport(serve(lambda asked: answers[1]).url)
    with pytest.raises(ProtocolError, match="100000 bytes"):
        transport.send(GET, timeout_s=5)


def test_an_answer_given_before_the_whole_body_was_read_arrives(serve):
    """A refusal of a large body is seen although the server hangs up while it is sent."""
    server = serve(echo)
    server.script = lambda asked: (answer(b"{}", 413),)
    transport = HttpTransport(server.url)

    assert transport.send(POST, timeout_s=5).status == 413
    transport.close()


@pytest.mark.parametrize(
    "broken",
    [
        Request("GET", ("a", "..", "b")),
        Request("GET", ("a", "")),
        Request("GET", ("a",), headers={"x-auth-token": "s3cret\r\nx: y"}),
        Request("GET", ("a",), headers={"x-auth-token": "s3cret\x00"}),
        Request("GET", ("a",), headers={"x y": "1"}),
    ],
    ids=["dots", "empty", "line break", "nul", "name"],
)
def test_what_would_be_misread_is_not_sent(serve, open_transport, broken):
    """No header or path can smuggle another in, and the refusal shows no secret (defect 14)."""
    server = serve(echo)

    with pytest.raises(UsageError) as caught:
        open_transport(server.url).send(broken, timeout_s=5)

    assert server.asked == []
    assert "s3cret" not in str(caught.value)


def test_no_error_holds_the_token(serve, open_transport, unused_port, caplog):
    """Whatever goes wrong, the token is in no text, attribute or log line (defect 19)."""
    caplog.set_level("DEBUG")
    silent, lost = serve(lambda asked: time.sleep(1)), serve(lambda asked: None)
    urls = [silent.url, lost.url, f"http://127.0.0.1:{unused_port}"]

    for url in urls:
        with pytest.raises(FlowKitError) as caught:
            open_transport(url).send(GET, timeout_s=0.2)
        error = caught.value
        assert "s3cret" not in f"{error} {error!r} {vars(error)}"
    assert "s3cret" not in caplog.text


def test_closing_ends_requests_under_way(serve, run):
    """Who waits gets an error at once, and no connection stays open."""
    hold = threading.Event()
    server = serve(lambda asked: hold.wait(20) and None)
    transport = HttpTransport(server.url)
    outcome = []

    def ask():
        try:
            transport.send(GET, timeout_s=20)
        except FlowKitError as error:
            outcome.append(error)

    thread = threading.Thread(target=lambda: run(ask) if run is not in_thread else ask())
    thread.start()
    wait_until(lambda: server.asked)
    transport.close()
    thread.join(5)
    hold.set()

    assert "closed" in str(outcome[0])
    assert transport.connections == 0


def test_callers_beyond_the_bound_wait_for_their_turn(serve):
    """With two on the wire the third waits, and within its own time."""
    hold = threading.Event()
    server = serve(lambda asked: hold.wait(10) and echo(asked))
    transport = HttpTransport(server.url, connections_max=2)
    tasks = [spawn(lambda: transport.send(GET, timeout_s=10)) for _ in range(3)]
    wait_until(lambda: len(server.asked) == 2)

    with pytest.raises(DeadlineExceeded):
        transport.send(GET, timeout_s=0.05)
    hold.set()

    assert [task.get(timeout=10).status for task in tasks] == [200] * 3
    assert server.connections == 2
    transport.close()


def test_threads_that_ended_leave_no_descriptor_behind(serve, open_transport):
    """After 200 threads the process has as many descriptors as the pool may keep."""
    server = serve(echo)
    transport = open_transport(server.url)

    def wave():
        for _ in range(4):
            threads = [
                threading.Thread(target=lambda: transport.send(GET, timeout_s=20))
                for _ in range(50)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(20)

    before = len(os.listdir("/proc/self/fd"))
    wave()
    transport.close()
    transport.session.close()  # on the full path it is the user's own
    wait_until(lambda: server.open_now == 0)
    wait_until(lambda: len(os.listdir("/proc/self/fd")) <= before + 1)

    assert transport.connections == 0


def test_threads_with_event_loops_of_their_own_leave_none_either(serve):
    """A loop's connections go when its thread does."""
    server = serve(echo)
    transport = HttpTransport(server.url)

    def work():
        tasks = [spawn(lambda: transport.send(GET, timeout_s=20)) for _ in range(3)]
        gevent.joinall(tasks)
        gevent.get_hub().destroy(destroy_loop=True)

    transport.send(GET, timeout_s=5)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(30):
        in_thread(work)

    wait_until(lambda: server.open_now <= 1)
    wait_until(lambda: len(os.listdir("/proc/self/fd")) <= before)
    transport.close()


def test_a_forked_child_uses_no_connection_of_its_parent(serve, run):
    """Parent and child each go on, on connections of their own."""
    server = serve(echo)
    transport = HttpTransport(server.url)

    def fork_between():
        transport.send(GET, timeout_s=5)
        child = os.fork()
        if child == 0:
            try:
                done = transport.send(GET, timeout_s=5).status == 200
            except BaseException:  # noqa: BLE001 - the child must end here, whatever happens
                done = False
            os._exit(0 if done else 1)
        _, code = os.waitpid(child, 0)
        transport.send(GET, timeout_s=5)
        return code

    assert run(fork_between) == 0
    assert server.connections == 2
    transport.close()


def test_a_changed_session_takes_the_full_path(serve):
    """What the user adds to the session is honoured: auth, hooks, headers."""
    server = serve(echo)
    transport = HttpTransport(server.url)
    seen = []
    transport.send(GET, timeout_s=5)
    transport.session.hooks["response"].append(lambda response, **_: seen.append(response.url))
    transport.session.auth = ("user", "pass")

    transport.send(GET, timeout_s=5)

    assert len(seen) == 1
    assert server.asked[0].headers.get("authorization") is None
    assert server.asked[1].headers["authorization"].startswith("Basic ")
    transport.close()


def test_looking_at_the_session_changes_nothing(serve):
    """An untouched session leaves the lean path in place."""
    transport = HttpTransport(serve(echo).url)
    assert transport.session.trust_env is False

    transport.send(GET, timeout_s=5)

    assert transport.connections == 1
    transport.close()


def test_a_proxy_of_the_environment_is_used(serve, monkeypatch):
    """HTTP_PROXY is read once, when the transport is made; NO_PROXY is honoured."""
    proxy = serve(lambda asked: answer(b'{"via": "proxy"}'))
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    through = HttpTransport("http://platform.invalid")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = serve(echo)
    direct = HttpTransport(server.url)
    monkeypatch.delenv("HTTP_PROXY")

    assert through.send(GET, timeout_s=5).body == b'{"via": "proxy"}'
    assert proxy.asked[0].target == "http://platform.invalid" + GET.target
    direct.send(GET, timeout_s=5)
    assert (len(server.asked), len(proxy.asked)) == (1, 1)
    through.close()
    direct.close()


def test_a_proxy_that_is_down_is_told_apart_from_the_server(monkeypatch, unused_port):
    """The error says that it was the proxy, and shows no password of its address."""
    monkeypatch.setenv("HTTP_PROXY", f"http://nora:hush@127.0.0.1:{unused_port}")

    with pytest.raises(
        ConnectError, match=r"platform\.invalid through the proxy.*refused"
    ) as caught:
        HttpTransport("http://platform.invalid").send(GET, timeout_s=5)
    assert "hush" not in str(caught.value)


def test_netrc_is_read_once(serve, monkeypatch, tmp_path):
    """Its password goes to that host, without a look at the file per request."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login nora password pw\n")
    monkeypatch.setenv("NETRC", str(netrc))
    server = serve(echo)
    transport = HttpTransport(server.url)
    netrc.unlink()

    transport.send(GET, timeout_s=5)

    assert server.asked[0].headers["authorization"] == "Basic bm9yYTpwdw=="
    transport.close()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("localhost:80", "is not the URL of a server"),
        ("ftp://host", "is not the URL of a server"),
        ("http://", "is not the URL of a server"),
        ("http://host:99999", "is not a URL"),
        ("http://nora:s3cret@host", "holds a user name or a password"),
        ("http://host/?a=1", "cannot begin"),
    ],
)
def test_a_url_that_cannot_work_is_refused_at_once(url, said):
    """The error names the value, and no password."""
    with pytest.raises(SettingsError, match=said) as caught:
        HttpTransport(url)

    assert "s3cret" not in str(caught.value)


def test_certificates_that_cannot_be_read_are_refused_at_once(tmp_path):
    """A wrong path is named when the transport is made, not at the first request."""
    with pytest.raises(SettingsError, match=r"nothing\.pem"):
        HttpTransport("https://127.0.0.1", verify=str(tmp_path / "nothing.pem"))


@pytest.mark.parametrize("name", ["eventlet", "asyncio"])
def test_an_async_lib_that_cannot_work_is_refused(name):
    """eventlet needs its own patching; other names are unknown (defect 57)."""
    with pytest.raises(SettingsError, match=name):
        check_async_lib(name)


def test_a_host_without_a_name_is_a_connect_error(open_transport):
    """An unknown name is not retried into the unknown: nothing was sent."""
    transport = open_transport("http://no-such-host.invalid")

    with pytest.raises((ConnectError, DeadlineExceeded), match="no-such-host"):
        transport.send(GET, timeout_s=5)
