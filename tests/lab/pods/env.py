"""A container's environment, argv and identity, as the kubelet computes them. Pure."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from tests.lab.images import Image

Source = Callable[[Literal["Secret", "ConfigMap"], str], Mapping[str, Any] | None]

PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
REFERENCE: Final = re.compile(r"\$(\$|\([-._a-zA-Z][-._a-zA-Z0-9]*\))")
SUBSCRIPT: Final = re.compile(r"^metadata\.(labels|annotations)\['(.+)'\]$")
# What a container engine grants by default: https://docs.docker.com/engine/containers/run/#runtime-privilege-and-linux-capabilities
CAPABILITIES: Final = {
    "CHOWN": 0,
    "DAC_OVERRIDE": 1,
    "FOWNER": 3,
    "FSETID": 4,
    "KILL": 5,
    "SETGID": 6,
    "SETUID": 7,
    "SETPCAP": 8,
    "NET_BIND_SERVICE": 10,
    "NET_RAW": 13,
    "SYS_CHROOT": 18,
    "MKNOD": 27,
    "AUDIT_WRITE": 29,
    "SETFCAP": 31,
}


class ConfigError(Exception):
    """The container cannot be made yet: shown as CreateContainerConfigError and tried again."""


@dataclass(frozen=True)
class Identity:
    """Who a container's process is."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    capabilities: tuple[int, ...]  # of the bounding set; only root has them in effect


def expand(text: str, variables: Mapping[str, str]) -> str:
    """Replace $(NAME); an unknown name stays as it is written, $$ is a literal $."""

    def one(match: re.Match[str]) -> str:
        token = match.group(1)
        if token == "$":
            return "$"
        return variables.get(token[1:-1], match.group(0))

    return REFERENCE.sub(one, text)


def field_value(pod: Mapping[str, Any], path: str) -> str:
    """Value of a downward API field. Raises ConfigError on an unknown path."""
    meta, spec, status = pod["metadata"], pod["spec"], pod.get("status", {})
    if found := SUBSCRIPT.match(path):
        return str((meta.get(found.group(1)) or {}).get(found.group(2), ""))
    match path:
        case "metadata.name" | "metadata.namespace" | "metadata.uid":
            return str(meta[path.removeprefix("metadata.")])
        case "metadata.labels" | "metadata.annotations":
            values = meta.get(path.removeprefix("metadata.")) or {}
            return "\n".join(f"{name}={_quote(values[name])}" for name in sorted(values))
        case "spec.nodeName" | "spec.serviceAccountName":
            return str(spec.get(path.removeprefix("spec."), ""))
        case "status.podIP" | "status.hostIP":
            return str(status.get(path.removeprefix("status."), ""))
        case "status.podIPs" | "status.hostIPs":
            field = path.removeprefix("status.")
            return ",".join(str(item["ip"]) for item in status.get(field) or ())
    raise ConfigError(f"fieldPath {path!r} is not supported by the lab's pod runner")


def _quote(value: str) -> str:
    # Go's %q for the characters that labels and annotations carry in practice.
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
    return f'"{escaped}"'


def environment(
    pod: Mapping[str, Any],
    container: Mapping[str, Any],
    image: Image,
    service_env: Mapping[str, str],
    source: Source,
) -> dict[str, str]:
    """The whole environment: image, service variables, envFrom, env; later ones win."""
    values = {"PATH": PATH, "HOME": "/", "HOSTNAME": str(pod["metadata"]["name"]), **image.env, **service_env}
    for entry in container.get("envFrom") or ():
        values.update(_env_from(entry, source))
    for entry in container.get("env") or ():
        name = str(entry["name"])
        if "valueFrom" in entry:
            value = _value_from(pod, entry["valueFrom"], source)
            if value is not None:
                values[name] = value
        else:
            values[name] = expand(str(entry.get("value", "")), values)
    return values


def _env_from(entry: Mapping[str, Any], source: Source) -> dict[str, str]:
    prefix = str(entry.get("prefix", ""))
    kind: Literal["Secret", "ConfigMap"] = "Secret" if "secretRef" in entry else "ConfigMap"
    reference = entry["secretRef" if kind == "Secret" else "configMapRef"]
    found = source(kind, reference["name"])
    if found is None:
        if reference.get("optional"):
            return {}
        raise ConfigError(f'{kind.lower()} "{reference["name"]}" not found')
    return {prefix + key: _text(kind, value) for key, value in (found.get("data") or {}).items()}


def _value_from(pod: Mapping[str, Any], value_from: Mapping[str, Any], source: Source) -> str | None:
    if "fieldRef" in value_from:
        return field_value(pod, value_from["fieldRef"]["fieldPath"])
    kind: Literal["Secret", "ConfigMap"]
    if "secretKeyRef" in value_from:
        kind, reference = "Secret", value_from["secretKeyRef"]
    elif "configMapKeyRef" in value_from:
        kind, reference = "ConfigMap", value_from["configMapKeyRef"]
    else:
        raise ConfigError(f"valueFrom {sorted(value_from)} is not supported by the lab's pod runner")
    found = source(kind, reference["name"])
    value = None if found is None else (found.get("data") or {}).get(reference["key"])
    if value is not None:
        return _text(kind, value)
    if reference.get("optional"):
        return None
    if found is None:
        raise ConfigError(f'{kind.lower()} "{reference["name"]}" not found')
    raise ConfigError(f"couldn't find key {reference['key']} in {kind} {reference['name']}")


def _text(kind: str, value: str) -> str:
    return base64.b64decode(value).decode() if kind == "Secret" else value


def argv(container: Mapping[str, Any], image: Image, variables: Mapping[str, str]) -> list[str]:
    """`command` replaces the image's entry point, `args` follow it; $(NAME) is expanded in both."""
    command: Sequence[str] = container.get("command") or ()
    arguments: Sequence[str] = container.get("args") or ()
    expanded = [expand(text, variables) for text in (*command, *arguments)]
    return expanded if command else [*image.argv, *expanded]


def identity(pod: Mapping[str, Any], container: Mapping[str, Any], image: Image) -> Identity:
    """User, groups and capabilities. Raises ConfigError when runAsNonRoot forbids them."""
    outer = pod["spec"].get("securityContext") or {}
    merged = {**outer, **(container.get("securityContext") or {})}
    uid = int(merged.get("runAsUser", image.uid))
    if merged.get("runAsNonRoot") and uid == 0:
        raise ConfigError("container has runAsNonRoot and image will run as root")
    groups = {int(group) for group in outer.get("supplementalGroups") or ()}
    if "fsGroup" in outer:
        groups.add(int(outer["fsGroup"]))
    wanted = merged.get("capabilities") or {}
    dropped = set(wanted.get("drop") or ())
    kept = set() if "ALL" in dropped else CAPABILITIES.keys() - dropped
    kept |= set(wanted.get("add") or ())
    unknown = kept - CAPABILITIES.keys()
    if unknown:
        raise ConfigError(f"capabilities {sorted(unknown)} are not supported by the lab's pod runner")
    return Identity(
        uid=uid,
        gid=int(merged.get("runAsGroup", image.gid)),
        groups=tuple(sorted(groups)),
        capabilities=tuple(sorted(CAPABILITIES[name] for name in kept)),
    )
