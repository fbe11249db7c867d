"""The endpoint of aggregation: ``POST /drop/<flowId>/aggregate``.

It only reads, whatever its method: whoever may read the drops may ask, Tokens as well.

Source: protocol 5 (aggregation), 8.2 (``dropRead``).
"""

from __future__ import annotations

from flowkit.server.access import flow_with_id
from flowkit.server.aggregate_plan import run
from flowkit.server.auth import Credential
from flowkit.server.call import Call, Result, Work
from flowkit.server.checking import notes_for_unknown
from flowkit.server.selectors import MEMBERS, read_aggregation
from flowkit.server.store.base import Reader

__all__ = ["aggregate"]


def aggregate(call: Call) -> Work:
    """Compute over groups of drops; ``explain=1`` puts how into ``head.plan``."""
    query = call.query()
    body = call.body()
    asked = read_aggregation(body)
    call.note(notes_for_unknown(sorted(set(body) - MEMBERS), "a member here"))

    def work(reader: Reader, who: Credential) -> Result:
        flow = flow_with_id(reader, who, call.args["flow"], "dropRead")
        rows, plan = run(
            reader,
            flow,
            asked,
            now_ms=call.now_ms,
            places=call.places,
            bytes_max=call.settings.answer_bytes_max,
        )
        return Result(rows, head={"plan": plan} if query.explain else {})

    return work
