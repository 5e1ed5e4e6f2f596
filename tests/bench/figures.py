"""What was measured, beside what is to be reached: the table on stdout and the results as JSON."""

from __future__ import annotations

import json
import math
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final


@dataclass(frozen=True, slots=True)
class Aim:
    """A bound that a figure should keep, such as `<= 3`."""

    relation: str
    bound: float

    def __str__(self) -> str:
        return f"{self.relation} {self.bound:g}"

    def holds(self, value: float) -> bool:
        """Whether a value keeps the bound."""
        compare = {"<": operator.lt, "<=": operator.le, "=": operator.eq}
        return bool(compare[self.relation](value, self.bound))


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value. `accounts`: how many accounts or keys there were; `note` says how it was had."""

    name: str
    value: float
    unit: str
    accounts: int
    aim: Aim | None = None
    note: str = ""


# What holds at any number of accounts.
_AIMS: Final[Mapping[str, Aim]] = {
    "api_writes_per_account": Aim("<=", 3),
    "vault_calls_per_account": Aim("<=", 1.1),
    "operator_rss_mb": Aim("<", 250),
    "rotate_all_rss_mb": Aim("<", 250),
    "apply_to_enforced_ms_p50": Aim("<", 1000),
    "apply_to_enforced_ms_p99": Aim("<", 2000),
    "revoke_to_refused_ms_p50": Aim("<", 300),
    "revoke_to_refused_ms_p99": Aim("<", 1000),
    "one_change_api_requests": Aim("<", 10),
    "one_change_compile_ms": Aim("<", 50),
    "restart_to_ready_seconds": Aim("<", 10),
    "restart_writes": Aim("=", 0),
    "idle_writes_per_minute": Aim("=", 0),
    "guard_cpu_us_per_request": Aim("<=", 60),
    "guard_rss_mb": Aim("<", 150),
    "cpu_ratio_to_plain_tls": Aim("<=", 2.8),
    "cpu_ratio_to_native_signed": Aim("<=", 1),
}
# 10,000 accounts in less than 4 minutes; fewer in proportion.
_CONVERGE_SECONDS_PER_ACCOUNT: Final = 240 / 10_000


def figure(name: str, value: float, unit: str, accounts: int, note: str = "") -> Figure:
    """A figure with the aim that its name has."""
    aim = _AIMS.get(name)
    if name == "converge_seconds":
        aim = Aim("<", round(_CONVERGE_SECONDS_PER_ACCOUNT * accounts, 1))
    return Figure(name, value, unit, accounts, aim, note)


def percentile(values: Sequence[float], share: float) -> float:
    """The nearest-rank percentile; ValueError without values."""
    if not values:
        raise ValueError("no values")
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * share) - 1)]


_COLUMNS: Final = ("figure", "value", "unit", "aim", "", "N", "note")


def table(figures: Sequence[Figure]) -> str:
    """The figures as lines of aligned columns."""
    rows = [_COLUMNS, *(_row(found) for found in figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _row(found: Figure) -> tuple[str, ...]:
    aim, kept = ("", "")
    if found.aim is not None:
        aim, kept = str(found.aim), "ok" if found.aim.holds(found.value) else "miss"
    return found.name, _number(found.value), found.unit, aim, kept, f"{found.accounts:,}", found.note


def _number(value: float) -> str:
    if value == int(value):
        return f"{value:,.0f}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def write(path: Path, figures: Sequence[Figure], machine: Mapping[str, object]) -> None:
    """Write the results as JSON, with the machine they were had on."""
    results = [
        {
            "name": found.name,
            "value": found.value,
            "unit": found.unit,
            "N": found.accounts,
            "aim": str(found.aim) if found.aim else None,
            "ok": found.aim.holds(found.value) if found.aim else None,
            "note": found.note,
        }
        for found in figures
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"machine": dict(machine), "results": results}, indent=2) + "\n")
