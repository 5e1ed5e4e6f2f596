"""The webhook away, slow, with an expired certificate, or talking nonsense: no pod of a gateway starts
without its sidecar, whatever the API server is told to make of a failing webhook, and other pods start."""

from __future__ import annotations

import base64
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from sendward import names
from sendward.manifests import admission
from tests.admission.conftest import SYSTEM, Cluster, RunningWebhook, pod_object, until
from tests.lab.prerequisites import LabError

pytestmark = pytest.mark.lab

Object = dict[str, Any]
Answer = Callable[[ssl.SSLSocket], object]


def _pair(folder: Path, *, expired: bool = False) -> Path:
    """A self-signed certificate for the loopback address, in one file with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "webhook")])
    now = datetime.now(UTC)
    end = now - timedelta(hours=1) if expired else now + timedelta(days=1)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=2))
        .not_valid_after(end)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = folder / "pair.pem"
    file.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return file


def _http(status: str, body: bytes) -> Answer:
    head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\nconnection: close\r\n"
    return lambda peer: peer.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)


def _allowed(**response: Any) -> bytes:
    review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"}
    return json.dumps({**review, "response": {"uid": "of another", "allowed": True, **response}}).encode()


# What a webhook in trouble, or one that is not ours, may answer; None: nothing, while it is waited for.
ANSWERS: dict[str, Answer | None] = {
    "slow": None,
    "hangs up": lambda peer: peer.close(),
    "500": _http("500 Internal Server Error", b"{}"),
    "garbage": _http("200 OK", b"\x00" * 1000),
    "endless": _http("200 OK", b"[" * 4_000_000),
    "allowed, of another request": _http("200 OK", _allowed()),
}


@contextmanager
def _server(folder: Path, answer: Answer | None, *, expired: bool = False) -> Iterator[tuple[int, bytes]]:
    """Port and certificate of a server that answers every request in one way."""
    pair = _pair(folder, expired=expired)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair)
    done = threading.Event()

    def serve(listener: socket.socket) -> None:
        while not done.is_set():
            try:
                raw, _ = listener.accept()
            except TimeoutError:
                continue
            threading.Thread(target=_one, args=(context, raw, answer, done), daemon=True).start()

    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        listener.settimeout(0.1)
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        try:
            yield listener.getsockname()[1], pair.read_bytes().split(b"-----BEGIN PRIVATE")[0]
        finally:
            done.set()
            thread.join()


def _one(context: ssl.SSLContext, raw: socket.socket, answer: Answer | None, done: threading.Event) -> None:
    with closing(raw):
        try:
            with context.wrap_socket(raw, server_side=True) as peer:
                peer.recv(65536)
                if answer is None:
                    done.wait()
                else:
                    answer(peer)
        except OSError:
            return  # the API server refused the certificate, or waited long enough


def _register(cluster: Cluster, port: int, trusted: bytes, failure_policy: str) -> None:
    configuration = admission.webhook_configuration(SYSTEM, {})
    webhook = configuration["webhooks"][0]
    webhook["clientConfig"] = {
        "url": f"https://localhost:{port}{names.WEBHOOK_PATH}",
        "caBundle": base64.b64encode(trusted).decode(),
    }
    # As somebody might set it in a hurry; and not the ten seconds that a slow webhook would be waited for.
    webhook |= {"failurePolicy": failure_policy, "timeoutSeconds": 1}
    cluster.apply(configuration)


def _refusal(cluster: Cluster, pod: Object) -> str:
    with pytest.raises(LabError) as caught:
        cluster.create(pod)
    return str(caught.value)


def _nothing_starts_without_its_sidecar(cluster: Cluster, namespace: str, port: int, trusted: bytes) -> None:
    """Fail: the webhook's failure is told. Ignore: the policy inside the API server refuses."""
    expected = {"Fail": "inject.sendward.io", "Ignore": admission.POLICY_SIDECAR}
    try:
        for policy, word in expected.items():
            _register(cluster, port, trusted, policy)
            until(lambda word=word: word in _refusal(cluster, pod_object(namespace)))  # type: ignore[misc]
            cluster.create(pod_object(namespace, gateway=None), "--dry-run=server")
    finally:
        cluster.lab.kubectl("delete", "mutatingwebhookconfiguration", names.WEBHOOK_CONFIGURATION)
    pods = cluster.get("pods", "-n", namespace, "-l", names.LABEL_GATEWAY)["items"]
    for pod in pods:
        inits = [container["name"] for container in pod["spec"].get("initContainers", [])]
        assert inits[:2] == [names.GUARD_CONTAINER, names.PROXY_CONTAINER], pod["metadata"]["name"]


@pytest.mark.parametrize("fault", ANSWERS)
def test_a_webhook_in_trouble(cluster: Cluster, onboarded: str, tmp_path: Path, fault: str) -> None:
    with _server(tmp_path, ANSWERS[fault]) as (port, trusted):
        _nothing_starts_without_its_sidecar(cluster, onboarded, port, trusted)


def test_a_webhook_with_an_expired_certificate(cluster: Cluster, onboarded: str, tmp_path: Path) -> None:
    with _server(tmp_path, _http("200 OK", _allowed()), expired=True) as (port, trusted):
        _nothing_starts_without_its_sidecar(cluster, onboarded, port, trusted)


def test_a_webhook_that_is_down(cluster: Cluster, onboarded: str, tmp_path: Path) -> None:
    with _server(tmp_path, None) as (port, trusted):
        pass
    _nothing_starts_without_its_sidecar(cluster, onboarded, port, trusted)


def test_a_pod_above_one_mebibyte_is_injected(
    cluster: Cluster, onboarded: str, webhook: RunningWebhook
) -> None:
    """As any other: its review is larger than the bodies that some webhook servers refuse."""
    pod = pod_object(onboarded)
    pod["spec"]["containers"][0]["env"] = [
        {"name": f"PADDING_{number}", "value": "x" * 100_000} for number in range(13)
    ]
    assert len(json.dumps(pod)) > 1024 * 1024
    stored = cluster.create(pod, "--dry-run=server")
    assert stored["spec"]["initContainers"][0]["name"] == names.GUARD_CONTAINER
