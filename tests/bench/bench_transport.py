"""Requests per second: the transport and ``async_()`` beside requests and aiohttp, HTTP and TLS.

The server runs in a process of its own and answers 200 bytes at once. Each line is the median of
some rounds in which all take turns; a client of one round opens its connections anew.
"""

import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import aiohttp
import gevent
import gevent.pool
import requests
import trustme

from flowkit import API, Token
from flowkit.client.transport import HttpTransport
from flowkit.green import spawn
from flowkit.protocol.envelope import Request

ROUNDS = 3
SECONDS = 0.6
GET = Request("GET", ("v4.0", "nora", "flow"), {"limit": "2"}, {"x-auth-token": "t" * 32})
HEADERS = dict(GET.headers)

SERVER = """
import asyncio, ssl, sys
BODY = b'{"head": {"ok": true}, "body": {"id": "f5a2", "path": "/nora/a"}}'.ljust(200)
HEAD = b"HTTP/1.1 200 OK\\r\\nContent-Type: application/json\\r\\nContent-Length: 200\\r\\n\\r\\n"
ANSWER = HEAD + BODY

class Answers(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.held = transport, b""
    def data_received(self, data):
        self.held += data
        while b"\\r\\n\\r\\n" in self.held:
            self.held = self.held.partition(b"\\r\\n\\r\\n")[2]
            self.transport.write(ANSWER)

async def main():
    loop = asyncio.get_running_loop()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(sys.argv[1])
    plain = await loop.create_server(Answers, "127.0.0.1", 0, backlog=512)
    secure = await loop.create_server(Answers, "127.0.0.1", 0, backlog=512, ssl=tls)
    print(*(server.sockets[0].getsockname()[1] for server in (plain, secure)), flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


def counted(ask, until):
    """How often *ask* was answered until then."""
    count = 0
    while time.perf_counter() < until:
        ask()
        count += 1
    return count


def in_greenlets(ask, in_flight):
    """Requests per second of that many greenlets."""
    began = time.perf_counter()
    tasks = [spawn(counted, ask, began + SECONDS) for _ in range(in_flight)]
    gevent.joinall(tasks)
    return sum(task.get() for task in tasks) / (time.perf_counter() - began)


def in_threads(ask, in_flight):
    """Requests per second of that many native threads."""
    pool = gevent.get_hub().threadpool
    pool.maxsize = max(pool.maxsize, in_flight)
    began = time.perf_counter()
    tasks = [pool.spawn(counted, ask, began + SECONDS) for _ in range(in_flight)]
    gevent.joinall(tasks)
    return sum(task.get() for task in tasks) / (time.perf_counter() - began)


def transport_in(run):
    """HttpTransport in greenlets or threads."""

    def bench(url, ca, in_flight):
        with HttpTransport(url, verify=ca) as transport:
            return run(lambda: transport.send(GET, timeout_s=30), in_flight)

    return bench


def api_async(url, ca, in_flight):
    """The whole client: services, JSON both ways, results in order."""
    with API(Token("nora", "t" * 32), host=url, verify=ca) as api:
        began = time.perf_counter()
        count = 0
        while time.perf_counter() < began + SECONDS:
            calls = api.async_(in_flight)
            for _ in range(200):
                calls.flow.find(limit=2)
            count += len(calls.results())
        return count / (time.perf_counter() - began)


def requests_session(url, ca, in_flight):
    """One plain session, shared by threads."""
    with requests.Session() as session:
        session.mount(url, requests.adapters.HTTPAdapter(pool_maxsize=in_flight))
        return in_threads(
            lambda: session.get(url + GET.target, headers=HEADERS, verify=ca), in_flight
        )


def requests_alone(url, ca, in_flight):
    """A connection for each request, as the original client did."""
    return in_threads(lambda: requests.get(url + GET.target, headers=HEADERS, verify=ca), in_flight)


def aiohttp_session(url, ca, in_flight):
    """aiohttp's client."""

    async def worker(session, until):
        count = 0
        while time.perf_counter() < until:
            async with session.get(url + GET.target, headers=HEADERS) as answer:
                await answer.read()
            count += 1
        return count

    async def main():
        import ssl

        tls = ssl.create_default_context(cafile=ca)
        connector = aiohttp.TCPConnector(limit=in_flight, ssl=tls)
        async with aiohttp.ClientSession(connector=connector) as session:
            began = time.perf_counter()
            workers = [worker(session, began + SECONDS) for _ in range(in_flight)]
            return sum(await asyncio.gather(*workers)) / (time.perf_counter() - began)

    return asyncio.run(main())


CONTENDERS = {
    "HttpTransport, greenlets": transport_in(in_greenlets),
    "HttpTransport, threads": transport_in(in_threads),
    "API.async_(), JSON decoded": api_async,
    "aiohttp": aiohttp_session,
    "requests.Session, threads": requests_session,
    "requests without session": requests_alone,
}


def main() -> None:
    """Print one table per scheme."""
    with tempfile.TemporaryDirectory() as folder:
        authority, pem = trustme.CA(), Path(folder, "server.pem")
        ca = Path(folder, "ca.pem")
        authority.cert_pem.write_to_path(str(ca))
        authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(pem))
        server = subprocess.Popen(
            [sys.executable, "-c", SERVER, str(pem)], stdout=subprocess.PIPE, text=True
        )
        try:
            plain, secure = server.stdout.readline().split()
            show("HTTP", f"http://127.0.0.1:{plain}", str(ca))
            show("TLS", f"https://127.0.0.1:{secure}", str(ca))
        finally:
            server.terminate()
            server.wait()


def show(title, url, ca):
    """Requests per second of everyone, at 1, 10 and 100 in flight."""
    print(f"  {title + ', requests/s':<28}" + "".join(f"{n:>8} at once" for n in (1, 10, 100)))
    figures = {name: {n: [] for n in (1, 10, 100)} for name in CONTENDERS}
    for _ in range(ROUNDS):
        for in_flight in (1, 10, 100):
            for name, bench in CONTENDERS.items():
                figures[name][in_flight].append(bench(url, ca, in_flight))
    for name, rows in figures.items():
        cells = "".join(f"{statistics.median(taken):16,.0f}" for taken in rows.values())
        print(f"  {name:<28}{cells}", flush=True)


if __name__ == "__main__":
    main()
