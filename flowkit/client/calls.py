"""The one door to the platform: every call of every service goes through ``Door.send``.

Here, and nowhere else, are: query parameters as text, request ids, the credentials in the headers,
the override for long finds, repetition, pacing, the deadline, the reading of answers and what an
error knows about its request. A service only says what it wants as a ``Call``.

No secret leaves this module but in the ``X-Auth-Token`` header: bodies are not logged, and an
answer that echoes the token loses it before anything is made of it.

Source: protocol 3.2 to 3.6, 13.2 (defects 6 to 19, 23).
"""

from __future__ import annotations

import logging
import random
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from email.utils import parsedate_to_datetime
from enum import Enum
from math import isfinite
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from flowkit import green, limits
from flowkit._version import __version__
from flowkit.client.credentials import Token
from flowkit.client.encoding import instant_ms, span_ms
from flowkit.client.options import Options
from flowkit.client.retry import Pace, Repeat
from flowkit.errors import (
    DeadlineExceeded,
    FlowKitError,
    PlatformError,
    ProtocolError,
    TransportError,
    UsageError,
    platform_error,
)
from flowkit.protocol.envelope import (
    CREATED,
    PROCESSED,
    Answer,
    Request,
    Response,
    read_envelope,
)
from flowkit.query.nodes import Filter

if TYPE_CHECKING:
    from flowkit.client.transport import Transport

__all__ = [
    "NOTHING",
    "Call",
    "Door",
    "Later",
    "Result",
    "Send",
    "changes_nothing",
    "sender",
    "wire_params",
]

Send = Callable[["Door", "Call", Token], "Result | Later"]

sender: ContextVar[Send | None] = ContextVar("flowkit_sender", default=None)
"""What carries the calls that are made here, in place of the door itself: the wave of a parallel
call (``waves``)."""

NOTHING: Any = object()
"""The body of a request that has none; None would be sent as ``null``."""

_READS = frozenset({"GET", "MGET", "HEAD", "OPTIONS"})
_CUSTOM = frozenset({"MGET", "MPUT"})
_KNOWN_MESSAGES_MAX = 1_000
_HIDDEN = "<secret>"

_log = logging.getLogger("flowkit.client")


@dataclass(frozen=True, slots=True)
class Call:
    """What a service wants.

    Attributes:
        method, segments: as in the routes of 3.5; the segments after version and account.
        params: query parameters as Python values.
        body: a value with a JSON form, or ``NOTHING``.
        is_find: may be sent as POST with an override when its URL would be too long.
        is_read: changes nothing, whatever its method; needs no request id.
        is_repeatable: False for what must never be sent twice.
        is_bare: the path stands alone, without version and account, and the API's default
            parameters do not go with it (protocol 9.1).
        timeout_s: seconds for all attempts together; None: the API's.
        is_ours: made by the client itself: the API's default parameters do not go with it.
        is_tail: the verb does nothing with the answer but return it.
    """

    method: str
    segments: tuple[str, ...]
    params: Mapping[str, Any] = field(default_factory=dict)
    body: Any = NOTHING
    is_find: bool = False
    is_read: bool = False
    is_repeatable: bool = True
    is_bare: bool = False
    timeout_s: float | None = None
    is_ours: bool = False
    is_tail: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """A whole answer, for a caller who asked for it with ``envelope=True``.

    Attributes:
        body: what the call returns otherwise.
        status: of HTTP.
        head: ``status ok messages errors references`` and what else the server says there.
        headers: of HTTP, names in lower case.
        elapsed_s: seconds of the whole call, repetitions included.
        attempts: how many requests it took.
        request_id: the ``X-Request-Id``; the server's log names it, too.
    """

    body: Any
    status: int
    head: Mapping[str, Any]
    headers: Mapping[str, str]
    elapsed_s: float
    attempts: int
    request_id: str | None

    @property
    def references(self) -> dict[str, Any]:
        """``head.references``: id to the related object."""
        return self.head.get("references") or {}

    @property
    def messages(self) -> list[str]:
        """``head.messages``."""
        return list(self.head.get("messages") or ())


@dataclass(slots=True)
class Later:
    """In place of the answer to a tail call: no green thread has to wait for it.

    Attributes:
        cell: takes the ``Result``.
        give_up: says that nobody wants it any more.
        value: makes of the ``Result`` what the verb returns; given by ``API.call``.
    """

    cell: green.Cell[Result]
    give_up: Callable[[], object]
    value: Callable[[Result], Any] = attrgetter("body")


class Door:
    """Sends calls over one transport to one server.

    May be used by any number of threads and greenlets: what it remembers (that the server replays,
    until when it wants no calls, which messages were logged) only ever grows.

    Attributes:
        has_batch: whether the server has ``POST /batch``, as far as is known.
    """

    def __init__(
        self,
        transport: Transport,
        options: Options,
        *,
        encode: Callable[[Any], bytes],
        decode: Callable[[bytes], Any],
    ) -> None:
        self._transport = transport
        self._options = options
        self._encode = encode
        self._decode = decode
        self._pace = Pace()
        self._replays = False
        self.has_batch = True
        self._logged: set[str] = set()

    @property
    def transport(self) -> Transport:
        """What carries the requests."""
        return self._transport

    def send(self, call: Call, creds: Token) -> Result:
        """Make *call*, again where that is safe and worth it, and read the answer.

        Raises:
            UsageError: the call cannot be written down; nothing was sent.
            TransportError: nobody answered in time, or not with the protocol.
            PlatformError: the server said no.
        """
        request = self._request(call, creds)
        repeat = _repeat(call)
        request_id = request.headers.get("x-request-id")
        started = green.monotonic()
        deadline = started + (call.timeout_s or self._options.timeout_s)
        attempt = 1
        while True:
            try:
                answer, headers = self._attempt(request, deadline, creds)
            except (TransportError, PlatformError) as error:
                _tell(error, request, attempt, request_id)
                attempt += 1
                self._before_repeat(error, repeat, attempt, deadline)
            else:
                elapsed_s = green.monotonic() - started
                return Result(
                    answer.body, answer.status, answer.head, headers, elapsed_s, attempt, request_id
                )

    def _attempt(
        self, request: Request, deadline: float, creds: Token
    ) -> tuple[Answer, Mapping[str, str]]:
        """One request and its answer, within what is left of the time."""
        self._keep_pace(deadline)
        try:
            started = green.monotonic()
            left_s = deadline - started
            if left_s <= 0:
                raise DeadlineExceeded("the time allowed was up before the request could be sent")
            response = self._transport.send(request, timeout_s=left_s)
        finally:
            self._pace.done()
        self._mind_limits(response)
        if _log.isEnabledFor(logging.DEBUG):
            took_ms = (green.monotonic() - started) * 1000
            said = (response.status, took_ms, len(response.body))
            _log.debug("%s %s: %d in %.1f ms, %d bytes", request.method, request.path, *said)
        if "x-request-replay" in response.headers:
            self._replays = True
        return self._read(response, creds), response.headers

    def _keep_pace(self, deadline: float) -> None:
        """Wait for this request's turn, as far as the server has spoken of limits."""
        now = green.monotonic()
        wait_s = self._pace.take(now)
        try:
            while wait_s:
                if now + wait_s >= deadline:
                    raise DeadlineExceeded(
                        f"the server asked for {wait_s:.1f} s without requests, "
                        "the call has less time"
                    )
                green.sleep(wait_s)
                now = green.monotonic()
                wait_s = self._pace.held_s(now)  # somebody else may have run into a 429 meanwhile
        except BaseException:
            self._pace.done(sent=False)
            raise
        self._pace.go()

    def _mind_limits(self, response: Response) -> None:
        if "x-ratelimit-remaining" in response.headers:
            self._pace.learn(response.headers, green.monotonic(), time.time())
        elif response.status < 400:
            self._pace.forget()

    def _before_repeat(
        self, error: FlowKitError, repeat: Repeat, attempt: int, deadline: float
    ) -> None:
        """Wait before *attempt*, or raise *error* because there is none.

        A wait that would pass the deadline is not begun: the error is more use now than a time-out
        later.
        """
        now = green.monotonic()
        self._pace.hold(error, now)
        if not self._options.retry.may_repeat(repeat, error, replays=self._replays):
            raise error
        asked_s = getattr(error, "retry_after_s", None)
        delay_s = self._options.retry.delay_s(attempt, random.random(), asked_s)  # noqa: S311 - jitter, no secret
        if delay_s is None or now + delay_s >= deadline:
            raise error
        _log.debug("%s; attempt %d in %.2f s", error, attempt, delay_s)
        green.sleep(delay_s)
        if green.monotonic() >= deadline:  # it slept longer than it was asked to
            raise error

    def _request(self, call: Call, creds: Token) -> Request:
        """The call as a request of HTTP."""
        headers = {
            "accept": "application/json",
            "user-agent": f"flowkit/{__version__}",
            "x-auth-account": creds.account,
            "x-auth-token": creds.token,
        }
        method = call.method
        params = self.params_of(call)
        body = b"" if call.body is NOTHING else self._encode(call.body)
        headers["x-request-id"] = secrets.token_hex(16)
        request = Request(method, self.place_of(call, creds), params, headers, body)
        if call.is_find and self._is_long(request):
            headers["x-http-method-override"] = "GET"
            request = replace(request, method="POST", params={}, body=self._encode(params))
        elif method in _CUSTOM and self._options.method_override:
            headers["x-http-method-override"] = method
            request = replace(request, method="POST")
        if request.body:
            headers["content-type"] = "application/json"
        return request

    def params_of(self, call: Call) -> dict[str, str]:
        """The query parameters of *call* as they stand in its URL."""
        has_own = call.is_bare or call.is_ours
        return wire_params(call.params if has_own else {**self._options.params, **call.params})

    def place_of(self, call: Call, creds: Token) -> tuple[str, ...]:
        """The whole address of *call*.

        Raises:
            UsageError: a part of it cannot stand in a path.
        """
        segments = tuple(map(_segment, call.segments))
        if call.is_bare:
            return segments
        return (f"v{self._options.version}", creds.account, *segments)

    def _is_long(self, request: Request) -> bool:
        """Whether the URL passes the bound (3.5)."""
        base = len(self._options.base_url or "")
        chars = sum(map(len, request.params.values()))
        # A character becomes twelve bytes at most, so short ones need no encoding to be counted.
        if base + 12 * chars < limits.url_bytes_max // 2:
            return False
        return base + len(request.target) > limits.url_bytes_max

    def _read(self, response: Response, creds: Token) -> Answer:
        """The envelope of *response*, or the error that it stands for, raised."""
        status = response.status
        if 200 <= status < 300 and not response.body:
            return Answer(status, None, {})
        if 200 <= status < 300 or status >= 400:
            found = self._opened(response)
            if isinstance(found, Answer):
                self.remark(found.messages, creds)
                return found
        # What becomes of an error is not known: read it again, without the secret.
        raise self._failure(_without_secret(response, creds))

    def _opened(self, response: Response) -> Answer | PlatformError | None:
        """What the envelope says; None if there is none."""
        try:
            return _well_formed(read_envelope(response.status, self._decode(response.body)))
        except PlatformError as error:
            return error
        except (ValueError, TypeError):
            return None

    def _failure(self, response: Response) -> FlowKitError:
        """The error that *response* stands for."""
        status = response.status
        if status < 200 or 300 <= status < 400:
            return _not_the_protocol(response, "a redirect is never followed")
        error = self._opened(response)
        if not isinstance(error, PlatformError):
            if status < 400:
                return _not_the_protocol(response, "the answer is not an envelope")
            said = f"the answer is not an envelope, it begins: {_beginning(response)}"
            error = platform_error(status)(said, status=status)
        error.response = response
        error.retry_after_s = _retry_after_s(response.headers.get("retry-after"))
        return error

    def remark(self, messages: Iterable[str], creds: Token) -> None:
        """Log what the server remarks (unknown members, for example), each sentence once."""
        for message in map(str, messages):
            known = message in (CREATED, PROCESSED) or message in self._logged
            if not known and len(self._logged) < _KNOWN_MESSAGES_MAX:
                self._logged.add(message)
                _log.warning("the server remarks: %s", message.replace(creds.token, _HIDDEN))


def wire_params(params: Mapping[str, Any]) -> dict[str, str]:
    """Query parameters as the texts that stand in a URL; None is left out.

    Booleans become 1 and 0, lists and tuples are joined with commas, aware datetimes and timedeltas
    become milliseconds, enums their values, filters their text.

    Raises:
        UsageError: a value has no such text; the message names the parameter.
    """
    return {name: _text(name, value) for name, value in params.items() if value is not None}


def _text(name: str, value: Any) -> str:
    if isinstance(value, Token):  # a tuple, which would go into the URL
        raise UsageError(f"{name}: a Token is a secret and cannot be a query parameter")
    if isinstance(value, Enum) and not isinstance(value, str | int):
        value = value.value
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, str):
        return str.__str__(value) if not isinstance(value, Enum) else str(value.value)
    if isinstance(value, Filter):
        return str(value)
    if isinstance(value, datetime):
        return str(instant_ms(value))
    if isinstance(value, timedelta):
        return str(span_ms(value))
    if isinstance(value, int):
        return str(int(value))
    if isinstance(value, float | Decimal) and isfinite(value):
        return str(value)
    if isinstance(value, list | tuple):
        return ",".join(_text(name, entry) for entry in value)
    shown = repr(value) if isinstance(value, float | Decimal) else f"a {type(value).__name__}"
    raise UsageError(f"{name}: {shown} cannot be a query parameter")


def _segment(part: Any) -> str:
    """One part of a path; it will be percent-encoded, so only what would change the path is
    refused.
    """
    if not isinstance(part, str) or not part or part in (".", ".."):
        raise UsageError(f"{part!r} cannot be a part of a path")
    return part


def _repeat(call: Call) -> Repeat:
    if not call.is_repeatable:
        return Repeat.NEVER
    return Repeat.ALWAYS if changes_nothing(call) else Repeat.IF_REPLAYED


def changes_nothing(call: Call) -> bool:
    """Whether *call* changes nothing."""
    return call.is_read or call.method in _READS


def _tell(error: FlowKitError, request: Request, attempts: int, request_id: str | None) -> None:
    """Write into *error* which request it was."""
    if isinstance(error, TransportError | PlatformError):
        error.method = request.headers.get("x-http-method-override", request.method)
        error.path = request.path
        if "path" in request.params:  # which flow was meant; the rest of a query holds data
            error.path += f"?path={request.params['path']}"
        error.attempts = attempts
    if isinstance(error, PlatformError):
        error.request_id = request_id


def _well_formed(answer: Answer) -> Answer:
    """*answer*, if the parts of its head that are passed on are what they should be."""
    head = answer.head
    if not isinstance(head.get("messages") or [], list):
        raise ValueError("head.messages is no list")
    if not isinstance(head.get("references") or {}, dict):
        raise ValueError("head.references is no map")
    return answer


def _without_secret(response: Response, creds: Token) -> Response:
    headers = {
        name: value.replace(creds.token, _HIDDEN) for name, value in response.headers.items()
    }
    body = response.body.replace(creds.token.encode(), _HIDDEN.encode())
    return replace(response, headers=headers, body=body)


def _not_the_protocol(response: Response, why: str) -> ProtocolError:
    error = ProtocolError(f"status {response.status}, {why}; it begins: {_beginning(response)}")
    error.status = response.status
    return error


def _beginning(response: Response, reach: int = 200) -> str:
    """The start of a body that was not understood, in one line."""
    text = " ".join(response.body[: 4 * reach].decode("utf-8", "replace").split())
    return repr(text[:reach]) if text else "(nothing)"


def _retry_after_s(header: str | None) -> float | None:
    """Seconds that a ``Retry-After`` header asks for, in either of its forms."""
    if not header:
        return None
    try:
        asked = float(header)
    except ValueError:
        try:
            asked = parsedate_to_datetime(header).timestamp() - time.time()
        except (ValueError, TypeError, OverflowError):
            return None
    return max(0.0, asked) if isfinite(asked) else None
