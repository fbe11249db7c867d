"""What the calls of the ``Flow`` library ask for, in the words of the platform's own API.

A script's call becomes a request of the account that made the script, and is answered by the same
handlers as every other: filters, limits, rights and errors are the API's. ``Http`` goes out through
``outgoing.py``.

Source: protocol 6.4 (library ``Flow``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from flowkit import limits
from flowkit.errors import BadRequest, NotFound, PlatformError, UsageError
from flowkit.protocol.envelope import NOT_LOCATED
from flowkit.protocol.resources import is_id
from flowkit.query.build import mem
from flowkit.server.outgoing import OutgoingError, fetch

__all__ = ["Ask", "Asking", "Library"]


@dataclass(frozen=True, slots=True)
class Asking:
    """A request that a script makes.

    Attributes:
        method: ``GET`` or ``POST``.
        segments: of the address, below the account.
        params: query parameters.
        body: decoded, None for none.
    """

    method: str
    segments: tuple[str, ...]
    params: Mapping[str, Any] = field(default_factory=dict)
    body: Any = None


Ask = Callable[[str, bool, Asking], Any]
"""Answers a request of an account, by name: the body of the envelope. The flag asks for typed
elements. Raises ``PlatformError``."""


class Library:
    """Answers the calls of scripts.

    Args:
        ask: answers what is asked of the platform.
        allow_hosts: what ``Http`` may reach beside public addresses.
    """

    def __init__(self, ask: Ask, *, allow_hosts: str = "") -> None:
        self._ask = ask
        self._allow_hosts = allow_hosts

    def answer(self, account: str, name: str, args: Sequence[Any], *, typed: bool) -> Any:
        """The value of a call.

        Raises:
            PlatformError, UsageError: it cannot be answered; the sentences are for the script.
        """
        if name.startswith("Http."):
            return self._fetched(name, args)
        noun, verb = name.split(".")
        where = _text(args, 0, f"Flow.{name}") if noun == "Drop" else ""

        def asked(method: str, *segments: str, body: Any = None, **params: Any) -> Any:
            return self._ask(account, typed, Asking(method, segments, params, body))

        if noun != "Drop":
            if verb == "get":
                return asked("GET", noun.lower(), _text(args, 0, f"Flow.{name}"))
            return asked("GET", noun.lower(), **_options(args, 0))
        if verb == "aggregate":
            flow = where if is_id(where) else _flow_at(asked, where)
            return asked("POST", "drop", flow, "aggregate", body=_options(args, 1))
        if verb == "get":
            return asked("GET", "drop", where, _text(args, 1, f"Flow.{name}"))
        if verb == "findFHash":
            options: dict[str, Any] = {"filter": str(mem.fhash == _text(args, 1, f"Flow.{name}"))}
        else:
            options = _options(args, 1)
        if verb in ("findOne", "findFHash"):
            options["limit"] = 1
        place = ("drop", where) if is_id(where) else ("drop",)
        found = asked("GET", *place, **options, **({} if is_id(where) else {"path": where}))
        return found if verb == "find" else (found[0] if found else None)

    def _fetched(self, name: str, args: Sequence[Any]) -> dict[str, Any]:
        """``Http.get(url, headers)`` and ``Http.post(url, headers, body)``."""
        url = _text(args, 0, f"Flow.{name}")
        headers = _options(args, 1)
        body = args[2] if len(args) > 2 and name == "Http.post" else None
        try:
            fetched = fetch(
                name.removeprefix("Http.").upper(),
                url,
                {str(key): str(value) for key, value in headers.items()},
                body.encode() if isinstance(body, str) else None,
                timeout_s=limits.outgoing_timeout_s,
                allow_hosts=self._allow_hosts,
            )
        except OutgoingError as error:
            raise BadRequest(f"{urlsplit(url).hostname}: {error}") from None
        text = fetched.body.decode("utf-8", "replace")
        return {"status": fetched.status, "headers": dict(fetched.headers), "body": text}


def _flow_at(asked: Callable[..., Any], path: str) -> str:
    """The id of the flow at a path."""
    found = asked("GET", "flow", filter=str(mem.path == path), limit=1)
    if not found:
        raise NotFound(NOT_LOCATED)
    return str(found[0]["id"])


def _text(args: Sequence[Any], at: int, call: str) -> str:
    if len(args) <= at or not isinstance(args[at], str):
        raise BadRequest(f"{call}: argument {at + 1} must be a string")
    return str(args[at])


def _options(args: Sequence[Any], at: int) -> dict[str, Any]:
    given = args[at] if len(args) > at and args[at] is not None else {}
    if not isinstance(given, dict):
        raise BadRequest(f"argument {at + 1} must be an object of options")
    return dict(given)


def sentences(error: PlatformError | UsageError) -> list[str]:
    """What an error says, for ``Flow.Error``."""
    return list(error.errors) if isinstance(error, PlatformError) else [str(error)]
