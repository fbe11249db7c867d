"""TLS on real sockets: side by side in greenlets, patched or not, and on threads; certificates.

Processes that are patched are processes of their own; the server is always in this one.
"""

from __future__ import annotations

import contextlib
import gc
import os
import socket
import ssl
import textwrap
import threading
import time

import gevent
import pytest
import requests
import trustme
from client.scripted_server import ScriptedServer, answer
from own_process import needs_eventlet, run_process
from own_tls import server_context

from flowkit.client.transport import HttpTransport
from flowkit.errors import ConnectError, DeadlineExceeded, SettingsError
from flowkit.green import patched, spawn, start_thread
from flowkit.protocol.envelope import Request

GET = Request("GET", ("v4.0", "nora", "flow"))
POST = Request("POST", ("v4.0", "nora", "flow"), body=b"{}")

REQUESTS, DELAY_S = 40, 0.1


@pytest.fixture
def serve(authority):
    """Start TLS servers; all are closed at the end."""
    servers = []

    def start(script=lambda asked: answer(), tls=None):
        servers.append(ScriptedServer(script, tls or server_context(authority)))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def slowly(asked):
    """An answer after 100 ms, in a native thread of the server's."""
    time.sleep(DELAY_S)
    return answer()


def wait_until(is_true, timeout_s=5.0):
    """Give the server's threads room until something holds."""
    until = time.monotonic() + timeout_s
    while not is_true():
        assert time.monotonic() < until, "it never came true"
        gevent.sleep(0.001)


def check_side_by_side(took_s):
    """Not the 4 s that they take one after another."""
    assert DELAY_S <= took_s < REQUESTS * DELAY_S * 0.8


@pytest.mark.parametrize("path", ["lean", "full"])
def test_greenlets_of_an_unpatched_process_wait_side_by_side(serve, ca_path, path):
    """40 requests of 100 ms over TLS take some 0.2 s, not 4 s."""
    assert not patched()
    server = serve(slowly)
    with HttpTransport(server.url, verify=ca_path) as transport:
        if path == "full":
            transport.session.auth = ("user", "pass")
        began = time.monotonic()
        tasks = [spawn(lambda: transport.send(GET, timeout_s=20)) for _ in range(REQUESTS)]
        gevent.joinall(tasks)

        check_side_by_side(time.monotonic() - began)
        assert [task.get().status for task in tasks] == [200] * REQUESTS


@pytest.mark.parametrize("session", ["ours", "user's"])
def test_threads_wait_side_by_side(serve, ca_path, session):
    """The same on plain threads, on both paths."""
    server = serve(slowly)
    options = {"verify": ca_path}
    if session != "ours":
        made = requests.Session()
        made.verify, made.trust_env = ca_path, False
        options = {"session": made}
    seen = []
    with HttpTransport(server.url, **options) as transport:
        threads = [
            threading.Thread(target=lambda: seen.append(transport.send(GET, timeout_s=20).status))
            for _ in range(REQUESTS)
        ]
        began = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)

        check_side_by_side(time.monotonic() - began)
    assert seen == [200] * REQUESTS


SIDE_BY_SIDE = """
    import sys, time, gevent
    from flowkit.client.transport import HttpTransport
    from flowkit.protocol.envelope import Request
    url, ca = sys.argv[1:3]
    transport = HttpTransport(url, verify=ca)
    if len(sys.argv) > 3:
        import requests
        session = requests.Session()
        session.trust_env, session.verify = False, ca
        transport = HttpTransport(url, session=session)
    send = lambda: transport.send(Request("GET", ("a",)), timeout_s=20).status
    began = time.monotonic()
    tasks = [gevent.spawn(send) for _ in range(40)]
    gevent.joinall(tasks)
    took = time.monotonic() - began
    assert [task.get() for task in tasks] == [200] * 40
    transport.close()
    print(took)
"""

PATCH = "from gevent import monkey; monkey.patch_all()\n"


@pytest.mark.slow
@pytest.mark.parametrize("path", [(), ("full",)], ids=["lean", "full"])
def test_greenlets_of_a_patched_process_wait_side_by_side(serve, ca_path, path):
    """The same after gevent.monkey.patch_all(), on both paths."""
    script = PATCH + textwrap.dedent(SIDE_BY_SIDE)

    check_side_by_side(float(run_process(script, serve(slowly).url, ca_path, *path)))


@pytest.mark.slow
def test_late_patching_leaves_the_lean_path_alone(serve, ca_path):
    """requests imported first, patched afterwards: our own TLS context does not mind."""
    script = "import requests, ssl\n" + PATCH + textwrap.dedent(SIDE_BY_SIDE)

    check_side_by_side(float(run_process(script, serve(slowly).url, ca_path)))


@pytest.mark.slow
def test_late_patching_is_explained_where_it_breaks(serve, ca_path):
    """The stock adapter would recurse in ssl: its first use says what to do instead."""
    script = (
        "import requests, ssl\n"
        + PATCH
        + textwrap.dedent("""
        import sys
        from flowkit.client.transport import HttpTransport
        from flowkit.errors import SettingsError
        from flowkit.protocol.envelope import Request
        transport = HttpTransport(sys.argv[1], session=requests.Session())
        try:
            transport.send(Request("GET", ("a",)), timeout_s=5)
        except SettingsError as error:
            print(error)
        """)
    )

    assert "before anything imports requests" in run_process(script, serve().url, ca_path)


@pytest.mark.slow
def test_under_eventlet_the_stock_adapter_serves(serve, ca_path):
    """A process that eventlet patched waits side by side as well (defect 57)."""
    needs_eventlet()
    script = """
        import eventlet; eventlet.monkey_patch()
        import sys, time
        from flowkit.client.transport import HttpTransport, check_async_lib
        from flowkit.protocol.envelope import Request
        check_async_lib("eventlet")
        transport = HttpTransport(sys.argv[1], verify=sys.argv[2])
        send = lambda: transport.send(Request("GET", ("a",)), timeout_s=20).status
        began = time.monotonic()
        threads = [eventlet.spawn(send) for _ in range(40)]
        assert [thread.wait() for thread in threads] == [200] * 40
        print(time.monotonic() - began)
    """

    check_side_by_side(float(run_process(script, serve(slowly).url, ca_path)))


class Tunnel:
    """A proxy that knows CONNECT."""

    def __init__(self):
        self.asked = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        start_thread(self._accept)

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                start_thread(self._serve, self._listening.accept()[0])

    def _serve(self, client):
        head = b""
        while b"\r\n\r\n" not in head:
            head += client.recv(4096)
        place = head.split()[1].decode()
        self.asked.append((head.split()[0].decode(), place))
        host, _, port = place.partition(":")
        server = socket.create_connection((host, int(port)))
        client.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
        start_thread(self._pass_on, server, client)
        self._pass_on(client, server)

    def _pass_on(self, source, target):
        with contextlib.suppress(OSError):
            while part := source.recv(65536):
                target.sendall(part)
            target.shutdown(socket.SHUT_WR)

    def close(self):
        """Take nobody new."""
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()


def test_https_goes_through_the_proxy_of_the_environment(serve, ca_path, monkeypatch):
    """By CONNECT, with the server's own certificate checked at the far end."""
    tunnel, server = Tunnel(), serve()
    for name in ("NO_PROXY", "no_proxy", "https_proxy", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTPS_PROXY", tunnel.url)
    transport = HttpTransport(server.url, verify=ca_path)
    monkeypatch.delenv("HTTPS_PROXY")

    assert transport.send(GET, timeout_s=10).status == 200
    assert tunnel.asked == [("CONNECT", f"127.0.0.1:{server.port}")]
    transport.close()
    tunnel.close()


def context_for(ca_path):
    """A context as a user makes one."""
    return ssl.create_default_context(cafile=ca_path)


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
@pytest.mark.parametrize("where", ["greenlet", "thread", "full"])
@pytest.mark.parametrize("kind", ["path", "context", "environment", "off"])
def test_certificates_are_found_where_they_are_named(
    serve, ca_path, monkeypatch, tmp_path, kind, where
):
    """A path, a context, SSL_CERT_FILE at construction, or nothing checked (defect 21)."""
    verify = {"path": ca_path, "context": context_for(ca_path), "off": False}.get(kind, True)
    if kind == "environment":
        monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
        monkeypatch.delenv("CURL_CA_BUNDLE", raising=False)
        monkeypatch.setenv("SSL_CERT_FILE", ca_path)
    transport = HttpTransport(serve().url, verify=verify)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "changed-later.pem"))
    if where == "full":
        transport.session.auth = ("user", "pass")

    assert in_place(where, lambda: transport.send(GET, timeout_s=5)).status == 200
    transport.close()


def in_place(where, work):
    """Run *work* in a greenlet, or in a thread without an event loop; its value or its error."""
    if where != "thread":
        return spawn(work).get(timeout=20)
    out = []

    def run():
        try:
            out.append((None, work()))
        except Exception as error:  # noqa: BLE001 - handed to the caller
            out.append((error, None))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(20)
    error, value = out[0]
    if error is not None:
        raise error
    return value


@pytest.mark.parametrize("where", ["greenlet", "thread", "full"])
@pytest.mark.parametrize("fault", ["unknown authority", "other name"])
def test_a_certificate_that_does_not_fit_ends_in_a_connect_error(
    serve, authority, ca_path, where, fault
):
    """Nothing is sent to a server that cannot prove its name."""
    issuer = trustme.CA() if fault == "unknown authority" else authority
    name = "127.0.0.1" if fault == "unknown authority" else "elsewhere.example"
    server = serve(tls=server_context(issuer, name))
    transport = HttpTransport(server.url, verify=ca_path)
    if where == "full":
        transport.session.auth = ("user", "pass")

    with pytest.raises(ConnectError, match=r"(?i)certificate"):
        in_place(where, lambda: transport.send(GET, timeout_s=5))

    assert server.asked == []
    transport.close()


@pytest.mark.parametrize("where", ["greenlet", "thread"])
def test_a_client_certificate_goes_into_the_context(serve, authority, ca_path, where):
    """The user's own SSLContext is used as it is, on cooperative sockets too."""
    server = serve(tls=server_context(authority, client_authority=authority))
    context = context_for(ca_path)
    authority.issue_cert("nora@example.org").configure_cert(context)
    transport = HttpTransport(server.url, verify=context)

    assert in_place(where, lambda: transport.send(GET, timeout_s=5)).status == 200
    transport.close()


@pytest.mark.parametrize("where", ["greenlet", "thread"])
def test_a_silent_handshake_ends_at_the_deadline(serve, ca_path, where):
    """A server that accepts and then says nothing, before TLS stands."""
    silent = ScriptedServer(lambda asked: None)
    transport = HttpTransport(silent.url.replace("http:", "https:"), verify=ca_path)
    began = time.monotonic()

    with pytest.raises(DeadlineExceeded):
        in_place(where, lambda: transport.send(GET, timeout_s=0.2))

    assert time.monotonic() - began < 2
    transport.close()
    silent.close()


@pytest.mark.parametrize("where", ["greenlet", "thread"])
def test_a_write_after_the_server_hung_up_goes_out_on_a_new_connection(serve, ca_path, where):
    """The end of an idle TLS connection is noticed before a write is sent on it."""
    server = serve()
    transport = HttpTransport(server.url, verify=ca_path)

    def twice():
        transport.send(POST, timeout_s=5)
        server.hang_up()
        wait_until(lambda: server.open_now == 0)
        return transport.send(POST, timeout_s=5)

    assert in_place(where, twice).status == 200
    assert (len(server.asked), server.connections) == (2, 2)
    transport.close()


@pytest.mark.parametrize("where", ["greenlet", "thread"])
def test_writes_in_a_row_use_one_connection(serve, ca_path, where):
    """What TLS 1.3 sends on its own after the handshake is no reason to drop a connection."""
    server = serve()
    transport = HttpTransport(server.url, verify=ca_path)

    in_place(where, lambda: [transport.send(POST, timeout_s=5) for _ in range(5)])

    assert server.connections == 1
    transport.close()


@pytest.mark.parametrize("where", ["greenlet", "thread"])
def test_a_large_body_and_a_large_answer_pass(serve, ca_path, where):
    """Many TLS records each way."""
    large = bytes(range(256)) * 20_000
    server = serve(lambda asked: answer(asked.body))
    transport = HttpTransport(server.url, verify=ca_path)
    request = Request("POST", ("a",), body=large)

    assert in_place(where, lambda: transport.send(request, timeout_s=20)).body == large
    transport.close()


def test_descriptors_do_not_grow_with_threads(serve, ca_path):
    """After 200 threads over TLS the process has no more descriptors than before."""
    server = serve()
    transport = HttpTransport(server.url, verify=ca_path)

    def wave(count):
        threads = [
            threading.Thread(target=lambda: transport.send(GET, timeout_s=30)) for _ in range(count)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)

    wait_until(lambda: server.open_now == 0)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(8):
        wave(25)
    assert transport.connections <= 25
    assert len(os.listdir("/proc/self/fd")) <= before + 2 * 25
    transport.close()
    wait_until(lambda: server.open_now == 0)
    gc.collect()

    assert len(os.listdir("/proc/self/fd")) <= before


def test_a_forked_child_leaves_the_parents_tls_intact(serve, ca_path):
    """Two writers on one TLS connection would ruin it for both."""
    server = serve()
    transport = HttpTransport(server.url, verify=ca_path)

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
        transport.send(POST, timeout_s=5)
        return code

    assert in_place("thread", fork_between) == 0
    assert server.connections == 2
    transport.close()


def test_verify_and_a_session_of_the_users_are_not_both_taken():
    """Which of the two would count is not left to guessing (defect 21)."""
    with pytest.raises(SettingsError, match=r"session\.verify"):
        HttpTransport("https://127.0.0.1", verify=False, session=requests.Session())
