"""The child processes that run scripts: started when needed, bounded in number, time and memory.

A run belongs to one child for as long as it lasts. A script that takes too long dies with its
child, and so does what crashes it; the next run gets a new one. Nothing that a script does makes
``run`` raise. Pipes are read on native threads, so waiting for a script never stalls an event loop.

A Track keeps how its script sees elements: plain, or typed if it was saved under ``v0.*``
(``Script.typed``, from the Track's ``state``).

Source: protocol 6.2 to 6.4 (function, environment, library), 7.1 (tasks).
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import queue
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from flowkit import limits
from flowkit.errors import PlatformError, UsageError
from flowkit.green import (
    NativeLock,
    NativeQueue,
    Slots,
    has_hub,
    in_thread,
    monotonic,
    start_thread,
)
from flowkit.server.scripts.child import Frames
from flowkit.server.scripts.library import sentences

__all__ = ["NOT_ENABLED", "AnswerCall", "Outcome", "Script", "ScriptPool"]

_log = logging.getLogger(__name__)

NOT_ENABLED = "JavaScript is not enabled on this server (pip install 'flowkit[js]')"

AnswerCall = Callable[["Script", str, Sequence[Any]], Any]
"""Answers a call of the ``Flow`` library: the script, the name (``Drop.find``), the arguments."""

_CHILD = Path(__file__).with_name("child.py")
_KEPT_VARIABLES = ("PATH", "LD_LIBRARY_PATH", "LANG", "PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV")
_WATCH_S = 0.05


@dataclass(frozen=True, slots=True)
class Script:
    """A script and in whose name it runs.

    Attributes:
        source: one function expression, or for a task an expression that makes a ``Task``.
        account: the account whose rights its calls have.
        typed: whether it sees typed elements (``v0.*``).
    """

    source: str
    account: str
    typed: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one run.

    Attributes:
        value: what the script returned, as JSON has it.
        error: one sentence; None if all went well.
        log: what it wrote to its console: ``{"message": text}`` each.
        calls: what it asked of the library: ``{"call": name, "args": […]}`` each.
    """

    value: Any = None
    error: str | None = None
    log: tuple[Any, ...] = ()
    calls: tuple[Any, ...] = ()


class ScriptPool:
    """Runs scripts.

    Args:
        answer_call: answers the calls of the library; raises ``PlatformError`` or ``UsageError``.
        processes: most children at once.
        time_s, memory_bytes: what one run may take.
        on_run: told ``done`` or ``failed`` after each run.
    """

    def __init__(
        self,
        answer_call: AnswerCall,
        *,
        processes: int = limits.script_processes_max,
        time_s: float = limits.script_time_s,
        memory_bytes: int = limits.script_memory_bytes,
        on_run: Callable[[str], object] = lambda _outcome: None,
    ) -> None:
        self._answer_call = answer_call
        self._time_s = time_s
        self._memory_bytes = memory_bytes
        self._on_run = on_run
        self._slots = Slots(processes)
        self._lock = NativeLock()
        self._idle: list[_Child] = []
        self._busy: set[_Child] = set()
        self._watch: Any = NativeQueue()
        self._is_watching = False
        self._is_closed = False

    @cached_property
    def is_available(self) -> bool:
        """Whether scripts can run here: the extra ``js`` is installed."""
        return find_spec("quickjs") is not None and _lodash_path() is not None

    def run(self, script: Script, argument: Any, *, is_dry: bool = False) -> Outcome:
        """Run a function on one argument.

        Args:
            script: the function.
            argument: anything that JSON has.
            is_dry: refuse what has effects outside (``Flow.Http``); it stands in ``calls``.
        """
        return self._ordered(script, {"do": "run", "argument": _text(argument)}, is_dry=is_dry)

    def check(self, source: str) -> str | None:
        """What keeps *source* from being a function, in one sentence; None if it is one."""
        return self._ordered(Script(source, ""), {"do": "check"}, is_dry=True).error

    def task_request(self, script: Script) -> Outcome:
        """The ``request`` of the ``Task`` that a script makes: ``uri``, ``method`` … (7.1)."""
        return self._ordered(script, {"do": "request"}, is_dry=False)

    def task_drops(self, script: Script, response_text: str) -> Outcome:
        """What the ``callback`` of the ``Task`` makes of an answer."""
        order = {"do": "callback", "argument": _text(response_text)}
        return self._ordered(script, order, is_dry=False)

    def close(self) -> None:
        """End all children; runs under way fail."""
        with self._lock:
            self._is_closed = True
            children = [*self._idle, *self._busy]
            self._idle.clear()
            was_watching, self._is_watching = self._is_watching, False
        for child in children:
            child.kill()
        if was_watching:
            self._watch.put(None)

    # One run

    def _ordered(self, script: Script, order: dict[str, Any], *, is_dry: bool) -> Outcome:
        if not self.is_available:
            return Outcome(error=NOT_ENABLED)
        if len(script.source) > limits.script_chars_max:
            return Outcome(error=f"the script has more than {limits.script_chars_max} characters")
        with self._slots:
            if has_hub():  # a pipe must not block the loop of this thread
                outcome: Outcome = in_thread(self._run, script, order, is_dry).get()
            else:
                outcome = self._run(script, order, is_dry)
        self._on_run("failed" if outcome.error else "done")
        return outcome

    def _run(self, script: Script, order: dict[str, Any], is_dry: bool) -> Outcome:
        try:
            child = self._take()
        except OSError as error:
            return Outcome(error=f"no process for the script could be started: {error}")
        if child is None:
            return Outcome(error="the server is stopping")
        calls: list[Any] = []
        try:
            last = self._talk(child, script, order, calls, is_dry=is_dry)
        except (OSError, ValueError):
            last = None
        late = child.is_late
        self._give_back(child, is_sound=last is not None)
        if last is None:
            why = (
                f"the script took longer than {self._time_s:g} s"
                if late
                else ("the script ended its process: it needs more memory than it may have")
            )
            return Outcome(error=why, calls=tuple(calls))
        log = tuple(json.loads(last.get("log", "[]")))
        if "error" in last:
            return Outcome(error=last["error"], log=log, calls=tuple(calls))
        return Outcome(json.loads(last["value"]), log=log, calls=tuple(calls))

    def _talk(
        self,
        child: _Child,
        script: Script,
        order: dict[str, Any],
        calls: list[Any],
        *,
        is_dry: bool,
    ) -> dict[str, Any] | None:
        """Give the order and answer calls until the last frame; None if the child has died."""
        child.frames.put(
            {
                **order,
                "source": script.source,
                "memory_bytes": self._memory_bytes,
                "time_s": self._time_s,
                "answer_bytes": limits.body_array_bytes_max,
            }
        )
        while (message := child.frames.get()) is not None and "call" in message:
            name, args = message["call"], json.loads(message["args"])
            calls.append({"call": name, "args": args})
            child.frames.put({"text": _text(self._answered(script, name, args, is_dry=is_dry))})
        return message

    def _answered(
        self, script: Script, name: str, args: list[Any], *, is_dry: bool
    ) -> dict[str, Any]:
        if is_dry and name.startswith("Http."):
            said = f"Flow.{name} is not done while a script is only tried"
            return {"error": {"message": said, "details": [said]}}
        try:
            return {"value": self._answer_call(script, name, args)}
        except (PlatformError, UsageError) as error:
            said_all = sentences(error)
            return {"error": {"message": said_all[0], "details": said_all}}
        except Exception:  # noqa: BLE001 - a fault of ours is the script's error, not our end
            _log.exception("a call of a script failed: Flow.%s", name)
            said = f"Flow.{name} failed; the server's log says why"
            return {"error": {"message": said, "details": [said]}}

    # Children

    def _take(self) -> _Child | None:
        """An idle child, or a new one; None once the pool is closed."""
        with self._lock:
            if self._is_closed:
                return None
            child = self._idle.pop() if self._idle else None
        if child is None:
            child = _Child()
        child.begin(self._time_s)
        with self._lock:
            if self._is_closed:
                child.kill()
            self._busy.add(child)
            begins, self._is_watching = not self._is_watching, True
        if begins:
            start_thread(self._kill_late, name="flowkit-script-watch")
        self._watch.put(child)
        return child

    def _give_back(self, child: _Child, *, is_sound: bool) -> None:
        child.end()
        with self._lock:
            self._busy.discard(child)
            keep = is_sound and not child.is_late and not self._is_closed
            if keep:
                self._idle.append(child)
        if not keep:
            child.kill()
            child.close()

    def _kill_late(self) -> None:
        """Kill children whose time is up; asleep while none is busy."""
        word: object = True
        while word is not None:
            with self._lock:
                busy = list(self._busy)
            for child in busy:
                child.kill_if_late()
            with contextlib.suppress(queue.Empty):
                word = self._watch.get(timeout=_WATCH_S if busy else None)


class _Child:
    """One child process and the pipes to it."""

    def __init__(self) -> None:
        down_read, down_write = os.pipe()
        up_read, up_write = os.pipe()
        actions = [
            (os.POSIX_SPAWN_DUP2, down_read, 0),
            (os.POSIX_SPAWN_DUP2, up_write, 1),
            (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
        ]
        environ = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
        try:
            self._pid = os.posix_spawn(
                sys.executable,
                [sys.executable, str(_CHILD), str(_lodash_path())],
                environ,
                file_actions=actions,
                setsid=True,  # Ctrl-C is for the server, which then ends its children
            )
        finally:
            os.close(down_read)
            os.close(up_write)
        self._reading = os.fdopen(up_read, "rb")
        self._writing = os.fdopen(down_write, "wb")
        self.frames = Frames(self._reading, self._writing)
        self._lock = NativeLock()
        self._until: float | None = None
        self._is_dead = False
        self.is_late = False

    def begin(self, time_s: float) -> None:
        """A run begins, which may take so long."""
        self._until = monotonic() + time_s

    def end(self) -> None:
        """The run has ended."""
        with self._lock:
            self._until = None

    def kill_if_late(self) -> None:
        """Kill it if its run takes too long."""
        with self._lock:
            late = self._until is not None and monotonic() > self._until
            self.is_late = self.is_late or late
        if late:
            self.kill()

    def kill(self) -> None:
        """End the process, whatever it does; may be called twice and from any thread."""
        with self._lock:
            if self._is_dead:
                return
            self._is_dead = True
            os.kill(self._pid, signal.SIGKILL)
            _reap(self._pid)

    def close(self) -> None:
        """Close the pipes; for who talks to it alone."""
        for pipe in (self._writing, self._reading):
            try:
                pipe.close()
            except OSError:  # what was not written yet cannot be any more
                continue


def _reap(pid: int) -> None:
    """Take the exit of a killed child from the system."""
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:
        return


def _text(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _lodash_path() -> str | None:
    """Where lodash is, None if it is not installed."""
    if find_spec("xstatic") is None or find_spec("xstatic.pkg.lodash") is None:
        return None
    from xstatic.pkg import lodash

    return f"{lodash.BASE_DIR}/lodash.min.js"
