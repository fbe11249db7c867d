"""The server's aggregates agree with the plain evaluation of the documents."""

import random

import pytest
from together import aggregates
from together.agreement import Draw, draw_batch

from flowkit.server import aggregate_plan
from flowkit.server.aggregate import Groups
from flowkit.server.selectors import read_aggregation


def test_a_short_campaign_finds_nothing(capsys):
    """Some hundreds of random requests over random drops, by SQL and by Python."""
    assert aggregates.campaign(10_000, 50, "gate", size=40, asks=30) == 0

    line = capsys.readouterr().out
    assert " 0 disagreements" in line
    share = int(line.rpartition(" % grouped")[0].rpartition(" ")[2])
    assert 20 < share < 80


def test_a_campaign_sees_a_planted_fault(capsys, monkeypatch):
    """An extreme that puts texts before numbers is found, and the request is shown."""
    monkeypatch.setattr(aggregate_plan, "extreme", lambda word, whole, real, text: text)

    assert aggregates.campaign(50_000, 50, "fault") == 1
    assert "request {" in capsys.readouterr().out


def test_a_campaign_out_of_time_does_not_pass():
    """Fewer pairs than asked for is no success."""
    assert aggregates.campaign(10**9, 0.0, "late") == 1


@pytest.mark.parametrize("seed", range(20))
def test_the_order_of_drops_makes_no_difference(seed):
    """Counts, sums, means, extremes and rules are the same however the drops come."""
    draw = Draw(f"order {seed}")
    batch = draw_batch(draw, 30)
    keys = [f"${part}" for part in ("second", "day")] + ["b.0", "creatorId"]
    outputs = [f"${word}:{name}" for word in ("sum", "avg", "min", "max") for name in "ab"]
    asked = read_aggregation({"output": ["$count", *outputs], "groupBy": keys[seed % 4 :]})

    def rows(documents):
        groups = Groups(asked, now_ms=0)
        for doc, types in documents:
            groups.add(doc, types)
        return groups.rows()

    shuffled = random.Random(seed).sample(batch.documents, len(batch.documents))

    assert rows(batch.documents) == rows(shuffled)
