"""What a Track means: where it writes, what its script's answer says, whether it can only loop.

Pure: no store, no clock. ``router.py`` runs Tracks, ``handlers/track.py`` saves and tries them.

Source: protocol 1.6 (Track), 6.2 (the function and its results), 6.5 (loops).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flowkit import limits
from flowkit.protocol.resources import normal_path

__all__ = ["Output", "TrackFault", "can_only_loop", "destinations_of", "outputs_of", "passed_on"]

_TAKEN = ("elems", "fhash", "location")
"""What is used of a Drop that a script returns; everything else is the server's (6.2)."""


class TrackFault(Exception):
    """A script answered something that is no set of Drops; its text is one sentence."""


@dataclass(frozen=True, slots=True)
class Output:
    """A Drop that a Track writes.

    Attributes:
        path: of the Flow.
        body: ``elems`` and, where there are any, ``fhash`` and ``location``.
    """

    path: str
    body: Mapping[str, Any]


def destinations_of(track: Mapping[str, Any]) -> list[str]:
    """The paths that a Track names, each once; none for a script that says them itself."""
    named = track.get("destination")
    if named is None:
        return []
    return [named] if isinstance(named, str) else list(dict.fromkeys(named))


def passed_on(drop: Mapping[str, Any], destinations: Sequence[str]) -> list[Output]:
    """What a Track without a script writes: the Drop itself, everywhere."""
    return [Output(path, _taken(drop)) for path in destinations]


def outputs_of(value: Any, destinations: Sequence[str]) -> list[Output]:
    """What the answer of a script says (6.2).

    Args:
        value: nothing, a Drop, an array of Drops, or a map from path to a Drop or an array.
        destinations: where Drops without a path go; if there are any, no path may be another.

    Raises:
        TrackFault: it is none of these, names a path that it may not, or has too many Drops.
    """
    if value is None:
        return []
    outputs = [
        Output(path, _drop(one, f"the Drop for {path}"))
        for path, one in _pairs(value, destinations)
    ]
    if len(outputs) > limits.track_outputs_max:
        raise TrackFault(
            f"the script returned {len(outputs)} Drops, the limit is {limits.track_outputs_max}"
        )
    return outputs


def _pairs(value: Any, destinations: Sequence[str]) -> list[tuple[str, Any]]:
    """Path and Drop, in order."""
    if is_path_map(value):
        return [
            (_allowed(path, destinations), one)
            for path, some in value.items()
            for one in (some if isinstance(some, list) else [some])
        ]
    if not isinstance(value, list | dict):
        raise TrackFault(f"the script returned {_named(value)}, not a Drop, Drops or null")
    drops = value if isinstance(value, list) else [value]
    if drops and not destinations:
        raise TrackFault("the script returned Drops without paths and the Track has no destination")
    return [(path, one) for one in drops for path in destinations]


def is_path_map(value: Any) -> bool:
    """Whether an answer maps paths to Drops: every key is a path, every value a Drop or Drops."""
    return (
        isinstance(value, dict)
        and bool(value)
        and all(key.startswith("/") for key in value)
        and all(isinstance(some, list | dict) for some in value.values())
    )


def _allowed(path: str, destinations: Sequence[str]) -> str:
    normal = normal_path(path)
    if normal is None:
        raise TrackFault(f"the script returned Drops for {path[:64]!r}, which is no path of a Flow")
    if destinations and normal not in destinations:
        raise TrackFault(f"the script returned Drops for {normal}, which is not a destination")
    return normal


def _drop(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TrackFault(f"{what} is {_named(value)}, not an object with elems")
    if not isinstance(value.get("elems"), dict):
        raise TrackFault(f"{what} has no object elems")
    return _taken(value)


def _taken(drop: Mapping[str, Any]) -> dict[str, Any]:
    return {name: drop[name] for name in _TAKEN if drop.get(name) is not None}


def _named(value: Any) -> str:
    """The kind of a JSON value, in words."""
    if value is None:
        return "null"
    kinds = {bool: "true or false", str: "a string", list: "an array", dict: "an object"}
    return kinds.get(type(value), "a number")


def can_only_loop(
    track: Mapping[str, Any], certain_from: Callable[[str], Iterable[Mapping[str, Any]]]
) -> bool:
    """Whether Drops that *track* writes must come back to its source.

    That is certain where nothing on the way can stop them: neither this Track nor those behind it
    have a filter or a script, and none is disabled. One destination that leads back is enough.

    Args:
        track: as it is about to be saved.
        certain_from: the enabled Tracks of a source path, none if its Flow is gone or has a filter
            of its own; those with a filter or script are ignored.
    """
    if _can_stop(track):
        return False
    seen: set[str] = set()
    ahead = destinations_of(track)
    while ahead:
        path = ahead.pop()
        if path == track["source"]:
            return True
        if path not in seen:
            seen.add(path)
            ahead += [
                further
                for other in certain_from(path)
                if not _can_stop(other) and other.get("id") != track.get("id")
                for further in destinations_of(other)
            ]
    return False


def _can_stop(track: Mapping[str, Any]) -> bool:
    return bool(track.get("filter") or track.get("js") or track.get("disabled"))
