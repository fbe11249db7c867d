"""Bounds so small that everything that seldom happens happens all the time.

The same figures are set in this process (``Tiny.here``) and in a server process of its own
(``Tiny.first``, which ``ServerProcess`` runs before anything else).
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from flowkit import limits

__all__ = ["Tiny", "set_up"]


@dataclass(frozen=True, slots=True)
class Tiny:
    """Bounds of a world.

    Attributes:
        page: changes or drops of one page.
        queue_messages, queue_bytes: what may wait for one connection.
        progress: unmatched changes after which a reader is told its place.
        progress_s: seconds after which it is told.
        commit: changes of a commit that are handed to subscribers at once.
        send_buffer: bytes that the server's kernel holds for one connection; 0 for the usual.
    """

    page: int = 1
    queue_messages: int = 6
    queue_bytes: int = 12_000
    progress: int = 5
    progress_s: float = 0.1
    commit: int = 10
    send_buffer: int = 4_096

    @property
    def figures(self) -> dict[str, float]:
        """Name in ``limits`` and value."""
        return {
            "replay_page_changes_max": self.page,
            "push_queue_messages_max": self.queue_messages,
            "push_queue_bytes_max": self.queue_bytes,
            "progress_changes_max": self.progress,
            "progress_s": self.progress_s,
            "commit_changes_max": self.commit,
        }

    @property
    def first(self) -> str:
        """Python code that sets a process of its own up this way."""
        return f"from tests.together.feeds.tiny import Tiny, set_up; set_up(Tiny(**{asdict(self)}))"

    @contextmanager
    def here(self) -> Iterator[None]:
        """Set this process up this way, for a while."""
        from flowkit.server import http

        before = {name: getattr(limits, name) for name in self.figures}
        bound_socket = http.bound_socket
        for name, value in self.figures.items():
            setattr(limits, name, value)
        http.bound_socket = _narrow(bound_socket, self.send_buffer)
        try:
            yield
        finally:
            http.bound_socket = bound_socket
            for name, value in before.items():
                setattr(limits, name, value)


def set_up(tiny: Tiny) -> None:
    """Set this process up this way, before anything of the server is imported."""
    for name, value in tiny.figures.items():
        setattr(limits, name, value)
    from flowkit.server import listening

    listening.bound_socket = _narrow(listening.bound_socket, tiny.send_buffer)


def _narrow(make, size):
    """A maker of listening sockets whose connections have a small buffer for what they send."""

    def made(*args, **named):
        sock = make(*args, **named)
        if size:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)
        return sock

    return made
