"""A real redis-server: started, killed, paused, set back to an earlier snapshot."""

import os
import shutil
import signal
import socket
from pathlib import Path

from tests.lab.builds import require
from tests.lab.pki import CertificateAuthority
from tests.lab.process import ServerProcess

_READY_SECONDS = 20.0


class RedisServer:
    """One server with its data below `folder`. Commands go over a connection of their own.

    `options`: further ones of redis-server, without their dashes. `ca`: serve TLS as `host`, only.
    """

    def __init__(
        self,
        folder: Path,
        *,
        host: str = "127.0.0.1",
        port: int = 6379,
        password: str = "",
        options: dict[str, str] | None = None,
        ca: CertificateAuthority | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.host = host
        self.port = port
        self._folder = folder
        self._password = password
        settings = {
            "bind": host,
            "port": "0" if ca else str(port),
            "dir": str(folder),
            "save": "",
            "appendonly": "no",
            "daemonize": "no",
            "unixsocket": str(self._socket),
            **(options or {}),
        }
        if password:
            settings["requirepass"] = password
        if ca:
            serving = ca.issue("redis", "redis", names=("localhost", host))
            settings |= {
                "tls-port": str(port),
                "tls-cert-file": str(serving.certificate),
                "tls-key-file": str(serving.key),
                "tls-ca-cert-file": str(ca.file),
                "tls-auth-clients": "no",
            }
        config = folder / "redis.conf"
        config.write_text("".join(f'{name} "{value}"\n' for name, value in settings.items()))
        self.process = ServerProcess(
            "redis-server", [str(require("redis-server")), str(config)], folder / "redis.log", self._answers
        )

    @property
    def _socket(self) -> Path:
        return self._folder / "redis.sock"

    def start(self) -> None:
        """Start and wait until it serves; raises LabError with its last words."""
        self.process.spawn()
        self.process.wait_ready(_READY_SECONDS)

    def stop(self) -> None:
        """End it, paused or not."""
        self.resume()
        self.process.stop()

    def kill(self) -> None:
        """End it by SIGKILL; nothing is saved."""
        self.process.kill()

    def pause(self) -> None:
        """It accepts connections and answers nothing."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """It goes on."""
        self._signal(signal.SIGCONT)

    def snapshot(self) -> Path:
        """Write what it holds to a file."""
        self.command("SAVE")
        return Path(shutil.copy(self._folder / "dump.rdb", self._folder / "snapshot.rdb"))

    def restart_from(self, snapshot: Path) -> None:
        """Kill it, put the snapshot in place, start it."""
        self.kill()
        shutil.copy(snapshot, self._folder / "dump.rdb")
        self.start()

    def command(self, *words: str) -> str:
        """Send one command, return the raw answer; raises OSError."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(_READY_SECONDS)
            connection.connect(str(self._socket))
            with connection.makefile("rwb") as stream:
                if self._password:
                    self._send(connection, "AUTH", self._password)
                    stream.readline()
                self._send(connection, *words)
                first = stream.readline()
                body = stream.read(int(first[1:])) if first[:1] == b"$" and int(first[1:]) > 0 else b""
        return (body or first).decode()

    @staticmethod
    def _send(connection: socket.socket, *words: str) -> None:
        parts = [f"*{len(words)}\r\n".encode()]
        parts += (f"${len(word.encode())}\r\n{word}\r\n".encode() for word in words)
        connection.sendall(b"".join(parts))

    def _answers(self) -> bool:
        try:
            return self.command("PING") == "+PONG\r\n"
        except OSError:
            return False

    def _signal(self, number: signal.Signals) -> None:
        if (pid := self.process.pid) is not None:
            os.kill(pid, number)
