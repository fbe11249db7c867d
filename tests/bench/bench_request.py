"""What one request costs, from a bare socket up to a service, one after the other.

The server runs in a process of its own and answers 200 bytes at once. ``PROFILE=1`` also prints
where the time of a plain call goes, as cProfile sees it.
"""

import cProfile
import os
import pstats
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit

import trustme
from bench_transport import GET, SERVER

from flowkit import API, Response, Token
from flowkit.client.transport import HttpTransport

CALLS = 2_000
ROUNDS = 9
BODY = b'{"head": {"ok": true, "status": 200}, "body": {"id": "f5a2", "path": "/nora/a"}}'


class Nobody:
    """A transport that answers at once: what is left is the client above it."""

    def send(self, request, *, timeout_s):
        """An answer of the platform."""
        return Response(200, {}, BODY)

    def close(self):
        """Nothing is open."""


def bare(url):
    """The bytes of one request over a socket, and those of the answer back."""
    parts = urlsplit(url)
    connected = socket.create_connection((parts.hostname, parts.port))
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    message = f"GET {GET.target} HTTP/1.1\r\nhost: a\r\n\r\n".encode()

    def exchange():
        connected.sendall(message)
        connected.recv(65_536)

    return exchange


def costs(call):
    """Seconds and processor seconds of one call."""
    began, cpu = time.perf_counter(), time.process_time()
    for _ in range(CALLS):
        call()
    spent = time.perf_counter() - began, time.process_time() - cpu
    return [one / CALLS for one in spent]


def main() -> None:
    """The table."""
    with tempfile.TemporaryDirectory() as folder:
        pem = Path(folder, "server.pem")
        trustme.CA().issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(pem))
        command = [sys.executable, "-c", SERVER, str(pem)]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            measure(f"http://127.0.0.1:{server.stdout.readline().split()[0]}")
        finally:
            server.terminate()
            server.wait()


def measure(url) -> None:
    """Microseconds of each layer."""
    token = Token("nora", "t" * 32)
    with (
        HttpTransport(url) as transport,
        API(token, host=url) as api,
        API(token, transport=Nobody()) as alone,
    ):
        contenders = {
            "a bare socket": bare(url),
            "HttpTransport.send": lambda: transport.send(GET, timeout_s=30),
            "api.flow.find": lambda: api.flow.find(limit=2),
            "api.flow.find, nothing sent": lambda: alone.flow.find(limit=2),
        }
        spans = {name: [] for name in contenders}
        for _ in range(ROUNDS):
            for name, call in contenders.items():
                spans[name].append(costs(call))
        print(f"  us of one request{'':<11}{'by the clock':>14}{'of processor':>14}")
        for name, taken in spans.items():
            cells = "".join(
                f"{statistics.median(some) * 1e6:14.1f}" for some in zip(*taken, strict=True)
            )
            print(f"  {name:<28}{cells}")
        if os.environ.get("PROFILE"):
            profile = cProfile.Profile()
            profile.runcall(lambda: [api.flow.find(limit=2) for _ in range(CALLS)])
            pstats.Stats(profile).sort_stats("tottime").print_stats(25)


if __name__ == "__main__":
    main()
