"""Scenarios: what the server does, stated completely; see ``scenario.py``."""

from tests.scenarios import credentials, drops, flows, identities

ALL = (*flows.TABLE, *drops.TABLE, *identities.TABLE, *credentials.TABLE)
"""Every scenario."""
