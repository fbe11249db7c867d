"""The client library's own subscriptions and live views in a world, through a proxy of faults.

They are held against the same histories by the same checker: what their users are told, changes,
gaps and shifts, is written down as a transcript. A user is not told of connections, so each entry
is laid into the earliest era in which its change is part of the history.

Source: ``positions`` 10 (what is promised).
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from time import monotonic, sleep
from typing import Any

from flowkit.client.api import API
from flowkit.client.credentials import Token
from flowkit.client.live.values import Change, Gap, Shift
from flowkit.errors import FlowKitError
from flowkit.protocol.positions import Position
from flowkit.testing import FaultProxy
from tests.together.feeds.checker import Asked, Heard, Transcript, Violation, check
from tests.together.feeds.history import History, Key, View
from tests.together.feeds.wire import Door

__all__ = ["Guests", "Listener", "Watcher"]

HEARTBEAT_S, SILENCE_S, TIMEOUT_S = 0.2, 0.8, 1.5


@dataclass(slots=True)
class Listener:
    """One subscription of the library, from the start of its flow.

    Attributes:
        asked: what it is, for the checker.
        path: the flow.
        subscription: the library's own.
        told: what its user was told, in order.
        error: what ended it.
    """

    asked: Asked
    path: str
    subscription: Any = None
    told: list[Change | Gap] = field(default_factory=list)
    error: Exception | None = None

    @property
    def place(self) -> str | None:
        """Where it stands; None before it has heard anything."""
        place: str | None = self.subscription.place
        return None if place == "start" else place

    def iterate(self) -> None:
        """Take everything from an iterated subscription, until it is closed."""
        try:
            for event in self.subscription.events():
                self.told.append(event)
        except FlowKitError as error:
            self.error = error

    def check(self, histories: Mapping[str, History], last_era: int) -> list[Violation]:
        """What it was told, against what happened."""
        if self.error is not None or self.subscription.is_closed:
            return [Violation("client", str(self.asked), f"it has ended: {self.error}")]
        place = self.place
        if place is None:
            return [Violation("client", str(self.asked), "it has no place at rest")]
        scribe = _Scribe(histories)
        for event in self.told:
            scribe.note(event)
        heard = scribe.finish(place, last_era)
        transcript = Transcript(self.asked, heard, progress_max=1, last_era=last_era)
        transcript.is_users = True
        return check(transcript, histories)


@dataclass(slots=True)
class Watcher:
    """One live view of the library.

    Attributes:
        asked, path: as of a listener.
        filter: the same filter as text.
        view: the library's own.
        shifts: what its user was told, in order.
    """

    asked: Asked
    path: str
    filter: str
    view: Any = None
    shifts: list[Shift] = field(default_factory=list)

    @property
    def place(self) -> str | None:
        """Where it stands, about."""
        place: str | None = self.view.place
        return place

    @property
    def followed(self) -> tuple[View, str]:
        """What a user holds who does what the shifts say, and the first that did not fit."""
        held: View = {}
        fault = ""
        for shift in list(self.shifts):
            if held.get(shift.id) != shift.before:
                fault = fault or f"{shift.kind} of {shift.id}, which is held otherwise"
            if shift.after is None:
                held.pop(shift.id, None)
            else:
                held[shift.id] = shift.after
        return held, fault

    @property
    def is_settled(self) -> bool:
        """Whether its shifts have come as far as it has."""
        return self.followed[0] == self.view.snapshot()

    def check(self, wanted: View | None) -> list[Violation]:
        """What it holds, against what a find answers; None: there is no flow at its path."""
        if self.view.is_closed:
            return [Violation("client", str(self.asked), f"it has ended: {self.view.error}")]
        held = self.view.snapshot()
        followed, fault = self.followed
        found = []
        if held != (wanted or {}):
            found.append(Violation("I5 find", str(self.asked), f"{held} and not {wanted}"))
        if fault or followed != held:
            found.append(Violation("I5 shifts", str(self.asked), fault or f"{followed}: {held}"))
        return found


class Guests:
    """Some listeners and views of one process, behind one proxy.

    Args:
        door: the server; it must answer at the same address after each start.
        chance: what happens to them.
        filters, kinds, paths: what there is to draw from.
        count: how many of each.
    """

    def __init__(
        self,
        door: Door,
        chance: random.Random,
        *,
        filters: Any,
        kinds: Any,
        paths: tuple[str, ...],
        count: int = 3,
    ) -> None:
        self._chance = chance
        self.proxy = FaultProxy(door.url, seed=chance.random().hex())
        self._calm = FaultProxy(door.url, seed=chance.random().hex())
        token = Token(door.account, door.secret)
        self._api = API(token, host=self.proxy.url, timeout=TIMEOUT_S)
        # The runner of iterations has the usual figures: it notices silence after a minute.
        self._calm_api = API(token, host=self._calm.url, timeout=TIMEOUT_S)
        self._ws = self._api.websocket.connect(heartbeat_s=HEARTBEAT_S, silence_s=SILENCE_S)
        self.cuts = 0
        self.listeners: list[Listener] = []
        self.watchers: list[Watcher] = []
        for number in range(count):
            text, matches = chance.choice(filters)
            changes, path = chance.choice(kinds), chance.choice(paths)
            slow = chance.choice(("disconnect", "drop"))
            about = f"client's listener of {'+'.join(sorted(changes))} {text!r} {slow}"
            asked = Asked(f"L{number}", matches, changes, slow=slow, about=about)
            self._listen(Listener(asked, path), text, is_iterated=number == 0)
            text, matches = chance.choice(filters)
            slow = chance.choice(("disconnect", "squash"))
            about = f"client's view {text!r} {slow}"
            asked = Asked(f"V{number}", matches, frozenset(), True, slow, about)
            self._watch(Watcher(asked, chance.choice(paths), text))
        self._ws.start()
        self._wait_begun()

    def _wait_begun(self) -> None:
        """Until everything is confirmed: a first subscribe to a flow that is gone is refused."""
        until = monotonic() + TIMEOUT_S * 10
        for each in [*self.listeners, *self.watchers]:
            while each.place is None:
                assert monotonic() < until, f"{each.asked} did not begin"
                sleep(0.005)

    def _listen(self, listener: Listener, text: str, *, is_iterated: bool) -> None:
        asked = listener.asked
        options: dict[str, Any] = {"since": "start", "slow": asked.slow, "changes": asked.changes}
        filters = [text] if text else []
        if is_iterated:
            drops = self._calm_api.drop(listener.path)
            listener.subscription = drops.subscribe(*filters, **options)
            threading.Thread(target=listener.iterate, daemon=True).start()
        else:
            told = listener.told.append
            listener.subscription = self._ws.subscribe(
                listener.path, filter=filters, on_change=told, on_gap=told, **options
            )
        self.listeners.append(listener)

    def _watch(self, watcher: Watcher) -> None:
        watcher.view = self._ws.subscribe(
            watcher.path,
            filter=[watcher.filter] if watcher.filter else [],
            live=True,
            slow=watcher.asked.slow,
            on_change=watcher.shifts.append,
        )
        self.watchers.append(watcher)

    # -- what happens to them

    def look(self) -> None:
        """Now and then a fault of the network."""
        chance, proxy = self._chance, self.proxy
        if chance.random() > 0.01:
            return
        direction = chance.choice(("up", "down", "both"))
        fault = chance.choice(("reset", "close", "after", "stall", "half", "slice", "hole"))
        if fault == "reset":
            self.cuts += proxy.reset() + self._calm.reset()
        elif fault == "close":
            self.cuts += proxy.close_connections() + self._calm.close_connections()
        elif fault == "after":
            proxy.set(direction, reset_after_bytes=chance.randrange(20_000))
            self._calm.set(direction, reset_after_bytes=chance.randrange(20_000))
        elif fault == "stall":
            proxy.set(direction, stall=chance.random() * 0.2)
        elif fault == "half":
            self.cuts += proxy.half_open("up" if direction == "both" else direction)
        elif fault == "slice":
            proxy.set(direction, slice_bytes=chance.choice((1, 7, 1_000)))
        elif chance.random() < 0.2:
            proxy.set(direction, black_hole=True)
        if chance.random() < 0.5:
            self.heal()

    def heal(self) -> None:
        """A good network from now on."""
        self.proxy.heal()
        self._calm.heal()

    # -- rest

    def is_at_rest(
        self, heads: Mapping[str, int], there: set[str], find: Callable[[str, str], View | None]
    ) -> bool:
        """Whether each is at the head of its flow, or has none."""
        for listener in self.listeners:
            place = listener.place
            if listener.path not in there:
                continue
            if place is None or heads.get(place.split(".")[1]) != int(place.rpartition(".")[2]):
                return False
        return all(
            watcher.is_settled
            and watcher.view.snapshot() == (find(watcher.path, watcher.filter) or {})
            for watcher in self.watchers
        )

    def close(self) -> None:
        """End them all."""
        for listener in self.listeners:
            listener.subscription.close()
        self._ws.close()
        self._api.close()
        self._calm_api.close()
        self.proxy.close()
        self._calm.close()


def _key(text: str) -> Key:
    position = Position.parse(text)
    return position.epoch, position.seq


class _Scribe:
    """Lays what a user was told into the eras of the histories."""

    def __init__(self, histories: Mapping[str, History]) -> None:
        self._histories = histories
        self._era = 0
        self._place: Position | None = None
        self._heard: list[Heard] = []

    def note(self, event: Change | Gap) -> None:
        """One thing that the user was told."""
        if isinstance(event, Change):
            position = Position.parse(event.position)
            said = {"type": "message", "change": event.kind, "value": event.drop}
            self._say(position, {**said, "position": event.position})
            return
        since, to = Position.parse(str(event.since)), Position.parse(str(event.to))
        if event.reason != "forgotten":  # the library stood there, and its user was not told so
            self._stand(since)
        said = {"type": "gap", "reason": event.reason, "from": str(event.since), "to": str(to)}
        self._say(to, said if event.reason == "forgotten" else {**said, "position": str(to)})

    def finish(self, place: str, last_era: int) -> list[Heard]:
        """The transcript, with the place at which the subscription rests."""
        self._say(Position.parse(place), {"type": "position", "position": place}, last_era)
        return self._heard

    def _stand(self, since: Position) -> None:
        history = self._histories.get(since.flow_id)
        if history is None or since == self._place:
            return
        if any(era >= self._era and history.has(era, _key(str(since))) for era in history.eras):
            self._say(since, {"type": "position", "position": str(since)})

    def _say(self, position: Position, said: dict[str, Any], least_era: int = 0) -> None:
        history = self._histories[position.flow_id]
        key = position.epoch, position.seq
        lost = _key(said["from"]) if said.get("reason") in ("rolled-back", "unknown") else None
        least = max(self._era, least_era)
        eras = [e for e in sorted(history.eras) if e >= least and history.has(e, key)]
        if lost is not None:  # the gap was told where the place is not known, if that is anywhere
            eras.sort(key=lambda era: history.has(era, lost))
        era = eras[0] if eras else least
        before = self._place
        if era != self._era or before is None or before.flow_id != position.flow_id:
            self._era = era
            self._reply(position, history)
        said["resource"] = position.flow_id
        self._heard.append(Heard(self._era, said))
        if "position" in said:
            self._place = position

    def _reply(self, position: Position, history: History) -> None:
        """The reply that the library must have had before the next message."""
        began, place = position, self._place
        if place is None or place.flow_id != position.flow_id:
            first = history.in_era(self._era)
            began = Position(position.flow_id, first[0].epoch if first else position.epoch, 0)
        elif history.has(self._era, (place.epoch, place.seq)):
            began = place
        body = {"position": str(began), "mode": "replay", "resource": position.flow_id}
        since = None if place is None else str(place)
        self._heard.append(Heard(self._era, body, since, is_reply=True))
        if place is None:
            self._place = began
