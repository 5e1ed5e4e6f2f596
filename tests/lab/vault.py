"""A real Vault server, not `-dev`: raft storage, TLS, an audit file; it can be sealed and unsealed."""

import json
import time
import urllib.error
from pathlib import Path

from tests.lab import BRIDGE_ADDRESS, VAULT_PORT
from tests.lab.builds import require
from tests.lab.http import Api
from tests.lab.pki import CertificateAuthority
from tests.lab.prerequisites import LabError
from tests.lab.process import ServerProcess

_WAIT_SECONDS = 30.0
_POLL_SECONDS = 0.05


class VaultServer:
    """Vault with one unseal key; `token` is the root token once it was started."""

    def __init__(self, folder: Path, data: Path, log: Path, ca: CertificateAuthority) -> None:
        self.address = f"https://{BRIDGE_ADDRESS}:{VAULT_PORT}"
        self.audit_log = folder / "vault-audit.log"
        self.token = ""
        self._unseal_key = ""
        self._api = Api(self.address, ca.file)
        self._data = data / "vault"
        serving = ca.issue("vault", "vault", names=("localhost", "127.0.0.1", BRIDGE_ADDRESS))
        config = folder / "vault.json"
        config.write_text(
            json.dumps(
                {
                    "storage": {
                        "raft": {"path": str(self._data), "node_id": "lab", "performance_multiplier": 1}
                    },
                    "listener": [
                        {
                            "tcp": {
                                "address": f"0.0.0.0:{VAULT_PORT}",
                                "tls_cert_file": str(serving.certificate),
                                "tls_key_file": str(serving.key),
                            }
                        }
                    ],
                    "api_addr": self.address,
                    "cluster_addr": f"https://127.0.0.1:{VAULT_PORT + 1}",
                    "disable_mlock": True,
                    "ui": False,
                },
                indent=2,
            )
        )
        self.process = ServerProcess(
            "vault", [str(require("vault")), "server", f"-config={config}"], log, self._answers
        )

    def spawn(self) -> None:
        """Start the process; `make_ready` does the rest."""
        self._data.mkdir(exist_ok=True)
        self.process.spawn()

    def make_ready(self) -> None:
        """Wait for the process, initialise it the first time, unseal it, wait until it is active."""
        self.process.wait_ready()
        if not self._unseal_key:
            answer = self._api.call("PUT", "/v1/sys/init", {"secret_shares": 1, "secret_threshold": 1})
            self.token, self._unseal_key = answer["root_token"], answer["keys_base64"][0]
            self.unseal()
            self._enable_audit()
        else:
            self.unseal()

    def seal(self) -> None:
        """Seal; returns when every call is refused."""
        self._api.call("PUT", "/v1/sys/seal", headers=self._headers)

    def unseal(self) -> None:
        """Unseal and wait until Vault serves."""
        self._api.call("PUT", "/v1/sys/unseal", {"key": self._unseal_key})
        deadline = time.monotonic() + _WAIT_SECONDS
        while not self._api.ok("/v1/sys/health"):
            if not self.process.running or time.monotonic() > deadline:
                raise LabError(f"Vault does not become active.\n{self.process.tail()}")
            time.sleep(_POLL_SECONDS)

    @property
    def sealed(self) -> bool:
        """Whether Vault is sealed now."""
        return bool(self._api.call("GET", "/v1/sys/seal-status")["sealed"])

    @property
    def _headers(self) -> dict[str, str]:
        return {"X-Vault-Token": self.token}

    def _enable_audit(self) -> None:
        options = {"type": "file", "options": {"file_path": str(self.audit_log)}}
        self._api.call("PUT", "/v1/sys/audit/file", options, headers=self._headers)

    def _answers(self) -> bool:
        """Whether the process serves its API, sealed or not."""
        try:
            self._api.call("GET", "/v1/sys/seal-status", timeout=2.0)
        except (urllib.error.HTTPError, OSError):
            return False
        return True
