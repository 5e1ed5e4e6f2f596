"""One running stack for all tests of this folder, on servers of their own: they are killed, paused, filled up
and set back."""

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from tests.e2e.support import SOURCE, Record, Tenant
from tests.faults.api.support import Etcd, unlimited
from tests.faults.proxy_lab import Proxies, lab_proxies
from tests.lab.pods.network import client_namespace
from tests.lab.servers import NEEDS, Lab
from tests.lab.stack import Stack


@pytest.fixture(scope="package")
def lab_session(lab_session: Lab) -> Iterator[Lab]:
    """Those of the session stand still meanwhile, since both have the same addresses."""
    for name in reversed(NEEDS):
        if lab_session.running(name):
            lab_session.kill(name)
    own = Lab()
    try:
        yield own
    finally:
        own.stop()


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def stack(lab_session: Lab) -> AsyncIterator[Stack]:
    """Sendward installed, two operators and the webhook Ready."""
    lab_session.start()
    async with Stack(lab_session) as running:
        yield running


@pytest.fixture(scope="package")
def etcd(lab_session: Lab) -> Etcd:
    """The lab's etcd, beside the API server."""
    return Etcd(lab_session)


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def proxies(stack: Stack) -> AsyncIterator[Proxies]:
    """From the first test that asks for them the operators speak to both servers through the proxies."""
    async with lab_proxies(stack.lab) as made:
        await made.route(stack)
        yield made


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def tenant(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Tenant]:
    """A namespace with the quickstart and one gateway pod, Ready. It goes with the servers."""
    namespace = "tenant"
    await stack.onboard(namespace)
    await stack.quickstart(namespace)
    await stack.deploy_gateway(namespace, replicas=1)
    record = Record(tmp_path_factory.mktemp("dumps"))
    async with client_namespace(SOURCE) as client:
        made = Tenant(stack, namespace, client, await stack.client_tls(), record)
        await made.pod()
        await unlimited(made)
        yield made
