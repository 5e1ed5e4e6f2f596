"""A part of the crash matrix for everyday: the calls at which most is at stake. `make faults` runs all."""

from __future__ import annotations

import pytest

from tests.faults.matrix.bed import Bed
from tests.faults.matrix.report import When
from tests.faults.matrix.runner import crash, reference
from tests.faults.matrix.scenarios import SCENARIOS

pytestmark = [pytest.mark.lab, pytest.mark.asyncio(loop_scope="session")]

_BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}
# Around the write to Vault, and around the word `Revoked`.
_PART: dict[str, tuple[tuple[When, int], ...]] = {
    "rotate by nonce": (("before", 2), ("after", 2), ("after", 3)),
    "revoke": (("before", 2), ("after", 2)),
}


@pytest.mark.parametrize("name", _PART)
async def test_a_killed_operator_reaches_the_state_of_an_undisturbed_run(bed: Bed, name: str) -> None:
    scenario = _BY_NAME[name]
    expected = await reference(bed, scenario)
    assert expected.run.failures == []
    for when, number in _PART[name]:
        run = await crash(bed, scenario, expected, when, number)
        assert (str(run), run.kills, run.failures) == (str(run), 1, [])
