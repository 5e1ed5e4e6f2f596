"""Reference and crash runs of scenarios on one bed."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from sendward.errors import SendwardError
from tests.faults.matrix import state
from tests.faults.matrix.bed import Bed
from tests.faults.matrix.report import Run, When
from tests.faults.matrix.scenarios import Scenario
from tests.faults.matrix.subject import Subject, remove
from tests.faults.matrix.witness import Witness, judge
from tests.faults.proxy_calls import Call
from tests.faults.proxy_rules import Rule, call_number
from tests.lab.pods.network import NetworkError
from tests.lab.prerequisites import LabError
from tests.lab.stack import StackError, eventually

_QUIET: Final = 1.0  # seconds without a change: the end is reached
_HOLD: Final = 2.0  # and so long nothing may be changed any more,
_HOLD_REFERENCE: Final = 10.0  # so long in a run without a kill
_BACK: Final = 90.0
_names = itertools.count(1)


@dataclass(slots=True)
class Reference:
    """What an undisturbed run leads to."""

    run: Run
    state: dict[str, Any] = field(default_factory=dict)
    changes: dict[str, int] = field(default_factory=dict)


async def reference(bed: Bed, scenario: Scenario) -> Reference:
    """The run that nobody disturbs. Its own failures are failures of the matrix."""
    found = Reference(Run(scenario.name, None, 0))
    await _run(bed, scenario, found.run, found)
    return found


async def crash(bed: Bed, scenario: Scenario, expected: Reference, when: When, number: int) -> Run:
    """A run whose operator is killed once, compared with the reference."""
    run = Run(scenario.name, when, number)
    found = Reference(run)
    await _run(bed, scenario, run, found)
    if not run.failures:
        run.failures += [f"I5: {d}" for d in state.differences(expected.state, found.state)]
        run.failures += [f"I5: {d}" for d in state.differences(expected.changes, found.changes, "count")]
    return run


def points(calls: int, chosen: Iterable[int] | None = None) -> Iterator[tuple[When, int]]:
    """Before and after each call, or before and after those that are chosen."""
    for number in range(1, calls + 1) if chosen is None else chosen:
        yield "before", number
        yield "after", number


async def _run(bed: Bed, scenario: Scenario, run: Run, found: Reference) -> None:
    began = time.monotonic()
    await bed.scale(scenario.replicas)
    subject = Subject(bed, f"s{next(_names):03}")
    try:
        for step in scenario.prepare:
            await step(subject)
        await bed.quiet(_QUIET)
        await _watched(bed, scenario, subject, run, found)
    except (StackError, LabError, NetworkError, SendwardError) as error:
        run.failures.append(f"I5: {error}")
    finally:
        bed.ledger.clear()
        run.seconds = time.monotonic() - began
    await remove(subject)
    await bed.quiet(_QUIET)


async def _watched(bed: Bed, scenario: Scenario, subject: Subject, run: Run, found: Reference) -> None:
    async with Witness(scenario, subject) as witness:
        if subject.key_uid:
            await witness.accepted()
        killed = len(bed.killed)
        bed.ledger.clear()
        if run.when is not None:
            bed.ledger.rules.append(_kill(bed, run))
        witness.seen.acted = time.monotonic()
        try:
            for step in scenario.act:
                await step(subject)
            await _at_rest(bed, scenario, subject)
            if len(bed.killed) > killed:  # perhaps at the very last call
                await _found_again(bed)
                await _at_rest(bed, scenario, subject)
            await witness.accepted()
            before = bed.ledger.numbered
            await asyncio.sleep(_HOLD if run.when else _HOLD_REFERENCE)
            if extra := bed.ledger.mutations[before:]:
                run.failures.append(f"I5: writes go on: {', '.join(map(str, extra[:5]))}")
            found.state = await state.end_state(subject)
        finally:
            run.calls = bed.ledger.numbered
            run.kills = len(bed.killed) - killed
            run.messages = len(witness.seen.samples)
        found.changes = state.changes(bed.ledger.mutations)
        run.failures += judge(scenario, witness.seen)


def _kill(bed: Bed, run: Run) -> Rule:
    async def hook(call: Call) -> None:
        await bed.kill(call)
        what = f"{call.server} {call.method} {call.kind}"
        run.call = "/".join(filter(None, (what, call.subresource)))

    if run.when == "before":
        return Rule(call_number(run.number), before=hook, reset=True)
    return Rule(call_number(run.number), after=hook, lose=True)


async def _at_rest(bed: Bed, scenario: Scenario, subject: Subject) -> None:
    await subject.until(scenario.done, "the end state")
    await bed.quiet(_QUIET)


async def _found_again(bed: Bed) -> None:
    """Another operator leads, and the gateway's guard has shown it its token."""
    await bed.led_again()
    await eventually(
        lambda: bed.guard_connected_since(bed.killed_at), "the guard found the new leader", seconds=_BACK
    )
