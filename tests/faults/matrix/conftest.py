"""One bed for the representative part of the matrix."""

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from tests.faults.matrix.bed import Bed, crash_bed
from tests.lab.servers import NEEDS, Lab


@pytest.fixture(scope="package")
def own_lab(lab_session: Lab) -> Iterator[Lab]:
    """Servers of this folder's own; those of the session stand still meanwhile, having the same addresses."""
    for name in reversed(NEEDS):
        if lab_session.running(name):
            lab_session.kill(name)
    with Lab() as lab:
        yield lab


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def bed(own_lab: Lab) -> AsyncIterator[Bed]:
    """Everything installed, the operators behind the tamper proxies."""
    async with crash_bed(own_lab, lambda _: None) as made:
        yield made
