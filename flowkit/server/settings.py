"""What can be set about a server: one frozen value, gathered once at the start.

Each setting comes from the first of these that names it: flags of the command line, environment
(``FLOWKIT_`` and the name in upper case), the file (section ``[server]``), the default here.

Source: ``docs/reference/cli.rst`` (where each setting comes from).
"""

from __future__ import annotations

import configparser
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_type_hints

from flowkit import limits
from flowkit.errors import SettingsError

__all__ = ["Settings"]

_LEVELS = ("FULL", "NORMAL", "OFF")
_LOG_FORMATS = ("text", "json")
_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of one server.

    Attributes:
        data: the data folder.
        host, port: where to listen; port 0 takes a free one.
        account: the account made at the first start.
        synchronous: how hard a commit is pressed onto the disk (SQLite's word): ``FULL`` survives a
            power cut, ``NORMAL`` a crash of the program, ``OFF`` neither.
        query_timeout_s: seconds that the queries of one request may take.
        body_bytes_max: largest request body in bytes, also after gunzip.
        body_array_bytes_max: largest body of an array create in bytes, also after gunzip.
        answer_bytes_max: largest answer in bytes.
        zip_lookup: whether ``WITHIN … ZIP=`` may use the table of the package ``zipcodes``.
        keep_token_strings: whether the string of a Token can be read again later, as clients of the
            protocol expect; then it stands in the database. Without it only its hash does.
        strict_scripts: refuse a Track with ``js`` when scripts cannot run here (extra ``js``);
            otherwise it is stored and each skipped run is reported.
        run_tasks: whether this server runs tasks and MQTT connections.
        allow_hosts: host names and addresses, separated by commas, that tasks and scripts may reach
            although they are loopback, link-local or private.
        rate_limit_per_s: requests a second that each credential may make; 0: no limit.
        rate_limit_burst: requests that it may make at once; 0: two seconds' worth.
        log_format: ``text`` or ``json``.
        access_log: whether every request is logged.
        metrics: whether ``GET /metrics`` is answered, to anybody who can reach the port.
    """

    data: Path = Path("flowkit-data")
    host: str = "127.0.0.1"
    port: int = 8080
    account: str = "flowkit"
    synchronous: str = "FULL"
    query_timeout_s: float = limits.query_timeout_s
    body_bytes_max: int = limits.body_bytes_max
    body_array_bytes_max: int = limits.body_array_bytes_max
    answer_bytes_max: int = limits.answer_bytes_max
    zip_lookup: bool = True
    keep_token_strings: bool = True
    strict_scripts: bool = False
    run_tasks: bool = True
    allow_hosts: str = ""
    rate_limit_per_s: float = 0.0
    rate_limit_burst: int = 0
    log_format: str = "text"
    access_log: bool = False
    metrics: bool = False

    def __post_init__(self) -> None:
        if self.synchronous not in _LEVELS:
            raise SettingsError(
                f"synchronous is {self.synchronous!r}", hint=f"one of {', '.join(_LEVELS)}"
            )
        if self.log_format not in _LOG_FORMATS:
            raise SettingsError(
                f"log_format is {self.log_format!r}", hint=f"one of {', '.join(_LOG_FORMATS)}"
            )
        for name in ("rate_limit_per_s", "rate_limit_burst"):
            if getattr(self, name) < 0:
                raise SettingsError(f"{name} is {getattr(self, name)}", hint="0 or more")
        if not 0 <= self.port <= 65_535:
            raise SettingsError(f"port is {self.port}", hint="from 0 to 65535")
        for name in ("query_timeout_s", "body_bytes_max", "body_array_bytes_max"):
            if getattr(self, name) <= 0:
                raise SettingsError(f"{name} is {getattr(self, name)}", hint="more than 0")

    @classmethod
    def load(
        cls,
        flags: Mapping[str, Any] | None = None,
        *,
        environ: Mapping[str, str] | None = None,
        file: Path | None = None,
    ) -> Settings:
        """Gather the settings.

        Args:
            flags: by name; None stands for a flag that was not given.
            environ: the process environment, as far as it shall count.
            file: an INI file with a section ``[server]``.

        Raises:
            SettingsError: a name that is no setting, or a value that does not fit.
        """
        hints = get_type_hints(cls)
        given: dict[str, Any] = {}
        for source, values in (
            (f"file {file}", _from_file(file)),
            ("environment", _from_environment(environ or {}, hints)),
            ("flags", {name: value for name, value in (flags or {}).items() if value is not None}),
        ):
            for name, value in values.items():
                if name not in hints:
                    raise SettingsError(
                        f"{name!r} in the {source} is not a setting",
                        hint=f"the settings are {', '.join(field.name for field in fields(cls))}",
                    )
                given[name] = _converted(name, value, hints[name])
        return cls(**given)


def _from_file(file: Path | None) -> dict[str, str]:
    if file is None:
        return {}
    parser = configparser.ConfigParser(interpolation=None)
    try:
        with file.open(encoding="utf-8") as lines:
            parser.read_file(lines)
    except (OSError, UnicodeDecodeError, configparser.Error) as error:
        raise SettingsError(f"the settings file {file} cannot be read: {error}") from error
    return dict(parser["server"]) if parser.has_section("server") else {}


def _from_environment(environ: Mapping[str, str], hints: Mapping[str, Any]) -> dict[str, str]:
    """Only names that are settings: ``FLOWKIT_TOKEN`` and the like belong to the client."""
    # FLOWKIT_HOST and FLOWKIT_ACCOUNT say where a client goes; a server must not listen there
    ours = set(hints) - {"host", "account"}
    names = {f"FLOWKIT_{name.upper()}": name for name in ours}
    return {names[key]: value for key, value in environ.items() if key in names}


def _converted(name: str, value: Any, kind: Any) -> Any:
    if not isinstance(value, str):
        return kind(value) if kind in (float, Path) else value
    if kind is bool:
        if value.lower() not in _TRUE | _FALSE:
            raise SettingsError(f"{name} is {value!r}", hint="true or false")
        return value.lower() in _TRUE
    try:
        return kind(value)
    except ValueError:
        raise SettingsError(
            f"{name} is {value!r}", hint=f"a value of type {kind.__name__}"
        ) from None
