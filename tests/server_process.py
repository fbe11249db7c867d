"""``flowkit serve`` as a real process, for tests that kill, signal or restart it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Self

from flowkit.client.api import API
from flowkit.client.credentials import Token


def environment(**more: str) -> dict[str, str]:
    """The process's environment without anything that would set flowkit up differently."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FLOWKIT_")}
    return {**kept, **more}


class ServerProcess:
    """A server in a process of its own, running once the constructor has returned.

    Args:
        data: its data folder.
        flags: further flags of ``flowkit serve``.
        first: Python code that the process runs before.
        environ: further environment variables.

    Attributes:
        url: where it answers.
        secret: the master token, None after the first start in a folder.
        said: the lines of its start.
    """

    def __init__(
        self, data: Path, *flags: str, account: str = "nora", first: str = "pass", **environ: str
    ) -> None:
        self.account = account
        script = f"{first}; from flowkit.__main__ import main; main()"
        command = [sys.executable, "-c", script, "serve", "--port", "0", "--data", str(data)]
        self.process = subprocess.Popen(
            [*command, "--account", account, *flags],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(**environ),
        )
        self.said: list[str] = []
        for line in self.process.stdout:
            self.said.append(line.rstrip("\n"))
            if line.strip().startswith("stop "):
                break
        else:
            raise AssertionError(f"the server did not start: {self.process.communicate()}")
        text = "\n".join(self.said)
        self.url = re.search(r"http://\S+", text)[0]
        found = re.search(r"^  token +(\w+)$", text, re.MULTILINE)
        self.secret = found[1] if found else None

    def connect(self, secret: str | None = None, **options: object) -> API:
        """An API on it."""
        return API(Token(self.account, secret or self.secret), host=self.url, **options)

    def end(self, number: signal.Signals = signal.SIGTERM, timeout_s: float = 20) -> tuple:
        """Send a signal and wait for the end: (exit code, further output, errors)."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        said, errors = self.process.communicate(timeout=timeout_s)
        return self.process.returncode, said, errors

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()
