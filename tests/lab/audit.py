"""The audit logs of the lab's API server and Vault, line by line: who asked for what, and what came of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

_FORBIDDEN: Final = 403


@dataclass(frozen=True, slots=True)
class Call:
    """One request to the API server. `resource` has its subresource after a slash; "" is no resource."""

    at: datetime
    user: str
    verb: str
    group: str
    resource: str
    namespace: str
    name: str
    code: int
    source: str
    selector: str
    path: str

    @property
    def refused(self) -> bool:
        return self.code == _FORBIDDEN

    def __str__(self) -> str:
        place = f" in {self.namespace}" if self.namespace else ""
        return f"{self.at:%H:%M:%S} {self.user} {self.verb} {self.path}{place}: {self.code}"


@dataclass(frozen=True, slots=True)
class VaultCall:
    """One request to Vault. `operation`: create, read, update, delete, list."""

    who: str
    policies: tuple[str, ...]
    operation: str
    path: str
    source: str
    error: str


def size(path: Path) -> int:
    """Where the log ends now: what is written from here on is read with `since`."""
    return path.stat().st_size


def calls(path: Path, since: int = 0) -> list[Call]:
    """Every request, once: a watch when it began, all others when they were answered."""
    seen: set[str] = set()
    found = []
    for line in _lines(path, since):
        if line["auditID"] not in seen:
            seen.add(line["auditID"])
            found.append(_call(line))
    return found


def _call(line: dict[str, Any]) -> Call:
    ref = line.get("objectRef", {})
    parts = urlsplit(line["requestURI"])
    subresource = ref.get("subresource", "")
    return Call(
        at=datetime.fromisoformat(line["requestReceivedTimestamp"]),
        user=line["user"].get("username", ""),
        verb=line["verb"],
        group=ref.get("apiGroup", ""),
        resource="/".join(part for part in (ref.get("resource", ""), subresource) if part),
        namespace=ref.get("namespace", ""),
        name=ref.get("name", ""),
        code=int(line.get("responseStatus", {}).get("code", 0)),
        source=line.get("sourceIPs", [""])[0],
        selector="".join(parse_qs(parts.query).get("labelSelector", [])),
        path=parts.path,
    )


def vault_calls(path: Path, since: int = 0) -> list[VaultCall]:
    """Every request that Vault answered."""
    return [_vault_call(line) for line in _lines(path, since) if line.get("type") == "response"]


def _vault_call(line: dict[str, Any]) -> VaultCall:
    auth, request = line.get("auth") or {}, line["request"]
    return VaultCall(
        who=auth.get("display_name", ""),
        policies=tuple(sorted(auth.get("policies") or ())),
        operation=request["operation"],
        path=request["path"],
        source=request.get("remote_address", ""),
        error=line.get("error", ""),
    )


def _lines(path: Path, since: int) -> Iterator[dict[str, Any]]:
    with path.open("rb") as log:
        log.seek(since)
        for raw in log:
            try:
                yield json.loads(raw)
            except ValueError:
                continue  # a server that was killed leaves half a line
