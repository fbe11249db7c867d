"""``flowkit outbox``: what devices and streamers keep that is not sent yet.

``list``, ``show``, ``dead`` and ``export`` only read, beside a program that has the file open. The
others change it and are refused while it is open elsewhere.

Source: ``docs/reference/cli.rst``.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flowkit.ending import fail, one_sentence
from flowkit.errors import SettingsError

if TYPE_CHECKING:
    from flowkit.device.glance import Glance
    from flowkit.device.link import HttpLink
    from flowkit.device.outbox import Outbox
    from flowkit.device.rows import Row

__all__ = ["outbox"]

_CHARS_MAX = 60
_ROWS = 1000
_FILE = click.Path(path_type=Path, dir_okay=False)


@click.group()
def outbox() -> None:
    """See and change what is kept to be sent: the files of outboxes and streamers."""


@contextmanager
def _look(file: Path) -> Iterator[Glance]:
    from flowkit.device.glance import Glance

    with Glance(file) as seen:
        yield seen


@contextmanager
def _held(file: Path) -> Iterator[Outbox]:
    """The outbox itself, which must be there."""
    from flowkit.device.outbox import Outbox

    if not file.exists():
        raise SettingsError(f"there is no file {file}")
    with Outbox(str(file)) as box:
        yield box


def _when(ms: float | None) -> str:
    if ms is None:
        return "-"
    try:
        return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return f"{ms} ms"


def _short(data: bytes) -> str:
    text = data.decode("utf-8", "replace")
    text = "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)
    return text if len(text) <= _CHARS_MAX else text[: _CHARS_MAX - 1] + "…"


@outbox.command("list")
@click.argument("files", metavar="[FILE]…", nargs=-1, type=_FILE)
def list_(files: tuple[Path, ...]) -> None:
    """One line for each FILE; without any, for those that streamers have left in the state folder.

    How many entries wait, since when, how many dead letters there are, and who has it open.
    """
    with one_sentence():
        from flowkit.device.statefiles import folder

        for file in files or sorted(folder().glob("*.db")):
            with _look(file) as seen:
                held = seen.held()
                count, size = sum(each.entries for each in held), sum(each.bytes for each in held)
                whose = f"{seen.device or '-'} at {seen.instance or '-'}"
                click.echo(
                    f"{file}  {count} entries  {size} bytes  oldest {_when(seen.oldest_ms())}  "
                    f"{len(seen.dead())} dead  {whose}  open in {seen.holder or 'no process'}"
                )


@outbox.command()
@click.argument("file", type=_FILE)
@click.option("--stream", metavar="NAME", help="The entries of this stream.")
@click.option("-n", "--count", type=click.IntRange(min=1), default=20, help="Most [default: 20].")
def show(file: Path, stream: str | None, count: int) -> None:
    """What waits in FILE by stream, what happened in it; or the entries of one stream."""
    with one_sentence(), _look(file) as seen:
        if stream is not None:
            for row in seen.rows(stream, count):
                click.echo(_line(row))
            return
        click.echo(f"box {seen.box}")
        for each in seen.held():
            click.echo(
                f"stream {each.stream}  {each.entries} entries  {each.bytes} bytes  "
                f"{each.skips} skips  settled up to {each.settled}"
            )
        for report in seen.reports():
            facts = json.dumps(report.facts, ensure_ascii=False)
            click.echo(f"{_when(report.at_ms)}  {report.kind}  {facts}")


def _line(row: Row) -> str:
    where = f"{row.sequence}" if row.to == row.sequence else f"{row.sequence} to {row.to}"
    if row.skip is not None:
        return f"{where}  skip: {row.skip}"
    failed = f"  {row.attempts} attempts, last: {row.error}" if row.attempts else ""
    return f"{where}  {_when(row.made_ms)}  {_short(row.entry or b'')}{failed}"


@outbox.command()
@click.argument("file", type=_FILE)
def dead(file: Path) -> None:
    """The dead letters of FILE: what a platform refused for good, and why."""
    with one_sentence(), _look(file) as seen:
        for letter in seen.dead():
            click.echo(
                f"{letter.id}  {_when(letter.died_ms)}  {letter.stream}  {_short(letter.entry)}  "
                f"{letter.error}"
            )


@outbox.command()
@click.argument("file", type=_FILE)
@click.argument("letter", metavar="[LETTER]", type=int, required=False)
def requeue(file: Path, letter: int | None) -> None:
    """Put the dead LETTER, or all of them, at the end of their streams again."""
    with one_sentence(), _held(file) as box:
        click.echo(f"{len(box.requeue(letter))} put again")


@outbox.command()
@click.argument("file", type=_FILE)
@click.option("--letter", metavar="ID", type=int, help="This dead letter.")
@click.option("--letters", is_flag=True, help="All dead letters.")
@click.option("--stream", metavar="NAME", help="What waits in this stream.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def drop(file: Path, letter: int | None, letters: bool, stream: str | None, yes: bool) -> None:
    """Delete dead letters, or what waits in a stream, from FILE. It asks first."""
    with one_sentence():
        if (letter is not None) + letters + (stream is not None) != 1:
            fail("name one of --letter ID, --letters and --stream NAME", code=2)
        with _held(file) as box:
            if not yes:
                click.confirm("What is dropped is gone. Go on?", abort=True)
            if stream is None:
                click.echo(f"{box.discard(letter)} dropped")
                return
            click.echo(f"{_drop_all(box, stream)} dropped")


def _drop_all(box: Outbox, stream: str) -> int:
    """Drop all entries of a stream, some at a time; there may be a million."""
    count, limit = 0, _ROWS
    while True:
        seen = box.peek(stream, limit=limit)
        rows = [row for row in seen if row.skip is None]
        if not rows and len(seen) < limit:
            return count
        count += box.drop(rows, "dropped by hand")
        limit += _ROWS  # what was sent before leaves skips, which stand in front


@outbox.command()
@click.argument("file", type=_FILE)
def export(file: Path) -> None:
    """Print all entries and dead letters of FILE, one JSON object for each line.

    Members: stream, sequence, message, made_ms, entry; payload in base 64 where there is one; for
    a dead letter dead, what the platform said.
    """
    with one_sentence(), _look(file) as seen:
        for letter in seen.dead():
            _print(letter, seen.payload(letter), {"dead": letter.error})
        for row in (row for held in seen.held() for row in seen.rows(held.stream)):
            if row.skip is None:
                _print(row, seen.payload(row), {})


def _print(what: Any, payload: bytes, more: dict[str, Any]) -> None:
    said = {name: getattr(what, name) for name in ("stream", "sequence", "message", "made_ms")}
    said |= {"entry": json.loads(what.entry or b"null"), **more}
    if payload:
        said["payload"] = base64.b64encode(payload).decode()
    click.echo(json.dumps(said, ensure_ascii=False))


@outbox.command()
@click.argument("file", type=_FILE)
@click.option("--profile", metavar="NAME", help="Where and who [FLOWKIT_PROFILE].")
@click.option(
    "--timeout", "timeout_s", type=click.FloatRange(min=0), help="Most seconds [default: 60]."
)
def replay(file: Path, profile: str | None, timeout_s: float | None) -> None:
    """Send what waits in FILE to the platform, as the program would that wrote it.

    What a device client has left goes with the credential in its file. The exit code is 1 if
    something is left.
    """
    with one_sentence():
        from flowkit.device.buckets import make_flow
        from flowkit.device.sender import Sender

        with _held(file) as box:
            link = _way(box, profile)

            def make(path: str) -> bool:
                name = box.kept(f"bucket {path}")
                return name is not None and make_flow(link, path, name)

            before = box.pending.count
            with Sender(box, link, on_missing=make) as sender:
                left = sender.flush(60.0 if timeout_s is None else timeout_s)
                why = sender.state.error
        click.echo(f"{before - left.count} of {before} entries are settled, {left.count} wait")
        if left.count:
            fail(why or "the time was up", code=1)


def _way(box: Outbox, profile: str | None) -> HttpLink:
    """To the platform that a file belongs to, as whom it was written: its marks are theirs.

    Raises:
        SettingsError: host, account or token is not known.
    """
    from flowkit.client.credentials import Profile, find_profile
    from flowkit.device.link import HttpLink

    registration = box.kept("registration")
    if registration is not None and box.instance is not None:
        host, _, account = box.instance.rpartition("/")
        return HttpLink(host, account, registration["token"])
    account_of_streamer = box.device if box.kept_sizes("bucket ") else None
    given = Profile(host=box.instance, account=account_of_streamer)
    found, where = find_profile(profile, given=given)
    if not (found.host and found.account and found.token):
        raise SettingsError(f"host, account or token is not known: {where}")
    return HttpLink(found.host, found.account, found.token)
