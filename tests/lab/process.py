"""One server as a child process: start, wait until it serves, kill, and its last words if it fails."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.lab.prerequisites import LabError

_POLL_SECONDS = 0.05
_STOP_SECONDS = 10.0
_TAIL_LINES = 12


class ServerProcess:
    """A server with a log file (appended to over restarts)."""

    def __init__(
        self,
        name: str,
        command: list[str],
        log: Path,
        ready: Callable[[], bool],
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.log = log
        self._command = command
        self._ready = ready
        self._environ = {"PATH": os.environ.get("PATH", "")} | dict(environ or {})
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        """The process id while it lives."""
        return self._process.pid if self._process is not None and self.running else None

    def spawn(self) -> None:
        """Start the process without waiting for it; does nothing if it lives."""
        if self.running:
            return
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environ,
                # Its own session: Ctrl-C reaches the lab, which then stops the servers in order.
                start_new_session=True,
            )

    def wait_ready(self, seconds: float = 60.0) -> None:
        """Wait until the server serves; raises LabError with its last log lines if it does not."""
        deadline = time.monotonic() + seconds
        while True:
            # Judged first: another process on the same port must not pass for this one.
            if self._process is None or (code := self._process.poll()) is not None:
                raise LabError(f"{self.name} ended while starting (exit {code}).\n{self.tail()}")
            if self._ready():
                return
            if time.monotonic() > deadline:
                raise LabError(f"{self.name} is not ready after {seconds:.0f} s.\n{self.tail()}")
            time.sleep(_POLL_SECONDS)

    def stop(self) -> None:
        """Ask the server to end and wait; kill it when it takes too long."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End the server by SIGKILL and wait until it is gone."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()

    def tail(self) -> str:
        """The last lines of the log, for messages."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return "\n".join([f"Last lines of {self.log}:", *(f"  {line}" for line in lines[-_TAIL_LINES:])])
