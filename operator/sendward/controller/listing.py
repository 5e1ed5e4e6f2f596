"""Our own full listing of the kinds that kopf watches: at start, after a gap, and every minute.

Kopf does not notice what vanished while a watch was down; a listing replaces what we hold (design:
ghosts). The first one also is the barrier before the loop may decide anything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import structlog

from sendward.apply.ports import Gone, Kind, Kube
from sendward.controller.watch import Resources
from sendward.errors import SendwardError
from sendward.resources.base import ObjectKey

_EVERY: Final = 60.0  # there are few, and kopf does not notice everything
_RETRY: Final = 1.0
_SETTLE: Final = 1.0  # several watches notice the same gap
_log = structlog.get_logger(__name__)


async def list_all(kube: Kube, kind: Kind, resources: Resources, restored: Callable[[str], None]) -> None:
    """List a kind by pages and reset the Store to it. Raises SendwardError. `restored`: as `on_restored`
    of an Informer.
    """
    before = resources.versions(kind.kind)
    seen: set[ObjectKey] = set()
    told = resources.listen(kind.kind)
    token = ""
    while True:
        page = await kube.page(kind, continue_token=token)
        for raw in page.items:
            meta = raw["metadata"]
            key = ObjectKey(kind.kind, meta["namespace"], meta["name"])
            if int(meta["resourceVersion"]) < before.get(key, 0):
                restored(kind.kind)
            if key not in told:  # else the watch is ahead of the page: the object may be gone again
                resources.event(kind.kind, raw)
            seen.add(key)
        token = page.continue_token
        if not token:
            break
    resources.reset(kind.kind, seen)


class Listing:
    """Lists at once, after each gap of a watch, and every minute. `restored`: as `on_restored` of an
    Informer. `ready` is set after the first listing.
    """

    def __init__(self, kube: Kube, kind: Kind, resources: Resources, restored: Callable[[str], None]) -> None:
        self.ready = asyncio.Event()
        self._kube = kube
        self._kind = kind
        self._resources = resources
        self._restored = restored
        self._gap = resources.gaps[kind.kind]
        self._due = False  # nothing was listed since it was time to

    def is_following(self) -> bool:
        """As of `Following`."""
        return self.ready.is_set() and not self._due and not self._gap.is_set()

    async def run(self) -> None:
        """Runs until it is cancelled; faults of the API server are logged and tried again."""
        while True:
            try:
                await list_all(self._kube, self._kind, self._resources, self._restored)
            except (Gone, SendwardError) as error:
                _log.warning("listing failed", kind=self._kind.kind, cause=str(error))
                await asyncio.sleep(_RETRY)
                continue
            self._due = False
            self.ready.set()
            with suppress(TimeoutError):
                async with asyncio.timeout(_EVERY):
                    await self._gap.wait()
            self._due = True
            await asyncio.sleep(_SETTLE)
            self._gap.clear()
