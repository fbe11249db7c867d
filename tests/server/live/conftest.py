"""Fixtures of the subscriptions' tests."""

import pytest

from tests.server.visitor import visiting


@pytest.fixture
def visitors(tmp_path):
    """Two accounts on a fresh platform: nora, bob."""
    with visiting(tmp_path / "data") as pair:
        yield pair


@pytest.fixture
def nora(visitors):
    """An account with a master token."""
    return visitors[0]


@pytest.fixture
def bob(visitors):
    """Another account on the same platform."""
    return visitors[1]


@pytest.fixture
def house(nora):
    """A flow of nora's."""
    return nora.flow("/nora/house")
