"""What tests and the demo ask of a set of servers, whoever runs them."""

from pathlib import Path
from typing import Protocol


class Servers(Protocol):
    """A running API server and Vault. Calls block and raise LabError."""

    @property
    def directory(self) -> Path:
        """Folder of everything the servers were given and left behind."""
        ...

    @property
    def kubeconfig(self) -> Path:
        """Administrator's kubeconfig."""
        ...

    @property
    def apiserver_url(self) -> str:
        """`https://HOST:PORT`, reachable from here and from pods."""
        ...

    @property
    def admin_token(self) -> str:
        """Bearer token of an administrator (group system:masters)."""
        ...

    @property
    def ca_file(self) -> Path:
        """PEM of the CA that signed the certificates of API server and Vault."""
        ...

    @property
    def vault_address(self) -> str:
        """`https://HOST:PORT`, reachable from here and from pods."""
        ...

    @property
    def vault_token(self) -> str:
        """Root token."""
        ...

    @property
    def service_account_issuer(self) -> str:
        """`iss` of service-account tokens."""
        ...

    @property
    def service_account_public_key_pem(self) -> str:
        """Key that verifies service-account tokens, for Vault's JWT auth."""
        ...

    def start(self, *names: str) -> None:
        """Start these servers with what they need (all without a name); those that run stay as they are."""
        ...

    def stop(self) -> None:
        """Stop everything and remove what it left."""
        ...

    def kill(self, name: str) -> None:
        """End one server at once, as a crash would."""
        ...

    def restart(self, name: str) -> None:
        """End one server if it runs, start it with the data it had, wait until it serves."""
        ...

    def log(self, name: str) -> Path:
        """Log file of one server."""
        ...

    def seal_vault(self) -> None:
        """Seal Vault: every call of its clients is refused until it is unsealed."""
        ...

    def unseal_vault(self) -> None:
        """Unseal Vault and wait until it serves."""
        ...

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl as administrator; returns what it printed."""
        ...
