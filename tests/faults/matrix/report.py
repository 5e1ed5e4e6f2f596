"""What the matrix found: a table for people, build/faults/matrix.json for machines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final, Literal

from tests.lab.images import REPOSITORY

RESULTS: Final = REPOSITORY / "build" / "faults" / "matrix.json"
PART: Final = RESULTS.with_name("part.json")  # of some scenarios, or while it runs
When = Literal["before", "after"]


@dataclass(slots=True)
class Run:
    """One run. `when` None: the reference. `call`: the one at which the operator was killed."""

    scenario: str
    when: When | None
    number: int
    call: str = ""
    calls: int = 0  # that changed something
    kills: int = 0
    messages: int = 0
    seconds: float = 0.0
    failures: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        what = f"killed {self.when} call {self.number} ({self.call or 'which did not come'})"
        return f"{self.scenario}: {what if self.when else 'reference'}"


Row = tuple[str, ...]
_HEAD: Final[Row] = ("scenario", "N", "runs", "kills", "failures", "messages", "s/run")


def table(runs: Sequence[Run]) -> str:
    """A row for each scenario, and the sum."""
    names = dict.fromkeys(run.scenario for run in runs)
    rows = [_HEAD, *(_row(name, [run for run in runs if run.scenario == name]) for name in names)]
    rows.append(_row("all", runs))
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    return "\n".join(_line(row, widths) for row in rows)


def _line(row: Row, widths: Sequence[int]) -> str:
    first, *rest = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
    return "  ".join([first.strip().ljust(widths[0]), *rest])


def _row(name: str, runs: Sequence[Run]) -> Row:
    seconds = sum(run.seconds for run in runs) / len(runs)
    counts = (
        sum(run.calls for run in runs if run.when is None),
        len(runs),
        sum(run.kills for run in runs),
        sum(1 for run in runs if run.failures),
        sum(run.messages for run in runs),
    )
    return (name, *map(str, counts), f"{seconds:.1f}")


def write(runs: Sequence[Run], path: Path) -> None:
    """The runs, with what they found."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([asdict(run) for run in runs], indent=1) + "\n")
