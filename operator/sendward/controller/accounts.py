"""One account at a time: effective policy, its entry in the documents, the next step of each of its
keys, and the statuses of both. Synchronous and without I/O; what must be done is handed to a sink.
"""

from __future__ import annotations

from collections.abc import Iterable, Set
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol

from sendward import document, names
from sendward.clock import Clock
from sendward.compile import credentials
from sendward.compile.credentials import Decision, Do, Facts
from sendward.compile.document import account_entry
from sendward.compile.status import Finding, conditions, programmed
from sendward.conditions import ConditionType, Reason
from sendward.controller.admission import Admission
from sendward.controller.desired import account_status, key_finding, key_status, step_writes
from sendward.controller.documents import Documents, GatewayDocument
from sendward.controller.findings import Patience, State, is_first, not_onboarded, programmed_finding
from sendward.controller.keysteps import KeySteps
from sendward.controller.places import InForce, Place, Places
from sendward.graph import effective
from sendward.graph.acknowledgement import Ack
from sendward.graph.effective import EffectiveAccount, EffectiveKey
from sendward.graph.problems import Problem
from sendward.graph.store import Group, Record, Store
from sendward.resources.api_key import APIKeySpec
from sendward.resources.base import Invalid, Meta, ObjectKey, Resource
from sendward.resources.status import APIKeyStatus, SenderAccountStatus, Status

ACCEPTED = ConditionType.ACCEPTED
_BEGINS = (Do.ADD_FINALIZER, Do.DRAW)


class Sink(Protocol):
    """Where a pass leaves its work."""

    def status(self, meta: Meta, status: Status) -> None:
        """Write this status, unless a newer one follows first."""

    def step(self, key: EffectiveKey, decision: Decision, status: APIKeyStatus, namespace_uid: str) -> None:
        """Carry out a step."""

    def purge_invalid(self, meta: Meta, namespace_uid: str) -> None:
        """Release a deleted key whose spec cannot be read."""

    def later(self, key: ObjectKey, when: datetime) -> None:
        """Look at the object again then."""

    def waits(self, gateway_uid: str, part: str, key: ObjectKey) -> None:
        """Look at the object again when guards of the gateway are further with the part ("": any)."""


@dataclass(frozen=True, slots=True)
class _Context:
    """What one pass over an account needs throughout."""

    key: ObjectKey
    group: Group
    namespace_uid: str
    now: datetime


@dataclass(frozen=True, slots=True)
class _KeyView:
    """One key in a pass. The `facts` do not know yet whether its versions are in force."""

    key: EffectiveKey
    record: Record
    status: APIKeyStatus
    facts: Facts


class Accounts:
    """Remembers in which documents each account stands."""

    def __init__(
        self,
        store: Store,
        documents: Documents,
        steps: KeySteps,
        sink: Sink,
        clock: Clock,
        patience: Patience,
    ) -> None:
        self._store = store
        self._documents = documents
        self._steps = steps
        self._sink = sink
        self._clock = clock
        self._patience = patience
        self._published: dict[ObjectKey, Place] = {}
        self._places = Places()
        self._in_force = InForce(store, documents, self._places)
        self._admission = Admission()

    def load(self, found: GatewayDocument) -> None:
        """Take over what a document of an earlier leader holds. Entries of accounts that are gone are
        taken out at once: their names may be in use again.
        """
        for entries in found.accounts:
            for uid, entry in list(entries.items()):
                key = ObjectKey("SenderAccount", found.namespace, entry.name)
                known = self._published.get(key)
                same = known is not None and known.account == uid
                place = Place(uid, (known.gateways if known and same else frozenset()) | {found.uid})
                for held in entry.keys:
                    self._steps.load(held)
                    self._places.put(held.uid, place)
                record = self._store.get(key)
                if record is None or record.meta.uid != uid:
                    found.set_account(uid, None)
                else:
                    self._published[key] = place

    def forget_key(self, uid: str) -> None:
        """The APIKey exists no more."""
        self._places.forget(uid)
        self._call(self._admission.leave(uid))

    def sweep(self, keys: Set[str]) -> None:
        """Forget all keys but these (uids), and the accounts that went."""
        published = {place.account for place in self._published.values()}
        self._in_force.sweep(keys, published, self._clock.now())

    def published(self) -> Iterable[ObjectKey]:
        """Every account that stands in a document: also those whose object is gone."""
        return list(self._published)

    def reconcile(self, key: ObjectKey) -> None:
        """One pass over an account and its keys."""
        namespace = self._store.namespaces.get(key.namespace)
        group = self._store.group(key.namespace)
        uid = namespace.uid if namespace else ""
        context = _Context(key, group, uid, self._clock.now())
        record = group.accounts.get(key.name)
        if namespace is not None and namespace.onboarded and key.namespace not in self._store.opened:
            return  # what an earlier leader left there is not loaded yet
        if record is None or record.meta.deleting:
            self._withdraw(key)
        elif namespace is None or not namespace.onboarded:
            self._refuse(context, record, [not_onboarded(record.meta, namespace)])
        elif isinstance(record.item, Invalid):
            self._refuse(context, record, _invalid(record.item))
        else:
            self._sound(context, effective.of_account(group, record.item), record)
            return
        for name in sorted(group.keys_of_account.get(key.name, ())):
            self.reconcile_key(ObjectKey("APIKey", key.namespace, name))

    def reconcile_key(self, key: ObjectKey) -> None:
        """A key without a usable account: in no document, told why, released when deleted."""
        namespace = self._store.namespaces.get(key.namespace)
        group = self._store.group(key.namespace)
        record = group.keys.get(key.name)
        if record is None or namespace is None:
            return
        context = _Context(key, group, namespace.uid, self._clock.now())
        if not namespace.onboarded:
            self._refuse_key(context, record, [not_onboarded(record.meta, namespace)])
            return
        if key.namespace not in self._store.opened:
            return
        if isinstance(record.item, Invalid):
            self._invalid_key(context, record.item, record)
            return
        item: Resource[APIKeySpec] = record.item
        account = group.accounts.get(item.spec.account)
        if account is not None and isinstance(account.item, Resource) and not account.meta.deleting:
            return  # its account's pass covers it
        found = effective.orphan_key(group, item)
        state = self._in_force.key(key.namespace, record.meta.uid, context.now)
        self._key(context, self._view(context, found, record), state, [])

    def _withdraw(self, key: ObjectKey) -> None:
        place = self._published.pop(key, None)
        for gateway in place.gateways if place else ():
            found = self._documents.get(gateway)
            if place is not None and found is not None:
                found.set_account(place.account, None)
                found.unread.discard(place.account)

    def _refuse(self, context: _Context, record: Record, problems: list[Problem]) -> None:
        self._withdraw(context.key)
        status = SenderAccountStatus.model_validate_json(record.status)
        found = conditions(
            status.conditions,
            record.meta.generation,
            context.now,
            problems,
            programmed(Reason.PENDING, "The account is not accepted: all its messages are refused"),
        )
        update = {"conditions": found, "observed_generation": record.meta.generation}
        self._sink.status(record.meta, status.model_copy(update=update))

    def _invalid_key(self, context: _Context, item: Invalid, record: Record) -> None:
        state = self._in_force.key(context.key.namespace, item.meta.uid, context.now)
        if item.meta.deleting:
            if names.FINALIZER in item.meta.finalizers and state in (Ack.ALL, Ack.NONE_EXPECTED):
                self._sink.purge_invalid(item.meta, context.namespace_uid)
            else:
                self._wait(context, self._in_force.concerned(context.key.namespace, item.meta.uid))
            return
        self._refuse_key(context, record, _invalid(item))

    def _refuse_key(self, context: _Context, record: Record, problems: list[Problem]) -> None:
        meta = record.meta
        status = APIKeyStatus.model_validate_json(record.status)
        finding = programmed(Reason.PENDING, "The key is not accepted: it is refused")
        found = conditions(status.conditions, meta.generation, context.now, problems, finding)
        update = {"conditions": found, "observed_generation": meta.generation}
        self._sink.status(meta, status.model_copy(update=update))

    def _sound(self, context: _Context, account: EffectiveAccount, record: Record) -> None:
        place = self._place(context, account)
        views = []
        for key in account.keys:
            self._places.put(key.key.meta.uid, place)
            views.append(self._view(context, key, context.group.keys[key.key.meta.key.name]))
        versions = {view.key.key.meta.uid: credentials.accepted(view.key, view.facts) for view in views}
        self._tell_unread(place, unread=any(self._is_unread(view) for view in views))
        self._publish(context, place, account_entry(account, versions))
        state = self._in_force.entry(place, context.now)
        for view in views:
            left = self._in_force.left(view.key.key.meta.uid, context.now)
            self._key(context, view, left or state, [])
        # Who enforces the newest versions of the keys enforces what the account declares as well.
        policy = state if state is Ack.ALL else self._in_force.policy(place, context.now)
        self._account_status(context, account, record, policy)

    def _place(self, context: _Context, account: EffectiveAccount) -> Place:
        """Where the account is to stand."""
        uids = (context.group.gateways[name].meta.uid for name in account.gateways)
        return Place(account.account.meta.uid, frozenset(uid for uid in uids if self._documents.get(uid)))

    def _view(self, context: _Context, key: EffectiveKey, record: Record) -> _KeyView:
        meta = record.meta
        status = APIKeyStatus.model_validate_json(record.status)
        place = self._places.get(meta.uid)
        gateways = place.gateways if place else frozenset[str]()
        facts = self._steps.facts(
            meta.uid, meta.key.namespace, status, context.now, in_force=False, gateways=gateways
        )
        return _KeyView(key, record, status, facts)

    def _is_unread(self, view: _KeyView) -> bool:
        """Whether Vault has yet to tell the verifier of a version that is to be accepted."""
        key, state = view.key.key, self._steps.state(view.key.key.meta.uid)
        live = [v for v in view.status.versions if v.state in ("Current", "Previous")]
        unread = any(v.id not in state.digests for v in live if v.number > key.spec.revoke_through)
        return unread and not state.unreadable and not key.meta.deleting

    def _tell_unread(self, place: Place, *, unread: bool) -> None:
        for gateway in place.gateways:
            found = self._documents.get(gateway)
            if found is not None:
                (found.unread.add if unread else found.unread.discard)(place.account)

    def _publish(self, context: _Context, place: Place, entry: document.Account | None) -> None:
        for gateway in place.gateways:
            found = self._documents.get(gateway)
            if found is not None:
                found.set_account(place.account, entry)
        old = self._published.get(context.key, place)
        for gone in old.gateways if old.account != place.account else old.gateways - place.gateways:
            left = self._documents.get(gone)
            if left is not None:
                left.set_account(old.account, None)
                left.unread.discard(old.account)
        self._published[context.key] = place

    def _wait(self, context: _Context, parts: Iterable[tuple[str, str]]) -> None:
        for gateway, part in parts:
            self._sink.waits(gateway, part, context.key)

    def _key(self, context: _Context, view: _KeyView, state: State, problems: list[Problem]) -> None:
        key, meta = view.key, view.record.meta
        in_force = state in (Ack.ALL, Ack.NONE_EXPECTED)
        facts = replace(view.facts, in_force=in_force)
        decision = credentials.decide(key, facts, finalizer=names.FINALIZER in meta.finalizers)
        finding = key_finding(key, decision, state, self._steps.state(meta.uid).error)
        desired = key_status(key, decision, meta, context.namespace_uid, context.now, finding, problems)
        back_off = self._steps.retry_in(meta.uid)
        if decision.due is not None:
            self._sink.later(context.key, decision.due)
        if decision.step is None:
            self._steps.idle(meta.uid)
        if not in_force:
            self._wait(context, self._in_force.concerned(context.key.namespace, meta.uid))
        if not self._admitted(context, meta.uid, decision, busy=facts.pending is not None and not back_off):
            return
        if back_off is not None:
            self._sink.later(context.key, context.now + back_off)
        elif decision.step is not None and not self._steps.state(meta.uid).busy:
            self._sink.step(key, decision, desired, context.namespace_uid)
        if meta.deleting:
            return
        if not step_writes(decision.step):
            self._settle(context, meta, view.status, desired, finding)
        elif back_off is not None:  # the step would write it, and fails: only that is told
            told = {"conditions": desired.conditions, "observed_generation": desired.observed_generation}
            self._settle(context, meta, view.status, view.status.model_copy(update=told), finding)

    def _admitted(self, context: _Context, uid: str, decision: Decision, *, busy: bool) -> bool:
        """Whether the key may go on; False while others that want a version are before it."""
        if decision.step in _BEGINS and self._steps.retry_in(uid) is None:
            place = self._places.get(uid)
            parts = self._in_force.parts(place) if place else []
            gateways = frozenset(gateway for gateway, _ in parts)
            return self._admission.enter(uid, context.key, gateways, int(parts[0][1]) if parts else 0)
        if not busy:
            self._call(self._admission.leave(uid))
        return True

    def _call(self, accounts: Iterable[ObjectKey]) -> None:
        for account in accounts:
            self._sink.later(account, self._clock.now())

    def _account_status(
        self, context: _Context, account: EffectiveAccount, record: Record, state: State
    ) -> None:
        known = SenderAccountStatus.model_validate_json(record.status)
        finding = programmed_finding(state)
        desired = account_status(account, known, record.meta, context.now, finding)
        if state is not Ack.ALL:
            self._wait(context, self._in_force.parts(self._published[context.key]))
        self._settle(context, record.meta, known, desired, finding)

    def _settle(
        self, context: _Context, meta: Meta, known: Status, desired: Status, finding: Finding
    ) -> None:
        """Hand over the status. A change that is merely on its way waits for its acknowledgement."""
        pending = finding.reason is Reason.PENDING
        if not pending:
            self._patience.settle(meta.uid)
        left = self._patience.left(meta.uid, self._clock.monotonic()) if pending else 0.0
        if left > 0:
            self._sink.later(context.key, context.now + timedelta(seconds=left))
            others_hold = all(c.status == "True" for c in desired.conditions if c.type in _OF_THE_USER)
            if others_hold or is_first(known):
                return
        self._sink.status(meta, desired)


_OF_THE_USER = (ConditionType.ACCEPTED, ConditionType.RESOLVED_REFS)


def _invalid(item: Invalid) -> list[Problem]:
    return [Problem(ACCEPTED, Reason.INVALID, "", error) for error in item.errors]
