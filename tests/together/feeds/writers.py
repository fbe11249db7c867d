"""Those who write: real HTTP requests of every kind of change, from several threads.

Source: ``positions`` 2 (what is numbered).
"""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
from collections.abc import Callable
from typing import Any

from flowkit.protocol.positions import Position
from tests.together.feeds.history import Key
from tests.together.feeds.wire import Door

__all__ = ["Caller", "Writer"]

TAGS = ("a", "b", "c")
CAPACITIES = (0, 1, 2, 3, 5, 8)
HISTORIES = (0, 1, 3, 8, 30, None)
Passed = dict[tuple[str, Key], dict[str, Any]]


class Caller:
    """One connection for requests."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._connection = http.client.HTTPConnection(door.host, timeout=20)

    def ask(self, method: str, target: str, body: Any = None) -> tuple[int, Any]:
        """Status and envelope of the answer.

        Raises:
            OSError, http.client.HTTPException: the server is not there any more.
        """
        headers = {"X-Auth-Token": self._door.secret}
        data = None if body is None else json.dumps(body)
        target = f"/v4.0/{self._door.account}{target}"
        self._connection.request(method, target, data, headers)
        answer = self._connection.getresponse()
        return answer.status, json.loads(answer.read())

    def close(self) -> None:
        """Let the connection go."""
        self._connection.close()


class Writer:
    """Makes *count* writes of any kind into some flows, or stops where the server does.

    Args:
        door: the server.
        paths: the flows; the first one is never deleted.
        seed: which writes.
        count: how many.
        passed: told of each drop that was created, with its change.
        pause_s: the longest pause between two writes.

    Attributes:
        name: for reports.
        faults: answers that no write should have.
        done: requests that were answered.
    """

    def __init__(
        self,
        door: Door,
        paths: tuple[str, ...],
        *,
        seed: str,
        count: int,
        passed: Passed,
        pause_s: float = 0.003,
    ) -> None:
        self.name = seed
        self.faults: list[str] = []
        self.done = 0
        self._caller = Caller(door)
        self._paths = paths
        self._chance = random.Random(seed)
        self._count = count
        self._passed = passed
        self._pause_s = pause_s
        self._flows: dict[str, str] = {}
        self._drops: dict[str, list[str]] = {path: [] for path in paths}
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def is_alive(self) -> bool:
        """Whether it still writes."""
        return self._thread.is_alive()

    def join(self) -> None:
        """Wait until it has ended."""
        self._thread.join()

    def _run(self) -> None:
        """Write until it is done, or until the server is gone."""
        try:
            for _ in range(self._count):
                self._one()
                time.sleep(self._chance.random() * self._pause_s)
        except (OSError, http.client.HTTPException, ValueError):
            pass
        except Exception as error:  # noqa: BLE001 - told where the test can see it
            self.faults.append(repr(error))
        finally:
            self._caller.close()

    def _one(self) -> None:
        path = self._chance.choice(self._paths)
        if path not in self._flows and not self._find(path):
            return
        number = self._chance.random()
        for most, write in _WRITES:
            if number < most:
                write(self, path)
                return

    def _find(self, path: str) -> bool:
        status, envelope = self._ask("GET", f"/flow?filter=path%20%3D%3D%20%22{path}%22")
        if status == 200 and envelope["body"]:
            self._flows[path] = envelope["body"][0]["id"]
            return True
        body = {"path": path, "capacity": self._chance.choice(CAPACITIES)}
        status, envelope = self._ask("POST", "/flow", body)
        if status == 201:
            self._flows[path] = envelope["body"]["id"]
        return False

    def _ask(self, method: str, target: str, body: Any = None) -> tuple[int, Any]:
        status, envelope = self._caller.ask(method, target, body)
        self.done += 1
        if status >= 500:
            self.faults.append(f"{method} {target}: {envelope['head']}")
        if status == 404 and target.startswith("/drop/"):
            self._flows = {p: i for p, i in self._flows.items() if i not in target}
        return status, envelope

    def _elems(self) -> dict[str, Any]:
        chance = self._chance
        pad = "x" * chance.choice((0, 0, 20, 200, 2_000))
        return {"n": chance.randrange(10), "tag": chance.choice(TAGS), "pad": pad}

    def _drop(self) -> dict[str, Any]:
        body: dict[str, Any] = {"elems": self._elems()}
        if self._chance.random() < 0.4:
            body["fhash"] = self._chance.choice("pqrs")
        return body

    def _create(self, path: str) -> None:
        flow_id = self._flows[path]
        status, envelope = self._ask("POST", f"/drop/{flow_id}?positions=1", self._drop())
        if status == 201:
            position = Position.parse(envelope["head"]["position"])
            doc = envelope["body"]
            self._passed[flow_id, (position.epoch, position.seq)] = doc
            self._drops[path] = [*self._drops[path][-9:], doc["id"]]

    def _array(self, path: str) -> None:
        drops = [self._drop() for _ in range(self._chance.choice((2, 3, 15)))]
        status, envelope = self._ask("POST", f"/drop/{self._flows[path]}", drops)
        if status < 300:
            made = [each["id"] for each in envelope["body"] if "id" in each]
            self._drops[path] = [*self._drops[path], *made][-10:]

    def _update(self, path: str) -> None:
        if self._drops[path]:
            drop_id = self._chance.choice(self._drops[path])
            elems = {"elems": self._elems()}
            self._ask("PUT", f"/drop/{self._flows[path]}/{drop_id}", elems)

    def _delete(self, path: str) -> None:
        if self._drops[path]:
            drop_id = self._chance.choice(self._drops[path])
            forget = "?forget=1" if self._chance.random() < 0.2 else ""
            self._ask("DELETE", f"/drop/{self._flows[path]}/{drop_id}{forget}")

    def _clear(self, path: str) -> None:
        self._ask("DELETE", f"/drop/{self._flows[path]}")

    def _resize(self, path: str) -> None:
        body = {"capacity": self._chance.choice(CAPACITIES)}
        self._ask("PUT", f"/flow/{self._flows[path]}", body)

    def _remember(self, path: str) -> None:
        body = {"history": self._chance.choice(HISTORIES)}
        self._ask("PUT", f"/flow/{self._flows[path]}", body)

    def _anew(self, path: str) -> None:
        if path != self._paths[0]:
            self._ask("DELETE", f"/flow/{self._flows.pop(path)}")


_WRITES: tuple[tuple[float, Callable[[Writer, str], None]], ...] = (
    (0.48, Writer._create),
    (0.55, Writer._array),
    (0.78, Writer._update),
    (0.88, Writer._delete),
    (0.90, Writer._clear),
    (0.95, Writer._resize),
    (0.985, Writer._remember),
    (1.0, Writer._anew),
)
"""Each kind of write, and the number below which it is chosen."""
