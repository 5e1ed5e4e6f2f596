"""What is declared: one gateway with its policies, and any number of accounts with one key each."""

from __future__ import annotations

from typing import Any, Final

from sendward.names import API_VERSION

Object = dict[str, Any]

NAMESPACE: Final = "bench"
GATEWAY: Final = "sms"
HOST: Final = "sms.bench.example"
PORT: Final = 8443


def _object(kind: str, name: str, spec: Object, **metadata: Any) -> Object:
    meta = {"name": name, "namespace": NAMESPACE, **metadata}
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": meta, "spec": spec}


def base() -> list[Object]:
    """The gateway and the policies. Limits are far above what is sent, so that they are counted only."""
    operations = [
        {
            "name": "send",
            "method": "POST",
            "path": "/v1/messages",
            "message": {
                "recipient": {"jsonPointer": "/to"},
                "senderID": {"jsonPointer": "/from"},
                "text": {"jsonPointer": "/text"},
            },
        },
        {"name": "balance", "method": "GET", "path": "/v1/balance"},
    ]
    selector = {"matchLabels": {"tier": "bench"}}
    limits = [{"messages": 100_000, "per": "10s"}]
    return [
        _object(
            "MessagingGateway",
            GATEWAY,
            {
                "http": {"port": PORT, "applicationPort": 8080, "operations": operations},
                "tls": {"vaultPKI": {"dnsNames": [HOST], "duration": "24h"}},
                "sourceCIDRs": ["10.0.0.0/8"],
            },
        ),
        _object(
            "APIKeyPolicy",
            "standard",
            {
                "accountSelector": selector,
                "rotation": {"every": "30d", "overlap": "1d", "retireWhenUnusedFor": "2h"},
                "maximumAge": "90d",
                "onCompromise": "Hold",  # a revocation is measured without the issue that could follow
            },
        ),
        _object(
            "RateLimitPolicy",
            "standard",
            {"accountSelector": selector, "account": limits, "key": limits},
        ),
    ]


def account(name: str) -> Object:
    """An account under both policies."""
    spec = {
        "displayName": f"Customer {name}",
        "gateways": [GATEWAY],
        "sourceCIDRs": ["10.123.0.0/16"],
        "senderIDs": ["ACME", "+15550100"],
    }
    return _object("SenderAccount", name, spec, labels={"tier": "bench"})


def key(name: str) -> Object:
    """The one key of the account with the same name."""
    return _object("APIKey", name, {"account": name})


def names(count: int, prefix: str = "customer") -> list[str]:
    """Names of accounts."""
    return [f"{prefix}-{number:05}" for number in range(count)]
