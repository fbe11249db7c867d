"""A simulated world for senders: real outboxes, a real platform, and a network that does its worst.

One thread drives everything, so a seed gives the same run again. Requests and answers get lost,
come late, or come twice; devices crash; files are copied and put back; the server goes back to an
earlier state; entries are refused, dropped, expired, queued anew. At the end the network is well,
everything is drained, and the books are checked:

* every entry that was accepted is stored once, or they say why not: dead, dropped, in a hole that a
  restored server has left, or in a file that was replaced (I8);
* what was stored twice was in a file that had been copied, or on its way when the copy was noticed;
* within a stream of a file, what is stored is in order.

Source: ``positions`` 9; the worlds are those of the model that the design was checked with.
"""

from __future__ import annotations

import json
import random
import shutil
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flowkit.device.outbox import Outbox, Report
from flowkit.device.sender import Sender
from flowkit.errors import ConnectionLost
from flowkit.protocol.envelope import Answer, Request, read_envelope
from flowkit.server.app import App
from flowkit.server.auth import ensure_account
from flowkit.server.settings import Settings
from flowkit.server.store.sqlite import open_store

STREAMS = ("air", "soil", "rare")
PATH = "/nora/field"


class Differs(AssertionError):
    """The books do not agree."""


class Server:
    """A platform whose folder can be copied and put back."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.copies = 0
        self.secret = ""
        self._open()
        self.flow = self.ask("POST", ("flow",), {"path": PATH, "capacity": 100_000}).body["id"]

    def _open(self) -> None:
        store = open_store(self.folder, synchronous="OFF", readers=2)
        _, secret = ensure_account(store, "nora")
        self.secret = secret or self.secret
        self.app = App(store, Settings(data=self.folder, account="nora", run_tasks=False))

    def send(self, method: str, segments: tuple[str, ...], body: bytes, params: Any) -> Answer:
        """A request as it comes over a connection."""
        headers = {"x-auth-account": "nora", "x-auth-token": self.secret}
        request = Request(method, ("v4.0", "nora", *segments), params or {}, headers, body)
        response = self.app.handle(request)
        return read_envelope(response.status, json.loads(response.body))

    def ask(self, method: str, segments: tuple[str, ...], body: Any = None) -> Answer:
        """One request of the owner."""
        return self.send(method, segments, b"" if body is None else json.dumps(body).encode(), {})

    def copy(self) -> Path:
        """A copy of everything that is stored."""
        self.copies += 1
        target = self.folder.with_name(f"copy{self.copies}")
        self.app.close()
        shutil.copytree(self.folder, target)
        self._open()
        return target

    def put_back(self, copy: Path) -> None:
        """Go back to that."""
        self.app.close()
        shutil.rmtree(self.folder)
        shutil.copytree(copy, self.folder)
        self._open()

    def stored(self) -> list[dict[str, Any]]:
        """The elements of every drop, oldest first."""
        params = {"order": "asc", "limit": "100000"}
        drops = self.send("GET", ("drop", self.flow), b"", params).body
        return [drop["elems"] for drop in drops]


class Network:
    """What carries requests: some are lost, some come late or twice, as does what they answer."""

    def __init__(self, server: Server, chance: random.Random) -> None:
        self.server = server
        self.chance = chance
        self.is_well = False
        self.late: list[tuple[str, tuple[str, ...], bytes, Any]] = []

    def carry(self, method: str, segments: tuple[str, ...], body: bytes, params: Any) -> Answer:
        """One request there and its answer back."""
        asked = (method, segments, body, params)
        luck = 1.0 if self.is_well else self.chance.random()
        if luck < 0.10:
            raise ConnectionLost("the request was lost")
        if luck < 0.20:
            self.late.append(asked)
            raise ConnectionLost("the request is late")
        if luck < 0.25:
            self.late.append(asked)  # and once more
        answer = self.server.send(*asked)
        if luck < 0.35:
            raise ConnectionLost("the answer was lost")
        return answer

    def deliver_late(self) -> None:
        """A request comes that nobody waits for."""
        if self.late:
            asked = self.late.pop(self.chance.randrange(len(self.late)))
            try:
                self.server.send(*asked)
            except Exception as error:  # noqa: BLE001 - whatever it is told, nobody hears it
                del error


class Line:
    """A link and its one connection, over that network."""

    name = "the simulated platform"

    def __init__(self, network: Network) -> None:
        self._network = network
        self.is_open = False

    def connection(self) -> Line:
        """This one."""
        return self

    def open(self) -> None:
        """Connect."""
        self.is_open = True

    def ask(
        self,
        method: str,
        segments: tuple[str, ...],
        body: bytes = b"",
        *,
        params: Any = None,
        **_: Any,
    ) -> Answer:
        """One request."""
        try:
            return self._network.carry(method, segments, body, params)
        except ConnectionLost:
            self.is_open = False
            raise

    def cut(self) -> None:
        """Nothing is under way between two turns."""

    def close(self) -> None:
        """End it."""
        self.is_open = False


@dataclass
class Device:
    """One file and whoever sends from it.

    Attributes:
        path: the file.
        rows_max: its bound.
        keep: settled entries that it keeps.
    """

    path: Path
    rows_max: int
    keep: int
    outbox: Outbox = field(init=False)
    line: Line = field(init=False)
    sender: Sender = field(init=False)


@dataclass
class Books:
    """What the world knows of every entry, by its number.

    Attributes:
        put: numbers that were accepted, and the stream and order they were put in.
        places: (box, stream, sequence) that each has had.
        at_risk: may be stored twice.
        lost: in a file that was replaced, or in a box that was given up when it was copied.
        holes, skipped: places that a report or a skip covers.
    """

    put: dict[int, str] = field(default_factory=dict)
    places: dict[int, set[tuple[str, str, int]]] = field(default_factory=dict)
    at_risk: set[int] = field(default_factory=set)
    requeued: set[int] = field(default_factory=set)
    lost: set[int] = field(default_factory=set)
    covered: set[tuple[str, str, int]] = field(default_factory=set)
    forks: int = 0


class World:
    """One run.

    Args:
        seed: of everything that happens.
        folder: where files are; empty.
        steps: how many things happen.
        clones: whether files are copied and put back.
        restores: whether the server goes back.
    """

    def __init__(
        self, seed: int, folder: Path, *, steps: int = 300, clones: bool, restores: bool
    ) -> None:
        self.chance = random.Random(seed)
        self.folder = folder
        self.clones, self.restores = clones, restores
        self.server = Server(folder / "server")
        self.network = Network(self.server, self.chance)
        self.now_ms = 1_800_000_000_000
        self.number = 0
        self.files = 0
        self.books = Books()
        self.backup: Path | None = None
        self.copy: tuple[Device, Path, set[int], set[tuple[int, str]]] | None = None
        keep = self.chance.choice([0, 0, 5, 1000])
        rows_max = self.chance.choice([1_000_000, 1_000_000, 15])
        self.devices = [self._device(rows_max, keep)]
        self.devices[0].path.parent.mkdir(exist_ok=True)
        self._open(self.devices[0])
        try:
            for _ in range(steps):
                self._step()
            self._end()
        finally:
            for device in self.devices:
                self._close(device)
            self.server.app.close()

    # What happens

    def _step(self) -> None:
        device = self.chance.choice(self.devices)
        luck = self.chance.random()
        for below, act in (
            (0.30, self._put),
            (0.72, self._turn),
            (0.80, lambda _: self.network.deliver_late()),
            (0.84, self._crash),
            (0.86, self._expire),
            (0.88, self._requeue),
            (0.90, self._replace),
            (0.925, self._clone),
            (0.95, self._put_back),
            (0.975, lambda _: self._back_up()),
            (1.01, lambda _: self._restore()),
        ):
            if luck < below:
                act(device)
                break
        self._look(device)

    def _entry(self, stream: str) -> dict[str, Any]:
        self.number += 1
        self.books.put[self.number] = stream
        elems: Any = {"n": self.number, "stream": stream}
        if self.chance.random() < 0.08:  # refused for good; the number is in its place all the same
            return {"path": PATH, "elems": elems, "fhash": 5}
        return {"path": PATH, "elems": elems}

    def _put(self, device: Device) -> None:
        stream = self.chance.choice(STREAMS)
        entries = [self._entry(stream) for _ in range(self.chance.choice([1, 1, 3, 9]))]
        device.outbox.put_many(stream, entries)
        self._look(device)

    def _replace(self, device: Device) -> None:
        device.outbox.replace("rare", self._entry("rare"))

    def _turn(self, device: Device) -> None:
        self.now_ms += 50
        box = device.outbox.box
        on_the_way = self._numbers(device, sent=True)
        device.sender.wake()
        device.sender.turn()
        if device.outbox.box != box:
            self.books.forks += 1
            self.books.at_risk |= on_the_way
            if self.clones and self.restores:  # the report of the fork says so of all of them
                for number, places in self.books.places.items():
                    if any(place[0] == box for place in places):
                        self.books.lost.add(number)

    def _crash(self, device: Device) -> None:
        self._close(device)
        self._open(device)

    def _expire(self, device: Device) -> None:
        self.now_ms += self.chance.choice([0, 1000, 20_000])
        device.outbox.expire()

    def _requeue(self, device: Device) -> None:
        for letter in device.outbox.dead()[:1]:
            self.books.requeued.add(json.loads(letter.entry)["elems"]["n"])
            device.outbox.requeue(letter.id)

    def _clone(self, device: Device) -> None:
        if not self.clones or len(self.devices) > 2:
            return
        self.books.at_risk |= self._numbers(device, kept=True)
        twin = self._device(device.rows_max, device.keep)
        self._close(device)
        shutil.copyfile(device.path, twin.path)
        self._open(device)
        self._open(twin)
        self.devices.append(twin)

    def _put_back(self, device: Device) -> None:
        if not self.clones or self.restores:  # both together is not promised
            return
        if self.copy is None or self.copy[0] is not device:
            numbers, places = self._numbers(device, kept=True), self._waiting(device)
            self._close(device)
            target = self.folder / f"put-back-{self.number}-{self.files}.db"
            shutil.copyfile(device.path, target)
            self._open(device)
            self.copy = (device, target, numbers, places)
            return
        _, old, numbers, places = self.copy
        self.copy = None
        dead = {json.loads(letter.entry)["elems"]["n"] for letter in device.outbox.dead()}
        # also what waits in both, but was put anew here from the dead letters
        gone = {number for number, _ in self._waiting(device) - places}
        self.books.lost |= gone | dead
        self.books.at_risk |= numbers
        self._close(device)
        shutil.copyfile(old, device.path)
        self._open(device)

    def _back_up(self) -> None:
        if self.restores:
            self.backup = self.server.copy()

    def _restore(self) -> None:
        if self.restores and self.backup is not None:
            self.server.put_back(self.backup)
            self.backup = None
            self.network.late.clear()
            for device in self.devices:
                device.line.close()

    # The end

    def _end(self) -> None:
        self._drain()
        if self.backup is not None and self.chance.random() < 0.5:
            self._restore()  # while nobody has anything to send
        for device in self.devices:
            device.sender._desk._greet_at = 0.0  # the five minutes are up
        self._drain()
        self._check()

    def _drain(self) -> None:
        self.network.is_well = True
        self.network.late.clear()
        for device in self.devices:
            device.sender.turn()
        for _ in range(400):
            for device in self.devices:
                self._turn(device)
                self._look(device)
            if not any(device.outbox.unsettled() for device in self.devices):
                return
        left = [device.outbox.unsettled() for device in self.devices]
        raise Differs(f"entries never leave the outbox: {left}, {self.devices[0].sender.state}")

    def _check(self) -> None:
        books = self.books
        stored = self.server.stored()
        count = Counter(elems["n"] for elems in stored)
        dead = {
            json.loads(letter.entry)["elems"]["n"]
            for device in self.devices
            for letter in device.outbox.dead()
        }
        for number, places in sorted(books.places.items()):
            said = number in dead | books.lost or bool(places & books.covered)
            if not count[number] and not said:
                raise Differs(f"entry {number} is lost without a word: {places}")
        unknown = set(count) - set(books.places)
        if unknown:
            raise Differs(f"stored and never put: {sorted(unknown)[:5]}")
        free = books.at_risk | books.requeued
        twice = [number for number in count if count[number] > 1 and number not in free]
        if twice:
            raise Differs(f"stored twice: {[(n, books.places[n]) for n in sorted(twice)[:5]]}")
        last: dict[str, int] = {}
        if len(self.devices) == 1:
            for elems in stored:
                if elems["n"] in free:
                    continue
                if elems["n"] <= last.get(elems["stream"], 0):
                    raise Differs(f"out of order: {elems} after {last}")
                last[elems["stream"]] = elems["n"]

    # Books

    def _look(self, device: Device) -> None:
        """Note where every entry stands, and what was skipped."""
        box = device.outbox.box
        for stream in device.outbox.unsettled():
            for row in device.outbox.peek(stream, limit=100_000):
                if row.skip == "refused":
                    continue  # its dead letter is what speaks for it
                if row.skip is not None:
                    self.books.covered |= {
                        (box, stream, at) for at in range(row.sequence, row.to + 1)
                    }
                else:
                    number = json.loads(row.entry or b"")["elems"]["n"]
                    self.books.places.setdefault(number, set()).add((box, stream, row.sequence))

    def _numbers(self, device: Device, *, sent: bool = False, kept: bool = False) -> set[int]:
        """The entries in a file: those that wait, those of them that went out, or all of them."""
        found = set()
        query = (
            "SELECT row.entry FROM row JOIN stream ON stream.id = row.stream WHERE entry NOTNULL"
        )
        query += "" if kept else " AND state = 0"
        query += " AND row.sequence <= stream.sent" if sent else ""
        for (entry,) in device.outbox._file.read(lambda db: db.execute(query).fetchall()):
            found.add(json.loads(entry)["elems"]["n"])
        return found

    def _waiting(self, device: Device) -> set[tuple[int, str]]:
        """The entries that wait in a file, and the message that each has there."""
        query = "SELECT entry, message FROM row WHERE entry NOTNULL AND state = 0"
        found = device.outbox._file.read(lambda db: db.execute(query).fetchall())
        return {(json.loads(entry)["elems"]["n"], message) for entry, message in found}

    def _heard(self, report: Report) -> None:
        if report.kind == "hole":
            facts = report.facts
            self.books.covered |= {
                (facts["box"], facts["stream"], at) for at in range(facts["from"], facts["to"] + 1)
            }

    def _device(self, rows_max: int, keep: int) -> Device:
        self.files += 1
        return Device(self.folder / f"device{self.files}.db", rows_max, keep)

    def _open(self, device: Device) -> None:
        device.outbox = Outbox(
            str(device.path),
            rows_max=device.rows_max,
            when_full="drop oldest",
            age_max_s=15,
            keep_acked=device.keep,
            durable=False,
            clock_ms=lambda: self.now_ms,
            on_event=self._heard,
        )
        device.line = Line(self.network)
        device.sender = Sender(device.outbox, device.line, lanes=1, start=False)

    def _close(self, device: Device) -> None:
        device.sender.close(0)
        device.outbox.close()
