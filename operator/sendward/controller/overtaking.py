"""A guard has something newer than this leader knows: an earlier leader died before it had stored a part,
or etcd was restored from a backup, and then the statuses are old too.

Which of the two it is nobody can tell. So the part is sealed above what the guard has, as it must be, but
only after Vault was asked about the keys in it: a version that ended since the backup must not come back.
"""

from __future__ import annotations

from collections.abc import Callable

from sendward import names
from sendward.controller.dirty import Dirty
from sendward.controller.documents import Documents, GatewayDocument, Order
from sendward.controller.keysteps import KeySteps
from sendward.graph.store import Store
from sendward.resources.base import ObjectKey, Resource


class Overtaking:
    """`overtaken(gateway uid)` is called when a part of it will be sealed anew."""

    def __init__(
        self,
        store: Store,
        documents: Documents,
        steps: KeySteps,
        dirty: Dirty,
        overtaken: Callable[[str], None],
    ) -> None:
        self._store = store
        self._documents = documents
        self._steps = steps
        self._dirty = dirty
        self._overtaken = overtaken
        self._ahead: dict[tuple[str, str], tuple[Order, set[str]]] = {}  # by gateway uid and part

    def ahead(self, gateway_uid: str, part: str, order: Order) -> None:
        """A guard has the part in this order."""
        found = self._documents.get(gateway_uid)
        if found is None:
            return
        known = self._ahead.get((gateway_uid, part))
        keys = self._doubt(found, part) if known is None else known[1]
        self._ahead[gateway_uid, part] = (max(order, known[0]) if known else order, keys)
        # Whatever is sealed in the meantime, a revocation say, must be above it already.
        found.revision = max(found.revision, order[1])
        self._dirty.touch(ObjectKey("MessagingGateway", found.namespace, found.name))

    def settle(self) -> None:
        """In a pass, before documents are sealed: parts about whose keys Vault was asked are due."""
        for (gateway_uid, part), (order, keys) in list(self._ahead.items()):
            if not keys & self._steps.unverified:
                del self._ahead[gateway_uid, part]
                self._documents.overtake(gateway_uid, part, order)
                self._overtaken(gateway_uid)

    def _doubt(self, found: GatewayDocument, part: str) -> set[str]:
        """The keys in the part, as far as they are declared."""
        if part == names.PART_GATEWAY:
            return set()
        held = {key.uid for account in found.accounts[int(part)].values() for key in account.keys}
        group = self._store.group(found.namespace)
        keys = {
            record.meta.uid: record.meta.key
            for record in group.keys.values()
            if record.meta.uid in held and isinstance(record.item, Resource) and not record.meta.deleting
        }
        for uid, key in keys.items():
            self._steps.doubt(uid)
            self._dirty.mark(key)
        return set(keys)
