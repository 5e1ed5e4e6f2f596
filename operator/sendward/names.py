"""Every name that two parts must agree on: API group, labels, ports, paths, object names.

One word per thing; nothing here is computed from a tenant's text except object names, which are
bounded by the CRDs (a gateway's name has at most 40 characters).
"""

from __future__ import annotations

from typing import Final

VERSION: Final = "0.1.0"

GROUP: Final = "sendward.io"
API_VERSION: Final = "sendward.io/v1alpha1"
FIELD_MANAGER: Final = "sendward"
FINALIZER: Final = "sendward.io/revoke-first"

# Labels.
LABEL_GATEWAY: Final = "sendward.io/gateway"  # on pods: the only selector of a gateway's pods
LABEL_ONBOARDED: Final = "sendward.io/onboarded"  # on namespaces, value "true"
LABEL_MANAGED_BY: Final = "app.kubernetes.io/managed-by"  # on objects that the operator owns
LABEL_PART: Final = "sendward.io/part"  # document | network-policy | hand-over | tls | hub-ca
LABEL_OWNER_UID: Final = "sendward.io/owner-uid"  # uid of the MessagingGateway or APIKey

# Annotations.
ANNOTATION_APP_PROBES: Final = "sendward.io/app-probes"  # on pods: the probes that injection moved

# The sidecar, by convention: the webhook writes these, the admission policy checks them.
GUARD_CONTAINER: Final = "sendward-guard"
PROXY_CONTAINER: Final = "sendward-proxy"
VOLUME_PREFIX: Final = "sendward-"
VOLUME_DOCUMENT: Final = "sendward-document"  # projected Secrets, guard only, optional: true
VOLUME_TOKEN: Final = "sendward-token"  # service-account token, audience AUDIENCE, guard only
VOLUME_HUB_CA: Final = "sendward-hub-ca"  # ConfigMap, guard only
VOLUME_TLS: Final = "sendward-tls"  # Secret with the server certificate, proxy only, not optional
VOLUME_COUNTERS: Final = (
    "sendward-counters"  # Secret: how to log in to the shared counters; guard only, optional
)
VOLUME_RUN: Final = "sendward-run"  # memory-backed emptyDir: sockets, Envoy's files; both
VOLUME_STATE: Final = "sendward-state"  # emptyDir: the last documents; guard only
# Empty, over the path of the service account's token: the API server mounts that one wherever the
# path is free, and the sidecar has no use for the application's rights.
VOLUME_NO_API: Final = "sendward-no-api"
SIDECAR_UID: Final = 64017

PATH_DOCUMENT: Final = "/etc/sendward/document"  # one file per part: "gateway", "0", "1", ...
PATH_TOKEN: Final = "/var/run/sendward-token/token"
PATH_HUB_CA: Final = "/etc/sendward/hub-ca/ca.crt"
PATH_TLS: Final = "/etc/sendward/tls"  # tls.crt, tls.key
PATH_COUNTERS: Final = "/etc/sendward/counters"  # username, password, ca.crt; each may be absent
PATH_RUN: Final = "/run/sendward"
PATH_STATE: Final = "/var/lib/sendward"
PATH_NO_API: Final = "/var/run/secrets/kubernetes.io/serviceaccount"

PATH_ADMIN_SOCKET: Final = "/run/sendward/admin.sock"  # Envoy's admin, mode 0600
PATH_GUARD_SOCKET: Final = "/run/sendward/guard.sock"  # the guard's ext_authz
PATH_METRICS_SOCKET: Final = "/run/sendward/metrics.sock"  # the guard's Prometheus metrics
PATH_BOOTSTRAP: Final = "/run/sendward/bootstrap.json"
PATH_LDS: Final = "/run/sendward/xds/lds/lds.json"  # one directory per resource, written by rename
PATH_CDS: Final = "/run/sendward/xds/cds/cds.json"
PATH_SDS: Final = "/run/sendward/xds/sds/server.json"

PORT_PROBE: Final = 15021  # guard: /startup, /ready, /app/<container>/<probe>
PORT_METRICS: Final = 15090  # Envoy: GET /metrics (Envoy), /metrics/guard, /ready
PORT_HUB: Final = 9443
PORT_WEBHOOK: Final = 9444
PORT_OPERATOR_PROBE: Final = 8081  # operator and webhook: /healthz, /readyz, /metrics
RESERVED_PORTS: Final = frozenset({PORT_PROBE, PORT_METRICS})

AUDIENCE: Final = "sendward"  # of the guards' tokens
AUDIENCE_VAULT: Final = "vault"  # of the operator's token for Vault's JWT auth
PKI_ROLE: Final = "gateways"  # role of the PKI mount that server certificates come from

# Objects in the operator's namespace.
OPERATOR_NAMESPACE: Final = "sendward-system"  # default; a setting
LEASE: Final = "sendward"
HUB_SERVICE: Final = "sendward-hub"
HUB_POD_LABELS: Final = {  # on the operator's pods; the gateways' NetworkPolicies select by them
    "app.kubernetes.io/name": "sendward",
    "app.kubernetes.io/component": "operator",
}
WEBHOOK_SERVICE: Final = "sendward-webhook"
WEBHOOK_CONFIGURATION: Final = "sendward-inject"
WEBHOOK_PATH: Final = "/inject"
SERVICE_ACCOUNT_OPERATOR: Final = "sendward-operator"
SERVICE_ACCOUNT_WEBHOOK: Final = "sendward-webhook"
SECRET_CA: Final = "sendward-ca"
SECRET_DOCUMENT_KEY: Final = "sendward-document-key"  # Ed25519 private key, PEM in "key.pem"
SECRET_WEBHOOK_TLS: Final = "sendward-webhook-tls"
PATH_WEBHOOK_TLS: Final = "/etc/sendward/webhook-tls"  # where the webhook has that Secret mounted
CONFIGMAP_PARAMETERS: Final = "sendward-admission"  # images and the document's public key
PARAM_GUARD_IMAGE: Final = "guardImage"  # keys of CONFIGMAP_PARAMETERS
PARAM_PROXY_IMAGE: Final = "proxyImage"
PARAM_PROXY_CONCURRENCY: Final = "proxyConcurrency"  # Envoy's worker threads, a decimal number
PARAM_HUB: Final = "hub"  # host:port of the hub
PARAM_DOCUMENT_KEY: Final = "documentKey"  # raw Ed25519 public key, base64; written by the operator
CONFIGMAP_HUB_CA: Final = "sendward-hub-ca"  # in each onboarded namespace, key "ca.crt"

# No objects, only a right: the admission policy asks for it before anybody enters a sidecar's container.
RESOURCE_SIDECARS: Final = "sidecars"
VERB_ENTER: Final = "exec"

PART_GATEWAY: Final = "gateway"
PART_NETWORK_POLICY: Final = "network-policy"  # value of LABEL_PART

# Headers between Envoy, the guard and the application. Every client "x-sw-*" header is removed.
HEADER_PREFIX: Final = "x-sw-"
HEADER_SOURCE: Final = "x-sw-source"  # client address as Envoy judged it
HEADER_ACCOUNT: Final = "x-sw-account"  # to the application: name of the account
HEADER_KEY: Final = "x-sw-key"  # to the application: id of the key version
HEADER_REASON: Final = "x-sw-reason"  # to Envoy's access log: reason code

# Headers of a request that the guard looks at: Envoy sends it no others, and it keeps no others, so that
# no decision can rest on a header that does not arrive. Length and method come with HTTP itself.
HEADERS_JUDGED: Final = (
    "authorization",
    "x-api-key",
    "x_api_key",
    "content-type",
    "content-encoding",
    "x-request-id",
    HEADER_SOURCE,
)

# What the guard answers instead of 503: Envoy takes a 5xx of ext_authz for no answer and drops the body.
# Envoy turns it into 503 and keeps the body. A plain 503 is refused as well, without the guard's reason.
STATUS_UNAVAILABLE: Final = 490


def document_secret(gateway: str, part: str) -> str:
    """Name of the Secret that carries one part of a gateway's document; data key "document"."""
    return f"sendward-{gateway}-doc-{part}"


def tls_secret(gateway: str) -> str:
    """Name of the Secret with a server certificate that Vault PKI issued."""
    return f"sendward-{gateway}-tls"


def counters_secret(gateway: str) -> str:
    """Name of the user's Secret that tells a gateway's guards how to log in to the shared counters."""
    return f"sendward-{gateway}-counters"


def network_policy(gateway: str) -> str:
    """Name of the one NetworkPolicy of a gateway."""
    return f"sendward-{gateway}"


def hand_over_secret(api_key: str) -> str:
    """Name of the Secret that hands a key to its holder (`handOver.type: Secret`)."""
    return f"{api_key}-api-key"


def key_path(namespace_uid: str, key_uid: str) -> str:
    """Path of a key below the KV mount: computed from UIDs only, so no tenant text reaches it."""
    return f"{namespace_uid}/{key_uid}"


def document_parts(shards: int) -> tuple[str, ...]:
    """All parts of a document: the gateway's own, then its shards."""
    return (PART_GATEWAY, *(str(n) for n in range(shards)))
