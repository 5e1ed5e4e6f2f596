"""Network namespaces on the lab's bridge: one per pod, and others for test clients.

    bridge lab0 10.123.0.1/16
      ├── veth ── eth0 of a pod            10.123.1.1 ... 10.123.199.254, drawn in order
      └── veth ── eth0 of a test client    an address that the test chooses

The kernel's defaults hold inside, so ports below 1024 need the capability NET_BIND_SERVICE.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp

from tests.lab import BRIDGE, BRIDGE_ADDRESS, POD_CIDR
from tests.lab.enter import require_inside
from tests.lab.prerequisites import LabError

NETNS: Final = Path("/run/netns")
PREFIX: Final = POD_CIDR.partition("/")[2]
ALL_UIDS: Final = "4294967295"  # length of the first line of an initial user namespace's map
CLONE_NEWNET: Final = 0x40000000
_libc: Final = ctypes.CDLL(None, use_errno=True)


class NetworkError(Exception):
    """An `ip` command failed; the message is its own."""


@dataclass(frozen=True)
class Result:
    """What a finished program left behind."""

    code: int
    stdout: bytes
    stderr: bytes


async def run(*argv: str, stdin: bytes = b"") -> Result:
    """Run a program to its end."""
    process = await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        stdout, stderr = await process.communicate(stdin)
    except asyncio.CancelledError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        raise
    return Result(process.returncode or 0, stdout, stderr)


async def _ip(*lines: str, namespace: str = "") -> None:
    scope = ("-n", namespace) if namespace else ()
    result = await run("ip", *scope, "-batch", "-", stdin="\n".join(lines).encode() + b"\n")
    if result.code != 0:
        raise NetworkError(result.stderr.decode(errors="replace").strip())


def prepare() -> None:
    """Make the folder for named namespaces. Raises LabError outside the lab or without real root."""
    require_inside()
    if Path("/proc/self/uid_map").read_text().split()[2] != ALL_UIDS:
        raise LabError("Pods need other users than one's own: run this as root (`sudo -E ...`).")
    NETNS.mkdir(parents=True, exist_ok=True)
    if not NETNS.is_mount():
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "netns", str(NETNS)], check=True)


class Addresses:
    """Draws pod addresses in order, never the same one twice until the range is through."""

    def __init__(self) -> None:
        self._used: set[str] = set()
        self._order = self._endless()

    @staticmethod
    def _endless() -> Iterator[str]:
        while True:
            for third in range(1, 200):
                for fourth in range(1, 255):
                    yield f"10.123.{third}.{fourth}"

    def take(self) -> str:
        address = next(self._order)
        while address in self._used:
            address = next(self._order)
        self._used.add(address)
        return address

    def give_back(self, address: str) -> None:
        self._used.discard(address)


class Namespace:
    """One network namespace with `eth0` on the bridge."""

    def __init__(self, name: str, address: str) -> None:
        self.name = name
        self.address = address
        self.path = NETNS / name

    async def create(self) -> None:
        veth = f"v-{self.name[-12:]}"
        await _ip(f"netns add {self.name}")
        await _ip(
            f"link add {veth} type veth peer name eth0 netns {self.name}",
            f"link set {veth} master {BRIDGE}",
            f"link set {veth} up",
        )
        await _ip(
            f"address add {self.address}/{PREFIX} dev eth0",
            "link set lo up",
            "link set eth0 up",
            f"route add default via {BRIDGE_ADDRESS}",
            namespace=self.name,
        )

    async def delete(self) -> None:
        """Remove the namespace and with it the veth pair; nothing happens when it is gone already."""
        with contextlib.suppress(NetworkError):
            await _ip(f"netns delete {self.name}")

    async def cut(self, destination: str) -> None:
        """Drop all that leaves for an address, or a CIDR inside the lab's; open connections starve, too."""
        await _ip(f"route replace blackhole {destination}", namespace=self.name)

    async def restore(self, destination: str) -> None:
        """Take a `cut` back."""
        await _ip(f"route delete blackhole {destination}", namespace=self.name)

    def socket(
        self, family: int = socket.AF_INET, kind: int = socket.SOCK_STREAM, proto: int = 0
    ) -> socket.socket:
        """A socket that lives in this namespace, to be used from the ordinary event loop."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        there = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _setns(there)
            try:
                made = socket.socket(family, kind, proto)
            finally:
                _setns(home)
        finally:
            os.close(home)
            os.close(there)
        made.setblocking(False)
        return made


def _setns(descriptor: int) -> None:
    if _libc.setns(descriptor, CLONE_NEWNET) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


class Client(Namespace):
    """A place to send traffic from, with the source address that the test chose."""

    async def run(self, *argv: str, stdin: bytes = b"") -> Result:
        """Run a program in this namespace to its end."""
        return await run("ip", "netns", "exec", self.name, *argv, stdin=stdin)

    async def connect(self, host: str, port: int) -> socket.socket:
        """A connected, non-blocking TCP socket. Raises OSError as connect does."""
        made = self.socket()
        try:
            await asyncio.get_running_loop().sock_connect(made, (host, port))
        except BaseException:
            made.close()
            raise
        return made

    async def open_connection(
        self, host: str, port: int, **options: Any
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """As asyncio.open_connection (also with `ssl` and `server_hostname`), from here."""
        return await asyncio.open_connection(sock=await self.connect(host, port), **options)

    def session(self, **options: Any) -> aiohttp.ClientSession:
        """An HTTP client whose connections come from here; `ssl` goes to the connector, and without
        `keep_alive` each request has a connection of its own."""
        connector = aiohttp.TCPConnector(
            ssl=options.pop("ssl", True),
            force_close=not options.pop("keep_alive", True),
            family=socket.AF_INET,
            socket_factory=lambda info: self.socket(info[0], info[1], info[2]),
        )
        return aiohttp.ClientSession(connector=connector, **options)


@contextlib.asynccontextmanager
async def client_namespace(address: str) -> AsyncIterator[Client]:
    """A client with `address`, inside 10.123.200.0 to 10.123.255.254 so that no pod has it."""
    prepare()
    third, fourth = (int(part) for part in address.split(".")[2:])
    client = Client(f"client-{third}-{fourth}", address)
    await client.create()
    try:
        yield client
    finally:
        await client.delete()
