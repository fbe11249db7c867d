"""The link of a device: TLS, certificates, proxies, and answers that are none of a platform's."""

from __future__ import annotations

import contextlib
import socket
import threading
from base64 import b64encode

import pytest

from flowkit.device import HttpLink
from flowkit.errors import ConnectError, ProtocolError, SettingsError
from tests.device.fake_platform import FakePlatform
from tests.own_tls import server_context

SECRET = "s" * 28


@pytest.fixture
def platform():
    """A platform of a few lines."""
    with FakePlatform() as running:
        yield running


@pytest.fixture
def tls(authority):
    """The same behind TLS."""
    with FakePlatform() as running:
        listening = running._server.socket
        running._server.socket = server_context(authority).wrap_socket(listening, server_side=True)
        running.url = running.url.replace("http:", "https:")
        yield running


def ask(link):
    """A question that every platform answers."""
    return link.ask("GET", ("origin", "a" * 32)).body


@pytest.fixture(autouse=True)
def _plain(monkeypatch):
    for name in ("NO_PROXY", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)


def test_a_certificate_is_checked_against_what_is_trusted(tls, ca_path, monkeypatch):
    """A path, the environment when the link is made, or nothing at all if that is asked for."""
    assert ask(HttpLink(tls.url, "nora", SECRET, verify=ca_path)) == {}
    assert ask(HttpLink(tls.url, "nora", SECRET, verify=False)) == {}
    with pytest.raises(ConnectError, match="not trusted"):
        ask(HttpLink(tls.url, "nora", SECRET))
    monkeypatch.setenv("SSL_CERT_FILE", ca_path)
    link = HttpLink(tls.url, "nora", SECRET)
    monkeypatch.delenv("SSL_CERT_FILE")
    assert ask(link) == {}


def test_a_certificate_of_another_name_is_refused(tls, ca_path):
    """The one of 127.0.0.1 is none of localhost."""
    url = tls.url.replace("127.0.0.1", "localhost")
    with pytest.raises(ConnectError, match="not trusted"):
        ask(HttpLink(url, "nora", SECRET, verify=ca_path))


def test_tls_with_a_server_that_has_none_is_said(platform):
    """And the secret has not left."""
    with pytest.raises(ConnectError) as refused:
        ask(HttpLink(platform.url.replace("http:", "https:"), "nora", SECRET))
    assert SECRET not in str(refused.value)
    assert platform.asked == []


class Proxy:
    """A proxy that knows CONNECT and whole URLs, and notes the heads that it gets."""

    def __init__(self):
        self.heads = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://mona:p%40ss@127.0.0.1:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client = self._listening.accept()[0]
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        head = b""
        while b"\r\n\r\n" not in head:
            head += client.recv(4096)
        self.heads.append(head.decode())
        method, place, _ = head.split(b" ", 2)
        at = place if method == b"CONNECT" else place.split(b"/")[2]
        host, _, port = at.decode().partition(":")
        server = socket.create_connection((host, int(port)))
        if method == b"CONNECT":
            client.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
        else:
            server.sendall(head.replace(b"http://" + at, b"", 1))
        threading.Thread(target=self._pass_on, args=(server, client), daemon=True).start()
        self._pass_on(client, server)

    def _pass_on(self, source, target):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)


def test_https_goes_through_the_proxy_of_the_environment(tls, ca_path, monkeypatch):
    """By CONNECT: the proxy hears its own password and neither the secret nor the request."""
    proxy = Proxy()
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    assert ask(HttpLink(tls.url, "nora", SECRET, verify=ca_path)) == {}
    (head,) = proxy.heads
    assert head.startswith("CONNECT 127.0.0.1:")
    assert b64encode(b"mona:p@ss").decode() in head
    assert SECRET not in head


def test_http_goes_through_the_proxy_of_the_environment(platform, monkeypatch):
    """With the whole URL in the request line; NO_PROXY leads past it."""
    proxy = Proxy()
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    assert ask(HttpLink(platform.url, "nora", SECRET)) == {}
    assert proxy.heads[0].startswith(f"GET {platform.url}/v4.0/nora/origin/")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert ask(HttpLink(platform.url, "nora", SECRET)) == {}
    assert len(proxy.heads) == 1
    monkeypatch.setenv("HTTP_PROXY", "socks5://127.0.0.1:1")
    monkeypatch.delenv("NO_PROXY")
    with pytest.raises(SettingsError, match="proxy"):
        HttpLink(platform.url, "nora", SECRET)


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        (200, b"<html>please log in</html>"),
        (204, b""),
        (302, b""),
        (200, b'{"no": "head"}'),
        (200, b"\xff\xfe"),
        (502, b"Bad Gateway"),
    ],
)
def test_what_is_no_answer_of_a_platform_is_said_and_never_followed(platform, status, answer):
    """A login page, a redirect, a gateway's own words."""
    platform.rules = lambda method, path, body: (status, {"Location": platform.url + "/x"}, answer)
    with pytest.raises(ProtocolError) as refused:
        ask(HttpLink(platform.url, "nora", SECRET))
    assert refused.value.status == status
    assert len(platform.asked) == 1
