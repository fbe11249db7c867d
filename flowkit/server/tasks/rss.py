"""RSS and Atom feeds: each entry becomes one Drop, once.

A server is asked only for what is new (``ETag``, ``If-Modified-Since``), and what a feed goes on
showing is recognised: by the ``fhash`` of its Drop, and by a list of the entries seen, since a Drop
may have been evicted or deleted and must not come back.

Source: protocol 7.2 (RSS task).
"""

from __future__ import annotations

import calendar
import hashlib
from collections.abc import Mapping
from typing import Any

from flowkit import limits
from flowkit.server.outgoing import Fetched, OutgoingError, fetch
from flowkit.server.store.base import StoredObject
from flowkit.server.tasks.runs import Brought

__all__ = ["bring"]

NOT_ENABLED = "RSS is not enabled on this server (pip install 'flowkit[tasks]')"
NO_FEED = "the answer cannot be read as a feed"


def bring(task: StoredObject, *, allow_hosts: str) -> Brought:
    """Fetch the feed of a task; its new entries, oldest first."""
    state = task.state
    asked = {
        "If-None-Match": state.get("etag"),
        "If-Modified-Since": state.get("modified"),
    }
    try:
        fetched = fetch(
            "GET",
            task.doc["url"],
            {name: value for name, value in asked.items() if value},
            timeout_s=limits.task_timeout_s,
            allow_hosts=allow_hosts,
        )
    except OutgoingError as error:
        return Brought("TIMEOUT" if error.timed_out else "ERROR", error=str(error))
    if fetched.status == 304:
        return Brought("NO_NEW_DATA")
    if fetched.status != 200:
        return Brought("ERROR", error=f"the server of the feed answered {fetched.status}")
    return _new(fetched, state)


def _new(fetched: Fetched, state: Mapping[str, Any]) -> Brought:
    """What a feed shows that has not been seen."""
    try:
        import feedparser
    except ModuleNotFoundError:
        return Brought("ERROR", error=NOT_ENABLED)
    if not fetched.body.strip():
        return Brought("ERROR", error=NO_FEED)
    feed = feedparser.parse(fetched.body, response_headers={"content-type": _type(fetched)})
    if not feed.entries and (feed.bozo or not feed.version):
        return Brought("ERROR", error=NO_FEED)
    seen = list(state.get("seen", ()))
    known = set(seen)
    drops: list[dict[str, Any]] = []
    for entry in reversed(feed.entries):
        name = _name(entry)
        mark = hashlib.blake2b(name.encode(), digest_size=16).hexdigest()
        if mark in known:
            continue
        known.add(mark)
        seen.append(mark)
        fhash = name if len(name) <= limits.fhash_chars_max else mark
        drops.append({"elems": _elems(entry), "fhash": fhash})
    remembered = {
        "etag": fetched.headers.get("etag"),
        "modified": fetched.headers.get("last-modified"),
        "seen": seen[-limits.rss_entries_seen_max :],
    }
    kept = {name: value for name, value in remembered.items() if value is not None}
    return Brought("OK" if drops else "NO_NEW_DATA", tuple(drops), kept)


def _type(fetched: Fetched) -> str:
    return fetched.headers.get("content-type", "application/xml")


def _name(entry: Any) -> str:
    """What tells an entry from every other: its guid, else its link, else what it says."""
    return str(
        entry.get("id")
        or entry.get("link")
        or f"{entry.get('title', '')}\n{entry.get('published', '')}\n{entry.get('summary', '')}"
    )


def _elems(entry: Any) -> dict[str, Any]:
    """The elements of an entry, without those that it has not."""
    published = entry.get("published_parsed") or entry.get("updated_parsed")
    elems = {
        "title": entry.get("title"),
        "link": entry.get("link"),
        "description": entry.get("summary"),
        "author": entry.get("author"),
        "guid": entry.get("id"),
        "published": calendar.timegm(published) * 1000 if published else None,
        "categories": [tag["term"] for tag in entry.get("tags", ()) if tag.get("term")] or None,
    }
    return {name: value for name, value in elems.items() if value is not None}
