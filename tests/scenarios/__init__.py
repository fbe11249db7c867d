"""Scenarios: what the server does, stated completely; see ``scenario.py``."""

from tests.scenarios import drops, flows, identities

ALL = (*flows.TABLE, *drops.TABLE, *identities.TABLE)
"""Every scenario."""
