"""Problems and acknowledgements to conditions. One builder, so that behaviour and status agree."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sendward.conditions import ConditionType, Reason
from sendward.graph.problems import Problem
from sendward.resources.status import Condition

_MESSAGE_LENGTH = 1024
_STUCK = (Reason.KEY_HELD, Reason.DOCUMENT_TOO_LARGE)  # until the user acts
Truth = Literal["True", "False", "Unknown"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One condition before it has times."""

    type: ConditionType
    status: Truth
    reason: Reason
    message: str = ""


def programmed(reason: Reason, message: str) -> Finding:
    """`Programmed`: True for the reason of that name, else False."""
    return Finding(
        ConditionType.PROGRAMMED, "True" if reason is Reason.PROGRAMMED else "False", reason, message
    )


def conditions(
    known: Sequence[Condition],
    generation: int,
    now: datetime,
    problems: Iterable[Problem],
    programmed: Finding | None,
    extra: Iterable[Finding] = (),
    ready_reason: Reason = Reason.READY,
) -> list[Condition]:
    """All conditions of one object. `known`: the ones it has, whose times are kept while their status
    stays. `programmed` is None for kinds that are not programmed by themselves (policies).
    """
    problems = list(problems)
    findings = [
        _verdict(ConditionType.ACCEPTED, Reason.ACCEPTED, problems),
        _verdict(ConditionType.RESOLVED_REFS, Reason.RESOLVED, problems),
    ]
    if programmed is not None:
        findings.append(programmed)
    failed = [finding for finding in findings if finding.status != "True"]
    if failed:
        first = failed[0]
        findings.append(Finding(ConditionType.READY, first.status, first.reason, first.message))
        findings.append(_abnormal(first))
    else:
        findings.append(Finding(ConditionType.READY, "True", ready_reason))
    findings.extend(extra)
    findings.sort(key=lambda finding: finding.type.rank)
    return [_timed(finding, known, generation, now) for finding in findings]


def _verdict(kind: ConditionType, good: Reason, problems: Sequence[Problem]) -> Finding:
    mine = [problem for problem in problems if problem.type is kind]
    if not mine:
        return Finding(kind, "True", good)
    return Finding(kind, "False", mine[0].reason, "; ".join(str(problem) for problem in mine))


def _abnormal(first: Finding) -> Finding:
    """Stalled when only the user can help, else Reconciling."""
    if first.type in (ConditionType.ACCEPTED, ConditionType.RESOLVED_REFS) or first.reason in _STUCK:
        return Finding(ConditionType.STALLED, "True", first.reason, first.message)
    return Finding(ConditionType.RECONCILING, "True", Reason.PROGRESSING, first.message)


def _timed(finding: Finding, known: Sequence[Condition], generation: int, now: datetime) -> Condition:
    before = next((condition for condition in known if condition.type == finding.type), None)
    message = finding.message[:_MESSAGE_LENGTH]
    if before is not None and before.status == finding.status:
        if (before.reason, before.message, before.observed_generation) == (
            finding.reason,
            message,
            generation,
        ):
            return before
        now = before.last_transition_time
    return Condition(
        type=finding.type,
        status=finding.status,
        reason=finding.reason,
        message=message,
        observed_generation=generation,
        last_transition_time=now,
    )
