"""One running stack for all end-to-end tests; a namespace of its own for each test file.

Tests run on the session's event loop, as the stack does:
`pytestmark = [pytest.mark.lab, pytest.mark.asyncio(loop_scope="session")]`.
"""

import itertools
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from tests.e2e.support import Record, Tenant, new_tenant
from tests.lab.servers import NEEDS, Lab
from tests.lab.stack import Stack

_thirds = itertools.count(7)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The runner's own tests come before the stack, which has a runner too; then everything else, what
    was done with which right, and the search for leaks.
    """

    def order(item: pytest.Item) -> int:
        return {"test_pod_runner": -1, "test_audit": 1, "test_zz_canary": 2}.get(item.path.stem, 0)

    here = [number for number, item in enumerate(items) if item.path.parent.name == "e2e"]
    for number, item in zip(here, sorted((items[n] for n in here), key=order), strict=True):
        items[number] = item


@pytest.fixture(scope="package")
def lab_session(lab_session: Lab) -> Iterator[Lab]:
    """Servers of this folder's own: what the tests before left in theirs is no part of an installation.

    Those of the session stand still meanwhile, since both have the same addresses; whoever needs them
    next starts them again.
    """
    for name in reversed(NEEDS):
        if lab_session.running(name):
            lab_session.kill(name)
    own = Lab(audit=True)
    try:
        yield own
    finally:
        own.stop()


# Of this folder, not of the session: files that come later need the machine and its servers alone.
@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def stack(lab_session: Lab) -> AsyncIterator[Stack]:
    """Sendward installed, two operators and the webhook Ready."""
    lab_session.start()
    if lab_session.vault_sealed:
        lab_session.unseal_vault()
    async with Stack(lab_session) as running:
        yield running


@pytest.fixture(scope="package")
def record(lab_session: Lab) -> Record:
    """What the search for leaked values looks for, and in."""
    folder = lab_session.directory / "dumps"
    folder.mkdir()
    return Record(folder)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def tenant(stack: Stack, record: Record, request: pytest.FixtureRequest) -> AsyncIterator[Tenant]:
    """A fresh namespace with the quickstart and its gateway, Ready; `PODS` in a test file sets how many."""
    label = request.path.stem.removeprefix("test_").replace("_", "-")[:20]
    async with new_tenant(
        stack,
        record,
        address=f"10.123.200.{next(_thirds)}",
        replicas=getattr(request.module, "PODS", 1),
        label=label,
    ) as made:
        yield made
