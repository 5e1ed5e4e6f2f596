"""An API server with our policies, and the webhook in a thread of this process.

Everything goes with the package: other tests install their own.
"""

import asyncio
import base64
import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sendward import names
from sendward.apply.kube import KubeClient
from sendward.manifests import admission
from sendward.manifests.install import custom_resource_definitions, onboard, parameters
from sendward.manifests.options import InstallOptions, VaultOptions
from sendward.manifests.rbac import cluster_roles, own_namespace
from sendward.webhook.certificate import ServingCertificate
from sendward.webhook.inject import inject, parse_gateway
from sendward.webhook.review import Reviewer, parse_parameters
from sendward.webhook.server import WebhookServer
from tests.lab.pki import CertificateAuthority
from tests.lab.prerequisites import LabError
from tests.lab.servers import APISERVER, Lab

Object = dict[str, Any]
SYSTEM = "admission-system"
OPTIONS = InstallOptions(
    vault=VaultOptions(address="https://vault.example:8200"),
    namespace=SYSTEM,
    image="registry.example/sendward:1",
    proxy_image="registry.example/envoy:1",
)
DOCUMENT_KEY = base64.b64encode(bytes(range(32))).decode()


class Cluster:
    """The API server as administrator, by kubectl: its messages are what users read."""

    def __init__(self, lab: Lab, directory: Path) -> None:
        self.lab = lab
        self._directory = directory

    def apply(self, *objects: Object) -> None:
        """Server-side, so that applying again changes nothing."""
        self.lab.kubectl("apply", "--server-side", "-f", "-", stdin=_text(objects))

    def create(self, obj: Object, *options: str) -> Object:
        """The object as it was stored; raises LabError with the API server's refusal."""
        return self._json("create", "-f", "-", "-o", "json", *options, stdin=_text([obj]))

    def get(self, *arguments: str) -> Object:
        return self._json("get", "-o", "json", *arguments)

    def replace_raw(self, path: str, obj: Object) -> None:
        """PUT at any path, subresources too."""
        self.lab.kubectl("replace", "--raw", path, "-f", self._file(obj))

    def create_raw(self, path: str, obj: Object) -> None:
        self.lab.kubectl("create", "--raw", path, "-f", self._file(obj))

    def _file(self, obj: Object) -> str:
        file = self._directory / f"{uuid.uuid4().hex}.json"
        file.write_text(json.dumps(obj))
        return str(file)

    def _json(self, *arguments: str, stdin: str | None = None) -> Object:
        found: Object = json.loads(self.lab.kubectl(*arguments, stdin=stdin))
        return found


def _text(objects: Any) -> str:
    return "\n---\n".join(json.dumps(obj) for obj in objects)


def namespace_object(name: str) -> Object:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def service_account(name: str, namespace: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": name, "namespace": namespace},
    }


def gateway_object(namespace: str, name: str = "api") -> Object:
    return {
        "apiVersion": names.API_VERSION,
        "kind": "MessagingGateway",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "http": {"applicationPort": 8080, "operations": [{"name": "send", "path": "/send"}]},
            "tls": {"vaultPKI": {"dnsNames": ["api.example"]}},
            "sourceCIDRs": ["10.0.0.0/8"],
        },
    }


def pod_object(namespace: str, gateway: str | None = "api") -> Object:
    """A pod as a user writes it."""
    labels = {} if gateway is None else {names.LABEL_GATEWAY: gateway}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"pod-{uuid.uuid4().hex[:8]}", "namespace": namespace, "labels": labels},
        "spec": {"containers": [{"name": "app", "image": "app:1"}]},
    }


@pytest.fixture(scope="package")
def cluster(lab_session: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    lab_session.start(APISERVER)
    cluster = Cluster(lab_session, tmp_path_factory.mktemp("admission"))
    configuration = parameters(OPTIONS)
    configuration["data"][names.PARAM_DOCUMENT_KEY] = DOCUMENT_KEY
    accounts = (names.SERVICE_ACCOUNT_OPERATOR, names.SERVICE_ACCOUNT_WEBHOOK)
    policies = admission.policies(SYSTEM, {})
    roles = [*cluster_roles(SYSTEM, {}), *own_namespace(SYSTEM, {})]
    cluster.apply(*custom_resource_definitions())
    cluster.apply(namespace_object(SYSTEM))
    cluster.apply(*(service_account(name, SYSTEM) for name in accounts), *roles, configuration, *policies)
    lab_session.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
    yield cluster
    for kind in ("validatingadmissionpolicybinding", "validatingadmissionpolicy"):
        lab_session.kubectl("delete", kind, *{policy["metadata"]["name"] for policy in policies})
    for role in ("clusterrolebinding", "clusterrole"):
        lab_session.kubectl("delete", role, *accounts)
    lab_session.kubectl("delete", "namespace", SYSTEM, "--wait=false")


@pytest.fixture(scope="package")
def onboarded(cluster: Cluster) -> Iterator[str]:
    """An onboarded namespace with the gateway `api`, in which the policies are in force."""
    name = f"sms-{uuid.uuid4().hex[:8]}"
    cluster.apply(*onboard(name, SYSTEM)[:1])
    cluster.apply(*onboard(name, SYSTEM)[1:], service_account("default", name))
    cluster.apply(gateway_object(name))
    _wait_for_policies(cluster, name)
    yield name
    cluster.lab.kubectl("delete", "namespace", name, "--wait=false")


def _wait_for_policies(cluster: Cluster, namespace: str) -> None:
    """Each refuses something that no other one does: which of several refusals is told is left to chance."""
    exposed = injected_pod(cluster, namespace)
    exposed["spec"]["hostPID"] = True
    plain = cluster.create(pod_object(namespace, gateway=None))["metadata"]["name"]
    label = ("label", "pod", plain, "-n", namespace, f"{names.LABEL_GATEWAY}=api", "--dry-run=server")
    attempts: dict[str, Callable[[], object]] = {
        admission.POLICY_SIDECAR: lambda: cluster.create(pod_object(namespace), "--dry-run=server"),
        admission.POLICY_POD: lambda: cluster.create(exposed, "--dry-run=server"),
        admission.POLICY_LABEL: lambda: cluster.lab.kubectl(*label),
    }
    for policy, attempt in attempts.items():
        until(lambda policy=policy, attempt=attempt: _refused_by(policy, attempt))  # type: ignore[misc]


def _refused_by(policy: str, attempt: Callable[[], object]) -> bool:
    try:
        attempt()
    except LabError as error:
        return policy in str(error)
    return False


def until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while True:
        try:
            if condition():
                return
        except LabError:
            if time.monotonic() > end:
                raise
        assert time.monotonic() < end, "the API server did not take the configuration up"
        time.sleep(0.1)


class RunningWebhook:
    """The webhook's server in a thread with a loop of its own."""

    def __init__(self, cluster: Cluster, directory: Path) -> None:
        self._cluster = cluster
        self.directory = directory
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),))
        self.ports = (0, 0)

    def start(self) -> None:
        self._thread.start()
        assert self._ready.wait(20)

    def end(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(20)
        self._loop.close()

    async def _serve(self) -> None:
        lab = self._cluster.lab
        # With the rights that it has in a cluster, and no others.
        token = lab.kubectl("create", "token", names.SERVICE_ACCOUNT_WEBHOOK, "-n", SYSTEM).strip()
        kube = KubeClient(lab.apiserver_url, token=token, ca_file=str(lab.ca_file))
        server = WebhookServer(
            Reviewer(kube, SYSTEM),
            ServingCertificate(self.directory),
            host="127.0.0.1",
            port=0,
            probe_port=0,
            refresh_seconds=0.1,
        )
        async with server.serving():
            self.ports = server.ports
            self._ready.set()
            await self._stop.wait()
        await kube.close()


@pytest.fixture(scope="module")
def webhook(
    cluster: Cluster, onboarded: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningWebhook]:
    """The webhook, registered by URL instead of a Service."""
    directory = tmp_path_factory.mktemp("webhook")
    authority = CertificateAuthority(directory, "webhook-ca")
    authority.issue("tls", "webhook", names=("127.0.0.1",))
    running = RunningWebhook(cluster, directory)
    running.start()
    configuration = admission.webhook_configuration(SYSTEM, {})
    configuration["webhooks"][0]["clientConfig"] = {
        "url": f"https://127.0.0.1:{running.ports[0]}{names.WEBHOOK_PATH}",
        "caBundle": base64.b64encode(authority.pem).decode(),
    }
    cluster.apply(configuration)
    try:
        until(lambda: bool(cluster.create(pod_object(onboarded), "--dry-run=server")))
        yield running
    finally:
        cluster.lab.kubectl("delete", "mutatingwebhookconfiguration", names.WEBHOOK_CONFIGURATION)
        running.end()


def injected_pod(cluster: Cluster, namespace: str) -> Object:
    """A pod as it leaves the webhook."""
    gateway = parse_gateway(cluster.get("messaginggateway", "api", "-n", namespace))
    values = parameters(OPTIONS)["data"] | {names.PARAM_DOCUMENT_KEY: DOCUMENT_KEY}
    return inject(pod_object(namespace), gateway, parse_parameters(values, "parameters"))


@pytest.fixture
def injected(cluster: Cluster, onboarded: str) -> Object:
    """Without the webhook in place, nothing repairs what a test spoils."""
    return injected_pod(cluster, onboarded)
