"""A minute of the campaign of killed devices and servers; the rest is ``tox -e devices``."""

from __future__ import annotations

import os
from time import monotonic

import pytest

from tests.together.device_crash import Campaign

SECONDS = float(os.environ.get("FLOWKIT_CRASH_SECONDS", "60"))


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 240)
def test_every_account_comes_out_even(tmp_path):
    """Seeded: what happens in which cycle is the same each time; how far it gets is not."""
    campaign = Campaign(tmp_path, seed=7)
    try:
        campaign.run(10_000, until=monotonic() + SECONDS, life_cycles=20)
    finally:
        campaign.close()
    assert campaign.counts["settled"] > 0
    assert campaign.counts["stored"] > 100
    assert campaign.counts["device kills"] > 5
