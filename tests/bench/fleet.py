"""A fleet for ``bench_fleet.py``: many devices on one real server, and requests to it.

Requests go over bare connections that are kept, one for each thread: what a table compares is the
server.
"""

import http.client
import json
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import psutil
from server_process import ServerProcess

THREADS = 16
SITES = 10
ACCOUNT = "bench"
_LOOK_S = 0.005
_IDLE_S = 5.0
"""After which a connection is made anew: the server ends those that nobody uses."""


@dataclass(frozen=True)
class Device:
    """A device that was provisioned.

    Attributes:
        number: in its fleet.
        id: of the object.
        path: where its Flows stand.
        secret: the string of its Token.
    """

    number: int
    id: str
    path: str
    secret: str


class Fleet:
    """A server in a process of its own, and what is asked of it.

    Args:
        folder: its data.
        document_bytes: about the size of each desired and each reported document.
    """

    def __init__(self, folder: Path, document_bytes: int) -> None:
        self.document_bytes = document_bytes
        self.devices: list[Device] = []
        self._folder = folder
        self._secret: str | None = None
        self._start()

    def _start(self) -> None:
        self.server = ServerProcess(self._folder, account=ACCOUNT)
        self._secret = self._secret or self.server.secret
        self.port = int(self.server.url.rsplit(":", 1)[1])
        self.process = psutil.Process(self.server.process.pid)
        self._kept = threading.local()

    def restart(self) -> None:
        """The same fleet on a server that has done nothing yet: memory that was freed is gone."""
        self.server.end()
        self._start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.server.__exit__()

    # Asking

    def ask(self, method: str, path: str, body: Any = None, secret: str | None = None) -> Any:
        """The ``body`` of an answer; a refusal is an error. *path* is below the account."""
        connection, used_at = getattr(self._kept, "connection", (None, 0.0))
        if connection is None or time.monotonic() - used_at > _IDLE_S:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        headers = {"X-Auth-Account": ACCOUNT, "X-Auth-Token": secret or self._secret}
        data = None if body is None else json.dumps(body).encode()
        if data is not None:
            headers["Content-Type"] = "application/json"
        connection.request(method, f"/v4.0/{ACCOUNT}{path}", data, headers)
        answer = connection.getresponse()
        text = answer.read()
        self._kept.connection = (connection, time.monotonic())
        if answer.status not in (200, 201):
            raise Refused(f"{answer.status}: {json.loads(text)['head']['errors'][0]}")
        return json.loads(text)["body"]

    def find(self, text: str = "", secret: str | None = None, **params: Any) -> list[dict]:
        """The devices that a filter finds."""
        asked = {"filter": text, **params} if text else params
        pairs = "&".join(f"{name}={quote(str(value))}" for name, value in asked.items())
        return self.ask("GET", f"/device?{pairs}", secret=secret)

    def work(self, call: Callable[[Any], Any], over: Any) -> list[Any]:
        """Call it for each, ``THREADS`` at once; the answers in their order."""
        with ThreadPoolExecutor(THREADS) as pool:
            return list(pool.map(call, over))

    # Filling

    def provision(self, count: int) -> float:
        """Devices as a maker provisions them, from the first request to a Token; seconds."""
        made = self.ask("POST", "/provisioning-token", {"autoApprove": True})
        secret = made["provisioningToken"]

        def one(number: int) -> Device:
            nonce = os.urandom(16).hex()
            asked = {"nonce": nonce, "deviceId": device_id(number)}
            begun = self.ask("POST", "/provisioning", asked, secret)
            address = f"/provisioning/{begun['id']}/complete"
            told = self.ask("POST", address, {"nonce": nonce}, secret)
            return Device(number, told["id"], told["path"], told["tokenString"])

        began = time.perf_counter()
        self.devices = self.work(one, range(count))
        return time.perf_counter() - began

    def fill(self) -> float:
        """What is desired of each device, what it reports, and its tags; seconds."""

        def one(device: Device) -> None:
            values = document(device.number, self.document_bytes)
            tags = {"site": f"site-{device.number % SITES}"}
            self.ask("PUT", f"/device/{device.id}", {"desired": values, "tags": tags})
            self.ask("POST", f"/device/{device.id}/reported", {"values": values}, device.secret)

        began = time.perf_counter()
        self.work(one, self.devices)
        return time.perf_counter() - began

    # Watching

    def resident(self) -> float:
        """MiB that the server has in memory."""
        return self.process.memory_info().rss / 2**20

    @contextmanager
    def peak(self):
        """A list that holds, once the block has ended, the most MiB beyond those at its begin."""
        before, ended, found = self.resident(), threading.Event(), [0.0]

        def watch() -> None:
            while not ended.wait(_LOOK_S):
                found[0] = max(found[0], self.resident() - before)

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            yield found
        finally:
            ended.set()
            watcher.join()


class Refused(Exception):
    """The server said no; the text is its answer."""


def device_id(number: int) -> str:
    """The deviceId of the device of that number."""
    return f"pump-{number:05}"


def document(number: int, size: int) -> dict[str, Any]:
    """A document of about so many bytes: small settings, as devices have them."""
    settings: dict[str, Any] = {}
    made = {"firmware": f"{1 + number % 2}.{number % 7}", "interval": 60, "settings": settings}
    left = size - len(json.dumps(made, separators=(",", ":")))
    while left > 60:
        one = {"value": (number * 31 + left) % 1_000 / 8, "unit": "mm", "on": left % 2 == 0}
        name = f"setting-{len(settings)}"
        settings[name] = one
        left -= len(json.dumps({name: one}, separators=(",", ":"))) - 1
    return made
