"""What a request to the fake API server asks for, and how objects are shown and joined."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from aiohttp import web

from sendward.apply import kinds
from sendward.apply.ports import Kind
from tests.fakes.merge import Object

OURS: Final = {kind.plural for kind in kinds.OURS}
WITH_STATUS: Final = OURS | {"pods", "services", "namespaces"}
WITHOUT_GENERATION: Final = {"secrets", "configmaps", "pods", "services", "namespaces", "leases", "events"}


@dataclass(slots=True)
class Target:
    kind: Kind
    namespace: str = ""
    name: str = ""
    subresource: str = ""


class RefusedError(Exception):
    def __init__(self, code: int, reason: str, message: str, **details: Any) -> None:
        super().__init__(message)
        self.code = code
        self.status = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": message,
            "reason": reason,
            "details": details,
            "code": code,
        }


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def target_of(path: str) -> Target:
    parts = path.strip("/").split("/")
    group, version, rest = ("", parts[1], parts[2:]) if parts[0] == "api" else (*parts[1:3], parts[3:])
    namespace = ""
    if len(rest) > 2 and rest[0] == "namespaces":
        namespace, rest = rest[1], rest[2:]
    for kind in kinds.ALL:
        if (kind.group, kind.version, kind.plural) == (group, version, rest[0]):
            return Target(kind, namespace, *rest[1:3])
    raise RefusedError(404, "NotFound", "the server could not find the requested resource")


def visible(target: Target, request: web.Request, body: Object | None) -> bool:
    return body is not None and selected(body, target.namespace, request.query.get("labelSelector", ""))


def selected(body: Object, namespace: str, label_selector: str) -> bool:
    if namespace and body["metadata"].get("namespace") != namespace:
        return False
    labels = body["metadata"].get("labels") or {}
    for term in filter(None, label_selector.split(",")):
        key, equals, value = term.partition("=")
        if (labels.get(key) != value) if equals else (key not in labels):
            return False
    return True


def seen(request: web.Request, body: Object) -> Object:
    if "PartialObjectMetadata" not in request.headers.get("Accept", ""):
        return body
    return metadata_of(body)


def metadata_of(body: Object) -> Object:
    return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": body["metadata"]}


def check(body: Object, asked: Object, target: Target) -> None:
    meta = body["metadata"]
    if asked.get("uid") and asked["uid"] != meta["uid"]:
        raise RefusedError(409, "Conflict", f"Precondition failed: UID in precondition: {asked['uid']}")
    if asked.get("resourceVersion") and asked["resourceVersion"] != meta["resourceVersion"]:
        message = f'Operation cannot be fulfilled on {target.kind.plural} "{target.name}": modified'
        raise RefusedError(409, "Conflict", message)


def joined(target: Target, before: Object, body: Object) -> Object:
    """The status from one side, everything else from the other, as the subresource says."""
    if target.kind.plural not in WITH_STATUS:
        return copy.deepcopy(body)
    base, status = (before, body) if target.subresource == "status" else (body, before)
    joined = copy.deepcopy(base)
    joined.pop("status", None)
    if "status" in status:
        joined["status"] = copy.deepcopy(status["status"])
    return joined


def owned(patch: Object) -> Object:
    owned = copy.deepcopy(patch)
    for key in ("uid", "resourceVersion", "name", "namespace"):
        owned["metadata"].pop(key, None)
    return owned


def content(body: Object) -> Object:
    return {key: value for key, value in body.items() if key not in {"metadata", "status"}}
