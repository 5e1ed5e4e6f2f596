"""Runs `sendward vault bootstrap` against a real Vault."""

from __future__ import annotations

from typer.testing import CliRunner, Result

from sendward.cli.vault import app
from tests.lab.provider import Servers


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
