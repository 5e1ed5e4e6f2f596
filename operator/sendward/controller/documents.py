"""The current enforcement document of every gateway: which entries, which envelopes, what is in force.

Entries are kept per account, so one changed account costs one shard. A part is sealed anew only when
its content differs; the hub streams it at once while its Secret is written, and it counts as in force
when both happened: a successor that starts from the Secrets must not know less than the guards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Protocol

from msgspec.structs import replace

from sendward import document, names
from sendward.compile.document import shard, without_growth
from sendward.document import Account, Envelope, Gateway
from sendward.graph.acknowledgement import Ack, Rejected, acknowledged, expected
from sendward.graph.facts import Guard, Pod

Order = tuple[int, int]
_NEVER: Final = (0, 0)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a part is: what all expected guards enforce and its Secret holds; who refuses it."""

    order: Order
    refused: str
    expected: bool  # whether there is a guard to wait for


class Hub(Protocol):
    """What documents need of the hub."""

    def publish(self, gateway_uid: str, envelopes: dict[str, Envelope]) -> None: ...

    def withdraw(self, gateway_uid: str) -> None: ...

    def guards(self, gateway_uid: str, part: str | None = None) -> dict[str, Guard]: ...


class Signer(Protocol):
    """Signs parts."""

    def seal(self, gateway_uid: str, part: str, epoch: int, revision: int, payload: bytes) -> Envelope: ...


@dataclass(slots=True)
class GatewayDocument:
    """The document of one gateway. `order_of`: by account uid, the envelope in which its entry last
    changed; entries that were removed stay in it. `policy_of`: the same for what the account declares,
    key versions left out: they come and go without a change of the account.
    """

    uid: str
    namespace: str
    name: str
    shards: int
    stale_after: int | None = None
    accounts: list[dict[str, Account]] = field(default_factory=list)
    gateway: Gateway | None = None
    envelopes: dict[str, Envelope] = field(default_factory=dict)
    persisted: dict[str, Order] = field(default_factory=dict)
    order_of: dict[str, Order] = field(default_factory=dict)
    policy_of: dict[str, Order] = field(default_factory=dict)
    redeclared: set[str] = field(default_factory=set)  # uids of dirty accounts whose policy differs
    progress: dict[str, Progress] = field(default_factory=dict)  # by part, as last looked at
    loaded: dict[str, Order] = field(default_factory=dict)  # parts as an earlier leader left them
    dirty: dict[str, set[str]] = field(default_factory=dict)  # part -> account uids
    unread: set[str] = field(default_factory=set)  # accounts with verifiers that only Vault can tell
    too_large: set[str] = field(default_factory=set)
    revision: int = 0

    def __post_init__(self) -> None:
        self.accounts = [{} for _ in range(self.shards)]

    def part_of(self, account_uid: str) -> str:
        """The shard of an account, as a part name."""
        return str(document.shard_of(account_uid, self.shards))

    def holds(self, account_uid: str, key_uid: str) -> bool:
        """Whether the account's entry has the key."""
        entry = self.accounts[int(self.part_of(account_uid))].get(account_uid)
        return entry is not None and any(key.uid == key_uid for key in entry.keys)

    def waits_for_vault(self, part: str) -> bool:
        """Whether a shard of which no earlier leader left anything readable would cut off who has a key:
        its verifiers are still to be read. Until then guards keep the shard that they have.
        """
        if part == names.PART_GATEWAY or part in self.envelopes:
            return False
        return any(self.part_of(uid) == part for uid in self.unread)

    def set_account(self, uid: str, entry: Account | None) -> None:
        """Declare what stands in the document for an account; None: nothing."""
        part = self.part_of(uid)
        entries = self.accounts[int(part)]
        old = entries.get(uid)
        if old == entry:
            return
        if entry is None:
            del entries[uid]
        else:
            entries[uid] = entry
        self.dirty.setdefault(part, set()).add(uid)
        if old is None or entry is None or not same_policy(old, entry):
            self.redeclared.add(uid)

    def set_gateway(self, content: Gateway) -> None:
        """Declare the gateway part. The first call declares every shard too: an absent one is
        "no document" for its accounts.
        """
        if self.gateway != content:
            self.gateway = content
            self.dirty.setdefault(names.PART_GATEWAY, set())
        for part in names.document_parts(self.shards):
            if part not in self.envelopes:
                self.dirty.setdefault(part, set())
        self.stale_after = content.stale_after


class Documents:
    """All documents. `signer` and `epoch` are there once this process leads."""

    def __init__(self, hub: Hub, signer: Signer, epoch: Callable[[], int]) -> None:
        self._hub = hub
        self._signer = signer
        self._epoch = epoch
        self._of: dict[str, GatewayDocument] = {}

    def __iter__(self) -> Iterator[GatewayDocument]:
        return iter(list(self._of.values()))

    def get(self, gateway_uid: str) -> GatewayDocument | None:
        """The document of a gateway."""
        return self._of.get(gateway_uid)

    def open(self, uid: str, namespace: str, name: str, shards: int) -> GatewayDocument:
        """The document of a gateway, created when it is new."""
        found = self._of.get(uid)
        if found is None:
            found = self._of[uid] = GatewayDocument(uid, namespace, name, shards)
        return found

    def load(self, uid: str, namespace: str, name: str, shards: int, envelope: Envelope) -> None:
        """Take over a verified part that an earlier leader wrote, unless a newer one is known here (of a
        namespace that was taken over before). Raises DocumentError.
        """
        found = self.open(uid, namespace, name, shards)
        part = envelope.part
        if part in found.envelopes and envelope.order <= found.envelopes[part].order:
            return
        if part == names.PART_GATEWAY:
            found.gateway = document.open_gateway(envelope)
            found.stale_after = found.gateway.stale_after
        else:
            entries = {account.uid: account for account in document.open_shard(envelope).accounts}
            found.accounts[int(part)] = entries
            for orders in (found.order_of, found.policy_of):
                orders.update(dict.fromkeys(entries, envelope.order))
        found.envelopes[part] = envelope
        found.persisted[part] = found.loaded[part] = envelope.order
        found.revision = max(found.revision, envelope.revision)

    def forget(self, uid: str) -> None:
        """Drop the document of a gateway that is gone."""
        self._of.pop(uid, None)
        self._hub.withdraw(uid)

    def give_up_predecessors(self, uid: str, namespace: str, name: str) -> None:
        """Drop documents of earlier gateways by the name of this one, whose pods may still run: their guards
        connect again, and then hear of this one. Its objects have the same names and are written over.
        """
        for found in self:
            if (found.namespace, found.name) == (namespace, name) and found.uid != uid:
                self.forget(found.uid)

    def overtake(self, gateway_uid: str, part: str, order: Order) -> None:
        """A guard has something newer than we published (etcd was restored): seal the part above it."""
        found = self._of.get(gateway_uid)
        if found is not None and part in found.envelopes:
            found.revision = max(found.revision, order[1])
            found.dirty.setdefault(part, set()).update(
                found.accounts[int(part)] if part != names.PART_GATEWAY else ()
            )

    def flush(self, found: GatewayDocument) -> tuple[list[Envelope], list[Exception]]:
        """Seal and stream every part whose content changed. Returns what must be persisted, and why parts
        cannot be sealed: such a part waits for another content, and holds up no other.
        """
        fresh: dict[str, Envelope] = {}
        waiting: dict[str, set[str]] = {}
        broken: list[Exception] = []
        for part, uids in found.dirty.items():
            if found.waits_for_vault(part):
                waiting[part] = uids
                continue
            try:
                envelope, held = self._seal(found, part)
            except Exception as error:  # noqa: BLE001 - a bug with one part must not hold back a revocation
                waiting[part] = uids
                broken.append(error)
                continue
            if part in found.too_large:
                waiting[part] = held
            if envelope is None:
                continue
            fresh[part] = envelope
            found.envelopes[part] = envelope
            sent = uids - held
            found.order_of.update(dict.fromkeys(sent, envelope.order))
            found.policy_of.update(dict.fromkeys(sent & found.redeclared, envelope.order))
            found.redeclared -= sent
        found.dirty = waiting
        if fresh:
            self._hub.publish(found.uid, fresh)
        return list(fresh.values()), broken

    def _seal(self, found: GatewayDocument, part: str) -> tuple[Envelope | None, set[str]]:
        """The new envelope of a part, and the accounts in it that are held back because it is too large.

        What narrows is never held back: a shard over its size goes out without what is new in it.
        """
        held: set[str] = set()
        old = found.envelopes.get(part)
        if part == names.PART_GATEWAY:
            if found.gateway is None:
                return None, held
            payload = document.compress(found.gateway)
        else:
            entries = found.accounts[int(part)]
            payload = document.compress(shard(entries.values()))
            if len(payload) > document.MAX_PART_BYTES:
                kept = without_growth(entries, document.open_shard(old).accounts if old else [])
                held = {uid for uid, entry in entries.items() if kept.get(uid) != entry}
                payload = document.compress(shard(kept.values()))
        if held or len(payload) > document.MAX_PART_BYTES:
            found.too_large.add(part)
        else:
            found.too_large.discard(part)
        if len(payload) > document.MAX_PART_BYTES:
            return None, found.dirty.get(part, set())
        if held and old is not None and old.payload == payload:
            return None, held
        found.revision += 1
        return self._signer.seal(found.uid, part, self._epoch(), found.revision, payload), held

    def stored(self, found: GatewayDocument, envelope: Envelope) -> None:
        """A part lies in its Secret."""
        found.persisted[envelope.part] = max(found.persisted.get(envelope.part, (0, 0)), envelope.order)

    def acknowledgement(
        self, found: GatewayDocument, part: str, order: Order, pods: list[Pod], now: datetime
    ) -> Ack | Rejected:
        """Whether the expected guards enforce `part` at `order` or newer."""
        guards = self._hub.guards(found.uid, part)
        return acknowledged(expected(pods, guards, found.stale_after, now), guards, part, order)

    def guards(self, found: GatewayDocument) -> Mapping[str, Guard]:
        """Every guard of the gateway that this leader has heard of, by pod uid."""
        return self._hub.guards(found.uid)

    def loaded_state(self, found: GatewayDocument, pods: list[Pod], now: datetime) -> Ack | Rejected:
        """Whether every part is in force at least as an earlier leader left it."""
        for part, order in found.loaded.items():
            state = self.acknowledgement(found, part, order, pods, now)
            if state is not Ack.ALL:
                return state
        return Ack.ALL

    def entry_state(
        self, found: GatewayDocument, account_uid: str, pods: list[Pod], now: datetime
    ) -> Ack | Rejected:
        """Whether the entry of an account (or its absence) is in force as it is declared now."""
        waits = account_uid in found.dirty.get(found.part_of(account_uid), ())
        order = found.order_of.get(account_uid, _NEVER)
        return Ack.PENDING if waits else self._state(found, account_uid, order, pods, now)

    def policy_state(
        self, found: GatewayDocument, account_uid: str, pods: list[Pod], now: datetime
    ) -> Ack | Rejected:
        """Whether every guard that accepts a key of the account judges it by what is declared now."""
        if account_uid in found.redeclared:
            return Ack.PENDING
        order = found.policy_of.get(account_uid, _NEVER)
        return self._state(found, account_uid, order, pods, now)

    def _state(
        self, found: GatewayDocument, account_uid: str, order: Order, pods: list[Pod], now: datetime
    ) -> Ack | Rejected:
        part = found.part_of(account_uid)
        state = self.acknowledgement(found, part, order, pods, now)
        if state in (Ack.ALL, Ack.NONE_EXPECTED) and found.persisted.get(part, _NEVER) < order:
            return Ack.PENDING
        return state

    def progressed(self, found: GatewayDocument, part: str, pods: list[Pod], now: datetime) -> bool:
        """Whether a part is further than when this was last asked: who waits for it should look again."""
        guards = self._hub.guards(found.uid, part)
        uids = expected(pods, guards, found.stale_after, now)
        states = [guards[uid].parts.get(part) if uid in guards else None for uid in sorted(uids)]
        orders = [(state.epoch, state.revision) if state else _NEVER for state in states]
        refused = next((state.rejected for state in states if state and state.rejected), "")
        order = min([found.persisted.get(part, _NEVER), *orders])
        progress = Progress(order, refused, bool(uids))
        changed = found.progress.get(part) != progress
        found.progress[part] = progress
        return changed


def same_policy(old: Account, new: Account) -> bool:
    """Whether two entries of an account differ at most in their key versions, and in which keys have one."""
    before = {key.uid: key for key in old.keys}
    return replace(old, keys=[]) == replace(new, keys=[]) and all(
        replace(before[key.uid], versions=[]) == replace(key, versions=[])
        for key in new.keys
        if key.uid in before
    )
