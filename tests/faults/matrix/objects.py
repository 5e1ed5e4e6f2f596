"""The resources of the matrix. Periods are long: what is to be due is made due by an older status."""

from __future__ import annotations

from typing import Any, Final

from sendward import names
from tests.lab.images import SAMPLE_GATEWAY

Object = dict[str, Any]

NAMESPACE: Final = "crash-matrix"
GATEWAY: Final = "sms"
HOST: Final = "sms.quickstart.example"  # what tests.lab.client expects in the certificate
SCHEDULED: Final = "scheduled"
AGED: Final = "aged"
AGE_DAYS: Final = 30  # of both policies: every, and maximumAge
OVERLAP_DAYS: Final = 1


def _object(kind: str, name: str, spec: Object) -> Object:
    meta = {"name": name, "namespace": NAMESPACE}
    return {"apiVersion": names.API_VERSION, "kind": kind, "metadata": meta, "spec": spec}


def gateway(name: str) -> Object:
    """One shard, so that a change is one Secret."""
    operation = {
        "name": "send",
        "method": "POST",
        "path": "/v1/messages",
        "message": {"recipient": {"jsonPointer": "/to"}, "senderID": {"jsonPointer": "/from"}},
    }
    return _object(
        "MessagingGateway",
        name,
        {
            "http": {"port": 8443, "applicationPort": 8080, "operations": [operation]},
            "tls": {"vaultPKI": {"dnsNames": [HOST], "duration": "24h"}},
            "sourceCIDRs": ["10.0.0.0/8"],
            "shards": 1,
        },
    )


def gateway_pod(name: str) -> Object:
    """A pod of a gateway, which gets its sidecar at admission."""
    container = {
        "name": "application",
        "image": SAMPLE_GATEWAY,
        "readinessProbe": {"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 1},
        "securityContext": {"runAsUser": 1000, "runAsNonRoot": True},
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": {names.LABEL_GATEWAY: name}},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 2},
    }


def policies() -> list[Object]:
    """By schedule, handed over in a Secret; by age, in Vault only."""
    overlap = f"{OVERLAP_DAYS}d"
    return [
        _object(
            "APIKeyPolicy",
            SCHEDULED,
            {
                "rotation": {"every": f"{AGE_DAYS}d", "overlap": overlap, "jitterPercent": 0},
                "handOver": {"type": "Secret"},
            },
        ),
        _object("APIKeyPolicy", AGED, {"rotation": {"overlap": overlap}, "maximumAge": f"{AGE_DAYS}d"}),
    ]


def account(name: str, through: str) -> Object:
    """An account of one gateway, without limits."""
    return _object("SenderAccount", name, {"gateways": [through]})


def key(name: str, policy: str) -> Object:
    """The one key of the account with the same name."""
    return _object("APIKey", name, {"account": name, "policy": policy})
