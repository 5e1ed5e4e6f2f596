"""One account at a time: effective policy, its entry in the documents, the next step of each of its
keys, and the statuses of both. Synchronous and without I/O; what must be done is handed to a sink.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from sendward import names
from sendward.clock import Clock
from sendward.compile import credentials, rotation
from sendward.compile.credentials import Decision, Facts
from sendward.compile.document import account_entry
from sendward.compile.status import Finding, conditions, programmed
from sendward.conditions import ConditionType, Reason
from sendward.controller.documents import Documents, GatewayDocument
from sendward.controller.findings import Patience, State, is_first, not_onboarded, programmed_finding
from sendward.controller.keysteps import KeySteps
from sendward.controller.places import InForce, Place, Places
from sendward.document import Version
from sendward.graph import effective
from sendward.graph.acknowledgement import Ack
from sendward.graph.effective import EffectiveAccount, EffectiveKey
from sendward.graph.problems import Problem
from sendward.graph.store import Group, Record, Store
from sendward.resources.api_key import APIKeySpec
from sendward.resources.base import Invalid, Meta, ObjectKey, Resource
from sendward.resources.status import APIKeyStatus, EffectivePolicy, SenderAccountStatus, Status

ACCEPTED = ConditionType.ACCEPTED


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

    def waits(self, gateway_uid: str, key: ObjectKey) -> None:
        """Look at the object again when something about the gateway's guards changes."""


@dataclass(frozen=True, slots=True)
class _Context:
    """What one pass over an account needs throughout."""

    key: ObjectKey
    group: Group
    namespace_uid: str
    now: datetime


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
        self._key(context, found, record, state, [])

    def _withdraw(self, key: ObjectKey) -> None:
        place = self._published.pop(key, None)
        for gateway in place.gateways if place else ():
            found = self._documents.get(gateway)
            if place is not None and found is not None:
                found.set_account(place.account, None)

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
                self._wait_for_key(context, item.meta.uid)
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
        records = {key.key.meta.uid: context.group.keys[key.key.meta.key.name] for key in account.keys}
        statuses = {
            key_uid: APIKeyStatus.model_validate_json(found.status) for key_uid, found in records.items()
        }
        versions = {
            key.key.meta.uid: credentials.accepted(
                key, self._facts(key, statuses[key.key.meta.uid], context.now, in_force=False)
            )
            for key in account.keys
        }
        self._publish(context, account, versions)
        place = self._published[context.key]
        state = self._in_force.account(place, context.now)
        for key in account.keys:
            key_uid = key.key.meta.uid
            self._places.put(key_uid, place)
            self._key(context, key, records[key_uid], self._in_force.left(key_uid, context.now) or state, [])
        self._account_status(context, account, record, state)

    def _publish(
        self,
        context: _Context,
        account: EffectiveAccount,
        versions: Mapping[str, tuple[Version, ...]],
    ) -> None:
        meta = account.account.meta
        entry = account_entry(account, versions)
        gateways = set()
        for name in account.gateways:
            gateway = context.group.gateways[name]
            found = self._documents.get(gateway.meta.uid)
            if found is not None:
                found.set_account(meta.uid, entry)
                gateways.add(found.uid)
        place = Place(meta.uid, frozenset(gateways))
        old = self._published.get(context.key, place)
        for gone in old.gateways if old.account != meta.uid else old.gateways - gateways:
            left = self._documents.get(gone)
            if left is not None:
                left.set_account(old.account, None)
        self._published[context.key] = place

    def _wait_for_key(self, context: _Context, key_uid: str) -> None:
        for gateway in self._in_force.concerned(context.key.namespace, key_uid):
            self._sink.waits(gateway, context.key)

    def _facts(self, key: EffectiveKey, status: APIKeyStatus, now: datetime, *, in_force: bool) -> Facts:
        uid = key.key.meta.uid
        place = self._places.get(uid)
        gateways = place.gateways if place else frozenset[str]()
        return self._steps.facts(
            uid, key.key.meta.key.namespace, status, now, in_force=in_force, gateways=gateways
        )

    def _key(
        self, context: _Context, key: EffectiveKey, record: Record, state: State, problems: list[Problem]
    ) -> None:
        meta = record.meta
        status = APIKeyStatus.model_validate_json(record.status)
        in_force = state in (Ack.ALL, Ack.NONE_EXPECTED)
        facts = self._facts(key, status, context.now, in_force=in_force)
        decision = credentials.decide(key, facts, finalizer=names.FINALIZER in meta.finalizers)
        finding = self._key_finding(key, decision, state)
        desired = self._key_status(context, key, decision, meta, finding, problems)
        back_off = self._steps.retry_in(meta.uid)
        if back_off is not None:
            self._sink.later(context.key, context.now + back_off)
        elif decision.step is not None and not self._steps.state(meta.uid).busy:
            self._sink.step(key, decision, desired, context.namespace_uid)
        if decision.due is not None:
            self._sink.later(context.key, decision.due)
        if decision.step is None:
            self._steps.idle(meta.uid)
        if not in_force:
            self._wait_for_key(context, meta.uid)
        if meta.deleting:
            return
        if not self._ends(decision):
            self._settle(context, meta, status, desired, finding)
        elif back_off is not None:  # the step would write it, and fails: only that is told
            told = {"conditions": desired.conditions, "observed_generation": desired.observed_generation}
            self._settle(context, meta, status, status.model_copy(update=told), finding)

    @staticmethod
    def _ends(decision: Decision) -> bool:
        """Whether the step itself writes the status."""
        return decision.step in (credentials.Do.RECORD, credentials.Do.END, credentials.Do.DESTROY)

    def _key_finding(self, key: EffectiveKey, decision: Decision, state: State) -> Finding:
        status = decision.status
        error = self._steps.state(key.key.meta.uid).error
        if error:
            return programmed(Reason.VAULT_UNAVAILABLE, f"A step is being retried: {error}")
        if rotation.current(status) is None and key.policy is not None:
            if status.versions and key.policy.spec.on_compromise == "Hold":
                message = (
                    "Every version is revoked and the policy says Hold. Set spec.rotateNonce to issue one"
                )
                return programmed(Reason.KEY_HELD, message)
            return programmed(Reason.PENDING, "A version is being issued")
        if decision.step is not None and not self._ends(decision) and state is Ack.ALL:
            return programmed(Reason.PENDING, "A step towards what is declared is under way")
        return programmed_finding(state)

    def _key_status(
        self,
        context: _Context,
        key: EffectiveKey,
        decision: Decision,
        meta: Meta,
        finding: Finding,
        problems: list[Problem],
    ) -> APIKeyStatus:
        hands_over = key.policy is not None and key.policy.spec.hand_over.type == "Secret"
        status = decision.status
        extra = _revoked(key.key.spec, revoking=decision.revoking)
        found = conditions(
            status.conditions, meta.generation, context.now, [*key.problems, *problems], finding, extra
        )
        return status.model_copy(
            update={
                "conditions": found,
                "observed_generation": meta.generation,
                "vault_path": names.key_path(context.namespace_uid, meta.uid),
                "secret_name": names.hand_over_secret(meta.key.name) if hands_over else "",
            }
        )

    def _account_status(
        self, context: _Context, account: EffectiveAccount, record: Record, state: State
    ) -> None:
        known = SenderAccountStatus.model_validate_json(record.status)
        finding = programmed_finding(state)
        spec = account.account.spec
        found = conditions(
            known.conditions,
            record.meta.generation,
            context.now,
            account.problems,
            finding,
            ready_reason=Reason.SUSPENDED if spec.suspend else Reason.READY,
        )
        limit = account.limits[0] if account.limits else None
        desired = SenderAccountStatus(
            observed_generation=record.meta.generation,
            conditions=found,
            effective_policy=EffectivePolicy(
                api_key_policy=f"APIKeyPolicy/{account.key_policy.meta.key.name}"
                if account.key_policy
                else "",
                rate_limit_policy=(
                    f"RateLimitPolicy/{account.limit_policy.meta.key.name}" if account.limit_policy else ""
                ),
            ),
            limit=f"{limit.messages}/{limit.period}s" if limit else "",
        )
        if state is not Ack.ALL:
            for gateway in self._published[context.key].gateways:
                self._sink.waits(gateway, context.key)
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


def _revoked(spec: APIKeySpec, *, revoking: bool) -> list[Finding]:
    """`Revoked` stands once `revokeThrough` is set: True when no version up to it is live any more."""
    if not spec.revoke_through:
        return []
    if revoking:
        message = "Sent to the sidecars, not acknowledged by all of them yet"
        return [Finding(ConditionType.REVOKED, "False", Reason.REVOCATION_PENDING, message)]
    message = f"Versions up to {spec.revoke_through} are refused by every expected sidecar"
    return [Finding(ConditionType.REVOKED, "True", Reason.REVOKED, message)]
