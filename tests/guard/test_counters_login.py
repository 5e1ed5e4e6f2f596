"""How the guard logs in to the shared counters, and what it tells of a refusal: never a secret."""

import asyncio
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from sendward import document
from tests.guard.counters_guard import PORT, TERM, Guard
from tests.lab.pki import CertificateAuthority
from tests.lab.redis_server import RedisServer

pytestmark = pytest.mark.lab

LEAST = ("+evalsha", "+script|load", "+info", "+time", "+get", "+set")  # as README.md lists them


async def test_a_login_with_the_least_rights_is_enough(redis: RedisServer, tmp_path: Path) -> None:
    redis.command("ACL", "SETUSER", "gateway", "on", ">hunter2", "~sendward:*", "-@all", *LEAST)
    redis.command("ACL", "SETUSER", "default", "off")
    (tmp_path / "username").write_text("gateway\n")
    (tmp_path / "password").write_text("hunter2\n")
    guard = Guard(tmp_path)
    await guard.counters.check()
    assert guard.counters.reachable
    await guard.counters.begin(TERM, full=True)
    assert await guard.left() == 100
    await guard.counters.close()


@pytest.mark.parametrize("missing", LEAST)
async def test_a_login_that_lacks_a_right_is_told(redis: RedisServer, tmp_path: Path, missing: str) -> None:
    rights = [right for right in LEAST if right != missing]
    redis.command(
        "ACL", "SETUSER", "default", "resetpass", ">hunter2", "resetkeys", "~sendward:*", "-@all", *rights
    )
    (tmp_path / "password").write_text("hunter2")
    guard = Guard(tmp_path)
    with capture_logs() as logs:
        await guard.counters.check()
    assert not guard.counters.reachable
    assert "hunter2" not in str(logs)
    assert len(logs) == 1
    assert "README.md" in logs[0]["why"]
    await guard.counters.close()


async def test_a_wrong_password_is_told_and_a_right_one_taken_without_a_restart(tmp_path: Path) -> None:
    server = RedisServer(tmp_path / "redis", port=PORT, password="hunter2")
    server.start()
    guard = Guard(tmp_path)
    with capture_logs() as logs:
        await guard.counters.check()
        (tmp_path / "password").write_text("hunter3\n")
        await guard.connect()
        assert not guard.counters.reachable
        (tmp_path / "password").write_text("hunter2\n")
        await guard.connect()
    assert guard.counters.reachable
    assert [entry["log_level"] for entry in logs] == ["warning", "info"]
    assert "it refuses the login" in logs[0]["why"]
    assert "hunter" not in str(logs)
    await guard.counters.close()
    server.stop()


async def test_over_tls_only_the_given_authority_is_trusted(tmp_path: Path) -> None:
    (tmp_path / "ours").mkdir()
    (tmp_path / "theirs").mkdir()
    ours, theirs = (CertificateAuthority(tmp_path / name, name) for name in ("ours", "theirs"))
    server = RedisServer(tmp_path / "redis", port=PORT, ca=ours)
    server.start()
    guard = Guard(tmp_path)
    guard.counters.use(document.Redis("localhost", PORT, tls=True))
    (tmp_path / "ca.crt").write_bytes(theirs.file.read_bytes())
    await guard.counters.check()
    assert not guard.counters.reachable
    (tmp_path / "ca.crt").write_bytes(ours.file.read_bytes())
    await guard.connect()
    assert guard.counters.reachable
    await guard.counters.begin(TERM, full=True)
    assert await guard.left() == 100
    await guard.counters.close()
    server.stop()


@pytest.mark.parametrize(
    "reply", [b"+OK\r\n", b":x\r\n", b"*3\r\n:1\r\n", b"$-7\r\n", b"\x00\r\n", b"-ERR hunter2\r\n"]
)
async def test_whatever_answers_nothing_is_raised_and_nothing_repeated(reply: bytes, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("hunter2\n")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(4096):
            writer.write(reply)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", PORT)
    guard = Guard(tmp_path)
    with capture_logs() as logs:
        await guard.counters.check()
    assert not guard.counters.reachable
    assert await guard.take(1) is None
    assert logs
    assert "hunter2" not in str(logs)
    await guard.counters.close()
    server.close()
    await server.wait_closed()
