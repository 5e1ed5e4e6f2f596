"""Under which account each key stands in the documents, and which accounts it stood under before."""

from __future__ import annotations

from collections.abc import Callable, Set
from dataclasses import dataclass
from datetime import datetime

from sendward.controller.documents import Documents, GatewayDocument
from sendward.controller.findings import State, worst
from sendward.graph.acknowledgement import Ack
from sendward.graph.facts import Pod
from sendward.graph.store import Store


@dataclass(frozen=True, slots=True)
class Place:
    """The entry of an account (its uid), in the documents of gateways (their uids)."""

    account: str
    gateways: frozenset[str]


class Places:
    """By key uid. A key that moved counts as standing in both entries until `settled`."""

    def __init__(self) -> None:
        self._now: dict[str, Place] = {}
        self._former: dict[str, set[str]] = {}

    def put(self, key_uid: str, place: Place) -> None:
        """The key stands here from now on."""
        before = self._now.get(key_uid)
        if before is not None and before.account != place.account:
            self._former.setdefault(key_uid, set()).add(before.account)
        self._now[key_uid] = place
        if place.account in self._former.get(key_uid, ()):
            self.settled(key_uid, place.account)

    def get(self, key_uid: str) -> Place | None:
        """Where the key stands."""
        return self._now.get(key_uid)

    def former(self, key_uid: str) -> frozenset[str]:
        """Uids of accounts whose entries may still hold the key somewhere."""
        return frozenset(self._former.get(key_uid, ()))

    def settled(self, key_uid: str, account_uid: str) -> None:
        """The account's entry is in force without the key."""
        left = self._former.get(key_uid, set())
        left.discard(account_uid)
        if not left:
            self._former.pop(key_uid, None)

    def sweep(self, keys: Set[str]) -> set[str]:
        """Forget all keys but these; uids of the accounts in whose entries these stand or stood."""
        for gone in (self._now.keys() | self._former.keys()) - keys:
            self.forget(gone)
        return {place.account for place in self._now.values()}.union(*self._former.values())

    def forget(self, key_uid: str) -> None:
        """The key exists no more."""
        self._now.pop(key_uid, None)
        self._former.pop(key_uid, None)


_StateOf = Callable[[GatewayDocument, str, list[Pod], datetime], State]


class InForce:
    """Whether the expected guards enforce what is declared of accounts and keys."""

    def __init__(self, store: Store, documents: Documents, places: Places) -> None:
        self._store = store
        self._documents = documents
        self._places = places

    def entry(self, place: Place, now: datetime) -> State:
        """Of an account's entry, key versions included. Also in gateways that the account left: its
        absence must be in force there.
        """
        return self._everywhere(place, self._documents.entry_state, now)

    def policy(self, place: Place, now: datetime) -> State:
        """Of what an account declares: key versions may be on their way."""
        return self._everywhere(place, self._documents.policy_state, now)

    def _everywhere(self, place: Place, state: _StateOf, now: datetime) -> State:
        states: list[State] = []
        for found in self._documents:
            if found.uid in place.gateways or place.account in found.order_of:
                pods = self._store.pods_of(found.namespace, found.name)
                states.append(state(found, place.account, pods, now))
        return worst(states)

    def sweep(self, keys: Set[str], published: Set[str], now: datetime) -> None:
        """Forget keys that are none of these, and accounts that neither are `published` nor have such
        keys, once no guard that counts holds anything of them.
        """
        held = self._places.sweep(keys) | published
        for found in self._documents:
            pods = self._store.pods_of(found.namespace, found.name)
            for account in found.order_of.keys() - held:
                if self._documents.entry_state(found, account, pods, now) in (Ack.ALL, Ack.NONE_EXPECTED):
                    del found.order_of[account]
                    found.policy_of.pop(account, None)

    def left(self, key_uid: str, now: datetime) -> State | None:
        """Of a key that moved: what is still to happen where it stood before; None for nothing."""
        for account in self._places.former(key_uid):
            if any(found.holds(account, key_uid) for found in self._documents):
                return Ack.PENDING  # that account's own pass is still to come
            state = self.entry(Place(account, frozenset()), now)
            if state not in (Ack.ALL, Ack.NONE_EXPECTED):
                return state
            self._places.settled(key_uid, account)
        return None

    def key(self, namespace: str, key_uid: str, now: datetime) -> State:
        """Of a key without a usable account: whether what it last stood in is in force without it."""
        known = self._places.get(key_uid)
        if known is not None:
            return self.left(key_uid, now) or self.entry(known, now)
        # An earlier leader may have taken it out just before it ended, and a guard not know it yet.
        return worst(
            [
                self._documents.loaded_state(found, self._store.pods_of(found.namespace, found.name), now)
                for found in self._documents
                if found.namespace == namespace
            ]
            or [Ack.ALL]
        )

    def concerned(self, namespace: str, key_uid: str) -> list[tuple[str, str]]:
        """Gateways (uids) and parts that must be acknowledged before the state of a key changes; "" for
        any part.
        """
        known, former = self._places.get(key_uid), self._places.former(key_uid)
        if known is not None and not former:
            return self.parts(known)
        return [
            (found.uid, "")
            for found in self._documents
            if not former.isdisjoint(found.order_of)
            or (found.uid in known.gateways if known else found.namespace == namespace)
        ]

    def parts(self, place: Place) -> list[tuple[str, str]]:
        """Gateways (uids) and parts in which an account stands or stood."""
        return [
            (found.uid, found.part_of(place.account))
            for found in self._documents
            if found.uid in place.gateways or place.account in found.order_of
        ]
