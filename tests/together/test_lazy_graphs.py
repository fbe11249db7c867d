"""Lazy calls answer what plain calls answer; ``tox -e graphs`` asks at length."""

import pytest

from flowkit.embedded import embedded
from tests.together.lazy_graphs import difference


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"pool": 1}], ids=["default", "one at once"])
def test_lazy_results_are_the_eager_ones(options):
    """Values, references, errors and their places, in graphs of reads, finds and writes."""
    with embedded(account="nora") as api:
        assert [one for seed in range(120) if (one := difference(api, seed, options))] == []
