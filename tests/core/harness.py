"""The operator's core without sockets: the real pipeline over an API server and a Vault in memory.

Nothing happens by itself. A test delivers the watches' news, runs passes and single jobs, lets
guards take what was published, and kills the process, in any order.
"""

from __future__ import annotations

import asyncio
import copy
from base64 import b64decode
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sendward import document, names
from sendward.apply import kinds
from sendward.apply.credentials import Credentials
from sendward.apply.events import Events
from sendward.apply.objects import Objects, Target
from sendward.apply.ports import Kind
from sendward.apply.signing import DocumentSigner
from sendward.apply.statuses import Statuses
from sendward.controller.accounts import Accounts
from sendward.controller.dirty import Dirty
from sendward.controller.documents import Documents
from sendward.controller.findings import Patience
from sendward.controller.gateways import Gateways
from sendward.controller.hub_state import GatewayState
from sendward.controller.keysteps import KeySteps
from sendward.controller.loop import Loop, Queued
from sendward.controller.metrics import Metrics
from sendward.controller.overtaking import Overtaking
from sendward.controller.queue import WorkQueue
from sendward.controller.view import Sidecars, View
from sendward.controller.watch import Owned, Resources
from sendward.document import Account, Envelope, Version
from sendward.graph.facts import Guard, Namespace, Pod
from sendward.graph.store import Store
from sendward.protocol import Ack, Have, Hello
from sendward.resources.base import ObjectKey
from tests.fakes.memory import MemoryKube, MemoryVault

TENANT = "tenant"
TENANT_UID = "uid-of-tenant"
START = datetime(2026, 1, 1, tzinfo=UTC)
_BY_KIND = {kind.kind: kind for kind in kinds.OURS}
_SIGNER = DocumentSigner(Ed25519PrivateKey.generate())


@dataclass
class SimulatedClock:
    """Stands still but for `pass_time`."""

    moment: datetime = START

    def now(self) -> datetime:
        return self.moment

    def monotonic(self) -> float:
        return (self.moment - START).total_seconds()


@dataclass
class SimulatedGuard:
    """A guard in a pod: what it has in force, by gateway part. It never goes back."""

    pod: Pod
    parts: dict[str, Envelope] = field(default_factory=dict)

    def accepts(self, account: str, version_id: str, now: datetime) -> bool:
        """Whether a key version of an account passes authentication and state."""
        found = self.version(account, version_id)
        if found is None or found.revoked:
            return False
        return found.not_after is None or now.timestamp() < found.not_after

    def version(self, account: str, version_id: str) -> Version | None:
        """What its document says of a version."""
        versions = [v for a in self.accounts() if a.name == account for k in a.keys for v in k.versions]
        return next((v for v in versions if v.id == version_id), None)

    def accounts(self) -> list[Account]:
        """All entries of its shards."""
        shards = [envelope for part, envelope in self.parts.items() if part != names.PART_GATEWAY]
        return [account for shard in shards for account in document.open_shard(shard).accounts]


class SimulatedHub:
    """The hub's memory (`GatewayState`), with guards that answer when they are told to."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.states: dict[str, GatewayState] = {}

    def publish(self, gateway_uid: str, envelopes: Mapping[str, Envelope]) -> None:
        state = self.states.get(gateway_uid)
        if state is None:
            state = self.states[gateway_uid] = GatewayState()
            state.publish(envelopes, [])
            for guard in self._world.guards_of(gateway_uid):
                self._greet(state, guard)
        else:
            state.publish(envelopes, [])
        self._report_ahead(gateway_uid)

    def withdraw(self, gateway_uid: str) -> None:
        self.states.pop(gateway_uid, None)

    def guards(self, gateway_uid: str, part: str | None = None) -> dict[str, Guard]:
        state = self.states.get(gateway_uid)
        return state.facts(part) if state else {}

    def connect(self, gateway_uid: str, guard: SimulatedGuard) -> None:
        state = self.states.get(gateway_uid)
        if state is not None:
            self._greet(state, guard)
            self._report_ahead(gateway_uid)

    def take(self, gateway_uid: str, guard: SimulatedGuard) -> bool:
        """The guard takes all that is newer and acknowledges; False when there is nothing."""
        found = self._world.documents.get(gateway_uid)
        state = self.states.get(gateway_uid)
        if found is None or state is None:
            return False
        took = False
        for part, envelope in found.envelopes.items():
            held = guard.parts.get(part)
            if part in state.published and (held is None or held.order < envelope.order):
                guard.parts[part] = envelope
                state.acknowledge(guard.pod.uid, Ack(part, envelope.epoch, envelope.revision))
                self._world.on_change(gateway_uid, part)
                took = True
        return took

    def _greet(self, state: GatewayState, guard: SimulatedGuard) -> None:
        have = {part: Have(e.epoch, e.revision, e.digest) for part, e in guard.parts.items()}
        state.hello(guard.pod, Hello([1], 0, have), self._world.clock.now())

    def _report_ahead(self, gateway_uid: str) -> None:
        state = self.states[gateway_uid]
        for guard in self._world.guards_of(gateway_uid):
            for part, order in state.ahead(guard.pod.uid).items() if guard.pod.uid in state.records else ():
                self._world.overtaking.ahead(gateway_uid, part, order)


class World:
    """One namespace, an operator process (`start` makes another one), and guards."""

    def __init__(self, *, onboarded: bool = True) -> None:
        self.clock = SimulatedClock()
        self.kube = MemoryKube()
        self.vault = MemoryVault()
        self.guards: list[SimulatedGuard] = []
        self.onboarded = onboarded
        self.epoch = 0
        self.loop = asyncio.new_event_loop()
        self.start()

    def close(self) -> None:
        self.loop.close()

    # --- the process ----------------------------------------------------------------------------

    def start(self) -> None:
        """A new process: it knows what the API server holds, and nothing else."""
        self.epoch += 1
        self.kube.news.clear()
        store = self.store = Store()
        store.namespaces[TENANT] = Namespace(TENANT, TENANT_UID, self.onboarded)
        clock = self.clock
        self.dirty = Dirty(store, clock)
        self.hub = SimulatedHub(self)
        view = View(store)
        self.sidecars = Sidecars(store, self.dirty, view)
        patience = Patience(clock.monotonic())
        objects = self.objects = Objects(self.kube, self._drifted)
        statuses = Statuses(self.kube, store, lambda: True)
        events = Events(self.kube, clock, "test")
        self.steps = KeySteps(Credentials(self.vault), statuses, objects, events, clock, lambda _: None)
        self.queue = WorkQueue()
        documents = self.documents = Documents(self.hub, _SIGNER, lambda: self.epoch)
        view.use(documents)
        sink = Queued(store, self.queue, statuses, self.steps, self.dirty, clock)
        self.accounts = Accounts(store, documents, self.steps, sink, clock, patience)
        self.gateways = Gateways(
            store,
            documents,
            self.kube,
            self.vault,
            objects,
            statuses,
            events,
            clock,
            patience,
            names.OPERATOR_NAMESPACE,
            self.dirty.later,
        )
        self.overtaking = Overtaking(store, documents, self.steps, self.dirty, self.on_change)
        self.passes = Loop(
            store,
            self.dirty,
            documents,
            self.accounts,
            self.gateways,
            objects,
            sink,
            self.queue,
            clock,
            Metrics(Counter(), Counter()),
            lambda: True,
            self.overtaking,
            self.sidecars,
        )
        self.resources = Resources(store, self.dirty, self._key_gone)
        self.owned = Owned(objects, self.gateways, self.steps)
        for kind in (*kinds.OURS, kinds.SECRET, kinds.NETWORK_POLICY):
            for obj in self.kube.of(kind):
                self._tell("ADDED", kind, obj)
        for guard in self.guards:
            store.set_pod(guard.pod)
        if self.onboarded:
            self._take_over()
        self.passes.start_over()

    def _take_over(self) -> None:
        for secret in self.kube.of(kinds.SECRET):
            if secret["metadata"]["labels"].get(names.LABEL_PART) == "document":
                envelope = document.decode(b64decode(secret["data"]["document"]))
                _SIGNER.verify(envelope, envelope.gateway, envelope.part)
                gateway = next(
                    (r for r in self.store.group(TENANT).gateways.values() if r.meta.uid == envelope.gateway),
                    None,
                )
                if gateway is not None:
                    shards = gateway.item.spec.shards  # type: ignore[union-attr]
                    name = gateway.meta.key.name
                    self.documents.load(envelope.gateway, TENANT, name, shards, envelope)
        self.store.opened.add(TENANT)
        for found in self.documents:
            self.accounts.load(found)
            self.hub.publish(found.uid, dict(found.envelopes))

    def _drifted(self, owner: str, target: Target) -> None:
        found = self.documents.get(owner)
        if found is not None:
            self.dirty.touch(ObjectKey("MessagingGateway", TENANT, found.name))

    def _key_gone(self, uid: str) -> None:
        self.steps.forget(uid)
        self.accounts.forget_key(uid)

    def on_change(self, gateway_uid: str, part: str = "") -> None:
        self.sidecars.heard(self.documents, gateway_uid, part, self.clock.now())

    # --- what may happen ------------------------------------------------------------------------

    def put(self, kind: str, name: str, spec: dict[str, Any], **labels: str) -> None:
        """A user creates or changes an object."""
        meta = {"namespace": TENANT, "name": name, "labels": labels}
        self.kube.put(_BY_KIND[kind], {"metadata": meta, "spec": spec})

    def change(self, kind: str, name: str, **fields: Any) -> None:
        """A user changes fields of a spec; None removes one."""
        obj = self.get(kind, name)
        spec = {**obj["spec"], **fields}
        obj["spec"] = {name: value for name, value in spec.items() if value is not None}
        self.kube.put(_BY_KIND[kind], obj)

    def erase(self, kind: str, name: str) -> None:
        """A user deletes an object."""
        self.kube.erase(_BY_KIND[kind], TENANT, name)

    def add_guard(self, name: str, gateway: str) -> SimulatedGuard:
        """A ready pod of a gateway, with a connected guard."""
        pod = Pod(f"uid-{name}", TENANT, name, gateway, ready=True, terminating=False, injected=True)
        guard = SimulatedGuard(pod)
        self.guards.append(guard)
        self.store.set_pod(pod)
        uid = self.gateway_uid(gateway)
        if uid:
            self.hub.connect(uid, guard)
        self.sidecars.changed(TENANT, gateway)
        return guard

    def deliver(self) -> bool:
        """The watches tell everything that is new; False when nothing is."""
        news, self.kube.news = self.kube.news, []
        for type_, kind, obj in news:
            self._tell(type_, kind, obj)
        return bool(news)

    def _tell(self, type_: str, kind: Kind, obj: dict[str, Any]) -> None:
        if kind in kinds.OURS:
            if type_ == "DELETED":
                self.resources.deleted(kind.kind, obj)
            else:
                self.resources.event(kind.kind, obj)
        elif kind in (kinds.SECRET, kinds.NETWORK_POLICY):
            if type_ == "DELETED":
                self.owned.deleted(kind, obj)
            else:
                self.owned.event(kind, obj)

    def work_pass(self) -> bool:
        """One pass; False when nothing was dirty or due."""
        due = self.dirty.seconds_to_next()
        if not len(self.dirty) and (due is None or due > 0):
            return False
        self.loop.run_until_complete(self.passes.work_once())
        return True

    def work_job(self) -> bool:
        """The most urgent job; False when there is none."""
        if not self.queue.length:
            return False
        self.loop.run_until_complete(self.queue.work_one())
        return True

    def take(self, guard: SimulatedGuard) -> bool:
        """A guard takes what was published and acknowledges it."""
        uid = self.gateway_uid(guard.pod.gateway)
        return bool(uid) and self.hub.take(uid, guard)

    def pass_time(self, span: timedelta) -> None:
        self.clock.moment += span

    def settle(self, *, guards: bool = True) -> None:
        """Everything that can happen now happens, patience included; fails when it never ends."""
        for _ in range(2000):
            moved = self.deliver() or self.work_job() or self.work_pass()
            if guards:
                moved = sum(self.take(guard) for guard in self.guards) > 0 or moved
            if not moved:
                wait = self.dirty.seconds_to_next()
                if wait is None or wait >= 30:  # a Secret that the user keeps is looked at each 30 s
                    return
                self.pass_time(timedelta(seconds=max(wait, 0.001)))
        raise AssertionError("the operator does not come to rest")

    # --- what there is --------------------------------------------------------------------------

    def get(self, kind: str, name: str) -> dict[str, Any]:
        """A copy of an object as the API server has it."""
        return copy.deepcopy(self.kube.objects[_BY_KIND[kind].plural, TENANT, name])

    def exists(self, kind: str, name: str) -> bool:
        return (_BY_KIND[kind].plural, TENANT, name) in self.kube.objects

    def status(self, kind: str, name: str) -> dict[str, Any]:
        status: dict[str, Any] = self.get(kind, name)["status"]
        return status

    def condition(self, kind: str, name: str, type_: str) -> tuple[str, str]:
        """(status, reason); ("", "") when it does not stand."""
        for condition in self.status(kind, name).get("conditions", []):
            if condition["type"] == type_:
                return condition["status"], condition["reason"]
        return "", ""

    def gateway_uid(self, name: str) -> str:
        found = self.kube.objects.get((kinds.MESSAGING_GATEWAY.plural, TENANT, name))
        return found["metadata"]["uid"] if found else ""

    def guards_of(self, gateway_uid: str) -> list[SimulatedGuard]:
        return [guard for guard in self.guards if self.gateway_uid(guard.pod.gateway) == gateway_uid]
