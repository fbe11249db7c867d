"""Fixtures of the subscriptions' tests, beside those of the server's."""

import pytest


@pytest.fixture
def house(nora):
    """A flow of nora's."""
    return nora.flow("/nora/house")
