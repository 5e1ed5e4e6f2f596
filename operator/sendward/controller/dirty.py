"""What must be looked at again: the dirty set, the heap of due times, and who waits for which gateway."""

from __future__ import annotations

import asyncio
import heapq
from collections import defaultdict
from collections.abc import Iterable, Set
from datetime import datetime

from sendward.clock import Clock
from sendward.graph.store import Group, Store
from sendward.resources.api_key import APIKeySpec
from sendward.resources.base import ObjectKey, Resource
from sendward.resources.sender_account import SenderAccountSpec

POLICIES = ("APIKeyPolicy", "RateLimitPolicy")
_SPARE = 8  # due times that hold no longer may stay in the heap before it is made anew


class Dirty:
    """Marks spread along the references of the Store; taking empties the set."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._keys: set[ObjectKey] = set()
        self._heap: list[tuple[datetime, str, ObjectKey]] = []
        self._soonest: dict[ObjectKey, datetime] = {}
        self._waiting: dict[str, set[ObjectKey]] = defaultdict(set)
        self.wake = asyncio.Event()

    def touch(self, key: ObjectKey) -> None:
        """Look at this one object again, and at nothing that refers to it."""
        self._keys.add(key)
        self.wake.set()

    def mark(self, key: ObjectKey) -> None:
        """The object changed: look at it and at everything that refers to it."""
        self._keys.add(key)
        self._spread(key)
        self.wake.set()

    def _spread(self, key: ObjectKey) -> None:
        group = self._store.group(key.namespace)
        if key.kind == "MessagingGateway":
            self._accounts(key.namespace, group.accounts_of_gateway.get(key.name, ()))
        elif key.kind == "SenderAccount":  # its source CIDRs are part of the gateways' NetworkPolicies
            record = group.accounts.get(key.name)
            if record is not None and isinstance(record.item, Resource):
                self.touch_gateways(key.namespace, record.item.spec)
        elif key.kind in POLICIES:
            self._accounts(key.namespace, group.accounts)
        elif key.kind == "APIKey":
            record = group.keys.get(key.name)
            if record is not None and isinstance(record.item, Resource):
                spec: APIKeySpec = record.item.spec
                self._accounts(key.namespace, [spec.account])

    def mark_namespace(self, namespace: str) -> None:
        """Everything of a namespace."""
        self._all(namespace, self._store.group(namespace))

    def mark_all(self) -> None:
        """Everything."""
        for namespace, group in self._store.groups():
            self._all(namespace, group)

    def later(self, key: ObjectKey, when: datetime) -> None:
        """Look at the object again at `when`, or before if that was asked for too."""
        known = self._soonest.get(key)
        if known is None or when < known:
            self._soonest[key] = when
            heapq.heappush(self._heap, (when, str(key), key))
            self.wake.set()

    def forget(self, key: ObjectKey) -> None:
        """The object exists no more: nothing is due for it."""
        if self._soonest.pop(key, None) is not None and len(self._heap) > 2 * len(self._soonest) + _SPARE:
            self._heap = [(when, str(left), left) for left, when in self._soonest.items()]
            heapq.heapify(self._heap)

    def waits(self, gateway_uid: str, key: ObjectKey) -> None:
        """Look at the object when `released` is called for the gateway."""
        self._waiting[gateway_uid].add(key)

    def release(self, gateway_uid: str) -> None:
        """Something about the gateway's guards changed."""
        for key in self._waiting.pop(gateway_uid, ()):
            self.touch(key)

    def sweep(self, gateways: Set[str]) -> None:
        """Nobody waits for the guards of other gateways than these (uids)."""
        for uid in self._waiting.keys() - gateways:
            self.release(uid)

    def seconds_to_next(self) -> float | None:
        """Until the soonest due time; None when nothing is due ever."""
        if not self._heap:
            return None
        return max((self._heap[0][0] - self._clock.now()).total_seconds(), 0.0)

    def take(self) -> set[ObjectKey]:
        """Everything dirty or due now."""
        now = self._clock.now()
        while self._heap and self._heap[0][0] <= now:
            when, _, key = heapq.heappop(self._heap)
            if self._soonest.get(key) == when:
                del self._soonest[key]
                self._keys.add(key)
                if key.kind == "APIKey":  # a key is worked on with its account
                    self._spread(key)
        taken, self._keys = self._keys, set()
        self.wake.clear()
        return taken

    def __len__(self) -> int:
        return len(self._keys)

    def touch_gateways(self, namespace: str, spec: SenderAccountSpec) -> None:
        """Look at the gateways that an account names."""
        self._keys.update(ObjectKey("MessagingGateway", namespace, name) for name in spec.gateways)

    def _accounts(self, namespace: str, names: Iterable[str]) -> None:
        self._keys.update(ObjectKey("SenderAccount", namespace, name) for name in names)

    def _all(self, namespace: str, group: Group) -> None:
        for kind in ("MessagingGateway", "SenderAccount", "APIKey", *POLICIES):
            self._keys.update(ObjectKey(kind, namespace, name) for name in group.of(kind))
        self.wake.set()
