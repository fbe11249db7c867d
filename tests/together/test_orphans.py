"""What a server that was killed leaves behind: no process of its scripts."""

import os
import signal
import subprocess
import sys

import pytest

from flowkit.green import monotonic, sleep

pytest.importorskip("quickjs", reason="needs the extra: pip install 'flowkit[js]'")

SERVER = """
import threading, time
from flowkit.server.scripts.pool import Script, ScriptPool

pool = ScriptPool(lambda *_: None, time_s=0.5)
hung = Script("function () { while (true) {} }", "nora")
threading.Thread(target=pool.run, args=(hung, None), daemon=True).start()
while not pool._busy:
    time.sleep(0.001)
print(next(iter(pool._busy))._pid, flush=True)
time.sleep(60)
"""


def is_alive(pid):
    """Whether the process is there and is no zombie that waits to be taken."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.slow
@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="looks into /proc")
def test_a_hung_script_does_not_outlive_a_server_that_was_killed():
    """Nobody is there any more to end it, so an alarm of its own does."""
    server = subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True)
    child = int(server.stdout.readline())
    server.send_signal(signal.SIGKILL)
    server.wait()
    server.stdout.close()

    until = monotonic() + 15
    try:
        while is_alive(child) and monotonic() < until:
            sleep(0.02)
        assert not is_alive(child)
    finally:
        if is_alive(child):
            os.kill(child, signal.SIGKILL)
