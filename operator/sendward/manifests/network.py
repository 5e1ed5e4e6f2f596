"""NetworkPolicies of the operator's own namespace: default deny, then what each process needs."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlsplit

from sendward import names
from sendward.manifests.options import InstallOptions
from sendward.manifests.workloads import OPERATOR, WEBHOOK, selector

Object = dict[str, Any]
_SCHEME_PORTS: Final = {"https": 443, "http": 80}
_NAMESPACE_NAME: Final = "kubernetes.io/metadata.name"


def network_policies(options: InstallOptions) -> list[Object]:
    """The API server has no address that a policy could name: only its ports are."""
    guards = {
        "namespaceSelector": {"matchLabels": {names.LABEL_ONBOARDED: "true"}},
        "podSelector": {"matchExpressions": [{"key": names.LABEL_GATEWAY, "operator": "Exists"}]},
    }
    api_server = {"ports": _ports(443, 6443)}
    dns = {"ports": [*_ports(53), {"protocol": "UDP", "port": 53}]}
    metrics = _metrics(options.metrics_namespace)
    hub = {"from": [guards], "ports": _ports(names.PORT_HUB)}
    admission = {"ports": _ports(names.PORT_WEBHOOK)}
    vault = {"ports": _ports(vault_port(options.vault.address))}
    return [
        _policy(options, "sendward-default-deny", {}, [], []),
        _policy(options, OPERATOR, selector("operator"), [hub, *metrics], [dns, api_server, vault]),
        _policy(options, WEBHOOK, selector("webhook"), [admission, *metrics], [dns, api_server]),
    ]


def vault_port(address: str) -> int:
    """TCP port of Vault's URL. Raises ValueError for anything else than an http(s) URL with a host."""
    parts = urlsplit(address)
    if parts.scheme not in _SCHEME_PORTS or not parts.hostname:
        raise ValueError(f"{address!r} is no URL such as https://vault.example:8200")
    return parts.port or _SCHEME_PORTS[parts.scheme]


def _metrics(namespace: str) -> list[Object]:
    if not namespace:
        return []
    scraper = {"namespaceSelector": {"matchLabels": {_NAMESPACE_NAME: namespace}}}
    return [{"from": [scraper], "ports": _ports(names.PORT_OPERATOR_PROBE)}]


def _policy(
    options: InstallOptions, name: str, pods: dict[str, str], ingress: list[Object], egress: list[Object]
) -> Object:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": options.namespace, "labels": options.labels},
        "spec": {
            "podSelector": {"matchLabels": pods} if pods else {},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": ingress,
            "egress": egress,
        },
    }


def _ports(*numbers: int) -> list[Object]:
    return [{"protocol": "TCP", "port": number} for number in numbers]
