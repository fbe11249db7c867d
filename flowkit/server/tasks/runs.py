"""What a run of a task brought, and how it is stored: drops, place and report in one commit.

A crash before that commit lets the run happen again, and one after it finds the next run in its
time: so no drop is lost and none is stored twice.

Source: protocol 7.5 (scheduling, reports), 1.12 (status), 1.13 (report Flows).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from flowkit import limits
from flowkit.errors import BadRequest, PlatformError
from flowkit.query.places import Places
from flowkit.server import ingest
from flowkit.server.auth import Credential, credential_of
from flowkit.server.checking import Checked
from flowkit.server.store.base import StoredObject, Writer

__all__ = ["Brought", "Run", "report_path", "store_run"]

Status = Literal["OK", "ERROR", "TIMEOUT", "NO_NEW_DATA"]


@dataclass(frozen=True, slots=True)
class Brought:
    """What a run fetched.

    Attributes:
        status: ``OK``, or why there are no drops.
        drops: bodies of Drops, in the order in which they are written.
        state: what the task has to remember; None keeps what it remembers.
        error: one sentence, None if all went well.
    """

    status: Status
    drops: tuple[Mapping[str, Any], ...] = ()
    state: Mapping[str, Any] | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a task.

    Attributes:
        task: as it was when the run began.
        brought: what it fetched.
        started_ms, ended_ms: when it ran, in ms since 1970 UTC.
        next_ms: when it runs again.
    """

    task: StoredObject
    brought: Brought
    started_ms: int
    ended_ms: int
    next_ms: int
    places: Places | None = field(default=None, compare=False)


def report_path(account: str, task_id: str) -> str:
    """Where a task reports (1.13)."""
    return f"/{account}/:reports/{task_id}-report"


def store_run(writer: Writer, run: Run) -> Brought | None:
    """Store what a run brought; None if the task has gone or was changed meanwhile.

    Returns:
        what became of it: drops that could not be written make the run an ``ERROR``.
    """
    task = writer.object(run.task.kind, run.task.id)
    if task is None or task.doc != run.task.doc:
        return None
    account = writer.account(task.account)
    if account is None:
        return None
    who = credential_of(writer, account, run.ended_ms)
    brought, created = _written(writer, who, run)
    writer.update_object(
        task,
        {
            "lastRun": run.started_ms,
            "nextRun": run.next_ms,
            "runCt": int(task.doc.get("runCt", 0)) + 1,
            "status": brought.status,
        },
        editor=None,
        state=brought.state,
    )
    report: dict[str, Any] = {
        "status": brought.status,
        "runTime": run.ended_ms - run.started_ms,
        "dropsCreated": created,
    }
    if brought.error:
        report["error"] = brought.error
    write_report(writer, who, task, report, run.ended_ms)
    return brought


def write_report(
    writer: Writer, who: Credential, task: StoredObject, elems: Mapping[str, Any], now_ms: int
) -> None:
    """Write a report; its Flow is made if it is not there."""
    path = report_path(task.account, task.id)
    flow = writer.flow_at(path)
    if flow is None:
        members = {"path": path, "capacity": limits.reports_capacity}
        flow = writer.create_flow(members, creator=who.account.identity_id)
    arrival = ingest.Arrival(Checked({"elems": dict(elems)}, {}), now_ms, flow=flow)
    try:
        ingest.create(writer, who, arrival)
    except ingest.RefusedByFilter:
        return  # a filter that its owner gave to the reports


def _written(writer: Writer, who: Credential, run: Run) -> tuple[Brought, int]:
    """Write the drops, all or none; how many were written."""
    brought = run.brought
    arrivals: list[ingest.Arrival] = []
    refused: list[str] = []
    try:
        if len(brought.drops) > limits.task_drops_max:
            raise ValueError(
                f"the run brought {len(brought.drops)} Drops, the limit is {limits.task_drops_max}"
            )
        for checked in _checked(brought, refused):
            checked.members["path"] = run.task.doc["destination"]
            arrival = ingest.Arrival(checked, run.ended_ms, run.places)
            try:
                ingest.admit(writer, who, arrival)
            except ingest.RefusedByFilter:
                continue
            arrivals.append(arrival)
    except (PlatformError, ValueError) as error:
        said = "; ".join(error.errors) if isinstance(error, PlatformError) else str(error)
        return Brought("ERROR", error=said), 0
    for arrival in arrivals:
        ingest.create(writer, who, arrival)
    if refused:
        said = f"{len(refused)} of {len(brought.drops)} Drops cannot be stored: {refused[0]}"
        brought = replace(brought, status="OK" if arrivals else "ERROR", error=said)
    return brought, len(arrivals)


def _checked(brought: Brought, refused: list[str]) -> Iterator[Checked]:
    """The drops that can be; what is wrong with the others goes to *refused*."""
    for body in brought.drops:
        try:
            yield ingest.check_drop(dict(body), typed=False, addressed=True)
        except BadRequest as error:
            refused.append(error.errors[0])
