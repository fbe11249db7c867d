"""How an API is set up: the defaults, what a call of ``API(…)`` overrides, and the checks of both.

Everything here is read once, when an API is made: changing ``flowkit.defaults`` later affects later
APIs only. The order is: argument, ``flowkit.defaults``, for the host also ``FLOWKIT_HOST``.

Source: protocol 3.1, 13.1 (defaults), 13.2 (defects 5, 15, 21, 34, 35, 36).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from math import isfinite
from types import MappingProxyType
from typing import Any

from flowkit import limits
from flowkit.client.address import base_url
from flowkit.client.retry import Retry
from flowkit.errors import SettingsError, UsageError

__all__ = ["Defaults", "Options", "check_known", "defaults", "seconds"]

_FIRST: dict[str, Any] = {
    "async_lib": None,
    "host": None,
    "params": {},
    "retries": limits.retries_default,
    "secure": None,
    "timeout": limits.timeout_default_s,
    "transport": None,
    "verify": True,
    "version": "4.0",
    "ws_host": None,
}


class Defaults:
    """The options that an API takes where its maker gives none.

    Attributes: ``async_lib host params retries secure timeout transport verify version ws_host``,
    with the meanings of ``API``; ``transport`` is a function of the base URL that makes one.
    Calling it sets several at once: ``defaults(secure=False, host="localhost:8080")``.

    Raises:
        SettingsError: an unknown name, or ``refs`` among the parameters.
    """

    def __init__(self, **first: Any) -> None:
        object.__setattr__(self, "_names", tuple(_FIRST | first))
        for name, value in {**_FIRST, **first}.items():
            setattr(self, name, value)

    def __setattr__(self, name: str, value: Any) -> None:
        check_known({name}, self._names, "default")
        object.__setattr__(self, name, _checked_params(value) if name == "params" else value)

    def __getattr__(self, name: str) -> Any:
        # Only reached for names that are not there; spelled out for type checkers.
        raise AttributeError(f"{name!r} is not a default; they are: {', '.join(self._names)}")

    def __call__(self, **options: Any) -> None:
        """Set several defaults at once."""
        check_known(options, self._names, "default")
        for name, value in options.items():
            setattr(self, name, value)

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={getattr(self, name)!r}" for name in sorted(self._names))
        return f"<defaults {shown}>"


@dataclass(frozen=True, slots=True)
class Options:
    """The options of one API, checked; they do not change while it lives.

    Attributes:
        base_url: ``https://host[:port]``, or None when a transport was given without a host.
        ws_url: the same for WebSocket sessions, ``wss://…``.
        has_own_ws_host: whether those have a host of their own.
        version: of the protocol, for example ``4.0``.
        params: sent with every request, below the call's own.
        timeout_s: seconds that one call may take, repetitions included.
    """

    base_url: str | None
    ws_url: str | None
    has_own_ws_host: bool
    version: str
    params: Mapping[str, Any]
    async_lib: Any
    transport: Any
    timeout_s: float
    retry: Retry
    verify: Any
    method_override: bool

    @classmethod
    def read(cls, given: Mapping[str, Any], below: Defaults) -> Options:
        """Join *given* (None: not given) with the defaults *below* and check the result.

        Raises:
            SettingsError: a missing, unknown or contradictory option.
        """
        own = {name: value for name, value in given.items() if value is not None}
        check_known(own, (*_FIRST, "method_override"), "option")
        chosen = {name: own.get(name, getattr(below, name)) for name in _FIRST}
        # A transport that is there already knows its way; a host is only shown if it was named.
        is_opened = hasattr(chosen["transport"], "send")
        host = own.get("host")
        if host is None and not is_opened:
            host = chosen["host"] or os.environ.get("FLOWKIT_HOST") or None
        if host is None and not is_opened:
            raise SettingsError(
                "no host was given",
                hint='name one: API(…, host="localhost:8080"), flowkit.defaults.host, '
                "FLOWKIT_HOST, or use flowkit.connect() with a profile",
            )
        url = base_url(host, chosen["secure"]) if host else None
        ws_host = own.get("ws_host") or (None if is_opened else chosen["ws_host"])
        ws_url = base_url(ws_host, chosen["secure"]) if ws_host else url
        return cls(
            base_url=url,
            ws_url=ws_url.replace("http", "ws", 1) if ws_url else None,
            has_own_ws_host=bool(ws_host),
            version=_version(chosen["version"]),
            params=MappingProxyType(dict(_checked_params(chosen["params"]))),
            async_lib=chosen["async_lib"],
            transport=chosen["transport"],
            timeout_s=seconds(chosen["timeout"]),
            retry=_retry(chosen["retries"]),
            verify=_verify(chosen["verify"]),
            method_override=bool(own.get("method_override", False)),
        )


def check_known(names: Iterable[str], known: Iterable[str], what: str) -> None:
    """Refuse names that are not *known*, and say which are.

    Raises:
        SettingsError: for all unknown names together.
    """
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise SettingsError(
            f"unknown {what} {', '.join(unknown)}", hint=f"known are: {', '.join(sorted(known))}"
        )


def seconds(timeout: Any, name: str = "timeout") -> float:
    """A ``timeout=``, or another argument called *name*, as seconds.

    Raises:
        UsageError: it is not a positive, finite number or a timedelta.
    """
    if isinstance(timeout, timedelta):
        timeout = timeout.total_seconds()
    is_number = isinstance(timeout, int | float) and not isinstance(timeout, bool)
    if not is_number or not isfinite(timeout) or timeout <= 0:
        raise UsageError(
            f"{name}={timeout!r} is not a positive number of seconds",
            hint="one number bounds the whole call, retries included" if name == "timeout" else "",
        )
    return float(timeout)


def _retry(retries: Any) -> Retry:
    if isinstance(retries, Retry):
        return retries
    if isinstance(retries, bool) or not isinstance(retries, int) or retries < 0:
        raise SettingsError(f"retries={retries!r} is not a number of repetitions, 0 or more")
    return Retry(retries)


def _version(version: Any) -> str:
    text = str(version).removeprefix("v")
    if not re.fullmatch(r"\d+\.\d+", text):
        raise SettingsError(f"version={version!r} is not a protocol version such as 4.0")
    return text


def _verify(verify: Any) -> Any:
    import ssl

    if isinstance(verify, bool | str | os.PathLike | ssl.SSLContext):
        return os.fspath(verify) if isinstance(verify, os.PathLike) else verify
    raise SettingsError(
        f"verify={verify!r} is not a bool, the path of a CA bundle, or an ssl.SSLContext"
    )


def _checked_params(params: Any) -> dict[str, Any]:
    """A copy of default parameters."""
    if not isinstance(params, Mapping):
        raise SettingsError(f"params are a mapping, not {type(params).__name__}")
    for name in ("refs", "envelope", "timeout"):
        if name in params:
            raise SettingsError(
                f"{name} cannot be a default parameter",
                hint="it would change what every call returns; give it to the calls that want it"
                if name != "timeout"
                else "API(…, timeout=…)",
            )
    return dict(params)


defaults = Defaults()
"""The defaults of this process."""
