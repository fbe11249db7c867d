"""Scripts at work on this platform: what they are given, and who answers their calls.

A call of the ``Flow`` library takes the way of any request of the account that made the script:
the same table, handlers and rights, in a reading job of its own.

Source: protocol 6.2 (the argument), 6.4 (library ``Flow``), 2.3 (typed elements in ``v0.*``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import orjson

from flowkit.errors import Forbidden
from flowkit.protocol.envelope import Request
from flowkit.query.places import Places
from flowkit.server.auth import credential_of
from flowkit.server.call import Call
from flowkit.server.elements import show_typed
from flowkit.server.metrics import Metrics
from flowkit.server.routes import resolve
from flowkit.server.runs import Ran
from flowkit.server.scripts.library import Asking, Library
from flowkit.server.scripts.pool import Outcome, Script, ScriptPool
from flowkit.server.settings import Settings
from flowkit.server.store.base import Reader, Store, StoredDrop, StoredObject

__all__ = ["Scripting"]


class Scripting:
    """The scripts of one platform.

    Args:
        store: what they may read.
        settings: of the server.
        clock_ms: now, in milliseconds since 1970-01-01 UTC.
        places: the table of postal codes.
        metrics: counts the runs.
    """

    def __init__(
        self,
        store: Store,
        settings: Settings,
        *,
        clock_ms: Callable[[], int],
        places: Places | None,
        metrics: Metrics,
    ) -> None:
        self._store = store
        self._settings = settings
        self._clock_ms = clock_ms
        self._places = places
        self._library = Library(self._ask, allow_hosts=settings.allow_hosts)
        self.pool = ScriptPool(
            self._answer_call,
            on_run=lambda outcome: metrics.count("flowkit_script_runs_total", outcome),
        )

    @property
    def is_available(self) -> bool:
        """Whether scripts can run here."""
        return self.pool.is_available

    def run(self, track: StoredObject, drop: StoredDrop) -> Ran:
        """Run the script of a Track on a drop."""
        return self._ran(track, drop, is_dry=False)

    def try_out(self, track: StoredObject, drop: StoredDrop) -> Ran:
        """Run it without effects outside: nothing is fetched."""
        return self._ran(track, drop, is_dry=True)

    def close(self) -> None:
        """End the processes."""
        self.pool.close()

    def _ran(self, track: StoredObject, drop: StoredDrop, *, is_dry: bool) -> Ran:
        typed = bool(track.state.get("typed"))
        doc = drop.doc
        if typed:
            doc = doc | {"elems": show_typed(doc["elems"], drop.types)}
        script = Script(track.doc["js"], track.account, typed)
        outcome: Outcome = self.pool.run(script, doc, is_dry=is_dry)
        return Ran(outcome.value, outcome.error, outcome.log)

    def _answer_call(self, script: Script, name: str, args: Sequence[Any]) -> Any:
        return self._library.answer(script.account, name, args, typed=script.typed)

    def _ask(self, name: str, typed: bool, asking: Asking) -> Any:
        """Answer what a script asks, as the owner of its account may see it."""
        segments = ("v0.1" if typed else "v4.0", name, *asking.segments)
        match = resolve(asking.method, segments)
        call = Call(
            request=Request(asking.method, segments),
            args=match.args,
            params=asking.params,
            known=match.route.known,
            typed=match.typed,
            now_ms=self._clock_ms(),
            settings=self._settings,
            places=self._places,
        )
        call.set_body(asking.body)
        work = match.route.handler(call)

        def job(reader: Reader) -> Any:
            account = reader.account(name)
            if account is None:
                raise Forbidden("The account of this script is gone")
            return work(reader, credential_of(reader, account, call.now_ms)).body

        # parts of an answer may be text already
        return orjson.loads(orjson.dumps(self._store.read(job)))
