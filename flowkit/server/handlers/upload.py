"""The endpoints of uploads: ``PUT`` and ``GET /upload/<box>/<message>[/<n>]``.

What is too large for an entry of an array comes before it, in pieces: each by its number, in any
order, as often as a sender likes. Pieces have no place in a line; the entry that names the upload
has, and until it comes nothing of the upload is seen by anybody.

Source: ``positions`` 9 (sender's rule 6); ``docs/reference/sending.rst``.
"""

from __future__ import annotations

import re
from typing import Any

from flowkit import limits
from flowkit.errors import BadRequest, Forbidden, TooManyRequests
from flowkit.server.auth import Credential
from flowkit.server.call import Call, Result, Work
from flowkit.server.marks import BOX, MESSAGE
from flowkit.server.store.base import Reader, Writer

__all__ = ["put", "read"]

_NUMBER = re.compile("[0-9]{1,6}")


def put(call: Call) -> Work:
    """``PUT /upload/<box>/<message>/<n>``: one piece; the body is its bytes."""
    box, message = _named(call)
    number = call.args["n"]
    call.query()  # tells of parameters that are not known
    data = call.request.body
    most = limits.upload_pieces_max
    if not _NUMBER.fullmatch(number) or int(number) >= most:
        raise BadRequest(f"n: must be a whole number from 0 to {most - 1}")
    if not data:
        raise BadRequest("body: a piece has at least one byte")
    if len(data) > limits.upload_piece_bytes_max:
        raise BadRequest(
            f"body: a piece has at most {limits.upload_piece_bytes_max} bytes, not {len(data)}",
            status=413,
        )

    def work(writer: Writer, who: Credential) -> Result:
        _demand_upload(who)
        pieces = writer.pieces
        pieces.sweep(call.now_ms - int(limits.upload_kept_s * 1_000))
        held = pieces.upload(who.scope, box, message)
        sizes = [] if held is None else pieces.sizes(held)
        grown = len(data) - (sizes[int(number)] if int(number) < len(sizes) else 0)
        _refuse_too_much(writer, who, held, grown)
        body = pieces.open_upload(who.scope, box, message, call.now_ms)
        pieces.set_piece(body, int(number), data)
        return Result(_told(writer, body))

    return work


def read(call: Call) -> Work:
    """``GET /upload/<box>/<message>``: which pieces are there."""
    box, message = _named(call)
    call.query()  # tells of parameters that are not known

    def work(reader: Reader, who: Credential) -> Result:
        _demand_upload(who)
        return Result(_told(reader, reader.pieces.upload(who.scope, box, message)))

    return work


def _named(call: Call) -> tuple[str, str]:
    box, message = call.args["box"], call.args["message"]
    faults = []
    if not BOX.fullmatch(box):
        faults.append("box: must be 32 hexadecimal digits, 0-9 and a-f")
    if not MESSAGE.fullmatch(message):
        faults.append("message: must be 16 to 64 hexadecimal digits, 0-9 and a-f")
    if faults:
        raise BadRequest(*faults)
    return box, message


def _demand_upload(who: Credential) -> None:
    """Refuse a Token that may write nowhere: it has nothing to upload for.

    Raises:
        Forbidden: it is one.
    """
    if not who.is_owner and not any("dropWrite" in grant.flags for grant in who.grants):
        raise Forbidden("This Token cannot upload: it takes the right dropWrite somewhere")


def _refuse_too_much(writer: Writer, who: Credential, held: int | None, grown: int) -> None:
    """Refuse a piece that makes an upload, or all of a scope, too large by so many bytes more."""
    most = limits.upload_bytes_max
    if held is not None and writer.pieces.size(held) + grown > most:
        raise BadRequest(f"body: an upload has at most {most} bytes", status=413)
    unfinished = writer.pieces.unfinished(who.scope)
    if held is None and unfinished.count >= limits.uploads_unfinished_max:
        raise TooManyRequests(f"upload: {limits.uploads_unfinished_max} are not finished already")
    if unfinished.bytes + grown > limits.uploads_unfinished_bytes_max:
        raise TooManyRequests(
            f"upload: those that are not finished have {unfinished.bytes} bytes already,"
            f" the limit is {limits.uploads_unfinished_bytes_max}"
        )


def _told(reader: Reader, body: int | None) -> dict[str, Any]:
    sizes = [] if body is None else reader.pieces.sizes(body)
    return {"pieces": sizes, "bytes": sum(sizes)}
