"""Requests per second: the client beside requests and aiohttp, HTTP and TLS.

The server runs in a process of its own and answers 200 bytes at once. Each line is the median of
some rounds in which all take turns; a client of one round opens its connections anew. The last
column is the processor time of the client for one request, at 10 at once. Lines that say JSON make
plain calls of services, or decode each answer.
"""

import asyncio
import ssl
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
IN_FLIGHT = (1, 10, 100)
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


def api_in_greenlets(url, ca, in_flight):
    """The whole client: plain calls of a service."""
    with API(Token("nora", "t" * 32), host=url, verify=ca) as api:
        return in_greenlets(lambda: api.flow.find(limit=2), in_flight)


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


def requests_with(read):
    """One session of requests, shared by threads; *read* is what becomes of an answer."""

    def bench(url, ca, in_flight):
        with requests.Session() as session:
            session.mount(url, requests.adapters.HTTPAdapter(pool_maxsize=in_flight))
            place = url + GET.target
            return in_threads(
                lambda: read(session.get(place, headers=HEADERS, verify=ca)), in_flight
            )

    return bench


def requests_alone(url, ca, in_flight):
    """A connection for each request, as the original client did."""
    return in_threads(lambda: requests.get(url + GET.target, headers=HEADERS, verify=ca), in_flight)


def aiohttp_with(read):
    """aiohttp's client; *read* is what becomes of an answer."""
    return lambda *where: asyncio.run(aiohttp_session(read, *where))


async def aiohttp_session(read, url, ca, in_flight):
    """Requests per second of that many coroutines with one session."""

    async def worker(session, until):
        count = 0
        while time.perf_counter() < until:
            async with session.get(url + GET.target, headers=HEADERS) as answer:
                await read(answer)
            count += 1
        return count

    tls = ssl.create_default_context(cafile=ca)
    connector = aiohttp.TCPConnector(limit=in_flight, ssl=tls)
    async with aiohttp.ClientSession(connector=connector) as session:
        began = time.perf_counter()
        workers = [worker(session, began + SECONDS) for _ in range(in_flight)]
        return sum(await asyncio.gather(*workers)) / (time.perf_counter() - began)


CONTENDERS = {
    "HttpTransport, greenlets": transport_in(in_greenlets),
    "HttpTransport, threads": transport_in(in_threads),
    "API in greenlets, JSON": api_in_greenlets,
    "API.async_(), JSON": api_async,
    "aiohttp": aiohttp_with(lambda answer: answer.read()),
    "aiohttp, JSON": aiohttp_with(lambda answer: answer.json()),
    "requests.Session, threads": requests_with(lambda answer: answer.content),
    "requests.Session, JSON": requests_with(lambda answer: answer.json()),
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
    """Requests per second of everyone, at 1, 10 and 100 in flight, and processor time for one."""
    heads = "".join(f"{n:>8} at once" for n in IN_FLIGHT)
    print(f"  {title + ', requests/s':<28}{heads}{'us of processor':>18}")
    rates = {name: {n: [] for n in IN_FLIGHT} for name in CONTENDERS}
    costs = {name: [] for name in CONTENDERS}
    for _ in range(ROUNDS):
        for in_flight in IN_FLIGHT:
            for name, bench in CONTENDERS.items():
                began, cpu = time.perf_counter(), time.process_time()
                rate = bench(url, ca, in_flight)
                requests_made = rate * (time.perf_counter() - began)
                rates[name][in_flight].append(rate)
                if in_flight == IN_FLIGHT[1]:
                    costs[name].append((time.process_time() - cpu) / requests_made * 1e6)
    for name, rows in rates.items():
        cells = "".join(f"{statistics.median(taken):16,.0f}" for taken in rows.values())
        print(f"  {name:<28}{cells}{statistics.median(costs[name]):18,.0f}", flush=True)


if __name__ == "__main__":
    main()
