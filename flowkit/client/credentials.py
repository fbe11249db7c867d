"""Who asks: the Token, and where its account, secret and host are looked up.

The secret is shown by nothing here: not by ``repr``, not by an error, not by JSON. It is the second
entry of a plain tuple, so ``"%s" % token`` style formatting of the *entries* is the one way to
print it.

The profile file is ``$XDG_CONFIG_HOME/flowkit/profiles.ini`` (``~/.config`` without that variable),
one section for each profile::

    [home]
    host = http://127.0.0.1:8080
    account = nora
    token = …

It is written with mode 0600 and refused on reading when others than its owner may open it.

Source: protocol 3.2 (headers), 12 (Bluemix), 13.1 (Token), 13.2 (defects 20, 41).
"""

from __future__ import annotations

import configparser
import fcntl
import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, Self

from flowkit.errors import SettingsError, UsageError

__all__ = ["Profile", "Token", "find_profile", "profiles_path", "save_profile"]

_NONE_GIVEN: Any = object()


class _Pair(NamedTuple):
    account: str
    token: str


class Token(_Pair):
    """An account and a secret (Master Token or a Token's ``tokenString``); signs every request.

    Raises:
        UsageError: one of the two is not a text of visible characters (both go into headers).
    """

    __slots__ = ()

    def __new__(cls, account: str, token: str) -> Self:
        """Check both parts; neither is shown by the error."""
        for name, value in (("account", account), ("token", token)):
            if not isinstance(value, str):
                raise UsageError(f"the {name} of a Token is text, not {type(value).__name__}")
            if not value or not value.isascii() or not value.isprintable() or " " in value:
                raise UsageError(
                    f"the {name} of a Token is empty or holds characters that no header may"
                )
        return super().__new__(cls, account, token)

    @classmethod
    def from_bluemix(cls, default: Any = _NONE_GIVEN, env_var: str = "VCAP_SERVICES") -> Any:
        """The first ``flowthings`` credentials in the environment variable of an IBM Bluemix
        process.

        Args:
            default: returned, whatever it is, when the variable is missing or says no credentials.
            env_var: the name of the variable.

        Raises:
            SettingsError: there are none and no *default* was given.
        """
        try:
            found = json.loads(os.environ[env_var])["flowthings"][0]["credentials"]
            return cls(found["account"], found["token"])
        except (KeyError, IndexError, TypeError, ValueError, UsageError):
            if default is not _NONE_GIVEN:
                return default
        raise SettingsError(
            f"the environment variable {env_var} holds no flowthings credentials",
            hint='it should be {"flowthings": [{"credentials": {"account": …, "token": …}}]}',
        )

    def for_json(self) -> NoReturn:
        """A Token in a body is a mistake that would send the secret: always refused."""
        raise UsageError("a Token is a secret and does not go into JSON")

    def __repr__(self) -> str:
        return f"Token({self.account!r}, <secret>)"


@dataclass(frozen=True, slots=True)
class Profile:
    """A host, an account and a secret, each None where nothing says it."""

    host: str | None = None
    account: str | None = None
    token: str | None = field(default=None, repr=False)


def profiles_path(environ: Mapping[str, str] | None = None) -> Path:
    """Where the profile file is, whether or not it exists."""
    environ = os.environ if environ is None else environ
    folder = environ.get("XDG_CONFIG_HOME") or ""
    base = Path(folder) if os.path.isabs(folder) else Path.home() / ".config"
    return base / "flowkit" / "profiles.ini"


def save_profile(name: str, host: str, account: str, token: str) -> Path:
    """Write or replace the profile *name*; the others stay. Returns the file's path.

    The file is replaced in one step and is never readable by others, not even for a moment.

    Raises:
        UsageError: the name or a value cannot stand in the file.
        SettingsError: the present file is broken or open to others.
    """
    values = {"host": host, "account": account, "token": token}
    for what, value in {"name": name, **values}.items():
        if not isinstance(value, str) or not value.strip() or not value.isprintable():
            raise UsageError(f"the {what} of a profile is one line of text")
    if name == configparser.DEFAULTSECT or "]" in name:
        raise UsageError(f"{name!r} cannot be the name of a profile")
    path = profiles_path()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        # One writer at a time: two profiles saved at once must not lose one of them.
        fcntl.flock(folder, fcntl.LOCK_EX)
        profiles = _read(path) if path.exists() else _parser()
        profiles[name] = values
        _replace(path, profiles)
    finally:
        os.close(folder)
    return path


def _replace(path: Path, profiles: configparser.ConfigParser) -> None:
    """Write the file beside the present one, then put it in its place."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    try:
        handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(handle, "w", encoding="utf-8") as file:
            profiles.write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, path)
    finally:
        fresh.unlink(missing_ok=True)


def find_profile(
    name: str | None = None,
    *,
    given: Profile | None = None,
    needs_host: bool = True,
    environ: Mapping[str, str] | None = None,
) -> tuple[Profile, str]:
    """Host, account and secret from *given*, the environment and the profile file, and where.

    Each of the three is looked up by itself, in this order. But a secret is never sent with another
    account's name: that of the environment or the file only goes with the account that stands
    beside it there. The file is only read if something is missing or a *name* was given.

    Args:
        name: the profile, which must exist; without one ``FLOWKIT_PROFILE``, then ``default``, then
            the only one there is.
        given: what is known already.
        needs_host: whether a missing host is worth a look into the file.

    Returns:
        the profile, and a sentence that says which file and section were looked at.

    Raises:
        SettingsError: the file has no such profile, is broken, or open to others.
    """
    environ = os.environ if environ is None else environ
    given = given or Profile()
    host = given.host or environ.get("FLOWKIT_HOST") or None
    account = given.account or environ.get("FLOWKIT_ACCOUNT") or None
    token = given.token
    if environ.get("FLOWKIT_ACCOUNT") in (None, "", account):
        token = token or environ.get("FLOWKIT_TOKEN") or None
    if name is None and account and token and (host or not needs_host):
        return Profile(host, account, token), "no profile was looked at"
    stored, where = _stored(profiles_path(environ), name or environ.get("FLOWKIT_PROFILE") or None)
    account = account or stored.account
    if account == stored.account:
        token = token or stored.token
    return Profile(host or stored.host, account, token), where


def _stored(path: Path, name: str | None) -> tuple[Profile, str]:
    """The profile *name* of the file, or the one that is meant without a name."""
    if not path.exists():
        if name:
            raise SettingsError(f"there is no profile {name!r}: {path} does not exist")
        return Profile(), f"{path} does not exist"
    profiles = _read(path)
    names = profiles.sections()
    if name is None and "default" in names:
        name = "default"
    if name is None and len(names) == 1:
        name = names[0]
    listed = ", ".join(names) or "none"
    if name is None:
        return Profile(), f"{path} has several profiles ({listed}) and none was named"
    if name not in names:
        raise SettingsError(f"there is no profile {name!r} in {path}; it has: {listed}")
    section = profiles[name]
    found = {key: section.get(key) or None for key in ("host", "account", "token")}
    return Profile(**found), f"profile {name!r} in {path}"


def _parser() -> configparser.ConfigParser:
    return configparser.ConfigParser(interpolation=None)


def _read(path: Path) -> configparser.ConfigParser:
    """The file, if only its owner can open it. An error never shows a line of it: it holds
    secrets.
    """
    try:
        file = path.open(encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from error
    with file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        if mode & 0o077:
            raise SettingsError(
                f"{path} holds secrets and has mode {mode:04o}: others may open it",
                hint=f"run: chmod 600 {path}",
            )
        profiles = _parser()
        try:
            profiles.read_file(file)
        except configparser.Error as error:
            line = getattr(error, "lineno", None)
            at = f" at line {line}" if line else ""
            raise SettingsError(f"{path} is not a profile file{at}") from None
        except UnicodeDecodeError:
            raise SettingsError(f"{path} is not a profile file: it is not UTF-8") from None
    return profiles
