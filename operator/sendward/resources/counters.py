"""Counters of limits that all pods of a gateway share."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from sendward.resources.base import Model
from sendward.resources.fields import Host, Labels, Port


class RedisSpec(Model):
    """A Redis that counts for all pods of the gateway."""

    host: Annotated[
        Host,
        Field(
            description="DNS name or IP address of its one primary, the same for all pods.",
            examples=["redis.messaging.svc.cluster.local"],
        ),
    ]
    port: Annotated[
        Port,
        Field(
            description="Its TCP port, also of the pods behind a Service: the NetworkPolicy opens this one.",
            examples=[6380],
        ),
    ] = 6379
    tls: Annotated[
        bool,
        Field(
            description="Speak TLS, and hold the certificate against host. Trusted is the CA in key ca.crt of"
            " the Secret, or the CAs of the system where there is none.",
            examples=[True],
        ),
    ] = False
    pod_labels: (
        Annotated[
            Labels,
            Field(
                description="Labels of the Redis pods in this namespace: the NetworkPolicy lets the gateway's"
                " pods reach them. Absent: a rule in spec.egress must reach Redis.",
                examples=[{"app": "redis"}],
            ),
        ]
        | None
    ) = None


class LimitsSpec(Model):
    """How limits are counted over the pods of the gateway."""

    redis: Annotated[
        RedisSpec | None,
        Field(
            description="Count in this Redis, for all pods together, so that limits are exact. While it does"
            " not answer, limited messages are refused until the hub has given each pod its share of the"
            " limits. It must be one primary and must not evict (maxmemory-policy noeviction). The guards log"
            " in with the Secret sendward-<name of the gateway>-counters: keys username, password and ca.crt,"
            " each of which may be absent. Absent: each pod has its share of the limits.",
        ),
    ] = None
