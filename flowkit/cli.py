"""The command line: ``flowkit serve``, ``token rotate``, ``backup``, ``account add`` and the rest.

A command says what is wrong in one sentence and ends with code 2 for a wrong call or setting, 1 for
what went wrong after that, 0 otherwise, a stop by signal included. A traceback is a defect.

A setting comes from its flag, else from the environment (``FLOWKIT_DATA``, ``FLOWKIT_PORT`` …),
else from the default. ``FLOWKIT_HOST``, ``FLOWKIT_ACCOUNT`` and ``FLOWKIT_TOKEN`` say where a
*client* goes and do not change where a server listens.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any, TypeVar

import click

from flowkit._version import __version__
from flowkit.cli_devices import devices
from flowkit.cli_outbox import outbox
from flowkit.ending import fail, one_sentence
from flowkit.errors import UsageError
from flowkit.server.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flowkit.server.serve import Server
    from flowkit.server.store.base import Store

__all__ = ["cli"]

F = TypeVar("F", bound=Callable[..., Any])

_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.group(context_settings=_CONTEXT)
@click.version_option(__version__, message="flowkit %(version)s")
def cli() -> None:
    """Streams of device data: a self-hosted platform, and a filter language to ask it.

    Start with `flowkit demo`, or `flowkit serve` for a platform that keeps its data.
    """


cli.add_command(devices)
cli.add_command(outbox)


def _data(command: F) -> F:
    """The flag that says which folder."""
    return click.option(
        "--data",
        metavar="DIR",
        type=click.Path(path_type=Path, file_okay=False),
        help="The data folder [FLOWKIT_DATA, default: ./flowkit-data].",
    )(command)


def _data_and_account(command: F) -> F:
    """The two flags that say which account in which folder."""
    account = click.option("--account", metavar="NAME", help="The account [default: flowkit].")
    return _data(account(command))


@cli.command()
@_data_and_account
@click.option("--host", metavar="ADDRESS", help="Where to listen [default: 127.0.0.1].")
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    help="The port [FLOWKIT_PORT, default: 8080]; 0 takes a free one.",
)
@click.option(
    "--save-profile",
    metavar="NAME",
    help="Write URL, account and token to this profile, for `flowkit.connect(NAME)`.",
)
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    help="How lines of the log are written [FLOWKIT_LOG_FORMAT, default: text].",
)
@click.option(
    "--access-log",
    is_flag=True,
    default=None,
    help="Log every request [FLOWKIT_ACCESS_LOG].",
)
@click.option(
    "--metrics",
    is_flag=True,
    default=None,
    help="Answer GET /metrics, to whoever can reach the port [FLOWKIT_METRICS].",
)
@click.option(
    "--rate-limit-per-s",
    metavar="N",
    type=float,
    help="Requests a second for each credential [FLOWKIT_RATE_LIMIT_PER_S, default: no limit].",
)
def serve(save_profile: str | None, **flags: Any) -> None:
    """Run a platform until Ctrl-C or SIGTERM.

    The first start makes the data folder and the account, and prints the master token, this once.
    Requests under way are given ten seconds to end when it is stopped; a second Ctrl-C does not
    wait.
    """
    if find_spec("re2") is None:  # else the first regex of a filter would find that out
        raise ModuleNotFoundError("no regular expressions", name="re2")
    with one_sentence():
        from flowkit.server.serve import serve as run

        def save(server: Server) -> list[str]:
            return [_save_profile(save_profile, server)] if save_profile else []

        run(_settings(flags), say=_say, on_open=save)


@cli.group()
def token() -> None:
    """The master token of an account."""


@token.command()
@_data_and_account
@click.option("--save-profile", metavar="NAME", help="Write the new token to this profile, too.")
def rotate(save_profile: str | None, **flags: Any) -> None:
    """Replace the master token by a new one and print it.

    The old one stops working at once. The data folder must not be in use: stop its server first.
    """
    with one_sentence():
        from flowkit.server.auth import rotate as rotate_token

        settings = _settings(flags)
        with _opened(settings) as store:
            secret = rotate_token(store, settings.account)
        _say(secret)
        if save_profile:
            from flowkit.client.credentials import save_profile as save

            host = _profile(save_profile).host or f"http://{settings.host}:{settings.port}"
            path = save(save_profile, host, settings.account, secret)
            click.echo(f"profile {save_profile!r} saved in {path}", err=True)


@cli.command()
@click.option("--keep", is_flag=True, help="Leave the server running at the end, until Ctrl-C.")
def demo(keep: bool) -> None:
    """Load a week of earthquakes and ask it things.

    A real week, into a server of its own with a temporary folder, which is removed at the end.
    """
    with one_sentence():
        from flowkit.demo import run

        run(keep=keep, say=_say)


_FILE = click.Path(path_type=Path, dir_okay=False)


@cli.command()
@click.argument("flow")
@click.argument("filters", metavar="[FILTER]…", nargs=-1)
@click.option("--since", metavar="POSITION", help="Go on after this position; start: all held.")
@click.option("--changes", metavar="KINDS", help="create,replace,update,delete,evict: which ones.")
@click.option("--only", metavar="MEMBERS", help="Show these members alone, commas between.")
@click.option("--resume-file", type=_FILE, help="Keep the place here, and go on there next time.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each line.")
@click.option("-n", "--count", type=click.IntRange(min=1), help="End after so many drops.")
@click.option("--profile", metavar="NAME", help="Where and who [FLOWKIT_PROFILE].")
def tail(flow: str, profile: str | None, changes: str | None, **asked: Any) -> None:
    """Print the drops of FLOW as they come: its path or id, with FILTER those that match.

    \b
    flowkit tail /nora/greenhouse 'temp > 20'
    flowkit tail /nora/greenhouse --since start --json | jq .elems

    A lost connection is taken up again where it was; what cannot be had any more is told as a gap.
    Ctrl-C ends it and says how to go on from there.
    """
    with one_sentence():
        from flowkit.client.api import connect
        from flowkit.tail import tail as follow

        kinds = None if changes is None else [each.strip() for each in changes.split(",")]

        def tell(line: str) -> None:
            click.echo(line, err=True)

        with connect(profile) as api:
            follow(api, flow, changes=kinds, say=_say, tell=tell, **asked)


@cli.command()
@click.argument("file", type=_FILE)
@_data
@click.option("--force", is_flag=True, help="Take the place of a FILE that is there already.")
def backup(file: Path, data: Path | None, force: bool) -> None:
    """Copy the store in a data folder to FILE, while its server runs.

    The copy is the store of one moment. It is checked before it gets its name.
    """
    with one_sentence():
        from flowkit.server.store.backup import backup as make

        folder = _settings({"data": data}).data
        with _bar("Copying") as progress:
            size = make(folder, file, replace=force, progress=progress)
        _say(f"{file}: {size / 1e6:,.1f} MB, sound")


@cli.command()
@click.argument("file", type=_FILE)
@_data
def restore(file: Path, data: Path | None) -> None:
    """Make a data folder of the backup FILE; the folder must be new or empty."""
    with one_sentence():
        from flowkit.server.store.backup import restore as make
        from flowkit.server.store.sqlite import clock_ms

        folder = _settings({"data": data}).data
        with _bar("Copying") as progress:
            size = make(file, folder, now_ms=clock_ms(), progress=progress)
        _say(f"{folder}: {size / 1e6:,.1f} MB, sound; start it with: flowkit serve --data {folder}")


@cli.command()
@click.argument("file", type=_FILE, required=False)
@_data
def verify(file: Path | None, data: Path | None) -> None:
    """Check every number and every page of a store, or of a backup FILE.

    It only reads; a server may have the data folder open. Exit code 1 if anything is wrong.
    """
    with one_sentence():
        from flowkit.server.store.backup import store_file
        from flowkit.server.store.verify import verify as check

        found = store_file(file if file is not None else _settings({"data": data}).data)
        faults = check(found)
        for fault in faults:
            click.echo(fault, err=True)
        if faults:
            sys.exit(1)
        _say(f"{found} is sound")


@cli.group()
def account() -> None:
    """The accounts in a data folder."""


@account.command("add")
@click.argument("name")
@_data
def account_add(name: str, data: Path | None) -> None:
    """Make the account NAME and print its master token, this once.

    The data folder must not be in use: stop its server first.
    """
    with one_sentence():
        from flowkit.server.auth import ensure_account

        with _opened(_settings({"data": data})) as store:
            _, secret = ensure_account(store, name)
        if secret is None:
            raise UsageError(
                f"the account {name!r} is there already",
                hint="for a new token: flowkit token rotate",
            )
        _say(secret)


@account.command("list")
@_data
def account_list(data: Path | None) -> None:
    """Print each account's name and the id of its identity, oldest first."""
    with one_sentence():
        from flowkit.server.store.sqlite import look_into

        folder = _settings({"data": data}).data
        for each in look_into(folder, lambda reader: reader.accounts()):
            _say(f"{each.name}\t{each.identity_id}")


@account.command("remove")
@click.argument("name")
@_data
@click.option("--yes", is_flag=True, help="Do not ask.")
def account_remove(name: str, data: Path | None, yes: bool) -> None:
    """Remove the account NAME with everything that is in its namespace and all that it made.

    The data folder must not be in use: stop its server first.
    """
    with one_sentence():
        settings = _settings({"data": data})
        with _opened(settings) as store:
            if store.read(lambda reader: reader.account(name)) is None:
                raise UsageError(f"there is no account {name!r} in {settings.data}")
            if not yes and not click.confirm(f"Remove {name} and everything it has?", err=True):
                fail("nothing was removed", code=1)
            store.write(lambda writer: writer.delete_account(name))


@contextmanager
def _bar(what: str) -> Iterator[Callable[[int, int], object]]:
    """A progress bar in bytes, on a terminal."""
    from tqdm import tqdm

    with tqdm(desc=what, unit="B", unit_scale=True, disable=None) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield progress


def _say(line: str) -> None:
    """Print a line at once, also into a pipe; nothing if there is no stdout."""
    click.echo(line)


def _settings(flags: dict[str, Any]) -> Settings:
    return Settings.load(flags, environ=os.environ)


@contextmanager
def _opened(settings: Settings) -> Iterator[Store]:
    """The store of an existing data folder."""
    from flowkit.server.serve import open_data

    if not settings.data.is_dir():
        raise UsageError(
            f"there is no data folder {settings.data}",
            hint="name the one of the server with --data",
        )
    store = open_data(settings)
    try:
        yield store
    finally:
        store.close()


def _save_profile(name: str, server: Server) -> str:
    """Write the profile of a server that is about to answer.

    After the first start the token is known only as a hash: then the profile must hold it already.
    """
    from flowkit.client.credentials import save_profile
    from flowkit.server.auth import hash_secret

    secret = server.first_token
    if secret is None:
        known = _profile(name).token
        if known is not None:
            hashed = hash_secret(known)
            owner = server.store.read(lambda reader: reader.credential(hashed))
            secret = known if owner is not None and owner.account.name == server.account else None
    if secret is None:
        folder = quote(str(server.settings.data))
        raise UsageError(
            f"the token of account {server.account!r} is kept only as a hash, so the profile "
            f"{name!r} cannot be written",
            hint=f"make a new token: flowkit token rotate --data {folder} "
            f"--account {server.account} --save-profile {quote(name)}",
        )
    path = save_profile(name, server.url, server.account, secret)
    return f"  profile  {name!r} in {path}"


def _profile(name: str) -> Any:
    """The stored profile, an empty one if there is none; the environment is not asked."""
    from flowkit.client.credentials import Profile, find_profile, profiles_path

    places = {key: os.environ[key] for key in ("XDG_CONFIG_HOME",) if key in os.environ}
    if not profiles_path().exists():
        return Profile()
    try:
        return find_profile(name, environ=places)[0]
    except UsageError:
        return Profile()
