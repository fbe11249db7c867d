"""A server as a thing that starts and stops: what it says, what it refuses, what survives."""

import json
import os
import signal
import socket
import subprocess
import threading
import time

import psutil
import pytest
from server_process import ServerProcess

from flowkit import (
    ConnectionLost,
    Forbidden,
    PlatformError,
    SettingsError,
    TransportError,
    limits,
    mem,
)
from flowkit.client.api import API
from flowkit.client.credentials import Token
from flowkit.server.serve import Server, banner
from flowkit.server.settings import Settings


def settings(folder, **more):
    """Settings on a free port."""
    return Settings(data=folder, port=0, account="nora", **more)


def connect(server):
    """An API on a server at its first start."""
    return API(Token("nora", server.first_token), host=server.url)


def test_a_server_answers_between_start_and_stop(tmp_path):
    """The usual life; what was written is there at the next start."""
    with Server(settings(tmp_path)) as server, connect(server) as api:
        flow = api.flow.create({"path": "/nora/a"})
        token = api.creds
    with pytest.raises(TransportError):
        API(token, host=server.url, retries=0).flow.find()
    with Server(settings(tmp_path)) as server:
        assert server.first_token is None
        with API(token, host=server.url) as api:
            assert api.flow.read(flow["id"]) == flow


def test_the_banner_says_url_account_and_the_first_token_once(tmp_path):
    """The token is shown at the first start only; a hash is all that is kept."""
    first = Server(settings(tmp_path))
    said = "\n".join(banner(first))
    assert first.url in said
    assert "nora" in said
    assert first.first_token in said
    assert str(tmp_path) in said
    assert "warning" not in said
    first.stop()
    second = Server(settings(tmp_path))
    again = "\n".join(banner(second))
    second.stop()

    assert "token" not in again
    secret = first.first_token.encode()
    assert not [path for path in tmp_path.iterdir() if secret in path.read_bytes()]


@pytest.mark.parametrize(
    ("host", "warned"),
    [("127.0.0.1", False), ("localhost", False), ("127.8.0.1", False), ("0.0.0.0", True)],
)
def test_an_address_that_others_can_reach_is_warned_of(tmp_path, host, warned):
    """Tokens travel in the clear: said when others may listen."""
    server = Server(settings(tmp_path, host=host))
    said = "\n".join(banner(server))
    server.stop()

    assert ("TLS" in said) == warned


def test_a_busy_port_is_refused_before_a_token_is_made(tmp_path):
    """One sentence; the next start is still the first one, with its token."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=f"port {port}: .*in use"):
            Server(Settings(data=tmp_path, port=port, account="nora"))
    with Server(settings(tmp_path)) as server:
        assert server.first_token


def test_a_folder_in_use_is_refused(tmp_path):
    """The second server is told who the first is, and leaves it alone."""
    with Server(settings(tmp_path)) as server:
        with pytest.raises(SettingsError, match=f"in use by process {os.getpid()}"):
            Server(settings(tmp_path))
        with connect(server) as api:
            assert api.flow.find() == []


@pytest.mark.parametrize("where", ["a file", "below a file"])
def test_a_folder_that_cannot_be_one_is_refused(tmp_path, where):
    """A sentence with the path, not an OSError."""
    (tmp_path / "file").write_text("")
    folder = tmp_path / "file" if where == "a file" else tmp_path / "file" / "data"
    with pytest.raises(SettingsError, match=r"data folder .*file"):
        Server(settings(folder))


def test_an_impossible_account_is_refused_before_anything_is_made(tmp_path):
    """No folder is left of a start with a wrong name."""
    with pytest.raises(SettingsError, match="No/Name"):
        Server(Settings(data=tmp_path / "data", port=0, account="No/Name"))

    assert not (tmp_path / "data").exists()


def test_an_unknown_address_is_refused(tmp_path):
    """An address that this machine does not have, or that nobody has."""
    for host in ("192.0.2.1", "no.such.host.invalid"):
        with pytest.raises(SettingsError, match="cannot listen on"):
            Server(settings(tmp_path, host=host))


def test_stopping_twice_or_unstarted_is_fine(tmp_path):
    """The folder is free afterwards."""
    server = Server(settings(tmp_path))
    server.stop()
    server.stop()
    Server(settings(tmp_path)).stop()


def test_the_bounds_of_bodies_are_settings(tmp_path):
    """A smaller bound than the usual one holds at the door."""
    with (
        Server(settings(tmp_path, body_bytes_max=1000)) as server,
        connect(server) as api,
        pytest.raises(PlatformError, match="larger than 1000 bytes") as caught,
    ):
        api.flow.create({"path": "/nora/a", "description": "x" * 2000})

    assert caught.value.status == 413


@pytest.mark.slow
def test_it_starts_in_under_a_second(tmp_path):
    """From the command to its first answer, in processor time: no other process counts."""
    with ServerProcess(tmp_path) as server, server.connect() as api:
        api.flow.find()
        spent = psutil.Process(server.process.pid).cpu_times()

    assert spent.user + spent.system < 1


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_cleanly(tmp_path, number):
    """Exit code 0, nothing on stderr, the data is there."""
    with ServerProcess(tmp_path) as server:
        with server.connect() as api:
            flow = api.flow.create({"path": "/nora/a"})
            code, said, errors = server.end(number)
        secret = server.secret
    assert (code, errors) == (0, "")
    assert said == "flowkit has stopped.\n"
    with ServerProcess(tmp_path) as server, server.connect(secret) as api:
        assert server.secret is None
        assert api.flow.read(flow["id"]) == flow


@pytest.mark.slow
def test_a_stop_answers_what_is_under_way(tmp_path):
    """Writes that are running when the signal comes are answered, and every answer is kept."""
    with ServerProcess(tmp_path) as server:
        with server.connect() as api:
            flow = api.flow.create({"path": "/nora/a", "capacity": 100_000})["id"]
        done, begun = [], threading.Event()

        def write(n):
            with server.connect(retries=0) as api:
                while True:
                    try:
                        done.append(api.drop(flow).create({"elems": {"n": n}})["id"])
                    except TransportError as error:
                        # What had begun was answered: nothing is lost in the middle.
                        lost.extend([error] if isinstance(error, ConnectionLost) else [])
                        return
                    if len(done) > 50:
                        begun.set()

        lost = []
        threads = [threading.Thread(target=write, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        begun.wait(20)
        code, _, errors = server.end()
        for thread in threads:
            thread.join(20)
        secret = server.secret
    assert (code, errors) == (0, "")
    with ServerProcess(tmp_path) as server, server.connect(secret) as api:
        kept = {drop["id"] for drop in api.drop(flow).find(limit=100_000, only="id")}
    assert set(done) <= kept
    assert len(kept) - len(done) <= len(lost)


@pytest.mark.slow
def test_kill_9_loses_nothing_that_was_acknowledged(tmp_path):
    """The hard end, under load: every drop that was answered is there."""
    with ServerProcess(tmp_path) as server:
        with server.connect() as api:
            flow = api.flow.create({"path": "/nora/a", "capacity": 100_000})["id"]
        done, begun = [], threading.Event()

        def write(n):
            with server.connect(retries=0) as api:
                while True:
                    try:
                        done.append(api.drop(flow).create({"elems": {"n": n}})["id"])
                    except TransportError:
                        return
                    if len(done) > 50:
                        begun.set()

        threads = [threading.Thread(target=write, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        begun.wait(20)
        server.end(signal.SIGKILL)
        for thread in threads:
            thread.join(20)
        secret = server.secret
    with ServerProcess(tmp_path) as server, server.connect(secret) as api:
        kept = {drop["id"] for drop in api.drop(flow).find(limit=100_000, only="id")}
    assert len(done) > 50
    assert set(done) <= kept


@pytest.mark.slow
def test_a_second_signal_does_not_wait(tmp_path):
    """The first one waits for a body that is on its way, the second one ends it."""
    with ServerProcess(tmp_path) as server:
        port = int(server.url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), 10) as sock:
            sock.sendall(
                b"POST /v4.0/nora/flow HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n"
                b"Expect: 100-continue\r\n\r\n"
            )
            assert sock.recv(100).startswith(b"HTTP/1.1 100 ")
            server.process.send_signal(signal.SIGTERM)
            with pytest.raises(subprocess.TimeoutExpired):
                server.process.wait(0.5)
            began = time.monotonic()
            code, said, errors = server.end(signal.SIGINT)

    assert (code, said, errors) == (0, "flowkit has stopped.\n", "")
    assert time.monotonic() - began < 5


@pytest.mark.slow
def test_more_connections_than_files_do_not_stop_the_server(tmp_path):
    """Where a process may open few files, the connections beyond wait; nothing breaks."""
    command = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))"
    with ServerProcess(tmp_path, first=command) as server, server.connect() as api:
        api.flow.create({"path": "/nora/a"})
        port = int(server.url.rpartition(":")[2])
        idle = [socket.create_connection(("127.0.0.1", port), 10) for _ in range(150)]

        assert len(api.flow.find()) == 1
        for sock in idle:
            sock.close()
        with server.connect() as other:
            assert len(other.flow.find()) == 1
        code, _, errors = server.end()

    assert (code, errors) == (0, "")


def raw(server, data):
    """Send bytes and read the first answer."""
    with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])), 10) as sock:
        sock.sendall(data)
        return sock.makefile("rb").readline()


@pytest.mark.slow
def test_the_whole_server_answers_bad_input_with_4xx(tmp_path):
    """End to end: line noise, wrong secrets, broken JSON, wrong methods; nothing on stderr."""
    head = "Host: x\r\nX-Auth-Token: {}\r\n"
    with ServerProcess(tmp_path) as server:
        own = head.format(server.secret)
        asked = {
            b"400": [
                "NOISE\r\n\r\n",
                f"GET /v4.0/nora/flow?filter=%3D%3D HTTP/1.1\r\n{own}\r\n",
                f"GET /v4.0/nora/flow?limit=-1 HTTP/1.1\r\n{own}\r\n",
                f"POST /v4.0/nora/flow HTTP/1.1\r\n{own}Content-Length: 4\r\n\r\n{{{{}}}}",
                f"POST /v4.0/nora/flow HTTP/1.1\r\n{own}Content-Length: 2\r\n\r\n\xff\xfe",
                f"GET /v4.0/nora/flow HTTP/1.1\r\nHost: y\r\n{own}\r\n",
            ],
            b"403": [
                "GET /v4.0/nora/flow HTTP/1.1\r\nHost: x\r\n\r\n",
                f"GET /v4.0/nora/flow HTTP/1.1\r\n{head.format('wrong')}\r\n",
                f"GET /v4.0/else/flow HTTP/1.1\r\n{own}\r\n",
            ],
            b"404": [
                f"GET / HTTP/1.1\r\n{own}\r\n",
                f"GET /v4.0/nora/flow/%00 HTTP/1.1\r\n{own}\r\n",
                f"GET /v4.0/nora/drop/f1/d1 HTTP/1.1\r\n{own}\r\n",
            ],
            b"405": [f"PATCH /v4.0/nora/flow HTTP/1.1\r\n{own}\r\n"],
            b"413": [f"POST /v4.0/nora/flow HTTP/1.1\r\n{own}Content-Length: 9999999\r\n\r\n"],
            b"414": [f"GET /{'a' * limits.request_line_bytes_max} HTTP/1.1\r\n{own}\r\n"],
        }
        for status, requests in asked.items():
            for request in requests:
                answer = raw(server, request.encode("latin-1"))
                assert answer.split()[1] == status, (request[:60], answer)
        code, _, errors = server.end()

    assert (code, errors) == (0, "")


@pytest.mark.slow
def test_head_and_options_work_on_the_whole_server(tmp_path):
    """HEAD is a GET without a body; OPTIONS answers a browser's preflight without a token."""
    with Server(settings(tmp_path)) as server:
        own = f"Host: x\r\nX-Auth-Token: {server.first_token}\r\n\r\n"
        assert raw(server, f"HEAD /v4.0/nora/flow HTTP/1.1\r\n{own}".encode()).split()[1] == b"200"
        asked = b"OPTIONS /v4.0/nora/flow HTTP/1.1\r\nHost: x\r\n\r\n"
        assert raw(server, asked).split()[1] in (b"200", b"204")


def test_an_old_token_does_not_open_after_a_wrong_one(tmp_path):
    """A wrong secret is refused whatever was asked before on the same connection."""
    with Server(settings(tmp_path)) as server, connect(server) as api:
        api.flow.create({"path": "/nora/a"})
        api.creds = Token("nora", "y" * 32)
        with pytest.raises(Forbidden):
            api.flow.find(mem.path == "/nora/a")


HUNG = """
import time
from flowkit.server.app import App
class Hung:
    def close(self):
        time.sleep(600)
begin = App.__init__
def begun(self, *args, **named):
    begin(self, *args, **named)
    self.tasks = Hung()
App.__init__ = begun
import flowkit.limits
flowkit.limits.background_stop_s = 0.5
"""
"""A part of the background that never ends, in the server's process."""


@pytest.mark.slow
def test_a_part_that_hangs_does_not_hold_up_the_end(tmp_path):
    """Under load: exit code 0 within the bounds, the log names it, nothing answered is lost."""
    (tmp_path / "hung.py").write_text(HUNG)
    first = f"exec(open({str(tmp_path / 'hung.py')!r}).read())"
    with ServerProcess(tmp_path / "data", first=first) as server:
        with server.connect() as api:
            flow = api.flow.create({"path": "/nora/a", "capacity": 100_000})["id"]
        done, begun = [], threading.Event()

        def write(n):
            with server.connect(retries=0) as api:
                while True:
                    try:
                        done.append(api.drop(flow).create({"elems": {"n": n}})["id"])
                    except TransportError:
                        return
                    if len(done) > 50:
                        begun.set()

        threads = [threading.Thread(target=write, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        begun.wait(20)
        code, said, errors = server.end()
        for thread in threads:
            thread.join(20)
        secret = server.secret
    assert (code, said) == (0, "flowkit has stopped.\n")
    assert errors.splitlines()[0].endswith("tasks: not stopped within 0.5 s, left behind")
    with ServerProcess(tmp_path / "data") as server, server.connect(secret) as api:
        kept = {drop["id"] for drop in api.drop(flow).find(limit=100_000, only="id")}
    assert set(done) <= kept


@pytest.mark.slow
def test_every_line_of_the_log_is_an_object_where_that_is_asked_for(tmp_path):
    """The access log of a whole server: the id of an error that a client shows is in it."""
    flags = ("--access-log", "--log-format", "json", "--metrics", "--rate-limit-per-s", "1000")
    with ServerProcess(tmp_path, *flags) as server:
        with server.connect() as api, pytest.raises(PlatformError) as caught:
            api.flow.read("f" + "0" * 24)
        assert raw(server, b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n").split()[1] == b"200"
        assert raw(server, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").split()[1] == b"200"
        _, _, errors = server.end()
    lines = [json.loads(line) for line in errors.splitlines()]

    assert [line["route"] for line in lines] == ["flow/{id}", "health", "metrics"]
    assert lines[0]["request_id"] == caught.value.request_id
    assert server.secret not in errors
