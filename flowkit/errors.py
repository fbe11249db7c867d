"""Every error that flowkit raises, in one tree.

There are branches because a caller can do different things about a failure::

    FlowKitError
    |- Cancelled             the call was stopped by its own caller before it ended
    |- UsageError            yours: raised before anything is sent; mend the call
    |  |- FilterError            a filter that cannot be built, rendered or evaluated
    |  |  `- FilterSyntaxError       text that is not a filter: line, column, caret, hint
    |  |- SettingsError          a missing or contradictory setting
    |  `- LimitError             a value beyond a bound of ``flowkit.limits``
    |     `- OutboxFull             an outbox has no room for what it was given
    |- OutboxError           the file of an outbox could not be written or read
    |- TransportError        nobody answered; ``retryable`` says whether asking again is safe
    |  |- ConnectError           no connection: nothing was sent
    |  |- DeadlineExceeded       the time was up
    |  |- ConnectionLost         the connection ended before the answer did
    |  `- ProtocolError          an answer came that is not the protocol
    `- PlatformError         the server said no; ``status``, ``errors`` …
       |- BadRequest             400 and every 4xx without a class of its own
       |- Forbidden              401, 403
       |- NotFound               404
       |- Conflict               409
       |- TooManyRequests        429
       `- ServerError            5xx

Each class takes facts, not a sentence, and builds its own message: callers branch on attributes,
never on text. No message, attribute or ``repr`` ever holds a token. The server raises the same
``PlatformError`` classes to refuse a request; ``protocol/envelope.py`` turns them into answers and
back.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = [
    "BadRequest",
    "Cancelled",
    "Conflict",
    "ConnectError",
    "ConnectionLost",
    "DeadlineExceeded",
    "FilterError",
    "FilterSyntaxError",
    "FlowKitError",
    "Forbidden",
    "LimitError",
    "NotFound",
    "OutboxError",
    "OutboxFull",
    "PlatformError",
    "ProtocolError",
    "ServerError",
    "SettingsError",
    "TooManyRequests",
    "TransportError",
    "UsageError",
    "platform_error",
]


class FlowKitError(Exception):
    """The base of every error of this library.

    Attributes:
        origin: ``file:line`` of the parallel call that failed, in the caller's own code; None for
            an error that was raised where the call stands.
    """

    origin: str | None = None

    def _called(self) -> str:
        return f" (called at {self.origin})" if self.origin else ""


class Cancelled(FlowKitError):
    """The call was stopped by its own caller before it ended; whether it was done is not known."""


class UsageError(FlowKitError):
    """The call itself is wrong; nothing was sent.

    Args:
        problem: what was given and what is wrong with it.
        hint: what to write instead, if that can be said.
    """

    def __init__(self, problem: str, *, hint: str | None = None) -> None:
        super().__init__(problem, hint)
        self.problem = problem
        self.hint = hint

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.args, self.__dict__.copy())

    def __str__(self) -> str:
        problem = f"{self.problem} ({self.hint})" if self.hint else self.problem
        return problem + self._called()


class FilterError(UsageError):
    """A filter that cannot be built, rendered or evaluated."""


class FilterSyntaxError(FilterError):
    """Text that is not a filter.

    Args:
        problem: what is wrong, without the place.
        text: the whole filter text.
        offset: index into *text* of the first character that does not fit.
        hint: what to write instead.

    Attributes:
        line, column: the place, both counted from 1.
    """

    def __init__(self, problem: str, *, text: str, offset: int, hint: str | None = None) -> None:
        super().__init__(problem, hint=hint)
        self.text = text
        self.offset = offset
        self.line = text.count("\n", 0, offset) + 1
        self.column = offset - (text.rfind("\n", 0, offset) + 1) + 1

    @property
    def summary(self) -> str:
        """One line without the caret, as a server puts it into ``head.errors``."""
        where = (
            f"column {self.column}" if self.line == 1 else f"line {self.line} column {self.column}"
        )
        return f"{self.problem} at {where}" + (f" ({self.hint})" if self.hint else "")

    def __str__(self) -> str:
        shown, caret = self._excerpt()
        return f"{self.summary}\n  {shown}\n  {' ' * caret}^"

    def _excerpt(self, reach: int = 60) -> tuple[str, int]:
        """The line around the place, *reach* characters either side, and the caret's index.

        What a terminal would obey or hide is one visible character, so that the caret stands right.
        """
        start = self.offset - (self.column - 1)
        end = self.text.find("\n", start)
        line = self.text[start : end if end >= 0 else len(self.text)]
        at = self.column - 1
        low = max(0, at - reach)
        shown = (
            c if c.isprintable() else " " if c.isspace() else "\ufffd"
            for c in line[low : at + reach]
        )
        return "".join(shown), at - low


class SettingsError(UsageError):
    """A setting is missing, unknown or contradicts another."""


class LimitError(UsageError):
    """A value is beyond a bound of ``flowkit.limits``.

    Args:
        what: the value in words, for example ``"the filter"``.
        size: its size.
        limit: the bound.
        unit: the unit of both.
    """

    def __init__(self, what: str, *, size: float, limit: float, unit: str) -> None:
        super().__init__(f"{what} is {size:.15g} {unit}, the limit is {limit:.15g} {unit}")
        self.what = what
        self.size = size
        self.limit = limit
        self.unit = unit


class OutboxFull(LimitError):
    """An outbox has no room for what it was given; nothing of it was kept."""


class OutboxError(FlowKitError):
    """The file of an outbox could not be written or read.

    Args:
        path: the file.
        problem: what the disk or SQLite said.
        full: whether there was no room; what was given is not in the file then, and the outbox
            goes on when there is room again.
    """

    def __init__(self, path: str, problem: str, *, full: bool = False) -> None:
        super().__init__(path, problem)
        self.path = path
        self.problem = problem
        self.full = full

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.args, self.__dict__.copy())

    def __str__(self) -> str:
        return f"the outbox {self.path}: {self.problem}{self._called()}"


class TransportError(FlowKitError):
    """Nobody answered.

    Args:
        problem: what happened, with host and port where they are known.
        method, path: the request, if one was under way.
        attempts: how many times it was tried.

    Attributes:
        retryable: whether the failure is of a passing kind, so that a request which may be
            repeated at all is worth repeating.
    """

    retryable = True

    def __init__(
        self, problem: str, *, method: str | None = None, path: str | None = None, attempts: int = 1
    ) -> None:
        super().__init__(problem)
        self.problem = problem
        self.method = method
        self.path = path
        self.attempts = attempts

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.args, self.__dict__.copy())

    def __str__(self) -> str:
        tries = f" after {self.attempts} attempts" if self.attempts > 1 else ""
        asked = f"{self.method} {self.path}: " if self.method else ""
        return f"{asked}{self.problem}{tries}{self._called()}"


class ConnectError(TransportError):
    """No connection could be made; nothing was sent."""


class DeadlineExceeded(TransportError):
    """The time allowed was up before the answer was complete."""

    retryable = False


class ConnectionLost(TransportError):
    """The connection ended before the answer was complete; whether the server acted is unknown."""


class ProtocolError(TransportError):
    """Something answered, but not the protocol (an HTML page, a redirect, broken JSON).

    Attributes:
        status: of HTTP, or None if it was not HTTP.
    """

    retryable = False
    status: int | None = None


class PlatformError(FlowKitError):
    """The server said no.

    Args:
        errors: one sentence per fault, as the server wrote them.
        status: the HTTP status; each subclass has a default.
        messages: ``head.messages`` of the answer.
        method, path: the request.
        request_id: the ``X-Request-Id`` of the request, if it had one.
        attempts: how many times it was tried.
        retry_after_s: what the server asked to wait, in seconds.
        response: the whole answer (``flowkit.protocol.envelope.Response``), or None on the server.

    Attributes:
        entries: for an array create that was asked to raise: each entry's Drop or error, in order.
    """

    status = 500
    entries: Sequence[object] = ()

    def __init__(
        self,
        *errors: str,
        status: int | None = None,
        messages: Sequence[str] = (),
        method: str | None = None,
        path: str | None = None,
        request_id: str | None = None,
        attempts: int = 1,
        retry_after_s: float | None = None,
        response: object = None,
    ) -> None:
        super().__init__(*errors)
        self.errors = list(errors)
        if status is not None:
            self.status = status
        self.messages = list(messages)
        self.method = method
        self.path = path
        self.request_id = request_id
        self.attempts = attempts
        self.retry_after_s = retry_after_s
        self.response = response

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.args, self.__dict__.copy())

    def __str__(self) -> str:
        said = "; ".join(self.errors) or "no reason given"
        asked = f"{self.method} {self.path}: " if self.method else ""
        tries = f" after {self.attempts} attempts" if self.attempts > 1 else ""
        named = f" [request {self.request_id}]" if self.request_id else ""
        return f"{asked}{self.status}{tries}: {said}{named}{self._called()}"


class BadRequest(PlatformError):
    """400, and every 4xx that has no class of its own: the request is at fault."""

    status = 400


class Forbidden(PlatformError):
    """401 or 403: the credential is wrong or lacks a right."""

    status = 403


class NotFound(PlatformError):
    """404: no such object, or none that this credential may read."""

    status = 404


class Conflict(PlatformError):
    """409: the state on the server is not the one expected."""

    status = 409


class TooManyRequests(PlatformError):
    """429: the rate limit; ``retry_after_s`` says how long to wait."""

    status = 429


class ServerError(PlatformError):
    """5xx: the fault is the server's."""

    status = 500


_BY_STATUS: dict[int, type[PlatformError]] = {
    401: Forbidden,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    429: TooManyRequests,
}


def platform_error(status: int) -> type[PlatformError]:
    """The class for an HTTP *status* (400 to 599)."""
    if status >= 500:
        return ServerError
    return _BY_STATUS.get(status, BadRequest)


def _rebuild(
    kind: type[FlowKitError], args: tuple[object, ...], facts: dict[str, object]
) -> FlowKitError:
    """Unpickle or copy an error whose constructor takes keywords."""
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(facts)
    return error
