"""Backup, restore, verify and accounts, as who keeps a data folder meets them."""

from __future__ import annotations

import re
import stat

import apsw
import pytest
from click.testing import CliRunner
from server_process import ServerProcess

from flowkit import embedded
from flowkit.cli import cli
from flowkit.server.auth import hash_secret
from flowkit.server.store.sqlite import FILE_NAME, look_into


def run(*arguments, said: str | None = None):
    """Run a command: (exit code, stdout, stderr)."""
    done = CliRunner().invoke(cli, [str(each) for each in arguments], input=said)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.stdout, done.stderr


@pytest.fixture
def folder(tmp_path):
    """A data folder of the account nora, with a flow of three drops."""
    folder = tmp_path / "data"
    with embedded(folder, account="nora") as api:
        flow = api.flow.create({"path": "/nora/a"})
        for n in range(3):
            api.drop(flow["id"]).create({"elems": {"n": n}})
    return folder


def test_a_backup_is_restored_into_a_folder_of_its_own(folder, tmp_path):
    """Every step says in one line what there is now, and the restored folder has every drop."""
    file, again = tmp_path / "nora.backup", tmp_path / "again"

    code, out, err = run("backup", file, "--data", folder)
    assert (code, err) == (0, "")
    assert re.fullmatch(rf"{file}: 0\.\d MB, sound\n", out)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert run("verify", file) == (0, f"{file} is sound\n", "")
    code, out, _ = run("restore", file, "--data", again)
    assert code == 0
    assert f"flowkit serve --data {again}" in out
    assert run("verify", "--data", again)[0] == 0
    with embedded(again, account="nora") as api:
        assert [each["elems"]["n"] for each in api.drop.find(path="/nora/a")] == [2, 1, 0]


@pytest.mark.slow
def test_a_backup_of_a_running_server_holds_what_was_answered(tmp_path):
    """Backup, verify and the list of accounts work beside the server."""
    with (
        ServerProcess(tmp_path / "data") as server,
        server.connect() as api,
    ):
        api.flow.create({"path": "/nora/a"})
        assert run("backup", tmp_path / "copy", "--data", tmp_path / "data")[0] == 0
        assert run("verify", "--data", tmp_path / "data")[0] == 0
        assert run("account", "list", "--data", tmp_path / "data")[1].startswith("nora\ti")
        code, _, err = run("account", "add", "emil", "--data", tmp_path / "data")
        assert code == 2
        assert "in use by process" in err

    run("restore", tmp_path / "copy", "--data", tmp_path / "again")
    assert look_into(tmp_path / "again", lambda r: r.flow_at("/nora/a")) is not None


def test_verify_names_every_fault(folder):
    """One sentence each on stderr, and code 1."""
    connection = apsw.Connection(str(folder / FILE_NAME))
    connection.execute("UPDATE flow SET live = 5 WHERE path = '/nora/a'")
    connection.execute("INSERT INTO statistic VALUES ('f0', 'flowDropAdded', 1, 1)")
    connection.execute("UPDATE credential SET object_id = 'k0'")
    connection.execute("INSERT INTO group_member VALUES ('i0', 'g0')")
    connection.execute("INSERT INTO delivery VALUES (1, '/nora/a', 0, '', NULL, 0)")
    connection.execute("INSERT INTO track_place (track, place) VALUES ('t0', 2)")
    connection.close()

    code, out, err = run("verify", "--data", folder)
    assert (code, out) == (1, "")
    for fault in (
        "3 live rows, counted 5",
        "1 statistics are of nothing that exists",
        "1 secrets belong to no object",
        "1 members of groups are in no group's list",
        "1 deliveries have a source without an enabled track",
        "1 tracks have no place, or places no track",
        "1 tracks are beyond the end of the line",
    ):
        assert fault in err
    assert len(err.splitlines()) == 7


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["backup", "{tmp}/x", "--data", "{tmp}/none"], "there is no store at"),
        (["backup", "{data}/lock", "--data", "{data}"], "is there already"),
        (["backup", "{tmp}/none/x", "--data", "{data}"], "there is no folder"),
        (["restore", "{tmp}/none", "--data", "{tmp}/new"], "there is no store at"),
        (["restore", "{data}/flowkit.sqlite", "--data", "{data}"], "is not empty"),
        (["verify", "--data", "{tmp}/none"], "there is no store at"),
        (["verify", "{data}/lock"], "is not a"),
        (["account", "list", "--data", "{tmp}/none"], "there is no store in"),
        (["account", "add", "emil", "--data", "{tmp}/none"], "there is no data folder"),
        (["account", "add", "nora", "--data", "{data}"], "there already"),
        (["account", "add", "No/Name", "--data", "{data}"], "cannot be the name"),
        (["account", "remove", "emil", "--yes", "--data", "{data}"], "no account 'emil'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_work_is_one_sentence_and_code_2(folder, tmp_path, arguments, said):
    """It names what was given."""
    filled = [each.format(tmp=tmp_path, data=folder) for each in arguments]
    code, out, err = run(*filled)

    assert (code, out) == (2, "")
    assert said in err
    assert len(err.splitlines()) == 1


def test_an_account_comes_with_its_token_and_goes_with_everything(folder):
    """The token is printed once; a removal is asked about."""
    code, secret, err = run("account", "add", "emil", "--data", folder)
    assert (code, err) == (0, "")
    hashed = hash_secret(secret.strip())
    owner = look_into(folder, lambda r: r.credential(hashed))
    assert owner.account.name == "emil"
    listed = run("account", "list", "--data", folder)[1].splitlines()
    assert [line.split("\t")[0] for line in listed] == ["nora", "emil"]

    code, _, err = run("account", "remove", "nora", "--data", folder, said="n\n")
    assert code == 1
    assert "nothing was removed" in err
    assert run("account", "remove", "nora", "--data", folder, said="y\n")[0] == 0
    assert run("account", "remove", "emil", "--yes", "--data", folder) == (0, "", "")
    assert run("account", "list", "--data", folder) == (0, "", "")
    assert look_into(folder, lambda r: r.flow_at("/nora/a")) is None
    assert run("verify", "--data", folder)[0] == 0
