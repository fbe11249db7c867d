"""No call outlives its deadline by more than a second, however the network has vanished.

Six kinds of black hole, made by the fault proxy; what is called and how stands in
``together/black_hole.py``, which runs in a process of its own: with plain threads, with greenlets,
and with the threads of a process that gevent has patched.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.together import black_hole

PROGRAM = Path(__file__).with_name("black_hole.py")
LIMIT_S = 0.3
GRACE_S = 1.0
QUIET = {"iteration", "ws.close", "subscription.close", "websocket.close"}
"""These end without an error: a loop whose time is up, and closing, which nobody must allow."""


@pytest.mark.slow
@pytest.mark.parametrize("how", ["threads", "greenlets", "patched"])
def test_no_call_outlives_its_deadline(how):
    """Each call in each kind of hole ends in time, and says that its time was up."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(PROGRAM), how, str(LIMIT_S)],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)

    assert {kind: set(calls) for kind, calls in found.items()} == {
        kind: set(black_hole.CALLS) for kind in black_hole.HOLES
    }
    wrong = [
        (kind, call, seconds, ending)
        for kind, calls in found.items()
        for call, (seconds, ending) in calls.items()
        if not _is_right(call, seconds, ending)
    ]
    assert wrong == []


def _is_right(call, seconds, ending):
    """Whether a call ended in time, and not for another reason than the hole."""
    if call in QUIET:
        return ending == "ok" and seconds <= LIMIT_S + GRACE_S
    in_time = LIMIT_S * 0.9 <= seconds <= LIMIT_S + GRACE_S
    return ending == "DeadlineExceeded" and in_time
