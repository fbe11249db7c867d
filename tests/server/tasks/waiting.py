"""Waiting for tasks to have run."""

from __future__ import annotations

from typing import Any

from flowkit.green import monotonic, sleep


def ran(nora: Any, route: str, task_id: str, times: int) -> dict[str, Any]:
    """The task once it has run so often."""
    until = monotonic() + 20
    while True:
        task = nora.ask("GET", f"/{route}/{task_id}").body
        if task["runCt"] >= times:
            return task
        assert monotonic() < until, f"{task} has not run {times} times"
        sleep(0.01)
