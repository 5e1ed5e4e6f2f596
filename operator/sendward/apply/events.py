"""Kubernetes Events from a closed list of reasons, on transitions only, without secrets."""

from __future__ import annotations

import asyncio
import uuid
from typing import Final, Literal

import structlog

from sendward import names
from sendward.apply import kinds
from sendward.apply.ports import Kube, Object
from sendward.clock import Clock
from sendward.conditions import EventReason
from sendward.errors import SendwardError
from sendward.resources.base import Meta

_QUEUE: Final = 1000
# An Event costs the API server as much as a Secret: ten thousand keys at once need not ten thousand.
_BURST: Final = 100
_PER_SECOND: Final = 5.0
_log = structlog.get_logger(__name__)


class Events:
    """Posts in the background; a full queue or a failing API server drops Events, never work."""

    def __init__(self, kube: Kube, clock: Clock, instance: str) -> None:
        self._kube = kube
        self._clock = clock
        self._instance = instance
        self._queue: asyncio.Queue[Object] = asyncio.Queue(_QUEUE)
        self._tokens = float(_BURST)
        self._filled = clock.monotonic()

    def emit(
        self,
        meta: Meta,
        reason: EventReason,
        note: str,
        kind: Literal["Normal", "Warning"] = "Normal",
    ) -> None:
        """Queue one Event about an object of ours. In a storm Normal ones are dropped."""
        if kind == "Normal" and not self._take():
            return
        now = self._clock.now().strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        event: Object = {
            "apiVersion": kinds.EVENT.api_version,
            "kind": "Event",
            "metadata": {"name": f"{meta.key.name}.{uuid.uuid4().hex[:16]}", "namespace": meta.key.namespace},
            "eventTime": now,
            "reportingController": names.GROUP,
            "reportingInstance": self._instance,
            "action": "Reconcile",
            "reason": reason.value,
            "type": kind,
            "note": note[:1024],
            "regarding": {
                "apiVersion": names.API_VERSION,
                "kind": meta.key.kind,
                "namespace": meta.key.namespace,
                "name": meta.key.name,
                "uid": meta.uid,
            },
        }
        if not self._queue.full():
            self._queue.put_nowait(event)

    def _take(self) -> bool:
        now = self._clock.monotonic()
        self._tokens = min(self._tokens + (now - self._filled) * _PER_SECOND, _BURST)
        self._filled = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    async def run(self) -> None:
        """Post queued Events until cancelled."""
        while True:
            event = await self._queue.get()
            try:
                await self._kube.create(kinds.EVENT, event)
            except SendwardError as error:
                _log.debug("event not posted", reason=event["reason"], cause=str(error))
