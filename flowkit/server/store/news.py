"""What a commit has changed, collected job by job for those who are told after it.

Every flow that a commit wrote to is named with its numbers. The changes themselves are collected
only for the flows that somebody watches: they hold whole drops, and most flows have no subscriber.
A commit that is not known whole (the watching began in its midst, or it is very large) names its
numbers alone; whoever needs the changes reads them from the store.

Rules: used by the writer's thread, but for ``watched``, which any thread may set.

Source: ``positions`` 7 (from replay to live).
"""

from __future__ import annotations

from flowkit import limits
from flowkit.server.store.base import Change, FlowCommit

__all__ = ["News"]


class News:
    """The changes of the batch under way.

    Attributes:
        watched: ids of the flows whose changes are collected.
    """

    def __init__(self) -> None:
        self.watched: frozenset[str] = frozenset()
        self._heads: dict[str, int] = {}
        self._changes: dict[str, list[Change]] = {}
        self._gone: set[str] = set()
        self._count = 0
        self._kept: dict[str, int] = {}
        self._gone_in_job: set[str] = set()

    def touch(self, flow_id: str, head: int) -> None:
        """A job is about to change a flow whose newest change is *head*."""
        self._heads.setdefault(flow_id, head)

    def add(self, flow_id: str, change: Change) -> None:
        """A change of a watched flow."""
        if self._count < limits.commit_changes_max:
            self._count += 1
            self._changes.setdefault(flow_id, []).append(change)

    def gone(self, flow_id: str) -> None:
        """A flow was deleted."""
        self._gone_in_job.add(flow_id)

    def keep_job(self) -> None:
        """What the job did stands."""
        if self._gone_in_job:
            self._gone |= self._gone_in_job
            self._gone_in_job.clear()
        if self._changes:
            self._kept = {flow_id: len(found) for flow_id, found in self._changes.items()}

    def undo_job(self) -> None:
        """What the job did is undone."""
        self._gone_in_job.clear()
        for flow_id, found in self._changes.items():
            del found[self._kept.get(flow_id, 0) :]

    def take(self, heads: dict[str, int]) -> dict[str, FlowCommit]:
        """What the batch did to each flow, and begin anew; *heads* are the present numbers."""
        flows = {flow_id: FlowCommit(0, 0, None, True) for flow_id in self._gone}
        for flow_id, before in self._heads.items():
            head = heads.get(flow_id, before)
            if head == before or flow_id in flows:
                continue
            found = self._changes.get(flow_id)
            if found and (found[0].seq, len(found)) == (before + 1, head - before):
                flows[flow_id] = FlowCommit(before + 1, head, tuple(found))
            else:
                flows[flow_id] = FlowCommit(before + 1, head)
        self.forget_all()
        return flows

    def forget_all(self) -> None:
        """The batch has ended."""
        self._heads.clear()
        self._changes.clear()
        self._gone.clear()
        self._gone_in_job.clear()
        self._kept.clear()
        self._count = 0
