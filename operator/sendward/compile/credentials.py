"""The life of an API key: what the guards must accept now, and the one next step towards what is
declared. Pure: each call is decided from what is recorded, drawn and acknowledged; a killed process
finds the same next step again (I5, I7).

    draw in memory -> publish the verifier -> expected guards acknowledge -> write Vault -> hand over
    -> record -> overlap -> retire -> acknowledged -> destroy
    revoke: publish without it -> acknowledged -> destroy -> record Revoked
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, auto

from sendward.compile import rotation
from sendward.document import Version
from sendward.graph.effective import EffectiveKey
from sendward.resources.api_key import APIKeySpec
from sendward.resources.api_key_policy import APIKeyPolicySpec
from sendward.resources.base import Meta
from sendward.resources.fields import seconds
from sendward.resources.status import APIKeyStatus, KeyVersion

KEEP_ENDED = 8  # ended versions that stay in the history


class Phase(Enum):
    """Of a version that is not recorded yet."""

    DRAWN = auto()  # nobody but this process knows it
    UNCERTAIN = auto()  # the write is under way, or its answer was lost: read back first
    WRITTEN = auto()  # it lies in Vault


@dataclass(frozen=True, slots=True)
class Pending:
    """A version between draw and record; its value stays in `apply.credentials`."""

    number: int
    id: str
    digest: str
    phase: Phase
    issued_at: datetime
    vault_version: int = 0


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of one key. `digests`: by version id, of recorded versions.

    `in_force`: what `accepted` returns is published and acknowledged by every expected guard.
    `unrecorded`: versions that the status does not know, from a shard of an earlier leader; whether
    they reached Vault is not known. `heard_since`: from when on `last_used` is complete. `doubtful`: the
    status may come from a backup. `lost`: ids of its versions that had ended when it was made anew.
    """

    status: APIKeyStatus
    pending: Pending | None
    digests: Mapping[str, str]
    last_used: Mapping[str, datetime]
    in_force: bool
    unrecorded: tuple[Version, ...]
    handed_over: str  # id of the version that the hand-over Secret holds, "" for none
    heard_since: datetime
    now: datetime
    doubtful: bool = False
    lost: frozenset[str] = frozenset()
    gone: str = ""  # id of a recorded version whose value Vault does not hold any more


class Do(Enum):
    """The next step."""

    ADD_FINALIZER = auto()
    READ_DIGESTS = auto()  # of recorded versions that no shard held
    READ_BACK = auto()  # did a version reach Vault that is not recorded?
    DRAW = auto()
    WRITE = auto()
    RECORD = auto()  # hand over, then status
    END = auto()  # destroy, then status: retired and revoked versions
    HAND_OVER = auto()  # the Secret is missing or was changed
    TAKE_BACK = auto()  # the Secret is not asked for any more
    DESTROY = auto()  # what Vault could not destroy before
    PURGE = auto()  # of a deleted key: everything in Vault, then the finalizer


@dataclass(frozen=True, slots=True)
class Decision:
    """`status` is what to record with the step (without conditions). `number`: of the version to draw.
    `due`: when time alone changes the decision. `why` names the reason of an issue. `revoking`: a
    version up to `revokeThrough` may still be accepted somewhere.
    """

    step: Do | None
    status: APIKeyStatus
    due: datetime | None = None
    number: int = 0
    why: str = ""
    revoking: bool = False


def accepted(key: EffectiveKey, facts: Facts) -> tuple[Version, ...]:
    """The versions of a key as the document must hold them now. Does not depend on `in_force`."""
    spec, policy = key.key.spec, key.policy.spec if key.policy else None
    if key.key.meta.deleting:
        return tuple(
            Version(v.id, v.number, facts.digests.get(v.id, ""), revoked=True)
            for v in facts.status.versions
            if v.state != "Retired"
        )
    ended = _ending(spec, policy, facts)
    pending = _pending(spec, facts, _why(key.key.meta.uid, spec, policy, facts, ended))
    return _accepted(spec, policy, facts, ended, pending)


def decide(key: EffectiveKey, facts: Facts, *, finalizer: bool) -> Decision:
    """The next step of one key. `finalizer`: ours is on the object."""
    spec, policy = key.key.spec, key.policy.spec if key.policy else None
    if key.key.meta.deleting:
        return Decision(Do.PURGE if finalizer and facts.in_force else None, facts.status)
    ended = _ending(spec, policy, facts)
    why = _why(key.key.meta.uid, spec, policy, facts, ended)
    pending = _pending(spec, facts, why)
    step = _step(spec, policy, facts, ended, why, finalizer, pending)
    status = _recorded(spec, policy, facts, ended, key.key.meta.uid, step)
    # Above `revokeThrough`, else the new version would be revoked as soon as it is issued.
    number = max(rotation.newest_number(facts.status), spec.revoke_through) + 1
    numbers = [v.number for v in status.versions if v.ended_at is None]
    numbers += [v.number for v in facts.unrecorded]
    numbers += [pending.number] if pending is not None and step is not Do.RECORD else []
    revoking = any(n <= spec.revoke_through for n in numbers)
    return Decision(step, status, _due(key.key.meta, spec, policy, facts), number, why, revoking)


def _why(
    uid: str, spec: APIKeySpec, policy: APIKeyPolicySpec | None, facts: Facts, ended: list[KeyVersion]
) -> str:
    """Why a version must be issued, once what must end has ended; "" for no reason."""
    if policy is None:
        return ""
    after = facts.status.model_copy(update={"versions": ended})
    return rotation.reason(rotation.Input(uid, spec, policy, after, facts.now, facts.gone)) or ""


def _pending(spec: APIKeySpec, facts: Facts, why: str) -> Pending | None:
    """The pending version, unless nobody but us knows it and it is not wanted any more."""
    pending = facts.pending
    if pending is None or pending.phase is not Phase.DRAWN:
        return pending
    return pending if why and pending.number > spec.revoke_through else None


def _ending(spec: APIKeySpec, policy: APIKeyPolicySpec | None, facts: Facts) -> list[KeyVersion]:
    """The history as it must become: which live versions end now."""
    versions = []
    for version in facts.status.versions:
        state = version.state
        if state in ("Current", "Previous") and (
            version.number <= spec.revoke_through or version.id in facts.lost
        ):
            state = "Revoked"
        elif state == "Previous" and _retires(version, policy, facts):
            state = "Retired"
        ends = state != version.state
        versions.append(
            version.model_copy(update={"state": state, "ended_at": facts.now}) if ends else version
        )
    return versions


def _retires(version: KeyVersion, policy: APIKeyPolicySpec | None, facts: Facts) -> bool:
    if version.retire_at is not None and version.retire_at <= facts.now:
        return True
    unused = _unused_since(version, policy, facts)
    return unused is not None and unused <= facts.now


def _unused_since(version: KeyVersion, policy: APIKeyPolicySpec | None, facts: Facts) -> datetime | None:
    """When a Previous version counts as unused: counted from the last use or from its successor's issue.

    Without a Current version (it was revoked) the old one is all that the sender holds: keep it (I1).
    """
    now_current = rotation.current(facts.status)
    if policy is None or policy.rotation.retire_when_unused_for is None or now_current is None:
        return None
    # What was used before we listened is not known: it may have been used until then.
    since = max(now_current.issued_at, facts.heard_since)
    last = max(facts.last_used.get(version.id, since), since)
    return last + timedelta(seconds=seconds(policy.rotation.retire_when_unused_for))


def _accepted(
    spec: APIKeySpec,
    policy: APIKeyPolicySpec | None,
    facts: Facts,
    versions: list[KeyVersion],
    pending: Pending | None,
) -> tuple[Version, ...]:
    result = []
    for version in versions:
        digest = facts.digests.get(version.id, "")
        if version.state == "Revoked":
            result.append(Version(version.id, version.number, digest, revoked=True))
        elif version.state in ("Current", "Previous") and digest:
            result.append(Version(version.id, version.number, digest, not_after=_expiry(version, policy)))
    if pending is not None:
        new = pending
        age = policy.maximum_age if policy else None
        expiry = None if age is None else int(new.issued_at.timestamp()) + seconds(age)
        revoked = new.number <= spec.revoke_through
        result.append(Version(new.id, new.number, new.digest, None if revoked else expiry, revoked))
    # They may lie in Vault, where the holder found them: accepted until Vault has said that they do not.
    result += [v for v in facts.unrecorded if v.number > spec.revoke_through]
    return tuple(result)


def _expiry(version: KeyVersion, policy: APIKeyPolicySpec | None) -> int | None:
    """Unix seconds from which guards refuse the version by themselves, whoever else is down."""
    times = []
    if version.retire_at is not None:
        times.append(int(version.retire_at.timestamp()))
    if policy is not None and policy.maximum_age is not None:
        times.append(int(version.issued_at.timestamp()) + seconds(policy.maximum_age))
    return min(times, default=None)


def _step(  # noqa: PLR0911 - an ordered list of steps, each with its own condition
    spec: APIKeySpec,
    policy: APIKeyPolicySpec | None,
    facts: Facts,
    ended: list[KeyVersion],
    why: str,
    finalizer: bool,
    pending: Pending | None,
) -> Do | None:
    if not finalizer:
        return Do.ADD_FINALIZER
    ending = any(new.state != old.state for new, old in zip(ended, facts.status.versions, strict=True))
    if ending and facts.in_force:
        return Do.END
    if facts.doubtful:
        return Do.READ_BACK
    if any(v.state in ("Current", "Previous") and v.id not in facts.digests for v in ended):
        return Do.READ_DIGESTS
    if ending:
        return None
    if pending is not None:
        return _finish(spec, policy, facts, pending)
    if facts.unrecorded:
        return Do.READ_BACK
    if why:
        return Do.DRAW
    now_current = rotation.current(facts.status)
    if policy is not None and policy.hand_over.type == "Vault" and facts.handed_over:
        return Do.TAKE_BACK
    wanted = policy is not None and policy.hand_over.type == "Secret"
    if wanted and now_current is not None and facts.handed_over != now_current.id:
        return Do.HAND_OVER
    if any(v.state in ("Retired", "Revoked") and not v.destroyed for v in ended):
        return Do.DESTROY
    return None


def _finish(spec: APIKeySpec, policy: APIKeyPolicySpec | None, facts: Facts, pending: Pending) -> Do | None:
    match pending.phase:
        case Phase.DRAWN:
            return Do.WRITE if facts.in_force else None
        case Phase.UNCERTAIN:
            return Do.READ_BACK
        case Phase.WRITTEN:
            # Adopted from Vault after a crash: its verifier must be in force before it is handed over.
            # Without a policy nobody can say how long the overlap is.
            known = policy is not None or pending.number <= spec.revoke_through
            return Do.RECORD if facts.in_force and known else None


def _recorded(
    spec: APIKeySpec,
    policy: APIKeyPolicySpec | None,
    facts: Facts,
    versions: list[KeyVersion],
    uid: str,
    step: Do | None,
) -> APIKeyStatus:
    """The status that the step leads to. Ended versions count as recorded only with END."""
    history = list(versions) if step is Do.END else list(facts.status.versions)
    nonce = facts.status.rotate_nonce
    if step is Do.RECORD and facts.pending is not None:
        revoked = facts.pending.number <= spec.revoke_through
        if not revoked and policy is not None:
            history = [_overlapping(v, policy, facts.now) for v in history]
            nonce = spec.rotate_nonce
        history.append(_version(facts.pending, facts.now if revoked else None))
    history = _trim(history)
    status = facts.status.model_copy(update={"versions": history, "rotate_nonce": nonce})
    now_current = rotation.current(status)
    upcoming = None
    if policy is not None:
        upcoming = rotation.next_rotation(rotation.Input(uid, spec, policy, status, facts.now))
    return status.model_copy(
        update={
            "current_version": now_current.number if now_current else None,
            "next_rotation": upcoming,
        }
    )


def _version(new: Pending, revoked_at: datetime | None) -> KeyVersion:
    return KeyVersion(
        number=new.number,
        id=new.id,
        state="Current" if revoked_at is None else "Revoked",
        issued_at=new.issued_at,
        vault_version=new.vault_version,
        ended_at=revoked_at,
    )


def _overlapping(version: KeyVersion, policy: APIKeyPolicySpec, now: datetime) -> KeyVersion:
    if version.state != "Current":
        return version
    deadline = now + timedelta(seconds=seconds(policy.rotation.overlap))
    return version.model_copy(update={"state": "Previous", "retire_at": deadline})


def _trim(versions: list[KeyVersion]) -> list[KeyVersion]:
    droppable = [v.number for v in versions if v.destroyed]
    drop = set(droppable[: max(len(droppable) - KEEP_ENDED, 0)])
    return [v for v in versions if v.number not in drop]


def _due(meta: Meta, spec: APIKeySpec, policy: APIKeyPolicySpec | None, facts: Facts) -> datetime | None:
    times = []
    old = rotation.previous(facts.status)
    if old is not None:
        unused = _unused_since(old, policy, facts)
        times += [t for t in (old.retire_at, unused) if t is not None]
    if policy is not None:
        upcoming = rotation.next_rotation(rotation.Input(meta.uid, spec, policy, facts.status, facts.now))
        times += [upcoming] if upcoming is not None else []
    later = [t for t in times if t > facts.now]
    return min(later, default=None)
