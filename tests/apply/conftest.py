"""A real Vault as `sendward vault bootstrap` leaves it, and the operator's token for its login."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner, Result

from sendward.cli.vault import app
from tests.lab.provider import Servers

NAMESPACE = "sendward-system"
ACCOUNT = "sendward-operator"


def run_bootstrap(lab: Servers, *options: str, token: str = "") -> Result:
    """Run the command as an administrator of this Vault."""
    key = lab.directory / "service-account.pem"
    key.write_text(lab.service_account_public_key_pem)
    environment = {
        "VAULT_ADDR": lab.vault_address,
        "VAULT_TOKEN": token or lab.vault_token,
        "VAULT_CACERT": str(lab.ca_file),
    }
    arguments = ["bootstrap", f"--issuer={lab.service_account_issuer}", f"--jwt-public-key={key}", *options]
    return CliRunner().invoke(app, arguments, env=environment)


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
