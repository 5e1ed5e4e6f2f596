"""A server that does not start is told with its last words; one that lives is ended for certain."""

from pathlib import Path

import pytest

from tests.lab.prerequisites import LabError
from tests.lab.process import ServerProcess


def _server(tmp_path: Path, script: str, *, ready: bool) -> ServerProcess:
    return ServerProcess("demo", ["sh", "-c", script], tmp_path / "log", lambda: ready)


def test_a_server_that_ends_is_told_with_its_log(tmp_path: Path) -> None:
    server = _server(tmp_path, "echo boom >&2; exit 3", ready=False)
    server.spawn()
    with pytest.raises(
        LabError, match=r"demo ended while starting \(exit 3\)\.\nLast lines of .*log:\n  boom"
    ):
        server.wait_ready()


def test_a_server_that_hangs_is_told(tmp_path: Path) -> None:
    server = _server(tmp_path, "exec sleep 600", ready=False)
    server.spawn()
    with pytest.raises(LabError, match="demo is not ready after 0 s"):
        server.wait_ready(seconds=0.0)
    server.kill()
    assert not server.running


def test_stop_and_start_again(tmp_path: Path) -> None:
    server = _server(tmp_path, "exec sleep 600", ready=True)
    server.spawn()
    server.wait_ready()
    first = server.pid
    server.stop()
    assert server.pid is None
    server.spawn()
    assert server.pid not in {None, first}
    server.stop()
