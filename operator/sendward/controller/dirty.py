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
_JUMP_SECONDS = 1.0  # that the clock differs from the monotonic one all at once
_SPARE = 8  # due times that hold no longer may stay in the heap before it is made anew


class Dirty:
    """Marks spread along the references of the Store; taking empties the set."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._keys: set[ObjectKey] = set()
        self._heap: list[tuple[datetime, str, ObjectKey]] = []
        self._soonest: dict[ObjectKey, datetime] = {}
        self._skew = self._present_skew()
        self._waiting: dict[str, dict[str, set[ObjectKey]]] = defaultdict(lambda: defaultdict(set))
        self.wake = asyncio.Event()

    def _present_skew(self) -> float:
        return self._clock.now().timestamp() - self._clock.monotonic()

    def _jumped(self) -> bool:
        """Whether somebody set the clock since the last `take`."""
        return abs(self._present_skew() - self._skew) > _JUMP_SECONDS

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

    def waits(self, gateway_uid: str, part: str, key: ObjectKey) -> None:
        """Look at the object when `release` is called for the gateway and the part ("": any part)."""
        self._waiting[gateway_uid][part].add(key)

    def release(self, gateway_uid: str, part: str = "") -> None:
        """Something about the gateway's guards changed, or only about one part of the document in them."""
        waiting = self._waiting.get(gateway_uid, {})
        for each in (part, "") if part else list(waiting):
            for key in waiting.pop(each, ()):
                self.touch(key)
        if not waiting:
            self._waiting.pop(gateway_uid, None)

    def sweep(self, gateways: Set[str]) -> None:
        """Nobody waits for the guards of other gateways than these (uids)."""
        for uid in self._waiting.keys() - gateways:
            self.release(uid)

    def seconds_to_next(self) -> float | None:
        """Until the soonest due time; None when nothing is due ever."""
        if not self._heap:
            return None
        if self._jumped():
            return 0.0
        return max((self._heap[0][0] - self._clock.now()).total_seconds(), 0.0)

    def take(self) -> set[ObjectKey]:
        """Everything dirty or due now; after a jump of the clock everything that is due ever, since what
        was meant as "in two seconds" stands there as a time of day.
        """
        now, jumped = self._clock.now(), self._jumped()
        self._skew = self._present_skew()
        while self._heap and (jumped or self._heap[0][0] <= now):
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
