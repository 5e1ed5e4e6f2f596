"""What the hub knows of one gateway: what is published, and which guard has what. No I/O.

A guard may say that it has something newer than what is published (an earlier leader died between
streaming and storing, or the API server was restored from a backup). It would refuse ours, and what
it has is unknown to us: such a part counts as not acknowledged and is named by `ahead`, so that the
loop seals it anew above that order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final
from uuid import uuid4

import msgspec

from sendward import document, names
from sendward.controller.shares import GatewayShares
from sendward.document import Envelope
from sendward.graph.facts import Guard, PartState, Pod
from sendward.protocol import MAX_ID, Ack, Have, Hello, Nack, Part, Report

Order = tuple[int, int]
_HISTORY: Final = 32  # earlier envelopes per part whose digest is remembered
_MAX_MESSAGE: Final = 1024  # characters of a guard's refusal
# A guard is a tenant's pod. What it claims moves the Lease of all tenants (int32) and is signed over.
_MAX_EPOCH: Final = 2**30
_MAX_REVISION: Final = 2**53
_MAX_LAST_USED: Final = 100_000  # key versions between two drains
_MEET: Final = timedelta(seconds=15)  # a guard that runs has found a new leader by then
_STALE_GRACE: Final = timedelta(seconds=60)  # a guard may have heard from us a little later


@dataclass(slots=True)
class Published:
    """The current envelope of a part, and the bytes that carry it to every guard."""

    order: Order
    digest: str
    frame: bytes
    history: dict[Order, str]  # order to digest, the newest last


@dataclass(slots=True)
class Record:
    """A guard that spoke to this leader. `have`: what it said is in force."""

    pod: Pod
    last_contact: datetime
    connected: bool = True
    have: dict[str, Have] = field(default_factory=dict)
    refused: dict[str, tuple[Order, str]] = field(default_factory=dict)


class GatewayState:
    """All guards of one gateway."""

    def __init__(self) -> None:
        self.published: dict[str, Published] = {}
        self.records: dict[str, Record] = {}
        self.shares = GatewayShares(_word)
        self.last_used: dict[str, int] = {}
        self._unmet: dict[str, Pod] = {}  # may hold shares of an earlier leader

    def publish(
        self,
        envelopes: Mapping[str, Envelope],
        pods: Iterable[Pod],
        epoch: int = 0,
        *,
        replaced: Set[str] = frozenset(),
    ) -> bool:
        """Merge; True when something changed. `pods` of the gateway matter the first time, and whether
        an earlier leader than that of `epoch` has sealed anything. `replaced`: uids of those made for
        an earlier gateway of the name.
        """
        if envelopes and not self.published:
            ours = all(envelope.epoch == epoch for envelope in envelopes.values())
            self._meet(list(pods), ours, replaced)
        changed = False
        for part, envelope in envelopes.items():
            before = self.published.get(part)
            digest = envelope.digest
            if before and (before.order, before.digest) == (envelope.order, digest):
                continue
            history = {**(before.history if before else {}), envelope.order: digest}
            while len(history) > _HISTORY:
                del history[next(iter(history))]
            frame = msgspec.json.encode(Part(document.encode(envelope)))
            self.published[part] = Published(envelope.order, digest, frame, history)
            changed = True
        # The gateway's own part goes out first: a guard can judge nothing without it.
        self.published = dict(sorted(self.published.items(), key=lambda item: item[0] != names.PART_GATEWAY))
        return changed

    def _meet(self, pods: list[Pod], ours: bool, replaced: Set[str]) -> None:
        """`ours`: no earlier leader has sealed anything."""
        if ours and not any(_was_ready(pod) for pod in pods):
            self.shares.begin()
            return
        # Also those that are not Ready now: they may have been, and hold shares of an earlier leader.
        known = self.records.keys() | replaced
        self._unmet = {pod.uid: pod for pod in pods if pod.uid not in known}
        self.shares.expect(self._unmet)

    def hello(self, pod: Pod, hello: Hello, now: datetime, *, replaced: bool = False) -> None:
        """A guard connected. `replaced`: one of an earlier gateway of the name. It must be told so, and
        refuses everything then: what it holds, or reaches, has nothing to do with this gateway.
        """
        self.records[pod.uid] = Record(pod, now, have={} if replaced else dict(hello.parts))
        self._unmet.pop(pod.uid, None)
        if not replaced:
            self.shares.connect(pod.uid, hello.shares)

    def disconnect(self, pod_uid: str, now: datetime) -> None:
        record = self.records[pod_uid]
        record.connected = False
        record.last_contact = now
        self.shares.disconnect(pod_uid)

    def acknowledge(self, pod_uid: str, ack: Ack) -> None:
        """The guard enforces this envelope; an older one than the current is recorded as such."""
        record = self.records[pod_uid]
        published = self.published.get(ack.part)
        order = (ack.epoch, ack.revision)
        if published is None or order > published.order:  # nobody can answer what was not sent
            return
        record.have[ack.part] = Have(ack.epoch, ack.revision, published.history.get(order, ""))
        if ack.part in record.refused and record.refused[ack.part][0] <= order:
            del record.refused[ack.part]

    def refuse(self, pod_uid: str, nack: Nack) -> None:
        """The guard keeps what it had."""
        if nack.part in self.published:
            order = (nack.epoch, nack.revision)
            message = nack.message[:_MAX_MESSAGE] or "no reason given"
            self.records[pod_uid].refused[nack.part] = (order, message)

    def report(self, pod_uid: str, report: Report, now: datetime, monotonic: float) -> bool:
        """Demand for the shares; last use, by our own clock. True when that may change the shares at once."""
        reach = self.shares.reach(pod_uid, report.place)
        changed = self.shares.report(pod_uid, report.demand, monotonic, report.bursts) or reach
        heard = int(now.timestamp())
        for version in report.last_used:  # since its last report: its clock may be off, ours counts
            known = version in self.last_used
            if len(version) <= MAX_ID and (known or len(self.last_used) < _MAX_LAST_USED):
                self.last_used[version] = heard
        return changed

    def next_part(self, pod_uid: str, sent: Mapping[str, Order]) -> str | None:
        """A part to send to a guard that was sent `sent` on this connection."""
        record = self.records[pod_uid]
        for part, published in self.published.items():
            if sent.get(part) == published.order or _is_ahead(record.have.get(part), published):
                continue
            if not _is_current(record.have.get(part), published):
                return part
        return None

    def ahead(self, pod_uid: str) -> dict[str, Order]:
        """Parts of which the guard has something that we did not publish, with its order."""
        record = self.records[pod_uid]
        return {
            part: (have.epoch, have.revision)
            for part, have in record.have.items()
            if (published := self.published.get(part)) and _is_ahead(have, published)
        }

    def facts(self, part: str | None = None) -> dict[str, Guard]:
        """By pod uid; with `part` only this one is told of, since each account asks for its own."""
        parts = self.published if part is None else self.published.keys() & {part}
        return {
            uid: Guard(uid, record.connected, record.last_contact, self._parts(record, parts))
            for uid, record in self.records.items()
        }

    def _parts(self, record: Record, parts: Iterable[str]) -> dict[str, PartState]:
        states: dict[str, PartState] = {}
        for part in parts:
            published = self.published[part]
            have = record.have.get(part)
            if have is None or _is_ahead(have, published):
                have = Have(0, 0, "")
            order, message = record.refused.get(part, ((0, 0), ""))
            rejected = message if order == published.order else ""
            if have.digest or have.revision or rejected:
                states[part] = PartState(have.epoch, have.revision, have.digest, rejected)
        return states

    def order(self, part: str) -> Order | None:
        """Of what is published of a part."""
        published = self.published.get(part)
        return published.order if published else None

    @staticmethod
    def expected(pods: Iterable[Pod]) -> list[Pod]:
        """Those of Ready pods with a sidecar, as acknowledgements are expected of."""
        return [pod for pod in pods if pod.ready and pod.injected and not pod.terminating]

    def in_force(self, part: str, pods: Iterable[Pod]) -> bool:
        """Whether the guards of all these pods enforce what is published of a part."""
        published = self.published[part]
        records = [self.records.get(pod.uid) for pod in pods]
        return all(record and _is_current(record.have.get(part), published) for record in records)

    def out_of_sync(self, pods: Iterable[Pod]) -> int:
        """Ready pods whose guard does not enforce everything that is published."""
        return sum(
            1
            for pod in pods
            if pod.ready and not pod.terminating and not self._is_in_sync(self.records.get(pod.uid))
        )

    def _is_in_sync(self, record: Record | None) -> bool:
        return record is not None and all(
            _is_current(record.have.get(part), published) for part, published in self.published.items()
        )

    def pods(self) -> list[Pod]:
        """Of all guards that count here, as they were when last seen."""
        return [*(record.pod for record in self.records.values()), *self._unmet.values()]

    def sweep(self, present: Set[str], stale_after: int | None, started: datetime, now: datetime) -> bool:
        """Forget guards of pods that are gone, free the shares of stale ones; True when one is gone.

        `present`: uids of the pods that exist. `started`: when this leader began; a guard that it
        never met was cut off since then at least.
        """
        gone = self.records.keys() - present
        for uid in gone:
            del self.records[uid]
        waited = now - started >= _MEET
        for uid, pod in list(self._unmet.items()):
            if uid not in present or (waited and not _was_ready(pod)):
                del self._unmet[uid]
                self.shares.remove(uid)
        for uid in self.shares.guards:
            record = self.records.get(uid)
            if uid not in present:
                self.shares.remove(uid)
            elif stale_after is not None and not (record and record.connected):
                since = record.last_contact if record else started
                if now - since >= timedelta(seconds=stale_after) + _STALE_GRACE:
                    self.shares.expire(uid)
        return bool(gone)


def _word() -> str:
    return uuid4().hex[:16]


def _was_ready(pod: Pod) -> bool:
    """For sure: a terminating pod may have been."""
    return pod.ready or pod.terminating


def highest_epoch(hello: Hello) -> int | None:
    """The highest epoch that a guard claims to know; None when its claims are out of all bounds."""
    epochs = [hello.highest_epoch, *(have.epoch for have in hello.parts.values())]
    revisions = [have.revision for have in hello.parts.values()]
    if min(epochs) < 0 or max(epochs) > _MAX_EPOCH or not all(0 <= r <= _MAX_REVISION for r in revisions):
        return None
    return max(epochs)


def _is_current(have: Have | None, published: Published) -> bool:
    return have is not None and (have.epoch, have.revision, have.digest) == (
        *published.order,
        published.digest,
    )


def _is_ahead(have: Have | None, published: Published) -> bool:
    """Newer than ours, or of our order but with other content."""
    if have is None:
        return False
    order = (have.epoch, have.revision)
    return order > published.order or (order == published.order and have.digest != published.digest)
