"""Acknowledgements to the `Programmed` condition, with a short patience before it turns False."""

from __future__ import annotations

from collections.abc import Iterable, Set
from dataclasses import dataclass, field
from typing import Final

from sendward import names
from sendward.compile.status import Finding, programmed
from sendward.conditions import ConditionType, Reason
from sendward.graph.acknowledgement import Ack, Rejected
from sendward.graph.facts import Namespace
from sendward.graph.problems import Problem
from sendward.resources.base import Meta
from sendward.resources.status import Status

State = Ack | Rejected

# A change is acknowledged within milliseconds, in a storm within 2 s: only what takes longer is worth two
# status writes.
PATIENCE: Final = 3.0
# After a start guards need a moment to find the new leader.
PATIENCE_AT_START: Final = 15.0


def worst(states: Iterable[State]) -> State:
    """Of several gateways: a refusal, else something pending, else no sidecar at all, else all."""
    found = list(states)
    for state in found:
        if isinstance(state, Rejected):
            return state
    if Ack.PENDING in found:
        return Ack.PENDING
    return Ack.ALL if Ack.ALL in found else Ack.NONE_EXPECTED


def programmed_finding(state: State) -> Finding:
    """The condition that a state means."""
    match state:
        case Ack.ALL:
            return programmed(Reason.PROGRAMMED, "Every expected sidecar enforces this generation")
        case Ack.NONE_EXPECTED:
            return programmed(Reason.NO_SIDECARS, "No ready pod carries the label of the gateway")
        case Ack.PENDING:
            return programmed(Reason.PENDING, "Not acknowledged yet by every expected sidecar")
        case Rejected(message=message):
            return programmed(Reason.DOCUMENT_REJECTED, f"A sidecar refused it: {message}")


def not_onboarded(meta: Meta, namespace: Namespace | None) -> Problem:
    """Why nothing is done for an object, and what helps."""
    if namespace is not None and namespace.reserved:
        message = "the operator's own namespace cannot be onboarded: create the object in another one"
    elif meta.deleting:
        message = (
            "it is being deleted, and nothing can be revoked or removed where the operator has no rights. "
            "Onboard the namespace again (`sendward onboard`) until it is gone; or, once no pod of its "
            f"gateway runs, take the finalizer {names.FINALIZER} off: what Vault holds of it stays there"
        )
    else:
        message = f"label the namespace {names.LABEL_ONBOARDED}=true (see `sendward onboard`)"
    return Problem(ConditionType.ACCEPTED, Reason.NAMESPACE_NOT_ONBOARDED, "metadata.namespace", message)


@dataclass(slots=True)
class Patience:
    """Since when each subject is pending, in monotonic seconds."""

    started: float
    _since: dict[str, float] = field(default_factory=dict)

    def settle(self, uid: str) -> None:
        """The subject is not pending."""
        self._since.pop(uid, None)

    def sweep(self, present: Set[str]) -> None:
        """Forget all subjects but these."""
        for gone in self._since.keys() - present:
            del self._since[gone]

    def left(self, uid: str, now: float) -> float:
        """Seconds for which a pending subject may keep its old condition; 0 when patience is over."""
        since = self._since.setdefault(uid, now)
        until = max(since + PATIENCE, self.started + PATIENCE_AT_START)
        return max(until - now, 0.0)


def is_first(status: Status) -> bool:
    """Whether the object has no `Programmed` condition yet."""
    return all(condition.type != ConditionType.PROGRAMMED for condition in status.conditions)
