"""API tasks: a script says what to fetch and makes Drops of the answer.

Source: protocol 7.1 (API task).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from flowkit import limits
from flowkit.server.outgoing import OutgoingError, fetch
from flowkit.server.scripts.pool import Script, ScriptPool
from flowkit.server.store.base import StoredObject
from flowkit.server.tasks.runs import Brought

__all__ = ["bring"]


def bring(task: StoredObject, *, pool: ScriptPool, allow_hosts: str) -> Brought:
    """Run a task: its request, then its callback."""
    script = Script(task.doc["js"], task.account, bool(task.state.get("typed")))
    asked = pool.task_request(script)
    if asked.error is not None:
        return Brought("ERROR", error=asked.error)
    fault = _fault(asked.value)
    if fault is not None:
        return Brought("ERROR", error=fault)
    try:
        fetched = fetch(
            str(asked.value.get("method") or "GET").upper(),
            str(asked.value["uri"]),
            _headers(asked.value.get("headers")),
            _body(asked.value.get("body")),
            timeout_s=limits.task_timeout_s,
            allow_hosts=allow_hosts,
        )
    except OutgoingError as error:
        return Brought("TIMEOUT" if error.timed_out else "ERROR", error=str(error))
    if fetched.status >= 400:
        return Brought("ERROR", error=f"the server answered {fetched.status}")
    made = pool.task_drops(script, fetched.body.decode("utf-8", "replace"))
    if made.error is not None:
        return Brought("ERROR", error=made.error)
    drops = made.value if isinstance(made.value, list) else [made.value]
    if made.value is None or not drops:
        return Brought("NO_NEW_DATA")
    if not all(isinstance(drop, dict) for drop in drops):
        return Brought("ERROR", error="the callback returned something that is no Drop")
    taken = ("elems", "fhash", "location")
    bodies = tuple({name: drop[name] for name in taken if name in drop} for drop in drops)
    return Brought("OK", bodies)


def _fault(request: Any) -> str | None:
    if not isinstance(request, dict) or not isinstance(request.get("uri"), str):
        return "the request of the Task has no uri"
    method = str(request.get("method") or "GET")
    return None if method.isalpha() else "the request of the Task has no proper method"


def _headers(given: Any) -> Mapping[str, str]:
    if not isinstance(given, dict):
        return {}
    return {str(name): str(value) for name, value in given.items()}


def _body(given: Any) -> bytes | None:
    if given is None:
        return None
    return given.encode() if isinstance(given, str) else json.dumps(given).encode()
