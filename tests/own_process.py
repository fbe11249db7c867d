"""Scripts in a Python process of their own: for what patches, forks or ends a process."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import textwrap

import pytest


def run_process(script: str, *args: str, **environment: str) -> str:
    """Run a script in a Python of its own; what it printed."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(script), *args],
        capture_output=True,
        text=True,
        timeout=50,
        env={**os.environ, **environment},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def needs_eventlet() -> None:
    """Skip the test where eventlet is not installed."""
    if importlib.util.find_spec("eventlet") is None:  # importing it here would change this process
        pytest.skip("eventlet is not installed")
