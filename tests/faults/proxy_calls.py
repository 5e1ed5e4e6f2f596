"""What a request to kube-apiserver or Vault is about. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal

Server = Literal["kube", "vault"]


class Sort(StrEnum):
    """Only mutations are numbered: how many of the others there are depends on the clock."""

    MUTATION = "mutation"
    LEASE = "lease"
    EVENT = "event"
    REVIEW = "review"  # a question to the API server that happens to be a POST
    TOKEN = "token"  # Vault: login, renewal
    DRAW = "draw"  # Vault: random bytes
    READ = "read"
    WATCH = "watch"


@dataclass(slots=True)
class Call:
    """One request, as it arrived.

    `kind` is the plural resource name ("apikeys"); of Vault the KV part ("data", "destroy",
    "metadata"), "issue" for a certificate, else the path. `name` of Vault is the path below the part.
    """

    server: Server
    sort: Sort
    method: str
    path: str
    kind: str
    namespace: str = ""
    name: str = ""
    subresource: str = ""
    number: int = 0  # 1, 2, ... for what the ledger counts
    status: int = 0  # what the server, or a rule in its place, answered; 0: nothing, or nothing yet

    def __str__(self) -> str:
        where = "/".join(part for part in (self.namespace, self.name, self.subresource) if part)
        return f"{self.server} {self.method} {self.kind} {where} {self.status or '-'}"


_READS: Final = {"GET", "HEAD", "OPTIONS", "LIST"}
_QUIET: Final = {"leases": Sort.LEASE, "events": Sort.EVENT}
_KV: Final = {"data", "metadata", "destroy", "delete", "undelete", "issue", "sign"}
_OF_NAMESPACES: Final = {"status", "finalize"}  # /namespaces/NAME/status is no resource in NAME


def kube_call(method: str, path: str, query: Mapping[str, str], body: bytes) -> Call:
    """Paths outside of /api and /apis have themselves as kind."""
    parts = path.strip("/").split("/")
    rest = parts[2:] if parts[0] == "api" else parts[3:] if parts[0] == "apis" else []
    if not rest:
        return Call("kube", Sort.READ if method in _READS else Sort.MUTATION, method, path, path)
    namespace = ""
    if len(rest) > 2 and rest[0] == "namespaces" and rest[2] not in _OF_NAMESPACES:
        namespace, rest = rest[1], rest[2:]
    kind, name, subresource = (*rest, "", "")[:3]
    if method == "POST" and not name:
        name = _name_in(body)
    if method in _READS:
        sort = Sort.WATCH if query.get("watch") in ("true", "1") else Sort.READ
    else:
        sort = Sort.REVIEW if kind.endswith("reviews") else _QUIET.get(kind, Sort.MUTATION)
    return Call("kube", sort, method, path, kind, namespace, name, subresource)


def _name_in(body: bytes) -> str:
    try:
        name = json.loads(body)["metadata"].get("name", "")
    except (ValueError, KeyError, TypeError, AttributeError):
        return ""
    return str(name)


def vault_call(method: str, path: str, query: Mapping[str, str], body: bytes) -> Call:
    """A KV call's name is `<namespace uid>/<key uid>`, a certificate's the role."""
    del query, body
    parts = path.removeprefix("/v1/").strip("/").split("/")
    kind, name = "/".join(parts), ""
    if len(parts) > 2 and parts[1] in _KV and parts[0] not in ("sys", "auth"):
        kind, name = parts[1], "/".join(parts[2:])
    if method in _READS:
        sort = Sort.READ
    elif parts[0] == "auth":
        sort = Sort.TOKEN
    else:
        sort = Sort.DRAW if kind == "sys/tools/random" else Sort.MUTATION
    return Call("vault", sort, method, path, kind, "", name)
