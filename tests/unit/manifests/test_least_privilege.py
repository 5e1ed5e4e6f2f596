"""What `install`, `onboard` and `vault bootstrap` give is what the table of rights explains, and no more."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from typing import Any

import pytest

from sendward import names
from sendward.cli.vault_policy import operator_policy
from sendward.manifests.install import install, onboard
from sendward.manifests.options import InstallOptions, VaultOptions
from tests.unit.manifests.rights import (
    CLUSTER,
    OPERATOR,
    RIGHTS,
    VAULT_RIGHTS,
    WEBHOOK,
    Atom,
    atoms_of,
    explained,
)

Object = dict[str, Any]
VAULT = VaultOptions(address="https://vault.example:8200")
INSTALLATIONS = {
    "default": InstallOptions(vault=VAULT),
    "elsewhere": InstallOptions(
        vault=VaultOptions(address="https://v:8200", auth="kubernetes", ca_config_map="ca"),
        namespace="security",
        metrics_namespace="monitoring",
    ),
}
WRITES = {"create", "update", "patch", "delete", "deletecollection"}
WORKLOADS = {
    "pods",
    "deployments",
    "daemonsets",
    "statefulsets",
    "replicasets",
    "replicationcontrollers",
    "jobs",
    "cronjobs",
}
# Whoever may write these rules the cluster, or another's workloads.
NEVER_WRITTEN = WORKLOADS | {
    "namespaces",
    "nodes",
    "serviceaccounts",
    "customresourcedefinitions",
    "validatingwebhookconfigurations",
    "validatingadmissionpolicies",
    "validatingadmissionpolicybindings",
    "mutatingadmissionpolicies",
    "apiservices",
    "certificatesigningrequests",
    "persistentvolumes",
}
NEVER = {
    "nodes/proxy",
    "services/proxy",
    "serviceaccounts/token",
    "certificatesigningrequests/approval",
    "roles",
    "rolebindings",
    "clusterroles",
    "clusterrolebindings",
    "users",
    "groups",
    "userextras",
}


def _printed(options: InstallOptions) -> list[Object]:
    return [*install(options), *onboard("messaging", options.namespace)]


def _split(objects: list[Object]) -> tuple[list[Object], list[Object]]:
    roles = [obj for obj in objects if obj["kind"] in ("Role", "ClusterRole")]
    return roles, [obj for obj in objects if obj["kind"] in ("RoleBinding", "ClusterRoleBinding")]


@pytest.fixture(params=INSTALLATIONS)
def granted(request: pytest.FixtureRequest) -> set[Atom]:
    options = INSTALLATIONS[request.param]
    return atoms_of(*_split(_printed(options)), own_namespace=options.namespace)


def test_every_right_is_explained_and_every_explained_right_is_given(granted: set[Atom]) -> None:
    assert granted - explained() == set()
    assert explained() - granted == set()


def test_every_reason_is_told_once() -> None:
    told = [atom for right in RIGHTS for atom in right.atoms()]
    assert len(told) == len(set(told))
    assert all(len(right.why) > 8 for right in (*RIGHTS, *VAULT_RIGHTS))
    assert all(set(right.seldom.split()) <= set(right.verbs.split()) for right in RIGHTS)


def _faults(atoms: set[Atom]) -> Iterator[str]:
    for atom in atoms:
        said = f"{atom.who} in {atom.where}: {atom.verb} {atom.group}/{atom.resource} {atom.name}"
        if any("*" in part for part in atom):
            yield f"a wildcard: {said}"
        if atom.verb in {"escalate", "bind", "impersonate", "deletecollection", "approve", "sign", "use"}:
            yield f"hands rights on: {said}"
        if atom.resource in NEVER or (atom.resource in NEVER_WRITTEN and atom.verb in WRITES):
            yield f"rules the cluster: {said}"
        if atom.resource.startswith(("pods/", "nodes/")):
            yield f"enters pods or nodes: {said}"
        if atom.resource == "secrets" and (atom.where == CLUSTER or atom.who != OPERATOR):
            yield f"Secrets: {said}"
        if atom.who == WEBHOOK and atom.verb != "get":
            yield f"the webhook only looks up: {said}"
        if atom.resource == "mutatingwebhookconfigurations" and atom.name != names.WEBHOOK_CONFIGURATION:
            yield f"another's webhook: {said}"


def test_no_right_is_dangerous(granted: set[Atom]) -> None:
    assert list(_faults(granted)) == []


@pytest.mark.parametrize(
    ("rule", "fault"),
    [
        ((["*"], ["leases"], ["get"]), "wildcard"),
        (([""], ["*"], ["get"]), "wildcard"),
        (([""], ["pods"], ["*"]), "wildcard"),
        (([""], ["secrets"], ["get"]), "Secrets"),
        (([""], ["pods/exec"], ["create"]), "enters"),
        (([""], ["pods/ephemeralcontainers"], ["patch"]), "enters"),
        (([""], ["nodes/proxy"], ["get"]), "rules"),
        (([""], ["pods"], ["create"]), "rules"),
        ((["batch"], ["cronjobs"], ["create"]), "rules"),
        (([""], ["serviceaccounts/token"], ["create"]), "rules"),
        (([""], ["serviceaccounts"], ["impersonate"]), "hands"),
        ((["rbac.authorization.k8s.io"], ["roles"], ["escalate"]), "hands"),
        ((["rbac.authorization.k8s.io"], ["clusterrolebindings"], ["create"]), "rules"),
        ((["admissionregistration.k8s.io"], ["mutatingwebhookconfigurations"], ["patch"]), "another"),
    ],
)
def test_the_lint_finds_a_dangerous_right(rule: tuple[list[str], ...], fault: str) -> None:
    roles, bindings = _split(copy.deepcopy(_printed(INSTALLATIONS["default"])))
    role = next(role for role in roles if role["kind"] == "ClusterRole")
    role["rules"].append(dict(zip(("apiGroups", "resources", "verbs"), rule, strict=True)))
    granted = atoms_of(roles, bindings)
    assert any(fault in found for found in _faults(granted))
    assert granted - explained()


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda _, binding: binding["subjects"].append({"kind": "Group", "name": "system:masters"}), "Group"),
        (lambda _, binding: binding["subjects"][0].update(namespace="default"), "default"),
        (lambda _, binding: binding["roleRef"].update(name="cluster-admin"), "not ours"),
        (lambda role, _: role["rules"].append({"nonResourceURLs": ["/metrics"], "verbs": ["get"]}), "nonRes"),
    ],
)
def test_rights_by_other_ways_are_refused(change: Any, fault: str) -> None:
    roles, bindings = _split(copy.deepcopy(_printed(INSTALLATIONS["default"])))
    change(roles[0], bindings[0])
    with pytest.raises(ValueError, match=fault):
        atoms_of(roles, bindings)


@pytest.mark.parametrize("options", INSTALLATIONS.values(), ids=INSTALLATIONS)
def test_nothing_else_hands_out_rights(options: InstallOptions) -> None:
    """No aggregated role, no token that lies in a Secret, no workload with another service account."""
    objects = _printed(options)
    assert not [obj for obj in objects if obj["kind"] == "Secret"]
    accounts = {obj["metadata"]["name"]: obj for obj in objects if obj["kind"] == "ServiceAccount"}
    assert set(accounts) == {OPERATOR, WEBHOOK}
    assert all(obj.keys() == {"apiVersion", "kind", "metadata"} for obj in accounts.values())
    for role in _split(objects)[0]:
        assert role.keys() == {"apiVersion", "kind", "metadata", "rules"}
        assert not [label for label in role["metadata"]["labels"] if "aggregate-to" in label]
    for workload in (obj for obj in objects if obj["kind"] == "Deployment"):
        spec = workload["spec"]["template"]["spec"]
        assert spec["serviceAccountName"] == workload["metadata"]["name"]
        assert not spec.keys() & {"hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace"}


# Vault.


def _policy(kv_mount: str, pki_mount: str) -> dict[str, set[str]]:
    text = operator_policy(kv_mount, pki_mount)
    blocks = re.findall(r'^path "([^"]+)" \{\s+capabilities = \[([^]]*)\]\s+\}$', text, re.MULTILINE)
    assert text.count('path "') == len(blocks)
    return {path: set(re.findall(r'"(\w+)"', listed)) for path, listed in blocks}


def test_every_right_in_vault_is_explained() -> None:
    table = {right.path: set(right.capabilities.split()) for right in VAULT_RIGHTS}
    assert _policy("sendward", "sendward-pki") == table
    assert _policy("sendward", "") == {
        path: given for path, given in table.items() if not path.startswith("sendward-pki/")
    }


def test_rights_in_vault_end_at_the_mounts_and_at_the_depth_of_a_key() -> None:
    policy = _policy("team/kv", "team/pki")
    for path, given in policy.items():
        assert not given & {"sudo", "root", "patch", "deny"}, path
        assert "*" not in path
        if path.startswith("team/kv/"):
            assert re.fullmatch(r"team/kv/(data|metadata|destroy)/\+/\+?", path)
        elif path.startswith("team/"):
            assert path == f"team/pki/issue/{names.PKI_ROLE}"
        else:
            assert path in {"sys/tools/random", "auth/token/renew-self", "auth/token/lookup-self"}
