"""Every kind of the API server that Sendward touches."""

from __future__ import annotations

from typing import Final

from sendward.apply.ports import Kind
from sendward.names import GROUP

_OURS: Final = (GROUP, "v1alpha1")

MESSAGING_GATEWAY: Final = Kind(*_OURS, "messaginggateways", "MessagingGateway")
SENDER_ACCOUNT: Final = Kind(*_OURS, "senderaccounts", "SenderAccount")
API_KEY_POLICY: Final = Kind(*_OURS, "apikeypolicies", "APIKeyPolicy")
API_KEY: Final = Kind(*_OURS, "apikeys", "APIKey")
RATE_LIMIT_POLICY: Final = Kind(*_OURS, "ratelimitpolicies", "RateLimitPolicy")

SECRET: Final = Kind("", "v1", "secrets", "Secret")
CONFIG_MAP: Final = Kind("", "v1", "configmaps", "ConfigMap")
NAMESPACE: Final = Kind("", "v1", "namespaces", "Namespace", namespaced=False)
POD: Final = Kind("", "v1", "pods", "Pod")
EVENT: Final = Kind("events.k8s.io", "v1", "events", "Event")
SERVICE: Final = Kind("", "v1", "services", "Service")
NETWORK_POLICY: Final = Kind("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy")
LEASE: Final = Kind("coordination.k8s.io", "v1", "leases", "Lease")
TOKEN_REVIEW: Final = Kind("authentication.k8s.io", "v1", "tokenreviews", "TokenReview", namespaced=False)
MUTATING_WEBHOOK_CONFIGURATION: Final = Kind(
    "admissionregistration.k8s.io",
    "v1",
    "mutatingwebhookconfigurations",
    "MutatingWebhookConfiguration",
    namespaced=False,
)

OURS: Final = (MESSAGING_GATEWAY, SENDER_ACCOUNT, API_KEY_POLICY, API_KEY, RATE_LIMIT_POLICY)
FOREIGN: Final = (
    SECRET,
    CONFIG_MAP,
    NAMESPACE,
    POD,
    EVENT,
    SERVICE,
    NETWORK_POLICY,
    LEASE,
    TOKEN_REVIEW,
    MUTATING_WEBHOOK_CONFIGURATION,
)
ALL: Final = OURS + FOREIGN
