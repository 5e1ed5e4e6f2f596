"""The manifests of an installation, and the rights in them, judged by a real API server."""

import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from sendward import names
from sendward.manifests.install import install
from sendward.manifests.options import InstallOptions, VaultOptions
from tests.admission.conftest import SYSTEM, Cluster, namespace_object, until
from tests.lab.prerequisites import LabError
from tests.lab.servers import CONTROLLER_MANAGER

pytestmark = pytest.mark.lab


@pytest.fixture
def system(cluster: Cluster) -> Iterator[str]:
    name = f"system-{uuid.uuid4().hex[:8]}"
    cluster.apply(namespace_object(name))
    yield name
    cluster.lab.kubectl("delete", "namespace", name, "--wait=false")


def test_every_manifest_is_valid(cluster: Cluster, system: str) -> None:
    options = InstallOptions(
        vault=VaultOptions(address="https://vault.example:8200", ca_config_map="vault-ca"),
        namespace=system,
        metrics_namespace="monitoring",
    )
    objects = install(options)
    said = cluster.lab.kubectl(
        "apply",
        "--server-side",
        "--force-conflicts",
        "--dry-run=server",
        "--validate=strict",
        "-f",
        "-",
        stdin="\n---\n".join(json.dumps(obj) for obj in objects),
    )
    assert len(said.splitlines()) == len(objects)


def test_the_operators_rights(cluster: Cluster, onboarded: str) -> None:
    account = f"--as=system:serviceaccount:{SYSTEM}:{names.SERVICE_ACCOUNT_OPERATOR}"

    def can(verb: str, resource: str, namespace: str) -> bool:
        try:
            cluster.lab.kubectl("auth", "can-i", verb, resource, "-n", namespace, account)
        except LabError:
            return False
        return True

    for verb in ("get", "list", "watch", "create", "patch", "delete"):
        assert can(verb, "secrets", onboarded)
        assert can(verb, "networkpolicies.networking.k8s.io", onboarded)
        assert not can(verb, "secrets", "default")
    assert can("get", f"secrets/{names.SECRET_CA}", SYSTEM)
    assert not can("get", "secrets/other", SYSTEM)
    assert not can("list", "secrets", SYSTEM)
    assert can("create", "tokenreviews.authentication.k8s.io", "default")
    assert can("patch", "apikeys.sendward.io/status", "default")
    assert not can("update", "apikeys.sendward.io", "default")
    assert not can("create", "pods", onboarded)
    assert not can("patch", "configmaps/other", SYSTEM)


def test_the_policies_expressions_fit_their_types(cluster: Cluster) -> None:
    """The controller manager checks each expression against the schema of pods, and warns in the status."""
    cluster.lab.start(CONTROLLER_MANAGER)

    def statuses() -> list[dict[str, Any]]:
        found = cluster.get("validatingadmissionpolicy")["items"]
        return [item.get("status", {}) for item in found if item["metadata"]["name"].startswith("sendward-")]

    until(lambda: all("observedGeneration" in status for status in statuses()))
    assert [status.get("typeChecking", {}) for status in statuses()] == [{}] * 4
