"""What no role of ours may ever hold."""

from typing import Any

import pytest

from sendward import names
from sendward.manifests.install import install, onboard
from sendward.manifests.options import InstallOptions, VaultOptions

Object = dict[str, Any]
OPTIONS = InstallOptions(vault=VaultOptions(address="https://vault.example:8200"))
OBJECTS = [*install(OPTIONS), *onboard("messaging", OPTIONS.namespace)]
ROLES = [o for o in OBJECTS if o["kind"] in ("Role", "ClusterRole")]
RULES = [(role, rule) for role in ROLES for rule in role["rules"]]


@pytest.mark.parametrize(("role", "rule"), RULES)
def test_no_rule_hands_rights_on(role: Object, rule: Object) -> None:
    words = {word for part in rule.values() for word in part}
    assert not any("*" in word for word in words)
    assert not words & {"escalate", "bind", "impersonate", "deletecollection"}
    assert not words & {
        "pods/exec",
        "pods/attach",
        "pods/portforward",
        "nodes/proxy",
        "serviceaccounts/token",
    }
    assert not words & {"roles", "rolebindings", "clusterroles", "clusterrolebindings"}
    if "pods" in rule["resources"]:
        assert set(rule["verbs"]) == {"get", "list", "watch"}


def _secret_rules(role: Object) -> list[Object]:
    return [rule for rule in role["rules"] if "secrets" in rule["resources"]]


def test_no_cluster_role_on_secrets() -> None:
    assert all(not _secret_rules(role) for role in ROLES if role["kind"] == "ClusterRole")


def test_the_webhook_reads_gateways_and_its_parameters_only() -> None:
    rules = [
        r
        for role in ROLES
        if role["metadata"]["name"] == names.SERVICE_ACCOUNT_WEBHOOK
        for r in role["rules"]
    ]
    assert {resource for rule in rules for resource in rule["resources"]} == {
        "messaginggateways",
        "configmaps",
    }
    assert {verb for rule in rules for verb in rule["verbs"]} == {"get", "list", "watch"}
    assert [r["resourceNames"] for r in rules if "configmaps" in r["resources"]] == [
        [names.CONFIGMAP_PARAMETERS]
    ]


def test_secrets_of_the_operators_namespace_are_named() -> None:
    own = [r for r in ROLES if r["kind"] == "Role" and r["metadata"]["namespace"] == OPTIONS.namespace]
    for rule in (rule for role in own for rule in _secret_rules(role)):
        assert rule["verbs"] == ["create"] or "resourceNames" in rule


def test_only_our_webhook_configuration_can_be_patched() -> None:
    for _, rule in RULES:
        if "mutatingwebhookconfigurations" in rule["resources"]:
            assert rule["resourceNames"] == [names.WEBHOOK_CONFIGURATION]
            assert set(rule["verbs"]) == {"get", "patch"}


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
