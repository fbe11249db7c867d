"""Requests per second of the HTTP shell beside pywsgi, and h11 and httptools on gevent's sockets.

Each server runs in a process of its own and gives the same echo answer of 200 bytes; the client is
one process with raw sockets, so that what is compared is the server. The peers are hardened as far
as what they hand over allows: pywsgi in a subclass of its handler, h11 and httptools in their loop.
Then the same bad requests go to each: the table shows what it lets through.
"""

import contextlib
import importlib.util
import socket
import statistics
import subprocess
import sys
import time

import gevent
import gevent.socket

ROUNDS = 5
SECONDS = 0.7
CONNECTIONS = (1, 10, 50)
HEADERS = "Host: localhost\r\nAccept: application/json\r\nX-Auth-Account: nora\r\n"
GET = f"GET /v4.0/nora/flow?limit=2 HTTP/1.1\r\n{HEADERS}\r\n".encode()
BODY = b'{"head": {"ok": true}, "body": {"path": "/nora/a"}}'.ljust(200)

OURS = """
from flowkit.protocol.envelope import Response
from flowkit.server.http import HttpServer

class App:
    def handle(self, request):
        return Response(200, {"content-type": "application/json"}, BODY)

server = HttpServer(App(), "127.0.0.1", 0)
server.start()
print(server.port, flush=True)
server.wait_stopped()
"""

CHECKS = """
import re
TOKEN = re.compile("[!#$%&'*+.^_`|~0-9A-Za-z-]+")
CONTROL = re.compile("[\\x00-\\x08\\x0a-\\x1f\\x7f]")
HOST = re.compile(r"(\\[[0-9A-Fa-f:.%]+\\]|[0-9A-Za-z._~%!$&'()*+;=-]*)(:[0-9]*)?")

def check(fields):
    names = [name.lower() for name, _ in fields]
    if len(fields) > 100 or names.count("host") != 1:
        raise ValueError("headers")
    if names.count("content-length") + names.count("transfer-encoding") > 1:
        raise ValueError("lengths")
    for name, value in fields:
        if not TOKEN.fullmatch(name) or CONTROL.search(value):
            raise ValueError("header")
        if name.lower() == "host" and not HOST.fullmatch(value):
            raise ValueError("host")
        if name.lower() == "content-length" and not value.isdecimal():
            raise ValueError("length")
        if name.lower() == "transfer-encoding" and value.lower() != "chunked":
            raise ValueError("coding")
"""

PYWSGI = (
    CHECKS
    + """
import socket
from gevent import pywsgi, Timeout

class Strict(pywsgi.WSGIHandler):
    def handle(self):
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super().handle()

    def read_requestline(self):
        with Timeout(75):
            return super().read_requestline()

    def read_request(self, raw):
        if not raw.endswith("\\r\\n"):
            raise ValueError("a bare LF")
        with Timeout(10):
            if not super().read_request(raw):
                return False
        check(self.headers.items())
        if not raw.isascii():
            raise ValueError("target")
        return True

def app(environ, start_response):
    body = environ["wsgi.input"].read()
    start_response("200 OK", [("content-type", "application/json"), ("content-length", "200")])
    return [BODY]

server = pywsgi.WSGIServer(("127.0.0.1", 0), app, handler_class=Strict, log=None, error_log=None)
server.start()
print(server.server_port, flush=True)
server.serve_forever()
"""
)

H11 = (
    CHECKS
    + """
import socket
import h11
from gevent.server import StreamServer

def handle(sock, address):
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection = h11.Connection(h11.SERVER)
    try:
        while True:
            while True:
                event = connection.next_event()
                if event is h11.NEED_DATA:
                    sock.settimeout(75)
                    connection.receive_data(sock.recv(65536))
                elif type(event) is h11.Request:
                    check([(n.decode("latin-1"), v.decode("latin-1")) for n, v in event.headers])
                elif type(event) is h11.EndOfMessage:
                    break
                elif type(event) is h11.ConnectionClosed:
                    return
            headers = [("content-type", "application/json"), ("content-length", "200")]
            head = connection.send(h11.Response(status_code=200, headers=headers))
            body = connection.send(h11.Data(BODY)) + connection.send(h11.EndOfMessage())
            sock.sendall(head + body)
            if connection.our_state is h11.MUST_CLOSE:
                return
            connection.start_next_cycle()
    except (ValueError, h11.RemoteProtocolError) as error:
        headers = [("content-length", "0"), ("connection", "close")]
        answer = h11.Response(status_code=getattr(error, "error_status_hint", 400), headers=headers)
        sock.sendall(connection.send(answer) + connection.send(h11.EndOfMessage()))
    finally:
        sock.close()

server = StreamServer(("127.0.0.1", 0), handle)
server.start()
print(server.server_port, flush=True)
server.serve_forever()
"""
)

HTTPTOOLS = (
    CHECKS
    + """
import socket
import httptools
from gevent.server import StreamServer

REASONS = {200: "OK", 400: "Bad Request"}

def render(status, *headers, body=b""):
    lines = [f"HTTP/1.1 {status} {REASONS[status]}", f"content-length: {len(body)}", *headers]
    return ("\\r\\n".join(lines) + "\\r\\n\\r\\n").encode() + body

class Message:
    def __init__(self):
        self.headers, self.body, self.target, self.ended = [], [], b"", 0

    def on_url(self, part):
        self.target += part

    def on_header(self, name, value):
        self.headers.append((name.decode("latin-1"), value.decode("latin-1")))

    def on_headers_complete(self):
        check(self.headers)

    def on_body(self, part):
        self.body.append(part)

    def on_message_complete(self):
        self.ended += 1

def handle(sock, address):
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    message = Message()
    parser = httptools.HttpRequestParser(message)
    try:
        while True:
            sock.settimeout(75)
            data = sock.recv(65536)
            if not data:
                return
            parser.feed_data(data)
            for _ in range(message.ended):
                sock.sendall(render(200, "content-type: application/json", body=BODY))
            if message.ended:
                message.__init__()
    except (ValueError, httptools.HttpParserError, httptools.HttpParserUpgrade):
        sock.sendall(render(400, "connection: close"))
    finally:
        sock.close()

server = StreamServer(("127.0.0.1", 0), handle)
server.start()
print(server.server_port, flush=True)
server.serve_forever()
"""
)

SERVERS = {"ours": OURS, "pywsgi, hardened": PYWSGI}
if importlib.util.find_spec("h11"):
    SERVERS["h11 on gevent"] = H11
if importlib.util.find_spec("httptools"):
    SERVERS["httptools on gevent"] = HTTPTOOLS

POST = f"POST /a HTTP/1.1\r\n{HEADERS}"
END = "0\r\n\r\n"
CHUNKED = f"{POST}Transfer-Encoding: chunked\r\n\r\n"
ODD_REQUESTS = {
    "bare LF ends a header line": f"GET /a HTTP/1.1\r\n{HEADERS}X: 1\nY: 2\r\n\r\n",
    "bare CR within a header": f"GET /a HTTP/1.1\r\n{HEADERS}X: 1\rY: 2\r\n\r\n",
    "folded header": f"GET /a HTTP/1.1\r\n{HEADERS}X: 1\r\n more\r\n\r\n",
    "space before the colon": f"{POST}Content-Length : 3\r\n\r\nabc",
    "Transfer-Encoding: xchunked": f"{POST}Transfer-Encoding: xchunked\r\n\r\n{END}",
    "Transfer-Encoding: chunked, chunked": (
        f"{POST}Transfer-Encoding: chunked, chunked\r\n\r\n{END}"
    ),
    "Transfer-Encoding and a length": (
        f"{POST}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n{END}"
    ),
    "the same length twice": f"{POST}Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    "Content-Length: 3, 3": f"{POST}Content-Length: 3, 3\r\n\r\nabc",
    "Content-Length: +3": f"{POST}Content-Length: +3\r\n\r\nabc",
    "no Host": "GET /a HTTP/1.1\r\nAccept: */*\r\n\r\n",
    "two Hosts": f"GET /a HTTP/1.1\r\n{HEADERS}Host: other\r\n\r\n",
    "a Host that is none": "GET /a HTTP/1.1\r\nHost: a b/c\r\n\r\n",
    "a control character in a header": f"GET /a HTTP/1.1\r\n{HEADERS}X: a\x0bb\r\n\r\n",
    "a target with a raw byte": f"GET /\xe4 HTTP/1.1\r\n{HEADERS}\r\n",
    "chunk lines that end in LF": f"{CHUNKED}3\nabc\n0\n\n",
    "chunk size 0x3": f"{CHUNKED}0x3\r\nabc\r\n{END}",
    "chunk longer than its size": f"{CHUNKED}3\r\nabcd\r\n{END}",
    "chunk extension of 100 KiB": f"{CHUNKED}3;{'x' * 102_400}\r\nabc\r\n{END}",
    "trailer that is no header": f"{CHUNKED}3\r\nabc\r\n0\r\nno header\r\n\r\n",
    "16,000 headers": f"GET /a HTTP/1.1\r\n{HEADERS}" + "X: 1\r\n" * 16_000 + "\r\n",
}
"""What the shell has to refuse (the issue, section 4; protocol 3.4), complete requests all."""


def start(script: str) -> tuple[subprocess.Popen, int]:
    """A server process and its port."""
    process = subprocess.Popen(
        [sys.executable, "-c", f"BODY = {BODY!r}\n{script}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    return process, int(process.stdout.readline())


def ask_for(port: int, until: float) -> int:
    """Requests that one connection gets answered."""
    count = 0
    with gevent.socket.create_connection(("127.0.0.1", port)) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while time.perf_counter() < until:
            sock.sendall(GET)
            answer = b""
            while not answer.endswith(BODY):
                answer += sock.recv(65_536)
            count += 1
    return count


def rate(port: int, connections: int) -> float:
    """Requests per second over so many connections."""
    begin = time.perf_counter()
    asking = [gevent.spawn(ask_for, port, begin + SECONDS) for _ in range(connections)]
    gevent.joinall(asking, raise_error=True)
    return sum(one.value for one in asking) / (time.perf_counter() - begin)


def verdict(port: int, request: str) -> str:
    """How a request is answered: its status, or how the connection ended."""
    with socket.create_connection(("127.0.0.1", port), timeout=1.5) as sock:
        with contextlib.suppress(ConnectionError, TimeoutError):
            sock.sendall(request.encode("latin-1"))
        try:
            line = sock.recv(65_536).partition(b"\r\n")[0]
        except TimeoutError:
            return "waits"
        except ConnectionError:
            return "reset"
    return line.split(b" ")[1].decode() if line else "closed"


METHODS_NEEDED = ("MGET", "MPUT")
"""Methods of the protocol that no registry has; the answer has to be 200."""


def main() -> None:
    """Requests per second, what is let through, and what is refused though the protocol has it."""
    running = {name: start(script) for name, script in SERVERS.items()}
    try:
        print("requests per second   " + "".join(f"{name:>20}" for name in running))
        for connections in CONNECTIONS:
            rates: dict[str, list[float]] = {name: [] for name in running}
            for _ in range(ROUNDS):
                for name, (_process, port) in running.items():
                    rates[name].append(rate(port, connections))
            cells = "".join(f"{statistics.median(each):20,.0f}" for each in rates.values())
            print(f"{connections:>3} connections       {cells}")
        print("\nodd request (2xx: let through)         " + "".join(f"{n:>20}" for n in running))
        for words, request in ODD_REQUESTS.items():
            cells = "".join(f"{verdict(port, request):>20}" for _process, port in running.values())
            print(f"{words:<39}{cells}")
        print("\nmethod of the protocol (200: taken)")
        for method in METHODS_NEEDED:
            request = f"{method} /a HTTP/1.1\r\n{HEADERS}Content-Length: 2\r\n\r\n[]"
            cells = "".join(f"{verdict(port, request):>20}" for _process, port in running.values())
            print(f"{method:<39}{cells}")
    finally:
        for process, _port in running.values():
            process.kill()
            process.communicate()


if __name__ == "__main__":
    main()
