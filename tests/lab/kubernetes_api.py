"""Command lines and files of etcd, kube-apiserver and kube-controller-manager."""

import json
import secrets
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from tests.lab import APISERVER_PORT, BRIDGE_ADDRESS, SERVICE_CIDR
from tests.lab.builds import require
from tests.lab.pki import CertificateAuthority, KeyPair, private_key_pem, public_key_pem, write_private

ISSUER = "https://kubernetes.default.svc.cluster.local"
ETCD_URL = "http://127.0.0.1:2379"
AUDIT_LOG = "kube-apiserver-audit.log"

# The first address of the service range is the API server's own cluster IP.
_FIRST_CLUSTER_IP = "10.96.0.1"
_CONTROLLER_MANAGER_USER = "system:kube-controller-manager"

# No node controllers: the pod runner's Node must not be tainted or evicted for a kubelet's missing heartbeat.
_CONTROLLERS = (
    "clusterrole-aggregation-controller",
    "deployment-controller",
    "endpoints-controller",
    "endpointslice-controller",
    "garbage-collector-controller",
    "namespace-controller",
    "replicaset-controller",
    "root-ca-certificate-publisher-controller",
    "serviceaccount-controller",
    "serviceaccount-token-controller",
    "validatingadmissionpolicy-status-controller",
)


@dataclass(frozen=True)
class KubernetesFiles:
    """What the three processes read."""

    serving: KeyPair
    tokens: Path
    service_account_key: Path
    service_account_public_key: Path
    admin_kubeconfig: Path
    controller_manager_kubeconfig: Path
    admin_token: str


def write_files(folder: Path, ca: CertificateAuthority, url: str) -> KubernetesFiles:
    """Issue certificates, draw tokens and keys, write kubeconfigs."""
    names = ("localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc")
    serving = ca.issue(
        "apiserver",
        "kube-apiserver",
        names=(*names, f"{names[-1]}.cluster.local", "127.0.0.1", BRIDGE_ADDRESS, _FIRST_CLUSTER_IP),
    )
    admin_token = secrets.token_urlsafe(32)
    manager_token = secrets.token_urlsafe(32)
    rows = (
        f"{admin_token},lab-admin,lab-admin,system:masters\n{manager_token},{_CONTROLLER_MANAGER_USER},kcm\n"
    )
    key = ec.generate_private_key(ec.SECP256R1())
    public_key = folder / "service-account.pub"
    public_key.write_bytes(public_key_pem(key))
    admin = ca.issue("admin", "lab-admin", organization="system:masters")
    return KubernetesFiles(
        serving=serving,
        tokens=write_private(folder / "tokens.csv", rows.encode()),
        service_account_key=write_private(folder / "service-account.key", private_key_pem(key)),
        service_account_public_key=public_key,
        admin_kubeconfig=_kubeconfig(
            folder / "kubeconfig",
            url,
            ca,
            {"client-certificate": str(admin.certificate), "client-key": str(admin.key)},
        ),
        controller_manager_kubeconfig=_kubeconfig(
            folder / "controller-manager.kubeconfig", url, ca, {"token": manager_token}
        ),
        admin_token=admin_token,
    )


def _kubeconfig(path: Path, url: str, ca: CertificateAuthority, user: dict[str, str]) -> Path:
    """A kubeconfig as JSON, which is YAML, too."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "lab", "cluster": {"server": url, "certificate-authority": str(ca.file)}}],
        "users": [{"name": "lab", "user": user}],
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "lab"}}],
        "current-context": "lab",
    }
    return write_private(path, json.dumps(config, indent=2).encode())


def etcd_command(data: Path, *, fsync: bool) -> list[str]:
    """etcd on loopback; without fsync a crash of the machine may lose data, a killed process loses none."""
    return [
        str(require("etcd")),
        f"--data-dir={data / 'etcd'}",
        f"--listen-client-urls={ETCD_URL}",
        f"--advertise-client-urls={ETCD_URL}",
        "--listen-peer-urls=http://127.0.0.1:2380",
        f"--unsafe-no-fsync={str(not fsync).lower()}",
        "--log-level=warn",
    ]


def audit_flags(folder: Path) -> list[str]:
    """An audit log below `folder`: who did what to which object, and never a body.

    Of the lab's own administrator and controllers only what gives the operator its rights, or takes them.
    """
    rights = [
        {"group": "rbac.authorization.k8s.io", "resources": ["roles", "rolebindings"]},
        {"group": "", "resources": ["namespaces"]},
    ]
    policy = {
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [
            {
                "level": "Metadata",
                "users": ["lab-admin"],
                "verbs": ["create", "update", "patch", "delete"],
                "resources": rights,
            },
            {"level": "None", "users": ["lab-admin", _CONTROLLER_MANAGER_USER, "system:apiserver"]},
            {"level": "None", "userGroups": ["system:serviceaccounts:kube-system"]},
            {"level": "Metadata"},
        ],
    }
    path = folder / "audit-policy.json"
    path.write_text(json.dumps(policy, indent=2))
    return [
        f"--audit-policy-file={path}",
        f"--audit-log-path={folder / AUDIT_LOG}",
        "--audit-log-maxsize=4000",
    ]


def apiserver_command(files: KubernetesFiles, ca: CertificateAuthority) -> list[str]:
    """The API server with RBAC; webhooks named by Service are called at their endpoints' addresses."""
    return [
        str(require("kube-apiserver")),
        f"--etcd-servers={ETCD_URL}",
        "--bind-address=0.0.0.0",
        f"--advertise-address={BRIDGE_ADDRESS}",
        f"--secure-port={APISERVER_PORT}",
        f"--tls-cert-file={files.serving.certificate}",
        f"--tls-private-key-file={files.serving.key}",
        f"--client-ca-file={ca.file}",
        f"--token-auth-file={files.tokens}",
        "--authorization-mode=RBAC",
        f"--service-account-issuer={ISSUER}",
        f"--service-account-signing-key-file={files.service_account_key}",
        f"--service-account-key-file={files.service_account_public_key}",
        f"--service-cluster-ip-range={SERVICE_CIDR}",
        "--enable-aggregator-routing=true",
        "--allow-privileged=true",
    ]


def controller_manager_command(files: KubernetesFiles, ca: CertificateAuthority) -> list[str]:
    """The controllers that the lab's objects need, each with its own service account."""
    return [
        str(require("kube-controller-manager")),
        f"--kubeconfig={files.controller_manager_kubeconfig}",
        f"--authentication-kubeconfig={files.controller_manager_kubeconfig}",
        f"--authorization-kubeconfig={files.controller_manager_kubeconfig}",
        f"--tls-cert-file={files.serving.certificate}",
        f"--tls-private-key-file={files.serving.key}",
        f"--service-account-private-key-file={files.service_account_key}",
        f"--root-ca-file={ca.file}",
        f"--controllers={','.join(_CONTROLLERS)}",
        "--use-service-account-credentials=true",
        "--leader-elect=false",
        "--bind-address=127.0.0.1",
    ]
