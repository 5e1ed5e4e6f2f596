"""A real Vault as `sendward vault bootstrap` leaves it, and the operator's token for its login."""

from __future__ import annotations

import pytest

from tests.apply.administrator import run_bootstrap
from tests.lab.provider import Servers

NAMESPACE = "sendward-system"
ACCOUNT = "sendward-operator"


@pytest.fixture
def bootstrapped(servers: Servers) -> Servers:
    result = run_bootstrap(servers)
    assert result.exit_code == 0, result.output
    return servers


@pytest.fixture
def operator_jwt(servers: Servers) -> str:
    for kind, name, options in (
        ("namespace", NAMESPACE, ()),
        ("serviceaccount", ACCOUNT, ("--namespace", NAMESPACE)),
    ):
        manifest = servers.kubectl("create", kind, name, *options, "--dry-run=client", "-o", "yaml")
        servers.kubectl("apply", "-f", "-", stdin=manifest)
    return servers.kubectl("create", "token", ACCOUNT, "--namespace", NAMESPACE, "--audience=vault").strip()
