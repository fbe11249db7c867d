"""A process that runs scripts: reads a run, answers what came of it, and reads the next.

It imports nothing of the server and is started anew, never forked. Each run has a JavaScript
context of its own, so nothing of one script is left for the next. It ends when its parent closes
the pipe. Time is the parent's business: QuickJS cannot call out while it watches the clock, so a
script that takes too long dies with its process. Where the parent was killed, the alarm that is
set for each run ends what would run for ever.

A frame is four bytes of length and a JSON text. Down: ``{"do", "source", "argument", …}``; up:
``{"call", "args"}`` as often as the script calls, each answered by a frame, and in the end
``{"value"}`` or ``{"error"}``, with ``log``.

Source: protocol 6.2, 6.3 (environment), 7.1 (tasks).
"""

from __future__ import annotations

import json
import re
import resource
import signal
import struct
import sys
from pathlib import Path
from typing import IO, Any

__all__ = ["Frames", "main"]

ADDRESS_SPACE_BYTES = 1 << 30
"""A second bound, on the whole process, behind that of QuickJS on the script."""

STACK_BYTES = 1 << 20

ALARM_AFTER_S = 1.0
"""Seconds after the end of a run's time at which the process dies, if nobody has ended it."""

_HEADER = struct.Struct(">I")
_PLACE = re.compile(r"<input>:(\d+)")
_END = re.compile(r"[;\s]+\Z")


class Frames:
    """Messages over a pair of pipes."""

    def __init__(self, reading: IO[bytes], writing: IO[bytes]) -> None:
        self._reading = reading
        self._writing = writing

    def put(self, message: dict[str, Any]) -> None:
        """Send a message."""
        text = json.dumps(message, separators=(",", ":")).encode()
        self._writing.write(_HEADER.pack(len(text)) + text)
        self._writing.flush()

    def get(self) -> dict[str, Any] | None:
        """The next message; None at the end."""
        header = self._reading.read(_HEADER.size)
        if len(header) < _HEADER.size:
            return None
        size = _HEADER.unpack(header)[0]
        text = self._reading.read(size)
        if len(text) < size:
            return None
        message: dict[str, Any] = json.loads(text)
        return message


class _Run:
    """One run of one script, in a context of its own."""

    def __init__(self, frames: Frames, order: dict[str, Any], texts: Texts) -> None:
        import quickjs

        self._frames = frames
        self._texts = texts
        context = self._context = quickjs.Context()
        context.set_memory_limit(order["memory_bytes"])
        context.set_max_stack_size(STACK_BYTES)
        context.add_callable("__ask", self._ask)
        context.add_callable("__lodash", texts.lodash)
        context.eval(f"globalThis.__doors = {texts.environment}(globalThis, __ask, __lodash)")
        self._doors = {
            name: context.eval(f"__doors.{name}")
            for name in ("check", "run", "request", "callback", "log")
        }
        context.eval(
            "delete globalThis.__ask; delete globalThis.__lodash; delete globalThis.__doors"
        )

    def answer(self, order: dict[str, Any]) -> dict[str, Any]:
        """The last frame of this run."""
        import quickjs

        try:
            value = self._value(order)
            answer = {"value": value}
            if len(value) > order["answer_bytes"]:
                answer = {"error": f"the script returned more than {order['answer_bytes']} bytes"}
        except (quickjs.JSException, quickjs.StackOverflow) as error:
            answer = {"error": told(str(error))}
        except (ValueError, MemoryError, TypeError) as error:
            answer = {"error": f"the script cannot be run: {error}"}
        try:
            answer["log"] = self._doors["log"]()
        except (quickjs.JSException, quickjs.StackOverflow, MemoryError):
            answer["log"] = "[]"
        return answer

    def _value(self, order: dict[str, Any]) -> str:
        """What the order asks for, as JSON text."""
        made = self._compiled(order["source"], is_task=order["do"] in ("request", "callback"))
        if order["do"] in ("check", "run"):
            kind = self._doors["check"](made)
            if kind != "function":
                raise ValueError(f"it is no function but {kind}")
            if order["do"] == "check":
                return "null"
        door = self._doors[order["do"]]
        result = door(made) if order["do"] == "request" else door(made, order["argument"])
        return str(result)

    def _compiled(self, source: str, *, is_task: bool) -> Any:
        """The value of an expression; semicolons behind it are no matter (6.2).

        Of a task the last parenthesis may be missing, as the original platform let it (7.1).
        """
        import quickjs

        text = _END.sub("", source)
        try:
            return self._context.eval(f"'use strict';({text}\n)")
        except quickjs.JSException as error:
            if not is_task or "SyntaxError" not in str(error):
                raise
            return self._context.eval(f"'use strict';({text})\n)")

    def _ask(self, name: str, args: str) -> str:
        """A call of the script, answered by the parent."""
        self._frames.put({"call": name, "args": args})
        answer = self._frames.get()
        if answer is None:
            sys.exit()  # the parent is gone
        return str(answer["text"])


class Texts:
    """The JavaScript that is ours or a library's, read once."""

    def __init__(self, lodash_path: str) -> None:
        self.environment = (Path(__file__).parent / "environment.js").read_text("utf-8").strip()
        self._lodash_path = lodash_path
        self._lodash = ""

    def lodash(self) -> str:
        """The text of lodash, read when a script first needs it."""
        if not self._lodash:
            self._lodash = Path(self._lodash_path).read_text("utf-8")
        return self._lodash


def told(text: str) -> str:
    """A JavaScript error as one sentence: the line, then what is wrong."""
    first, _, rest = text.partition("\n")
    if "out of memory" in first:
        return "the script needs more memory than it may have"
    place = _PLACE.search(rest)
    line = f"line {place[1]}: " if place else ""
    return line + first[:500]


def main(lodash_path: str) -> None:
    """Answer runs until the parent closes the pipe."""
    for which, most in (
        (resource.RLIMIT_AS, ADDRESS_SPACE_BYTES),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
    ):
        resource.setrlimit(which, (most, most))
    frames = Frames(sys.stdin.buffer, sys.stdout.buffer)
    texts = Texts(lodash_path)
    while (order := frames.get()) is not None:
        signal.setitimer(signal.ITIMER_REAL, order["time_s"] + ALARM_AFTER_S)
        frames.put(_Run(frames, order, texts).answer(order))
        signal.setitimer(signal.ITIMER_REAL, 0)


if __name__ == "__main__":
    main(sys.argv[1])
