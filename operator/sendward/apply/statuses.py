"""The one writer of status and finalizers: compares first, applies with uid and resourceVersion."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from sendward import names
from sendward.apply import kinds
from sendward.apply.ports import Kind, Kube
from sendward.conditions import ConditionType
from sendward.errors import NotFound
from sendward.graph.store import Store
from sendward.resources.base import Meta, ObjectKey
from sendward.resources.parse import parse, parse_status
from sendward.resources.status import Status

_TYPES = frozenset(ConditionType)
KIND_OF: dict[str, Kind] = {kind.kind: kind for kind in kinds.OURS}


def canonical(status: Status) -> bytes:
    """One encoding of a status, so that equal ones are equal bytes."""
    return status.model_dump_json(by_alias=True, exclude_none=True).encode()


def canonical_of(obj: dict[str, Any]) -> bytes:
    """The canonical encoding of an object's status. A condition that is none of ours is left out: another
    version or somebody else keeps it, and ours would differ from it for ever. So would another order.
    """
    status = parse_status(obj["kind"], obj)
    ours = [condition for condition in status.conditions if condition.type in _TYPES]
    ours.sort(key=lambda condition: ConditionType(condition.type).rank)
    return canonical(status.model_copy(update={"conditions": ours}))


class Statuses:
    """Writes through to the Store, so that our own last write is known before the watch shows it."""

    def __init__(self, kube: Kube, store: Store, may_write: Callable[[], bool]) -> None:
        self._kube = kube
        self._store = store
        self._may_write = may_write

    def differs(self, meta: Meta, encoded: bytes) -> bool:
        """Whether the object's known status is another one. `encoded`: by `canonical`."""
        record = self._store.get(meta.key)
        return (
            record is not None
            and record.meta.uid == meta.uid
            and record.status != encoded
            and self._may_write()
        )

    async def write(self, meta: Meta, status: Status) -> bool:
        """Write a status unless it stands already. Raises Conflict when our view of it is old."""
        return await self.write_encoded(meta, canonical(status))

    async def write_encoded(self, meta: Meta, encoded: bytes) -> bool:
        """The same for one that `canonical` encoded."""
        if not self.differs(meta, encoded):
            return False
        await self._apply(meta, {"status": json.loads(encoded)}, "status")
        return True

    async def set_finalizer(self, meta: Meta, *, present: bool) -> None:
        """Add or remove our finalizer."""
        ours = [names.FINALIZER] if present else []
        if (names.FINALIZER in meta.finalizers) != present and self._may_write():
            await self._apply(meta, {"finalizers": ours}, "")

    async def _apply(self, meta: Meta, content: dict[str, Any], subresource: str) -> None:
        kind = KIND_OF[meta.key.kind]
        record = self._store.get(meta.key)
        head: dict[str, Any] = {
            "name": meta.key.name,
            "namespace": meta.key.namespace,
            "uid": meta.uid,
        }
        if record is not None and record.meta.uid == meta.uid:
            head["resourceVersion"] = record.version
        if "finalizers" in content:
            head["finalizers"] = content.pop("finalizers")
        body = {"apiVersion": names.API_VERSION, "kind": kind.kind, "metadata": head, **content}
        try:
            answer = await self._kube.apply(kind, body, subresource=subresource)
        except NotFound:
            self._store.delete(meta.key, meta.uid)
            return
        self._keep(meta.key, answer)

    def _keep(self, key: ObjectKey, answer: dict[str, Any]) -> None:
        meta = answer["metadata"]
        if "deletionTimestamp" in meta and not meta.get("finalizers"):
            return  # the last finalizer went: the watch will say so
        if self._store.get(key) is None:
            return  # the watch was faster: the object is gone, and this answer is from before
        self._store.apply(parse(answer), canonical_of(answer), meta["resourceVersion"])
