"""The command line as its users meet it: sentences, exit codes, no traceback."""

import configparser
import os
import re
import shlex
import socket
import subprocess
import sys
from importlib.metadata import entry_points

import pytest
from click.testing import CliRunner
from server_process import ServerProcess, environment

import flowkit
from flowkit.cli import cli
from flowkit.client.api import connect
from flowkit.errors import Forbidden


def run(*arguments, **environ):
    """Run the command: (exit code, stdout, stderr)."""
    done = subprocess.run(
        [sys.executable, "-m", "flowkit", *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment(**environ),
        timeout=30,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def config(tmp_path, monkeypatch):
    """A configuration folder of its own, here and in processes."""
    folder = tmp_path / "config"
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder))
    return folder


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["serve"],
        ["token"],
        ["token", "rotate"],
        ["demo"],
        ["devices"],
        *(["devices", name] for name in ("list", "pending", "approve", "reject", "token")),
        ["devices", "token", "create"],
    ],
    ids=lambda arguments: " ".join(arguments) or "flowkit",
)
def test_every_command_explains_itself(arguments):
    """--help and -h answer with a sentence about each flag."""
    for flag in ("--help", "-h"):
        result = CliRunner().invoke(cli, [*arguments, flag], prog_name="flowkit")

        assert result.exit_code == 0
        assert "Usage: flowkit" in result.output
        undescribed = re.findall(r"^  (--[\w-]+(?: [A-Z]+)?)\s*$", result.output, re.MULTILINE)
        lines = result.output.splitlines()
        for option in undescribed:  # click puts the description on the line below
            at = lines.index(f"  {option}")
            assert lines[at + 1].startswith("      "), option


def test_the_version_is_the_packages():
    """``flowkit --version`` and ``python -m flowkit`` are one thing."""
    assert run("--version") == (0, f"flowkit {flowkit.__version__}\n", "")
    (entry,) = entry_points(group="console_scripts", name="flowkit")
    assert entry.value == "flowkit.__main__:main"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nonsense"], "No such command 'nonsense'"),
        (["serve", "--port", "65536"], "65536"),
        (["serve", "--port", "x"], "'x'"),
        (["serve", "--nonsense"], "--nonsense"),
        (["serve", "--account", "No/Name", "--data", "{data}"], "No/Name"),
        (["serve", "--host", "192.0.2.1", "--port", "0", "--data", "{data}"], "192.0.2.1"),
        (["serve", "--data", "{file}"], "file"),
        (["serve", "--data", "{file}/below"], "file/below"),
        (["token", "rotate", "--data", "{data}"], "there is no data folder"),
    ],
)
def test_a_wrong_call_is_one_sentence_and_code_2(tmp_path, arguments, words):
    """It names the value; nothing goes to stdout."""
    (tmp_path / "file").write_text("")
    places = {"data": tmp_path / "data", "file": tmp_path / "file"}
    code, said, errors = run(*[argument.format(**places) for argument in arguments])

    assert (code, said) == (2, "")
    assert words in errors
    assert "Traceback" not in errors


def test_a_busy_port_is_one_sentence(tmp_path):
    """With the port and the way out."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, said, errors = run("serve", "--data", tmp_path, "--port", port)

    assert (code, said) == (2, "")
    assert re.fullmatch(rf"flowkit: cannot listen on 127.0.0.1 port {port}: .*--port.*\n", errors)


@pytest.mark.slow
def test_a_folder_in_use_is_one_sentence_for_every_command(tmp_path):
    """The second process is told who has it and what to do."""
    with ServerProcess(tmp_path) as server:
        for command in (["serve", "--port", "0"], ["token", "rotate"]):
            code, said, errors = run(*command, "--data", tmp_path, "--account", "nora")

            assert (code, said) == (2, "")
            assert f"in use by process {server.process.pid}" in errors
            assert "stop that process" in errors
            assert errors.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("harm", ["cut short", "a folder in its place", "a full disk"])
def test_a_file_that_cannot_be_opened_is_one_sentence(tmp_path, harm):
    """It names the file and what SQLite says of it; a full disk spoils no later start."""
    file, script = tmp_path / "flowkit.sqlite", "pass"
    if harm == "cut short":
        with ServerProcess(tmp_path) as server:
            server.end()
        os.truncate(file, 5_000)
    elif harm == "a folder in its place":
        file.mkdir()
    else:  # as on a full disk, no file of that process can grow
        script = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))"
    script += "; from flowkit.__main__ import main; main()"
    command = [sys.executable, "-c", script, "serve", "--port", "0", "--data", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, env=environment())

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"flowkit: {file} cannot be opened: ")
    assert done.stderr.count("\n") == 1
    if harm == "a full disk":
        with ServerProcess(tmp_path) as server:
            assert server.secret


def test_without_stdout_there_is_nobody_to_tell(monkeypatch):
    """A service may have closed it, which is no fault."""
    monkeypatch.setattr(sys, "stdout", None)
    assert flowkit.cli._say("a line") is None


@pytest.mark.parametrize(("environ", "words"), [({"FLOWKIT_PORT": "http"}, "http")])
def test_a_wrong_setting_of_the_environment_is_one_sentence(tmp_path, environ, words):
    """It is treated like a wrong flag."""
    code, _, errors = run("serve", "--data", tmp_path, **environ)

    assert code == 2
    assert words in errors
    assert errors.count("\n") == 1


@pytest.mark.slow
def test_a_flag_wins_over_the_environment(tmp_path):
    """FLOWKIT_DATA and FLOWKIT_PORT are read unless a flag is there; the client's names never."""
    with ServerProcess(
        tmp_path / "flag",
        FLOWKIT_DATA=str(tmp_path / "environment"),
        FLOWKIT_PORT="1",
        FLOWKIT_HOST="192.0.2.1",
        FLOWKIT_ACCOUNT="else",
    ) as server:
        assert server.url.startswith("http://127.0.0.1:")
    assert (tmp_path / "flag").is_dir()
    assert not (tmp_path / "environment").exists()


@pytest.mark.slow
def test_a_rotated_token_replaces_the_old_one(tmp_path):
    """The new one is all that is printed, and it opens the account; the old one does not."""
    with ServerProcess(tmp_path) as server:
        old = server.secret
    code, said, errors = run("token", "rotate", "--data", tmp_path, "--account", "nora")

    assert (code, errors) == (0, "")
    assert re.fullmatch(r"\w{32}\n", said)
    with ServerProcess(tmp_path) as server:
        with server.connect(said.strip()) as api:
            assert api.flow.find() == []
        with server.connect(old) as api, pytest.raises(Forbidden):
            api.flow.find()
    code, _, errors = run("token", "rotate", "--data", tmp_path, "--account", "else")
    assert (code, errors) == (2, "flowkit: there is no account 'else' here\n")


@pytest.mark.slow
def test_a_saved_profile_connects(tmp_path, config):
    """From the first start on, for its owner only; a later start renews the URL."""
    urls = []
    for _ in range(2):
        with ServerProcess(tmp_path / "data", "--save-profile", "home") as server:
            urls.append(server.url)
            with connect("home") as api:
                assert api.flow.find() == []
            server.end()
    path = config / "flowkit" / "profiles.ini"
    stored = configparser.ConfigParser()
    stored.read(path)

    assert path.stat().st_mode & 0o777 == 0o600
    assert stored["home"]["host"] == urls[1]
    assert stored["home"]["account"] == "nora"


@pytest.mark.slow
def test_a_profile_without_its_token_is_refused_until_there_is_one(tmp_path, config):
    """After the first start only a hash is kept; the refusal names the command that makes one."""
    data = tmp_path / "a folder"
    with ServerProcess(data) as server:
        server.end()
    flags = ("--data", data, "--account", "nora", "--save-profile", "home")
    code, said, errors = run("serve", "--port", "0", *flags)
    assert (code, said) == (2, "")

    named = shlex.split(re.search(r"make a new token: flowkit (.*)\)", errors)[1])
    code, said, errors = run(*named)
    assert code == 0
    assert said.strip() not in errors

    with ServerProcess(data, "--save-profile", "home") as server, connect("home") as api:
        assert api.flow.find() == []


@pytest.mark.slow
def test_a_profile_that_cannot_be_written_does_not_lose_the_first_token(tmp_path, config):
    """The start fails with a sentence, but the token has been shown."""
    code, said, errors = run(
        "serve", "--port", "0", "--data", tmp_path / "data", "--save-profile", "a]b"
    )

    assert code == 2
    assert "a]b" in errors
    assert re.search(r"token +\w{32}$", said, re.MULTILINE)


@pytest.mark.parametrize("missing", ["click", "apsw", "orjson", "re2"])
def test_a_missing_extra_is_one_sentence(tmp_path, missing):
    """Without the packages of the extra ``server`` the command says how to get them."""
    script = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        f"sys.argv = ['flowkit', 'serve', '--port', '0', '--data', {str(tmp_path)!r}]\n"
        "from flowkit.__main__ import main; main()"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20)

    assert (done.returncode, done.stdout) == (1, "")
    assert missing in done.stderr
    assert done.stderr.endswith("Install it with: pip install 'flowkit[server]'\n")
    assert "Traceback" not in done.stderr


def test_a_defect_is_not_mistaken_for_a_missing_extra():
    """Only the extra's own packages are explained; another missing module is shown as it is."""
    script = (
        "import sys; sys.modules['flowkit.limits'] = None\n"
        "from flowkit.__main__ import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)

    assert "flowkit.limits" in done.stderr
    assert "pip install" not in done.stderr
