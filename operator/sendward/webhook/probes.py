"""Moves the application's network probes to the guard.

The kubelet dials the pod's address, but the application listens on loopback only. So each HTTP or
TCP probe becomes `GET :15021/app/<container>/<kind>`, with its timings kept; the guard asks the
application over loopback. The original stands in an annotation, so that a second pass, or a pod made
from another pod's YAML, finds it; what stands there counts only where the probe has our form.
"""

from __future__ import annotations

import copy
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from sendward import names

Object = dict[str, Any]
KINDS: Final = ("startup", "readiness", "liveness")
_LOOPBACK: Final = frozenset({"", "127.0.0.1", "localhost", "::1"})


class Header(Struct, frozen=True):
    """A header of an HTTP probe."""

    name: Annotated[str, Meta(max_length=256)]
    value: Annotated[str, Meta(max_length=4096)]


class AppProbe(Struct, frozen=True):
    """What the guard asks the application on loopback: a connection (`tcp`) or an HTTP GET."""

    port: Annotated[int, Meta(ge=1, le=65535)]
    tcp: Literal[True] | UnsetType = UNSET
    path: Annotated[str, Meta(max_length=4096)] | UnsetType = UNSET
    scheme: Literal["HTTP", "HTTPS"] | UnsetType = UNSET
    headers: Annotated[list[Header], Meta(max_length=64)] | UnsetType = UNSET


class ProbeError(Exception):
    """A probe that cannot be moved; the message names the field and the remedy."""


def move(container: Object, field: str, recorded: dict[str, AppProbe]) -> dict[str, AppProbe]:
    """Rewrite the probes of one container in place; the originals by `<container>/<kind>`.

    `field` is the container's path for messages; `recorded` comes from `parse_annotation`.
    Raises ProbeError.
    """
    _refuse_hooks(container, field)
    moved: dict[str, AppProbe] = {}
    for kind in KINDS:
        name = f"{kind}Probe"
        probe = container.get(name)
        if not probe or "exec" in probe:
            continue
        key = f"{container.get('name', '')}/{kind}"
        original = _original(container, probe, f"{field}.{name}", key, recorded)
        timings = {k: v for k, v in probe.items() if k not in ("httpGet", "tcpSocket")}
        action = {"path": f"/app/{key}", "port": names.PORT_PROBE, "scheme": "HTTP"}
        container[name] = {**copy.deepcopy(timings), "httpGet": action}
        moved[key] = original
    return moved


def parse_annotation(text: str) -> dict[str, AppProbe]:
    """The originals that an earlier pass recorded. Raises ProbeError."""
    try:
        return msgspec.json.decode(text or "{}", type=dict[str, AppProbe])
    except (msgspec.DecodeError, RecursionError) as error:
        raise ProbeError(
            f"metadata.annotations[{names.ANNOTATION_APP_PROBES}]: {error}; remove the annotation and "
            "give the application's own ports in the probes"
        ) from None


def encode(moved: dict[str, AppProbe]) -> str:
    """JSON in a stable order. `$` is escaped: the kubelet expands `$(NAME)` in environment values."""
    return msgspec.json.encode(moved, order="deterministic").decode().replace("$", "\\u0024")


def _original(
    container: Object, probe: Object, field: str, key: str, recorded: dict[str, AppProbe]
) -> AppProbe:
    if "grpc" in probe:
        raise ProbeError(
            f"{field}.grpc: the kubelet would dial the pod's address, where only the sidecar listens; "
            "use httpGet, tcpSocket or exec"
        )
    http, tcp = probe.get("httpGet"), probe.get("tcpSocket")
    action = http or tcp or {}
    where = f"{field}.{'httpGet' if http else 'tcpSocket'}"
    port = _port(container, action.get("port"), f"{where}.port")
    if port in names.RESERVED_PORTS:
        if http and port == names.PORT_PROBE and http.get("path") == f"/app/{key}" and key in recorded:
            return _checked(recorded[key])
        raise ProbeError(f"{where}.port: {port} belongs to the sidecar; give the application's own port")
    if action.get("host", "") not in _LOOPBACK:
        raise ProbeError(f"{where}.host: the probe is sent over loopback; remove the field")
    if not http:
        return _bounded(AppProbe(port=port, tcp=True), where)
    headers = [Header(h.get("name", ""), h.get("value", "")) for h in http.get("httpHeaders") or []]
    found = AppProbe(
        port=port,
        path=http.get("path") or "/",
        scheme="HTTPS" if http.get("scheme") == "HTTPS" else "HTTP",
        headers=headers or UNSET,
    )
    return _bounded(found, where)


def _bounded(probe: AppProbe, where: str) -> AppProbe:
    """As the guard will read it: the API server sees only what we make of the probe."""
    try:
        return msgspec.convert(msgspec.to_builtins(probe), AppProbe)
    except msgspec.ValidationError as error:
        raise ProbeError(f"{where}: {error}") from None


def _checked(probe: AppProbe) -> AppProbe:
    # The annotation can be written by anybody who may create the pod.
    if probe.port in names.RESERVED_PORTS or (probe.tcp is UNSET) == (probe.path is UNSET):
        raise ProbeError(
            f"metadata.annotations[{names.ANNOTATION_APP_PROBES}]: no probe of an application; remove the "
            "annotation and give the application's own ports in the probes"
        )
    return probe


def _port(container: Object, port: object, field: str) -> int:
    if isinstance(port, int) and not isinstance(port, bool):
        return port
    for declared in container.get("ports") or []:
        if declared.get("name") == port and isinstance(declared.get("containerPort"), int):
            return int(declared["containerPort"])
    raise ProbeError(f"{field}: no port of this container is named {port!r}; add it under ports")


def _refuse_hooks(container: Object, field: str) -> None:
    for hook in ("postStart", "preStop"):
        for action in ("httpGet", "tcpSocket"):
            if ((container.get("lifecycle") or {}).get(hook) or {}).get(action):
                raise ProbeError(
                    f"{field}.lifecycle.{hook}.{action}: the kubelet would dial the pod's address, where "
                    "only the sidecar listens; use exec or sleep"
                )
