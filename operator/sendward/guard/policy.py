"""The enforcement document as lookup tables.

Each part is replaced by itself: a changed shard touches only its own keys. What cannot be compiled
denies its subject (account or key), never another one, and never opens anything.
"""

from __future__ import annotations

import ipaddress
from bisect import bisect_right
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import Final, TypeVar

import msgspec

from sendward.document import Account, Gateway, Key, Limit, Shard, Version
from sendward.guard import limiter
from sendward.guard.request import Operations, Source
from sendward.verdict import Reason

_T = TypeVar("_T")

_BY_CODE: Final = {reason.code: reason for reason in Reason}


class Networks:
    """A set of CIDRs as sorted, disjoint ranges of numbers; ValueError for a CIDR with host bits."""

    __slots__ = ("_four", "_six")

    def __init__(self, cidrs: Iterable[str]) -> None:
        ranges: dict[int, list[tuple[int, int]]] = {4: [], 6: []}
        for text in cidrs:
            network = ipaddress.ip_network(text)
            first = int(network.network_address)
            ranges[network.version].append((first, first + network.num_addresses - 1))
        self._four, self._six = _disjoint(ranges[4]), _disjoint(ranges[6])

    def __contains__(self, source: Source) -> bool:
        version, number = source
        starts, ends = self._four if version == 4 else self._six
        index = bisect_right(starts, number) - 1
        return index >= 0 and number <= ends[index]


def _disjoint(ranges: Iterable[tuple[int, int]]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """First and last numbers of the ranges, sorted; what touches becomes one range."""
    starts: list[int] = []
    ends: list[int] = []
    for first, last in sorted(ranges):
        if ends and first <= ends[-1] + 1:
            ends[-1] = max(ends[-1], last)
        else:
            starts.append(first)
            ends.append(last)
    return tuple(starts), tuple(ends)


@dataclass(frozen=True, slots=True)
class AccountView:
    """An account as it is judged. `denied`: nothing of it may pass."""

    uid: str
    name: str
    denied: Reason | None
    networks: tuple[Networks, ...]
    sender_ids: frozenset[str] | None
    limits: tuple[Limit, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """One key version with its key and account: what an id leads to.

    `networks` are those of the key and of its account: the source must be in all of them.
    """

    id: str
    digest: bytes
    not_after: int | None
    revoked: bool
    key_uid: str
    key_name: str
    denied: Reason | None
    networks: tuple[Networks, ...]
    operations: frozenset[str] | None
    limits: tuple[Limit, ...]
    account: AccountView


@dataclass(frozen=True, slots=True)
class GatewayView:
    """The gateway's own part as it is judged. `counted`: it has counters that all guards share."""

    namespace: str
    operations: Operations
    networks: Networks
    shards: int
    audit: bool
    deleted: bool
    counted: bool


def gateway_view(gateway: Gateway) -> GatewayView:
    """Compile the gateway's part; ValueError if a CIDR of it is none."""
    return GatewayView(
        namespace=gateway.namespace,
        operations=Operations(gateway.operations),
        networks=Networks(gateway.cidrs),
        shards=gateway.shards,
        audit=gateway.audit,
        deleted=gateway.deleted,
        counted=gateway.counters is not None,
    )


def _denied(code: str, otherwise: Reason) -> Reason | None:
    return _BY_CODE.get(code, otherwise) if code else None


def _networks(cidrs: Sequence[Sequence[str]]) -> tuple[Networks, ...] | None:
    try:
        return tuple(_shared(tuple(each)) for each in cidrs)
    except ValueError:
        return None


# Keys of one policy have the same networks, operations and limits: so they take memory, and the CPU's
# cache, once.
@lru_cache(maxsize=1024)
def _shared(cidrs: tuple[str, ...]) -> Networks:
    return Networks(cidrs)


@lru_cache(maxsize=1024)
def _names(names: frozenset[str]) -> frozenset[str]:
    return names


@lru_cache(maxsize=1024)
def _limits(limits: tuple[Limit, ...]) -> tuple[Limit, ...]:
    return limits


def _sound(limits: Iterable[Limit]) -> bool:
    return all(limit.messages > 0 and limit.period > 0 and limit.burst > 0 for limit in limits)


def _account(account: Account) -> AccountView:
    networks = _networks(account.cidrs)
    denied = _denied(account.denied, Reason.AccountInvalid)
    if denied is None and (networks is None or not _sound(account.limits)):
        denied = Reason.AccountInvalid
    return AccountView(
        uid=account.uid,
        name=account.name,
        denied=denied,
        networks=networks or (),
        sender_ids=None if account.sender_ids is None else _names(frozenset(account.sender_ids)),
        limits=_limits(tuple(account.limits)),
    )


def _entries(key: Key, account: AccountView) -> Iterable[Entry]:
    networks = _networks(key.cidrs)
    denied = _denied(key.denied, Reason.KeyInvalid)
    if denied is None and (networks is None or not _sound(key.limits)):
        denied = Reason.KeyInvalid
    judged = tuple(dict.fromkeys((*account.networks, *(networks or ()))))  # each once, order kept
    operations = None if key.operations is None else _names(frozenset(key.operations))
    limits = _limits(tuple(key.limits))
    for version in key.versions:
        yield Entry(
            id=version.id,
            digest=_digest(version),
            not_after=version.not_after,
            revoked=version.revoked,
            key_uid=key.uid,
            key_name=key.name,
            denied=denied,
            networks=judged,
            operations=operations,
            limits=limits,
            account=account,
        )


def _digest(version: Version) -> bytes:
    return version.digest.encode("utf-8", "replace")


@dataclass(frozen=True, slots=True)
class _Compiled:
    """An account of a shard. `content`: a hash of what it was compiled from."""

    content: bytes
    entries: tuple[Entry, ...]
    fill_time: int  # the longest `limiter.fill_time` in it


def _compile(account: Account, content: bytes) -> _Compiled:
    view = _account(account)
    entries = tuple(entry for key in account.keys for entry in _entries(key, view))
    limits = [*account.limits, *(limit for entry in entries for limit in entry.limits)]
    fill_time = max((limiter.fill_time(limit) for limit in limits if _sound([limit])), default=0)
    return _Compiled(content, entries, fill_time)


class Policy:
    """The tables of one gateway. Mutable: `set_gateway` and `set_shard` replace one part each."""

    def __init__(self) -> None:
        self.gateway: GatewayView | None = None
        self.missing: tuple[int, ...] = ()  # shards that the gateway declares and that are not there
        self._shards: dict[int, dict[str, _Compiled]] = {}  # by account uid
        # Tuples, since two keys may claim one id or one digest; then neither is accepted.
        self._by_id: dict[str, tuple[Entry, ...]] = {}
        self._by_digest: dict[bytes, tuple[Entry, ...]] = {}
        self._accepted: dict[str, Entry] = {}  # what follows from both

    def set_gateway(self, view: GatewayView) -> None:
        """Judge by this gateway part from now on."""
        self.gateway = view
        self._count()

    def set_shard(self, number: int, shard: Shard) -> int:
        """Judge by this shard from now on; returns the longest `limiter.fill_time` in it.

        An account that did not change is taken over as it is: one revocation costs one account, and a
        hash for each of its neighbours. ValueError for a shard that names an account twice.
        """
        before = self._shards.get(number, {})
        after: dict[str, _Compiled] = {}
        for account in shard.accounts:
            content = blake2b(msgspec.json.encode(account), digest_size=16).digest()
            known = before.get(account.uid)
            same = known is not None and known.content == content
            after[account.uid] = known if known and same else _compile(account, content)
        if len(after) != len(shard.accounts):
            raise ValueError("an account stands in the shard twice")
        removed = [e for uid, old in before.items() if after.get(uid) is not old for e in old.entries]
        added = [e for uid, new in after.items() if before.get(uid) is not new for e in new.entries]
        for old in removed:
            _remove(self._by_id, old.id, old)
            _remove(self._by_digest, old.digest, old)
        for new in added:
            self._by_id[new.id] = (*self._by_id.get(new.id, ()), new)
            self._by_digest[new.digest] = (*self._by_digest.get(new.digest, ()), new)
        self._accept((*removed, *added))
        self._shards[number] = after
        self._count()
        return max((found.fill_time for found in after.values()), default=0)

    def accounts(self) -> set[str]:
        """Names of all accounts with a key."""
        shards = self._shards.values()
        return {entry.account.name for shard in shards for found in shard.values() for entry in found.entries}

    def bursts(self, uids: Set[str]) -> dict[str, int]:
        """The smallest burst of the limits of each of these that has any: accounts, and keys together with
        their account.
        """
        found: dict[str, int] = {}
        for shard in self._shards.values():
            for uid in shard.keys() & uids:
                entries = shard[uid].entries
                wanted = {entry.key_uid: entry.limits for entry in entries if entry.key_uid in uids}
                if entries:
                    wanted[uid] = entries[0].account.limits
                found |= {
                    one: min(limit.burst for limit in limits) for one, limits in wanted.items() if limits
                }
        return found

    def find(self, key_id: str) -> Entry | None:
        """The key version of an id; None if there is none, or if it is not the only claimant."""
        return self._accepted.get(key_id)

    def _accept(self, changed: Sequence[Entry]) -> None:
        """Decide anew about every id that a changed entry claims, or that shares a digest with one."""
        digests = {entry.digest for entry in changed}
        ids = {entry.id for entry in changed}
        ids.update(entry.id for digest in digests for entry in self._by_digest.get(digest, ()))
        for key_id in ids:
            claimants = self._by_id.get(key_id, ())
            if len(claimants) == 1 and len(self._by_digest[claimants[0].digest]) == 1:
                self._accepted[key_id] = claimants[0]
            else:
                self._accepted.pop(key_id, None)

    def _count(self) -> None:
        declared = 0 if self.gateway is None else self.gateway.shards
        self.missing = tuple(number for number in range(declared) if number not in self._shards)


def _remove(table: dict[_T, tuple[Entry, ...]], at: _T, entry: Entry) -> None:
    rest = tuple(other for other in table[at] if other is not entry)
    if rest:
        table[at] = rest
    else:
        del table[at]
