"""Where a streamer sends, as whom, and into which bucket: arguments, environment, files.

Each value is looked up by itself: the argument, the environment (``FLOWKIT_HOST``,
``FLOWKIT_ACCOUNT``, ``FLOWKIT_TOKEN``), the file that was named, or ``isstreamer.ini`` in the
working directory and then in the home directory, and the profiles of ``flowkit.save_profile``. The
file has the sections of the older streamer; either may be missing, and a ``%`` is a ``%``::

    [isstreamer.client_config]
    access_key: …
    account: nora
    default_bucket: greenhouse
    offline_mode: false
    offline_file: ./events.csv
    [isstreamer.api_config]
    stream_api_base: http://127.0.0.1:8080
"""

from __future__ import annotations

import configparser
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from flowkit.client.credentials import Profile, find_profile
from flowkit.errors import SettingsError

__all__ = ["Found", "find"]

FILE = "isstreamer.ini"
_CLIENT, _API = "isstreamer.client_config", "isstreamer.api_config"
_YES = {"1": True, "yes": True, "true": True, "on": True}
_NO = {"0": False, "no": False, "false": False, "off": False, "": False}
_VENDOR = (".init.st", ".initialstate.com")


class Found(NamedTuple):
    """What was found; None or empty where nothing says it."""

    profile: Profile
    bucket: str
    offline: bool
    offline_file: str
    where: str


def find(
    given: Profile,
    *,
    file: str | os.PathLike[str] | None = None,
    profile: str | None = None,
    environ: Mapping[str, str] | None = None,
) -> Found:
    """Look everything up.

    Args:
        given: what the arguments say.
        file: an ini file, which must exist.
        profile: the name of a profile; then host, account and secret are not taken from ini files.

    Raises:
        SettingsError: a file is not there or cannot be read, or the profile is unknown.
    """
    environ = os.environ if environ is None else environ
    read = {}
    for path in [Path(file)] if file else [Path.home() / FILE, Path(FILE)]:
        if file and not path.exists():
            raise SettingsError(f"there is no file {path}")
        if path.exists():
            read.update(_read(path))
    host, account, token = (
        value or environ.get(name) or None if profile is None else value
        for value, name in (
            (given.host, "FLOWKIT_HOST"),
            (given.account, "FLOWKIT_ACCOUNT"),
            (given.token, "FLOWKIT_TOKEN"),
        )
    )
    if profile is None:
        base = read.get("stream_api_base") or ""
        host = host or (None if base.rstrip("/").endswith(_VENDOR) else base or None)
        account, token = account or read.get("account"), token or read.get("access_key")
    found, where = find_profile(profile, given=Profile(host, account, token), environ=environ)
    return Found(
        found,
        read.get("default_bucket", ""),
        _truth(read.get("offline_mode", "")),
        read.get("offline_file", ""),
        where,
    )


def _read(path: Path) -> dict[str, str]:
    """The values of a file that are not empty. No line of it is shown: it holds a secret."""
    parser = configparser.ConfigParser(interpolation=None)
    try:
        with path.open(encoding="utf-8") as file:
            parser.read_file(file)
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from error
    except (configparser.Error, UnicodeDecodeError):
        raise SettingsError(f"{path} is no ini file") from None
    return {
        name: value
        for section in (_CLIENT, _API)
        if parser.has_section(section)
        for name, value in parser.items(section)
        if value
    }


def _truth(text: str) -> bool:
    found = (_YES | _NO).get(text.strip().lower())
    if found is None:
        raise SettingsError(f"offline_mode is true or false, not {text!r}")
    return found
