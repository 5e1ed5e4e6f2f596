"""The story that `make demo` tells, each expectation a test. They run in order on one running stack."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.e2e.support import Record, Tenant, remove
from tests.lab.stack import Stack
from tests.lab.story import STORY
from tests.lab.story_stage import Stage, Step, open_stage

pytestmark = [pytest.mark.lab, pytest.mark.asyncio(loop_scope="session")]

NAMESPACE = "story"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def stage(stack: Stack, record: Record) -> AsyncIterator[Stage]:
    async with open_stage(stack, NAMESPACE, lambda _: None) as made:
        try:
            yield made
        finally:
            record.keys |= made.keys
            await remove(Tenant(stack, NAMESPACE, made.shop.place, made.tls, record))


@pytest.mark.parametrize("step", STORY, ids=lambda step: step.name)
async def test_story(stage: Stage, step: Step) -> None:
    print(step.title)
    print(await step.run(stage))
