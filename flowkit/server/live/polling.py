"""A session over plain requests: long polls, and messages posted one by one.

Between two polls the session has no connection, but its readers stay: for a client that polls, the
polls together are the connection. What comes meanwhile waits, within the bound of every queue.

Source: protocol 9.1 (polling).
"""

from __future__ import annotations

from flowkit import limits
from flowkit.errors import ServerError
from flowkit.green import Cell
from flowkit.server.live.commands import Misread, read_command, work_off
from flowkit.server.live.frames import payload
from flowkit.server.live.sessions import LiveSession

__all__ = ["Poll", "polled", "posted"]


class Poll:
    """One long poll: a line that carries what waits, once.

    Attributes:
        is_blocked: whether it has carried something.
    """

    ends_readers = False

    def __init__(self, session: LiveSession) -> None:
        self.is_blocked = False
        self.answer: Cell[bytes] = Cell()
        self._session = session

    def send(self, frames: list[bytes]) -> None:
        """Answer the poll."""
        self.is_blocked = True
        self.answer.set(b"[%b]" % b",".join(map(payload, frames)))
        self._session.lose(self)

    def pulse(self) -> None:
        """A poll is answered often enough to need no sign of life."""

    def close(self, _code: int, _reason: str) -> None:
        """The session has ended: the poll is answered with nothing."""
        self.is_blocked = True
        self.answer.set(b"[]")

    def cut(self) -> None:
        """End the poll."""
        self.close(0, "")


def polled(session: LiveSession) -> bytes:
    """The messages that wait, as a JSON array; waits for the first one, from any thread."""
    poll = Poll(session)
    post = session.live.loop.post
    if not post(session.connect, poll):
        poll.cut()
    try:
        if not poll.answer.wait(limits.poll_wait_s) and not post(_give_up, session, poll):
            poll.cut()  # the loop has ended, and nobody else will
        return poll.answer.get()
    except BaseException:
        post(_give_up, session, poll)
        raise


def _give_up(session: LiveSession, poll: Poll) -> None:
    session.lose(poll)
    poll.cut()


def posted(session: LiveSession, body: bytes) -> None:
    """Work off one message; what it is answered comes with a poll. Waits, from any thread.

    Raises:
        ServerError: what waits for a poll has reached the bound.
    """

    def work() -> None:
        session.heard()
        if session.is_full:
            said = "Too many messages wait to be fetched: poll first"
            raise ServerError(said, status=503, retry_after_s=1.0)
        try:
            command = read_command(body)
        except Misread as error:
            session.reply(error.frame())
            return
        work_off(command, session, session.live.handle)

    session.live.loop.call(work)
