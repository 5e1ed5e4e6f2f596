"""The policy `sendward-sidecar`: the sidecar of the final pod is the injected one, whole."""

from __future__ import annotations

from typing import Final

from sendward import names
from sendward.manifests import sidecar
from sendward.manifests.cel import (
    GATEWAY,
    OURS,
    Object,
    constraints,
    rule,
    string,
    strings,
    validation,
    variables,
)

_REMEDY: Final = (
    f"let the webhook {names.WEBHOOK_CONFIGURATION} inject it, and remove what changes it afterwards"
)
_DISK: Final = "has(v.emptyDir) && v.emptyDir.?medium.orValue('') == ''"


def spec() -> Object:
    """Creation, and updates of an init container's image: what runs was judged by older parameters."""
    images = ".spec.?initContainers.orValue([]).map(c, c.?image.orValue(''))"
    return {
        "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
        "matchConstraints": constraints(rule(["CREATE", "UPDATE"], ["pods"])),
        "matchConditions": [
            {
                "name": "new-or-another-image",
                "expression": f"request.operation == 'CREATE' || object{images} != oldObject{images}",
            }
        ],
        "variables": variables(
            inits="object.spec.?initContainers.orValue([])",
            guard="variables.inits[0]",
            proxy="variables.inits[1]",
            pair="[variables.guard, variables.proxy]",
            volumes="object.spec.?volumes.orValue([])"
            f".filter(v, v.name.startsWith({string(names.VOLUME_PREFIX)}))",
            data="params.?data.orValue({})",
        ),
        "validations": [
            *_identity(),
            _security_context(),
            _process(),
            _environment(),
            _mounts(),
            _volumes(),
        ],
    }


def _parameter(key: str) -> str:
    return f"variables.data[?{string(key)}].orValue('')"


def _identity() -> list[Object]:
    wanted = (names.PARAM_GUARD_IMAGE, names.PARAM_PROXY_IMAGE, names.PARAM_HUB, names.PARAM_DOCUMENT_KEY)
    return [
        validation(
            f"spec.initContainers: a pod of a gateway begins with {names.GUARD_CONTAINER} and "
            f"{names.PROXY_CONTAINER}; {_REMEDY}",
            "variables.inits.size() >= 2",
            f"variables.pair.map(c, c.name) == {OURS}",
        ),
        validation(
            f"ConfigMap {names.CONFIGMAP_PARAMETERS} in the operator's namespace is incomplete; apply the "
            "output of `sendward install` and let the operator start",
            *(f"{_parameter(key)} != ''" for key in wanted),
        ),
        validation(
            "spec.initContainers[].image: not the sidecar's image as ConfigMap "
            f"{names.CONFIGMAP_PARAMETERS} names it; {_REMEDY}",
            f"variables.guard.?image.orValue('') == {_parameter(names.PARAM_GUARD_IMAGE)}",
            f"variables.proxy.?image.orValue('') == {_parameter(names.PARAM_PROXY_IMAGE)}",
        ),
        validation(
            f"spec.initContainers[].restartPolicy: the sidecar's must be Always; {_REMEDY}",
            "variables.pair.all(c, c.?restartPolicy.orValue('') == 'Always')",
        ),
    ]


def _security_context() -> Object:
    context = "c.securityContext."
    return validation(
        f"spec.initContainers[].securityContext: not the sidecar's (user {names.SIDECAR_UID}, restricted); "
        f"{_REMEDY}",
        "variables.pair.all(c, has(c.securityContext)"
        f" && {context}?runAsUser.orValue(0) == {names.SIDECAR_UID}"
        f" && {context}?runAsNonRoot.orValue(false)"
        f" && {context}?readOnlyRootFilesystem.orValue(false)"
        f" && !{context}?allowPrivilegeEscalation.orValue(true)"
        f" && !{context}?privileged.orValue(false)"
        f" && {context}?capabilities.?drop.orValue([]) == ['ALL']"
        f" && {context}?capabilities.?add.orValue([]) == []"
        f" && {context}?seccompProfile.?type.orValue('') == 'RuntimeDefault')",
    )


def _process() -> Object:
    """Hooks and exec probes would run commands of others in our containers."""
    return validation(
        f"spec.initContainers[]: command, args, lifecycle or probes of the sidecar are not its own; "
        f"{_REMEDY}",
        "variables.pair.all(c, !has(c.command) && !has(c.workingDir) && !has(c.lifecycle)"
        " && !has(c.livenessProbe))",
        f"variables.guard.?args.orValue([]) == {strings(sidecar.GUARD_ARGS)}",
        f"variables.proxy.?args.orValue([]) == {strings(sidecar.PROXY_ARGS)} + "
        f"[{_parameter(names.PARAM_PROXY_CONCURRENCY)}]",
        _probe("variables.guard", "startupProbe", "/startup", names.PORT_PROBE),
        _probe("variables.guard", "readinessProbe", "/ready", names.PORT_PROBE),
        _probe("variables.proxy", "startupProbe", "/ready", names.PORT_METRICS),
        _probe("variables.proxy", "readinessProbe", "/ready", names.PORT_METRICS),
    )


def _probe(container: str, probe: str, path: str, port: int) -> str:
    action = f"{container}.?{probe}.?httpGet"
    return f"{action}.?path.orValue('') == {string(path)} && {action}.?port.orValue(0) == {port}"


def _environment() -> Object:
    """The gateway's uid is not to be had here; the guard of another uid would refuse every document."""

    def is_(name: str, value: str) -> str:
        return f"variables.guard.env[{sidecar.GUARD_ENV.index(name)}].?value.orValue('') == {value}"

    return validation(
        f"spec.initContainers[].env: the sidecar's environment is not its own; {_REMEDY}",
        "variables.pair.all(c, !has(c.envFrom)) && !has(variables.proxy.env)",
        f"variables.guard.?env.orValue([]).map(e, e.name) == {strings(sidecar.GUARD_ENV)}",
        f"variables.guard.env.all(e, e.name == {string(sidecar.ENV_POD)}"
        " ? e.?valueFrom.?fieldRef.?fieldPath.orValue('') == 'metadata.name' : !has(e.valueFrom))",
        is_(sidecar.ENV_GATEWAY, GATEWAY),
        is_(sidecar.ENV_NAMESPACE, "request.namespace"),
        is_(sidecar.ENV_HUB, _parameter(names.PARAM_HUB)),
        is_(sidecar.ENV_DOCUMENT_KEY, _parameter(names.PARAM_DOCUMENT_KEY)),
    )


def _mounts() -> Object:
    def are(container: str, mounts: tuple[sidecar.Mount, ...]) -> str:
        found = f"{container}.?volumeMounts.orValue([]).map(m, m.name + ' ' + m.mountPath + "
        wanted = strings(f"{m.volume} {m.path}{' ro' if m.read_only else ''}" for m in mounts)
        return f"{found}(m.?readOnly.orValue(false) ? ' ro' : '')) == {wanted}"

    return validation(
        f"spec.initContainers[].volumeMounts: the sidecar's mounts are not its own; {_REMEDY}",
        "variables.pair.all(c, !has(c.volumeDevices) && c.?volumeMounts.orValue([])"
        ".all(m, !has(m.subPath) && !has(m.subPathExpr)))",
        are("variables.guard", sidecar.GUARD_MOUNTS),
        are("variables.proxy", sidecar.PROXY_MOUNTS),
    )


def _volumes() -> Object:
    def is_(name: str, condition: str) -> str:
        return f"variables.volumes.all(v, v.name != {string(name)} || ({condition}))"

    def named(pattern: str) -> str:
        """A name with the gateway, as CEL knows it, in place of the star."""
        before, after = pattern.split("*")
        return f"{string(before)} + {GATEWAY} + {string(after)}"

    document = f"{named(names.document_secret('*', ''))} + s.secret.items[0].path"
    token = "v.projected.sources[0].?serviceAccountToken.?audience.orValue('')"  # noqa: S105 - CEL
    return validation(
        f"spec.volumes: volumes named {names.VOLUME_PREFIX}* are not the sidecar's own; {_REMEDY}",
        f"variables.volumes.map(v, v.name) == {strings(sidecar.VOLUMES)}",
        is_(
            names.VOLUME_DOCUMENT,
            "v.?projected.?sources.orValue([]).size() > 0 && v.projected.sources.all(s, has(s.secret)"
            " && s.secret.?optional.orValue(false) && s.secret.?items.orValue([]).size() == 1"
            f" && s.secret.items[0].key == 'document' && s.secret.?name.orValue('') == {document})",
        ),
        is_(
            names.VOLUME_TOKEN,
            f"v.?projected.?sources.orValue([]).size() == 1 && {token} == {string(names.AUDIENCE)}",
        ),
        is_(names.VOLUME_HUB_CA, f"v.?configMap.?name.orValue('') == {string(names.CONFIGMAP_HUB_CA)}"),
        is_(names.VOLUME_TLS, "has(v.secret) && !v.secret.?optional.orValue(false)"),
        is_(
            names.VOLUME_COUNTERS,
            f"v.?secret.?secretName.orValue('') == {named(names.counters_secret('*'))}"
            " && v.secret.?optional.orValue(false) && !has(v.secret.items)",
        ),
        is_(names.VOLUME_RUN, "v.?emptyDir.?medium.orValue('') == 'Memory'"),
        is_(names.VOLUME_STATE, _DISK),
        is_(names.VOLUME_NO_API, _DISK),
    )
