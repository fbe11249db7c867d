"""A server of its own for the demo: a child process on a free port, gone when the demo is."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from flowkit.client.api import API
from flowkit.client.credentials import Token
from flowkit.client.transport import Transport
from flowkit.errors import ConnectError

__all__ = ["ENDING", "DemoServer", "demo_server"]

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C, a request to end, a terminal that was closed."""

STOP_TIMEOUT_S = 15


@dataclass(frozen=True)
class DemoServer:
    """Where the demo's server answers, and as whom; the token dies with the demo's folder."""

    url: str
    credentials: Token

    def connect(self, transport: Transport | None = None) -> API:
        """An API on the server, over HTTP like any other unless *transport* says how."""
        return API(self.credentials, host=self.url, transport=transport)


@contextmanager
def demo_server(folder: Path, account: str) -> Iterator[DemoServer]:
    """Run ``flowkit serve`` on a free port with its data in *folder*; stop it at the end.

    Raises:
        ConnectError: it did not start; it has said why on stderr.
    """
    command = [sys.executable, "-m", "flowkit", "serve", "--port", "0"]
    # A signal while the child is made would leave one behind that nobody knows of.
    held = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    process = subprocess.Popen(  # noqa: S603 - our own interpreter and our own module
        [*command, "--data", str(folder), "--account", account],
        stdout=subprocess.PIPE,  # the banner; the log goes where this process's errors go
        text=True,
        start_new_session=True,  # Ctrl-C reaches the demo alone, which then stops the server
    )
    assert process.stdout is not None
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)
        yield _read_banner(process.stdout, account)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


def _read_banner(lines: IO[str], account: str) -> DemoServer:
    """Wait for the URL and the token that a first start prints."""
    url = token = None
    for line in lines:
        url = url or re.search(r"http://\S+", line)
        token = token or re.match(r" +token +(\w+)", line)
        if url and token:
            return DemoServer(url.group(), Token(account, token[1]))
    raise ConnectError("the demo's server did not start; what it said stands above")
