"""The operator process: settings and clients, signals, and an orderly end."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
from typing import Final

import structlog
import uvloop

from sendward import logs
from sendward.apply.kube import KubeClient
from sendward.apply.signing import DocumentSigner, load_signer
from sendward.apply.vault import VaultClient
from sendward.apply.vault_auth import JWTLogin, KubernetesLogin
from sendward.controller.app import Operator
from sendward.controller.settings import Settings, SettingsError, load
from sendward.errors import Unavailable

_RETRY: Final = 1.0
# Nearly all that a start or a storm makes is kept: by the interpreter's own thresholds it would be looked at
# again and again, a tenth of a storm's CPU time and a quarter of a start's.
_COLLECT: Final = (20_000, 10, 20)
_log = structlog.get_logger(__name__)


def _vault(settings: Settings) -> VaultClient:
    method = KubernetesLogin if settings.vault_auth == "kubernetes" else JWTLogin
    login = method(settings.vault_auth_mount, settings.vault_role, settings.vault_token_file)
    return VaultClient(
        settings.vault_address,
        login,
        kv_mount=settings.vault_kv_mount,
        pki_mount=settings.vault_pki_mount,
        ca_file=settings.vault_ca or None,
    )


async def _signer(kube: KubeClient, namespace: str) -> DocumentSigner:
    while True:
        try:
            return await load_signer(kube, namespace)
        except Unavailable as error:
            _log.warning("API server not reached", cause=str(error))
            await asyncio.sleep(_RETRY)


async def _main(settings: Settings) -> None:
    kube = KubeClient.in_cluster()
    vault = _vault(settings)
    loop = asyncio.get_running_loop()
    try:
        operator = Operator(settings, kube, vault, await _signer(kube, settings.namespace))
        task = asyncio.create_task(operator.run())
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(name, task.cancel)
        try:
            await task
        except* asyncio.CancelledError:
            _log.info("operator ends")
    finally:
        await kube.close()
        await vault.close()


def run() -> None:
    """`sendward operator`."""
    logs.setup()
    gc.set_threshold(*_COLLECT)
    try:
        settings = load()
    except SettingsError as error:
        sys.exit(f"sendward operator: {error}")
    uvloop.run(_main(settings))
