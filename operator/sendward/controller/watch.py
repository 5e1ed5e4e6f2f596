"""From watches to the Store: parse, keep, mark dirty. Doorways without decisions; nothing here raises.

Our kinds that come by the ten thousand, and everything that needs a label selector, are watched by
our own informers; the other kinds come through kopf (`handlers`).
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import structlog

from sendward import names
from sendward.apply import kinds
from sendward.apply.objects import Objects, Target
from sendward.apply.ports import Kind
from sendward.apply.statuses import canonical_of
from sendward.controller.dirty import Dirty
from sendward.controller.gateways import Gateways
from sendward.controller.keysteps import ANNOTATION_VERSION, KeySteps
from sendward.controller.pods import parse_pod
from sendward.graph.facts import Namespace, Pod
from sendward.graph.store import Record, Store
from sendward.resources.api_key import APIKeySpec
from sendward.resources.base import ObjectKey, Resource
from sendward.resources.parse import parse
from sendward.resources.sender_account import SenderAccountSpec

Raw = dict[str, Any]
_log = structlog.get_logger(__name__)


class Resources:
    """Objects of our own kinds. `key_gone` hears the uid of each APIKey that exists no more."""

    def __init__(self, store: Store, dirty: Dirty, key_gone: Callable[[str], None]) -> None:
        self._store = store
        self._dirty = dirty
        self._key_gone = key_gone
        self._told: dict[str, set[ObjectKey]] = {}  # by kind, while it is listed
        # By kind: a watch began anew, and does not tell what vanished before.
        self.gaps: dict[str, asyncio.Event] = defaultdict(asyncio.Event)

    def versions(self, kind: str) -> dict[ObjectKey, int]:
        """The resourceVersion of every object of a kind that is known."""
        records = (record for _, group in self._store.groups() for record in group.of(kind).values())
        return {record.meta.key: int(record.version) for record in records if record.version.isdigit()}

    def listen(self, kind: str) -> set[ObjectKey]:
        """A listing beside the watch begins: what is told from now on, until `reset`, is newer than it."""
        self._told[kind] = set()
        return self._told[kind]

    def event(self, kind: str, raw: Raw) -> None:
        """ADDED, MODIFIED, or a line of a list."""
        if kind in self._told:
            self._told[kind].add(_key(kind, raw))
        version = str(raw.get("metadata", {}).get("resourceVersion", ""))
        if self._knows(kind, raw, version):
            return
        full = {**raw, "kind": kind, "apiVersion": names.API_VERSION}
        item = parse(full)
        before = self._store.get(item.meta.key)
        if self._store.apply(item, canonical_of(full), version):
            self._dirty.mark(item.meta.key)
            if before is not None:
                self._left(before)

    def _knows(self, kind: str, raw: Raw, version: str) -> bool:
        """Whether it is the echo of our own write, or a line of a list that is no news: not worth parsing."""
        meta = raw.get("metadata", {})
        record = self._store.get(_key(kind, raw))
        return record is not None and (record.meta.uid, record.version) == (meta.get("uid"), version)

    def _left(self, before: Record) -> None:
        """What the object referred to before, and perhaps refers to no more."""
        namespace = before.meta.key.namespace
        match before.item:
            case Resource(spec=APIKeySpec() as spec):
                self._dirty.touch(ObjectKey("SenderAccount", namespace, spec.account))
            case Resource(spec=SenderAccountSpec() as spec):
                self._dirty.touch_gateways(namespace, spec)

    def deleted(self, kind: str, raw: Raw) -> None:
        """DELETED."""
        key = _key(kind, raw)
        if kind in self._told:
            self._told[kind].add(key)
        self._forget(key, str(raw.get("metadata", {}).get("uid", "")))

    def reset(self, kind: str, seen: set[ObjectKey]) -> None:
        """After a full listing: what it did not show, and nobody told of meanwhile, is gone."""
        seen = seen | self._told.pop(kind, set())
        for record in [r for _, group in self._store.groups() for r in group.of(kind).values()]:
            if record.meta.key not in seen:
                self._forget(record.meta.key, record.meta.uid)

    def _forget(self, key: ObjectKey, uid: str) -> None:
        record = self._store.get(key)
        if record is None or record.meta.uid != uid:
            return
        self._dirty.forget(key)
        self._dirty.mark(key)  # while its references still stand
        self._store.delete(key, uid)
        self._dirty.mark(key)
        if key.kind == "APIKey":
            self._key_gone(uid)


def _key(kind: str, raw: Raw) -> ObjectKey:
    meta = raw.get("metadata", {})
    return ObjectKey(kind, str(meta.get("namespace", "")), str(meta.get("name", "")))


class Pods:
    """Pods of gateways, and who must hear of them."""

    def __init__(
        self,
        store: Store,
        gone: Callable[[str], None],
        changed: Callable[[str, str], None],
    ) -> None:
        self._store = store
        self._gone = gone
        self._changed = changed

    def event(self, raw: Raw) -> None:
        """ADDED, MODIFIED, or a line of a list."""
        pod = parse_pod(raw)
        if pod is None:  # its containers have ended for good: nobody may wait for its guard
            self.deleted(raw)
            return
        before = self._store.pod(pod.namespace, pod.name)
        if before is not None and before.uid != pod.uid:
            self._gone(before.uid)
        if self._store.set_pod(pod):
            self._changed(pod.namespace, pod.gateway)

    def deleted(self, raw: Raw) -> None:
        """DELETED."""
        meta = raw.get("metadata", {})
        self._forget(self._store.drop_pod(str(meta.get("namespace", "")), str(meta.get("name", ""))))

    def reset(self, seen: set[tuple[str, str]]) -> None:
        """After a full listing."""
        for namespace, group in self._store.groups():
            for name in [name for name in group.pods if (namespace, name) not in seen]:
                self._forget(self._store.drop_pod(namespace, name))

    def _forget(self, pod: Pod | None) -> None:
        if pod is not None:
            self._gone(pod.uid)
            self._changed(pod.namespace, pod.gateway)


class Namespaces:
    """Namespaces and whether they are onboarded. `own` is the operator's, which never is: objects of its
    own would have the names of tenants'.
    """

    def __init__(self, store: Store, dirty: Dirty, onboarded: Callable[[str, bool], None], own: str) -> None:
        self._store = store
        self._dirty = dirty
        self._onboarded = onboarded
        self._own = own

    def event(self, raw: Raw) -> None:
        """ADDED, MODIFIED, or a line of a list."""
        meta = raw.get("metadata", {})
        labels = meta.get("labels") or {}
        labelled = labels.get(names.LABEL_ONBOARDED) == "true"
        own = meta["name"] == self._own
        found = Namespace(meta["name"], meta["uid"], labelled and not own, "deletionTimestamp" in meta, own)
        before = self._store.namespaces.get(found.name)
        if before == found:
            return
        if labelled and own:
            _log.warning(
                "the operator's own namespace cannot be onboarded: remove the label",
                namespace=found.name,
                label=names.LABEL_ONBOARDED,
            )
        self._store.namespaces[found.name] = found
        if found.onboarded or (before is not None and before.onboarded):
            self._onboarded(found.name, found.onboarded)
        self._dirty.mark_namespace(found.name)

    def deleted(self, raw: Raw) -> None:
        """DELETED."""
        name = raw.get("metadata", {}).get("name", "")
        before = self._store.namespaces.pop(name, None)
        if before is not None and before.onboarded:
            self._onboarded(name, False)

    def reset(self, seen: set[str]) -> None:
        """After a full listing."""
        for name in [name for name in self._store.namespaces if name not in seen]:
            self.deleted({"metadata": {"name": name}})


class Owned:
    """Objects that carry our label: drift of them, and what their annotations tell."""

    def __init__(
        self, objects: Objects, gateways: Gateways, steps: KeySteps, leads: Callable[[], bool] = lambda: True
    ) -> None:
        self._objects = objects
        self._leads = leads
        self._gateways = gateways
        self._steps = steps

    def event(self, kind: Kind, raw: Raw) -> None:
        """ADDED, MODIFIED, or a line of a list. Of Secrets only metadata."""
        meta = raw["metadata"]
        owner = meta.get("labels", {}).get(names.LABEL_OWNER_UID, "")
        target = Target(kind, meta["namespace"], meta["name"])
        known = target in self._objects
        self._objects.seen(target, raw, owner)
        if kind == kinds.SECRET and (not known or not self._leads()):
            self._read(meta, owner, believed=self._objects.stands(target))

    def _read(self, meta: Raw, owner: str, *, believed: bool) -> None:
        """What another process says of its write is believed; what somebody changed since is not."""
        annotations = (meta.get("annotations") or {}) if believed else {}
        part = meta.get("labels", {}).get(names.LABEL_PART)
        if part == "tls":
            self._gateways.seen_tls(meta["namespace"], owner, annotations)
        elif part == "hand-over":
            self._steps.saw_hand_over(meta["namespace"], owner, annotations.get(ANNOTATION_VERSION, ""))

    def deleted(self, kind: Kind, raw: Raw) -> None:
        """DELETED."""
        meta = raw["metadata"]
        self._objects.gone(Target(kind, meta["namespace"], meta["name"]), meta["uid"])
