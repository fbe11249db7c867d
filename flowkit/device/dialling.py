"""What a connection is made with: trusted certificates, and a proxy from the environment."""

from __future__ import annotations

import ssl
from base64 import b64encode
from os.path import isdir
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from flowkit.client.address import certificates
from flowkit.errors import SettingsError

__all__ = ["proxy_for", "proxy_headers", "reason_of", "tls"]


def tls(verify: bool | str | ssl.SSLContext) -> ssl.SSLContext:
    """What trusts the certificates that *verify* names.

    Raises:
        SettingsError: they cannot be read.
    """
    trusted = certificates(verify)
    if isinstance(trusted, ssl.SSLContext):
        return trusted
    try:
        if isinstance(trusted, str):
            if isdir(trusted):
                return ssl.create_default_context(capath=trusted)
            return ssl.create_default_context(cafile=trusted)
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(f"the certificates in {trusted} cannot be read: {error}") from error
    made = ssl.create_default_context()
    if trusted is False:
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    return made


def proxy_for(target: SplitResult) -> SplitResult | None:
    """The proxy that the environment names for this server, if any."""
    proxies = getproxies()
    named = proxies.get(target.scheme) or proxies.get("all")
    if not named or proxy_bypass(str(target.hostname)):
        return None
    parts = urlsplit(named if "://" in named else f"http://{named}")
    if parts.scheme != "http" or not parts.hostname:
        raise SettingsError(
            "the environment names a proxy that is not an http:// one", hint="set NO_PROXY"
        )
    return parts


def proxy_headers(proxy: SplitResult) -> dict[str, str]:
    """What the proxy wants to see of the user in its URL."""
    if proxy.username is None:
        return {}
    pair = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return {"Proxy-Authorization": "Basic " + b64encode(pair.encode()).decode()}


def reason_of(error: Exception) -> str:
    """Why there is no connection, in words."""
    if getattr(error, "reason", None) == "WRONG_VERSION_NUMBER":
        return "the other end does not speak TLS (for a server without it say http://)"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
