"""`Lab`: etcd, kube-apiserver, kube-controller-manager and Vault as processes in the lab's namespaces.

Calls block; from a coroutine use `asyncio.to_thread`. Data lies below the lab's folder, on a tmpfs unless
etcd is to sync to a real disk; logs lie beside it.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.lab import APISERVER_PORT, BRIDGE_ADDRESS, kubernetes_api
from tests.lab.builds import require
from tests.lab.enter import require_inside
from tests.lab.http import Api
from tests.lab.pki import CertificateAuthority
from tests.lab.prerequisites import LabError
from tests.lab.process import ServerProcess
from tests.lab.vault import VaultServer

ETCD = "etcd"
APISERVER = "kube-apiserver"
CONTROLLER_MANAGER = "kube-controller-manager"
VAULT = "vault"

NEEDS: dict[str, tuple[str, ...]] = {
    ETCD: (),
    VAULT: (),
    APISERVER: (ETCD,),
    CONTROLLER_MANAGER: (ETCD, APISERVER),
}
"""Each server with those that must run before it; stopping goes the other way."""

BINARIES = (ETCD, APISERVER, CONTROLLER_MANAGER, VAULT, "kubectl")
"""What must be built before a Lab can start everything."""


@dataclass
class _Server:
    process: ServerProcess
    make_ready: Callable[[], None]


class Lab:
    """The servers of the process lab (implements `tests.lab.provider.Servers`).

    `with Lab() as lab:` starts everything; `Lab().start("vault")` starts parts, with what they need. Raises
    LabError outside the namespaces, for a missing binary, and with the last log lines of a server that fails.
    `audit`: the API server writes an audit log too, which costs it a little; Vault always does.
    """

    def __init__(self, *, fsync: bool = False, audit: bool = False) -> None:
        require_inside()
        self.directory = Path(tempfile.mkdtemp(prefix="lab-"))
        self._data = self.directory / "data"
        self._data.mkdir()
        if not fsync:
            subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=0700", "tmpfs", str(self._data)], check=True)
        self.apiserver_url = f"https://{BRIDGE_ADDRESS}:{APISERVER_PORT}"
        self._ca = CertificateAuthority(self.directory, "sendward-lab-ca")
        self._files = kubernetes_api.write_files(self.directory, self._ca, self.apiserver_url)
        self._fsync = fsync
        self._audit = audit
        self._api = Api(self.apiserver_url, self._ca.file)
        self._vault: VaultServer | None = None
        self._servers: dict[str, _Server] = {}

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def kubeconfig(self) -> Path:
        """Administrator's kubeconfig (client certificate, group system:masters)."""
        return self._files.admin_kubeconfig

    @property
    def admin_token(self) -> str:
        """Static bearer token of an administrator, group system:masters."""
        return self._files.admin_token

    @property
    def ca_file(self) -> Path:
        """PEM of the CA of API server and Vault."""
        return self._ca.file

    @property
    def ca(self) -> CertificateAuthority:
        """The CA itself, for further certificates."""
        return self._ca

    @property
    def etcd_data(self) -> Path:
        """etcd's data folder, to copy while etcd does not run."""
        return self._data / "etcd"

    @property
    def vault_address(self) -> str:
        """`https://HOST:PORT`, from here and from pods."""
        return self._started_vault.address

    @property
    def vault_token(self) -> str:
        """Root token."""
        return self._started_vault.token

    @property
    def vault_sealed(self) -> bool:
        """Whether Vault is sealed now."""
        return self._started_vault.sealed

    @property
    def vault_audit_log(self) -> Path:
        """File of Vault's audit device, one JSON object a line."""
        return self._started_vault.audit_log

    @property
    def audit_log(self) -> Path:
        """The API server's audit log, one JSON object a line. Raises LabError without `audit`."""
        if not self._audit:
            raise LabError("this lab keeps no audit log of the API server: Lab(audit=True)")
        return self.directory / kubernetes_api.AUDIT_LOG

    @property
    def service_account_issuer(self) -> str:
        """`iss` of service-account tokens, and their default audience."""
        return kubernetes_api.ISSUER

    @property
    def service_account_public_key_pem(self) -> str:
        """Key that verifies service-account tokens."""
        return self._files.service_account_public_key.read_text()

    def start(self, *names: str) -> None:
        """Start these servers with what they need, all without a name; those that run stay as they are."""
        wanted = names or tuple(NEEDS)
        ordered = [name for name in NEEDS if any(name == other or name in NEEDS[other] for other in wanted)]
        missing = [name for name in ordered if not self.running(name)]
        # Each is spawned as soon as what it needs serves, so that Vault comes up beside the API server.
        pending: list[str] = []
        for name in missing:
            for need in NEEDS[name]:
                if need in pending:
                    self._servers[need].make_ready()
                    pending.remove(need)
            self._spawn(name)
            pending.append(name)
        for name in pending:
            self._servers[name].make_ready()

    def stop(self) -> None:
        """Stop every server in reverse order and remove the lab's folder."""
        for name in reversed(NEEDS):
            if name in self._servers:
                self._servers[name].process.stop()
        self._servers.clear()
        # Our own tmpfs, if there is one, and volumes of pods whose runner was interrupted.
        for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
            place = line.split()[1]
            if Path(place).is_relative_to(self.directory):
                subprocess.run(["umount", "-l", place], check=True)
        shutil.rmtree(self.directory)

    def kill(self, name: str) -> None:
        """End one server by SIGKILL."""
        self._server(name).process.kill()

    def restart(self, name: str) -> None:
        """End one server if it runs, start it with the data it had, wait until it serves."""
        self._server(name).process.stop()
        self._spawn(name)
        self._server(name).make_ready()

    def running(self, name: str) -> bool:
        """Whether the server's process lives."""
        return name in self._servers and self._servers[name].process.running

    def pid(self, name: str) -> int | None:
        """Process id of a running server, to read its memory or CPU time."""
        return self._server(name).process.pid

    def log(self, name: str) -> Path:
        """Log file of one server."""
        return self.directory / f"{name}.log"

    def seal_vault(self) -> None:
        """Seal Vault."""
        self._started_vault.seal()

    def unseal_vault(self) -> None:
        """Unseal Vault and wait until it serves."""
        self._started_vault.unseal()

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl as administrator; returns its standard output, raises LabError with its message."""
        done = subprocess.run(
            [str(require("kubectl")), f"--kubeconfig={self.kubeconfig}", *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            # Its discovery cache belongs to this lab, not to the user's home.
            env=os.environ | {"KUBECACHEDIR": str(self.directory / "kubectl-cache")},
        )
        if done.returncode != 0:
            raise LabError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    @property
    def _started_vault(self) -> VaultServer:
        if self._vault is None:
            raise LabError("Vault was not started in this lab: call start('vault') first.")
        return self._vault

    def _server(self, name: str) -> _Server:
        if name not in self._servers:
            raise LabError(f"{name} was not started in this lab; it knows {', '.join(NEEDS)}.")
        return self._servers[name]

    def _spawn(self, name: str) -> None:
        if name not in self._servers:
            self._servers[name] = self._create(name)
        if name == VAULT:
            self._started_vault.spawn()
        else:
            self._servers[name].process.spawn()

    def _create(self, name: str) -> _Server:
        if name == VAULT:
            self._vault = VaultServer(self.directory, self._data, self.log(name), self._ca)
            return _Server(self._vault.process, self._vault.make_ready)
        commands: dict[str, Callable[[], list[str]]] = {
            ETCD: lambda: kubernetes_api.etcd_command(self._data, fsync=self._fsync),
            APISERVER: self._apiserver_command,
            CONTROLLER_MANAGER: lambda: kubernetes_api.controller_manager_command(self._files, self._ca),
        }
        ready: dict[str, Callable[[], bool]] = {
            ETCD: lambda: Api(kubernetes_api.ETCD_URL).ok("/readyz"),
            APISERVER: lambda: self._api.ok("/readyz", {"Authorization": f"Bearer {self.admin_token}"}),
            CONTROLLER_MANAGER: self._controllers_work,
        }
        process = ServerProcess(name, commands[name](), self.log(name), ready[name])
        return _Server(process, process.wait_ready)

    def _apiserver_command(self) -> list[str]:
        audit = kubernetes_api.audit_flags(self.directory) if self._audit else []
        return [*kubernetes_api.apiserver_command(self._files, self._ca), *audit]

    def _controllers_work(self) -> bool:
        """Whether the controllers made what each pod needs: its service account and the root CA."""
        headers = {"Authorization": f"Bearer {self.admin_token}"}
        namespace = "/api/v1/namespaces/default"
        return self._api.ok(f"{namespace}/serviceaccounts/default", headers) and self._api.ok(
            f"{namespace}/configmaps/kube-root-ca.crt", headers
        )
