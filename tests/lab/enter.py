"""Runs a command inside the lab's namespaces: `python -m tests.lab.enter -- CMD...`.

    this process ── unshare ── init (pid 1 of the namespace) ── CMD ── servers, pods ...

Init brings up `lo` and the bridge, passes signals on and reaps orphans. When it ends, for whatever
reason, the kernel kills what is left in its pid namespace: nothing stays behind. Signals from a terminal
reach the whole foreground group by themselves, so only those sent by a process are passed on.
"""

import argparse
import ctypes
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.lab import BRIDGE, BRIDGE_ADDRESS, POD_CIDR
from tests.lab.prerequisites import LabError, check_namespace_tools, search_path, unshare_command

_PASSED_ON = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
_PR_SET_PDEATHSIG = 1


def inside() -> bool:
    """Whether this process runs in a network namespace of the lab."""
    return any(name == BRIDGE for _, name in socket.if_nameindex())


def require_inside() -> None:
    """Raise LabError unless this process runs in the lab's namespaces."""
    if not inside():
        raise LabError(
            "This needs the lab's namespaces: run `make test-lab`, or put `python -m tests.lab.enter --` "
            "before the command."
        )


def join_command(pid: int) -> list[str]:
    """The prefix that runs a command in the namespaces of this process of a running lab (host pid)."""
    user = [] if os.geteuid() == 0 else ["--user", "--preserve-credentials"]
    return ["nsenter", "--target", str(pid), *user, "--net", "--mount", "--pid", "--"]


def run(command: list[str]) -> int:
    """Run the command in fresh namespaces, return its exit status; LabError if they cannot be had."""
    check_namespace_tools()
    init = [sys.executable, "-m", "tests.lab.enter", "--init", "--", *command]
    signal.pthread_sigmask(signal.SIG_BLOCK, {*_PASSED_ON, signal.SIGCHLD})
    # All temporary files of the lab go with it, also those of processes that were killed.
    with tempfile.TemporaryDirectory(prefix="swlab-", ignore_cleanup_errors=True) as folder:
        environ = os.environ | {"PATH": search_path(), "TMPDIR": folder}
        child = subprocess.Popen([*unshare_command(), *init], env=environ, preexec_fn=_die_with_parent)  # noqa: PLW1509

        # unshare itself ignores these signals: they go to init, its only child.
        def pass_on(number: int) -> None:
            for pid in children(child.pid):
                os.kill(pid, number)

        return _supervise(child.pid, pass_on)


def _die_with_parent() -> None:
    """Between fork and exec of unshare: it ends with this process, even when that is killed.

    The signals stay blocked: init takes those that come while it starts, and unblocks them for the command.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _unblock_signals() -> None:
    """Between fork and exec of the command."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {*_PASSED_ON, signal.SIGCHLD})


def children(pid: int) -> list[int]:
    """Process ids of a process's children, of its first thread; none when it is gone."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


def _supervise(main_pid: int, pass_on: Callable[[int], None]) -> int:
    """Pass signals on and reap every child until the main one ends; returns its exit status.

    SIGINT, SIGTERM, SIGHUP and SIGCHLD must be blocked already: they are taken one at a time here.
    """
    while True:
        pid, status = os.waitpid(-1, os.WNOHANG)
        while pid:
            if pid == main_pid:
                code = os.waitstatus_to_exitcode(status)
                return code if code >= 0 else 128 - code
            pid, status = os.waitpid(-1, os.WNOHANG)
        info = signal.sigwaitinfo({*_PASSED_ON, signal.SIGCHLD})
        sent_by_terminal = info.si_code > 0
        if info.si_signo != signal.SIGCHLD and not sent_by_terminal:
            pass_on(info.si_signo)


def _init(command: list[str]) -> int:
    """Pid 1 of the namespace: the network, then the command."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {*_PASSED_ON, signal.SIGCHLD})
    _bring_up_network()
    try:
        child = subprocess.Popen(command, preexec_fn=_unblock_signals)  # noqa: PLW1509
    except OSError as error:
        print(f"error: cannot run {command[0]}: {error.strerror}", file=sys.stderr)
        return 127
    return _supervise(child.pid, lambda number: os.kill(child.pid, number))


def _bring_up_network() -> None:
    prefix = POD_CIDR.partition("/")[2]
    for arguments in (
        "link set lo up",
        f"link add {BRIDGE} type bridge forward_delay 0 stp_state 0",
        f"address add {BRIDGE_ADDRESS}/{prefix} dev {BRIDGE}",
        f"link set {BRIDGE} up",
    ):
        done = subprocess.run(["ip", *arguments.split()], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise LabError(f"`ip {arguments}` failed in the lab's namespace: {done.stderr.strip()}")


def main() -> None:
    """Enter fresh namespaces, or those of a running lab with --join."""
    parser = argparse.ArgumentParser(prog="python -m tests.lab.enter", description=main.__doc__)
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--join", type=int, metavar="PID", help="run in the namespaces of this process")
    mode.add_argument("--init", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="-- CMD...")
    arguments = parser.parse_args()
    command: list[str] = arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command
    if not command:
        parser.error("give the command to run after --")
    try:
        if arguments.join is not None:
            prefix = join_command(arguments.join)
            os.execvp(prefix[0], [*prefix, *command])
        sys.exit(_init(command) if arguments.init else run(command))
    except LabError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
