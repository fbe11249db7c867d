"""A bucket of a streamer is a flow: its key, and the path that the key gives."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from typing import TYPE_CHECKING, NamedTuple

from flowkit import limits
from flowkit.device import bounds
from flowkit.errors import FlowKitError, LimitError, SettingsError, UsageError

if TYPE_CHECKING:
    from flowkit.device.link import HttpLink

__all__ = ["Bucket", "bucket", "make_flow"]

_log = logging.getLogger(__name__)
_PLAIN = re.compile(r"[a-z0-9_-]+")
_OTHER = re.compile(r"[^a-z0-9_-]+")
_SLUG_CHARS_MAX = 40


class Bucket(NamedTuple):
    """Where events go.

    Attributes:
        key: identifies it in its account.
        name: for people; the description of its flow.
        path: of its flow.
    """

    key: str
    name: str
    path: str


def bucket(account: str, name: str, key: str) -> Bucket:
    """The bucket of that *key*; without one the *name* is the key, at each start the same.

    A key of small letters, digits, ``_`` and ``-`` is the last part of the path as it is; of any
    other one the path shows what it can and ends with a digest, so two keys never share a flow.

    Raises:
        SettingsError: neither a name nor a key is given.
        UsageError: one of them is no text. LimitError: it is too long.
    """
    for what, text in (("name", name), ("key", key)):
        if not isinstance(text, str):
            raise UsageError(f"the {what} of a bucket is text, not {type(text).__name__}")
        if len(text) > bounds.bucket_chars_max:
            raise LimitError(
                f"the {what} of the bucket",
                size=len(text),
                limit=bounds.bucket_chars_max,
                unit="characters",
            )
    key = key or name
    if not key:
        raise SettingsError("no bucket is named", hint="give bucket_name= or bucket_key=")
    path = f"/{account}/buckets/{key}"
    if not _PLAIN.fullmatch(key) or len(path) > limits.path_chars_max:
        digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:12]
        slug = _OTHER.sub("_", key.lower()).strip("_")[:_SLUG_CHARS_MAX]
        path = f"/{account}/buckets/{slug}.{digest}"
    return Bucket(key, name or key, path)


def make_flow(link: HttpLink, path: str, name: str) -> bool:
    """Make the flow of a bucket; whether it was made."""
    members = {"path": path, "description": name, "capacity": limits.flow_capacity_max}
    try:
        link.ask("POST", ("flow",), json.dumps(members).encode())
    except FlowKitError as error:
        _log.warning("the flow %s of a bucket could not be made: %s", path, error)
        return False
    return True
