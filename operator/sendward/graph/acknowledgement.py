"""Who must acknowledge an envelope, and whether they all did.

A change is in force when every *expected* guard has it: the guards of Ready, non-terminating,
injected pods. A guard that never spoke to this leader is expected too: it may still judge by an
older document. A guard that is cut off stops counting when its pod is gone, or when its
`staleAfter` has run out, because from then on it refuses all traffic.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum

from sendward.graph.facts import Guard, Pod


class Ack(Enum):
    """How far the acknowledgements are."""

    ALL = "All"
    PENDING = "Pending"
    NONE_EXPECTED = "NoneExpected"


@dataclass(frozen=True, slots=True)
class Rejected:
    """A guard refused the envelope; `message` is its reason."""

    pod_uid: str
    message: str


def expected(
    pods: Iterable[Pod], guards: Mapping[str, Guard], stale_after: int | None, now: datetime
) -> frozenset[str]:
    """UIDs of the pods whose guards count. `stale_after` in seconds, None: never; `guards` by pod uid."""
    return frozenset(
        pod.uid
        for pod in pods
        if pod.injected
        and pod.ready
        and not pod.terminating
        and not _refuses_everything(guards.get(pod.uid), stale_after, now)
    )


def _refuses_everything(guard: Guard | None, stale_after: int | None, now: datetime) -> bool:
    if guard is None or guard.connected or stale_after is None:
        return False
    return now - guard.last_contact >= timedelta(seconds=stale_after)


def acknowledged(
    expected: frozenset[str], guards: Mapping[str, Guard], part: str, at_least: tuple[int, int]
) -> Ack | Rejected:
    """Whether all expected guards have `part` in force at (epoch, revision) `at_least` or newer.

    A refusal is said before a mere absence, the lowest pod uid first, so that equal facts give
    equal statuses.
    """
    if not expected:
        return Ack.NONE_EXPECTED
    pending = False
    for uid in sorted(expected):
        guard = guards.get(uid)
        state = guard.parts.get(part) if guard else None
        if state and (state.epoch, state.revision) >= at_least:
            continue
        if state and state.rejected:
            return Rejected(uid, state.rejected)
        pending = True
    return Ack.PENDING if pending else Ack.ALL
