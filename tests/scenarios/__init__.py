"""Scenarios: what the server does, stated completely; see ``scenario.py``."""

from tests.scenarios import (
    counts,
    credentials,
    devices,
    drops,
    flows,
    identities,
    provisioning,
    sending,
    streams,
    tracks,
)

ALL = (
    *flows.TABLE,
    *drops.TABLE,
    *identities.TABLE,
    *credentials.TABLE,
    *counts.TABLE,
    *sending.TABLE,
    *streams.TABLE,
    *tracks.TABLE,
    *devices.DEVICES,
    *devices.TASKS,
    *provisioning.TABLE,
)
"""Every scenario."""
