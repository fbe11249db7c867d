"""One run of a Track: what it makes of a drop, and what of that may be written.

Asking filter and script needs no store. What may be written is decided in a job of the store, with
the rights and the Flows of that moment: everything that a Track makes of one drop, or nothing.

Source: protocol 6.1 (life of a drop), 6.2 (results, failures), 6.5 (hops), 8.2 (rights at each
run), 1.5 (what a destination's filter refuses is no failure).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from flowkit.errors import BadRequest, PlatformError, UsageError
from flowkit.query.match import predicate
from flowkit.query.parse import parse
from flowkit.query.places import Places
from flowkit.server import ingest
from flowkit.server.auth import Credential, credential_of, may
from flowkit.server.checking import Checked
from flowkit.server.store.base import Delivery, Reader, StoredDrop, StoredFlow, StoredObject
from flowkit.server.tracks import Output, TrackFault, destinations_of, outputs_of, passed_on

__all__ = [
    "CREATOR_GONE",
    "Made",
    "Ran",
    "RunScript",
    "Writing",
    "checked_output",
    "creator_of",
    "make",
    "passes",
    "refusal_of",
]

CREATOR_GONE = "the creator of the Track is gone"


@dataclass(frozen=True, slots=True)
class Ran:
    """What came of one run of a script: its value, or one sentence that says what went wrong.

    Attributes:
        value: as JSON has it.
        error: None if all went well.
        log: what the script wrote to its console, entry by entry.
    """

    value: Any = None
    error: str | None = None
    log: tuple[Any, ...] = ()


RunScript = Callable[[StoredObject, StoredDrop], Ran]
"""Runs the script of a Track on a drop; never raises for a fault of the script."""


@dataclass(frozen=True, slots=True)
class Made:
    """What a Track makes of one drop.

    Attributes:
        delivery: the drop.
        outputs: what it writes; None if its filter said no.
        failure: one sentence, None if all went well.
        is_typed: whether its outputs may have typed elements (``v0.*``).
    """

    delivery: Delivery
    outputs: tuple[Output, ...] | None = None
    failure: str | None = None
    is_typed: bool = False


def make(
    track: StoredObject,
    delivery: Delivery,
    *,
    now_ms: int,
    places: Places | None,
    run_script: RunScript,
) -> Made:
    """Ask a Track's filter and script about a drop; nothing is written.

    Args:
        track: stored, or proposed (``handlers/track.py`` tries Tracks that are not saved).
        delivery: the drop.
        now_ms: the time for ``AGE``, in ms since 1970 UTC.
        places: the table of postal codes.
        run_script: runs its ``js``, if it has any.
    """
    doc, drop = track.doc, delivery.drop
    try:
        if not passes(track, drop, now_ms=now_ms, places=places):
            return Made(delivery)
        destinations = destinations_of(doc)
        if not doc.get("js"):
            return Made(delivery, tuple(passed_on(drop.doc, destinations)))
        ran = run_script(track, drop)
        if ran.error is not None:
            return Made(delivery, (), ran.error)
        outputs = tuple(outputs_of(ran.value, destinations))
        return Made(delivery, outputs, is_typed=bool(track.state.get("typed")))
    except TrackFault as error:
        return Made(delivery, (), str(error))


def passes(track: StoredObject, drop: StoredDrop, *, now_ms: int, places: Places | None) -> bool:
    """Whether a Track's filter lets a drop through.

    Raises:
        TrackFault: the filter cannot be evaluated (a postal code that is not known any more).
    """
    text = track.doc.get("filter")
    try:
        return not text or predicate(parse(text))(drop.doc, now_ms, places, drop.types)
    except (UsageError, BadRequest) as error:
        raise TrackFault(f"the filter cannot be evaluated: {error}") from None


def checked_output(made: Made, output: Output) -> Checked:
    """The body of an output, as that of any drop that is written.

    Raises:
        BadRequest: a script wrote what no drop may have.
    """
    drop = made.delivery.drop
    if output.body.get("elems") is drop.doc["elems"]:  # passed on as it is
        return Checked(dict(output.body), drop.types)
    return ingest.check_drop(dict(output.body), typed=made.is_typed, addressed=True)


class Writing:
    """Decides about the outputs of Tracks and writes them, in one job of the store.

    Args:
        writer: the transaction; a ``Reader`` will do to decide without writing.
        who: with whose rights; None refuses everything.
        now_ms: the time of the job, in ms since 1970 UTC.
        places: the table of postal codes.
    """

    def __init__(
        self, writer: Any, who: Credential | None, now_ms: int, places: Places | None
    ) -> None:
        self._writer = writer
        self._who = who
        self._now_ms = now_ms
        self._places = places
        self._flows: dict[str, StoredFlow | None] = {}

    def admitted(self, made: Made) -> tuple[Made, list[ingest.Arrival]]:
        """What may be written of one drop: all outputs, or none and a failure.

        What the filter of a destination refuses is left out and is no failure.
        """
        who = self._who
        if who is None:
            return replace(made, outputs=(), failure=CREATOR_GONE), []
        if made.failure is not None or not made.outputs:
            return made, []
        accepted: list[tuple[Output, ingest.Arrival]] = []
        try:
            for output in made.outputs:
                arrival = self._arrival(made, output)
                try:
                    ingest.admit(self._writer, who, arrival)
                except ingest.RefusedByFilter:
                    continue
                accepted.append((output, arrival))
        except PlatformError as error:
            return replace(made, outputs=(), failure="; ".join(error.errors)), []
        outputs = tuple(output for output, _ in accepted)
        return replace(made, outputs=outputs), [arrival for _, arrival in accepted]

    def written(self, made: Made) -> Made:
        """Write all outputs of one drop, or none."""
        made, arrivals = self.admitted(made)
        for arrival in arrivals:
            assert self._who is not None
            ingest.create(self._writer, self._who, arrival)
        return made

    def _arrival(self, made: Made, output: Output) -> ingest.Arrival:
        drop = made.delivery.drop
        checked = checked_output(made, output)
        checked.members["path"] = output.path
        checked.members["parentDropId"] = {"flowId": drop.doc["flowId"], "dropId": drop.doc["id"]}
        if output.path not in self._flows:
            self._flows[output.path] = self._writer.flow_at(output.path)
        return ingest.Arrival(
            checked,
            self._now_ms,
            self._places,
            flow=self._flows[output.path],
            hops=made.delivery.hops + 1,
        )


def creator_of(reader: Reader, track: StoredObject, now_ms: int) -> Credential | None:
    """The rights with which a Track runs; None if its creator is gone."""
    account = reader.account_of(str(track.doc.get("creatorId")))
    return credential_of(reader, account, now_ms) if account is not None else None


def refusal_of(reader: Reader, track: StoredObject, who: Credential | None) -> str | None:
    """Why a Track may not run at all, None if it may (8.2)."""
    if who is None:
        return CREATOR_GONE
    source = track.doc["source"]
    flow = reader.flow_at(source)
    verdict = may(who, "dropRead", source, public=flow is not None and bool(flow.doc.get("public")))
    return None if verdict else verdict.why_not
