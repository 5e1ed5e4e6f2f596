"""The part of the demo that runs inside the lab's namespaces: starts everything, tells the story, stays.

When this process ends, for whatever reason, the kernel ends every server and pod: so it clears up
nothing itself and may end at any time.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import sys
import textwrap
import threading
import time
import traceback
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from tests.lab.builds import require
from tests.lab.demo import CONTROL, KEEP, LOGS
from tests.lab.prerequisites import LabError
from tests.lab.servers import Lab
from tests.lab.stack import Stack, StackError
from tests.lab.story import STORY
from tests.lab.story_stage import Stage, Step, open_stage

NAMESPACE: Final = "quickstart"
_GREEN, _RED, _BOLD, _DIM, _PLAIN = "\033[32m", "\033[31m", "\033[1m", "\033[2m", "\033[0m"


@dataclass(frozen=True)
class Result:
    """How a step went."""

    title: str
    holds: bool
    seconds: float


class Screen:
    """Prints; `width` in columns."""

    def __init__(self, width: int, *, color: bool) -> None:
        self._width = min(max(width, 60), 120)
        self._color = color

    def paint(self, color: str, text: str) -> str:
        return f"{color}{text}{_PLAIN}" if self._color else text

    def line(self, text: str = "") -> None:
        print(text, flush=True)

    def progress(self, text: str) -> None:
        self.line(self.paint(_DIM, f"  {text}"))

    def outcome(self, result: Result, what: str) -> None:
        """The mark, the time, and what happened beside them."""
        margin = " " * 13
        body = textwrap.wrap(what, self._width - len(margin)) or [""]
        first = f"  {self.mark(result.holds)} {result.seconds:6.2f} s  {body[0]}"
        self.line("\n".join([first, *(margin + line for line in body[1:])]))

    def mark(self, holds: bool) -> str:
        return self.paint(_GREEN, "✓") if holds else self.paint(_RED, "✗")

    def table(self, results: Iterable[Result]) -> None:
        self.line(self.paint(_BOLD, "  result    time    expectation"))
        for result in results:
            self.line(f"    {self.mark(result.holds)}    {result.seconds:6.2f} s   {result.title}")


async def run(screen: Screen) -> int:
    """The whole demo; returns 1 when something does not hold, and stays otherwise."""
    started = time.monotonic()
    screen.line(screen.paint(_BOLD, "Starting etcd, kube-apiserver, kube-controller-manager and Vault"))
    lab = Lab()
    try:
        lab.start()
        async with (
            Stack(lab, screen.progress) as stack,
            open_stage(stack, NAMESPACE, screen.progress) as stage,
        ):
            begun = time.monotonic()
            screen.line(f"Everything runs after {begun - started:.1f} s.\n")
            results = await _tell(stage, screen)
            screen.line()
            screen.table(results)
            return await _conclude(lab, screen, results, time.monotonic() - started)
    except (LabError, StackError) as error:
        screen.line(f"{screen.mark(False)} The demo could not start: {error}")
        _save_logs(lab)
        return 1
    except Exception as error:  # noqa: BLE001 - whatever it was, the log has it, and the user a sentence
        traceback.print_exc()
        screen.line(f"{screen.mark(False)} The demo broke: {type(error).__name__}: {error}")
        _save_logs(lab)
        return 1


async def _tell(stage: Stage, screen: Screen) -> list[Result]:
    """Run the steps up to the first that fails."""
    results: list[Result] = []
    for step in STORY:
        screen.line(screen.paint(_BOLD, step.title))
        result, what = await _judge(step, stage)
        results.append(result)
        screen.outcome(result, what)
        if not result.holds:
            break
    return results


async def _judge(step: Step, stage: Stage) -> tuple[Result, str]:
    started = time.monotonic()
    try:
        what, holds = await step.run(stage), True
    except AssertionError as error:
        what, holds = str(error), False
    except Exception as error:  # noqa: BLE001 - a broken step is a failed expectation
        traceback.print_exc()
        what, holds = f"{type(error).__name__}: {error}", False
    return Result(step.title, holds, time.monotonic() - started), what


async def _conclude(lab: Lab, screen: Screen, results: list[Result], seconds: float) -> int:
    failed = [result for result in results if not result.holds]
    if failed:
        where = f"Expectation {len(results)} of {len(STORY)} does not hold"
        screen.line(f"\n{screen.mark(False)} {where}: {failed[0].title}")
        _save_logs(lab)
        return 1
    screen.line(f"\n{screen.mark(True)} All {len(results)} expectations hold. Total time {seconds:.0f} s.")
    facts = {
        "namespace": NAMESPACE,
        "kubectl": str(require("kubectl")),
        "kubeconfig": str(lab.kubeconfig),
        "vault_address": lab.vault_address,
        "vault_token": lab.vault_token,
        "ca_file": str(lab.ca_file),
        "directory": str(lab.directory),
    }
    print(CONTROL + json.dumps(facts), flush=True)
    await asyncio.Event().wait()
    return 0


def _save_logs(lab: Lab) -> None:
    """The lab's folder goes; its logs stay."""
    for log in (*lab.directory.glob("*.log"), *(lab.directory / "pods" / "logs").glob("*.log")):
        target = LOGS / log.relative_to(lab.directory)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(log, target)


def _lifeline() -> None:
    """End when the process that started the demo is gone; go on without it once it says so."""
    if sys.stdin.readline() != KEEP:
        os._exit(1)
    log = sys.stderr.fileno()
    os.dup2(log, sys.stdout.fileno())  # nobody reads the pipe any more


def main() -> None:
    """Run the demo; started by `python -m tests.lab.demo up`."""
    parser = argparse.ArgumentParser(prog="python -m tests.lab.demo_inside", description=main.__doc__)
    parser.add_argument("--width", type=int, default=100)
    parser.add_argument("--color", action="store_true")
    arguments = parser.parse_args()
    threading.Thread(target=_lifeline, daemon=True).start()
    code = asyncio.run(run(Screen(arguments.width, color=arguments.color)))
    sys.exit(code)


if __name__ == "__main__":
    main()
