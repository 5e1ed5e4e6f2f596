"""The sidecar, put into a pod: a pure function of pod, gateway and settings.

Guard first, then Envoy, both native sidecars ahead of all other init containers. Containers and
volumes of our names are overwritten, never trusted, so injecting twice gives the same pod.
"""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass
from typing import Any, Final

from sendward import names
from sendward.manifests.sidecar import (
    ENV_APP_PROBES,
    ENV_DOCUMENT_KEY,
    ENV_GATEWAY,
    ENV_GATEWAY_UID,
    ENV_HUB,
    ENV_NAMESPACE,
    ENV_POD,
    GUARD_ARGS,
    GUARD_MOUNTS,
    PROXY_ARGS,
    PROXY_MOUNTS,
    Mount,
)
from sendward.webhook.probes import AppProbe, ProbeError, encode, move, parse_annotation

Object = dict[str, Any]
OURS: Final = frozenset({names.GUARD_CONTAINER, names.PROXY_CONTAINER})
# A gateway's name, before it becomes part of a URL: the API server validates labels only later.
GATEWAY_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?")
_TOKEN_SECONDS: Final = 3600


@dataclass(frozen=True, slots=True)
class GatewayInfo:
    """What injection needs of a MessagingGateway."""

    namespace: str
    name: str
    uid: str
    https_port: int
    shards: int
    tls_secret: str


@dataclass(frozen=True, slots=True)
class Parameters:
    """The installation's parameters, from the ConfigMap that the admission policy reads too."""

    guard_image: str
    proxy_image: str
    proxy_concurrency: str
    hub: str
    document_key: str


class RefusedError(Exception):
    """The pod cannot be a gateway's pod. Each problem names the field and the remedy."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def parse_gateway(obj: Object) -> GatewayInfo:
    """From the object as the API server holds it, validated and defaulted by its schema."""
    meta, spec = obj["metadata"], obj["spec"]
    return GatewayInfo(
        namespace=meta["namespace"],
        name=meta["name"],
        uid=meta["uid"],
        https_port=spec["http"].get("port", 8443),
        shards=spec.get("shards", 16),
        tls_secret=spec["tls"].get("secretName") or names.tls_secret(meta["name"]),
    )


def inject(pod: Object, gateway: GatewayInfo, parameters: Parameters) -> Object:
    """A new pod with the sidecar; `pod` stays as it is. Raises RefusedError with all problems at once."""
    pod = copy.deepcopy(pod)
    meta, spec = pod.setdefault("metadata", {}), pod.setdefault("spec", {})
    annotations = meta.setdefault("annotations", {})
    _remove_ours(spec)
    moved = _check_and_move(spec, annotations.pop(names.ANNOTATION_APP_PROBES, ""))
    probes = encode(moved)
    if moved:
        annotations[names.ANNOTATION_APP_PROBES] = probes
    spec["initContainers"] = [
        _guard(gateway, parameters, probes),
        _proxy(gateway, parameters),
        *spec.get("initContainers", []),
    ]
    spec["volumes"] = [*spec.get("volumes", []), *_volumes(gateway)]
    return pod


def patch(before: Object, after: Object) -> list[Object]:
    """RFC 6902: the two parts of a pod that injection changes, whole. `add` replaces what is there."""
    operations: list[Object] = []
    annotations = after["metadata"].get("annotations")
    if annotations != before.get("metadata", {}).get("annotations", {}):
        operations.append({"op": "add", "path": "/metadata/annotations", "value": annotations})
    if after["spec"] != before.get("spec"):
        operations.append({"op": "add", "path": "/spec", "value": after["spec"]})
    return operations


def _remove_ours(spec: Object) -> None:
    for field in ("initContainers", "containers", "ephemeralContainers"):
        if field in spec:
            spec[field] = [c for c in spec[field] or [] if c.get("name") not in OURS]
            for container in spec[field]:
                _drop_prefixed(container, "volumeMounts")
    _drop_prefixed(spec, "volumes")


def _drop_prefixed(holder: Object, field: str) -> None:
    if field in holder:
        holder[field] = [
            v for v in holder[field] or [] if not v.get("name", "").startswith(names.VOLUME_PREFIX)
        ]


def _check_and_move(spec: Object, annotation: str) -> dict[str, AppProbe]:
    problems = _pod_problems(spec)
    moved: dict[str, AppProbe] = {}
    try:
        recorded = parse_annotation(annotation)
    except ProbeError as problem:
        raise RefusedError([*problems, str(problem)]) from None
    for field in ("initContainers", "containers"):
        for index, container in enumerate(spec.get(field, [])):
            try:
                moved |= move(container, f"spec.{field}[{index}]", recorded)
            except ProbeError as problem:
                problems.append(str(problem))
            problems += _identity_problems(container, f"spec.{field}[{index}]")
    if problems:
        raise RefusedError(problems)
    return moved


def _pod_problems(spec: Object) -> list[str]:
    """What the admission policy refuses too; said here as well, because here all come at once."""
    reasons = {
        "hostNetwork": "the node's network goes around the sidecar",
        "hostPID": "the node's processes could reach into the sidecar",
        "hostIPC": "the node's processes could reach into the sidecar",
        "shareProcessNamespace": "the application could reach into the sidecar",
    }
    problems = [f"spec.{name}: {why}; remove the field" for name, why in reasons.items() if spec.get(name)]
    return problems + _identity_problems(spec, "spec")


def _identity_problems(holder: Object, field: str) -> list[str]:
    context = holder.get("securityContext") or {}
    if context.get("runAsUser") != names.SIDECAR_UID:
        return []
    return [
        f"{field}.securityContext.runAsUser: {names.SIDECAR_UID} belongs to the sidecar; choose another user"
    ]


def _guard(gateway: GatewayInfo, parameters: Parameters, probes: str) -> Object:
    env = {
        ENV_GATEWAY: gateway.name,
        ENV_GATEWAY_UID: gateway.uid,
        ENV_NAMESPACE: gateway.namespace,
        ENV_POD: {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}},
        ENV_HUB: parameters.hub,
        ENV_DOCUMENT_KEY: parameters.document_key,
        ENV_APP_PROBES: probes,
    }
    return {
        "name": names.GUARD_CONTAINER,
        "image": parameters.guard_image,
        "args": list(GUARD_ARGS),
        "restartPolicy": "Always",
        "env": [
            {"name": name, "value": value} if isinstance(value, str) else {"name": name, "valueFrom": value}
            for name, value in env.items()
        ],
        "ports": [{"name": "sw-probe", "containerPort": names.PORT_PROBE, "protocol": "TCP"}],
        "resources": _resources("50m", "96Mi", "512Mi"),
        "securityContext": _security_context(),
        # A started guard judges, if only by refusing everything; Envoy may start then.
        "startupProbe": _probe("/startup", names.PORT_PROBE, period=1, failures=120),
        "readinessProbe": _probe("/ready", names.PORT_PROBE, period=2, failures=2),
        "volumeMounts": _mounts(GUARD_MOUNTS),
    }


def _proxy(gateway: GatewayInfo, parameters: Parameters) -> Object:
    # No preStop: native sidecars end after the application, the proxy before the guard.
    return {
        "name": names.PROXY_CONTAINER,
        "image": parameters.proxy_image,
        "args": [*PROXY_ARGS, parameters.proxy_concurrency],
        "restartPolicy": "Always",
        "ports": [
            {"name": "sw-https", "containerPort": gateway.https_port, "protocol": "TCP"},
            {"name": "sw-metrics", "containerPort": names.PORT_METRICS, "protocol": "TCP"},
        ],
        "resources": _resources("100m", "128Mi", "1Gi"),
        "securityContext": _security_context(),
        "startupProbe": _probe("/ready", names.PORT_METRICS, period=1, failures=120),
        "readinessProbe": _probe("/ready", names.PORT_METRICS, period=2, failures=2),
        "volumeMounts": _mounts(PROXY_MOUNTS),
    }


def _resources(cpu: str, memory: str, limit: str) -> Object:
    # No CPU limit: throttling the sidecar would throttle every sender at once.
    return {"requests": {"cpu": cpu, "memory": memory}, "limits": {"memory": limit}}


def _security_context() -> Object:
    return {
        "runAsUser": names.SIDECAR_UID,
        "runAsGroup": names.SIDECAR_UID,
        "runAsNonRoot": True,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def _probe(path: str, port: int, *, period: int, failures: int) -> Object:
    return {
        "httpGet": {"path": path, "port": port, "scheme": "HTTP"},
        "periodSeconds": period,
        "timeoutSeconds": 2,
        "failureThreshold": failures,
    }


def _mounts(mounts: tuple[Mount, ...]) -> list[Object]:
    return [
        {"name": m.volume, "mountPath": m.path, **({"readOnly": True} if m.read_only else {})} for m in mounts
    ]


def _volumes(gateway: GatewayInfo) -> list[Object]:
    parts = [
        {
            "secret": {
                "name": names.document_secret(gateway.name, part),
                "optional": True,
                "items": [{"key": "document", "path": part}],
            }
        }
        for part in names.document_parts(gateway.shards)
    ]
    counters = {"secretName": names.counters_secret(gateway.name), "optional": True}
    token = {"audience": names.AUDIENCE, "expirationSeconds": _TOKEN_SECONDS, "path": "token"}
    return [
        {"name": names.VOLUME_DOCUMENT, "projected": {"sources": parts}},
        {"name": names.VOLUME_TOKEN, "projected": {"sources": [{"serviceAccountToken": token}]}},
        # Not optional, as the certificate: the pod waits until the operator has written them.
        {"name": names.VOLUME_HUB_CA, "configMap": {"name": names.CONFIGMAP_HUB_CA}},
        {"name": names.VOLUME_TLS, "secret": {"secretName": gateway.tls_secret}},
        {"name": names.VOLUME_COUNTERS, "secret": counters},
        {"name": names.VOLUME_RUN, "emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}},
        {"name": names.VOLUME_STATE, "emptyDir": {"sizeLimit": "128Mi"}},
        {"name": names.VOLUME_NO_API, "emptyDir": {}},
    ]
