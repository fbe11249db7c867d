"""``flowkit tail`` as its user meets it."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading

import pytest
from click.testing import CliRunner

from flowkit import API, Token
from flowkit.cli import cli
from flowkit.server.serve import Server
from flowkit.server.settings import Settings

SEEN = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z  (.*)")


@pytest.fixture
def house(tmp_path, monkeypatch):
    """A server with a flow of five drops; the environment says where it is."""
    settings = Settings(data=tmp_path, account="nora", host="127.0.0.1", port=0, synchronous="OFF")
    with Server(settings) as server, API(Token("nora", server.first_token), host=server.url) as api:
        monkeypatch.setenv("FLOWKIT_HOST", server.url)
        monkeypatch.setenv("FLOWKIT_ACCOUNT", "nora")
        monkeypatch.setenv("FLOWKIT_TOKEN", server.first_token)
        flow = api.flow.create({"path": "/nora/house"})
        api.drop(flow["id"]).create_many([{"elems": {"n": n}} for n in range(5)])
        yield api, flow


def run(*arguments):
    """Run ``flowkit tail``: (exit code, lines of stdout, stderr)."""
    done = CliRunner().invoke(cli, ["tail", *map(str, arguments)])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.stdout.splitlines(), done.stderr


def test_it_prints_what_is_held_and_says_how_to_go_on(house):
    """Then it goes on from exactly there."""
    code, lines, told = run("/nora/house", "n > 0", "n < 4", "--since", "start", "-n", 2)
    assert (code, [SEEN.fullmatch(line)[1] for line in lines]) == (0, ['{"n": 1}', '{"n": 2}'])
    place = re.fullmatch(r"go on with: --since (\S+)\n", told)[1]
    code, lines, _ = run("/nora/house", "--since", place, "-n", 2)
    assert [SEEN.fullmatch(line)[1] for line in lines] == ['{"n": 3}', '{"n": 4}']


def test_it_prints_what_comes(house):
    """As it is written, from now on."""
    api, flow = house
    stop = threading.Event()

    def write():
        while not stop.wait(0.02):
            api.drop(flow["id"]).create({"elems": {"n": 99}})

    writing = threading.Thread(target=write)
    writing.start()
    try:
        code, lines, _ = run(flow["id"], "-n", 3)
    finally:
        stop.set()
        writing.join()
    assert (code, [SEEN.fullmatch(line)[1] for line in lines]) == (0, ['{"n": 99}'] * 3)


def test_json_is_one_object_for_each_line(house):
    """The drop; with kinds of change what happened to it, too."""
    api, flow = house
    _, lines, _ = run("/nora/house", "--since", "start", "--json", "-n", 1)
    found = api.drop(flow["id"]).find(limit=1, order="asc", sort="creationDate")
    assert json.loads(lines[0]) == found[0]
    api.drop(flow["id"]).delete(found[0]["id"])
    asked = ("--since", "start", "--json", "-n", 1, "--only", "n", "--changes", "delete,evict")
    _, lines, _ = run("/nora/house", *asked)
    told = json.loads(lines[0])
    assert (told["change"], told["value"]["elems"]) == ("delete", {"n": 0})
    assert told["position"].endswith(".6")


@pytest.mark.parametrize(
    ("only", "shown"),
    [
        ("n", '{"n": 0}'),
        ("elems", '{"n": 0}'),
        ("path", '{"path": "/nora/house"}'),
        ("n, path, version", '{"path": "/nora/house", "version": 0, "elems": {"n": 0}}'),
    ],
)
def test_the_members_that_are_asked_for_are_shown(house, only, shown):
    """Elements alone stand alone; beside other members they have their name."""
    _, lines, _ = run("/nora/house", "--since", "start", "-n", 1, "--only", only)
    assert lines[0].partition("  ")[2] == shown


def test_a_resume_file_remembers_the_place(house, tmp_path):
    """Nothing twice, nothing missed."""
    file = tmp_path / "place"
    seen = []
    for _ in range(2):
        asked = ("--since", "start", "-n", 2, "--resume-file", file)
        code, lines, told = run("/nora/house", *asked)
        assert (code, told) == (0, "")
        seen += [SEEN.fullmatch(line)[1] for line in lines]
    assert seen == [f'{{"n": {n}}}' for n in range(4)]


def test_a_gap_is_told_beside_the_drops(house):
    """On stderr: what is held follows."""
    api, flow = house
    api.flow.update({"id": flow["id"], "capacity": 2, "history": 0})
    code, lines, told = run("/nora/house", "--since", "start", "-n", 2)
    assert (code, [SEEN.fullmatch(line)[1] for line in lines]) == (0, ['{"n": 3}', '{"n": 4}'])
    assert told.startswith("gap: changes may be missing (forgotten), up to p1.")


def test_what_a_terminal_would_obey_is_shown_as_escapes(house):
    """Drops come from strangers; JSON escapes the rest by itself."""
    api, flow = house
    api.drop(flow["id"]).create({"elems": {"s": "\x9b31m\u202e"}})
    _, lines, _ = run("/nora/house", "EXISTS s", "--since", "start", "-n", 1)
    assert SEEN.fullmatch(lines[0])[1] == r'{"s": "\u009b31m\u202e"}'


WRONG = {
    "a flow that is not there": (["/nora/nowhere"], 1, "could not be located"),
    "a filter with a slip": (["/nora/house", "n >"], 2, "expected a value at column 4"),
    "a kind that is none": (["/nora/house", "--changes", "make"], 2, "make"),
    "a place that is none": (["/nora/house", "--since", "yesterday"], 2, "yesterday"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_work_is_said_in_one_sentence(house, name):
    """With the exit code that says whose fault it is."""
    arguments, code, words = WRONG[name]
    found, lines, told = run(*arguments)
    assert (found, lines) == (code, [])
    assert words in told
    assert "Traceback" not in told


@pytest.mark.slow
def test_ctrl_c_ends_it_in_order(house):
    """Exit code 0, no traceback, and the place to go on from."""
    _, flow = house
    command = [sys.executable, "-m", "flowkit", "tail", flow["id"], "--since", "start"]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert [child.stdout.readline() for _ in range(5)]
    child.send_signal(signal.SIGINT)
    _, told = child.communicate(timeout=20)
    assert (child.returncode, "Traceback" in told) == (0, False)
    assert told.startswith("go on with: --since p1.")
