"""API server and Vault without sockets: `ports.Kube` and `ports.Vault` in memory, for simulations.

The suites in tests/apply hold them to the real servers, as they do the fakes on loopback ports. A fault,
when set, hits the next call: `fail` before it is carried out, `lose` after.
"""

from __future__ import annotations

import copy
import random
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal

from sendward.apply import kinds
from sendward.apply.ports import Certificate, Kind, KVValue, Object, Page, TokenStatus, WatchEvent
from sendward.errors import Conflict, NotFound, Unavailable
from tests.fakes.kube_requests import (
    OURS,
    WITH_STATUS,
    WITHOUT_GENERATION,
    Target,
    content,
    joined,
    metadata_of,
    owned,
    selected,
)
from tests.fakes.merge import PatchFailedError, apply, json_patch
from tests.fakes.vault import Entry, Issuer, key_pem, pem

Fault = Literal["", "fail", "lose"]
Name = tuple[str, str, str]  # plural, namespace, name
_START = datetime(2026, 1, 1, tzinfo=UTC)
_TEN_YEARS = timedelta(days=3650)


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
    """KV v2 by path. `written` counts data writes; `calls` everything.

    Certificates are no certificates, and last ten years, unless there is an `issuer`.
    """

    kv: dict[str, Entry] = field(default_factory=dict)
    written: int = 0
    calls: int = 0
    source: random.Random = field(default_factory=lambda: random.Random(1))
    issuer: Issuer | None = None

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
        if self.issuer is None:
            return Certificate("chain", "key", _START, _START + _TEN_YEARS)
        leaf, key = self.issuer.issue(common_name, dns_names, timedelta(seconds=ttl_seconds))
        return Certificate(
            pem(leaf),
            key_pem(key),
            leaf.not_valid_before_utc,
            leaf.not_valid_after_utc,
        )

    def _count(self) -> None:
        self.calls += 1
        self._before()


@dataclass
class MemoryKube(_Faulty):
    """Objects by plural, namespace and name, never changed in place. `news`: what watches have not been
    told yet. `calls` counts requests by verb and kind, `writes` names what applies and deletions did.
    """

    objects: dict[Name, Object] = field(default_factory=dict)
    news: list[tuple[str, Kind, Object]] = field(default_factory=list)
    writes: list[str] = field(default_factory=list)
    calls: Counter[tuple[str, str]] = field(default_factory=Counter)
    tokens: dict[str, TokenStatus] = field(default_factory=dict)
    version: int = 100
    _uids: int = 0
    # What was applied, by uid and subresource, with the version that it made: after a backup is restored
    # an object has the owner's fields of then.
    _applied: dict[tuple[str, str], list[tuple[int, Object]]] = field(default_factory=dict)
    _changes: list[tuple[int, Kind, Object | None, Object | None]] = field(default_factory=list)
    _pages: dict[str, Page] = field(default_factory=dict)  # by continue token, the rest of a list

    # What users do.

    def put(self, kind: Kind, obj: Object) -> None:
        """Create, or change spec and labels."""
        meta = obj["metadata"]
        old = self.objects.get((kind.plural, meta["namespace"], meta["name"]))
        if old is None:
            self._add(kind, copy.deepcopy(obj))
            return
        new = copy.deepcopy(old)
        if "spec" in obj:
            new["spec"] = copy.deepcopy(obj["spec"])
        new["metadata"]["labels"] = dict(meta.get("labels", {}))
        self._store(kind, old, new)

    def erase(self, kind: Kind, namespace: str, name: str) -> None:
        """Delete, as a user does: finalizers hold the object."""
        old = self.objects.get((kind.plural, namespace, name))
        if old is None or "deletionTimestamp" in old["metadata"]:
            return
        new = copy.deepcopy(old)
        new["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        if "generation" in new["metadata"]:
            new["metadata"]["generation"] += 1
        self._store(kind, old, new)

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
        self._ask("list", kind)
        if continue_token:
            rest = self._pages.pop(continue_token)
        else:
            found = [obj for obj in self.of(kind) if selected(obj, namespace or "", label_selector)]
            shown = [metadata_of(obj) for obj in found] if metadata_only else found
            rest = Page(shown, str(self.version), "")
        if len(rest.items) <= limit:
            return rest
        token = f"{kind.plural}-{len(rest.items)}-{self.version}"
        self._pages[token] = Page(rest.items[limit:], rest.resource_version, "")
        return Page(rest.items[:limit], rest.resource_version, token)

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
        """What has happened since; then it ends, as nothing happens while a simulation waits."""
        self._ask("watch", kind)
        for version, changed, before, after in self._changes:
            if changed != kind or version <= int(resource_version):
                continue
            old, new = (
                obj is not None and selected(obj, namespace or "", label_selector) for obj in (before, after)
            )
            last = after if after is not None else before
            if last is not None and (old or new):
                shown = metadata_of(last) if metadata_only else copy.deepcopy(last)
                yield WatchEvent("MODIFIED" if old and new else "ADDED" if new else "DELETED", shown)

    async def get(self, kind: Kind, namespace: str | None, name: str) -> Object:
        self._ask("get", kind)
        return copy.deepcopy(self._found(kind, namespace, name))

    async def create(self, kind: Kind, obj: Object) -> Object:
        self._ask("create", kind)
        if _name(kind, obj) in self.objects:
            raise Conflict("taken")
        made = self._add(kind, copy.deepcopy(obj))
        self._after()
        return made

    async def replace(self, kind: Kind, obj: Object) -> Object:
        self._ask("replace", kind)
        old = self._found(kind, obj["metadata"].get("namespace"), obj["metadata"]["name"])
        _check(old, obj["metadata"])
        return self._done(kind, old, joined(Target(kind), old, obj))

    async def apply(self, kind: Kind, obj: Object, *, subresource: str = "") -> Object:
        self._ask(f"apply-{subresource}" if subresource else "apply", kind)
        self.writes.append(f"{kind.kind}/{subresource}" if subresource else kind.kind)
        meta, wanted = obj["metadata"], owned(obj)
        old = self.objects.get(_name(kind, obj))
        if old is None:
            if meta.get("uid") or subresource:
                raise NotFound(meta["name"])
            made = self._add(kind, copy.deepcopy(obj))
        else:
            _check(old, meta)
            merged = apply(old, self._owned_before(old, subresource), wanted)
            made = self._store(kind, old, joined(Target(kind, subresource=subresource), old, merged))
        uid, version = made["metadata"]["uid"], int(made["metadata"]["resourceVersion"])
        self._applied.setdefault((uid, subresource), []).append((version, wanted))
        self._after()
        return made

    def _owned_before(self, old: Object, subresource: str) -> Object:
        meta = old["metadata"]
        applied = self._applied.get((meta["uid"], subresource), [])
        return next((w for version, w in reversed(applied) if version <= int(meta["resourceVersion"])), {})

    async def patch(self, kind: Kind, namespace: str | None, name: str, operations: list[Object]) -> Object:
        self._ask("patch", kind)
        old = self._found(kind, namespace, name)
        try:
            changed = json_patch(old, operations)
        except PatchFailedError:
            raise Conflict("the JSON patch does not fit") from None
        return self._done(kind, old, joined(Target(kind), old, changed))

    async def delete(self, kind: Kind, namespace: str | None, name: str, *, uid: str = "") -> None:
        self._ask("delete", kind)
        old = self.objects.get((kind.plural, namespace or "", name))
        if old is not None and uid in ("", old["metadata"]["uid"]):
            self.writes.append(f"delete {kind.kind}")
            self.erase(kind, namespace or "", name)
        self._after()

    async def review_token(self, token: str, audience: str) -> TokenStatus:
        self._ask("create", kinds.TOKEN_REVIEW)
        known = self.tokens.get(token)
        if known is None or audience not in known.audiences:
            return TokenStatus(authenticated=False, username="", audiences=(), extra={})
        return TokenStatus(known.authenticated, known.username, (audience,), known.extra)

    # State.

    def _ask(self, verb: str, kind: Kind) -> None:
        self.calls[verb, kind.kind] += 1
        self._before()

    def _found(self, kind: Kind, namespace: str | None, name: str) -> Object:
        found = self.objects.get((kind.plural, namespace or "", name))
        if found is None:
            raise NotFound(name)
        return found

    def _done(self, kind: Kind, old: Object, new: Object) -> Object:
        stored = self._store(kind, old, new)
        self._after()
        return stored

    def _add(self, kind: Kind, obj: Object) -> Object:
        self._uids += 1
        meta = obj["metadata"]
        meta["uid"] = f"uid-{kind.kind.lower()}-{meta['name']}-{self._uids}"
        meta.setdefault("creationTimestamp", "2026-01-01T00:00:00Z")
        if kind.plural not in WITHOUT_GENERATION:
            meta["generation"] = 1
        obj |= {"apiVersion": kind.api_version, "kind": kind.kind}
        if kind.plural in WITH_STATUS:
            obj.pop("status", None)
        if kind.plural in OURS:
            obj["status"] = {"observedGeneration": -1}
        return self._record(kind, None, obj)

    def _store(self, kind: Kind, old: Object, new: Object) -> Object:
        meta = new["metadata"]
        for fixed in ("uid", "creationTimestamp", "resourceVersion"):
            meta[fixed] = old["metadata"][fixed]
        for empty in ("finalizers", "annotations", "ownerReferences"):
            if not meta.get(empty):
                meta.pop(empty, None)
        if new == old:
            return copy.deepcopy(old)
        if "generation" in old["metadata"] and content(new) != content(old):
            meta["generation"] = old["metadata"]["generation"] + 1
        return self._record(kind, old, new)

    def _record(self, kind: Kind, old: Object | None, new: Object) -> Object:
        self.version += 1
        meta = new["metadata"]
        meta["resourceVersion"] = str(self.version)
        gone = "deletionTimestamp" in meta and not meta.get("finalizers")
        name = _name(kind, new)
        if gone:
            del self.objects[name]
        else:
            self.objects[name] = new
        type_ = "DELETED" if gone else "ADDED" if old is None else "MODIFIED"
        self.news.append((type_, kind, copy.deepcopy(new)))
        self._changes.append((self.version, kind, old, None if gone else new))
        return copy.deepcopy(new)


def _name(kind: Kind, obj: Object) -> Name:
    return kind.plural, obj["metadata"].get("namespace", ""), obj["metadata"]["name"]


def _check(old: Object, asked: Object) -> None:
    if asked.get("uid", old["metadata"]["uid"]) != old["metadata"]["uid"]:
        raise NotFound("another object has this name")
    if asked.get("resourceVersion", old["metadata"]["resourceVersion"]) != old["metadata"]["resourceVersion"]:
        raise Conflict("somebody wrote since")
