"""Follows one kind: list by pages, watch with bookmarks, list again after a failure and every ten minutes.

Holds a resourceVersion per object and no object, so that a listing hands on only what changed.
Ten thousand objects that nobody touched cost a relist and no work in the receiver.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Callable, Sequence, Set
from contextlib import aclosing
from typing import Final, Protocol, cast

import structlog

from sendward.apply.ports import Gone, Kind, Kube, Object, Page, WatchEvent
from sendward.clock import Clock, SystemClock
from sendward.errors import SendwardError, Unavailable

_LOG: Final = structlog.get_logger(__name__)
_WATCH_SECONDS: Final = 290  # the API server ends watches after 5 to 10 minutes anyway
_BACK_OFF_SECONDS: Final = (0.1, 10.0)  # first and longest
_LOOK_SECONDS: Final = 0.05

Name = tuple[str, str]  # namespace ("" when there is none), name


class Following(Protocol):
    """What is known of some objects of the API server."""

    def is_following(self) -> bool:
        """Whether what was told is what the API server holds, but for what is on its way."""


class Informer:
    """Calls `on_event(type, object)` with ADDED, MODIFIED or DELETED, `on_reset(names)`, `on_restored(kind)`.

    A listing reports each new or changed object as ADDED or MODIFIED, then calls `on_reset` with the
    names of everything that exists: the receiver drops the rest (no DELETED comes for these). The
    callbacks run in the event loop, must not block and must not raise. `ready` is set after the
    first listing.

    `on_restored`: a listing is older than what was told before, so etcd was restored from a backup. What
    this process holds belongs to another past, and it had better begin anew; the listing is told all the
    same.
    """

    def __init__(
        self,
        kube: Kube,
        kind: Kind,
        on_event: Callable[[str, Object], None],
        on_reset: Callable[[Set[Name]], None],
        on_restored: Callable[[str], None],
        *,
        namespace: str | None = None,
        label_selector: str = "",
        metadata_only: bool = False,
        relist_seconds: float = 600,
        page_size: int = 500,
        clock: Clock | None = None,
    ) -> None:
        self.ready = asyncio.Event()
        self._kube = kube
        self._kind = kind
        self._on_event = on_event
        self._on_reset = on_reset
        self._on_restored = on_restored
        self._namespace = namespace
        self._label_selector = label_selector
        self._metadata_only = metadata_only
        self._relist_seconds = relist_seconds
        self._page_size = page_size
        self._clock: Clock = clock or SystemClock()
        self._known: dict[Name, str] = {}  # resourceVersion of each object
        self._version = ""  # where the next watch begins; "" asks for a listing
        self._highest = 0  # the newest of these numbers that was seen
        self._listed_at = 0.0
        self._last_event = self._clock.monotonic()
        self._cut_off = False  # since a watch or a listing failed, nothing was listed

    def is_following(self) -> bool:
        """As of `Following`."""
        return self.ready.is_set() and not self._cut_off

    def last_event_age(self) -> float:
        """Seconds since the API server last said something about this kind: an event, a bookmark, a list."""
        return self._clock.monotonic() - self._last_event

    def position(self) -> int:
        """The newest resourceVersion that was heard of; 0 before the first listing."""
        return self._highest

    async def run(self) -> None:
        """Runs until it is cancelled; faults of the API server are logged and tried again."""
        failures = 0
        while True:
            try:
                if not self._version or self._until_relist() <= 0:
                    await self._list()
                await self._watch()
                failures = 0
            except (Gone, SendwardError) as error:
                self._cut_off = True
                # Whatever it was: a server that was restored meanwhile may go on with the watch as if nothing
                # had happened, and never tell of what went back.
                self._version = ""
                _LOG.warning(
                    "watch.failed", kind=self._kind.kind, error=type(error).__name__, reason=str(error)
                )
                await asyncio.sleep(self._delay(failures, error))
                failures += 1

    async def _list(self) -> None:
        seen: dict[Name, str] = {}
        token = ""
        while True:
            page = await self._kube.page(
                self._kind,
                namespace=self._namespace,
                label_selector=self._label_selector,
                metadata_only=self._metadata_only,
                limit=self._page_size,
                continue_token=token,
            )
            if self._went_back(page):
                self._on_restored(self._kind.kind)
                self._known = {}  # an old number may stand for another content
            self._highest = int(page.resource_version)
            for obj in page.items:
                name, version = _identity(obj)
                seen[name] = version
                known = self._known.get(name)
                if known != version:
                    self._on_event("ADDED" if known is None else "MODIFIED", obj)
            self._heard()
            token = page.continue_token
            if not token:
                break
        self._known = seen
        self._on_reset(seen.keys())
        self._version = page.resource_version
        self._listed_at = self._clock.monotonic()
        self._cut_off = False
        self.ready.set()

    async def _watch(self) -> None:
        started = self._clock.monotonic()
        heard = self._last_event
        events = self._kube.watch(
            self._kind,
            self._version,
            namespace=self._namespace,
            label_selector=self._label_selector,
            metadata_only=self._metadata_only,
            timeout_seconds=max(1, min(_WATCH_SECONDS, int(self._until_relist()))),
        )
        # Closed at once when we leave, not whenever the collector comes by.
        async with aclosing(cast("AsyncGenerator[WatchEvent, None]", events)) as stream:
            async for event in stream:
                self._receive(event)
        if self._last_event == heard and self._clock.monotonic() - started < _BACK_OFF_SECONDS[0]:
            raise Unavailable("the watch ended at once")

    def _receive(self, event: WatchEvent) -> None:
        self._heard()
        name, version = _identity(event.object)
        self._version = version
        self._highest = int(version)
        if event.type == "BOOKMARK":
            return
        if event.type == "DELETED":
            self._known.pop(name, None)
        else:
            self._known[name] = version
        self._on_event(event.type, event.object)

    def _went_back(self, page: Page) -> bool:
        """A listing is read from etcd's majority: nothing in it can be older than what was seen before."""
        if int(page.resource_version) < self._highest:
            return True
        pairs = (_identity(obj) for obj in page.items)
        return any(int(version) < int(self._known.get(name, 0)) for name, version in pairs)

    def _heard(self) -> None:
        self._last_event = self._clock.monotonic()

    def _until_relist(self) -> float:
        return self._listed_at + self._relist_seconds - self._clock.monotonic()

    @staticmethod
    def _delay(failures: int, error: Exception) -> float:
        first, longest = _BACK_OFF_SECONDS
        asked = error.retry_after or 0.0 if isinstance(error, Unavailable) else 0.0
        delay = max(asked, first * 2.0 ** min(failures, 10))
        return min(longest, delay) * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, not a secret


async def until_following(views: Sequence[Following]) -> None:
    """Wait until all views are those of the API server. Who has just begun to lead, and whose watches broke
    before, holds what may be newer than what was restored: who would decide by it destroys what senders use.
    """
    while not all(view.is_following() for view in views):  # noqa: ASYNC110 - of many, and rarely
        await asyncio.sleep(_LOOK_SECONDS)


def _identity(obj: Object) -> tuple[Name, str]:
    meta = obj["metadata"]
    return (meta.get("namespace", ""), meta.get("name", "")), meta["resourceVersion"]
