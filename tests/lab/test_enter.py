"""Entering namespaces: what comes out, and that nothing stays behind (here from within a lab)."""

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.lab

_ENTER = [sys.executable, "-m", "tests.lab.enter"]


def _eventually(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, f"not so after 20 s: {what}"
        time.sleep(0.02)


def _lives(seconds: str) -> bool:
    """Whether a `sleep` of these seconds lives, here or in a nested namespace."""
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if entry.read_bytes() == f"sleep\0{seconds}\0".encode():
                return True
        except OSError:  # it ended meanwhile
            continue
    return False


def _sleeper(seconds: str) -> list[str]:
    """A shell with a background process; both live until they are ended."""
    return [*_ENTER, "--", "sh", "-c", f"sleep {seconds} & sleep {seconds}; wait"]


def test_the_exit_status_comes_out() -> None:
    assert subprocess.run([*_ENTER, "--", "sh", "-c", "exit 7"], check=False).returncode == 7
    assert subprocess.run([*_ENTER, "--", "no-such-command"], check=False).returncode == 127


def test_the_network_is_empty_but_for_loopback_and_bridge() -> None:
    script = "import socket; print([name for _, name in socket.if_nameindex()])"
    done = subprocess.run([*_ENTER, "--", sys.executable, "-c", script], capture_output=True, check=True)
    assert done.stdout.strip() == b"['lo', 'lab0']"


def test_temporary_files_go_with_the_lab() -> None:
    script = "import tempfile; print(tempfile.mkdtemp())"
    done = subprocess.run([*_ENTER, "--", sys.executable, "-c", script], capture_output=True, check=True)
    folder = Path(done.stdout.decode().strip())
    assert not folder.exists()
    assert not folder.parent.exists()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_reaches_the_command(number: signal.Signals, status: int) -> None:
    seconds = f"60{number.value}"
    process = subprocess.Popen([*_ENTER, "--", "sleep", seconds])
    _eventually(lambda: _lives(seconds), "the command runs")
    process.send_signal(number)
    assert process.wait(20) == status
    assert not _lives(seconds)


def test_background_processes_end_with_the_command() -> None:
    process = subprocess.Popen(_sleeper("6100"))
    _eventually(lambda: _lives("6100"), "the command runs")
    process.terminate()
    process.wait(20)
    assert not _lives("6100")


def test_nothing_survives_a_killed_parent() -> None:
    process = subprocess.Popen(_sleeper("6200"))
    _eventually(lambda: _lives("6200"), "the command runs")
    process.kill()
    process.wait(20)
    _eventually(lambda: not _lives("6200"), "all ended")


def test_control_c_arrives_once_and_leaves_nothing() -> None:
    script = (
        "import signal, sys, time\n"
        "count = 0\n"
        "def note(*_):\n    global count; count += 1\n"
        "signal.signal(signal.SIGINT, note)\n"
        "print('ready', flush=True)\n"
        "while not count: time.sleep(0.01)\n"  # not pause(): the signal may be there already
        "time.sleep(0.3)\n"  # a second signal would come at once
        "sys.exit(40 + count)\n"
    )
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [*_ENTER, "--", sys.executable, "-c", script])
    output = b""
    while b"ready" not in output:
        output += os.read(terminal, 1024)
    os.write(terminal, b"\x03")
    _, status = os.waitpid(pid, 0)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 41
