"""Writes the objects that the operator owns, only when they differ, and notices foreign changes.

Secrets are watched as metadata, so their content is compared by an annotation that holds its hash,
and a foreign change by a resourceVersion that is not the answer to one of our writes.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Container
from dataclasses import dataclass
from typing import Any, Final

from sendward import names
from sendward.apply.ports import Kind, Kube, Object
from sendward.errors import NotFound, Rejected

ANNOTATION_HASH: Final = "sendward.io/content-hash"


@dataclass(slots=True)
class _Known:
    digest: str
    version: str
    uid: str
    owner: str
    writing: bool = False
    shown: str = ""  # what the annotation said last
    seen: str = ""  # newest version that a watch showed while we were writing
    lost: str | None = None  # uid of what was deleted while we were writing; "": not known


@dataclass(frozen=True, slots=True)
class Target:
    """Names one object of any kind."""

    kind: Kind
    namespace: str
    name: str


def content_hash(obj: Object) -> str:
    """Hash of everything that we declare of an object, but for the annotation that holds it."""
    annotations = dict(obj["metadata"].get("annotations", {}))
    annotations.pop(ANNOTATION_HASH, None)
    plain = {**obj, "metadata": {**obj["metadata"], "annotations": annotations}}
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:32]


class Objects:
    """The registry of owned objects. `drifted(owner uid, target)` is called after a foreign change, and
    never before `ensure` has returned: what its caller notes of its own write must not undo the news.

    `ends(namespace)`: Kubernetes is removing the namespace. Nothing can be created there any more, our
    rights in it go too, and what we own goes by itself: nothing is written or deleted.
    `leads`: who does not takes a change that brings another annotation for one of the leader's, and the
    annotation at its word, as a new process does: else it would write everything again once it leads.
    """

    def __init__(
        self,
        kube: Kube,
        drifted: Callable[[str, Target], None],
        ends: Callable[[str], bool] = lambda _: False,
        leads: Callable[[], bool] = lambda: True,
    ) -> None:
        self._kube = kube
        self._leads = leads
        self._drifted = drifted
        self._ends = ends
        self._known: dict[Target, _Known] = {}

    def __contains__(self, target: Target) -> bool:
        return target in self._known

    def owned_by(self, owner: str) -> list[Target]:
        """All objects that carry the owner's uid."""
        return [target for target, known in self._known.items() if known.owner == owner]

    def seen(self, target: Target, obj: Object, owner: str) -> None:
        """A list or watch showed the object (at least its metadata)."""
        meta = obj["metadata"]
        version: str = meta["resourceVersion"]
        digest = meta.get("annotations", {}).get(ANNOTATION_HASH, "")
        known = self._known.get(target)
        if known is None:
            self._known[target] = _Known(digest, version, meta["uid"], owner, shown=digest)
        elif known.writing:
            known.seen = version
        elif version != known.version and not _older(version, known.version):
            written = not self._leads() and digest != known.shown  # by the leader
            known.version, known.uid = version, meta["uid"]
            known.digest, known.shown = digest if written else "", digest
            if not written:
                self._drifted(known.owner, target)  # the label that names the owner may be what was edited

    def stands(self, target: Target) -> bool:
        """Whether the object is, as far as is known, what we or another process of ours wrote."""
        known = self._known.get(target)
        return known is not None and known.digest != ""

    def sweep(self, namespaces: Container[str]) -> None:
        """Forget what was in namespaces that exist no more."""
        for target in [target for target in self._known if target.namespace not in namespaces]:
            del self._known[target]

    def distrust(self, target: Target) -> None:
        """The object's content is not what its annotation says: the next `ensure` writes it."""
        known = self._known.get(target)
        if known is not None:
            known.digest = ""

    def gone(self, target: Target, uid: str = "") -> None:
        """A watch showed that the object with this uid is deleted, or a full list did not show any."""
        known = self._known.get(target)
        if known is None:
            return
        if known.writing:
            known.lost = uid
            return
        del self._known[target]
        self._drifted(known.owner, target)

    def ghosts(self, kind: Kind, namespace: str | None, present: set[Target]) -> None:
        """After a full listing: what it did not show is gone."""
        for target in list(self._known):
            inside = namespace is None or target.namespace == namespace
            if target.kind == kind and inside and target not in present:
                self.gone(target)

    async def ensure(self, kind: Kind, obj: Object, owner: str, *, take_over: bool = True) -> bool:
        """Apply the object unless it stands as declared. True when it was written.

        `take_over` False: its name may be in use, and what is not ours stays as it is (Rejected).
        """
        meta = obj["metadata"]
        target = Target(kind, meta["namespace"], meta["name"])
        if self._ends(target.namespace):
            return False
        digest = content_hash(obj)
        known = self._known.get(target)
        if known is not None and known.digest == digest:
            return False
        if known is None and not take_over:
            await self._refuse_foreign(target, owner)
            known = self._known.get(target)  # a watch may have shown it meanwhile
        if known is None:
            known = self._known[target] = _Known("", "", "", owner)
        meta["annotations"] = {**meta.get("annotations", {}), ANNOTATION_HASH: digest}
        known.writing, known.seen, known.lost = True, "", None
        try:
            answer: dict[str, Any] = await self._kube.apply(kind, obj)
        except BaseException:
            known.digest = ""  # whether it was written, and what stands there, is not known
            if self._known.get(target) is known and not known.version:
                del self._known[target]
            raise
        finally:
            known.writing = False
        version = answer["metadata"]["resourceVersion"]
        known.digest, known.version, known.uid = digest, version, answer["metadata"]["uid"]
        known.owner, known.shown = owner, digest
        deleted = known.lost is not None and known.lost in ("", known.uid)
        if deleted or (known.seen and _older(version, known.seen)):  # by somebody, after our write
            known.digest = ""
            asyncio.get_running_loop().call_soon(self._drifted, owner, target)
        return True

    async def remove(self, target: Target, owner: str = "") -> None:
        """Delete an object of ours (of `owner`, a uid); absent is success, and so is somebody else's."""
        known = self._known.pop(target, None)
        if self._ends(target.namespace):
            return
        uid = known.uid if known else ""
        if not uid:  # no watch has shown one of ours: there may be none, or our last write is just done
            found = await self._find(target)
            if found is None or not _is_ours(found, owner):
                return
            uid = found["metadata"]["uid"]
        await self._kube.delete(target.kind, target.namespace, target.name, uid=uid)

    async def _refuse_foreign(self, target: Target, owner: str) -> None:
        found = await self._find(target)
        if found is not None and not _is_ours(found, owner):
            raise Rejected(
                f"{target.kind.kind} {target.name} exists and is not Sendward's. Delete or rename it"
            )

    async def _find(self, target: Target) -> Object | None:
        try:
            return await self._kube.get(target.kind, target.namespace, target.name)
        except NotFound:
            return None


def _is_ours(obj: Object, owner: str) -> bool:
    """By our label, or, where somebody removed it, by the owner that only we write there."""
    meta = obj["metadata"]
    labels = meta.get("labels") or {}
    owners = {reference["uid"] for reference in meta.get("ownerReferences") or ()}
    return labels.get(names.LABEL_MANAGED_BY) == "sendward" or owner in owners


def _older(version: str, than: str) -> bool:
    return version.isdigit() and than.isdigit() and int(version) < int(than)
