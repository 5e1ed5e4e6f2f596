"""What this runner does not support in a Pod specification. Pure.

Allow-lists: a part that is in no list is refused with its path, never skipped in silence. Lists
named NO_EFFECT hold what is accepted because a single node fulfils it by itself (scheduling
constraints) or because no test can depend on it (resources without cgroups, seccomp).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


POD: Final = _names(
    "automountServiceAccountToken containers dnsPolicy enableServiceLinks hostAliases hostname"
    " initContainers nodeName restartPolicy schedulerName securityContext serviceAccount"
    " serviceAccountName subdomain terminationGracePeriodSeconds volumes"
)
POD_NO_EFFECT: Final = _names(
    "affinity imagePullSecrets nodeSelector preemptionPolicy priority priorityClassName"
    " tolerations topologySpreadConstraints"
)
CONTAINER: Final = _names(
    "args command env envFrom image imagePullPolicy lifecycle livenessProbe name ports"
    " readinessProbe restartPolicy securityContext startupProbe terminationMessagePath"
    " terminationMessagePolicy volumeMounts workingDir"
)
CONTAINER_NO_EFFECT: Final = frozenset({"resources", "resizePolicy"})
POD_SECURITY: Final = _names(
    "fsGroup fsGroupChangePolicy runAsGroup runAsNonRoot runAsUser seccompProfile"
    " supplementalGroups appArmorProfile supplementalGroupsPolicy"
)
CONTAINER_SECURITY: Final = _names(
    "allowPrivilegeEscalation appArmorProfile capabilities readOnlyRootFilesystem runAsGroup"
    " runAsNonRoot runAsUser seccompProfile"
)
VOLUME: Final = _names("name emptyDir secret configMap projected downwardAPI")
PROJECTION: Final = _names("secret configMap serviceAccountToken downwardAPI")
MOUNT: Final = _names("name mountPath readOnly")
PROBE: Final = _names(
    "httpGet tcpSocket exec initialDelaySeconds periodSeconds timeoutSeconds successThreshold"
    " failureThreshold terminationGracePeriodSeconds"
)
PRE_STOP: Final = _names("exec httpGet sleep")


def refusals(spec: Mapping[str, Any]) -> tuple[str, ...]:
    """Paths of unsupported parts, each with a word on why; empty when the pod can run."""
    return tuple(_refusals(spec))


def _refusals(spec: Mapping[str, Any]) -> Iterator[str]:
    yield from _unknown("spec", spec, POD | POD_NO_EFFECT)
    yield from _unknown("spec.securityContext", spec.get("securityContext") or {}, POD_SECURITY)
    for index, volume in enumerate(spec.get("volumes") or ()):
        yield from _volume(f"spec.volumes[{index}]", volume)
    for field in ("initContainers", "containers"):
        for index, container in enumerate(spec.get(field) or ()):
            yield from _container(f"spec.{field}[{index}]", container)


def _volume(path: str, volume: Mapping[str, Any]) -> Iterator[str]:
    yield from _unknown(path, volume, VOLUME)
    for index, source in enumerate((volume.get("projected") or {}).get("sources") or ()):
        yield from _unknown(f"{path}.projected.sources[{index}]", source, PROJECTION)


def _container(path: str, container: Mapping[str, Any]) -> Iterator[str]:
    yield from _unknown(path, container, CONTAINER | CONTAINER_NO_EFFECT)
    security = dict(container.get("securityContext") or {})
    if security.get("privileged") is False:  # the default, spelled out
        del security["privileged"]
    yield from _unknown(f"{path}.securityContext", security, CONTAINER_SECURITY)
    for index, mount in enumerate(container.get("volumeMounts") or ()):
        yield from _unknown(f"{path}.volumeMounts[{index}]", mount, MOUNT)
    for index, port in enumerate(container.get("ports") or ()):
        if port.get("hostPort"):
            yield f"{path}.ports[{index}].hostPort is not supported by the lab's pod runner"
    for field in ("startupProbe", "readinessProbe", "livenessProbe"):
        yield from _unknown(f"{path}.{field}", container.get(field) or {}, PROBE)
    for field, handler in (container.get("lifecycle") or {}).items():
        if field == "preStop":
            yield from _unknown(f"{path}.lifecycle.preStop", handler, PRE_STOP)
        else:
            yield f"{path}.lifecycle.{field} is not supported by the lab's pod runner"


def _unknown(path: str, part: Mapping[str, Any], known: frozenset[str]) -> Iterator[str]:
    for field, value in part.items():
        # False and empty mean what leaving the field out means.
        if field not in known and value not in (None, False, "", [], {}):
            yield f"{path}.{field} is not supported by the lab's pod runner"
