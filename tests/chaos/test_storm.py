"""Everything at once, as a seed decides; `make chaos` does the same for as long as you like."""

from __future__ import annotations

import pytest

from tests.chaos.storm import MAX_ATTEMPTS, Storm
from tests.chaos.world import World

pytestmark = pytest.mark.slow


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_a_storm_of_faults_loses_and_doubles_nothing(world: World, seed: int):
    found = Storm(world, seed).rage(seconds=15)

    assert not found.breaches, "\n".join(found.breaches[:20])
    assert (found.lost, found.doubled) == (0, 0)
    assert found.records == found.jobs > 0
    assert found.max_attempt <= MAX_ATTEMPTS
