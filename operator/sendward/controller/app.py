"""Composition root of the operator: settings and clients to objects, once. `process.py` runs it.

Every process watches, serves TLS and keeps a warm Store; the one that holds the Lease loads the
documents, decides and writes. A process that loses the Lease ends at once.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Sequence, Set
from typing import Any, Final

import structlog

from sendward import names
from sendward.apply import kinds
from sendward.apply.authority import Authority, patch_webhook
from sendward.apply.credentials import Credentials
from sendward.apply.events import Events
from sendward.apply.informer import Following, Informer, until_following
from sendward.apply.kube import KubeClient
from sendward.apply.objects import Objects, Target
from sendward.apply.ports import Kind
from sendward.apply.signing import DocumentSigner, publish_public_key
from sendward.apply.statuses import Statuses
from sendward.apply.vault import VaultClient
from sendward.clock import SystemClock
from sendward.conditions import EventReason
from sendward.controller import handlers
from sendward.controller.accounts import Accounts
from sendward.controller.dirty import Dirty
from sendward.controller.documents import Documents, Order
from sendward.controller.findings import Patience
from sendward.controller.gateways import Gateways
from sendward.controller.hub import Hub
from sendward.controller.keysteps import KeySteps
from sendward.controller.leader import Leader
from sendward.controller.listing import Listing
from sendward.controller.loop import Loop, Queued
from sendward.controller.metrics import Metrics
from sendward.controller.overtaking import Overtaking
from sendward.controller.probes import Probes
from sendward.controller.queue import Priority, WorkQueue
from sendward.controller.settings import Settings
from sendward.controller.sweep import sweep
from sendward.controller.tenants import Tenants
from sendward.controller.vault_audit import VaultAudit
from sendward.controller.view import Sidecars, View
from sendward.controller.watch import Namespaces, Owned, Pods, Resources
from sendward.errors import SendwardError
from sendward.graph.store import Store
from sendward.resources.base import ObjectKey

_RESYNC: Final = 600.0
_USAGE: Final = 5.0
_AUTHORITY: Final = 25.0  # until what somebody deleted in the operator's namespace is back
_RETRY: Final = 1.0
_MENDED: Final = 20.0  # until watches follow that broke before this process led: a back-off and a listing
_log = structlog.get_logger(__name__)


class Operator:
    """All parts of one operator process. `follow` watches the kinds of `handlers.WATCHED`. Port 0: any."""

    def __init__(
        self,
        settings: Settings,
        kube: KubeClient,
        vault: VaultClient,
        signer: DocumentSigner,
        *,
        follow: Callable[[Resources, str, str], Coroutine[Any, Any, None]] = handlers.run,
        hub_port: int = names.PORT_HUB,
        probe_port: int = names.PORT_OPERATOR_PROBE,
    ) -> None:
        self._follow = follow
        self._hub_port = hub_port
        self._probe_port = probe_port
        self._settings = settings
        self._kube = kube
        self._vault = vault
        self._signer = signer
        self._clock = clock = SystemClock()
        self.metrics = Metrics(kube.calls, vault.calls)
        self.store = store = Store()
        self.metrics.shows(store.tally.conditions)
        self._dirty = dirty = Dirty(store, clock)
        self._view = view = View(store)
        self._sidecars = Sidecars(store, dirty, view)
        self._patience = Patience(clock.monotonic())
        self.leader = Leader(kube, settings.namespace, settings.identity, clock, on_lost=_die)
        self._leading = False
        self.hub = Hub(
            kube,
            view,
            clock,
            is_serving=lambda: self._leading and self.leader.is_leader,
            epoch=lambda: self.leader.epoch,
            on_change=self._on_change,
            on_epoch=self._on_epoch,
            on_ahead=self._on_ahead,
            seen=lambda: self._loop.seen,
        )
        self.authority = Authority(kube, settings.namespace, clock)
        self._events = Events(kube, clock, settings.identity)
        self._objects = Objects(kube, self._drifted, self._ends, lambda: self._leading)
        self._statuses = Statuses(kube, store, lambda: self.leader.is_leader)
        self._steps = KeySteps(
            Credentials(vault), self._statuses, self._objects, self._events, clock, self.metrics.issued
        )
        self._queue = WorkQueue()
        self._compose()

    def _compose(self) -> None:
        documents = self._documents = Documents(self.hub, self._signer, lambda: self.leader.epoch)
        self._view.use(documents)
        sink = Queued(self.store, self._queue, self._statuses, self._steps, self._dirty, self._clock)
        self._accounts = Accounts(self.store, documents, self._steps, sink, self._clock, self._patience)
        self._gateways = Gateways(
            self.store,
            documents,
            self._kube,
            self._vault,
            self._objects,
            self._statuses,
            self._events,
            self._clock,
            self._patience,
            self._settings.namespace,
            self._dirty.later,
        )
        self._overtaking = Overtaking(self.store, documents, self._steps, self._dirty, self._on_change)
        self._loop = Loop(
            self.store,
            self._dirty,
            documents,
            self._accounts,
            self._gateways,
            self._objects,
            sink,
            self._queue,
            self._clock,
            self.metrics,
            lambda: self.leader.is_leader,
            self._overtaking,
            self._sidecars,
        )
        self._resources = Resources(self.store, self._dirty, self._key_gone)
        self._audit = VaultAudit(self._vault, self.store, self._steps, self._dirty.mark)
        owned = Owned(self._objects, self._gateways, self._steps, lambda: self._leading)
        self._tenants = Tenants(
            self._kube, self.store, self._objects, owned, documents, self._signer,
            lambda: self.authority.bundle, self._opened, _restored,
        )  # fmt: skip

    # --- news -----------------------------------------------------------------------------------

    def _on_change(self, gateway_uid: str, part: str = "") -> None:
        self._sidecars.heard(self._documents, gateway_uid, part, self._clock.now())

    def _on_epoch(self, seen: int) -> None:
        _log.warning("a guard has seen a higher epoch", seen=seen, epoch=self.leader.epoch)
        self._queue.put(Priority.REVOKE, lambda: self.leader.raise_epoch(seen))

    def _on_ahead(self, gateway_uid: str, part: str, order: Order) -> None:
        self._overtaking.ahead(gateway_uid, part, order)

    def _drifted(self, owner: str, target: Target) -> None:
        """Somebody changed or deleted an object of ours: what it comes from is looked at again."""
        if not self._leading:
            return
        _log.warning("object drifted", kind=target.kind.kind, namespace=target.namespace, name=target.name)
        if target.kind == kinds.CONFIG_MAP:
            self._queue.put(Priority.GATEWAY, lambda: self._tenants.restore_ca(target.namespace))
            return
        found = self._documents.get(owner)
        if found is None or found.namespace != target.namespace:  # whose it is, the object says itself
            self._key_drifted(owner, target)
            return
        gateway = ObjectKey("MessagingGateway", found.namespace, found.name)
        self._tell_drift(gateway, target)
        prefix = names.document_secret(found.name, "")
        if target.name == names.tls_secret(found.name):
            self._gateways.lost_tls(target.namespace, owner)
        elif target.kind == kinds.SECRET and target.name.startswith(prefix):
            self._loop.restore_part(owner, target.name.removeprefix(prefix))
        self._dirty.touch(gateway)

    def _tell_drift(self, owner: ObjectKey, target: Target) -> None:
        record = self.store.get(owner)
        if record is not None and not record.meta.deleting:
            note = f"{target.kind.kind} {target.name} was changed or deleted by somebody else: restored"
            self._events.emit(record.meta, EventReason.DRIFT_REPAIRED, note, "Warning")

    def _ends(self, namespace: str) -> bool:
        found = self.store.namespaces.get(namespace)
        return found is not None and found.terminating

    def _key_drifted(self, owner: str, target: Target) -> None:
        for record in self.store.group(target.namespace).keys.values():
            if record.meta.uid == owner:
                self._tell_drift(record.meta.key, target)
                self._steps.saw_hand_over(target.namespace, owner, "")
                self._dirty.mark(record.meta.key)

    def _key_gone(self, uid: str) -> None:
        self._steps.forget(uid)
        self._accounts.forget_key(uid)

    def _opened(self, namespace: str) -> None:
        """What an earlier leader left in the namespace is loaded."""
        self.store.opened.add(namespace)
        for found in self._documents:
            if found.namespace == namespace:
                self._accounts.load(found)
                self.hub.load(found.uid, dict(found.envelopes))
                self._dirty.touch(ObjectKey("MessagingGateway", namespace, found.name))
        for key in self._accounts.published():
            self._dirty.touch(key)
        self._dirty.mark_namespace(namespace)

    def _onboarded(self, namespace: str, present: bool) -> None:
        if not present:
            self.store.opened.discard(namespace)
        self._tenants.onboarded(namespace, present)

    # --- running --------------------------------------------------------------------------------

    def _informers(self) -> list[Informer]:
        namespaces = Namespaces(self.store, self._dirty, self._onboarded, self._settings.namespace)
        pods = Pods(self.store, self.hub.pod_gone, self._sidecars.changed)

        def ours(kind: Kind) -> Informer:
            def reset(seen: Set[tuple[str, str]]) -> None:
                for other in handlers.WATCHED:  # what this watch missed, that of kopf missed too
                    self._resources.gaps[other.kind].set()
                self._resources.reset(kind.kind, {ObjectKey(kind.kind, ns, name) for ns, name in seen})

            return self._informer(
                kind,
                lambda raw: self._resources.event(kind.kind, raw),
                lambda raw: self._resources.deleted(kind.kind, raw),
                reset,
            )

        return [
            self._informer(
                kinds.NAMESPACE,
                namespaces.event,
                namespaces.deleted,
                lambda seen: namespaces.reset({name for _, name in seen}),
            ),
            self._informer(
                kinds.POD,
                pods.event,
                pods.deleted,
                lambda seen: pods.reset(set(seen)),
                label_selector=names.LABEL_GATEWAY,
            ),
            ours(kinds.SENDER_ACCOUNT),
            ours(kinds.API_KEY),
        ]

    def _informer(
        self,
        kind: Kind,
        changed: Callable[[dict[str, Any]], None],
        deleted: Callable[[dict[str, Any]], None],
        reset: Callable[[Set[tuple[str, str]]], None],
        label_selector: str = "",
    ) -> Informer:
        def event(type_: str, raw: dict[str, Any]) -> None:
            (deleted if type_ == "DELETED" else changed)(raw)

        return Informer(self._kube, kind, event, reset, _restored, label_selector=label_selector)

    async def run(self) -> None:
        """Until cancelled."""
        await self.authority.ensure()
        await self.hub.start(self.authority.hub_context, port=self._hub_port)
        informers = self._informers()
        listings = [Listing(self._kube, kind, self._resources, _restored) for kind in handlers.WATCHED]
        views: list[Informer | Listing] = [*informers, *listings]
        probes = Probes(self.metrics.registry, lambda: all(one.ready.is_set() for one in listings), informers)
        await probes.start(self._probe_port)
        try:
            async with asyncio.TaskGroup() as group:
                for one in views:
                    group.create_task(one.run())
                group.create_task(self._follow(self._resources, self._kube.url, self._settings.identity))
                group.create_task(self.leader.run())
                group.create_task(self._lead(views))
                group.create_task(self._every(_RESYNC, self._stand_by))
        finally:
            await probes.stop()
            await self._tenants.close()
            await self.hub.stop()

    async def _lead(self, views: Sequence[Informer | Listing]) -> None:
        for view in views:
            await view.ready.wait()
        await self.leader.acquired.wait()
        await self._until_following(views)
        self.metrics.leads(lambda: self.leader.is_leader)
        self._leading = True
        self._patience.started = self._clock.monotonic()
        now = self._clock.now()
        self._steps.heard_since = self._gateways.leads_since = self.hub.serving_since = now
        async with asyncio.TaskGroup() as group:
            group.create_task(self._queue.run())
            group.create_task(self._events.run())
            group.create_task(self._every(_AUTHORITY, self._trust))
            self._tenants.lead()
            group.create_task(self._loop.run())
            group.create_task(self._every(_USAGE, self._usage))
            group.create_task(self._every(_RESYNC, self._resync))
            group.create_task(self._audit.keep())

    async def _until_following(self, views: Sequence[Following]) -> None:
        try:
            async with asyncio.timeout(_MENDED):
                await until_following(views)
        except TimeoutError:
            _log.error("the watches are not mended: another process takes over")
            _die()

    async def _trust(self) -> None:
        """The CA, what it issued, and who must know it."""
        await self.authority.ensure()
        await self.authority.ensure_webhook()
        await self._signer.keep(self._kube, self._settings.namespace)
        await publish_public_key(self._kube, self._settings.namespace, self._signer)
        for namespace in list(self.store.opened):
            await self._tenants.ensure_ca(namespace)
        await patch_webhook(self._kube, self.authority.bundle)

    async def _usage(self) -> None:
        for gateway_uid, used in self.hub.last_used().items():
            self._steps.used(gateway_uid, used)

    async def _stand_by(self) -> None:
        """Who does not lead decides nothing: everything is looked at when it begins to."""
        if not self._leading:
            self._dirty.take()

    async def _resync(self) -> None:
        sweep(
            self.store, self._dirty, self._documents, self._accounts, self._gateways, self._steps,
            self._objects, self._patience,
        )  # fmt: skip
        self._loop.start_over()

    async def _every(self, seconds: float, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        while True:
            try:
                await work()
            except SendwardError as error:
                _log.warning("periodic work failed", work=work.__name__, cause=str(error))
                await asyncio.sleep(_RETRY)
                continue
            await asyncio.sleep(seconds)


def _restored(kind: str) -> None:
    """What was seen of all objects belongs to another past: a new process sees only what there is."""
    _log.error("the API server's data was restored from a backup", kind=kind)
    _die()


def _die() -> None:
    """What is known and under way here may no longer be true: another process, or a new one, goes on."""
    os._exit(1)
