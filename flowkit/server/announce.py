"""Notifications about changes in a namespace, in the account's ``:inbox``.

Source: protocol 1.13 (system Flows).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from flowkit.server.auth import Credential
from flowkit.server.store.base import Writer

__all__ = ["announce"]


def announce(
    writer: Writer,
    who: Credential,
    action: str,
    resource_name: str,
    doc: Mapping[str, Any],
    *,
    also: Iterable[str] = (),
) -> None:
    """Not written yet."""
