"""What every test shares. This file also puts ``tests/`` on the path: ``import strategies``."""

from __future__ import annotations

from hypothesis import settings

# A loaded machine is slow now and then; pytest-timeout catches what really hangs.
settings.register_profile("gate", deadline=None, max_examples=100)
settings.load_profile("gate")
