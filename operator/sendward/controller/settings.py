"""Settings of the operator, from SENDWARD_* variables; read once."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass

from sendward import names


class SettingsError(Exception):
    """A variable is missing or unusable; the message names it and the remedy."""


@dataclass(frozen=True, slots=True)
class Settings:
    """`identity` differs between processes, so that each start is a new holder of the Lease."""

    namespace: str
    identity: str
    vault_address: str
    vault_ca: str
    vault_auth: str
    vault_auth_mount: str
    vault_role: str
    vault_token_file: str
    vault_kv_mount: str
    vault_pki_mount: str


def load(environ: Mapping[str, str] = os.environ) -> Settings:
    """Raises SettingsError."""
    address = environ.get("SENDWARD_VAULT_ADDRESS", "")
    if not address.startswith(("https://", "http://")):
        raise SettingsError(
            "SENDWARD_VAULT_ADDRESS: set it to Vault's URL, such as https://vault.example:8200"
        )
    auth = environ.get("SENDWARD_VAULT_AUTH", "jwt")
    if auth not in ("jwt", "kubernetes"):
        raise SettingsError(f"SENDWARD_VAULT_AUTH: {auth!r} is not served. Write jwt or kubernetes")
    pod = environ.get("SENDWARD_POD", "sendward-operator")
    return Settings(
        namespace=environ.get("SENDWARD_NAMESPACE", names.OPERATOR_NAMESPACE),
        identity=f"{pod}_{uuid.uuid4()}",
        vault_address=address,
        vault_ca=environ.get("SENDWARD_VAULT_CA", ""),
        vault_auth=auth,
        vault_auth_mount=environ.get("SENDWARD_VAULT_AUTH_MOUNT", auth),
        vault_role=environ.get("SENDWARD_VAULT_ROLE", "sendward-operator"),
        vault_token_file=environ.get("SENDWARD_VAULT_TOKEN_FILE", "/var/run/sendward-vault/token"),
        vault_kv_mount=environ.get("SENDWARD_VAULT_KV_MOUNT", "sendward"),
        vault_pki_mount=environ.get("SENDWARD_VAULT_PKI_MOUNT", "sendward-pki"),
    )
