"""One gateway at a time: finalizer, NetworkPolicy, certificate, its part of the document, status.

The order within a pass: what narrows before what widens, the certificate before pods can start, and
of a deleted gateway the NetworkPolicy last, when no pod is left (I3).
"""

from __future__ import annotations

import hashlib
from base64 import b64decode
from collections.abc import Callable, Set
from datetime import datetime, timedelta
from typing import Any

import msgspec
from cryptography import x509

from sendward import names
from sendward.apply import kinds
from sendward.apply.events import Events
from sendward.apply.objects import Objects, Target
from sendward.apply.ports import Kube, Vault
from sendward.apply.statuses import Statuses
from sendward.clock import Clock
from sendward.compile import certificates
from sendward.compile.certificates import Held
from sendward.compile.document import gateway_part
from sendward.compile.networkpolicy import network_policy
from sendward.compile.objects import tls_secret
from sendward.compile.status import Finding, conditions, programmed
from sendward.conditions import ConditionType, EventReason, Reason
from sendward.controller.documents import Documents, GatewayDocument
from sendward.controller.findings import Patience, State, not_onboarded, programmed_finding
from sendward.errors import Bug, NotFound, SendwardError
from sendward.graph.problems import Problem
from sendward.graph.store import Group, Record, Store
from sendward.resources.base import Invalid, Meta, ObjectKey, Resource
from sendward.resources.fields import seconds
from sendward.resources.messaging_gateway import MessagingGatewaySpec
from sendward.resources.status import MessagingGatewayStatus

_REQUEST = "sendward.io/certificate-request"
_NOT_BEFORE = "sendward.io/not-before"
_NOT_AFTER = "sendward.io/not-after"
_RECHECK = timedelta(seconds=30)  # of a TLS Secret that the user keeps
_OUT_OF_CONTACT = timedelta(seconds=15)  # a guard finds a new leader sooner than that

Gateway = Resource[MessagingGatewaySpec]


class Gateways:
    """Each call of `reconcile` works on one gateway; the loop never runs two for the same one."""

    def __init__(
        self,
        store: Store,
        documents: Documents,
        kube: Kube,
        vault: Vault,
        objects: Objects,
        statuses: Statuses,
        events: Events,
        clock: Clock,
        patience: Patience,
        operator_namespace: str,
        later: Callable[[ObjectKey, datetime], None],
    ) -> None:
        self._store = store
        self._documents = documents
        self._kube = kube
        self._vault = vault
        self._objects = objects
        self._statuses = statuses
        self._events = events
        self._clock = clock
        self._patience = patience
        self._operator_namespace = operator_namespace
        self._later = later
        self.leads_since = clock.now()
        self._broken: set[str] = set()  # uids of gateways that could not be compiled
        # By namespace and uid: a Secret says itself whose it is, and is believed in its own namespace.
        self._held: dict[tuple[str, str], Held] = {}
        self._unfinished: dict[str, ObjectKey] = {}  # uids whose objects are being removed
        # Uids whose objects are gone, and how many sweeps ago; a watch may show them once more.
        self._removed: dict[str, int] = {}
        self._policies: dict[str, tuple[str, dict[str, Any], tuple[tuple[Reason, str], ...]]] = {}

    def seen_tls(self, namespace: str, gateway_uid: str, annotations: dict[str, str]) -> None:
        """A watch showed the certificate Secret of a gateway."""
        try:
            self._held[namespace, gateway_uid] = Held(
                annotations[_REQUEST],
                datetime.fromisoformat(annotations[_NOT_BEFORE]),
                datetime.fromisoformat(annotations[_NOT_AFTER]),
            )
        except (KeyError, ValueError):
            self.lost_tls(namespace, gateway_uid)

    def lost_tls(self, namespace: str, gateway_uid: str) -> None:
        """The certificate Secret is gone or was changed."""
        self._held.pop((namespace, gateway_uid), None)

    def sweep(self, present: Set[str]) -> None:
        """Forget all gateways but these (uids). Of one that went, no watch shows anything any more when
        this is called for the second time.
        """
        self._removed = {uid: 1 for uid, swept in self._removed.items() if not swept or uid in present}
        for place in [place for place in self._held if place[1] not in present]:
            del self._held[place]
        for uid in self._policies.keys() - present:
            del self._policies[uid]
        self._broken &= present

    def declare(self, key: ObjectKey) -> None:
        """Declare the gateway's part of the document. Synchronous: part of the pass over everything."""
        record = self._store.group(key.namespace).gateways.get(key.name)
        namespace = self._store.namespaces.get(key.namespace)
        if record is None or namespace is None or key.namespace not in self._store.opened:
            return
        if record.meta.uid in self._removed:
            return
        if record.meta.deleting and not self._store.pods_of(key.namespace, key.name):
            # Nobody is left to hear of it: a part that is written now would only be deleted again.
            self._documents.forget(record.meta.uid)
            return
        if isinstance(record.item, Invalid):
            found = self._documents.get(record.meta.uid)
            if found is not None and found.gateway is not None:
                _deny_all(found)
            return
        gateway: Gateway = record.item
        self._broken.add(gateway.meta.uid)
        self._documents.give_up_predecessors(gateway.meta.uid, key.namespace, key.name)
        found = self._documents.open(gateway.meta.uid, key.namespace, key.name, gateway.spec.shards)
        pods = [pod for pod in self._store.pods_of(key.namespace, key.name) if not pod.terminating]
        found.set_gateway(gateway_part(gateway, len(pods)))
        self._broken.discard(gateway.meta.uid)

    async def reconcile(self, key: ObjectKey) -> None:
        """Bring everything of one gateway to its declared state. Raises SendwardError."""
        group = self._store.group(key.namespace)
        record = group.gateways.get(key.name)
        if record is None:
            await self._vanished(key)
            return
        namespace = self._store.namespaces.get(key.namespace)
        if namespace is None or not namespace.onboarded:
            problem = not_onboarded(record.meta, namespace)
            await self._say(record, [problem], programmed(Reason.PENDING, "Not accepted"), [])
        elif key.namespace not in self._store.opened:
            return
        elif record.meta.deleting:
            await self._delete(record)
        elif isinstance(record.item, Invalid):
            problems = [
                Problem(ConditionType.ACCEPTED, Reason.INVALID, "", error) for error in record.item.errors
            ]
            await self._say(record, problems, programmed(Reason.PENDING, "All traffic is refused"), [])
        else:
            await self._sound(group, record, record.item)

    async def _sound(self, group: Group, record: Record, gateway: Gateway) -> None:
        await self._statuses.set_finalizer(gateway.meta, present=True)
        policy, findings = self._network_policy(group, gateway)
        await self._objects.ensure(kinds.NETWORK_POLICY, policy, gateway.meta.uid)
        problems, tls = await self._certificate(gateway)
        finding = tls or self._programmed(gateway.meta)
        self._tell_rejection(record, finding)
        contact = self._contact(gateway.meta)
        await self._say(record, problems, finding, [*contact, _sound_network(findings)])

    def _contact(self, meta: Meta) -> list[Finding]:
        """Ready pods whose guard the hub has lost; nothing is said while there is no ready pod."""
        found = self._documents.get(meta.uid)
        present = [p for p in self._store.pods_of(meta.key.namespace, meta.key.name) if not p.terminating]
        pods = [p for p in present if p.ready or p.made_for_another(meta.uid)]
        if found is None or not pods:
            return []
        now = self._clock.now()
        guards = self._documents.guards(found)
        lost = []
        for pod in sorted(pods, key=lambda pod: pod.name):
            if not pod.injected:  # older than the onboarding of its namespace
                lost.append(f"{pod.name}, which has no sidecar: recreate it")
                continue
            if pod.made_for_another(meta.uid):
                lost.append(f"{pod.name}, made for an earlier gateway of this name: recreate it")
                continue
            guard = guards.get(pod.uid)
            since = guard.last_contact if guard else self.leads_since
            if guard is not None and guard.connected:
                continue
            if found.stale_after is not None:
                ends = since + timedelta(seconds=found.stale_after)
                if now < ends:  # from then on the guard counts no more
                    self._later(meta.key, ends)
            if now - since < _OUT_OF_CONTACT:
                self._later(meta.key, since + _OUT_OF_CONTACT)
            else:
                lost.append(f"{pod.name} since {since:%Y-%m-%dT%H:%M:%SZ}")
        kind = ConditionType.SIDECARS_IN_CONTACT
        if lost:
            return [Finding(kind, "False", Reason.OUT_OF_CONTACT, f"Not heard of: {', '.join(lost)}")]
        return [Finding(kind, "True", Reason.IN_CONTACT)]

    def _tell_rejection(self, record: Record, finding: Finding) -> None:
        known = MessagingGatewayStatus.model_validate_json(record.status)
        before = {condition.reason for condition in known.conditions}
        if finding.reason is Reason.DOCUMENT_REJECTED and Reason.DOCUMENT_REJECTED not in before:
            self._events.emit(record.meta, EventReason.DOCUMENT_REJECTED, finding.message, "Warning")

    def _network_policy(
        self, group: Group, gateway: Gateway
    ) -> tuple[dict[str, Any], tuple[tuple[Reason, str], ...]]:
        """Compiled anew only when the gateway or the source CIDRs of its accounts changed."""
        key = gateway.meta.key
        lists = sorted(group.cidrs_of_gateway.get(key.name, ()))
        state = hashlib.sha256(repr((gateway.meta.uid, gateway.spec, lists)).encode()).hexdigest()
        known = self._policies.get(gateway.meta.uid)
        if known is None or known[0] != state:
            policy, findings = network_policy(
                name=key.name,
                namespace=key.namespace,
                uid=gateway.meta.uid,
                spec=gateway.spec,
                account_cidrs=[cidrs or None for cidrs in lists],
                operator_namespace=self._operator_namespace,
            )
            known = self._policies[gateway.meta.uid] = (state, policy, findings)
        return known[1], known[2]

    def _programmed(self, meta: Meta) -> Finding:
        if meta.uid in self._broken:
            return programmed(Reason.INTERNAL_ERROR, "It could not be compiled; what it last declared stays")
        found = self._documents.get(meta.uid)
        if found is None or names.PART_GATEWAY not in found.envelopes:
            return programmed(Reason.PENDING, "The document is being written")
        if found.too_large:
            parts = ", ".join(sorted(found.too_large))
            message = f"Shard {parts} is over its size. Create the gateway anew with more spec.shards"
            return programmed(Reason.DOCUMENT_TOO_LARGE, message)
        return programmed_finding(self._state(found))

    def _state(self, found: GatewayDocument) -> State:
        envelope = found.envelopes[names.PART_GATEWAY]
        pods = self._store.pods_of(found.namespace, found.name)
        return self._documents.acknowledgement(
            found, names.PART_GATEWAY, envelope.order, pods, self._clock.now()
        )

    async def _certificate(self, gateway: Gateway) -> tuple[list[Problem], Finding | None]:
        spec, meta = gateway.spec.tls, gateway.meta
        if spec.vault_pki is None:
            return await self._own_certificate(meta, spec.secret_name or "")
        now = self._clock.now()
        held = self._held.get((meta.key.namespace, meta.uid))
        target = Target(kinds.SECRET, meta.key.namespace, names.tls_secret(meta.key.name))
        if certificates.must_issue(spec.vault_pki, held, now) or target not in self._objects:
            try:
                held = await self._issue(gateway, target)
            except SendwardError as error:
                self._later(meta.key, now + timedelta(seconds=5))
                if held is None or held.not_after <= now or target not in self._objects:
                    return [], programmed(
                        Reason.CERTIFICATE_MISSING, f"Vault PKI did not issue a certificate: {error}"
                    )
        if held is not None:
            self._later(meta.key, certificates.renewal(held))
        return [], None

    async def _issue(self, gateway: Gateway, target: Target) -> Held:
        pki, meta = gateway.spec.tls.vault_pki, gateway.meta
        if pki is None:
            raise Bug("the gateway asks for no certificate from Vault")
        issued = await self._vault.issue_certificate(pki.dns_names[0], pki.dns_names, seconds(pki.duration))
        held = Held(certificates.request_hash(pki), issued.not_before, issued.not_after)
        secret = tls_secret(meta, {"tls.crt": issued.chain, "tls.key": issued.private_key})
        secret["metadata"]["annotations"] |= {
            _REQUEST: held.request,
            _NOT_BEFORE: held.not_before.isoformat(),
            _NOT_AFTER: held.not_after.isoformat(),
        }
        await self._objects.ensure(target.kind, secret, meta.uid)
        self._held[meta.key.namespace, meta.uid] = held
        note = f"A server certificate valid until {held.not_after.isoformat()} was issued"
        self._events.emit(meta, EventReason.CERTIFICATE_ISSUED, note)
        return held

    async def _own_certificate(self, meta: Meta, name: str) -> tuple[list[Problem], Finding | None]:
        """A Secret that the user keeps: looked at, never changed."""
        self._later(meta.key, self._clock.now() + _RECHECK)
        try:
            secret = await self._kube.get(kinds.SECRET, meta.key.namespace, name)
        except NotFound:
            self.lost_tls(meta.key.namespace, meta.uid)
            message = f"Secret {name} does not exist. Create it (type kubernetes.io/tls), or use vaultPKI"
            return [_tls_problem(Reason.NOT_FOUND, message)], None
        held = _read_certificate(secret)
        if held is None:
            self.lost_tls(meta.key.namespace, meta.uid)
            message = (
                f"Secret {name} holds no certificate under tls.crt. It must be of type kubernetes.io/tls"
            )
            return [_tls_problem(Reason.REFERENCE_INVALID, message)], None
        self._held[meta.key.namespace, meta.uid] = held
        if held.not_after <= self._clock.now():
            message = f"the certificate in Secret {name} expired {held.not_after.isoformat()}. Renew it"
            return [_tls_problem(Reason.REFERENCE_INVALID, message)], None
        return [], None

    async def _say(
        self, record: Record, problems: list[Problem], finding: Finding, extra: list[Finding]
    ) -> None:
        meta = record.meta
        known = MessagingGatewayStatus.model_validate_json(record.status)
        now = self._clock.now()
        if finding.reason is Reason.PENDING and not problems:
            left = self._patience.left(meta.uid, self._clock.monotonic())
            if left > 0:
                self._later(meta.key, now + timedelta(seconds=left))
                return
        self._patience.settle(meta.uid)
        held = self._held.get((meta.key.namespace, meta.uid))
        status = MessagingGatewayStatus(
            observed_generation=meta.generation,
            conditions=conditions(known.conditions, meta.generation, now, problems, finding, extra),
            certificate_not_after=held.not_after if held else None,
        )
        await self._statuses.write(meta, status)

    async def _delete(self, record: Record) -> None:
        """The document denies all first; everything goes when no pod of the gateway is left."""
        meta = record.meta
        found = self._documents.get(meta.uid)
        if found is not None and found.gateway is not None and not found.gateway.deleted:
            _deny_all(found)
            return
        if self._store.pods_of(meta.key.namespace, meta.key.name):
            return
        await self._remove_all(meta.key, meta.uid)
        await self._statuses.set_finalizer(meta, present=False)

    async def _vanished(self, key: ObjectKey) -> None:
        """The object is gone without our finalizer: clean up what carries its uid, pods gone first."""
        for found in self._documents:
            if (found.namespace, found.name) == (key.namespace, key.name):
                _deny_all(found)
                if not self._store.pods_of(key.namespace, key.name):
                    self._unfinished[found.uid] = key
        for uid in [uid for uid, owner in self._unfinished.items() if owner == key]:
            await self._remove_all(key, uid)

    async def _remove_all(self, key: ObjectKey, uid: str) -> None:
        """Forgotten first, so that nothing is written again; a failure is taken up by the next call."""
        self._removed[uid] = 0
        self._unfinished[uid] = key
        self._documents.forget(uid)
        owned = [t for t in self._objects.owned_by(uid) if t.namespace == key.namespace]
        policy = [t for t in owned if t.kind == kinds.NETWORK_POLICY]
        others = [t for t in owned if t.kind != kinds.NETWORK_POLICY]
        for target in [*others, *policy]:
            await self._objects.remove(target)
        del self._unfinished[uid]
        self._policies.pop(uid, None)
        self._held.pop((key.namespace, uid), None)
        self._patience.settle(uid)


def _deny_all(found: GatewayDocument) -> None:
    if found.gateway is not None and not found.gateway.deleted:
        found.set_gateway(msgspec.structs.replace(found.gateway, deleted=True))


def _tls_problem(reason: Reason, message: str) -> Problem:
    return Problem(ConditionType.RESOLVED_REFS, reason, "spec.tls.secretName", message)


def _sound_network(findings: tuple[tuple[Reason, str], ...]) -> Finding:
    if not findings:
        return Finding(ConditionType.NETWORK_POLICY_SOUND, "True", Reason.SOUND)
    message = "; ".join(text for _, text in findings)
    return Finding(ConditionType.NETWORK_POLICY_SOUND, "False", findings[0][0], message)


def _read_certificate(secret: dict[str, Any]) -> Held | None:
    try:
        pem = b64decode(secret.get("data", {}).get("tls.crt", ""))
        leaf = x509.load_pem_x509_certificates(pem)[0]
    except (ValueError, IndexError):
        return None
    return Held("", leaf.not_valid_before_utc, leaf.not_valid_after_utc)
