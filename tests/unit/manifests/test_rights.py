"""What manifests must never hold, besides the rights that `test_least_privilege` compares."""

from typing import Any

import pytest

from sendward import names
from sendward.manifests.install import install, onboard
from sendward.manifests.options import InstallOptions, VaultOptions

Object = dict[str, Any]
OPTIONS = InstallOptions(vault=VaultOptions(address="https://vault.example:8200"))
OBJECTS = [*install(OPTIONS), *onboard("messaging", OPTIONS.namespace)]
ROLES = [o for o in OBJECTS if o["kind"] in ("Role", "ClusterRole")]


def _secret_rules(role: Object) -> list[Object]:
    return [rule for rule in role["rules"] if "secrets" in rule["resources"]]


def test_secrets_of_the_operators_namespace_are_named() -> None:
    own = [r for r in ROLES if r["kind"] == "Role" and r["metadata"]["namespace"] == OPTIONS.namespace]
    for rule in (rule for role in own for rule in _secret_rules(role)):
        assert rule["verbs"] == ["create"] or "resourceNames" in rule


def test_the_operators_namespace_is_not_onboarded() -> None:
    namespace = next(o for o in install(OPTIONS) if o["kind"] == "Namespace")
    assert names.LABEL_ONBOARDED not in namespace["metadata"]["labels"]


@pytest.mark.parametrize("address", ["vault:8200", "", "ftp://vault", "https://"])
def test_an_address_that_is_no_url(address: str) -> None:
    with pytest.raises(ValueError, match="no URL such as"):
        install(InstallOptions(vault=VaultOptions(address=address)))


def test_workloads_are_restricted() -> None:
    for deployment in (o for o in OBJECTS if o["kind"] == "Deployment"):
        pod = deployment["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"]
        for container in pod["containers"]:
            context = container["securityContext"]
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert context["readOnlyRootFilesystem"]
            assert not context["allowPrivilegeEscalation"]


def test_the_webhook_has_no_vault() -> None:
    webhook = next(
        o for o in OBJECTS if o["kind"] == "Deployment" and o["metadata"]["name"] == "sendward-webhook"
    )
    assert "vault" not in str(webhook).lower()
