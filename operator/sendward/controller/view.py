"""What the hub may know of the cluster, and how its news reach the loop."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from sendward import names
from sendward.controller.dirty import Dirty
from sendward.controller.documents import Documents, GatewayDocument
from sendward.graph.acknowledgement import expected
from sendward.graph.facts import Pod
from sendward.graph.store import Store
from sendward.resources.base import ObjectKey


class View:
    """Pods and gateways as the Store has them (`hub_auth.View`)."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._documents: Documents | None = None

    def use(self, documents: Documents) -> None:
        """Set once this process leads."""
        self._documents = documents

    def pod(self, namespace: str, name: str) -> Pod | None:
        return self._store.pod(namespace, name)

    def gateway_uid(self, namespace: str, gateway: str) -> str | None:
        found = self._store.namespaces.get(namespace)
        if found is None or not found.onboarded:
            return None  # nothing is decided for its guards: what they have must grow stale
        record = self._store.group(namespace).gateways.get(gateway)
        return record.meta.uid if record else None

    def pods(self, gateway_uid: str) -> Iterable[Pod]:
        found = self._documents.get(gateway_uid) if self._documents else None
        return self._store.pods_of(found.namespace, found.name) if found else ()

    def stale_after(self, gateway_uid: str) -> int | None:
        found = self._documents.get(gateway_uid) if self._documents else None
        return found.stale_after if found else None

    def counters(self, gateway_uid: str) -> str:
        found = self._documents.get(gateway_uid) if self._documents else None
        redis = found.gateway.counters if found and found.gateway else None
        return redis.place if redis else ""


class Sidecars:
    """Wakes what waits for guards. A gateway that gains its first expected guard, or loses its last,
    concerns all its accounts; everything else only those that wait.
    """

    def __init__(self, store: Store, dirty: Dirty, view: View) -> None:
        self._store = store
        self._dirty = dirty
        self._view = view
        self._any: dict[ObjectKey, bool] = {}

    def changed(self, namespace: str, gateway: str) -> None:
        """A pod of the gateway came, went or changed."""
        key = ObjectKey("MessagingGateway", namespace, gateway)
        present = bool(expected(self._store.pods_of(namespace, gateway), {}, None, _NEVER))
        if self._any.get(key, False) != present:
            self._any[key] = present
            self._dirty.mark(key)
        else:
            self._dirty.touch(key)
        uid = self._view.gateway_uid(namespace, gateway)
        if uid is not None:
            self._dirty.release(uid)
        if not present and not self._store.pods_of(namespace, gateway):
            self._any.pop(key, None)

    def heard(self, documents: Documents, gateway_uid: str, part: str, now: datetime) -> None:
        """The hub heard of a guard of the gateway: of one part, or "" for its connection."""
        found = documents.get(gateway_uid)
        if found is None:
            self._dirty.release(gateway_uid)
            return
        if part in ("", names.PART_GATEWAY):
            self._dirty.touch(ObjectKey("MessagingGateway", found.namespace, found.name))
        self.progressed(documents, found, [part] if part else found.envelopes, now)

    def progressed(
        self, documents: Documents, found: GatewayDocument, parts: Iterable[str], now: datetime
    ) -> None:
        """Wake who waits for those of the parts that are further than before."""
        pods = self._store.pods_of(found.namespace, found.name)
        for part in parts:
            if documents.progressed(found, part, pods, now):
                self._dirty.release(found.uid, part)


_NEVER = datetime.max.replace(tzinfo=UTC)
