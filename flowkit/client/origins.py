"""The marks of senders: how far each stream of an outbox has come on the platform.

Source: ``positions`` 9; ``docs/reference/sending.rst``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from flowkit.client import finding
from flowkit.client.services import verb
from flowkit.errors import UsageError

if TYPE_CHECKING:
    from flowkit.client.api import API

__all__ = ["Origins"]

_BOX = re.compile("[0-9a-f]{32}")


class Origins:
    """What the platform has of an outbox."""

    def __init__(self, api: API) -> None:
        self._api = api

    def __repr__(self) -> str:
        return f"<Origins of {self._api!r}>"

    @verb
    def read(self, box: str, *, device: Any = None, **params: Any) -> Any:
        """The marks of the outbox *box*.

        Args:
            box: its name, 32 hexadecimal digits.
            device: a Device, or its id: the outbox is its own. Without it, the outbox is of the
                Device of these credentials, or of the account.

        Returns:
            stream to ``{"sequence", "message", "skipped", "skips"}``: the last one that was
            settled, how many were settled without being stored, and the newest such ranges.

        Raises:
            UsageError: *box* is no such name.
            NotFound: there is no such Device, or none that the caller may read.
        """
        if not isinstance(box, str) or not _BOX.fullmatch(box):
            raise UsageError(f"box={box!r} is not the name of an outbox: 32 hexadecimal digits")
        if device is not None:
            params = {**params, "device": finding.one_id(device)}
        return self._api.call("GET", ("origin", box), params)
