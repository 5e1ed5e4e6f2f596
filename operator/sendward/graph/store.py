r"""The one mutable object: what was last seen of every resource, pod and namespace.

Watchers feed it; each call says whether the meaningful part changed. Nothing crosses a namespace,
so records are grouped by it, with the reverse references that decide what a change touches:

    APIKey --account--> SenderAccount --gateways--> MessagingGateway <--label-- Pod
       \--policy--> APIKeyPolicy <--policies.apiKey--/   \--policies.rateLimit--> RateLimitPolicy
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from sendward.graph.facts import Namespace, Pod
from sendward.graph.tally import Shape, Tally
from sendward.resources.api_key import APIKeySpec
from sendward.resources.base import Invalid, Meta, ObjectKey, Resource
from sendward.resources.sender_account import SenderAccountSpec

type_of = {  # kind -> attribute of `Group`
    "MessagingGateway": "gateways",
    "SenderAccount": "accounts",
    "APIKeyPolicy": "key_policies",
    "APIKey": "keys",
    "RateLimitPolicy": "limit_policies",
}


@dataclass(slots=True)
class Record:
    """An object and the JSON of its status as the API server last showed it, or as we last wrote it."""

    item: Resource | Invalid  # type: ignore[type-arg]
    status: bytes
    version: str  # metadata.resourceVersion
    shape: Shape  # of the status

    @property
    def meta(self) -> Meta:
        return self.item.meta


Records = dict[str, Record]  # by name
CIDRs = tuple[str, ...]


@dataclass(slots=True)
class Group:
    """Everything of one namespace."""

    gateways: Records = field(default_factory=dict)
    accounts: Records = field(default_factory=dict)
    key_policies: Records = field(default_factory=dict)
    keys: Records = field(default_factory=dict)
    limit_policies: Records = field(default_factory=dict)
    pods: dict[str, Pod] = field(default_factory=dict)
    keys_of_account: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    accounts_of_gateway: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    # Each list of source CIDRs that an account of the gateway has, () for none, with how many have it.
    cidrs_of_gateway: dict[str, Counter[CIDRs]] = field(default_factory=lambda: defaultdict(Counter))

    def of(self, kind: str) -> Records:
        """The records of one of our kinds."""
        records: Records = getattr(self, type_of[kind])
        return records

    def uids(self, kind: str) -> set[str]:
        """Those of all objects of a kind."""
        return {record.meta.uid for record in self.of(kind).values()}


class Store:
    """Not thread-safe: the event loop owns it."""

    def __init__(self) -> None:
        self.namespaces: dict[str, Namespace] = {}
        self.opened: set[str] = set()  # onboarded, and what an earlier leader left there is loaded
        self.tally = Tally()
        self._groups: dict[str, Group] = {}

    def group(self, namespace: str) -> Group:
        """The records of a namespace, empty when nothing was seen of it."""
        found = self._groups.get(namespace)
        if found is None:
            found = self._groups[namespace] = Group()
        return found

    def groups(self) -> Iterator[tuple[str, Group]]:
        """All namespaces of which something was seen."""
        return iter(list(self._groups.items()))

    def uids(self) -> set[str]:
        """Those of all our objects."""
        return {uid for group in self._groups.values() for kind in type_of for uid in group.uids(kind)}

    def get(self, key: ObjectKey) -> Record | None:
        """The record of an object, if it is there."""
        group = self._groups.get(key.namespace)
        return group.of(key.kind).get(key.name) if group else None

    def apply(self, item: Resource | Invalid, status: bytes, version: str) -> bool:  # type: ignore[type-arg]
        """Keep what a watch or a write showed. True when spec, metadata, validity or status changed.

        A status that we wrote comes back as an echo, equal to what is known, and is no change; one that
        somebody else wrote is one.
        """
        key = item.meta.key
        group = self.group(key.namespace)
        records = group.of(key.kind)
        old = records.get(key.name)
        if old is not None and old.meta.uid == item.meta.uid and _older(version, old.version):
            return False  # an answer to our own write overtook this event
        if old is not None:
            _unlink(group, old)
        same = old is not None and old.status == status
        shape = old.shape if old is not None and same else self.tally.shape(status)
        if not same:
            self.tally.move(key.kind, old.shape if old is not None else None, shape)
        record = records[key.name] = Record(item, status, version, shape)
        _link(group, record)
        return old is None or old.item != item or old.status != status

    def delete(self, key: ObjectKey, uid: str = "") -> bool:
        """Forget an object; with `uid` only that one, since its name may have a new owner."""
        group = self._groups.get(key.namespace)
        old = group.of(key.kind).get(key.name) if group else None
        if group is None or old is None or (uid and old.meta.uid != uid):
            return False
        _unlink(group, old)
        self.tally.move(key.kind, old.shape, None)
        del group.of(key.kind)[key.name]
        return True

    def reset(self, kind: str, seen: Iterable[ObjectKey]) -> list[ObjectKey]:
        """Sweep ghosts: forget all of a kind that a full listing did not show."""
        present = set(seen)
        ghosts = [
            record.meta.key
            for group in self._groups.values()
            for record in group.of(kind).values()
            if record.meta.key not in present
        ]
        for ghost in ghosts:
            self.delete(ghost)
        return ghosts

    def sweep(self) -> None:
        """Forget namespaces that are gone and of which nothing is left."""
        for name in [name for name in self._groups if name not in self.namespaces]:
            group = self._groups[name]
            if not group.pods and not any(group.of(kind) for kind in type_of):
                del self._groups[name]

    def set_pod(self, pod: Pod) -> bool:
        """Keep what was seen of a gateway pod."""
        pods = self.group(pod.namespace).pods
        changed = pods.get(pod.name) != pod
        pods[pod.name] = pod
        return changed

    def drop_pod(self, namespace: str, name: str) -> Pod | None:
        """Forget a pod; returns what was known of it."""
        return self.group(namespace).pods.pop(name, None)

    def pod(self, namespace: str, name: str) -> Pod | None:
        """A gateway pod by name."""
        return self.group(namespace).pods.get(name)

    def pods_of(self, namespace: str, gateway: str) -> list[Pod]:
        """All pods of a gateway, ready or not."""
        return [pod for pod in self.group(namespace).pods.values() if pod.gateway == gateway]


def _older(version: str, known: str) -> bool:
    """Resource versions are opaque to clients, but of one resource they are ordered numbers (KEP-5504)."""
    return version.isdigit() and known.isdigit() and int(version) < int(known)


def _link(group: Group, record: Record) -> None:
    match record.item:
        case Resource(spec=APIKeySpec() as spec, meta=meta):
            group.keys_of_account[spec.account].add(meta.key.name)
        case Resource(spec=SenderAccountSpec() as spec, meta=meta):
            for gateway in spec.gateways:
                group.accounts_of_gateway[gateway].add(meta.key.name)
                group.cidrs_of_gateway[gateway][tuple(spec.source_cidrs or ())] += 1


def _unlink(group: Group, record: Record) -> None:
    match record.item:
        case Resource(spec=APIKeySpec() as spec, meta=meta):
            _leave(group.keys_of_account, spec.account, meta.key.name)
        case Resource(spec=SenderAccountSpec() as spec, meta=meta):
            for gateway in spec.gateways:
                _leave(group.accounts_of_gateway, gateway, meta.key.name)
                _count_down(group.cidrs_of_gateway, gateway, tuple(spec.source_cidrs or ()))


def _count_down(index: dict[str, Counter[CIDRs]], at: str, cidrs: CIDRs) -> None:
    index[at][cidrs] -= 1
    if not index[at][cidrs]:
        del index[at][cidrs]
    if not index[at]:
        del index[at]


def _leave(index: dict[str, set[str]], at: str, name: str) -> None:
    index[at].discard(name)
    if not index[at]:
        del index[at]
