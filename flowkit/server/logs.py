"""What is logged, and how: one line for each event, as text or as JSON.

Rules: a line never holds a token, a body, a header or a query string (filters hold data). What
came from outside cannot begin a line of its own or hide anything: characters that a terminal obeys
are written as escapes. Every line about a request carries its id, which its answer has as
``X-Request-Id`` and the client's error shows.

Source: ``docs/howto/operate_a_server.rst``.
"""

from __future__ import annotations

import logging
import re
import secrets
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TextIO

import orjson

from flowkit import limits
from flowkit.green import Cell, NativeQueue, start_thread

__all__ = ["Aside", "Formatter", "access", "configure", "request_id", "request_id_of", "under"]

_ACCESS = logging.getLogger("flowkit.access")
_WELL_FORMED = re.compile(rf"[!-~]{{1,{limits.request_id_chars_max}}}")
_OBEYED = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_LEVELS = {"CRITICAL": "error", "ERROR": "error", "WARNING": "warning", "INFO": "info"}

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
"""The id of the request that this greenlet or thread works for."""


def request_id_of(headers: Mapping[str, str]) -> str:
    """The caller's ``X-Request-Id`` if it is well-formed, else a new one."""
    given = headers.get("x-request-id", "")
    return given if _WELL_FORMED.fullmatch(given) else secrets.token_hex(8)


@contextmanager
def under(name: str) -> Iterator[None]:
    """Lines logged in the block are about the request of that id."""
    token = request_id.set(name)
    try:
        yield
    finally:
        request_id.reset(token)


def access(**facts: Any) -> None:
    """Log a request that was answered."""
    if _ACCESS.isEnabledFor(logging.INFO):
        _ACCESS.info("request", extra={"facts": facts})


def configure(log_format: str, *, access_log: bool, stream: TextIO | None = None) -> None:
    """Let flowkit's loggers write to *stream* (stderr); for a process that is the server's own.

    Args:
        log_format: ``text`` or ``json``.
        access_log: whether the lines of ``access`` are written.
    """
    handler = Aside(stream or sys.stderr)
    handler.setFormatter(Formatter(log_format))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    _ACCESS.setLevel(logging.INFO if access_log else logging.WARNING)


class Aside(logging.Handler):
    """Writes lines on a thread of its own: who reads them slowly, or not at all, stops nobody.

    Beyond ``limits.log_lines_max`` lines that wait, further ones are dropped; how many, is said
    once there is room again.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self._lines: Any = NativeQueue()
        self._dropped = 0
        start_thread(self._write, name="flowkit-log")

    def emit(self, record: logging.LogRecord) -> None:
        """Let the line wait for its turn."""
        line = self.format(record)
        if self._lines.qsize() >= limits.log_lines_max:
            self._dropped += 1
            return
        if self._dropped:
            dropped, self._dropped = self._dropped, 0
            said = f"{dropped} lines were dropped here: they were not read in time"
            lost = logging.LogRecord(__name__, logging.WARNING, "", 0, said, (), None)
            self._lines.put(self.format(lost))
        self._lines.put(line)

    def flush(self) -> None:
        """Wait until what waits is written, for a moment at most; logging does that at the end."""
        written: Cell[None] = Cell()
        self._lines.put(written)
        written.wait(limits.log_flush_s)

    def _write(self) -> None:
        while True:
            line = self._lines.get()
            if isinstance(line, Cell):
                line.set(None)
                continue
            try:
                self._stream.write(f"{line}\n")
                self._stream.flush()
            except (OSError, ValueError):  # nobody is there any more
                continue


class Formatter(logging.Formatter):
    """A record as one line.

    JSON: an object with ``time`` (UTC, milliseconds), ``level``, ``logger``, ``message``, and where
    there are such ``request_id``, ``error`` (a traceback) and the facts of the access log. Text:
    the same as words, what has a name as ``name=value``.
    """

    def __init__(self, log_format: str = "text") -> None:
        super().__init__()
        self._write = _as_json if log_format == "json" else _as_text

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        facts: dict[str, Any] = {}
        asked = request_id.get()
        if asked is not None:
            facts["request_id"] = asked
        facts |= getattr(record, "facts", {})
        if record.exc_info and record.exc_info[0] is not None:
            facts["error"] = self.formatException(record.exc_info)
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        at = f"{seconds}.{int(record.created % 1 * 1000):03d}Z"
        level = _LEVELS.get(record.levelname, record.levelname.lower())
        return self._write(at, level, record.name, record.getMessage(), facts)


def _as_json(at: str, level: str, name: str, message: str, facts: dict[str, Any]) -> str:
    line = {"time": at, "level": level, "logger": name, "message": message, **facts}
    return _plain(orjson.dumps(_encodable(line), default=str).decode())


def _as_text(at: str, level: str, name: str, message: str, facts: dict[str, Any]) -> str:
    said = "".join(f" {key}={_word(value)}" for key, value in facts.items())
    return _plain(f"{at} {level} {name} {message}{said}")


def _word(value: Any) -> str:
    text = str(value)
    if text and text.isprintable() and not set(text) & {" ", '"', "="}:
        return text
    return orjson.dumps(_encodable(text)).decode()


def _encodable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {key: _encodable(each) for key, each in value.items()}
    return value


def _plain(line: str) -> str:
    """*line* without what a terminal would obey."""
    return _OBEYED.sub(lambda found: f"\\u{ord(found[0]):04x}", line)
