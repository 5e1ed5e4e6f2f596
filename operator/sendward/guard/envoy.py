"""Envoy's files: written by rename, one directory a resource, and taken back if Envoy refuses them.

Envoy may start after the guard, and may die and come back: until its admin socket answers, `apply`
waits. Whether it took a file is read from its statistics: a file's version becomes `version_text` when
it is accepted, and `update_rejected` counts when it is not.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp

from sendward import names
from sendward.bootstrap import bootstrap
from sendward.document import EnvoyFiles
from sendward.guard import files
from sendward.guard.settings import Settings
from sendward.logs import redact_text

_TYPES: Final = {
    "cds": "type.googleapis.com/envoy.config.cluster.v3.Cluster",
    "sds": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
    "lds": "type.googleapis.com/envoy.config.listener.v3.Listener",
}
_PATHS: Final = {"cds": names.PATH_CDS, "sds": names.PATH_SDS, "lds": names.PATH_LDS}
_SCOPES: Final = {"cds": "cluster_manager.cds", "lds": "listener_manager.lds"}
_STATS: Final = "/stats?filter=" + r"%5E(cluster_manager.cds|listener_manager.lds|sds)%5C."
_STAT_LINE: Final = re.compile(r'^(\S+): "?(.*?)"?$')
_POLL_SECONDS: Final = 0.02
_POLL_ABSENT_SECONDS: Final = 0.1
_ANSWER_SECONDS: Final = 15.0  # Envoy is up and neither takes nor refuses
_MAX_DETAILS: Final = 300


@dataclass(frozen=True, slots=True)
class Applied:
    """`error` is empty when Envoy enforces the files; `superseded` when newer ones came meanwhile."""

    error: str = ""
    superseded: bool = False


class Admin:
    """Envoy's admin interface on its Unix socket."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._session: aiohttp.ClientSession | None = None

    async def get(self, path: str) -> tuple[int, str] | None:
        """Status and text of a GET; None while Envoy does not answer."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.UnixConnector(path=str(self._path), force_close=True),
                timeout=aiohttp.ClientTimeout(total=2.0),
            )
        try:
            async with self._session.get(f"http://admin{path}") as answer:
                return answer.status, await answer.text()
        except (aiohttp.ClientError, OSError, TimeoutError):
            return None

    async def stats(self) -> Mapping[str, str] | None:
        """Statistics of the dynamic files by name; None while Envoy does not answer."""
        answer = await self.get(_STATS)
        if answer is None:
            return None
        matches = (_STAT_LINE.match(line) for line in answer[1].splitlines())
        return {match[1]: match[2] for match in matches if match}

    async def close(self) -> None:
        """Give up the connection pool."""
        if self._session is not None:
            await self._session.close()


def render(kind: str, resources: list[dict[str, object]]) -> tuple[str, bytes]:
    """(version, file content) of one kind: "cds", "sds" or "lds". Equal resources, equal version."""
    typed = [{"@type": _TYPES[kind], **resource} for resource in resources]
    version = hashlib.sha256(json.dumps(typed, sort_keys=True).encode()).hexdigest()[:16]
    return version, json.dumps({"version_info": version, "resources": typed}).encode()


class Proxy:
    """The Envoy beside this guard."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.admin = Admin(settings.path(names.PATH_ADMIN_SOCKET))
        self._secrets: tuple[str, ...] = ()
        self._unloaded = False  # seen in `unready`: a certificate that Envoy does not have

    def prepare(self) -> None:
        """Write what Envoy needs to start: bootstrap, and no listener at all.

        Files of a predecessor stay, since an Envoy that still runs would otherwise drop its listeners.
        """
        for name in _PATHS.values():
            self._settings.path(name).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        for kind in ("cds", "lds"):
            path = self._settings.path(_PATHS[kind])
            if not path.exists():
                files.replace(path, render(kind, [])[1], durable=False)
        content = bootstrap(
            root=self._settings.root,
            metrics_port=self._settings.metrics_port,
            ipv6=ipv6_enabled(),
        )
        files.replace(self._settings.path(names.PATH_BOOTSTRAP), json.dumps(content).encode(), durable=False)

    @property
    def prepared(self) -> bool:
        """Whether Envoy finds all it needs to start."""
        wanted = (names.PATH_BOOTSTRAP, names.PATH_CDS, names.PATH_LDS)
        return all(self._settings.path(path).exists() for path in wanted)

    async def apply(self, content: EnvoyFiles, superseded: Callable[[], bool]) -> Applied:
        """Write clusters, secrets and listeners; wait until Envoy took or refused them.

        Clusters first: a listener that names an unknown cluster is refused. On refusal, and when one
        cannot be written (OSError), all three files are put back.
        """
        previous = {kind: self._read(kind) for kind in _PATHS}
        try:
            applied = await self._step("cds", content.clusters, superseded)
            if applied == Applied():
                self._write("sds", render("sds", content.secrets)[1])
                applied = await self._step("lds", content.listeners, superseded)
        except OSError:
            self._put_back(previous)
            raise
        if applied.error:
            self._put_back(previous)
        elif not applied.superseded:
            self._secrets = tuple(str(secret.get("name")) for secret in content.secrets)
        return applied

    async def _step(
        self, kind: str, resources: list[dict[str, object]], superseded: Callable[[], bool]
    ) -> Applied:
        version, content = render(kind, resources)
        scope = _SCOPES[kind]
        base = _refusals(await self.admin.stats() or {}, scope)
        self._write(kind, content)
        waited = 0.0
        while waited < _ANSWER_SECONDS:
            stats = await self.admin.stats()
            if stats is not None:
                if stats.get(f"{scope}.version_text") == version:
                    return Applied()
                refusals = _refusals(stats, scope)
                if refusals > base:
                    return Applied(error=await self._details(kind))
                base = min(base, refusals)  # Envoy restarted: its counters begin anew
                waited += _POLL_SECONDS
            if superseded():
                return Applied(superseded=True)
            await asyncio.sleep(_POLL_ABSENT_SECONDS if stats is None else _POLL_SECONDS)
        return Applied(error=f"Envoy did not answer to its new {kind} file")

    async def _details(self, kind: str) -> str:
        """Envoy's own words, as far as it keeps them, without anything that looks like a secret."""
        if kind == "lds":
            answer = await self.admin.get("/config_dump?resource=dynamic_listeners")
            match = re.search(r'"details": "((?:[^"\\]|\\.)*)"', answer[1] if answer else "")
            if match:
                return f"Envoy refused the listeners: {redact_text(match[1])[:_MAX_DETAILS]}"
        return f"Envoy refused its new {kind} file"

    async def unready(self) -> str:
        """Why Envoy does not serve yet; empty if it does, with its certificates loaded."""
        ready = await self.admin.get("/ready")
        if ready is None or ready[0] != 200:
            return "ProxyNotReady"
        if self._secrets:
            stats = await self.admin.stats() or {}
            self._unloaded = not all(stats.get(f"sds.{name}.version_text") for name in self._secrets)
            if self._unloaded:
                return "CertificateNotLoaded"
        return ""

    def retry_secrets(self) -> None:
        """Have Envoy read again a certificate that was broken when it started. Raises OSError.

        It follows the mounted files only after it could use them once, and takes the resource again only
        when that reads differently; so the path is spelled in another way each time.
        """
        found = self._read("sds")
        if not self._unloaded or found is None:
            return
        plain, other = f"{names.PATH_TLS}/".encode(), f"{names.PATH_TLS}/./".encode()
        self._write("sds", found.replace(*((other, plain) if other in found else (plain, other))))

    def _put_back(self, previous: Mapping[str, bytes | None]) -> None:
        for kind, before in previous.items():
            if before is not None:
                self._write(kind, before)

    def _read(self, kind: str) -> bytes | None:
        try:
            return self._settings.path(_PATHS[kind]).read_bytes()
        except FileNotFoundError:
            return None

    def _write(self, kind: str, content: bytes) -> None:
        files.replace(self._settings.path(_PATHS[kind]), content, durable=False)


def _refusals(stats: Mapping[str, str], scope: str) -> int:
    return sum(int(stats.get(f"{scope}.{name}", "0")) for name in ("update_rejected", "update_failure"))


def ipv6_enabled() -> bool:
    """Whether this network namespace has IPv6 at all."""
    path = Path("/proc/net/if_inet6")
    return path.exists() and bool(path.read_text().strip())
