"""A subscription goes the way of the requests: TLS, proxies, headers, sessions, the ws_host."""

from __future__ import annotations

import base64
import contextlib
import re
import socket

import pytest
import requests
from client.live.scripted import Desk, until
from own_tls import server_context

from flowkit.client.api import API
from flowkit.client.transport import HttpTransport
from flowkit.client.tunnel import Way
from flowkit.errors import ConnectError, DeadlineExceeded, UsageError
from flowkit.green import start_thread


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch, tmp_path):
    """No proxy, certificate or ``.netrc`` of the machine's."""
    certificates = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR")
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", *certificates):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "no netrc"))


def answer_one(line):
    """Answer one find with what was asked for, then stay."""
    line.reply(line.hear(), {"id": "f1"})
    line.stay()


def works(api):
    """Whether a command is answered over a socket of *api*."""
    with api, api.websocket.connect() as ws:
        return ws.find("flow", "f1", timeout=5) == {"id": "f1"}


class Tunnels:
    """A proxy that knows CONNECT and nothing else."""

    def __init__(self, status=200):
        self.status = status
        self.asked = []
        self._door = socket.create_server(("127.0.0.1", 0))
        self.port = self._door.getsockname()[1]
        start_thread(self._accept)

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                start_thread(self._serve, self._door.accept()[0])

    def _serve(self, client):
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += client.recv(1)
        self.asked.append(head.decode())
        client.sendall(f"HTTP/1.1 {self.status} Said\r\n\r\n".encode())
        if self.status != 200:
            client.close()
            return
        host, port = re.match(rb"CONNECT (\S+):(\d+) ", head).groups()
        server = socket.create_connection((host.decode(), int(port)))
        start_thread(self._relay, server, client)
        self._relay(client, server)

    def _relay(self, here, there):
        with contextlib.suppress(OSError):
            while data := here.recv(65_536):
                there.sendall(data)
            there.shutdown(socket.SHUT_RDWR)

    def close(self):
        """Stop."""
        self._door.shutdown(socket.SHUT_RDWR)
        self._door.close()


@pytest.fixture
def tunnels():
    """A proxy."""
    proxy = Tunnels()
    yield proxy
    proxy.close()


def test_tls_is_that_of_the_requests(authority, ca_path):
    """verify= decides for both."""
    with Desk(answer_one, tls=server_context(authority)) as desk:
        assert works(desk.api(verify=ca_path))
        assert works(desk.api(verify=False))
        with desk.api() as api, pytest.raises(DeadlineExceeded) as raised:
            api.websocket.connect().wait_connected(0.5)

    assert isinstance(raised.value.__cause__, ConnectError)
    assert "certificate" in str(raised.value.__cause__)


def test_a_proxy_of_the_environment_is_tunnelled_through(authority, ca_path, tunnels, monkeypatch):
    """Session and socket both go through it, with its user and password."""
    monkeypatch.setenv("HTTPS_PROXY", f"http://nora:se%20cret@127.0.0.1:{tunnels.port}")
    with Desk(answer_one, tls=server_context(authority)) as desk:
        assert works(desk.api(verify=ca_path))

    secret = base64.b64encode(b"nora:se cret").decode()
    assert len(tunnels.asked) == 2
    for head in tunnels.asked:
        assert head.startswith(f"CONNECT 127.0.0.1:{desk.port} ")
        assert f"Basic {secret}" in head


def test_no_proxy_is_minded(authority, ca_path, tunnels, monkeypatch):
    """A host that needs none is reached directly."""
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{tunnels.port}")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Desk(answer_one, tls=server_context(authority)) as desk:
        assert works(desk.api(verify=ca_path))

    assert tunnels.asked == []


def test_a_proxy_that_refuses_says_so(authority, ca_path, monkeypatch):
    """The error names the proxy and its status, and no password."""
    proxy = Tunnels(status=407)
    monkeypatch.setenv("HTTPS_PROXY", f"http://nora:secret@127.0.0.1:{proxy.port}")
    errors = []
    with (
        Desk(answer_one, tls=server_context(authority)) as desk,
        desk.api(verify=ca_path) as api,
        api.websocket.connect(on_error=lambda ws, error: errors.append(error)),
    ):
        until(lambda: errors)
    proxy.close()

    assert isinstance(errors[0], ConnectError)
    assert "proxy" in str(errors[0])
    assert "secret" not in str(errors[0])


def test_netrc_and_the_fixed_headers_stand_in_the_handshake(monkeypatch, tmp_path):
    """What every request carries, the upgrade carries, too."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login nora password pw")
    monkeypatch.setenv("NETRC", str(netrc))
    with Desk(answer_one) as desk:
        assert works(desk.api())

    _, _, headers = desk.asked[-1]
    assert headers["authorization"] == "Basic " + base64.b64encode(b"nora:pw").decode()
    assert headers["user-agent"].startswith("flowkit/")
    assert headers["host"] == f"127.0.0.1:{desk.port}"
    assert "x-auth-token" not in headers


def test_a_session_of_the_users_own_goes_along(authority, ca_path, tmp_path):
    """Its headers, cookies, auth, verify and client certificate are those of the socket."""
    pair = tmp_path / "client.pem"
    authority.issue_cert("nora@example.org").private_key_and_cert_chain_pem.write_to_path(str(pair))
    session = requests.Session()
    session.headers["X-Team"] = "green"
    session.cookies.set("crumb", "1")
    session.auth = ("nora", "pw")
    session.verify = ca_path
    session.cert = str(pair)
    with Desk(answer_one, tls=server_context(authority, client_authority=authority)) as desk:
        transport = HttpTransport(desk.url, session=session)
        assert works(API(("nora", "t" * 32), transport=transport))

    _, target, headers = desk.asked[-1]
    assert target.startswith("/session/")
    assert headers["x-team"] == "green"
    assert headers["cookie"] == "crumb=1"
    assert headers["authorization"].startswith("Basic ")


def test_the_session_of_the_transport_may_be_changed_later():
    """A header that is set on api's own session is sent with the next connection."""
    with Desk(answer_one) as desk:
        transport = HttpTransport(desk.url)
        transport.session.headers["X-Team"] = "blue"
        assert works(API(("nora", "t" * 32), transport=transport))

    assert desk.asked[-1][2]["x-team"] == "blue"


def test_the_ws_host_has_the_sessions_and_nothing_else():
    """Sessions and sockets go to ws_host, calls to host."""
    with Desk(answer_one) as calls, Desk(answer_one) as sockets:
        assert works(calls.api(ws_host=sockets.url))

    assert calls.asked == []
    assert [method for method, _, _ in sockets.asked] == ["POST", "GET"]


def test_the_path_of_the_server_stands_before_the_session():
    """A platform below a path is asked there."""
    with Desk(answer_one) as desk:
        transport = HttpTransport(f"{desk.url}/platform")
        assert works(API(("nora", "t" * 32), transport=transport))

    assert [target.split("/session")[0] for _, target, _ in desk.asked] == ["/platform"] * 2


def test_hints_are_asked_for_with_the_session():
    """As an option, or as a default parameter of the API."""
    with Desk(answer_one) as desk:
        assert works(desk.api(params={"hints": True}))
        assert works(desk.api())

    assert [t for m, t, _ in desk.asked if m == "POST"] == ["/session?hints=1", "/session"]


def test_a_transport_without_sockets_says_so():
    """One of the user's own that only sends requests cannot carry a subscription."""

    class Sends:
        def __init__(self, inner):
            self.inner = inner

        def send(self, request, *, timeout_s):
            return self.inner.send(request, timeout_s=timeout_s)

        def close(self):
            self.inner.close()

    with Desk(answer_one) as desk:
        api = API(("nora", "t" * 32), transport=Sends(HttpTransport(desk.url)))
        with api, pytest.raises(UsageError, match="open_socket"):
            api.websocket.connect().wait_connected(5)


def test_a_way_shows_no_secret():
    """Neither the proxy's password nor a header is in its repr."""
    way = Way("h", 1, None, "http://nora:secret@proxy", {"authorization": "Basic secret"})

    assert "secret" not in repr(way)
