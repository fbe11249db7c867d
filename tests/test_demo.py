"""``flowkit demo`` from the outside: it ends with 0, tells the truth and leaves nothing behind."""

import re
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

pytest.importorskip("apsw", reason="needs the extra: pip install 'flowkit[server]'")

from flowkit import embedded
from flowkit.demo import earthquakes, tour

pytestmark = pytest.mark.slow

DEMO = [sys.executable, "-m", "flowkit", "demo"]


def leftovers():
    """Data folders of demos that did not clean up."""
    return set(Path(tempfile.gettempdir()).glob("flowkit-demo-*"))


def test_the_demo_loads_asks_and_ends_well():
    """One run prints the count of events, every look-up, three timings, and what to try next."""
    before = leftovers()

    run = subprocess.run(DEMO, capture_output=True, text=True, timeout=55)

    assert run.returncode == 0, run.stderr
    assert "1707 events in 12 flows" in run.stdout
    assert [words for words in tour.LOOK_UPS if words not in run.stdout] == []
    timings = re.findall(
        r"^ +(one by one|async_\(\)|lazy\(\)) +([\d.]+) s", run.stdout, re.MULTILINE
    )
    assert [name for name, _ in timings] == ["one by one", "async_()", "lazy()"]
    assert "What next:" in run.stdout
    assert "Traceback" not in run.stderr
    assert leftovers() <= before


def test_a_kept_demo_answers_at_a_prompt_until_ctrl_c():
    """The lines that --keep prints work as they stand; Ctrl-C ends it with 0 and no folder left."""
    before = leftovers()
    with subprocess.Popen([*DEMO, "--keep"], stdout=subprocess.PIPE, text=True) as demo:
        lines = []
        for line in demo.stdout:
            lines.append(line)
            if line.strip().startswith("api.drop.find("):
                break
        *prompt, query = [line.strip() for line in lines if line.startswith("  ")][-3:]
        script = "\n".join([*prompt, f"print(len({query}))"])
        asked = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, timeout=30
        )
        demo.send_signal(signal.SIGINT)
        code = demo.wait(20)

    assert asked.stdout.strip() == "2", asked.stderr
    assert code == 0
    assert leftovers() <= before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_neither_folder_nor_server(number):
    """Ctrl-C, a request to end and a closed terminal all end it in order, in the middle of it."""
    before = leftovers()
    command = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(DEMO, **command) as demo:
        port = int(re.search(r"http://127.0.0.1:(\d+)", demo.stdout.readline())[1])
        demo.send_signal(number)
        demo.send_signal(number)
        _, errors = demo.communicate(timeout=30)

    assert demo.returncode == 130
    assert "Traceback" not in errors
    assert leftovers() <= before
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


def test_the_three_compositions_find_the_same():
    """One by one, async_() and lazy() agree on the neighbours of 56 strong events."""
    with embedded() as api:
        earthquakes.load(api)

        one_by_one = tour.compose_sequential(api)

        assert len(one_by_one) == 11 * 5 + 1
        assert one_by_one == tour.compose_async(api) == tour.compose_lazy(api)


def test_the_recording_is_whole():
    """All 1,707 events of 12 networks are there, with their nulls."""
    events = earthquakes.read_events()

    assert len(events) == 1707
    assert len({event["fhash"] for event in events}) == 1707
    assert len({event["elems"]["net"] for event in events}) == 12
    assert sum(event["elems"]["felt"] is None for event in events) == 1580
