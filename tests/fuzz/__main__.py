"""Fuzz each target for some seconds, print what happened, write build/fuzz/results.json.

Usage: python -m tests.fuzz [--seconds N] [TARGET ...]

New inputs are kept in build/fuzz/corpus and used again by the next run; an input that breaks a promise
lies in build/fuzz as <target>-crash-<hash>. Exit status 1 when there is one.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.fuzz.targets import CORPUS, TARGETS

_OUT = Path("build/fuzz")
_STATISTIC = re.compile(r"stat::(\w+):\s+(\d+)")
_COVERAGE = re.compile(r"cov: (\d+) ft: (\d+)")
_SLOWEST_SECONDS = 10  # of one input
_MAX_BYTES = 8192
_MEMORY_MB = 1024


def fuzz(target: str, seconds: int) -> dict[str, Any]:
    """One target in a process of its own; findings are its crash, timeout and memory artifacts."""
    corpus = _OUT / "corpus" / target
    corpus.mkdir(parents=True, exist_ok=True)
    before = set(_OUT.glob(f"{target}-*"))
    command = [
        sys.executable, "-m", "tests.fuzz.atheris_target", target, str(corpus), str(CORPUS / target),
        f"-max_total_time={seconds}", f"-max_len={_MAX_BYTES}", f"-timeout={_SLOWEST_SECONDS}",
        f"-rss_limit_mb={_MEMORY_MB}", f"-artifact_prefix={_OUT}/{target}-", "-print_final_stats=1",
    ]  # fmt: skip
    log = _OUT / f"{target}.log"
    with log.open("wb") as output:
        process = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, check=False)
    text = log.read_text(errors="replace")
    statistics = {name: int(value) for name, value in _STATISTIC.findall(text)}
    coverage = _COVERAGE.findall(text)
    findings = sorted(str(path) for path in set(_OUT.glob(f"{target}-*")) - before)
    if process.returncode and not findings:
        raise SystemExit(f"error: the fuzzer of {target} ended with {process.returncode}: see {log}")
    return {
        "target": target,
        "seconds": seconds,
        "executions": statistics.get("number_of_executed_units", 0),
        "executions_per_second": statistics.get("average_exec_per_sec", 0),
        "peak_rss_mb": statistics.get("peak_rss_mb", 0),
        "edges": int(coverage[-1][0]) if coverage else 0,
        "corpus_committed": len(list((CORPUS / target).iterdir())),
        "corpus": len(list(corpus.iterdir())),
        "findings": findings,
    }


def main() -> int:
    """Exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("targets", nargs="*", choices=[*TARGETS, []], help="default: all")
    arguments = parser.parse_args()
    _OUT.mkdir(parents=True, exist_ok=True)
    results = []
    columns = ("target", "executions", "executions_per_second", "edges", "peak_rss_mb", "corpus", "findings")
    print("  ".join(f"{column:>12.12}" for column in columns), flush=True)
    for target in arguments.targets or TARGETS:
        result = fuzz(target, arguments.seconds)
        results.append(result)
        shown = result | {"findings": len(result["findings"])}
        print("  ".join(f"{shown[column]!s:>12}" for column in columns), flush=True)
    machine = {"cpus": os.cpu_count(), "python": platform.python_version(), "system": platform.platform()}
    (_OUT / "results.json").write_text(json.dumps({"machine": machine, "targets": results}, indent=2) + "\n")
    found = [path for result in results for path in result["findings"]]
    for path in found:
        print(f"finding: {path}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
