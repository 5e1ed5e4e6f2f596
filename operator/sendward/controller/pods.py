"""Raw pods as facts: what the hub and the statuses need to know of a gateway's pods."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sendward import names
from sendward.graph.facts import Pod
from sendward.manifests.sidecar import ENV_GATEWAY_UID

_SIDECARS = frozenset({names.GUARD_CONTAINER, names.PROXY_CONTAINER})
_ENDED = frozenset({"Succeeded", "Failed"})


def parse_pod(raw: Mapping[str, Any]) -> Pod | None:
    """A pod with the gateway label.

    None for a pod without the label, and for one whose containers have all ended for good: an
    evicted pod may lie around for days, and must count as gone.
    """
    metadata = raw["metadata"]
    gateway = metadata.get("labels", {}).get(names.LABEL_GATEWAY, "")
    status = raw.get("status", {})
    if not gateway or status.get("phase") in _ENDED:
        return None
    return Pod(
        uid=metadata["uid"],
        namespace=metadata["namespace"],
        name=metadata["name"],
        gateway=gateway,
        ready=_is_ready(status),
        terminating="deletionTimestamp" in metadata,
        injected=_is_injected(raw.get("spec", {})),
        gateway_uid=_gateway_uid(raw.get("spec", {})),
    )


def _is_ready(status: Mapping[str, Any]) -> bool:
    conditions = status.get("conditions") or []
    return any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions)


def _gateway_uid(spec: Mapping[str, Any]) -> str:
    for container in spec.get("initContainers") or []:
        if container["name"] == names.GUARD_CONTAINER:
            for variable in container.get("env") or []:
                if variable["name"] == ENV_GATEWAY_UID:
                    return str(variable.get("value", ""))
    return ""


def _is_injected(spec: Mapping[str, Any]) -> bool:
    """Both containers of the sidecar, as native sidecars."""
    native = {c["name"] for c in spec.get("initContainers") or [] if c.get("restartPolicy") == "Always"}
    return native >= _SIDECARS
