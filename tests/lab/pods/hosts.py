"""/etc/hosts of a pod, which stands in for a cluster DNS. Pure.

The name of a Service, headless or not, resolves to the addresses of its pods, since the lab has no
kube-proxy: a client must therefore dial the target port. Only addresses that EndpointSlices call
ready are listed, and the others too when the Service says `publishNotReadyAddresses`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

LABEL_SERVICE = "kubernetes.io/service-name"


def render(
    pod: Mapping[str, Any],
    address: str,
    services: Mapping[tuple[str, str], Mapping[str, Any]],
    slices: Iterable[Mapping[str, Any]],
) -> str:
    """The whole file, lines in a stable order."""
    namespace = str(pod["metadata"]["namespace"])
    own = str(pod["spec"].get("hostname") or pod["metadata"]["name"])
    lines = ["127.0.0.1 localhost", "::1 localhost ip6-localhost", f"{address} {own}"]
    for alias in pod["spec"].get("hostAliases") or ():
        lines.append(f"{alias['ip']} {' '.join(alias['hostnames'])}")
    lines.extend(sorted(set(_services(namespace, services, slices))))
    return "\n".join(lines) + "\n"


def _services(
    own_namespace: str,
    services: Mapping[tuple[str, str], Mapping[str, Any]],
    slices: Iterable[Mapping[str, Any]],
) -> Iterator[str]:
    for piece in slices:
        meta = piece["metadata"]
        key = (str(meta["namespace"]), str((meta.get("labels") or {}).get(LABEL_SERVICE, "")))
        service = services.get(key)
        if service is None or piece.get("addressType") != "IPv4":
            continue
        everyone = bool(service["spec"].get("publishNotReadyAddresses"))
        for endpoint in piece.get("endpoints") or ():
            if not everyone and (endpoint.get("conditions") or {}).get("ready") is False:
                continue
            names = _names(key, own_namespace, endpoint.get("hostname"))
            for address in endpoint.get("addresses") or ():
                yield f"{address} {' '.join(names)}"


def _names(key: tuple[str, str], own_namespace: str, hostname: str | None) -> list[str]:
    namespace, service = key
    base = f"{service}.{namespace}"
    names = [f"{base}.svc", f"{base}.svc.cluster.local", base]
    if namespace == own_namespace:
        names.append(service)
    if hostname:
        names += [f"{hostname}.{name}" for name in names]
    return names
