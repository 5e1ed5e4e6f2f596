"""`python -m tests.bench`: measure Sendward on real servers, print a table, write build/bench/results.json.

With an option that leaves something out, part.json is written there instead.

Runs inside the lab's namespaces (`make bench`, or `python -m tests.lab.enter -- python -m tests.bench`).
Progress goes to stderr.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time

from tests.bench import control_plane, dataplane, figures, machine
from tests.bench.figures import Figure
from tests.lab.images import REPOSITORY
from tests.lab.prerequisites import LabError

RESULTS = REPOSITORY / "build" / "bench" / "results.json"
PART = RESULTS.with_name("part.json")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", choices=("operator", "dataplane"), help="one half only")
    parser.add_argument(
        "--accounts", type=int, action="append", metavar="N",
        help="accounts of the operator's part; may be repeated (default: 100, 1000 and 10000)",
    )  # fmt: skip
    parser.add_argument(
        "--keys", type=int, action="append", metavar="N",
        help="keys of the data plane's part; may be repeated (default: 1, 1000 and 10000)",
    )  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds, 100 accounts")
    return parser.parse_args()


async def _run(arguments: argparse.Namespace) -> list[Figure]:
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"[{time.monotonic() - began:6.1f} s] {text}", file=sys.stderr, flush=True)

    quick: bool = arguments.quick
    found: list[Figure] = []
    if arguments.only != "operator":
        keys = arguments.keys or ([1, 10_000] if quick else [1, 1000, 10_000])
        found += await dataplane.measure(keys, dataplane.QUICK if quick else dataplane.FULL, say)
    if arguments.only != "dataplane":
        for accounts in arguments.accounts or ([100] if quick else [100, 1000, 10_000]):
            plan = control_plane.Plan(accounts)
            if quick:
                plan = control_plane.Plan(accounts, singles=20, idle_seconds=15)
            found += await control_plane.measure(plan, say)
    return found


def main() -> None:
    """Measure, print, write."""
    arguments = _arguments()
    about = machine.describe()
    try:
        found = asyncio.run(_run(arguments))
    except LabError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    print(figures.table(found))
    place = PART if any(vars(arguments).values()) else RESULTS
    figures.write(place, found, about)
    print(f"written to {place.relative_to(REPOSITORY)}", file=sys.stderr)


if __name__ == "__main__":
    main()
