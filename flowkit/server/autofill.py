"""Names that a stream makes for messages and batches that come without one.

A pattern is text with placeholders in braces: ``{device}-{date}``. Numbers may be padded with
zeros to a width: ``{counter:6}``. What a placeholder stands for is the same whenever an entry is
sent again, except for ``{counter}``, which is given when the message is stored, and for dates where
the sender told no time; both are safe, since what was stored is not stored again.

Pure. Source: ``docs/reference/streams.rst``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256

from flowkit.errors import BadRequest
from flowkit.server.marks import Origin

__all__ = ["BATCH", "MESSAGE", "Facts", "check_pattern", "filled"]

_PLACEHOLDER = re.compile(r"\{([a-z]+)(?::([0-9]{1,2}))?\}")


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a message.

    Attributes:
        device: the name of its device.
        stream: the name of its stream.
        batch: the name of its batch, empty for none.
        counter: how many messages the device has sent to the stream, this one included.
        at_ms: its time, in ms since 1970 UTC.
        scope: whose lines it comes on.
        origin: where it stands in its line.
    """

    device: str
    stream: str
    batch: str
    counter: int
    at_ms: int
    scope: str
    origin: Origin

    @property
    def uuid(self) -> str:
        """128 bits of a digest of where the message stands, written like a UUID."""
        place = (self.scope, *self.origin.line, str(self.origin.sequence), self.origin.message)
        digits = sha256("\n".join(place).encode()).hexdigest()
        return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:32]))

    def time(self, form: str) -> str:
        """The time of the message in UTC."""
        return datetime.fromtimestamp(self.at_ms / 1000, UTC).strftime(form)


_ANYWHERE: Mapping[str, Callable[[Facts], str]] = {
    "device": lambda facts: facts.device,
    "stream": lambda facts: facts.stream,
    "box": lambda facts: facts.origin.box,
    "date": lambda facts: facts.time("%Y-%m-%d"),
    "hour": lambda facts: facts.time("%H"),
    "minute": lambda facts: facts.time("%M"),
}

BATCH = _ANYWHERE
"""Placeholders of ``batchIdPattern``: none that differs from message to message."""

MESSAGE: Mapping[str, Callable[[Facts], str]] = {
    **_ANYWHERE,
    "batch": lambda facts: facts.batch,
    "counter": lambda facts: str(facts.counter),
    "ms": lambda facts: str(facts.at_ms),
    "sequence": lambda facts: str(facts.origin.sequence),
    "time": lambda facts: facts.time("%H%M%S"),
    "uuid": lambda facts: facts.uuid,
}
"""Placeholders of ``messageIdPattern``."""


def check_pattern(
    member: str, pattern: str, known: Mapping[str, Callable[[Facts], str]]
) -> list[str]:
    """What is wrong with a pattern, one sentence each.

    Args:
        member: where it stands.
        pattern: the text.
        known: the placeholders that it may have.
    """
    names = {found[1] for found in _PLACEHOLDER.finditer(pattern)}
    faults = [
        f"{member}: {{{name}}} is no placeholder here, there are {', '.join(sorted(known))}"
        for name in sorted(names - set(known))
    ]
    rest = _PLACEHOLDER.sub("", pattern)
    if "{" in rest or "}" in rest:
        faults.append(f"{member}: a brace stands for nothing; write {{name}} or {{name:width}}")
    if known is MESSAGE and not (names & {"counter", "uuid"} or {"box", "sequence"} <= names):
        faults.append(
            f"{member}: needs {{uuid}}, {{counter}}, or {{box}} with {{sequence}}:"
            " two messages of one name are one message"
        )
    return faults


def filled(pattern: str, known: Mapping[str, Callable[[Facts], str]], facts: Facts) -> str:
    """The name that a pattern makes of a message.

    Raises:
        BadRequest: its time is beyond what a date can say.
    """
    try:
        return _PLACEHOLDER.sub(
            lambda found: known[found[1]](facts).zfill(int(found[2] or 0)), pattern
        )
    except (ValueError, OverflowError, OSError):
        raise BadRequest(f"at: {facts.at_ms} is no time") from None
