"""Fixtures of the tests of tasks: a real server elsewhere, and a platform that may reach it."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.server.visitor import visiting


@dataclass
class Elsewhere:
    """A server that answers what it is told to, and remembers what it was asked.

    Attributes:
        url: where it answers.
        status, headers, body: its answer.
        asked: method, path, headers and body of each request.
        may_answer: a request waits for it.
        was_asked: set by each request.
    """

    url: str = ""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    asked: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)
    may_answer: threading.Event = field(default_factory=threading.Event)
    was_asked: threading.Event = field(default_factory=threading.Event)


@pytest.fixture
def elsewhere():
    """A running server on this machine."""
    told = Elsewhere()
    told.may_answer.set()

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            headers = {name.lower(): value for name, value in self.headers.items()}
            told.asked.append((self.command, self.path, headers, self.rfile.read(length)))
            told.was_asked.set()
            told.may_answer.wait(30)
            self.send_response(told.status)
            for name, value in told.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(told.body)))
            self.end_headers()
            self.wfile.write(told.body)

        do_GET = do_POST = answer  # noqa: N815 - the names of the base class

        def log_message(self, *_args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    told.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield told
    told.may_answer.set()
    server.shutdown()
    server.server_close()


@pytest.fixture
def nora(tmp_path):
    """An account on a platform whose tasks may reach this machine."""
    with visiting(tmp_path / "data", allow_hosts="127.0.0.1") as (who, _):
        yield who
