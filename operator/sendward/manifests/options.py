"""What an administrator chooses when installing."""

from __future__ import annotations

from dataclasses import dataclass, field

from sendward import names


@dataclass(frozen=True, slots=True)
class VaultOptions:
    """How the operator reaches Vault. `ca_config_map` in the operator's namespace holds `ca.crt`."""

    address: str
    ca_config_map: str = ""
    auth: str = "jwt"
    auth_mount: str = "jwt"
    role: str = "sendward-operator"
    kv_mount: str = "sendward"
    pki_mount: str = "sendward-pki"


@dataclass(frozen=True, slots=True)
class InstallOptions:
    """Images, sizes and places of one installation; one per cluster."""

    vault: VaultOptions
    namespace: str = names.OPERATOR_NAMESPACE
    image: str = f"sendward:{names.VERSION}"  # operator, webhook and guard
    proxy_image: str = "envoyproxy/envoy:distroless-v1.40.0"
    proxy_concurrency: int = 2
    operator_replicas: int = 2
    webhook_replicas: int = 2
    # Namespaces whose pods may read metrics of operator and webhook; none by default.
    metrics_namespace: str = ""
    labels: dict[str, str] = field(default_factory=lambda: {names.LABEL_MANAGED_BY: "sendward-install"})
