from __future__ import annotations

import pytest

from tests.crds.api import Judge, Server


@pytest.fixture(scope="session")
def judges() -> dict[str, Judge]:
    """By address: the definitions are installed once, they outlive a restart of the API server."""
    return {}


@pytest.fixture
def judge(apiserver: Server, judges: dict[str, Judge]) -> Judge:
    """The real API server with our definitions installed."""
    if apiserver.apiserver_url not in judges:
        found = Judge(apiserver)
        found.install()
        judges[apiserver.apiserver_url] = found
    return judges[apiserver.apiserver_url]
