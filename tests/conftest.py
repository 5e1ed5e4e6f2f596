"""Fixtures of all tests. Those of the lab start real servers, once for the whole run, when asked for."""

import uuid
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.lab.enter import inside
from tests.lab.prerequisites import LabError
from tests.lab.provider import Servers
from tests.lab.servers import APISERVER, VAULT, Lab

# The same examples in every run: what another machine finds can be found again here. `make fuzz` looks for
# new ones, with a profile of its own.
settings.register_profile("repeatable", derandomize=True)
if settings.get_current_profile_name() == "default":
    settings.load_profile("repeatable")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """A lab test outside the lab fails with what to do; it is never skipped."""
    if item.get_closest_marker("lab") is not None and not inside():
        pytest.fail(
            "Lab tests need the lab's namespaces: run `make test-lab`, or "
            "`python -m tests.lab.enter -- python -m pytest -m lab ...`.",
            pytrace=False,
        )


@pytest.fixture(scope="session")
def lab_session() -> Iterator[Lab]:
    """A lab without any running server; tests ask for one of the fixtures below."""
    lab = Lab()
    try:
        yield lab
    finally:
        lab.stop()


def _running(lab: Lab, *names: str) -> Lab:
    try:
        lab.start(*names)
    except LabError as error:
        pytest.fail(str(error), pytrace=False)
    return lab


@pytest.fixture
def servers(lab_session: Lab) -> Lab:
    """Everything runs: etcd, API server, controller manager, Vault (unsealed).

    Started once; a server that an earlier test killed is started again, a sealed Vault is unsealed.
    """
    lab = _running(lab_session)
    if lab.vault_sealed:
        lab.unseal_vault()
    return lab


@pytest.fixture
def apiserver(lab_session: Lab) -> Lab:
    """Only etcd and the API server are certain to run: no controller acts on what a test creates."""
    return _running(lab_session, APISERVER)


@pytest.fixture
def vault_server(lab_session: Lab) -> Lab:
    """Only Vault, unsealed, is certain to run."""
    lab = _running(lab_session, VAULT)
    if lab.vault_sealed:
        lab.unseal_vault()
    return lab


@pytest.fixture
def namespace(apiserver: Lab) -> Iterator[str]:
    """A fresh Kubernetes namespace, deleted (without waiting) after the test."""
    provider: Servers = apiserver
    name = f"test-{uuid.uuid4().hex[:10]}"
    provider.kubectl("create", "namespace", name)
    yield name
    provider.kubectl("delete", "namespace", name, "--wait=false")
