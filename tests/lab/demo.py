"""`make demo` and `make demo-down`: the story on real servers, told step by step.

    this process ── enter ── unshare ── init ── demo_inside   the lab and the story
         |  stdout: what to show, at last one control line      |
         └── stdin: "keep" when the lab shall stay ─────────────┘

The inner process ends when its stdin closes before that word came, so nothing outlives this one by accident.
`build/demo` holds the state, the log and the tools; `python -m tests.lab.demo down` needs no package.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, Final

from tests.lab.enter import children
from tests.lab.prerequisites import LabError, check_namespace_tools

REPOSITORY: Final = Path(__file__).resolve().parents[2]
FOLDER: Final = REPOSITORY / "build" / "demo"
STATE: Final = FOLDER / "state.json"
LOG: Final = FOLDER / "demo.log"
LOGS: Final = FOLDER / "logs"
CONTROL: Final = "\x1e"  # begins the line that carries the facts of the running lab, as JSON
KEEP: Final = "keep\n"
_STOP_SECONDS: Final = 15.0
_POLL_SECONDS: Final = 0.1


def up(keep: bool) -> int:
    """Build what is missing, tell the story; with `keep` leave the lab running. Returns the exit status."""
    _require_root()
    check_namespace_tools()
    _build()
    if _running(_state()) is not None:
        print("A demo runs already: it is replaced by this one.", flush=True)
    _remove()
    FOLDER.mkdir(parents=True, mode=0o700)
    scratch = tempfile.mkdtemp(prefix="sendward-demo-")
    _write_state({"scratch": scratch})
    try:
        process = _start(scratch)
        _write_state({"scratch": scratch, "pid": process.pid, "born": _born(process.pid)})
        facts = _relay(process)
        if facts is None:
            return _failed(process, scratch)
        if keep:
            return _leave(process, facts)
    except BaseException:
        if _state().get("scratch") == scratch:  # not replaced meanwhile
            _remove()
        raise
    _remove()
    print("Everything is removed; on a terminal, or with --keep, the lab would stay up to be tried.")
    return 0


def down() -> int:
    """End a running demo and remove all that it left."""
    running = _running(_state()) is not None
    found = running or FOLDER.exists()
    _remove()
    if running:
        print("The demo is ended: no process and no file of it is left.")
    else:
        print("No demo was running; its files are removed." if found else "No demo was running.")
    return 0


def _require_root() -> None:
    if os.geteuid() != 0:
        raise LabError(
            "The demo runs each pod under the user that its manifest names, which takes root: run "
            '`sudo env PATH="$PATH" make demo`.'
        )


def _build() -> None:
    from tests.lab import builds  # noqa: PLC0415 - `down` needs none of this
    from tests.lab.servers import BINARIES  # noqa: PLC0415

    builds.ensure(*BINARIES, "cyclonus")


def _start(scratch: str) -> subprocess.Popen[str]:
    width = shutil.get_terminal_size().columns
    color = ["--color"] if sys.stdout.isatty() and "NO_COLOR" not in os.environ else []
    inside = [sys.executable, "-m", "tests.lab.demo_inside", "--width", str(width), *color]
    python_path = f"{REPOSITORY}{os.pathsep}{REPOSITORY / 'operator'}"
    with LOG.open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.lab.enter", "--", *inside],
            cwd=REPOSITORY,
            env=os.environ | {"TMPDIR": scratch, "PYTHONPATH": python_path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            # Its own session: a key on this terminal ends it through us, and a closed terminal does not.
            start_new_session=True,
        )


def _relay(process: subprocess.Popen[str]) -> dict[str, Any] | None:
    """Show what the inner process says, until it hands over its facts (None: it ended)."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(CONTROL):
            facts: dict[str, Any] = json.loads(line.removeprefix(CONTROL))
            return facts
        print(line, end="", flush=True)
    return None


def _failed(process: subprocess.Popen[str], scratch: str) -> int:
    """The inner process ended by itself: it has said why, unless somebody ended it."""
    code = process.wait()
    shutil.rmtree(scratch, ignore_errors=True)
    if _state().get("scratch") != scratch:
        print("This demo was ended by another `make demo` or by `make demo-down`.")
        return 1
    STATE.unlink()
    if LOGS.exists():
        print(f"The lab is ended. Logs: {LOGS}, and {LOG}.")
    else:
        print(f"The demo ended early (exit {code}). Log: {LOG}.")
    return 1


def _leave(process: subprocess.Popen[str], facts: dict[str, Any]) -> int:
    """Write the tools, say what to try, let the inner process stay."""
    from tests.lab.demo_tools import write_tools  # noqa: PLC0415 - `down` needs none of this

    init = _descend(process.pid)
    print(write_tools(FOLDER, init, facts), flush=True)
    assert process.stdin is not None
    process.stdin.write(KEEP)
    process.stdin.close()
    process.returncode = 0  # it stays, and is no longer ours to wait for
    return 0


def _descend(pid: int) -> int:
    """The first process of the lab's pid namespace, below `enter` and `unshare`."""
    for _ in range(2):
        pid = children(pid)[0]
    return pid


def _terminate(pid: int, runs: Callable[[], bool]) -> None:
    """Ask again and again, since a signal that comes before the process listens is lost; then kill."""
    deadline = time.monotonic() + _STOP_SECONDS
    asked = 0.0
    while runs():
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)  # what is below ends with it
        elif time.monotonic() - asked > 1:
            asked = time.monotonic()
            os.kill(pid, signal.SIGTERM)
        time.sleep(_POLL_SECONDS)


def _remove() -> None:
    """End the recorded demo and remove its files."""
    state = _state()
    if (pid := _running(state)) is not None:
        _terminate(pid, lambda: _running(state) is not None)
    if scratch := state.get("scratch"):
        shutil.rmtree(scratch, ignore_errors=True)
    shutil.rmtree(FOLDER, ignore_errors=True)


def _state() -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(STATE.read_text())
    except FileNotFoundError:
        return {}
    return found


def _write_state(state: dict[str, Any]) -> None:
    STATE.write_text(json.dumps(state))


def _running(state: dict[str, Any]) -> int | None:
    """The demo's process, if it is still the one that was recorded."""
    pid = state.get("pid")
    return pid if pid is not None and _born(pid) == state["born"] else None


def _born(pid: int) -> str | None:
    """When a process was started, in ticks since boot; None when there is none, or only its remains."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else fields[19]


def _interrupt(number: int, _frame: FrameType | None) -> None:
    """Any signal to end is Ctrl-C; more of them do not disturb the clearing up."""
    for other in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(other, signal.SIG_IGN)
    raise KeyboardInterrupt(number)


def main() -> None:
    """Tell the story on real servers, or remove what is left of it."""
    parser = argparse.ArgumentParser(prog="python -m tests.lab.demo", description=main.__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("up", help="run the demo")
    run.add_argument("--keep", action="store_true", help="leave the lab running, also without a terminal")
    commands.add_parser("down", help="end it and remove everything")
    arguments = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        if arguments.command == "down":
            sys.exit(down())
        sys.exit(up(keep=arguments.keep or sys.stdout.isatty()))
    except LabError as error:
        sys.exit(f"error: {error}")
    except PermissionError as error:
        sys.exit(
            f"error: {error.strerror} ({error.filename or 'a process'}): it is root's, use `sudo make ...`."
        )
    except KeyboardInterrupt:
        print("\nInterrupted: nothing is left running.", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
