"""``flowkit devices``: which devices there are, who wants to become one, and deciding that.

The commands speak to a running server, as ``flowkit tail`` does: where it is and who asks comes
from a profile or the environment, and it takes the master token of the account.

Source: ``docs/reference/cli.rst``, ``docs/howto/provision_a_fleet.rst``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

import click

from flowkit import limits
from flowkit.ending import one_sentence

if TYPE_CHECKING:
    from flowkit.client.api import API

__all__ = ["devices"]

F = TypeVar("F", bound=Callable[..., Any])

_DAY_MS = 24 * 3_600_000
_CHARS_MAX = 60
_MODES = ("any", "device", "token", "approver")


def _asking(command: F) -> F:
    """The flag that says where and who."""
    return click.option("--profile", metavar="NAME", help="Where and who [FLOWKIT_PROFILE].")(
        command
    )


def _as_json(command: F) -> F:
    """The flag for programs."""
    return click.option("--json", "as_json", is_flag=True, help="One JSON object for each line.")(
        command
    )


@click.group()
def devices() -> None:
    """The devices of an account, and those that want to become one."""


@devices.command("list")
@click.argument("filters", metavar="[FILTER]…", nargs=-1)
@click.option("-n", "--count", type=click.IntRange(min=1), help="Show so many, the newest.")
@_as_json
@_asking
def list_devices(
    filters: Sequence[str], count: int | None, as_json: bool, profile: str | None
) -> None:
    """Print the devices, the newest first; with FILTER those that match.

    \b
    flowkit devices list "reported.firmware < '2.0'" "tags.site == 'oslo'"
    """
    with _api(profile) as api:
        for each in api.device.find_iter(*filters, limit=count):
            shown = each.get("deviceId") or each["path"]
            ago = each["timeSinceLastSeen"]
            seen = "never" if ago < 0 else f"{_span(ago)} ago"
            _say(each, as_json, each["id"], shown, each.get("status"), seen)


@devices.command()
@_as_json
@_asking
def pending(as_json: bool, profile: str | None) -> None:
    """Print the operations that wait for a decision, the newest first: code, deviceId, time left.

    A device that would take the place of one that is there says so.
    """
    with _api(profile) as api:
        now_ms = int(datetime.now(UTC).timestamp() * 1000)
        for each in api.provisioning.find_iter("status == 'pending'"):
            left = f"{_span(max(0, each['expiresAt'] - now_ms))} left"
            note = f"replaces {each['replaces']}" if "replaces" in each else ""
            _say(each, as_json, each["code"], each.get("deviceId", "(no id)"), left, note)


@devices.command()
@click.argument("code")
@click.option("--device-id", metavar="ID", help="The id that the device gets.")
@_asking
def approve(code: str, device_id: str | None, profile: str | None) -> None:
    """Let the device that shows CODE become one of the account."""
    with _api(profile) as api:
        made = api.provisioning.approve(code, device_id)
        click.echo(f"{made['code']} is approved as {made['deviceId']}")


@devices.command()
@click.argument("code")
@_asking
def reject(code: str, profile: str | None) -> None:
    """Refuse the device that shows CODE."""
    with _api(profile) as api:
        click.echo(f"{api.provisioning.reject(code)['code']} is rejected")


@devices.group()
def token() -> None:
    """Provisioning tokens: what devices ask with."""


@token.command()
@click.option("--description", metavar="TEXT", help="What it is for; shown in lists.")
@click.option("--device-id", metavar="ID", help="The deviceId of who comes with it.")
@click.option(
    "--device-id-mode",
    type=click.Choice(_MODES),
    help="Who chooses the deviceId [default: any].",
)
@click.option("--auto-approve", is_flag=True, help="Nobody is asked, unless a device is replaced.")
@click.option(
    "--registration-days",
    metavar="N",
    type=click.FloatRange(min=0, min_open=True),
    help="How long the Token of a device lives [default: for ever].",
)
@click.option(
    "--days",
    metavar="N",
    type=click.FloatRange(min=0, min_open=True),
    help="How long this token lives [default: for ever].",
)
@_asking
def create(
    profile: str | None,
    auto_approve: bool,
    days: float | None,
    registration_days: float | None,
    **asked: Any,
) -> None:
    """Make a provisioning token and print it, and nothing else, on stdout."""
    members = {
        "description": asked["description"],
        "deviceId": asked["device_id"],
        "deviceIdMode": asked["device_id_mode"],
        "autoApprove": auto_approve or None,
        "registrationDuration": _in_ms(registration_days),
        "duration": _in_ms(days),
    }
    with _api(profile) as api:
        given = {name: value for name, value in members.items() if value is not None}
        made = api.provisioning_token.create(given)
        click.echo(made["provisioningToken"])
        click.echo(f"its id is {made['id']}", err=True)


def _in_ms(days: float | None) -> int | None:
    """Days in ms, at least one."""
    if days is None:
        return None
    return max(1, round(min(days * _DAY_MS, limits.credential_duration_ms_max)))


@contextmanager
def _api(profile: str | None) -> Iterator[API]:
    """The owner's API within a command; what goes wrong there becomes one sentence."""
    with one_sentence():
        from flowkit.client.api import connect

        with connect(profile) as api:
            yield api


def _say(doc: Any, as_json: bool, *parts: object) -> None:
    """A line about *doc*: all of it, or *parts* of it for people."""
    if as_json:
        click.echo(json.dumps(doc))
    else:
        click.echo("\t".join(_plain(str(part)) for part in parts if part))


def _plain(text: str) -> str:
    """What a device says of itself, on one line and without anything that a terminal obeys."""
    shown = text if text.isprintable() else json.dumps(text)[1:-1]
    return shown if len(shown) <= _CHARS_MAX else f"{shown[: _CHARS_MAX - 1]}…"


def _span(ms: int) -> str:
    """A time in its largest unit."""
    for unit, size in (("d", _DAY_MS), ("h", 3_600_000), ("min", 60_000)):
        if ms >= size:
            return f"{ms // size} {unit}"
    return f"{ms // 1000} s"
