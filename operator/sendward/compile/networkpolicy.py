"""The one NetworkPolicy of a gateway, and what is wrong with it.

Default deny both ways on the gateway's pods. Then in: clients on the HTTP port; behind a load
balancer its health checks on the probe port; the metrics port from the declared namespace. The
kubelet's probes need no rule, since Kubernetes never filters traffic from a pod's own node. The
application's port is in no rule. Out: DNS, the hub, the shared counters, and what the gateway declares.

One object per gateway makes each transition one write, so that the allowed flows are at every
instant those of the old or of the new policy. It has no ownerReference on purpose: deleting the
MessagingGateway must not take it away while pods of the gateway still run.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import ip_network
from typing import Final

from sendward import names
from sendward.compile.cidrs import Addresses, union
from sendward.compile.sources import behind_load_balancer, peers
from sendward.conditions import Reason
from sendward.resources.counters import RedisSpec
from sendward.resources.fields import address
from sendward.resources.messaging_gateway import MessagingGatewaySpec

MAX_CIDRS: Final = 200  # after collapsing; CNIs expand each one per port into the node's data path

Finding = tuple[Reason, str]

_NAMESPACE_NAME: Final = "kubernetes.io/metadata.name"  # set by the API server, cannot be forged
_DNS_NAMESPACE: Final = "kube-system"
_DNS_LABELS: Final = {"k8s-app": "kube-dns"}  # CoreDNS carries it too
_DNS_PORT: Final = 53


def network_policy(
    *,
    name: str,
    namespace: str,
    uid: str,
    spec: MessagingGatewaySpec,
    account_cidrs: Iterable[Sequence[str] | None],
    operator_namespace: str = names.OPERATOR_NAMESPACE,
) -> tuple[dict[str, object], tuple[Finding, ...]]:
    """The NetworkPolicy of the gateway `name`, and its lint findings in a fixed order.

    `account_cidrs` holds one entry per account of the gateway: its source CIDRs, or None when it
    declares none and thus may come from wherever the gateway allows.
    """
    clients, findings = _clients(spec, account_cidrs)
    policy: dict[str, object] = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {
            "name": names.network_policy(name),
            "namespace": namespace,
            "labels": {
                names.LABEL_MANAGED_BY: names.FIELD_MANAGER,
                names.LABEL_PART: names.PART_NETWORK_POLICY,
                names.LABEL_OWNER_UID: uid,
            },
        },
        "spec": {
            "podSelector": {"matchLabels": {names.LABEL_GATEWAY: name}},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": _ingress(spec, clients),
            "egress": _egress(spec, operator_namespace),
        },
    }
    return policy, (*findings, *_lint(spec, clients))


def _clients(
    spec: MessagingGatewaySpec, account_cidrs: Iterable[Sequence[str] | None]
) -> tuple[tuple[str, ...], tuple[Finding, ...]]:
    """CIDRs that reach the HTTP port: what the accounts use of what the gateway allows."""
    allowed = peers(spec)
    if behind_load_balancer(spec):
        return allowed.cidrs(), ()
    used = _used(allowed, account_cidrs).cidrs(MAX_CIDRS + 1)
    if len(used) <= MAX_CIDRS:
        return used, ()
    message = (
        f"the accounts' source CIDRs collapse to more than {MAX_CIDRS}; the NetworkPolicy "
        "admits all of spec.sourceCIDRs instead, and the guard still judges each account's own list"
    )
    return allowed.cidrs(), ((Reason.CIDRS_COLLAPSED, message),)


def _used(allowed: Addresses, account_cidrs: Iterable[Sequence[str] | None]) -> Addresses:
    declared: set[str] = set()
    for cidrs in account_cidrs:
        if cidrs is None:
            return allowed
        declared.update(cidrs)
    return union(declared) & allowed


def _ingress(spec: MessagingGatewaySpec, clients: tuple[str, ...]) -> list[object]:
    rules: list[object] = []
    if clients:  # a rule without peers would admit everybody
        ports = [_port(spec.http.port)]
        if behind_load_balancer(spec):
            ports.append(_port(names.PORT_PROBE))
        rules.append({"from": [_block(cidr) for cidr in clients], "ports": ports})
    if spec.metrics_namespace is not None:
        scraper = {"namespaceSelector": {"matchLabels": {_NAMESPACE_NAME: spec.metrics_namespace}}}
        rules.append({"from": [scraper], "ports": [_port(names.PORT_METRICS)]})
    return rules


def _egress(spec: MessagingGatewaySpec, operator_namespace: str) -> list[object]:
    rules: list[object] = []
    if spec.egress.dns == "Cluster":
        ports = [_port(_DNS_PORT, "UDP"), _port(_DNS_PORT)]
        rules.append({"to": [_pods(_DNS_NAMESPACE, _DNS_LABELS)], "ports": ports})
    hub = _pods(operator_namespace, names.HUB_POD_LABELS)
    rules.append({"to": [hub], "ports": [_port(names.PORT_HUB)]})
    redis = spec.limits.redis
    if redis is not None and redis.pod_labels is not None:
        # Without a namespaceSelector: pods of the gateway's own namespace.
        counters = {"podSelector": {"matchLabels": dict(redis.pod_labels)}}
        rules.append({"to": [counters], "ports": [_port(redis.port)]})
    rules.extend(
        {"to": [_block(rule.cidr)], "ports": [_port(rule.port, rule.protocol)]} for rule in spec.egress.rules
    )
    return rules


def _lint(spec: MessagingGatewaySpec, clients: tuple[str, ...]) -> Iterable[Finding]:
    own_resolver = any(rule.port == _DNS_PORT and rule.protocol == "UDP" for rule in spec.egress.rules)
    if spec.egress.dns == "None" and not own_resolver:
        yield (
            Reason.DNS_CUT_OFF,
            "spec.egress.dns is None and no rule of spec.egress.rules reaches a resolver on UDP port 53, "
            "so the guard cannot find the hub: set dns to Cluster or add a rule for your resolver",
        )
    redis = spec.limits.redis
    if redis is not None and not _reaches(spec, redis):
        yield (
            Reason.COUNTERS_CUT_OFF,
            f"spec.limits.redis has no podLabels, and no rule of spec.egress.rules reaches it on TCP port "
            f"{redis.port}, so no sidecar can count there: set podLabels, or add a rule with its network",
        )
    for field, cidrs in (("sourceCIDRs", spec.source_cidrs), ("frontCIDRs", spec.front_cidrs)):
        if union(cidrs).covers_world() and not spec.allow_any_source:
            yield (
                Reason.OPEN_TO_WORLD,
                f"spec.{field} covers every IPv4 or IPv6 address: narrow it, or say allowAnySource: true",
            )
    if not clients:
        yield Reason.NO_SOURCES, _no_sources(spec)


def _reaches(spec: MessagingGatewaySpec, redis: RedisSpec) -> bool:
    """Whether the counters can be reached; what a name resolves to is not known here."""
    host = address(redis.host)
    return redis.pod_labels is not None or any(
        (rule.port, rule.protocol) == (redis.port, "TCP") and (host is None or host in ip_network(rule.cidr))
        for rule in spec.egress.rules
    )


def _no_sources(spec: MessagingGatewaySpec) -> str:
    if behind_load_balancer(spec):
        return "no client may connect: spec.frontCIDRs is empty, so name the load balancer's addresses there"
    return "no client may connect: no account of this gateway may send from within spec.sourceCIDRs"


def _port(port: int, protocol: str = "TCP") -> dict[str, object]:
    return {"protocol": protocol, "port": port}


def _block(cidr: str) -> dict[str, object]:
    return {"ipBlock": {"cidr": cidr}}


def _pods(namespace: str, labels: dict[str, str]) -> dict[str, object]:
    return {
        "namespaceSelector": {"matchLabels": {_NAMESPACE_NAME: namespace}},
        "podSelector": {"matchLabels": dict(labels)},
    }
