"""API server and Vault without sockets: `ports.Kube` and `ports.Vault` in memory, for simulations.

They keep what decisions depend on: resourceVersions, uids, finalizers, check-and-set, destroyed
versions. A fault, when set, hits the next call: `fail` before it is carried out, `lose` after.
"""

from __future__ import annotations

import copy
import random
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal

from sendward.apply import kinds
from sendward.apply.ports import (
    Certificate,
    Gone,
    Kind,
    KVValue,
    Object,
    Page,
    TokenStatus,
    WatchEvent,
)
from sendward.errors import Conflict, NotFound, Unavailable
from tests.fakes.vault import Entry

Fault = Literal["", "fail", "lose"]
Name = tuple[str, str, str]  # plural, namespace, name


@dataclass
class _Faulty:
    fault: Fault = ""
    down: bool = False

    def _before(self) -> None:
        if self.down:
            raise Unavailable("down")
        if self.fault == "fail":
            self.fault = ""
            raise Unavailable("no answer, and nothing was done")

    def _after(self) -> None:
        if self.fault == "lose":
            self.fault = ""
            raise Unavailable("the answer was lost")


@dataclass
class MemoryVault(_Faulty):
    """KV v2 by path. `written` counts data writes; `calls` everything."""

    kv: dict[str, Entry] = field(default_factory=dict)
    written: int = 0
    calls: int = 0
    source: random.Random = field(default_factory=lambda: random.Random(1))

    async def random(self, count: int) -> bytes:
        self._count()
        return self.source.randbytes(count)

    async def kv_write(self, path: str, data: Mapping[str, str], cas: int) -> int:
        self._count()
        entry = self.kv.get(path, Entry())
        if cas != entry.current:
            raise Conflict("check-and-set")
        number = entry.current + 1
        entry.versions[number] = dict(data)
        self.kv[path] = entry
        self.written += 1
        self._after()
        return number

    async def kv_read(self, path: str, version: int = 0) -> KVValue | None:
        self._count()
        entry = self.kv.get(path)
        number = version or (entry.current if entry else 0)
        if entry is None or number not in entry.versions:
            return None
        return KVValue(number, entry.versions[number])

    async def kv_destroy(self, path: str, versions: list[int]) -> None:
        self._count()
        entry = self.kv.get(path, Entry())
        for number in versions:
            if number in entry.versions:
                entry.versions[number] = None
        self._after()

    async def kv_delete(self, path: str) -> None:
        self._count()
        self.kv.pop(path, None)
        self._after()

    async def kv_list(self, prefix: str) -> list[str]:
        self._count()
        return sorted(path.removeprefix(f"{prefix}/") for path in self.kv if path.startswith(f"{prefix}/"))

    async def issue_certificate(
        self, common_name: str, dns_names: list[str], ttl_seconds: int
    ) -> Certificate:
        self._count()
        start = datetime(2026, 1, 1, tzinfo=UTC)
        return Certificate("chain", "key", start, start + timedelta(days=3650))

    def _count(self) -> None:
        self.calls += 1
        self._before()


@dataclass
class MemoryKube(_Faulty):
    """Objects by plural, namespace and name. `news`: what watches have not been told yet."""

    objects: dict[Name, Object] = field(default_factory=dict)
    news: list[tuple[str, Kind, Object]] = field(default_factory=list)
    writes: list[str] = field(default_factory=list)
    version: int = 100
    _uids: int = 0

    # What users do.

    def put(self, kind: Kind, obj: Object) -> None:
        """Create, or change spec and labels."""
        meta = obj["metadata"]
        old = self.objects.get((kind.plural, meta["namespace"], meta["name"]))
        if old is None:
            self._add(kind, copy.deepcopy(obj))
            return
        new = copy.deepcopy(old)
        if obj.get("spec") != old.get("spec"):
            new["spec"] = copy.deepcopy(obj["spec"])
            new["metadata"]["generation"] += 1
        new["metadata"]["labels"] = dict(meta.get("labels", {}))
        self._store(kind, new)

    def erase(self, kind: Kind, namespace: str, name: str) -> None:
        """Delete, as a user does: finalizers hold the object."""
        obj = self.objects.get((kind.plural, namespace, name))
        if obj is None or "deletionTimestamp" in obj["metadata"]:
            return
        new = copy.deepcopy(obj)
        new["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        new["metadata"]["generation"] += 1
        self._store(kind, new)

    def of(self, kind: Kind) -> list[Object]:
        """All objects of a kind, copied."""
        return [copy.deepcopy(obj) for name, obj in sorted(self.objects.items()) if name[0] == kind.plural]

    # ports.Kube

    async def page(
        self,
        kind: Kind,
        *,
        namespace: str | None = None,
        label_selector: str = "",
        metadata_only: bool = False,
        limit: int = 500,
        continue_token: str = "",
    ) -> Page:
        self._before()
        return Page(self.of(kind), str(self.version), "")

    async def watch(
        self,
        kind: Kind,
        resource_version: str,
        *,
        namespace: str | None = None,
        label_selector: str = "",
        metadata_only: bool = False,
        timeout_seconds: int = 290,
    ) -> AsyncIterator[WatchEvent]:
        raise Gone("read `news`")
        yield

    async def get(self, kind: Kind, namespace: str | None, name: str) -> Object:
        self._before()
        found = self.objects.get((kind.plural, namespace or "", name))
        if found is None:
            raise NotFound(name)
        return copy.deepcopy(found)

    async def create(self, kind: Kind, obj: Object) -> Object:
        self._before()
        if (kind.plural, obj["metadata"]["namespace"], obj["metadata"]["name"]) in self.objects:
            raise Conflict("taken")
        return self._add(kind, copy.deepcopy(obj))

    async def replace(self, kind: Kind, obj: Object) -> Object:
        raise NotImplementedError

    async def apply(self, kind: Kind, obj: Object, *, subresource: str = "") -> Object:
        self._before()
        meta = obj["metadata"]
        self.writes.append(f"{kind.kind}/{subresource}" if subresource else kind.kind)
        old = self.objects.get((kind.plural, meta["namespace"], meta["name"]))
        if old is None:
            if meta.get("uid"):
                raise NotFound(meta["name"])
            answer = self._add(kind, copy.deepcopy(obj))
            self._after()
            return answer
        for fixed in ("uid", "resourceVersion"):
            if meta.get(fixed, old["metadata"][fixed]) != old["metadata"][fixed]:
                raise Conflict(fixed)
        new = copy.deepcopy(old)
        if subresource:
            new[subresource] = copy.deepcopy(obj[subresource])
        else:
            new |= {part: copy.deepcopy(obj[part]) for part in obj if part not in ("metadata", "status")}
            for part in ("labels", "annotations", "finalizers", "ownerReferences"):
                if part in meta:
                    new["metadata"][part] = copy.deepcopy(meta[part])
        answer = self._store(kind, new)
        self._after()
        return answer

    async def patch(self, kind: Kind, namespace: str | None, name: str, operations: list[Object]) -> Object:
        raise NotImplementedError

    async def delete(self, kind: Kind, namespace: str | None, name: str, *, uid: str = "") -> None:
        self._before()
        old = self.objects.get((kind.plural, namespace or "", name))
        if old is not None and uid in ("", old["metadata"]["uid"]):
            self.writes.append(f"delete {kind.kind}")
            self.erase(kind, namespace or "", name)
        self._after()

    async def review_token(self, token: str, audience: str) -> TokenStatus:
        raise NotImplementedError

    # State.

    def _add(self, kind: Kind, obj: Object) -> Object:
        self._uids += 1
        self.version += 1
        meta = obj["metadata"]
        uid = f"uid-{kind.kind.lower()}-{meta['name']}-{self._uids}"
        meta |= {"uid": uid, "generation": 1, "resourceVersion": str(self.version)}
        meta.setdefault("creationTimestamp", "2026-01-01T00:00:00Z")
        obj |= {"apiVersion": kind.api_version, "kind": kind.kind}
        if kind in kinds.OURS:
            obj["status"] = {"observedGeneration": -1}
        self.objects[kind.plural, meta["namespace"], meta["name"]] = obj
        self.news.append(("ADDED", kind, copy.deepcopy(obj)))
        return copy.deepcopy(obj)

    def _store(self, kind: Kind, obj: Object) -> Object:
        meta = obj["metadata"]
        name = (kind.plural, meta["namespace"], meta["name"])
        if obj == self.objects[name]:
            return copy.deepcopy(obj)
        self.version += 1
        meta["resourceVersion"] = str(self.version)
        gone = "deletionTimestamp" in meta and not meta.get("finalizers")
        if gone:
            del self.objects[name]
        else:
            self.objects[name] = obj
        self.news.append(("DELETED" if gone else "MODIFIED", kind, copy.deepcopy(obj)))
        return copy.deepcopy(obj)
