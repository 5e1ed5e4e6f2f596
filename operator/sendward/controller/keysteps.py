"""Carries out the steps that `compile.credentials` decides, one at a time per key.

Holds what is known of keys besides their status: drawn versions, digests, last use. A failed step
backs off with its key; nothing else waits for it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Set
from dataclasses import replace
from datetime import datetime, timedelta

import structlog

from sendward import names
from sendward.apply import kinds
from sendward.apply.credentials import Credentials
from sendward.apply.events import Events
from sendward.apply.objects import Objects, Target
from sendward.apply.statuses import Statuses
from sendward.clock import Clock
from sendward.compile import rotation
from sendward.compile.credentials import Decision, Do, Facts, Pending, Phase
from sendward.compile.objects import hand_over_secret
from sendward.conditions import EventReason
from sendward.controller.keystate import KeyState, to_destroy
from sendward.controller.last_used import LastUsed
from sendward.document import Key, Version
from sendward.errors import Conflict, Forbidden, NotFound, Rejected, SendwardError, Unavailable
from sendward.graph.effective import EffectiveKey
from sendward.resources.base import Meta
from sendward.resources.status import APIKeyStatus

ANNOTATION_VERSION = "sendward.io/key-version"
_FIRST_RETRY, _LAST_RETRY = 0.5, 60.0  # seconds
_DESTROY_SECONDS = 2.0  # that the word `Revoked` waits for Vault
_TICK = 0.001  # seconds; less than this is lost between the two clocks
_FRESH = timedelta(minutes=1)  # of a drawn version
_log = structlog.get_logger(__name__)


class KeySteps:
    """One instance per operator process."""

    def __init__(
        self,
        credentials: Credentials,
        statuses: Statuses,
        objects: Objects,
        events: Events,
        clock: Clock,
        issued: Callable[[str], None],
    ) -> None:
        self._credentials = credentials
        self._statuses = statuses
        self._objects = objects
        self._events = events
        self._clock = clock
        self._issued = issued  # hears what asked for each version
        self._states: dict[str, KeyState] = {}
        # By key uid and namespace the version id in the hand-over Secret. A Secret says itself whose it
        # is, so it is believed for keys of its own namespace only.
        self._handed_over: dict[str, dict[str, str]] = {}
        self._last_used = LastUsed()
        self.heard_since = clock.now()  # from when on the guards report their usage here
        self.unverified: set[str] = set()  # doubtful keys, until Vault was asked and a pass saw the answer

    def state(self, uid: str) -> KeyState:
        """What is known of a key."""
        found = self._states.get(uid)
        if found is None:
            found = self._states[uid] = KeyState()
        return found

    def forget(self, uid: str) -> None:
        """The key is gone."""
        self._states.pop(uid, None)
        self._handed_over.pop(uid, None)
        self._credentials.forget(uid)
        self.unverified.discard(uid)

    def doubt(self, uid: str) -> None:
        """The guards know something newer than the key's status: Vault is asked before anything else."""
        state = self.state(uid)
        if not state.verified and not state.doubtful:
            state.doubtful = True
            self.unverified.add(uid)

    def load(self, key: Key) -> None:
        """Take over the verifiers of a key from a verified shard."""
        state = self.state(key.uid)
        for version in key.versions:
            if version.digest:
                state.digests[version.id] = version.digest
            if not version.revoked:
                state.loaded[version.id] = version

    def saw_hand_over(self, namespace: str, uid: str, version_id: str) -> None:
        """A hand-over Secret in the namespace holds this version of the key; "" for none."""
        self._handed_over.setdefault(uid, {})[namespace] = version_id

    def begin(self, uid: str, step: Do | None) -> None:
        """A step of the key is queued: no other one begins before it is done.

        From here on a version may reach Vault at any moment, so its verifier stays published.
        """
        state = self.state(uid)
        state.busy = True
        if step is Do.WRITE and state.pending is not None:
            state.pending = _phase(state.pending, Phase.UNCERTAIN)
            # Acknowledgements may have taken long: the overlap begins when the holder can have the version.
            now = self._clock.now().replace(microsecond=0)
            if now - state.pending.issued_at > _FRESH:
                state.pending = replace(state.pending, issued_at=now)

    def idle(self, uid: str) -> None:
        """Nothing is to be done for the key: a fault of a step that is not needed any more is history."""
        state = self.state(uid)
        if not state.busy:
            state.error, state.failures, state.retry_at = "", 0, 0.0

    def used(self, gateway_uid: str, last: Mapping[str, int]) -> None:
        """Last use per version id, Unix seconds, as the guards of a gateway report it."""
        self._last_used.heard(gateway_uid, last)

    def sweep(self, keys: Set[str], gateways: Set[str]) -> None:
        """Forget all keys and gateways but these (uids), and versions that ended."""
        gone = {uid for uid, state in self._states.items() if not state.busy} | self._handed_over.keys()
        for uid in gone - keys:
            self.forget(uid)
        versions: set[str] = set()
        for state in self._states.values():
            versions.update(state.digests, state.loaded, [state.pending.id] if state.pending else ())
        self._last_used.sweep(versions, gateways)

    def facts(
        self,
        uid: str,
        namespace: str,
        status: APIKeyStatus,
        now: datetime,
        *,
        in_force: bool,
        gateways: frozenset[str],
    ) -> Facts:
        """What `decide` needs. Guards are believed only for keys of their own `gateways`."""
        state = self.state(uid)
        last_used = {
            version.id: moment
            for version in status.versions
            if (moment := self._last_used.of(version.id, gateways)) is not None
        }
        recorded = {version.id for version in status.versions}
        if state.pending is not None and state.pending.id in recorded:
            # Recorded, though the answer to that write was lost: recording it twice would retire it.
            state.digests[state.pending.id] = state.pending.digest
            state.pending = None
        if not state.doubtful:
            self.unverified.discard(uid)
        known = recorded | {state.pending.id if state.pending else ""}
        self._last_used.know(known)
        newest = rotation.newest_number(status)  # what is not above it ended, and left the status since
        return Facts(
            status=status,
            pending=state.pending,
            digests=state.digests,
            last_used=last_used,
            in_force=in_force,
            unrecorded=tuple(v for v in state.loaded.values() if v.id not in known and v.number > newest),
            handed_over=self._handed_over.get(uid, {}).get(namespace, ""),
            heard_since=self.heard_since,
            now=now,
            doubtful=state.doubtful,
            lost=state.lost,
            gone=state.gone,
        )

    async def run(
        self, key: EffectiveKey, decision: Decision, status: APIKeyStatus, namespace_uid: str
    ) -> None:
        """Carry out one step. `status`: what to write with it, conditions included. Raises nothing: a
        fault is kept, and the key backs off.
        """
        state = self.state(key.key.meta.uid)
        state.busy = True
        try:
            await self._do(key, decision, status, names.key_path(namespace_uid, key.key.meta.uid))
        except Conflict as conflict:  # our view was old: look again soon, without blame
            state.retry_at = self._clock.monotonic() + 0.1
            _log.debug("step met a conflict", key=str(key.key.meta.key), cause=str(conflict))
        except SendwardError as error:
            self._failed(state, str(error), error.retry_after if isinstance(error, Unavailable) else None)
            if state.failures == 1:
                self._events.emit(key.key.meta, EventReason.STEP_FAILED, str(error), "Warning")
            _log.warning("step failed", key=str(key.key.meta.key), step=str(decision.step), cause=str(error))
        except Exception as error:  # noqa: BLE001 - a bug with one key must not be tried in a tight loop
            self._failed(state, f"internal error ({type(error).__name__})")
            _log.error("step broke", key=str(key.key.meta.key), step=str(decision.step), exc_info=error)
        else:
            state.error, state.failures, state.retry_at = "", 0, 0.0
        finally:
            state.busy = False
            if state.failures:  # the guards are not kept waiting for Vault
                self.unverified.discard(key.key.meta.uid)

    def _failed(self, state: KeyState, cause: str, wanted: float | None = None) -> None:
        state.failures += 1
        delay = min(_FIRST_RETRY * 2.0 ** min(state.failures - 1, 10), _LAST_RETRY)
        delay *= random.uniform(0.7, 1.3)  # noqa: S311 - jitter
        # Vault, or a proxy before it, may ask for patience; a key does not wait for days because of it.
        state.retry_at = self._clock.monotonic() + max(delay, min(wanted or 0.0, _LAST_RETRY))
        state.error = cause

    async def _do(self, key: EffectiveKey, decision: Decision, status: APIKeyStatus, path: str) -> None:
        meta, state = key.key.meta, self.state(key.key.meta.uid)
        match decision.step:
            case Do.ADD_FINALIZER:
                await self._statuses.set_finalizer(meta, present=True)
            case Do.READ_DIGESTS:
                await self._read_digests(state, path, status)
            case Do.READ_BACK:
                await self._read_back(state, meta, path, status)
            case Do.DRAW:
                now = self._clock.now().replace(microsecond=0)
                state.pending = await self._credentials.draw(meta.uid, decision.number, now)
            case Do.WRITE:
                await self._write(state, meta, path, status)
            case Do.RECORD:
                await self._record(state, key, decision, status, path)
            case Do.END:
                await self._end(state, meta, status, path)
            case Do.HAND_OVER:
                await self._hand_over_again(key, status, path)
            case Do.TAKE_BACK:
                await self._take_back(meta)
            case Do.DESTROY:
                await self._destroy(state, meta, status, path)
            case Do.PURGE:
                await self._purge(meta, path)
            case None:
                return

    async def _read_digests(self, state: KeyState, path: str, status: APIKeyStatus) -> None:
        try:
            state.digests.update(await self._credentials.digests(path, status))
        except (Forbidden, Rejected, NotFound):
            state.unreadable = True
            raise
        for version in status.versions:
            if version.state in ("Current", "Previous") and version.id not in state.digests:
                state.unreadable = True
                raise NotFound(
                    f"version {version.number} ({version.id}) is gone from Vault, and no document holds its "
                    f"verifier. Set spec.revokeThrough: {version.number} to have another one issued"
                )

    async def _read_back(self, state: KeyState, meta: Meta, path: str, status: APIKeyStatus) -> None:
        if state.doubtful:
            state.lost = await self._credentials.ended(path, status)
        kv_version, found = await self._credentials.read_back(path, meta.uid, status)
        state.verified, state.doubtful = state.verified or state.doubtful, False
        state.cas = kv_version
        if found:
            state.pending = found[0]
        elif state.pending is not None:  # the lost write did not happen
            state.pending = _phase(state.pending, Phase.DRAWN)
        state.loaded = {later.id: Version(later.id, later.number, later.digest) for later in found[1:]}
        recorded = {version.id for version in status.versions}
        state.digests = {known: digest for known, digest in state.digests.items() if known in recorded}

    async def _write(self, state: KeyState, meta: Meta, path: str, status: APIKeyStatus) -> None:
        pending = state.pending
        if pending is None:
            return
        newest = max((version.vault_version for version in status.versions), default=0)
        cas = newest if state.cas is None else state.cas
        try:
            written = await self._credentials.write(path, meta.uid, pending, cas)
        except Conflict:
            # Somebody wrote: ourselves before a crash, or a stranger. Reading back tells which.
            return
        except (Forbidden, Rejected, NotFound):
            state.pending = _phase(pending, Phase.DRAWN)
            raise
        state.cas = None
        state.pending = _phase(pending, Phase.WRITTEN, written)

    async def _record(
        self, state: KeyState, key: EffectiveKey, decision: Decision, status: APIKeyStatus, path: str
    ) -> None:
        pending, meta = state.pending, key.key.meta
        if pending is None:
            return
        revoked = pending.number <= key.key.spec.revoke_through
        if not revoked:
            await self._hand_over(key, pending.id, pending.vault_version, path)
        await self._statuses.write(meta, status)
        state.digests[pending.id] = pending.digest
        state.pending = None
        self._credentials.forget(meta.uid)
        self._issued(decision.why or "Recovered")
        if revoked:
            note = f"Version {pending.number} ({pending.id}) is revoked"
            self._events.emit(meta, EventReason.KEY_REVOKED, note)
        elif pending.number == 1:
            self._events.emit(meta, EventReason.KEY_ISSUED, f"Version 1 ({pending.id}) was issued")
        else:
            note = f"Version {pending.number} ({pending.id}) was issued: {decision.why or 'Recovered'}"
            self._events.emit(meta, EventReason.KEY_ROTATED, note)

    async def _hand_over(self, key: EffectiveKey, version_id: str, kv_version: int, path: str) -> None:
        """Bring the hand-over Secret to a version, when the policy asks for one."""
        meta = key.key.meta
        if key.policy is None or key.policy.spec.hand_over.type != "Secret":
            return
        values = await self._credentials.hand_over_values(path, meta.uid, version_id, kv_version)
        secret = hand_over_secret(meta, values)
        secret["metadata"]["annotations"][ANNOTATION_VERSION] = version_id
        await self._objects.ensure(kinds.SECRET, secret, meta.uid, take_over=False)
        self.saw_hand_over(meta.key.namespace, meta.uid, version_id)

    async def _hand_over_again(self, key: EffectiveKey, status: APIKeyStatus, path: str) -> None:
        now_current = rotation.current(status)
        if now_current is not None:
            await self._hand_over(key, now_current.id, now_current.vault_version, path)

    async def _take_back(self, meta: Meta) -> None:
        await self._objects.remove(_hand_over_target(meta), meta.uid)
        self.saw_hand_over(meta.key.namespace, meta.uid, "")

    async def _end(self, state: KeyState, meta: Meta, status: APIKeyStatus, path: str) -> None:
        """Destroy what ended, then say so. Vault down does not hold up the word `Revoked`."""
        before = {version.number for version in status.versions if version.destroyed}
        ended = [v for v in status.versions if v.state in ("Retired", "Revoked") and v.number not in before]
        try:
            async with asyncio.timeout(_DESTROY_SECONDS):
                await self._credentials.destroy(path, to_destroy(state, status, ended))
            status = _destroyed(status)
        except (SendwardError, TimeoutError) as error:
            cause = str(error) or "no answer in time"
            _log.warning("ended versions not destroyed yet", key=str(meta.key), cause=cause)
        if rotation.current(status) is None:
            await self._take_back(meta)
        await self._statuses.write(meta, status)
        for version in ended:
            reason = EventReason.KEY_REVOKED if version.state == "Revoked" else EventReason.KEY_RETIRED
            note = f"Version {version.number} ({version.id}) is {version.state.lower()}"
            self._events.emit(meta, reason, note)
        state.digests = {
            v.id: state.digests[v.id]
            for v in status.versions
            if v.id in state.digests and v.state != "Retired"
        }

    async def _destroy(self, state: KeyState, meta: Meta, status: APIKeyStatus, path: str) -> None:
        ended = [v for v in status.versions if v.state in ("Retired", "Revoked") and not v.destroyed]
        await self._credentials.destroy(path, to_destroy(state, status, ended))
        await self._statuses.write(meta, _destroyed(status))

    async def _purge(self, meta: Meta, path: str) -> None:
        namespace_uid, key_uid = path.split("/")
        await self._credentials.purge(namespace_uid, key_uid)
        await self._objects.remove(_hand_over_target(meta), meta.uid)
        await self._statuses.set_finalizer(meta, present=False)
        self._events.emit(meta, EventReason.KEY_REVOKED, "The key was deleted: all versions are revoked")

    async def purge_invalid(self, meta: Meta, namespace_uid: str) -> None:
        """Release a key that is being deleted and whose spec cannot be read. Raises SendwardError."""
        await self._purge(meta, names.key_path(namespace_uid, meta.uid))

    def retry_in(self, uid: str) -> timedelta | None:
        """How long the key still backs off; None when it does not."""
        left = self.state(uid).retry_at - self._clock.monotonic()
        return timedelta(seconds=left) if left > _TICK else None


def _phase(pending: Pending, phase: Phase, vault_version: int = 0) -> Pending:
    return replace(pending, phase=phase, vault_version=vault_version)


def _destroyed(status: APIKeyStatus) -> APIKeyStatus:
    versions = [
        version.model_copy(update={"destroyed": True}) if version.state in ("Retired", "Revoked") else version
        for version in status.versions
    ]
    return status.model_copy(update={"versions": versions})


def _hand_over_target(meta: Meta) -> Target:
    return Target(kinds.SECRET, meta.key.namespace, names.hand_over_secret(meta.key.name))
