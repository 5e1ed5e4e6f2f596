"""`python -m tests.faults.matrix`: kill the operator at every call of every scenario; print a table.

Runs inside the lab's namespaces (`make faults`). Progress goes to stderr. Ends with 1 if any run failed.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time

from tests.faults.matrix import report
from tests.faults.matrix.bed import Bed, crash_bed
from tests.faults.matrix.report import Run
from tests.faults.matrix.runner import crash, points, reference
from tests.faults.matrix.scenarios import SCENARIOS, Scenario
from tests.lab.prerequisites import LabError
from tests.lab.servers import Lab

_BEGAN = time.monotonic()


def _say(text: str) -> None:
    print(f"[{time.monotonic() - _BEGAN:6.1f} s] {text}", file=sys.stderr, flush=True)


def _tell(run: Run) -> None:
    _say(f"{'FAILED' if run.failures else 'ok'}  {run.seconds:5.1f} s  {run.calls:2} calls  {run}")
    for failure in run.failures:
        _say(f"        {failure}")


async def _matrix(scenarios: list[Scenario], runs: list[Run]) -> None:
    with Lab() as lab:
        async with crash_bed(lab, _say) as bed:
            for scenario in scenarios:
                await _scenario(bed, scenario, runs)


async def _scenario(bed: Bed, scenario: Scenario, runs: list[Run]) -> None:
    expected = await reference(bed, scenario)
    runs.append(expected.run)
    _tell(expected.run)
    for when, number in points(expected.run.calls):
        run = await crash(bed, scenario, expected, when, number)
        runs.append(run)
        _tell(run)
        report.write(runs, report.PART)


def main() -> None:
    """Run the scenarios that are named, or all."""
    about = (__doc__ or "").split("\n")[0]
    by_name = {scenario.name: scenario for scenario in SCENARIOS}
    parser = argparse.ArgumentParser(prog="python -m tests.faults.matrix", description=about)
    parser.add_argument("scenario", nargs="*", help=f"one or several of: {', '.join(by_name)} (default: all)")
    wanted: list[str] = parser.parse_args().scenario
    if unknown := set(wanted) - set(by_name):
        parser.error(f"no scenario {', '.join(sorted(unknown))}; there are: {', '.join(by_name)}")
    runs: list[Run] = []
    try:
        asyncio.run(_matrix([by_name[name] for name in wanted or by_name], runs))
    except LabError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        if runs:
            report.write(runs, report.PART)
            print(report.table(runs))
    if not wanted:
        report.write(runs, report.RESULTS)
    sys.exit(any(run.failures for run in runs))


if __name__ == "__main__":
    main()
