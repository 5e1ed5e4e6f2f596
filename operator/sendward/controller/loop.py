"""The level-triggered loop: dirty -> hold-off -> one pass -> documents, steps, statuses.

A pass works on one object without awaiting, so what it reads does not change under it; what must be
written is queued.
A gateway is the unit of failure: an exception while one is worked on is logged, shown, and retried.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

import structlog

from sendward.apply import kinds
from sendward.apply.objects import Objects, Target
from sendward.apply.statuses import Statuses, canonical
from sendward.clock import Clock
from sendward.compile.credentials import Decision, Do
from sendward.compile.objects import document_secret
from sendward.compile.status import conditions
from sendward.conditions import ConditionType, Reason
from sendward.controller.accounts import Accounts
from sendward.controller.dirty import POLICIES, Dirty
from sendward.controller.documents import Documents, GatewayDocument
from sendward.controller.gateways import Gateways
from sendward.controller.keysteps import KeySteps
from sendward.controller.metrics import Metrics
from sendward.controller.overtaking import Overtaking
from sendward.controller.queue import Priority, WorkQueue
from sendward.controller.view import Sidecars
from sendward.document import Envelope, encode
from sendward.errors import Conflict, SendwardError
from sendward.graph.effective import EffectiveKey
from sendward.graph.problems import Problem
from sendward.graph.store import Store
from sendward.resources.base import Invalid, Meta, ObjectKey
from sendward.resources.status import APIKeyStatus, PolicyStatus, Status

HOLD_OFF: Final = 0.1  # seconds after the first event of a burst
HOLD_OFF_AT_MOST: Final = 0.5
# Seconds of a pass between two turns of the event loop. The Lease must be renewed however little of the
# processor is ours: a leader that cannot would start anew, and have all to do once more.
_TURN: Final = 0.01
_RETRY: Final = timedelta(seconds=2)
_log = structlog.get_logger(__name__)


class Queued:
    """The sink of passes: statuses are coalesced per object, steps run once per key."""

    def __init__(
        self,
        store: Store,
        queue: WorkQueue,
        statuses: Statuses,
        steps: KeySteps,
        dirty: Dirty,
        clock: Clock,
    ) -> None:
        self._store = store
        self._queue = queue
        self._statuses = statuses
        self._steps = steps
        self._dirty = dirty
        self._clock = clock
        self._wanted: dict[ObjectKey, tuple[Meta, bytes, bytes]] = {}  # the status, and what it follows
        self._writing: dict[ObjectKey, bool] = {}  # under way; True: a pass wanted one meanwhile

    def later(self, key: ObjectKey, when: datetime) -> None:
        self._dirty.later(key, when)

    def waits(self, gateway_uid: str, part: str, key: ObjectKey) -> None:
        self._dirty.waits(gateway_uid, part, key)

    def status(self, meta: Meta, status: Status) -> None:
        if meta.key in self._writing:
            self._writing[meta.key] = True
            return
        record = self._store.get(meta.key)
        base = record.status if record is not None else b""
        wanted = canonical(status)  # bytes: a model is ten times as large, and thousands may wait
        if meta.key in self._wanted:
            self._wanted[meta.key] = (meta, wanted, base)
        elif self._statuses.differs(meta, wanted):
            self._wanted[meta.key] = (meta, wanted, base)
            self._queue.put(Priority.STATUS, lambda: self._write(meta.key))

    async def _write(self, key: ObjectKey) -> None:
        meta, status, base = self._wanted.pop(key)
        self._writing[key] = False
        try:
            await self._write_one(key, meta, status, base)
        finally:
            if self._writing.pop(key):
                self._dirty.later(key, self._clock.now())

    async def _write_one(self, key: ObjectKey, meta: Meta, status: bytes, base: bytes) -> None:
        record = self._store.get(key)
        if record is None:
            return
        if record.status != base:
            # A step recorded something meanwhile: this status does not know of it, and must not undo it.
            self._dirty.mark(key)
            return
        try:
            await self._statuses.write_encoded(meta, status)
        except Conflict:
            self._dirty.later(key, self._clock.now() + timedelta(milliseconds=200))
        except SendwardError as error:
            _log.warning("status not written", key=str(key), cause=str(error))
            self._dirty.later(key, self._clock.now() + _RETRY)

    def step(self, key: EffectiveKey, decision: Decision, status: APIKeyStatus, namespace_uid: str) -> None:
        self._steps.begin(key.key.meta.uid, decision.step)
        urgent = decision.step in (Do.END, Do.PURGE)
        meta = key.key.meta

        async def run() -> None:
            await self._steps.run(key, decision, status, namespace_uid)
            self._dirty.mark(meta.key)

        self._queue.put(Priority.REVOKE if urgent else Priority.ISSUE, run)

    def purge_invalid(self, meta: Meta, namespace_uid: str) -> None:
        async def run() -> None:
            try:
                await self._steps.purge_invalid(meta, namespace_uid)
            except SendwardError as error:
                _log.warning("key not released", key=str(meta.key), cause=str(error))
                self._dirty.later(meta.key, self._clock.now() + _RETRY)

        self._queue.put(Priority.REVOKE, run)


class Loop:
    """Owns the order of a pass. Everything else is given."""

    def __init__(
        self,
        store: Store,
        dirty: Dirty,
        documents: Documents,
        accounts: Accounts,
        gateways: Gateways,
        objects: Objects,
        sink: Queued,
        queue: WorkQueue,
        clock: Clock,
        metrics: Metrics,
        leads: Callable[[], bool],
        overtaking: Overtaking,
        sidecars: Sidecars,
    ) -> None:
        self._store = store
        self._dirty = dirty
        self._documents = documents
        self._accounts = accounts
        self._gateways = gateways
        self._objects = objects
        self._sink = sink
        self._queue = queue
        self._clock = clock
        self._metrics = metrics
        self._leads = leads
        self._overtaking = overtaking
        self._sidecars = sidecars
        self.seen: float | None = None  # monotonic: when the oldest change of the present pass was seen
        self._running: set[ObjectKey] = set()
        self._unstored: dict[tuple[str, str], tuple[GatewayDocument, Envelope]] = {}
        self._refused: set[tuple[str, str]] = set()  # of these: what the API server did not take

    async def run(self) -> None:
        """Until cancelled. Call when we lead and our kinds are listed; namespaces open one by one."""
        self.start_over()
        while True:
            await self._wait()
            if self._leads():
                await self.work_once()

    def start_over(self) -> None:
        """Look at everything that is declared, and at what stands in a document without being so."""
        for key in self._accounts.published():
            self._dirty.touch(key)
        for found in self._documents:
            self._dirty.touch(ObjectKey("MessagingGateway", found.namespace, found.name))
        self._dirty.mark_all()

    async def _wait(self) -> None:
        self.seen = self._clock.monotonic()  # what is dirty already came during the last pass
        if not len(self._dirty):
            self._dirty.wake.clear()
            try:
                async with asyncio.timeout(self._dirty.seconds_to_next()):
                    await self._dirty.wake.wait()
            except TimeoutError:
                return
            finally:
                self.seen = self._clock.monotonic()
        # A burst is one pass; a revocation must not wait for the burst to end. While jobs wait for a
        # worker, another pass would only write parts and look at waiting accounts once more.
        until = self._clock.monotonic() + HOLD_OFF_AT_MOST
        size = -1
        while (size != len(self._dirty) or self._queue.length) and self._clock.monotonic() < until:
            size = len(self._dirty)
            await asyncio.sleep(HOLD_OFF / 4)

    async def work_once(self) -> None:
        """One pass over everything that is dirty or due."""
        taken = self._dirty.take()
        if not taken:
            return
        began = self._clock.monotonic()
        by_kind: dict[str, list[ObjectKey]] = {}
        for key in sorted(taken, key=lambda key: (key.kind, key.namespace, key.name)):
            by_kind.setdefault(key.kind, []).append(key)
        gateways = by_kind.get("MessagingGateway", [])
        for key in gateways:
            self._guarded(key, self._gateways.declare)
        turn = began
        for key in by_kind.get("SenderAccount", []):
            self._guarded(key, self._accounts.reconcile)
            if self._clock.monotonic() - turn > _TURN:
                await asyncio.sleep(0)
                turn = self._clock.monotonic()
        for key in by_kind.get("APIKey", []):
            self._guarded(key, self._accounts.reconcile_key)
        for kind in POLICIES:
            for key in by_kind.get(kind, []):
                self._guarded(key, self._policy)
        self._overtaking.settle()
        self._flush()
        for key in gateways:
            self._store_again(key)
            self._start(key)
        self._metrics.observe_pass(self._clock.monotonic() - began, len(taken), self._queue.length)

    def _guarded(self, key: ObjectKey, work: Callable[[ObjectKey], None]) -> None:
        """One object's bug stays its own: what it last declared stays in force."""
        try:
            work(key)
        except Exception as error:  # noqa: BLE001
            self._broke(key, error)

    def _broke(self, key: ObjectKey, error: Exception) -> None:
        _log.error("object not compiled", key=str(key), exc_info=error)
        self._metrics.bugs.inc()
        self._dirty.later(key, self._clock.now() + timedelta(seconds=30))

    def _flush(self) -> None:
        for found in self._documents:
            key = ObjectKey("MessagingGateway", found.namespace, found.name)
            crowded = set(found.too_large)
            written, broken = self._documents.flush(found)
            for error in broken:
                self._broke(key, error)
            if found.too_large != crowded:  # its gateway says so
                self._dirty.touch(key)
            for envelope in written:
                self._persist(found, envelope)

    def _persist(self, found: GatewayDocument, envelope: Envelope) -> None:
        slot = (found.uid, envelope.part)
        queued = slot in self._unstored
        self._unstored[slot] = (found, envelope)
        if not queued:
            self._queue.put(Priority.DOCUMENT, lambda: self._store_part(slot))

    async def _store_part(self, slot: tuple[str, str]) -> None:
        found, envelope = self._unstored[slot]
        if self._documents.get(found.uid) is not found:  # the gateway is gone
            del self._unstored[slot]
            return
        secret = document_secret(found.namespace, found.name, found.uid, envelope.part, encode(envelope))
        try:
            await self._objects.ensure(kinds.SECRET, secret, found.uid)
        except SendwardError as error:
            _log.warning("document part not stored", gateway=found.name, part=envelope.part, cause=str(error))
            # Not asleep in here: a namespace whose Secrets are refused must not occupy all workers.
            self._refused.add(slot)
            self._dirty.later(
                ObjectKey("MessagingGateway", found.namespace, found.name), self._clock.now() + _RETRY
            )
            return
        if self._documents.get(found.uid) is not found:  # it went while this was written
            del self._unstored[slot]
            await self._objects.remove(Target(kinds.SECRET, found.namespace, secret["metadata"]["name"]))
            return
        self._documents.stored(found, envelope)
        self._sidecars.progressed(self._documents, found, [envelope.part], self._clock.now())
        if self._unstored[slot][1] is envelope:
            del self._unstored[slot]
        else:  # a newer one came while this was written
            self._queue.put(Priority.DOCUMENT, lambda: self._store_part(slot))

    def _store_again(self, key: ObjectKey) -> None:
        for slot in list(self._refused):
            found = self._unstored[slot][0]
            if (found.namespace, found.name) == (key.namespace, key.name):
                self._refused.discard(slot)
                self._queue.put(Priority.DOCUMENT, lambda slot=slot: self._store_part(slot))  # type: ignore[misc]

    def restore_part(self, gateway_uid: str, part: str) -> None:
        """Somebody deleted or changed the Secret of a part: write it again."""
        found = self._documents.get(gateway_uid)
        envelope = found.envelopes.get(part) if found else None
        if found is None or envelope is None or (gateway_uid, part) in self._unstored:
            return
        self._unstored[gateway_uid, part] = (found, envelope)
        self._queue.put(Priority.DOCUMENT, lambda: self._store_part((gateway_uid, part)))

    def _start(self, key: ObjectKey) -> None:
        record = self._store.get(key)
        found = self._documents.get(record.meta.uid) if record is not None else None
        if found is not None:  # time alone may have brought it further: guards that do not count any more
            self._sidecars.progressed(self._documents, found, found.envelopes, self._clock.now())
        if key in self._running:
            self._dirty.later(key, self._clock.now() + timedelta(milliseconds=50))
            return
        self._running.add(key)
        self._queue.put(Priority.GATEWAY, lambda: self._gateway(key))

    async def _gateway(self, key: ObjectKey) -> None:
        try:
            await self._gateways.reconcile(key)
            self._metrics.reconciled("MessagingGateway", "success")
        except Conflict:
            self._dirty.later(key, self._clock.now() + timedelta(milliseconds=200))
        except SendwardError as error:
            self._metrics.reconciled("MessagingGateway", "error")
            _log.warning("gateway not reconciled", key=str(key), cause=str(error))
            self._dirty.later(key, self._clock.now() + _RETRY)
        finally:
            self._running.discard(key)
        self._flush()

    def _policy(self, key: ObjectKey) -> None:
        record = self._store.get(key)
        if record is None or record.meta.deleting:
            return
        problems = []
        if isinstance(record.item, Invalid):
            problems = [
                Problem(ConditionType.ACCEPTED, Reason.INVALID, "", error) for error in record.item.errors
            ]
        known = PolicyStatus.model_validate_json(record.status)
        generation = record.meta.generation
        found = conditions(known.conditions, generation, self._clock.now(), problems, None)
        self._sink.status(record.meta, PolicyStatus(observed_generation=generation, conditions=found))
