"""The webhook in the path of a real API server, with its own rights and the policies behind it."""

import json
import ssl
import urllib.error
import urllib.request
from typing import Any

import pytest

from sendward import names
from sendward.webhook.server import MAX_BODY_BYTES
from tests.admission.conftest import (
    DOCUMENT_KEY,
    SYSTEM,
    Cluster,
    RunningWebhook,
    gateway_object,
    pod_object,
    until,
)
from tests.lab.pki import CertificateAuthority
from tests.lab.prerequisites import LabError

pytestmark = [pytest.mark.lab, pytest.mark.usefixtures("webhook")]

Object = dict[str, Any]


def _refusal(cluster: Cluster, pod: Object) -> str:
    with pytest.raises(LabError) as caught:
        cluster.create(pod, "--dry-run=server")
    return str(caught.value)


def test_a_pod_is_injected_and_passes_the_policies(cluster: Cluster, onboarded: str) -> None:
    pod = pod_object(onboarded)
    pod["spec"]["initContainers"] = [{"name": "prepare", "image": "own:1"}]
    pod["spec"]["containers"][0]["readinessProbe"] = {"httpGet": {"port": 8080, "path": "/up"}}
    stored = cluster.create(pod)
    inits = stored["spec"]["initContainers"]
    assert [c["name"] for c in inits] == [names.GUARD_CONTAINER, names.PROXY_CONTAINER, "prepare"]
    env = {e["name"]: e.get("value") for e in inits[0]["env"]}
    assert env["SENDWARD_DOCUMENT_KEY"] == DOCUMENT_KEY
    assert env["SENDWARD_GATEWAY_UID"]
    assert json.loads(env["SENDWARD_APP_PROBES"]) == {
        "app/readiness": {"port": 8080, "path": "/up", "scheme": "HTTP"}
    }


def test_the_applications_token_stays_out_of_the_sidecar(cluster: Cluster, onboarded: str) -> None:
    """The API server mounts it into every container that does not use the path."""
    stored = cluster.create(pod_object(onboarded), "--dry-run=server")
    app = {m["mountPath"]: m["name"] for m in stored["spec"]["containers"][0]["volumeMounts"]}
    assert app[names.PATH_NO_API].startswith("kube-api-access-")
    for container in stored["spec"]["initContainers"]:
        mounts = {m["mountPath"]: m["name"] for m in container["volumeMounts"]}
        assert mounts[names.PATH_NO_API] == names.VOLUME_NO_API


def test_a_stored_pod_can_be_made_again(cluster: Cluster, onboarded: str) -> None:
    """Also from its own YAML: defaults of the API server, moved probes and annotation included."""
    pod = pod_object(onboarded)
    pod["spec"]["containers"][0]["livenessProbe"] = {"tcpSocket": {"port": 8080}}
    first = cluster.create(pod, "--dry-run=server")
    again = {"apiVersion": "v1", "kind": "Pod", "metadata": dict(first["metadata"]), "spec": first["spec"]}
    for field in ("uid", "creationTimestamp", "resourceVersion", "generation", "managedFields"):
        again["metadata"].pop(field, None)
    second = cluster.create(again, "--dry-run=server")
    assert second["spec"] == first["spec"]
    assert second["metadata"]["annotations"] == first["metadata"]["annotations"]


def test_own_containers_of_our_names_are_replaced(cluster: Cluster, onboarded: str) -> None:
    pod = pod_object(onboarded)
    pod["spec"]["initContainers"] = [
        {"name": names.GUARD_CONTAINER, "image": "own:1", "restartPolicy": "Always"}
    ]
    pod["spec"]["containers"].append({"name": names.PROXY_CONTAINER, "image": "own:1"})
    pod["spec"]["volumes"] = [{"name": names.VOLUME_RUN, "hostPath": {"path": "/"}}]
    stored = cluster.create(pod, "--dry-run=server")
    images = [c["image"] for f in ("initContainers", "containers") for c in stored["spec"][f]]
    assert "own:1" not in images


def test_a_gateway_that_does_not_exist(cluster: Cluster, onboarded: str) -> None:
    message = _refusal(cluster, pod_object(onboarded, gateway="missing"))
    assert "there is no MessagingGateway 'missing'" in message
    assert "create it first, or correct the label" in message


def test_a_gateway_of_another_namespace(cluster: Cluster, onboarded: str) -> None:
    """Same name, other namespace: not ours."""
    other = f"{onboarded}-other"
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": other}})
    cluster.apply(gateway_object(other, "theirs"))
    assert "no MessagingGateway 'theirs'" in _refusal(cluster, pod_object(onboarded, gateway="theirs"))
    cluster.lab.kubectl("delete", "namespace", other, "--wait=false")


def test_all_problems_are_told_at_once(cluster: Cluster, onboarded: str) -> None:
    pod = pod_object(onboarded)
    pod["spec"] |= {"hostNetwork": True, "shareProcessNamespace": True}
    pod["spec"]["containers"][0]["readinessProbe"] = {"grpc": {"port": 9000}}
    message = _refusal(cluster, pod)
    for field in ("spec.hostNetwork", "spec.shareProcessNamespace", "spec.containers[0].readinessProbe.grpc"):
        assert field in message


def test_parameters_that_are_not_complete(cluster: Cluster, onboarded: str) -> None:
    """Before the operator's first start: refused, with the reason."""
    patch = ("patch", "configmap", names.CONFIGMAP_PARAMETERS, "-n", SYSTEM, "-p")
    cluster.lab.kubectl(*patch, '{"data":{"documentKey":null}}')
    try:
        assert "the operator writes it when it starts" in _refusal(cluster, pod_object(onboarded))
    finally:
        cluster.lab.kubectl(*patch, json.dumps({"data": {"documentKey": DOCUMENT_KEY}}))


def test_a_namespace_that_is_not_onboarded_is_left_alone(cluster: Cluster, namespace: str) -> None:
    cluster.apply(
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": "default", "namespace": namespace},
        }
    )
    stored = cluster.create(pod_object(namespace, gateway="missing"), "--dry-run=server")
    assert "initContainers" not in stored["spec"]


def test_metrics_and_readiness(webhook: RunningWebhook, cluster: Cluster, onboarded: str) -> None:
    cluster.create(pod_object(onboarded), "--dry-run=server")
    base = f"http://127.0.0.1:{webhook.ports[1]}"
    assert _fetch(f"{base}/healthz") == (200, "ok")
    assert _fetch(f"{base}/readyz") == (200, "ok")
    text = _fetch(f"{base}/metrics")[1]
    assert 'sendward_admission_requests_total{decision="allowed",kind="Pod",operation="CREATE"}' in text
    assert "sendward_webhook_certificate_not_after_timestamp_seconds 1" in text


def test_the_webhooks_rights_end_at_gateways(cluster: Cluster) -> None:
    account = f"--as=system:serviceaccount:{SYSTEM}:{names.SERVICE_ACCOUNT_WEBHOOK}"
    for verb, resource, place in (
        ("get", "secrets", SYSTEM),
        ("list", "secrets", "default"),
        ("list", "configmaps", SYSTEM),
        ("update", "configmaps", SYSTEM),
        ("list", "pods", "default"),
        ("patch", "messaginggateways.sendward.io", "default"),
    ):
        with pytest.raises(LabError, match=r"^kubectl auth can-i"):
            cluster.lab.kubectl("auth", "can-i", verb, resource, "-n", place, account)
    cluster.lab.kubectl("auth", "can-i", "get", "messaginggateways.sendward.io", "-n", "default", account)


def test_bodies_that_are_no_review(webhook: RunningWebhook) -> None:
    url = f"https://127.0.0.1:{webhook.ports[0]}{names.WEBHOOK_PATH}"
    assert _fetch(url, b"{}")[0] == 400
    assert _fetch(url, b"[" * 100_000)[0] == 400
    status, text = _fetch(url, b" " * (MAX_BODY_BYTES + 1))
    assert status == 413
    assert "above 4194304 bytes" in text


def test_a_new_certificate_is_served_without_a_restart(webhook: RunningWebhook) -> None:
    CertificateAuthority(webhook.directory, "next-ca").issue("tls", "next", names=("127.0.0.1",))

    def served() -> str:
        return ssl.get_server_certificate(("127.0.0.1", webhook.ports[0]))

    until(lambda: served() == (webhook.directory / "tls.crt").read_text())


def _fetch(url: str, body: bytes | None = None) -> tuple[int, str]:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with urllib.request.urlopen(
            url, body, context=context if url.startswith("https") else None
        ) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
