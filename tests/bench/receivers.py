"""Subscribers that cost next to nothing: one process, one epoll, no decoding.

The same receivers serve every peer, so that what a table compares are the servers. Each message
holds the byte ``MARK`` once and nowhere else; a receiver counts it in what it reads, and the counts
stand in a file that the bench maps into its memory.

Run as a program with a configuration in JSON, see ``Receivers``.
"""

import base64
import http.client
import json
import mmap
import os
import resource
import select
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Self

MARK = b"@"
READ_BYTES = 1 << 18
_COUNTS = struct.Struct("QQQ")
"""Connections that are ready and 1 more, messages received, connections that were ended."""


def open_files_max() -> None:
    """Let this process and its children have as many sockets as the system allows."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


class Receivers:
    """A child process with many subscribers; a context manager.

    Args:
        peer: ``ws``, ``flowkit`` or ``redis``: how a connection subscribes.
        port: of the server, on this machine.
        count: how many connections read.
        options: ``path`` (ws), ``channel`` (redis), or ``headers`` and ``subscribes`` (flowkit: a
            list of messages, of which connection i sends the i-th, in turn).
        stalled: further connections that subscribe and never read.
    """

    def __init__(self, peer: str, port: int, count: int, options: dict, stalled: int = 0) -> None:
        self.count = count
        number, name = tempfile.mkstemp()
        os.truncate(number, _COUNTS.size)
        self._map = mmap.mmap(number, _COUNTS.size)
        os.close(number)
        config = {"peer": peer, "port": port, "count": count, "stalled": stalled, **options}
        self._process = subprocess.Popen([sys.executable, __file__, name], stdin=subprocess.PIPE)
        self._process.stdin.write(json.dumps(config).encode())
        self._process.stdin.close()
        self._await(lambda: self.ready == count + stalled + 1, 120, "subscribers")
        os.unlink(name)

    @property
    def ready(self) -> int:
        """Connections that have subscribed, and 1; 0 until all have."""
        return _COUNTS.unpack_from(self._map)[0]

    @property
    def received(self) -> int:
        """Messages that all of them have got."""
        return _COUNTS.unpack_from(self._map)[1]

    @property
    def lost(self) -> int:
        """Connections that the server has ended."""
        return _COUNTS.unpack_from(self._map)[2]

    def await_messages(self, total: int, seconds: float = 60.0) -> None:
        """Wait until so many messages have come."""
        self._await(lambda: self.received >= total, seconds, f"{total:,} messages")

    def _await(self, is_so: Callable[[], bool], seconds: float, what: str) -> None:
        until = time.monotonic() + seconds
        while not is_so():
            if self._process.poll() is not None:
                raise RuntimeError(f"the receivers ended with {self._process.returncode}")
            if time.monotonic() > until:
                raise RuntimeError(
                    f"waited {seconds:g} s for {what}: {self.ready} ready, "
                    f"{self.received:,} received, {self.lost} lost"
                )
            time.sleep(0.0005)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._map.close()


def masked(text: str) -> bytes:
    """A text frame of a client (with a mask of zeros, which changes nothing)."""
    data = text.encode()
    size = len(data)
    length = bytes([0x80 | size]) if size < 126 else b"\xfe" + struct.pack("!H", size)
    return b"\x81" + length + bytes(4) + data


def dial(port: int, is_small: bool = False) -> socket.socket:
    """A connection; a small one has next to no room in the kernel for what nobody reads."""
    made = socket.socket()
    if is_small:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    made.settimeout(30)
    made.connect(("127.0.0.1", port))
    return made


def upgrade(port: int, path: str, is_small: bool = False) -> socket.socket:
    """A WebSocket on which nothing has been sent yet."""
    key = base64.b64encode(os.urandom(16)).decode()
    made = dial(port, is_small)
    lines = (
        f"GET {path} HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {key}",
        "Sec-WebSocket-Version: 13",
    )
    made.sendall("".join(f"{line}\r\n" for line in (*lines, "")).encode())
    head = read_until(made, b"\r\n\r\n")
    if b" 101 " not in head.split(b"\r\n", 1)[0]:
        raise RuntimeError(f"no WebSocket at {path}: {head[:200]!r}")
    return made


def read_until(connected: socket.socket, ending: bytes) -> bytes:
    """What comes up to and with *ending*; nothing behind it has come yet."""
    got = b""
    while ending not in got:
        piece = connected.recv(4096)
        if not piece:
            raise RuntimeError(f"the server ended the connection after {got!r}")
        got += piece
    return got


def sessions(port: int, headers: dict[str, str]) -> Callable[[], str]:
    """A function that opens a session of flowkit and returns its id."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)

    def open_one() -> str:
        connection.request("POST", "/session", headers=headers)
        answer = connection.getresponse()
        text = answer.read()
        if answer.status != 201:
            raise RuntimeError(f"no session: {answer.status} {text[:200]!r}")
        return json.loads(text)["body"]["id"]

    return open_one


def connecting(config: dict) -> Callable[[int, bool], socket.socket]:
    """A function that makes the i-th connection, small or not, and subscribes on it."""
    port = config["port"]
    if config["peer"] == "ws":
        return lambda _, is_small: upgrade(port, config["path"], is_small)
    if config["peer"] == "redis":

        def subscribe(_: int, is_small: bool) -> socket.socket:
            made = dial(port, is_small)
            made.sendall(f"SUBSCRIBE {config['channel']}\r\n".encode())
            read_until(made, b":1\r\n")
            return made

        return subscribe
    open_session = sessions(port, config["headers"])

    def join(number: int, is_small: bool) -> socket.socket:
        made = upgrade(port, f"/session/{open_session()}/ws", is_small)
        subscribes = config["subscribes"]
        made.sendall(masked(subscribes[number % len(subscribes)]))
        reply = read_until(made, b"}")
        while b'"ok"' not in reply:
            reply += read_until(made, b"}")
        if b'"ok":true' not in reply.replace(b" ", b""):
            raise RuntimeError(f"not subscribed: {reply!r}")
        return made

    return join


def main() -> None:
    """Connect, say so, and count for ever."""
    open_files_max()
    config = json.load(sys.stdin)
    with open(sys.argv[1], "r+b") as file:
        counts = mmap.mmap(file.fileno(), _COUNTS.size)
    connect = connecting(config)
    stalled = [connect(number, True) for number in range(config["stalled"])]
    poll = select.epoll()
    reading = {}
    for number in range(config["count"]):
        made = connect(number, False)
        made.setblocking(False)
        reading[made.fileno()] = made
        poll.register(made, select.EPOLLIN)
    received = lost = 0
    ready = len(reading) + len(stalled) + 1
    _COUNTS.pack_into(counts, 0, ready, 0, 0)
    read = os.read
    while True:
        for number, _ in poll.poll():
            try:
                data = read(number, READ_BYTES)
            except OSError:
                data = b""
            received += data.count(MARK)
            if not data:
                lost += 1
                poll.unregister(number)
        _COUNTS.pack_into(counts, 0, ready, received, lost)


if __name__ == "__main__":
    main()
