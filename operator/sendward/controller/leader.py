"""Leadership by a Lease: one process acts, the others stand by, and every term has a higher epoch.

The holder renews every 2 s and gives up 5 s after the start of its last successful renewal; a
candidate takes over when it has seen the Lease unchanged for 6 s. Both count on their own monotonic
clock, so clocks may differ between machines: what a candidate saw changing, it saw later than the
holder began to write it.

`leaseTransitions` is the epoch. An identity is one process: a restarted process is a new holder.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import structlog

from sendward import names
from sendward.apply import kinds
from sendward.apply.ports import Kube, Object
from sendward.clock import Clock
from sendward.errors import Conflict, NotFound, SendwardError


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds. `deadline` is below `duration`: the rest is for ending what is under way."""

    duration: int = 6
    renew: float = 2.0
    deadline: float = 5.0
    retry: float = 0.5  # a holder after a failed renewal; a candidate looks as often


_DEFAULT_TIMING: Final = Timing()
_log = structlog.get_logger(__name__)


class _LostError(Exception):
    """Another identity holds the Lease, it could not be renewed in time, or it went back in time."""


class Leader:
    """Runs for the Lease and keeps it.

    `on_lost` is called once, when a held Lease is lost; the caller ends the process, since whatever
    is under way may no longer be true. The same when etcd was restored from a backup, also of a candidate:
    what it has seen of all objects belongs to another past. `identity` must differ between processes.
    """

    def __init__(
        self,
        kube: Kube,
        namespace: str,
        identity: str,
        clock: Clock,
        *,
        on_lost: Callable[[], None],
        timing: Timing = _DEFAULT_TIMING,
    ) -> None:
        self._kube = kube
        self._namespace = namespace
        self._identity = identity
        self._clock = clock
        self._on_lost = on_lost
        self._timing = timing
        self._lease: Object = {}  # as last read or written; ours while `_deadline` is set
        self._deadline: float | None = None
        self._seen: tuple[str, float] | None = None  # resourceVersion of a foreign holder, since when
        self._newest = 0  # resourceVersion of the Lease; it never runs back unless etcd was restored
        self._wanted_epoch = 0
        self._wake = asyncio.Event()
        self._renewed = asyncio.Event()
        self.acquired = asyncio.Event()

    @property
    def is_leader(self) -> bool:
        """Whether the Lease is ours at this instant, even if the event loop was held up."""
        return self._deadline is not None and self._clock.monotonic() < self._deadline

    @property
    def epoch(self) -> int:
        """The epoch of this term; 0 before it begins."""
        return _transitions(self._lease) if self._deadline is not None else 0

    async def run(self) -> None:
        """Until cancelled (then the Lease is released) or lost (then `on_lost` was called)."""
        try:
            while not await self._try_acquire():
                await self._pause(self._timing.retry)
            _log.info("leadership acquired", identity=self._identity, epoch=self.epoch)
            self.acquired.set()
            await self._keep()
        except _LostError as lost:
            _log.error("leadership lost", identity=self._identity, cause=str(lost))
            self._deadline = None
            self._on_lost()
        except asyncio.CancelledError:
            await asyncio.shield(self._release())
            raise

    async def raise_epoch(self, seen: int) -> None:
        """Move above an epoch that a guard has seen: the API server was restored from a backup.

        Returns when the Lease says so; at once when this term is above it already.
        """
        await self.acquired.wait()
        while self._deadline is not None and self.epoch <= seen:
            self._wanted_epoch = max(self._wanted_epoch, seen + 1)
            self._renewed.clear()
            self._wake.set()
            await self._renewed.wait()

    async def _try_acquire(self) -> bool:
        """One look at the Lease. A failing API server is only a reason to look again."""
        started = self._clock.monotonic()
        try:
            async with asyncio.timeout(self._timing.deadline):
                return await self._acquire(started)
        except (SendwardError, TimeoutError) as error:
            _log.warning("cannot run for the lease", error=str(error) or type(error).__name__)
            return False

    async def _acquire(self, started: float) -> bool:
        try:
            lease = await self._kube.get(kinds.LEASE, self._namespace, names.LEASE)
        except NotFound:
            self._hold(await self._kube.create(kinds.LEASE, self._first_lease(epoch=1)), started)
            return True
        self._follow(lease)
        if _holder(lease) != self._identity and not self._is_expired(lease):
            return False
        # Our own identity in it means that the answer to an earlier write was lost.
        epoch = _transitions(lease) + (_holder(lease) != self._identity)
        self._hold(await self._write(lease, epoch, acquire=True), started)
        return True

    def _is_expired(self, lease: Object) -> bool:
        """A released Lease at once; another one when we saw it unchanged for its whole duration."""
        if not _holder(lease):
            return True
        now = self._clock.monotonic()
        version = str(lease["metadata"]["resourceVersion"])
        if self._seen is None or self._seen[0] != version:
            self._seen = (version, now)
            return False
        duration = max(int(lease["spec"].get("leaseDurationSeconds") or 0), self._timing.duration)
        return now - self._seen[1] >= duration

    async def _keep(self) -> None:
        pause = self._timing.renew
        while True:
            await self._pause(min(pause, max(self._remaining(), 0)))
            try:
                await self._renew()
                pause = self._timing.renew
            except SendwardError as error:
                _log.warning("cannot renew the lease", error=str(error))
                pause = self._timing.retry

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        self._wake.clear()

    def _remaining(self) -> float:
        return self._deadline - self._clock.monotonic() if self._deadline is not None else 0

    async def _renew(self) -> None:
        """Raises SendwardError while there is time to try again, else _LostError."""
        started = self._clock.monotonic()
        if self._remaining() <= 0:
            raise _LostError("not renewed in time")
        try:
            async with asyncio.timeout(self._remaining()):
                try:
                    self._hold(await self._write(self._lease, self._next_epoch()), started)
                except (Conflict, NotFound):
                    self._lease = await self._read_again()
                    self._hold(await self._write(self._lease, self._next_epoch()), started)
        except TimeoutError:
            raise _LostError("no answer in time") from None

    async def _read_again(self) -> Object:
        """After a lost answer, or when somebody edited or deleted the Lease."""
        # Never below what this term has published under.
        self._wanted_epoch = max(self._wanted_epoch, self.epoch)
        try:
            lease = await self._kube.get(kinds.LEASE, self._namespace, names.LEASE)
        except NotFound:
            return await self._kube.create(kinds.LEASE, self._first_lease(self._wanted_epoch))
        self._follow(lease)
        if _holder(lease) != self._identity:
            raise _LostError(f"held by {_holder(lease) or 'nobody'}")
        return lease

    def _next_epoch(self) -> int:
        return max(_transitions(self._lease), self._wanted_epoch)

    def _follow(self, lease: Object) -> None:
        version = int(lease["metadata"]["resourceVersion"])
        if version < self._newest:
            raise _LostError("the API server's data was restored from a backup")
        self._newest = version

    def _hold(self, lease: Object, started: float) -> None:
        self._follow(lease)
        self._lease = lease
        self._deadline = started + self._timing.deadline
        self._renewed.set()

    async def _release(self) -> None:
        """So that a standby takes over at once. A failure costs no more than the duration."""
        if not self.is_leader:
            return
        self._deadline = None
        lease = {
            **self._lease,
            "spec": {**self._lease["spec"], "holderIdentity": "", "renewTime": self._now()},
        }
        try:
            async with asyncio.timeout(self._timing.deadline):
                await self._kube.replace(kinds.LEASE, lease)
        except (SendwardError, TimeoutError) as error:
            _log.warning("cannot release the lease", error=str(error) or type(error).__name__)

    def _first_lease(self, epoch: int) -> Object:
        now = self._now()
        return {
            "apiVersion": kinds.LEASE.api_version,
            "kind": kinds.LEASE.kind,
            "metadata": {"name": names.LEASE, "namespace": self._namespace},
            "spec": {
                "holderIdentity": self._identity,
                "leaseDurationSeconds": self._timing.duration,
                "acquireTime": now,
                "renewTime": now,
                "leaseTransitions": epoch,
            },
        }

    async def _write(self, lease: Object, epoch: int, *, acquire: bool = False) -> Object:
        """Raises Conflict when somebody wrote since `lease` was read."""
        now = self._now()
        spec = {
            **lease.get("spec", {}),
            "holderIdentity": self._identity,
            "leaseDurationSeconds": self._timing.duration,
            "renewTime": now,
            "leaseTransitions": epoch,
        }
        if acquire:
            spec["acquireTime"] = now
        return await self._kube.replace(kinds.LEASE, {**lease, "spec": spec})

    def _now(self) -> str:
        return micro_time(self._clock.now())


def micro_time(moment: datetime) -> str:
    """A MicroTime of the API server: RFC 3339 with six digits."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _spec(lease: Object) -> dict[str, Any]:
    return lease.get("spec") or {}


def _holder(lease: Object) -> str:
    return str(_spec(lease).get("holderIdentity") or "")


def _transitions(lease: Object) -> int:
    return int(_spec(lease).get("leaseTransitions") or 0)
