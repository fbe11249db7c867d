"""Every example runs as it stands and prints what it promises."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from flowkit import mem
from tests.server_process import ServerProcess

EXAMPLES = Path(__file__).parents[2] / "examples"

SAYS = {
    "look_ups": [
        "Strong, but without an alert level:\n   5.4 15km ESE of Hualian",
        "6.4 22km NNE of Hualian",
        "north-west: 6",
    ],
    "compose": ["/quakes/ci: ", "/quakes/us: "],
    "route_drops": ["of 3 drops 2 would have gone to ", "alarm: 36 degrees"],
    "subscribe": ["hot: 34 degrees\nhot: 41 degrees\n"],
    "live_table": [
        "too dry: north 31 %, east 38 %",
        "leave  north\nenter  south\nupdate east\ntoo dry: south 35 %, east 39 %",
    ],
    "alarm": [
        "alarm: 95 degrees\nthe alarm has stopped\n"
        "alarm: 99 degrees\nalarm: 97 degrees\nthe alarm has stopped\n"
    ],
    "stream_events": [
        "bucket: /test/buckets/greenhouse.",
        "{'temp': 21.5}\n{'temp': 24.5, 'wind_speed': 3, 'wind_from': 'west'}\n",
    ],
    "sensor": [
        "owner: its firmware is 2.1\nowner: it sends every 0.01 s now\n",
        "device: the platform says stop\ndevice: 0 left to send\n",
        "owner: the warmest was 2",
    ],
    "gateway": [
        "queued with a good link: 0\n",
        "queued with a broken link: 120 readings, 6 KiB\n",  # "link: offline" may come in between
        "dropped for room: 30\n",
        "queued once it is mended: 0\n",
        "north in order: True the last: 69\n",
        "south in order: True the last: 69\n",
        "stored: 180\n",
    ],
    "some_fail": [": 404 ", ": 1 drops"],
    "find_by_path": ["[24.9, 24.8, 24.7]", "behind the house", "Mean of all: 19.95"],
}


def test_every_example_is_tried():
    """The table below names each script of the folder, and nothing else."""
    assert set(SAYS) == {path.stem for path in EXAMPLES.glob("*.py")}


@pytest.mark.slow
@pytest.mark.parametrize("name", SAYS)
def test_an_example_runs(name):
    """The script ends with 0, prints what is expected and nothing on stderr."""
    pytest.importorskip("apsw", reason="needs the extra: pip install 'flowkit[server]'")
    run = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / f"{name}.py")],
        capture_output=True,
        text=True,
        timeout=50,
    )

    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
    assert [words for words in SAYS[name] if words not in run.stdout] == []


def readme_code():
    """The blocks of Python in the README."""
    readme = (EXAMPLES.parent / "README.md").read_text(encoding="utf-8")
    return re.findall(r"```python\n(.*?)```", readme, re.DOTALL)


@pytest.mark.slow
def test_the_code_of_the_readme_runs(capsys):
    """What a stranger copies first runs as it stands, and finds what it has written."""
    pytest.importorskip("apsw", reason="needs the extra: pip install 'flowkit[server]'")
    code, _ = readme_code()

    names: dict[str, object] = {}
    exec(compile(code, "README.md", "exec"), names)

    assert [drop["elems"]["bench"] for drop in names["warm"]] == ["north"]
    means = (("north", 21.4), ("south", 34.0))
    rows = [{"bench": bench, "$count": 1, "$avg:temp": mean} for bench, mean in means]
    assert capsys.readouterr().out.splitlines()[1:] == ["[]", "21.4", "2", "south", str(rows)]


@pytest.mark.slow
def test_the_device_code_of_the_readme_runs(tmp_path, monkeypatch):
    """With a real host and real secrets in the places of those that it leaves open."""
    monkeypatch.chdir(tmp_path)
    _, code = readme_code()
    with ServerProcess(tmp_path / "data", account="me") as server, server.connect() as api:
        fleet = api.provisioning_token.create({"autoApprove": True})["provisioningToken"]
        for gap, filling in (
            ("example.org", server.url),
            ('access_key="…"', f'access_key="{server.secret}"'),
            ('"me/…"', f'"me/{fleet}"'),
        ):
            assert gap in code
            code = code.replace(gap, filling)

        exec(compile(code, "README.md", "exec"), {})

        (bucket,) = api.flow.find(mem.description == "Greenhouse")
        assert [drop["elems"]["temp"] for drop in api.drop(bucket["id"]).find()] == [21.4]
        (stream,) = api.stream.find(mem.isDefault == True)  # noqa: E712
        assert [drop["elems"]["rpm"] for drop in api.drop(stream["flowId"]).find()] == [1450]
        assert api.device.find(mem.reported.firmware == "1.9")[0]["deviceId"] == "pump-7"
