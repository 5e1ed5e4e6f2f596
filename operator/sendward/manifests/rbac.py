"""Rights. Nothing on Secrets in the whole cluster, no wildcard, nothing that hands rights on."""

from __future__ import annotations

from typing import Any, Final

from sendward import names
from sendward.resources.kinds import KINDS

Object = dict[str, Any]
Rule = dict[str, list[str]]
_API: Final = "rbac.authorization.k8s.io/v1"
_FOLLOW: Final = ["list", "watch"]


def cluster_roles(namespace: str, labels: dict[str, str]) -> list[Object]:
    """Of operator and webhook, with their bindings."""
    ours = [kind.plural for kind in KINDS]
    operator = [
        _rule([names.GROUP], ours, _FOLLOW),
        _rule([names.GROUP], ["apikeys", "messaginggateways"], ["patch"]),  # these have our finalizer
        _rule([names.GROUP], [f"{plural}/status" for plural in ours], ["patch"]),
        _rule([""], ["namespaces", "pods"], _FOLLOW),
        _rule(["authentication.k8s.io"], ["tokenreviews"], ["create"]),
        _rule(
            ["admissionregistration.k8s.io"],
            ["mutatingwebhookconfigurations"],
            ["get", "patch"],
            only=[names.WEBHOOK_CONFIGURATION],
        ),
    ]
    webhook = [_rule([names.GROUP], ["messaginggateways"], ["get"])]
    return [
        *_granted(None, names.SERVICE_ACCOUNT_OPERATOR, namespace, operator, labels),
        *_granted(None, names.SERVICE_ACCOUNT_WEBHOOK, namespace, webhook, labels),
    ]


def own_namespace(namespace: str, labels: dict[str, str]) -> list[Object]:
    """In the operator's namespace: its own objects by name. `create` cannot be bound to a name."""
    secrets = [names.SECRET_CA, names.SECRET_DOCUMENT_KEY, names.SECRET_WEBHOOK_TLS]
    parameters = [names.CONFIGMAP_PARAMETERS]
    operator = [
        _rule(["coordination.k8s.io"], ["leases"], ["create"]),
        _rule(["coordination.k8s.io"], ["leases"], ["get", "update"], only=[names.LEASE]),
        _rule([""], ["secrets"], ["create"]),
        _rule([""], ["secrets"], ["get"], only=secrets),
        _rule([""], ["secrets"], ["update"], only=[names.SECRET_CA]),
        _rule([""], ["secrets"], ["patch"], only=[names.SECRET_WEBHOOK_TLS]),
        _rule([""], ["configmaps"], ["create"]),
        _rule([""], ["configmaps"], ["get", "patch"], only=parameters),
    ]
    webhook = [_rule([""], ["configmaps"], ["get"], only=parameters)]
    return [
        *_granted(namespace, names.SERVICE_ACCOUNT_OPERATOR, namespace, operator, labels),
        *_granted(namespace, names.SERVICE_ACCOUNT_WEBHOOK, namespace, webhook, labels),
    ]


def onboarded_namespace(namespace: str, operator_namespace: str, labels: dict[str, str]) -> list[Object]:
    """What the operator may do where gateways run."""
    rules = [
        _rule([""], ["secrets"], ["get", *_FOLLOW, "create", "patch", "delete"]),
        _rule([""], ["configmaps"], [*_FOLLOW, "create", "patch"]),
        _rule(["networking.k8s.io"], ["networkpolicies"], ["get", *_FOLLOW, "create", "patch", "delete"]),
        _rule(["events.k8s.io"], ["events"], ["create"]),
    ]
    return _granted(namespace, names.SERVICE_ACCOUNT_OPERATOR, operator_namespace, rules, labels)


def _rule(groups: list[str], resources: list[str], verbs: list[str], only: list[str] | None = None) -> Rule:
    rule = {"apiGroups": groups, "resources": resources, "verbs": list(verbs)}
    return rule if only is None else {**rule, "resourceNames": only}


def _granted(
    namespace: str | None, account: str, account_namespace: str, rules: list[Rule], labels: dict[str, str]
) -> list[Object]:
    """A role named as the account and its binding; in the whole cluster when `namespace` is None."""
    kind = "ClusterRole" if namespace is None else "Role"
    place = {} if namespace is None else {"namespace": namespace}
    metadata = {"name": account, **place, "labels": labels}
    return [
        {"apiVersion": _API, "kind": kind, "metadata": metadata, "rules": rules},
        {
            "apiVersion": _API,
            "kind": f"{kind}Binding",
            "metadata": metadata,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": account},
            "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": account_namespace}],
        },
    ]
