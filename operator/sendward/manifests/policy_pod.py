"""The policy `sendward-pod`: nothing in a gateway's pod reaches into the sidecar beside it."""

from __future__ import annotations

from typing import Final

from sendward import names
from sendward.manifests.cel import OURS, Object, constraints, rule, string, strings, validation, variables

_UID: Final = names.SIDECAR_UID
_PREFIX: Final = names.VOLUME_PREFIX
_SHARED: Final = ("hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace")
# Each reaches another container of the pod, or the pod's network below Envoy.
_CAPABILITIES: Final = (
    "ALL",
    "BPF",
    "DAC_READ_SEARCH",
    "NET_ADMIN",
    "NET_RAW",
    "SYS_ADMIN",
    "SYS_MODULE",
    "SYS_PTRACE",
    "SYS_RAWIO",
)
_CONTEXT: Final = "c.?securityContext."


def spec() -> Object:
    """Creation, and ephemeral containers; no other update can change what is judged here."""
    return {
        "matchConstraints": constraints(
            rule(["CREATE"], ["pods"]), rule(["UPDATE"], ["pods/ephemeralcontainers"])
        ),
        "variables": variables(
            ephemeral="object.spec.?ephemeralContainers.orValue([]).map(c, dyn(c))",
            others="object.spec.containers.map(c, dyn(c)) + object.spec.?initContainers.orValue([])"
            f".filter(c, !(c.name in {OURS})).map(c, dyn(c)) + variables.ephemeral",
        ),
        "validations": [*_isolation(), *_other_containers()],
    }


def _isolation() -> list[Object]:
    return [
        validation(
            f"spec.{', spec.'.join(_SHARED)}: a pod of a gateway shares nothing with its node, and no "
            "processes between its containers, else the sidecar can be passed by; remove the field",
            *(f"!object.spec.?{field}.orValue(false)" for field in _SHARED),
        ),
        validation(
            f"spec.securityContext.runAsUser: {_UID} belongs to the sidecar; choose another user",
            f"object.spec.?securityContext.?runAsUser.orValue(0) != {_UID}",
        ),
        validation(
            "spec.securityContext.sysctls: route_localnet opens the loopback address to the network; "
            "remove it",
            "object.spec.?securityContext.?sysctls.orValue([]).all(s, !s.name.contains('route_localnet'))",
        ),
        validation(
            "spec.volumes[].hostPath: the node's files hold those of the sidecar; use another kind of volume",
            "object.spec.?volumes.orValue([]).all(v, !has(v.hostPath))",
        ),
        validation(
            f"spec.volumes[].projected.sources[].serviceAccountToken.audience: {names.AUDIENCE} is for the "
            "guard alone; choose another audience",
            f"object.spec.?volumes.orValue([]).all(v, v.name == {string(names.VOLUME_TOKEN)} || "
            "v.?projected.?sources.orValue([]).all(s, "
            f"s.?serviceAccountToken.?audience.orValue('') != {string(names.AUDIENCE)}))",
        ),
    ]


def _other_containers() -> list[Object]:
    return [
        validation(
            "spec.ephemeralContainers[].targetContainerName: the sidecar is no target; choose a container of "
            "the application",
            f"variables.ephemeral.all(c, !(c.?targetContainerName.orValue('') in {OURS}))",
        ),
        validation(
            f"volumeMounts: volumes named {_PREFIX}* belong to the sidecar alone; remove the mount",
            "variables.others.all(c, c.?volumeMounts.orValue([])"
            f".all(m, !m.name.startsWith({string(_PREFIX)})))",
        ),
        validation(
            f"securityContext.runAsUser: {_UID} belongs to the sidecar; choose another user",
            f"variables.others.all(c, {_CONTEXT}?runAsUser.orValue(0) != {_UID})",
        ),
        validation(
            "securityContext.privileged: a privileged container reaches into the sidecar; remove the field",
            f"variables.others.all(c, !{_CONTEXT}?privileged.orValue(false))",
        ),
        validation(
            f"securityContext.capabilities.add: {', '.join(_CAPABILITIES)} reach past the sidecar; "
            "remove them",
            # Container runtimes take any case, and some the prefix too.
            f"variables.others.all(c, {_CONTEXT}?capabilities.?add.orValue([]).all(k, "
            f"!(k.upperAscii().replace('CAP_', '') in {strings(_CAPABILITIES)})))",
        ),
    ]
