"""Somebody who asks an app: requests in one line, answers taken apart.

Shared by the tests of the application; it speaks to ``App.handle`` and nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flowkit.green import monotonic, sleep
from flowkit.protocol.envelope import Request, Response
from flowkit.server.app import App
from flowkit.server.auth import ensure_account
from flowkit.server.settings import Settings
from flowkit.server.store.sqlite import open_store


class Clock:
    """A clock that moves when it is told to."""

    def __init__(self, now_ms: int = 1_512_837_350_000) -> None:
        self.now_ms = now_ms

    def __call__(self) -> int:
        """Now, in milliseconds."""
        return self.now_ms


@dataclass
class Answered:
    """One answer, decoded."""

    response: Response
    status: int = 0
    head: dict[str, Any] = field(default_factory=dict)
    body: Any = None

    def __post_init__(self) -> None:
        envelope = json.loads(self.response.body)
        self.status, self.head, self.body = self.response.status, envelope["head"], envelope["body"]
        assert self.head["status"] == self.status
        assert self.head["ok"] is (self.status < 300)

    @property
    def errors(self) -> list[str]:
        """The sentences of a refusal."""
        return self.head["errors"]

    @property
    def notes(self) -> list[str]:
        """The messages without the known first sentence."""
        return self.head["messages"][1:]


@dataclass
class Visitor:
    """An account that asks; ``v4`` is the version in the address."""

    app: App
    clock: Clock
    account: str
    token: str | None
    version: str = "v4.0"

    def ask(
        self, method: str, target: str, body: Any = b"", *, headers: dict[str, str] | None = None
    ) -> Answered:
        """Ask for *target* below the account; *body* is JSON unless it is bytes."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        carried = {"x-auth-token": self.token} if self.token else {}
        address = f"/{self.version}/{self.account}{target}"
        request = Request.from_target(method, address, {**carried, **(headers or {})}, data)
        return Answered(self.app.handle(request))

    def as_version(self, version: str) -> Visitor:
        """The same account, speaking another version."""
        return Visitor(self.app, self.clock, self.account, self.token, version)

    def flow(self, path: str, **members: Any) -> dict[str, Any]:
        """A new flow."""
        made = self.ask("POST", "/flow", {"path": path, **members})
        assert made.status == 201, made.errors
        return made.body

    def drop(self, flow: dict[str, Any], **elems: Any) -> dict[str, Any]:
        """A new drop."""
        made = self.ask("POST", f"/drop/{flow['id']}", {"elems": elems})
        assert made.status == 201, made.errors
        return made.body

    def track(self, source: str, destination: Any = None, **members: Any) -> dict[str, Any]:
        """A new track."""
        body = {"source": source, "destination": destination, **members}
        made = self.ask("POST", "/track", {k: v for k, v in body.items() if v is not None})
        assert made.status == 201, made.errors
        return made.body

    def drops(self, flow: dict[str, Any]) -> list[dict[str, Any]]:
        """All drops of a flow, in the order of their storage, once no drop waits for a track."""
        wait_for_tracks(self.app)
        found = self.ask("GET", f"/drop/{flow['id']}?limit=1000&sort=creationDate&order=asc")
        assert found.status == 200, found.errors
        return sorted(found.body, key=lambda drop: drop["id"])

    def elems(self, flow: dict[str, Any], name: str = "n") -> list[Any]:
        """One element of all drops of a flow, in the order of their storage."""
        return [drop["elems"].get(name) for drop in self.drops(flow)]


def wait_for_tracks(app: App, timeout_s: float = 20.0) -> None:
    """Return once no drop waits for a track; what a track writes waits from the same commit on."""
    until = monotonic() + timeout_s
    while waiting := app.store.read(lambda reader: reader.waiting_tracks()):
        assert monotonic() < until, f"drops still wait for {waiting}"
        sleep(0.002)


@contextmanager
def visiting(folder: Path, **settings: Any) -> Iterator[tuple[Visitor, Visitor]]:
    """Two accounts, nora and bob, on a platform of their own."""
    clock = Clock()
    settled = Settings(data=folder, synchronous="OFF", **settings)
    store = open_store(
        folder,
        synchronous="OFF",
        clock_ms=clock,
        query_timeout_s=settled.query_timeout_s,
        answer_bytes_max=settled.answer_bytes_max,
    )
    app = App(store, settled, clock_ms=clock)
    try:
        nora, bob = (
            Visitor(app, clock, name, ensure_account(app.store, name)[1])
            for name in ("nora", "bob")
        )
        yield nora, bob
    finally:
        app.close()
