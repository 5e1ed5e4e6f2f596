"""Our own full listing of the kinds that kopf watches: at start, after a gap, and every ten minutes.

Kopf does not notice what vanished while a watch was down; a listing replaces what we hold (design:
ghosts). The first one also is the barrier before the loop may decide anything.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

import structlog

from sendward.apply.ports import Kind, Kube
from sendward.controller.watch import Resources
from sendward.errors import SendwardError
from sendward.resources.base import ObjectKey

_EVERY: Final = 600.0
_RETRY: Final = 1.0
_SETTLE: Final = 1.0  # several watches notice the same gap
_log = structlog.get_logger(__name__)


async def listing(kube: Kube, kind: Kind, resources: Resources) -> None:
    """List a kind by pages and reset the Store to it. Raises SendwardError."""
    seen: set[ObjectKey] = set()
    told = resources.listen(kind.kind)
    token = ""
    while True:
        page = await kube.page(kind, continue_token=token)
        for raw in page.items:
            meta = raw["metadata"]
            key = ObjectKey(kind.kind, meta["namespace"], meta["name"])
            if key not in told:  # else the watch is ahead of the page: the object may be gone again
                resources.event(kind.kind, raw)
            seen.add(key)
        token = page.continue_token
        if not token:
            break
    resources.reset(kind.kind, seen)


async def keep_listing(kube: Kube, kind: Kind, resources: Resources, ready: asyncio.Event) -> None:
    """List at once, after each gap of a watch, and every ten minutes, until cancelled. Sets `ready` after
    the first success.
    """
    gap = resources.gaps[kind.kind]
    while True:
        try:
            await listing(kube, kind, resources)
        except SendwardError as error:
            _log.warning("listing failed", kind=kind.kind, cause=str(error))
            await asyncio.sleep(_RETRY)
            continue
        ready.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(_EVERY):
                await gap.wait()
        await asyncio.sleep(_SETTLE)
        gap.clear()
