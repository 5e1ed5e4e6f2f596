"""Deployments, Services and what keeps them available."""

from __future__ import annotations

from typing import Any, Final

from sendward import names
from sendward.manifests.options import InstallOptions

Object = dict[str, Any]
OPERATOR: Final = names.SERVICE_ACCOUNT_OPERATOR  # also the name of the Deployment
WEBHOOK: Final = names.SERVICE_ACCOUNT_WEBHOOK
LABEL_COMPONENT: Final = "app.kubernetes.io/component"
_USER: Final = 64018  # not the sidecar's
_VAULT_CA: Final = "/etc/sendward/vault-ca"
_VAULT_TOKEN: Final = "/var/run/sendward-vault"  # noqa: S105 - a path
_VAULT_TOKEN_SECONDS: Final = 3600


def selector(component: str) -> dict[str, str]:
    """Labels that pick the pods of one component, and nothing else in the namespace."""
    return {**names.HUB_POD_LABELS, LABEL_COMPONENT: component}


def services(options: InstallOptions) -> list[Object]:
    """The hub's is headless: a guard tries each operator until the one that leads takes it."""
    hub = {
        "clusterIP": "None",
        "publishNotReadyAddresses": False,
        "selector": selector("operator"),
        "ports": [{"name": "hub", "port": names.PORT_HUB, "targetPort": "hub", "protocol": "TCP"}],
    }
    webhook = {
        "selector": selector("webhook"),
        "ports": [{"name": "https", "port": 443, "targetPort": "https", "protocol": "TCP"}],
    }
    return [
        {"apiVersion": "v1", "kind": "Service", "metadata": _meta(options, name), "spec": spec}
        for name, spec in ((names.HUB_SERVICE, hub), (names.WEBHOOK_SERVICE, webhook))
    ]


def operator(options: InstallOptions) -> Object:
    """Standbys are warm and Ready; the Lease picks one."""
    vault = options.vault
    token = {"audience": names.AUDIENCE_VAULT, "expirationSeconds": _VAULT_TOKEN_SECONDS, "path": "token"}
    volumes: list[Object] = [
        {"name": "vault-token", "projected": {"sources": [{"serviceAccountToken": token}]}},
        {"name": "tmp", "emptyDir": {"medium": "Memory", "sizeLimit": "16Mi"}},
    ]
    mounts: list[Object] = [
        {"name": "vault-token", "mountPath": _VAULT_TOKEN, "readOnly": True},
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - a volume of the pod's own
    ]
    env: list[Object] = [
        *_identity(options),
        {"name": "SENDWARD_POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "SENDWARD_VAULT_ADDRESS", "value": vault.address},
        {"name": "SENDWARD_VAULT_AUTH", "value": vault.auth},
        {"name": "SENDWARD_VAULT_AUTH_MOUNT", "value": vault.auth_mount},
        {"name": "SENDWARD_VAULT_ROLE", "value": vault.role},
        {"name": "SENDWARD_VAULT_TOKEN_FILE", "value": f"{_VAULT_TOKEN}/token"},
        {"name": "SENDWARD_VAULT_KV_MOUNT", "value": vault.kv_mount},
        {"name": "SENDWARD_VAULT_PKI_MOUNT", "value": vault.pki_mount},
    ]
    if vault.ca_config_map:
        volumes.append({"name": "vault-ca", "configMap": {"name": vault.ca_config_map}})
        mounts.append({"name": "vault-ca", "mountPath": _VAULT_CA, "readOnly": True})
        env.append({"name": "SENDWARD_VAULT_CA", "value": f"{_VAULT_CA}/ca.crt"})
    container = {
        **_container(options, "operator", env, mounts),
        "ports": [_port("hub", names.PORT_HUB), _port("probes", names.PORT_OPERATOR_PROBE)],
        "resources": {"requests": {"cpu": "100m", "memory": "192Mi"}, "limits": {"memory": "1Gi"}},
    }
    return _deployment(
        options, "operator", replicas=options.operator_replicas, container=container, volumes=volumes
    )


def webhook(options: InstallOptions) -> Object:
    """Waits for the Secret with its certificate, which the operator writes."""
    volumes: list[Object] = [{"name": "tls", "secret": {"secretName": names.SECRET_WEBHOOK_TLS}}]
    mounts: list[Object] = [{"name": "tls", "mountPath": names.PATH_WEBHOOK_TLS, "readOnly": True}]
    container = {
        **_container(options, "webhook", _identity(options), mounts),
        "ports": [_port("https", names.PORT_WEBHOOK), _port("probes", names.PORT_OPERATOR_PROBE)],
        "resources": {"requests": {"cpu": "20m", "memory": "96Mi"}, "limits": {"memory": "256Mi"}},
    }
    return _deployment(
        options, "webhook", replicas=options.webhook_replicas, container=container, volumes=volumes
    )


def disruption_budgets(options: InstallOptions) -> list[Object]:
    """One pod of each at a time."""
    return [
        {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": _meta(options, name),
            "spec": {"maxUnavailable": 1, "selector": {"matchLabels": selector(component)}},
        }
        for name, component in ((OPERATOR, "operator"), (WEBHOOK, "webhook"))
    ]


def _deployment(
    options: InstallOptions,
    component: str,
    *,
    replicas: int,
    container: Object,
    volumes: list[Object],
) -> Object:
    name, labels = f"sendward-{component}", selector(component)
    spread = {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": labels},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _meta(options, name),
        "spec": {
            "replicas": replicas,
            "revisionHistoryLimit": 3,
            "selector": {"matchLabels": labels},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": {
                "metadata": {"labels": {**options.labels, **labels}},
                "spec": {
                    "serviceAccountName": name,
                    "enableServiceLinks": False,
                    "terminationGracePeriodSeconds": 30,
                    "securityContext": {
                        "runAsNonRoot": True,
                        "runAsUser": _USER,
                        "runAsGroup": _USER,
                        "fsGroup": _USER,
                        "seccompProfile": {"type": "RuntimeDefault"},
                    },
                    "topologySpreadConstraints": [spread],
                    "containers": [container],
                    "volumes": volumes,
                },
            },
        },
    }


def _container(options: InstallOptions, command: str, env: list[Object], mounts: list[Object]) -> Object:
    def probe(path: str, failures: int) -> Object:
        return {
            "httpGet": {"path": path, "port": "probes"},
            "periodSeconds": 5,
            "timeoutSeconds": 3,
            "failureThreshold": failures,
        }

    return {
        "name": command,
        "image": options.image,
        "args": [command],
        "env": env,
        "livenessProbe": probe("/healthz", 6),
        "readinessProbe": probe("/readyz", 2),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": mounts,
    }


def _identity(options: InstallOptions) -> list[Object]:
    return [
        {"name": "SENDWARD_NAMESPACE", "value": options.namespace},
        {"name": "SENDWARD_POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
    ]


def _port(name: str, number: int) -> Object:
    return {"name": name, "containerPort": number, "protocol": "TCP"}


def _meta(options: InstallOptions, name: str) -> Object:
    return {"name": name, "namespace": options.namespace, "labels": options.labels}
