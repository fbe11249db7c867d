"""Devices that wait for what is desired of them, each with a long poll, in a process of its own.

Run as a program: reads its configuration in JSON, prints a line once all wait, and a line with the
time at which each has heard its change (``time.perf_counter``, one clock for all processes).
"""

import http.client
import json
import selectors
import socket
import subprocess
import sys
import time
from typing import Self

from receivers import open_files_max, read_until

READ_BYTES = 1 << 16
SETTLED_S = 1.0
"""Long enough for the server to hold every poll that was sent."""


class WaitingDevices:
    """A child process in which devices wait; a context manager.

    Args:
        port: of the server, on this machine.
        devices: each with ``id``, ``path`` and ``secret``.
    """

    def __init__(self, port: int, devices) -> None:
        config = {"port": port, "devices": [(one.id, one.path, one.secret) for one in devices]}
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._process.stdin.write(json.dumps(config))
        self._process.stdin.close()
        if self._process.stdout.readline() != "ready\n":
            raise RuntimeError("the devices could not wait")

    def wait(self) -> dict[str, float]:
        """When each device has heard of its change, by the id."""
        return json.loads(self._process.stdout.readline())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()


def main() -> None:
    """Begin a session for each device, hold a poll on each, and note when it is answered."""
    open_files_max()
    config = json.load(sys.stdin)
    port = config["port"]
    opening = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    polls = {}
    for name, path, secret in config["devices"]:
        headers = {"X-Auth-Account": path.split("/")[1], "X-Auth-Token": secret}
        made = asked(opening, "/session", headers, b"")
        address = f"/session/{made['body']['id']}/polling"
        reader = {
            "msgId": "1",
            "object": "drop",
            "type": "subscribe",
            "path": f"{path}/properties",
        }
        asked(opening, address, {}, json.dumps(reader).encode())
        polls[name] = (dialled(port), f"GET {address} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
    for connected, request in polls.values():  # the answer to the subscription
        connected.sendall(request)
        if '"ok":true' not in one_answer(connected).replace(" ", ""):
            raise RuntimeError("not subscribed")
    for connected, request in polls.values():
        connected.sendall(request)
    time.sleep(SETTLED_S)
    print("ready", flush=True)
    print(json.dumps(heard({name: connected for name, (connected, _) in polls.items()})))


def heard(waiting: dict[str, socket.socket]) -> dict[str, float]:
    """When each connection was answered."""
    came: dict[str, float] = {}
    with selectors.DefaultSelector() as selector:
        for name, connected in waiting.items():
            selector.register(connected, selectors.EVENT_READ, name)
        while len(came) < len(waiting):
            for key, _ in selector.select():
                text = key.fileobj.recv(READ_BYTES)
                if b'"desired"' not in text:
                    raise RuntimeError(f"another answer: {text[:300]!r}")
                came[key.data] = time.perf_counter()
                selector.unregister(key.fileobj)
    return came


def dialled(port: int) -> socket.socket:
    """A connection."""
    return socket.create_connection(("127.0.0.1", port), 60)


def asked(connection: http.client.HTTPConnection, path: str, headers: dict, body: bytes) -> dict:
    """What a POST is answered."""
    connection.request("POST", path, body, headers)
    answer = connection.getresponse()
    text = answer.read()
    if answer.status not in (200, 201):
        raise RuntimeError(f"{answer.status} {text[:300]!r}")
    return json.loads(text)


def one_answer(connected: socket.socket) -> str:
    """The body of an answer that has a length."""
    text = read_until(connected, b"\r\n\r\n")
    head, _, body = text.partition(b"\r\n\r\n")
    lines = [line.split(b":", 1) for line in head.lower().split(b"\r\n") if b":" in line]
    size = int(dict(lines)[b"content-length"])
    while len(body) < size:
        body += connected.recv(READ_BYTES)
    return body.decode()


if __name__ == "__main__":
    main()
