"""What every test shares. This file also puts ``tests/`` on the path: ``import strategies``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
import trustme
from hypothesis import settings

if TYPE_CHECKING:
    from flowkit.testing import Platform

# A loaded machine is slow now and then; pytest-timeout catches what really hangs. The gate says the
# same of the same code each time; what chance finds is for ``--hypothesis-profile search``, which
# the campaigns use.
settings.register_profile("search", deadline=None, max_examples=100)
settings.register_profile("gate", settings.get_profile("search"), derandomize=True)
settings.load_profile("gate")


@pytest.fixture(scope="session", autouse=True)
def nothing_set_from_outside() -> None:
    """The environment of whoever runs the tests does not set flowkit up."""
    for name in [name for name in os.environ if name.startswith("FLOWKIT_")]:
        del os.environ[name]


@pytest.fixture(scope="module")
def platform() -> Iterator[Platform]:
    """A platform in this process, with both doors; shared by the tests of a module."""
    from flowkit.testing import Platform

    with Platform() as opened:
        yield opened


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """A certificate authority of the tests' own."""
    return trustme.CA()


@pytest.fixture(scope="module")
def ca_path(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Where its certificate is."""
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)
