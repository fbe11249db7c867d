"""A world: a real server, many writers, readers of every kind, and everything that can go wrong.

A world is made of a seed. It goes through rounds; in each, writers write while readers read a
little, stall, lose their connections between any two messages and come back; then the server may be
stopped, killed, or put back to an older copy. At the end of each round everything comes to rest,
and the checker holds what every reader heard against what truly happened.

Threads and the network have a will of their own: a seed gives the same plan, not the same
interleaving.

Source: ``positions`` 11.
"""

from __future__ import annotations

import random
import time
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any, Self
from urllib.parse import quote

from flowkit.server.store.verify import verify
from tests.together.feeds import journal
from tests.together.feeds.checker import Asked, Violation, check
from tests.together.feeds.guests import Guests
from tests.together.feeds.history import History, Predicate
from tests.together.feeds.servers import Server
from tests.together.feeds.wire import Connection, Door, Reader, Refused
from tests.together.feeds.writers import Caller, Passed, Writer

__all__ = ["Plan", "World"]

PATHS = ("/nora/kept", "/nora/other")

FILTERS: tuple[tuple[str, Predicate], ...] = (
    ("", lambda _doc: True),
    ("n >= 5", lambda doc: doc["elems"]["n"] >= 5),
    ("n % 3 == 0", lambda doc: doc["elems"]["n"] % 3 == 0),
    ("tag == 'a'", lambda doc: doc["elems"]["tag"] == "a"),
    ("n > 7 && tag != 'b'", lambda doc: doc["elems"]["n"] > 7 and doc["elems"]["tag"] != "b"),
    ("version > 0 || n == 1", lambda doc: doc["version"] > 0 or doc["elems"]["n"] == 1),
    ("tag =~ /^[bc]$/", lambda doc: doc["elems"]["tag"] in "bc"),
    ("n == 77", lambda _doc: False),
)
"""Filters as text, and what they mean, said a second time."""

KINDS = (
    frozenset({"create", "replace"}),
    frozenset({"create"}),
    frozenset({"create", "replace", "update"}),
    frozenset({"create", "replace", "update", "delete", "evict"}),
    frozenset({"delete", "evict"}),
)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a world is made of.

    Attributes:
        rounds: how many times everything comes to rest.
        writers, writes: threads, and writes of each in a round.
        connections: of readers.
        restarts: what happens to the server between rounds: ``stop``, ``kill``, ``back``.
        restart_share: how often that is.
        cut_share: how often a connection is cut, per look at it.
        stall_share: how often nothing is read from one for a while, per look at it.
        patience_s: how long everything may take to come to rest.
        guests: how many subscriptions and views of the client library there are; the server must
            answer at the same address after each start then.
    """

    rounds: int = 3
    writers: int = 3
    writes: int = 60
    connections: int = 4
    restarts: tuple[str, ...] = ("stop", "back")
    restart_share: float = 0.5
    cut_share: float = 0.03
    stall_share: float = 0.1
    patience_s: float = 15.0
    guests: int = 0


@dataclass(slots=True)
class Counts:
    """What went on, for the record.

    Attributes:
        writes: requests of writers that were answered.
        drops: changes that began a state of a drop, in all histories.
        disconnects: connections of readers that ended, whoever ended them.
        too_slow: those that the server ended because their reader was too slow.
        restarts: stops, kills and roll-backs of the server.
        messages, gaps, skips, snapshots: what readers heard; skips are the gaps of slow readers.
    """

    writes: int = 0
    drops: int = 0
    disconnects: int = 0
    too_slow: int = 0
    restarts: int = 0
    messages: int = 0
    gaps: int = 0
    skips: int = 0
    snapshots: int = 0

    def __iadd__(self, other: Counts) -> Self:
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        return self


@dataclass(slots=True)
class _Group:
    """Readers that share connections.

    Attributes:
        readers: who.
        connection: the present one.
    """

    readers: list[Reader]
    connection: Connection | None = None
    looks_to_skip: int = 0


@dataclass(slots=True)
class World:
    """One world.

    Args:
        server: the server, not yet started.
        seed: of everything that is drawn.
        plan: what it is made of.

    Attributes:
        histories: what truly happened, as far as it has been read.
        counts: what went on.
        last_refusal: why a connection was last not made, for reports.
    """

    server: Server
    seed: str
    plan: Plan = field(default_factory=Plan)
    histories: dict[str, History] = field(default_factory=dict)
    counts: Counts = field(default_factory=Counts)
    last_refusal: str = ""
    _passed: Passed = field(default_factory=dict)
    _era: int = 0
    _door: Door | None = None
    _guests: Guests | None = None
    _chance: random.Random = field(init=False)
    _groups: list[_Group] = field(init=False)

    def __post_init__(self) -> None:
        self._chance = random.Random(self.seed)
        self._groups = []

    def run(self) -> list[Violation]:
        """Go through all rounds; the violations of the first round that has any."""
        self._start()
        try:
            for number in range(self.plan.rounds):
                writers = self._write(number)
                restart = ""
                if self._chance.random() < self.plan.restart_share:
                    restart = self._chance.choice(self.plan.restarts)
                self._live_on(writers, kill=restart == "kill")
                if restart:
                    self._restart(restart)
                found = [Violation("5xx", w.name, fault) for w in writers for fault in w.faults]
                self._come_to_rest()
                found += self._check()
                if found:
                    return found
            return []
        finally:
            self._end()

    # -- the server

    def _start(self) -> None:
        self._era += 1
        self._door = self.server.start(self._era)
        if self._era > 1:
            return
        journal.install(self.server.file)
        caller = Caller(self._door)
        for path in PATHS:
            body: dict[str, Any] = {"path": path, "capacity": self._chance.choice((2, 5, 8))}
            body["history"] = self._chance.choice((0, 3, 30))
            assert caller.ask("POST", "/flow", body)[0] == 201
        caller.close()
        self._groups = [self._group(number) for number in range(self.plan.connections)]
        if self.plan.guests:
            self._guests = Guests(
                self._door,
                random.Random(self.seed),
                filters=FILTERS,
                kinds=KINDS,
                paths=PATHS,
                count=self.plan.guests,
            )

    def _group(self, number: int) -> _Group:
        return _Group(
            [self._reader(f"{number}-{at}") for at in range(self._chance.choice((1, 2, 3)))]
        )

    def _reader(self, name: str) -> Reader:
        text, matches = self._chance.choice(FILTERS)
        live = self._chance.random() < 0.5
        slow = self._chance.choice(("disconnect", "squash" if live else "drop"))
        changes = frozenset() if live else self._chance.choice(KINDS)
        what = "view" if live else f"listener of {'+'.join(sorted(changes))}"
        asked = Asked(name, matches, changes, live, slow, f"{what} {text!r} {slow}")
        since = "start" if not live and self._chance.random() < 0.3 else None
        return Reader(asked, text, {"path": self._chance.choice(PATHS)}, since)

    def _write(self, number: int) -> list[Writer]:
        assert self._door is not None
        writers = [
            Writer(
                self._door,
                PATHS,
                seed=f"{self.seed} {number} {at}",
                count=self.plan.writes,
                passed=self._passed,
            )
            for at in range(self.plan.writers)
        ]
        for writer in writers:
            writer.start()
        return writers

    def _restart(self, how: str) -> None:
        """Stop the server, and start it on what there is, or on an older copy of it."""
        self.counts.restarts += 1
        if how != "kill":
            self.server.stop()
        self._read_journal()
        assert verify(self.server.file) == []
        if how == "back":
            self.server.go_back()
        self._start()
        for group in self._groups:  # a client that hears nothing for a while gives up
            self._cut(group)

    def _end(self) -> None:
        self.counts.drops = sum(
            len(
                {
                    change.key
                    for changes in history.eras.values()
                    for change in changes
                    if change.new
                }
            )
            for history in self.histories.values()
        )
        for group in self._groups:
            self._cut(group)
        if self._guests is not None:
            self.counts.disconnects += self._guests.cuts
            self._guests.close()
        self.server.stop()
        assert verify(self.server.file) == []

    def _read_journal(self) -> None:
        journal.read(self.server.file, self.histories, self._era, self._passed)

    # -- the readers

    def _live_on(self, writers: list[Writer], *, kill: bool) -> None:
        """Let readers live beside the writers until those are done, or the server is killed."""
        kill_at = self._chance.randrange(1, self.plan.writers * self.plan.writes)
        copy_at = self._chance.randrange(1, self.plan.writers * self.plan.writes)
        has_copied = "back" not in self.plan.restarts
        while any(writer.is_alive() for writer in writers):
            done = sum(writer.done for writer in writers)
            if not has_copied and done >= copy_at:
                has_copied = True
                self.server.copy()
            if kill and done >= kill_at:
                self.server.kill()
                break
            self._look(self._chance.choice(self._groups))
            if self._guests is not None:
                self._guests.look()
        for writer in writers:
            writer.join()
        self.counts.writes += sum(writer.done for writer in writers)

    def _look(self, group: _Group) -> None:
        """One step of the readers of one connection."""
        chance = self._chance
        if group.looks_to_skip:
            group.looks_to_skip -= 1
            time.sleep(0.0005)
            return
        if group.connection is None:
            if chance.random() < 0.5:
                self._connect(group)
            return
        if chance.random() < self.plan.cut_share:
            self._cut(group, reset=chance.random() < 0.5)
        elif chance.random() < self.plan.stall_share:
            group.looks_to_skip = chance.choice((20, 100, 400))
        else:
            self._read(group, chance.choice((1, 2, 5, 50)))
            self._ask_again(group)

    def _connect(self, group: _Group) -> None:
        assert self._door is not None
        small = self._chance.choice((0, 2_304, 2_304))
        try:
            group.connection = Connection(self._door, group.readers, receive_bytes=small)
            for reader in self._chance.sample(group.readers, len(group.readers)):
                group.connection.subscribe(reader)
        except (OSError, Refused, HTTPException) as error:
            self.last_refusal = repr(error)
            self._cut(group)

    def _read(self, group: _Group, messages: int, timeout_s: float = 0.0) -> int:
        if group.connection is None:
            return 0
        try:
            return group.connection.read(messages, timeout_s)
        except (OSError, Refused):
            self.counts.too_slow += group.connection.close_code == 1013
            self._cut(group)
            return 0

    def _ask_again(self, group: _Group, share: float = 0.05) -> None:
        """Readers that the server has ended subscribe again, as those by path do."""
        for reader in group.readers:
            if group.connection is None:
                return
            is_asked = group.connection.has_asked(reader)
            if not reader.is_there and not is_asked and self._chance.random() < share:
                try:
                    group.connection.subscribe(reader)
                except OSError:
                    self._cut(group)

    def _cut(self, group: _Group, *, reset: bool = False) -> None:
        connection, group.connection = group.connection, None
        for reader in group.readers:
            reader.is_there = False
        if connection is not None:
            self.counts.disconnects += 1
            with suppress(OSError):
                connection.cut(reset=reset)

    # -- rest

    def _come_to_rest(self) -> None:
        """Let everything arrive: until each reader is at the head of its flow, or for too long."""
        until = time.monotonic() + self.plan.patience_s
        if self._guests is not None:
            self._guests.heal()
        while time.monotonic() < until:
            for group in self._groups:
                if group.connection is None:
                    self._connect(group)
                while self._read(group, 50, 0.002):
                    pass
                self._ask_again(group, 1.0)
            if self._is_at_rest():
                break
        for group in self._groups:  # what is too much would come now
            self._read(group, 1_000, 0.02)

    def _is_at_rest(self) -> bool:
        """Whether every reader is at the head of its flow, or has none to subscribe to."""
        heads = journal.heads(self.server.file)
        there = journal.paths(self.server.file)
        return self._readers_are_at_rest(heads, there) and (
            self._guests is None or self._guests.is_at_rest(heads, there, self._find)
        )

    def _readers_are_at_rest(self, heads: dict[str, int], there: set[str]) -> bool:
        return all(
            heads.get(reader.place.split(".")[1]) == int(reader.place.rpartition(".")[2])
            if reader.is_settled and reader.place is not None
            else reader.where["path"] not in there
            for group in self._groups
            for reader in group.readers
        )

    def _check(self) -> list[Violation]:
        """Hold what everyone heard against what happened."""
        self._read_journal()
        there = journal.paths(self.server.file)
        found: list[Violation] = []
        for group in self._groups:
            for reader in group.readers:
                transcript = reader.transcript
                transcript.progress_max = 1
                if reader.asked.live:
                    transcript.rest = self._find(reader.where["path"], reader.filter)
                transcript.last_era = self._era
                transcript.is_at_rest = reader.where["path"] in there
                found += check(transcript, self.histories)
                self._count(reader)
        if self._guests is not None:
            found += self._check_guests(self._guests, there)
        return found

    def _check_guests(self, guests: Guests, there: set[str]) -> list[Violation]:
        found: list[Violation] = []
        for listener in guests.listeners:
            if listener.path in there:
                found += listener.check(self.histories, self._era)
        for watcher in guests.watchers:
            found += watcher.check(self._find(watcher.path, watcher.filter))
        return found

    def _count(self, reader: Reader) -> None:
        heard = reader.transcript.heard[reader.counted :]
        kinds = [each.said.get("type") for each in heard]
        reader.counted = len(reader.transcript.heard)
        self.counts.messages += len(kinds)
        self.counts.gaps += kinds.count("gap")
        self.counts.skips += sum(each.said.get("reason") == "slow" for each in heard)
        self.counts.snapshots += kinds.count("snapshot") // 2

    def _find(self, path: str, text: str) -> dict[str, Any] | None:
        """What a find with that filter answers; None where the flow is not there."""
        assert self._door is not None
        caller = Caller(self._door)
        target = f"/drop?path={quote(path, safe='')}&limit=1000&filter={quote(text, safe='')}"
        status, envelope = caller.ask("GET", target)
        caller.close()
        if status == 404:
            return None
        assert status == 200, envelope
        return {drop["id"]: drop for drop in envelope["body"]}
