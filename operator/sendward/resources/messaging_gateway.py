"""MessagingGateway: the listener in front of one messaging gateway's pods, and who may reach it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from sendward.resources.base import Model
from sendward.resources.fields import CIDR, Duration, OperationName, Port


class Place(Model):
    """Where a value stands in a request: exactly one of the three."""

    json_pointer: Annotated[str, Field(max_length=128, pattern=r"^(/[^/]*)+$")] | None = None
    query_parameter: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    form_field: Annotated[str, Field(min_length=1, max_length=64)] | None = None


class MessageFields(Model):
    """Set on operations that submit a message: such requests consume the message limits."""

    recipient: Place
    sender_id: Place | None = None
    text: Place | None = None


class OperationSpec(Model):
    """One operation of the send API."""

    name: OperationName
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"] = "POST"
    path: Annotated[str, Field(max_length=256, pattern=r"^/[A-Za-z0-9._~/-]*$")]
    path_match: Literal["Exact", "Prefix"] = "Exact"
    message: MessageFields | None = None


class HTTPSpec(Model):
    """The HTTP listener."""

    port: Port = 8443
    application_port: Port
    operations: Annotated[list[OperationSpec], Field(min_length=1, max_length=32)]
    max_body_bytes: Annotated[int, Field(ge=1024, le=1048576)] = 65536
    max_connections: Annotated[int, Field(ge=1, le=50000)] = 5000
    request_timeout: Duration = "15s"


class VaultPKISpec(Model):
    """A server certificate from the operator's Vault PKI mount, renewed at 2/3 of its life."""

    dns_names: Annotated[
        list[Annotated[str, Field(max_length=253, pattern=r"^(\*\.)?[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")]],
        Field(min_length=1, max_length=16),
    ]
    duration: Duration = "24h"


class TLSSpec(Model):
    """The server certificate: exactly one source."""

    secret_name: Annotated[str, Field(max_length=253, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")] | None = None
    vault_pki: VaultPKISpec | None = Field(default=None)
    minimum_version: Literal["TLSv1_2", "TLSv1_3"] = "TLSv1_3"


class EgressRule(Model):
    """A destination that the gateway's pods may reach besides DNS and the hub."""

    cidr: CIDR
    port: Port
    protocol: Literal["TCP", "UDP"] = "TCP"


class EgressSpec(Model):
    """What the pods may reach."""

    dns: Literal["Cluster", "None"] = "Cluster"
    rules: Annotated[list[EgressRule], Field(max_length=64)] = []


class MessagingGatewaySpec(Model):
    """The pods are those with the label `sendward.io/gateway: <name of this object>`."""

    http: HTTPSpec
    tls: TLSSpec
    source_cidrs: Annotated[list[CIDR], Field(min_length=1, max_length=256)]
    allow_any_source: bool = False
    trusted_hops: Annotated[int, Field(ge=0, le=8)] = 0
    proxy_protocol: bool = False
    front_cidrs: Annotated[list[CIDR], Field(max_length=64)] = []
    application_exposure: Literal["Refuse", "RelyOnNetworkPolicy"] = "Refuse"
    egress: EgressSpec = EgressSpec()
    metrics_namespace: Annotated[str, Field(max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")] | None = None
    shards: Annotated[int, Field(ge=1, le=64)] = 16
    stale_after: Duration | Literal["Never"] = "24h"
    mode: Literal["Enforce", "Audit"] = "Enforce"
