"""kill -9 of a real ``flowkit serve`` under HTTP load: what was answered stays, once each.

Every write carries a name of its own in ``elems.mark`` and an ``X-Request-Id``. After the kill and
a new start on the same folder each write that was answered is there, as it was answered; each write
whose answer was lost is sent again with the same id, and is then there exactly once.

``FLOWKIT_CRASH_ROUNDS`` sets the number of crashes.
"""

from __future__ import annotations

import http.client
import itertools
import json
import os
import random
import signal
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from flowkit.server.store.sqlite import FILE_NAME
from flowkit.server.store.verify import verify
from tests.server_process import ServerProcess

ROUNDS = int(os.environ.get("FLOWKIT_CRASH_ROUNDS", "3"))
ROUNDS_PER_FOLDER = 10
CLIENTS = 8
ARRAY = 5
KEPT, SMALL = "/nora/kept", "/nora/small"
SMALL_CAPACITY = 3


@dataclass
class Write:
    """One request that makes drops, and what came back."""

    request_id: str
    body: Any
    answer: Any = None

    @property
    def marks(self) -> list[str]:
        """The names of the drops that it makes in the flow that keeps them."""
        bodies = self.body if isinstance(self.body, list) else [self.body]
        return [each["elems"]["mark"] for each in bodies if each["path"] == KEPT]

    @property
    def drops(self) -> list[dict[str, Any]]:
        """The drops of the answer in the flow that keeps them."""
        bodies = self.answer if isinstance(self.answer, list) else [self.answer]
        return [each for each in bodies if each["path"] == KEPT]


@dataclass
class Caller:
    """A client with one connection; remembers what it sent and what it was told."""

    server: ServerProcess
    secret: str
    name: str
    answered: list[Write] = field(default_factory=list)
    lost: list[Write] = field(default_factory=list)
    fault: AssertionError | None = None

    def __post_init__(self) -> None:
        host = self.server.url.removeprefix("http://")
        self._connection = http.client.HTTPConnection(host, timeout=20)

    def ask(self, method: str, target: str, body: Any = None, request_id: str = "") -> Any:
        """The body of the answer, which must be a good one."""
        headers = {"X-Auth-Token": self.secret}
        if request_id:
            headers["X-Request-Id"] = request_id
        data = None if body is None else json.dumps(body)
        self._connection.request(method, f"/v4.0/nora{target}", data, headers)
        answer = self._connection.getresponse()
        envelope = json.loads(answer.read())
        assert answer.status in (200, 201), envelope
        return envelope["body"]

    def write(self, number: int) -> None:
        """One write: a drop into a full flow as well, or an array, each third time."""
        mark = f"{self.name}-{number}"
        body: Any = {"path": KEPT, "elems": {"mark": mark}}
        if number % 3 == 0:
            body = [{"path": KEPT, "elems": {"mark": f"{mark}-{at}"}} for at in range(ARRAY)]
            body.append({"path": SMALL, "elems": {"mark": mark}, "fhash": str(number % 5)})
        write = Write(f"id-{mark}", body)
        self.lost.append(write)
        write.answer = self.ask("POST", "/drop", body, write.request_id)
        self.answered.append(self.lost.pop())

    def until_it_dies(self, enough: threading.Semaphore) -> None:
        """Write until the server is gone."""
        try:
            for number in itertools.count():
                self.write(number)
                enough.release()
        except (OSError, http.client.HTTPException, ValueError):
            self._connection.close()
        except AssertionError as error:  # a refusal; raised where the test can see it
            self.fault = error


def crash(server: ServerProcess, secret: str, name: str, wanted: int) -> list[Caller]:
    """Load the server from several sides and kill it after *wanted* answers."""
    callers = [Caller(server, secret, f"{name}-{number}") for number in range(CLIENTS)]
    enough = threading.Semaphore(0)
    threads = [threading.Thread(target=each.until_it_dies, args=(enough,)) for each in callers]
    for thread in threads:
        thread.start()
    for _ in range(wanted):
        assert enough.acquire(timeout=30), "the server answered too little"
    server.end(signal.SIGKILL)
    for thread in threads:
        thread.join()
    assert [caller.fault for caller in callers if caller.fault] == []
    return callers


def check(server: ServerProcess, secret: str, writes: list[Write], lost: list[Write]) -> None:
    """Everything answered is there as it was answered; what was lost is there once, sent again."""
    caller = Caller(server, secret, "after")
    for write in lost:
        write.answer = caller.ask("POST", "/drop", write.body, write.request_id)
    (flow,) = caller.ask("GET", "/flow?filter=path%20%3D%3D%20%22%2Fnora%2Fkept%22")
    stored = caller.ask("GET", f"/drop/{flow['id']}?limit=100000")
    found = {drop["id"]: drop for drop in stored}
    told = [drop for write in (*writes, *lost) for drop in write.drops]
    assert [drop for drop in told if found.get(drop["id"]) != drop] == []
    marks = [mark for write in (*writes, *lost) for mark in write.marks]
    assert sorted(drop["elems"]["mark"] for drop in stored) == sorted(marks), "stored exactly once"
    for write in (*writes[-20:], *lost):
        assert caller.ask("POST", "/drop", write.body, write.request_id) == write.answer
    assert len(caller.ask("GET", f"/drop?path={SMALL}")) <= SMALL_CAPACITY


def rounds(folder: Path, count: int, chance: random.Random) -> int:
    """*count* crashes on one folder; how many writes were answered."""
    writes: list[Write] = []
    lost: list[Write] = []
    secret = ""
    for number in range(count):
        with ServerProcess(folder) as server:
            secret = secret or str(server.secret)
            if number:
                check(server, secret, writes, lost)
                writes, lost = [*writes, *lost], []
            else:
                caller = Caller(server, secret, "first")
                caller.ask("POST", "/flow", {"path": KEPT, "capacity": 100_000})
                caller.ask("POST", "/flow", {"path": SMALL, "capacity": SMALL_CAPACITY})
            callers = crash(server, secret, str(number), chance.randrange(1, 300))
        assert verify(folder / FILE_NAME) == []
        writes += [write for caller in callers for write in caller.answered]
        lost = [write for caller in callers for write in caller.lost]
    with ServerProcess(folder) as server:
        check(server, secret, writes, lost)
        assert server.end()[0] == 0
    assert verify(folder / FILE_NAME) == []
    return len(writes)


@pytest.mark.slow
@pytest.mark.timeout(60 + 20 * ROUNDS)
def test_what_a_killed_server_had_answered_is_there_once(tmp_path):
    """Crashes under HTTP load lose no answered write, and a repeated request is done once."""
    chance = random.Random()
    for start in range(0, ROUNDS, ROUNDS_PER_FOLDER):
        some = min(ROUNDS_PER_FOLDER, ROUNDS - start)
        assert rounds(tmp_path / f"data{start}", some, chance) > 0
