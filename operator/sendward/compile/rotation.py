"""Why a new version of a key must be issued: an ordered list of named checks over what is declared,
what is recorded, and now. Pure; the same checks give `status.nextRotation`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sendward.resources.api_key import APIKeySpec
from sendward.resources.api_key_policy import APIKeyPolicySpec
from sendward.resources.fields import seconds
from sendward.resources.status import APIKeyStatus, KeyVersion


@dataclass(frozen=True, slots=True)
class Input:
    """`uid` is the key's: its jitter is a hash of it, so that it is stable and differs between keys.

    `gone`: id of a version whose value Vault does not hold any more.
    """

    uid: str
    spec: APIKeySpec
    policy: APIKeyPolicySpec
    status: APIKeyStatus
    now: datetime
    gone: str = ""


Check = Callable[[Input], str | None]


def current(status: APIKeyStatus) -> KeyVersion | None:
    """The version that its holder should use."""
    return next((v for v in status.versions if v.state == "Current"), None)


def previous(status: APIKeyStatus) -> KeyVersion | None:
    """The version that is still accepted in an overlap."""
    return next((v for v in status.versions if v.state == "Previous"), None)


def newest_number(status: APIKeyStatus) -> int:
    """The highest number ever recorded; 0 before the first issue."""
    return max((v.number for v in status.versions), default=0)


def never_issued(given: Input) -> str | None:
    """A declared key has a version."""
    return None if given.status.versions else "Issued"


def compromised(given: Input) -> str | None:
    """All versions are revoked, and the policy wants a new one at once, or the nonce asks for one."""
    if current(given.status) is not None:
        return None
    return "Compromise" if given.policy.on_compromise == "Reissue" or _new_nonce(given) else None


def asked_for(given: Input) -> str | None:
    """`rotateNonce` differs from that of the last rotation. An empty one asks for nothing."""
    return "Nonce" if _new_nonce(given) and _rotatable(given) else None


def gone_from_vault(given: Input) -> str | None:
    """Nobody can read the current version any more. Who holds it, or the previous one, keeps it for an
    overlap: so a third may be accepted for a while, of which Vault holds two.
    """
    now_current = current(given.status)
    olds = sum(version.state == "Previous" for version in given.status.versions)
    return "GoneFromVault" if now_current is not None and now_current.id == given.gone and olds < 2 else None


def schedule_reached(given: Input) -> str | None:
    """`rotation.every` has passed, less the jitter."""
    due = _schedule(given)
    return "Schedule" if due is not None and due <= given.now and _rotatable(given) else None


def age_reached(given: Input) -> str | None:
    """`maximumAge` is near enough that an overlap must begin."""
    due = _age(given)
    return "MaximumAge" if due is not None and due <= given.now and _rotatable(given) else None


# Compromise first: it may not wait for an overlap to end. The order of the rest names the reason only.
CHECKS: Final[tuple[Check, ...]] = (
    never_issued,
    compromised,
    gone_from_vault,
    asked_for,
    schedule_reached,
    age_reached,
)


def reason(given: Input) -> str | None:
    """Why a version must be issued now, or None."""
    return next((why for check in CHECKS if (why := check(given)) is not None), None)


def next_rotation(given: Input) -> datetime | None:
    """When the schedule or the maximum age asks for the next version; None when neither is declared."""
    times = [due for due in (_schedule(given), _age(given)) if due is not None]
    return min(times, default=None)


def _new_nonce(given: Input) -> bool:
    return given.spec.rotate_nonce not in ("", given.status.rotate_nonce)


def _rotatable(given: Input) -> bool:
    """While two versions are accepted a third would cut off a sender who holds only the first (I1, I6)."""
    return current(given.status) is not None and previous(given.status) is None


def _schedule(given: Input) -> datetime | None:
    now_current = current(given.status)
    if now_current is None or given.policy.rotation.every is None:
        return None
    every = seconds(given.policy.rotation.every)
    seed = hashlib.sha256(f"{given.uid}/{now_current.number}".encode()).digest()
    fraction = int.from_bytes(seed[:4], "big") / 2**32
    early = every * fraction * given.policy.rotation.jitter_percent / 100
    return now_current.issued_at + timedelta(seconds=int(every - early))


def _age(given: Input) -> datetime | None:
    now_current = current(given.status)
    if now_current is None or given.policy.maximum_age is None:
        return None
    lead = seconds(given.policy.maximum_age) - seconds(given.policy.rotation.overlap)
    return now_current.issued_at + timedelta(seconds=max(lead, 0))
