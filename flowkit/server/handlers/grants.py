"""What Tokens and Shares have in common: paths with flags, a lifetime, and that they end.

Only what is the account's own can be given: paths in its namespace, or the whole of it as
``/<account>``. What others shared with it cannot be passed on.

An expired one answers nobody any more; it is removed when its account makes the next one.

Source: protocol 1.9, 1.10 (members), 8.2 (flags), 8.3 (expiry).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from flowkit import limits
from flowkit.errors import BadRequest, Forbidden
from flowkit.protocol.resources import normal_path
from flowkit.server.auth import Credential, covers, expiry_of
from flowkit.server.checking import PATH_RULE, Checked
from flowkit.server.store.base import StoredObject, Writer

__all__ = ["check_grants", "demand_own", "shown_grant", "sweep"]

_NAMESPACE = re.compile(r"/[a-z0-9_.-]{1,64}")
_ALIAS = "expiresInMs"


def check_grants(checked: Checked, what: str, flags: Collection[str]) -> None:
    """Normalise ``paths`` and ``duration`` of a body, or refuse it.

    Args:
        checked: the body, whose members were checked one by one.
        what: ``Token`` or ``Share``, for sentences.
        flags: the flags that it may have.

    Raises:
        BadRequest: one sentence per fault.
    """
    faults: list[str] = []
    checked.members["paths"] = _checked_paths(checked.members["paths"], what, flags, faults)
    _take_alias(checked, faults)
    if faults:
        raise BadRequest(*faults[:100])


def _checked_paths(
    paths: Mapping[str, Any], what: str, flags: Collection[str], faults: list[str]
) -> dict[str, dict[str, bool]]:
    """Each path once, with the flags of all its spellings together."""
    if not paths:
        faults.append("paths: must have at least one path")
    if len(paths) > limits.grant_paths_max:
        faults.append(f"paths: has {len(paths)} paths, the limit is {limits.grant_paths_max}")
        return {}
    taken: dict[str, dict[str, bool]] = {}
    for given, said in paths.items():
        path = _normal(given)
        if path is None:
            faults.append(f"paths.{given[:128]}: {PATH_RULE}, or /<account> for all of it")
            continue
        before = taken.setdefault(path, {})
        for flag, value in _checked_flags(path, said, what, flags, faults).items():
            before[flag] = value or before.get(flag, False)
    return taken


def _checked_flags(
    path: str, said: Any, what: str, flags: Collection[str], faults: list[str]
) -> Mapping[str, bool]:
    if not isinstance(said, dict):
        faults.append(f"paths.{path}: must be an object of flags, each true or false")
        return {}
    before = len(faults)
    for flag, value in said.items():
        if flag not in flags:
            known = ", ".join(flags)
            faults.append(f"paths.{path}.{flag[:64]}: is no flag of a {what}; it has {known}")
        elif not isinstance(value, bool):
            faults.append(f"paths.{path}.{flag}: must be true or false")
    return said if len(faults) == before else {}


def _normal(path: str) -> str | None:
    """A path or the root of a namespace, normalised; None if it is neither."""
    normal = normal_path(path)
    if normal is not None or len(path) > limits.path_chars_max:
        return normal
    root = "/" + path.strip("/").lower()
    return root if path.startswith("/") and _NAMESPACE.fullmatch(root) else None


def _take_alias(checked: Checked, faults: list[str]) -> None:
    """``expiresInMs`` of a create is an old name of ``duration`` (1.9)."""
    said = checked.ignored.pop(_ALIAS, None)
    if said is None:
        return
    checked.notes[:] = [note for note in checked.notes if not note.startswith(f"{_ALIAS}:")]
    most = limits.credential_duration_ms_max
    if isinstance(said, bool) or not isinstance(said, int) or not 0 <= said <= most:
        faults.append(f"{_ALIAS}: must be a whole number between 0 and {most}")
    elif checked.members.setdefault("duration", said) != said:
        checked.notes.append(f"{_ALIAS}: is another name of duration, which was taken")


def demand_own(who: Credential, paths: Collection[str]) -> None:
    """Refuse to give what is not the account's own.

    Raises:
        Forbidden: a path is outside its namespace.
    """
    name = who.account.name
    foreign = [path for path in paths if not covers(f"/{name}", path)]
    if foreign:
        raise Forbidden(
            *(
                f"paths: {path} is not in the namespace of the account {name}, which can give only"
                " what is its own"
                for path in foreign
            )
        )


def sweep(writer: Writer, kind: str, who: Credential) -> None:
    """Remove the account's expired ones, so that their number is bounded by the live ones.

    Those of Devices stay: each Device has two at most, and needs them to get another.
    """
    for each in writer.fleet.outlived(kind, who.account.name, who.at_ms):
        found = writer.object(kind, each)
        if found is not None:
            writer.delete_object(found)


def shown_grant(found: StoredObject, now_ms: int) -> dict[str, Any]:
    """A Token or Share with what is left of its time in ms, never below 0 (8.3)."""
    expires_at = expiry_of(found.doc)
    if expires_at is None:
        return found.doc
    # a request came a little before what it makes was made
    left = min(found.doc["duration"], max(0, expires_at - now_ms))
    return found.doc | {_ALIAS: left}
