"""MessagingGateway: the listener in front of one messaging gateway's pods, and who may reach it."""

# ruff: noqa: RUF012 - pydantic copies default lists

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from sendward.resources.base import Model
from sendward.resources.counters import LimitsSpec, RedisSpec
from sendward.resources.fields import (
    CERTIFICATE_NAME_PATTERN,
    CIDR,
    NAMESPACE_PATTERN,
    SECRET_NAME_PATTERN,
    Duration,
    DurationOrNever,
    NarrowCIDR,
    PodPort,
    Port,
    at_least,
    at_most,
    seconds,
)
from sendward.resources.operations import OPERATIONS_DIFFER, MessageFields, OperationSpec, Place
from sendward.resources.rules import Rule, Transition, Unique, cel_compare

__all__ = [
    "EgressRule",
    "EgressSpec",
    "HTTPSpec",
    "LimitsSpec",
    "MessageFields",
    "MessagingGatewaySpec",
    "OperationSpec",
    "Place",
    "RedisSpec",
    "TLSSpec",
    "VaultPKISpec",
]


class HTTPSpec(Model):
    """The HTTP listener."""

    object_rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            field="applicationPort",
            cel="self.port != self.applicationPort",
            message="is the listener's own port. Write the port on which the application listens on loopback,"
            " and another one in port",
            holds=lambda http: http.port != http.application_port,
        ),
    )

    port: Annotated[
        PodPort,
        Field(description="TCP port on which the sidecar takes HTTPS from clients.", examples=[8443]),
    ] = 8443
    application_port: Annotated[
        PodPort,
        Field(
            description="TCP port on which the application listens on loopback, in plain HTTP.",
            examples=[8080],
        ),
    ]
    operations: Annotated[
        list[OperationSpec],
        Field(
            min_length=1,
            max_length=32,
            description="The send API, operation by operation. What is not listed is refused.",
        ),
        Unique("name"),
        OPERATIONS_DIFFER,
    ]
    max_body_bytes: Annotated[
        int,
        Field(
            ge=1024,
            le=1048576,
            description="Largest request body, in bytes; a longer one is refused.",
            examples=[65536],
        ),
    ] = 65536
    max_connections: Annotated[
        int,
        Field(ge=1, le=50000, description="Open client connections per pod, a count.", examples=[5000]),
    ] = 5000
    request_timeout: Annotated[
        Duration,
        Field(description="Time for a whole request and its answer, a duration.", examples=["15s"]),
    ] = "15s"


class VaultPKISpec(Model):
    """A server certificate from the operator's Vault PKI mount, renewed at 2/3 of its life."""

    dns_names: Annotated[
        list[
            Annotated[
                str,
                Field(
                    max_length=253, pattern=CERTIFICATE_NAME_PATTERN, description="A DNS name, or a wildcard."
                ),
            ]
        ],
        Field(
            min_length=1,
            max_length=16,
            description="DNS names of the certificate; the first is its common name.",
            examples=[["sms.example.com"]],
        ),
        Unique(),
    ]
    duration: Annotated[
        Duration,
        Field(description="Life of a certificate, a duration from 1h to 90d.", examples=["72h"]),
        at_least("1h"),
        at_most("90d"),
    ] = "24h"


class TLSSpec(Model):
    """The server certificate: exactly one source."""

    object_rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="has(self.secretName) != has(self.vaultPKI)",
            message="has no certificate source, or two. Set exactly one of secretName and vaultPKI",
            holds=lambda tls: (tls.secret_name is None) != (tls.vault_pki is None),
        ),
    )

    secret_name: (
        Annotated[
            str,
            Field(
                max_length=253,
                pattern=SECRET_NAME_PATTERN,
                description="A kubernetes.io/tls Secret of this namespace, from cert-manager, say; it is"
                " followed when it changes.",
                examples=["sms-gateway-tls"],
            ),
        ]
        | None
    ) = None
    vault_pki: Annotated[
        VaultPKISpec | None,
        Field(description="Have the certificate issued by Vault PKI and renewed at 2/3 of its life."),
    ] = None
    minimum_version: Annotated[
        Literal["TLSv1_2", "TLSv1_3"],
        Field(description="Oldest TLS version that clients may speak.", examples=["TLSv1_2"]),
    ] = "TLSv1_3"


class EgressRule(Model):
    """A destination that the gateway's pods may reach besides DNS and the hub."""

    cidr: Annotated[CIDR, Field(description="Network of the destination.", examples=["198.51.100.0/24"])]
    port: Annotated[Port, Field(description="Port of the destination.", examples=[2775])]
    protocol: Annotated[Literal["TCP", "UDP"], Field(description="Transport protocol.", examples=["UDP"])] = (
        "TCP"
    )


class EgressSpec(Model):
    """What the pods may reach."""

    dns: Annotated[
        Literal["Cluster", "None"],
        Field(description="Cluster: the pods may ask the cluster's DNS. None: no DNS.", examples=["None"]),
    ] = "Cluster"
    rules: Annotated[
        list[EgressRule], Field(max_length=64, description="Further destinations. Absent: none.")
    ] = []


class MessagingGatewaySpec(Model):
    """The pods are those with the label `sendward.io/gateway: <name of this object>`."""

    object_rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            field="sourceCIDRs",
            cel="self.allowAnySource || self.sourceCIDRs.all(c, !c.endsWith('/0'))",
            message="lets every address in. Remove the /0 entry, or set allowAnySource: true",
            holds=lambda spec: spec.allow_any_source or not any(c.endswith("/0") for c in spec.source_cidrs),
        ),
        Rule(
            field="proxyProtocol",
            cel="!(self.proxyProtocol && self.trustedHops > 0)",
            message="stands beside trustedHops. Set one of the two: the load balancer either adds"
            " X-Forwarded-For or speaks PROXY protocol",
            holds=lambda spec: not (spec.proxy_protocol and spec.trusted_hops > 0),
        ),
        Rule(
            field="frontCIDRs",
            cel="self.frontCIDRs.size() > 0 || !(self.proxyProtocol || self.trustedHops > 0)",
            message="is empty, though trustedHops or proxyProtocol is set. List the networks of the load"
            " balancer: nobody else may say what the client's address is",
            holds=lambda spec: bool(spec.front_cidrs) or not (spec.proxy_protocol or spec.trusted_hops > 0),
        ),
        Rule(
            field="frontCIDRs",
            cel="self.frontCIDRs.size() == 0 || self.proxyProtocol || self.trustedHops > 0",
            message="is set without trustedHops or proxyProtocol. Set one of them, or remove frontCIDRs",
            holds=lambda spec: not spec.front_cidrs or spec.proxy_protocol or spec.trusted_hops > 0,
        ),
    )

    http: Annotated[HTTPSpec, Field(description="The HTTP listener and the send API behind it.")]
    tls: Annotated[TLSSpec, Field(description="The server certificate: exactly one source.")]
    source_cidrs: Annotated[
        list[CIDR],
        Field(
            min_length=1,
            max_length=256,
            description="Networks that may connect at all. Accounts and keys narrow them further.",
            examples=[["192.0.2.0/24", "2001:db8::/32"]],
        ),
        Unique(),
    ]
    allow_any_source: Annotated[
        bool,
        Field(description="Must be true for a /0 entry in sourceCIDRs.", examples=[True]),
    ] = False
    trusted_hops: Annotated[
        int,
        Field(
            ge=0,
            le=8,
            description="Load balancers in front that append to X-Forwarded-For, a count. Needs frontCIDRs.",
            examples=[1],
        ),
    ] = 0
    proxy_protocol: Annotated[
        bool,
        Field(
            description="The load balancer in front speaks PROXY protocol. Needs frontCIDRs.", examples=[True]
        ),
    ] = False
    front_cidrs: Annotated[
        list[NarrowCIDR],
        Field(
            max_length=64,
            description="Networks of the load balancers in front, who may say what the client's address is.",
            examples=[["10.0.0.0/16"]],
        ),
        Unique(),
    ] = []
    application_exposure: Annotated[
        Literal["Refuse", "RelyOnNetworkPolicy"],
        Field(
            description="When the application listens beyond loopback. Refuse: the pod stays unready."
            " RelyOnNetworkPolicy: it is left to the NetworkPolicy, which the node itself can pass.",
            examples=["RelyOnNetworkPolicy"],
        ),
    ] = "Refuse"
    egress: Annotated[EgressSpec, Field(description="What the pods may reach besides the hub.")] = (
        EgressSpec()
    )
    limits: Annotated[LimitsSpec, Field(description="How limits are counted over the pods.")] = LimitsSpec()
    metrics_namespace: (
        Annotated[
            str,
            Field(
                max_length=63,
                pattern=NAMESPACE_PATTERN,
                description="Namespace whose pods may read the sidecar's metrics port. Absent: none.",
                examples=["monitoring"],
            ),
        ]
        | None
    ) = None
    shards: Annotated[
        int,
        Field(
            ge=1,
            le=64,
            description="Parts into which the accounts are spread, a count. Fixed at creation; 16 hold"
            " 10,000 accounts.",
            examples=[32],
        ),
        Transition("self == oldSelf", "is fixed at creation. Write the old value, or create a new gateway"),
    ] = 16
    stale_after: Annotated[
        DurationOrNever,
        Field(
            description="How long a sidecar that is cut off from the hub goes on with its last policy before"
            " it refuses all traffic: a duration of at least 60s, or Never.",
            examples=["72h"],
        ),
        Rule(
            cel=cel_compare("self", ">=", 60),
            message="is too short. Write at least 60s, or Never",
            holds=lambda value: value == "Never" or seconds(value) >= 60,
        ),
    ] = "24h"
    mode: Annotated[
        Literal["Enforce", "Audit"],
        Field(
            description="Audit: limits and sender ids are judged and counted, but not enforced."
            " Authentication, revocation, suspension and source CIDRs always are.",
            examples=["Audit"],
        ),
    ] = "Enforce"
