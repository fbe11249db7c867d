"""``POST /batch``: many reads in one request, each answered with an envelope of its own.

All run in one job of the store. Their answers are encoded one by one, so that their sizes can be
counted: what does not fit any more is refused for itself alone.

Source: protocol 3.5 (batch), 3.6 (size of an answer).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from flowkit import limits
from flowkit.errors import BadRequest, PlatformError, UsageError
from flowkit.protocol.envelope import failure, too_large
from flowkit.server.answers import encoded, envelope_of
from flowkit.server.auth import Credential
from flowkit.server.call import Call, Result, Work
from flowkit.server.checking import check_object, filter_fault, notes_for_unknown
from flowkit.server.store.base import Reader

__all__ = ["run"]

_READS = ("GET", "MGET")
_MEMBERS = frozenset({"method", "path", "params", "body"})

Prepared = tuple[Call, Work] | PlatformError


def run(call: Call) -> Work:
    """Prepare every entry, then run them in order."""
    call.query()
    entries = call.body()
    most = limits.batch_requests_max
    if not isinstance(entries, list):
        raise BadRequest("body: must be an array of {method, path, params, body}")
    if len(entries) > most:
        raise BadRequest(f"body: has {len(entries)} entries, the limit is {most}")
    prepared = [_prepared(call, entry) for entry in entries]

    def work(reader: Reader, who: Credential) -> Result:
        left = call.settings.answer_bytes_max
        answers: list[Any] = []
        for entry in prepared:
            answer = _answer(entry, reader, who)
            if len(answer) > left:
                answer = encoded(failure(too_large(call.settings.answer_bytes_max)))
            left -= len(answer)
            answers.append(orjson.Fragment(answer))
        return Result(answers)

    return work


def _prepared(call: Call, entry: Any) -> Prepared:
    try:
        given = check_object(entry, "entry")
        method, path = given.get("method"), given.get("path")
        faults = []
        if method not in _READS:
            faults.append("method: must be GET or MGET")
        if not isinstance(path, str):
            faults.append("path: must be the address below the account, such as /flow")
        elif "?" in path:
            faults.append("path: ends before the question mark, parameters stand in params")
        if not isinstance(given.get("params") or {}, Mapping):
            faults.append("params: must be an object")
        if faults or call.again is None:
            raise BadRequest(*faults)
        segments = tuple(part for part in str(path).split("/") if part)
        inner, work = call.again(method, segments, given.get("params") or {}, given.get("body"))
        inner.note(notes_for_unknown(sorted(set(given) - _MEMBERS), "a member here"))
        return inner, work
    except PlatformError as error:
        return error
    except UsageError as error:
        return filter_fault(error)


def _answer(entry: Prepared, reader: Reader, who: Credential) -> bytes:
    """The envelope of one entry; a refusal is that entry's alone."""
    try:
        if isinstance(entry, PlatformError):
            raise entry
        inner, work = entry
        return encoded(envelope_of(work(reader, who), inner.notes))
    except PlatformError as error:
        return encoded(failure(error))
    except UsageError as error:
        return encoded(failure(filter_fault(error)))
