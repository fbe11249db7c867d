"""Where a server is and how it is trusted: what every way to a platform reads before it connects.

It imports nothing cooperative, so that what runs on plain threads alone can use it, too.

Source: protocol 3.1; 13.2 (defects 5, 15, 36).
"""

from __future__ import annotations

import ipaddress
import os
import re
from typing import TypeVar
from urllib.parse import urlsplit

from flowkit.errors import SettingsError

__all__ = ["base_url", "certificates"]

V = TypeVar("V")

_HOST_HINT = "name[:port] or http(s)://name[:port]; an IPv6 address stands in brackets: [::1]:8080"


def base_url(host: str, secure: bool | None = None) -> str:
    """``scheme://host[:port]`` for *host*, which is ``name[:port]`` or a URL.

    Args:
        secure: TLS or not; None: as the URL says, else off for a loopback address, on otherwise.

    Raises:
        SettingsError: *host* is neither, or a URL that contradicts *secure*.
    """
    if not isinstance(host, str):
        raise SettingsError(f"{host!r} is not a host", hint="name[:port] or a URL")
    if "@" in host:  # not shown: what stands before it may be a password
        raise SettingsError("the host holds a user name", hint="credentials go into Token(…)")
    scheme, name, port = _parts(host)
    if scheme and secure is not None and secure != (scheme == "https"):
        raise SettingsError(f"host={host!r} and secure={secure} contradict each other")
    if not scheme:
        scheme = "https" if (not _is_loopback(name) if secure is None else secure) else "http"
    shown = f"[{name}]" if ":" in name else name
    return f"{scheme}://{shown}" + (f":{port}" if port is not None else "")


def _parts(host: str) -> tuple[str, str, int | None]:
    """Scheme (empty for none), name and port."""
    explicit = "://" in host
    try:
        url = urlsplit(host if explicit else f"//{host}")
        name, port = url.hostname or "", url.port
    except ValueError:
        raise SettingsError(f"{host!r} is not a host", hint=_HOST_HINT) from None
    if explicit and url.scheme not in ("http", "https"):
        raise SettingsError(f"{host!r} is neither http nor https")
    is_address = bool(re.fullmatch(r"\[.+\](:\d*)?", url.netloc))
    if port == 0 or name.isdecimal() or not (is_address or re.fullmatch(r"[\w.-]+", name)):
        raise SettingsError(f"{host!r} is not a host", hint=_HOST_HINT)
    if url.path not in ("", "/") or url.query or url.fragment or re.search(r"\s", host):
        raise SettingsError(f"{host!r} is more than a host", hint=_HOST_HINT)
    return (url.scheme if explicit else ""), name, port


def _is_loopback(name: str) -> bool:
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def certificates(verify: V) -> V | str:
    """Where the trusted certificates are: the argument, else what the environment names."""
    if verify is not True:
        return verify
    named = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR")
    return next((os.environ[name] for name in named if os.environ.get(name)), verify)
