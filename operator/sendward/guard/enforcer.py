"""Puts parts of the document in force, wherever they come from, and shares of the limits.

A shard is judged by from the moment it is verified; its acknowledgement follows when it is on disk, so
that no restart brings a revoked key back. The gateway's own part waits for Envoy. One of a deleted
gateway denies at once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import structlog

from sendward import document, names
from sendward.document import DocumentError, Envelope, Gateway
from sendward.guard.contact import Contact
from sendward.guard.counters import SharedCounters
from sendward.guard.decide import State
from sendward.guard.envoy import Proxy
from sendward.guard.holding import Holding
from sendward.guard.limiter import NO_TOKENS
from sendward.guard.metrics import Metrics
from sendward.guard.policy import GatewayView, gateway_view
from sendward.guard.store import Store
from sendward.protocol import PPM, Ack, Nack, Portions, Shares, is_of_place

_LONGEST_PART: Final = 16  # characters; none of ours is longer

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Pending:
    """The gateway part that Envoy is being given."""

    envelope: Envelope
    view: GatewayView
    task: asyncio.Task[Ack | Nack | None]


class Enforcer:
    """The one writer of the policy and of the limiter's shares."""

    def __init__(
        self,
        state: State,
        store: Store,
        proxy: Proxy,
        metrics: Metrics,
        contact: Contact,
        holding: Holding,
        counters: SharedCounters,
    ) -> None:
        self._contact = contact
        self._counters = counters
        self._holding = holding
        self._state = state
        self.store = store
        self._proxy = proxy
        self._metrics = metrics
        self._disk = ThreadPoolExecutor(max_workers=1, thread_name_prefix="disk")  # keeps the order
        self._envoy_lock = asyncio.Lock()
        self._pending: _Pending | None = None
        self.gateway: Gateway | None = None  # the part that is in force
        self.shares: Shares | None = None  # the hub's last ones; None: this guard's own guess
        self._guess = 0
        if holding.shares is not None:
            self.set_shares(holding.shares)

    async def offer(self, raw: bytes) -> Ack | Nack | None:
        """Put a part in force if it is genuine and newer; acknowledged when it is enforced.

        None if a newer one superseded it meanwhile: that one is answered.
        """
        try:
            envelope = self.store.examine(raw)
        except DocumentError as error:
            if successor := self.store.successor(raw):
                return await self._give_up(successor)
            return self._refuse(*_claimed(raw), str(error))
        if envelope.part == names.PART_GATEWAY:
            self.store.memory.replaced = False
        self.store.see(envelope.epoch)
        if self._in_force(envelope):
            return Ack(envelope.part, envelope.epoch, envelope.revision)
        problem = self.store.outdated(envelope)
        if problem:
            return self._nack(envelope, problem)
        return await self._enforce(envelope)

    async def offer_local(self, raw: bytes) -> None:
        """The same for a part from disk or from a mounted Secret, where old ones are no surprise."""
        try:
            envelope = self.store.examine(raw)
        except DocumentError as error:
            self._refuse("", 0, 0, str(error))
            return
        self.store.see(envelope.epoch)
        if not self.store.outdated(envelope):
            await self._enforce(envelope)

    async def _give_up(self, successor: Envelope) -> Nack:
        """The gateway that this pod was made for is gone, and another one has its name.

        Only the hub is believed in this: a part of an earlier gateway, kept by somebody who may write
        Secrets, would else shut down the pods of the present one.
        """
        if not self.store.memory.replaced:
            self.store.memory.replaced = True
            self.check_age()
            await self.persist_memory()
        return self._nack(
            successor, "this pod was made for an earlier MessagingGateway of this name: recreate it"
        )

    def _in_force(self, envelope: Envelope) -> bool:
        held = self.store.held.get(envelope.part)
        return held is not None and held.order == envelope.order and held.payload == envelope.payload

    async def _enforce(self, envelope: Envelope) -> Ack | Nack | None:
        try:
            if envelope.part == names.PART_GATEWAY:
                return await self._enforce_gateway(envelope)
            self._state.limiter.expect(
                self._state.policy.set_shard(int(envelope.part), document.open_shard(envelope))
            )
        except (DocumentError, ValueError) as error:
            return self._nack(envelope, str(error))
        self.store.hold(envelope)
        await self._persist(envelope)
        return Ack(envelope.part, envelope.epoch, envelope.revision)

    async def _enforce_gateway(self, envelope: Envelope) -> Ack | Nack | None:
        pending = self._pending
        if pending is not None and envelope.order < pending.envelope.order:
            return None
        if pending is None or envelope != pending.envelope:
            gateway = document.open_gateway(envelope)
            view = gateway_view(gateway)
            self._prepare(gateway, view)
            task = asyncio.create_task(self._apply(envelope, gateway, view))
            pending = self._pending = _Pending(envelope, view, task)
        # The task outlives the stream that brought the part: Envoy may not have started yet.
        return await asyncio.shield(pending.task)

    async def _apply(self, envelope: Envelope, gateway: Gateway, view: GatewayView) -> Ack | Nack | None:
        def superseded() -> bool:
            return self._pending is not None and self._pending.envelope is not envelope

        try:
            async with self._envoy_lock:
                if superseded():
                    return None
                applied = await self._proxy.apply(gateway.envoy, superseded)
                if applied.superseded:
                    return None
                if applied.error:
                    return self._nack(envelope, applied.error)
                self._judge_by(gateway, view)
                self.store.hold(envelope)
        except OSError as error:
            return self._nack(envelope, f"Envoy's files cannot be written: {error.strerror}")
        finally:
            if not superseded():
                self._pending = None
        await self._persist(envelope)
        log.info("gateway part in force", epoch=envelope.epoch, revision=envelope.revision)
        return Ack(envelope.part, envelope.epoch, envelope.revision)

    def _judge_by(self, gateway: Gateway, view: GatewayView) -> None:
        self.gateway = gateway
        self._counters.use(gateway.counters)
        self.check_age()
        pending = self._pending
        # A deletion that waits for its turn denies already.
        deleted = pending is not None and pending.view.deleted
        if not deleted or view.deleted:
            self._state.policy.set_gateway(view)

    def check_age(self) -> None:
        """Refuse everything once the hub was not heard of for as long as the gateway says, or when there
        is another gateway of its name.
        """
        if self.gateway is not None:
            replaced = self.store.memory.replaced
            self._state.stale = replaced or self._contact.stale(self.gateway.stale_after)

    def _prepare(self, gateway: Gateway, view: GatewayView) -> None:
        if gateway.deleted:
            self._state.policy.set_gateway(view)

    @property
    def limits_known(self) -> bool:
        """Whether there is a share to limit by; without one, whatever has a limit is refused."""
        return self.shares is not None or self._guess > 0

    @property
    def guesses(self) -> bool:
        """Whether limits may be exceeded: this guard limits by a share that the hub never gave."""
        return self.shares is None and self._guess > 0

    def set_shares(self, shares: Shares) -> Portions:
        """Limit by the hub's shares from now on; returns the tokens that were given up."""
        freed = self._state.limiter.set_shares(
            time.monotonic_ns(), shares.default, shares.subjects, shares.filled
        )
        self._state.term = shares.term
        self.shares = Shares(shares.round, shares.default, shares.subjects, term=shares.term)
        self._holding.keep(self.shares)
        return freed

    async def begin_term(self, term: str, *, full: bool = False) -> None:
        """Let the shared counters of a term begin, unless they have: what they earn, they earn from then on.
        `full`: nobody has used anything of the gateway's limits yet.
        """
        if is_of_place(term, self._counters.place):
            await self._counters.begin(term, full=full)

    def guess_share(self) -> None:
        """Limit by a careful guess while no hub says more. Nothing happens once one did.

        Its bucket starts full in a fresh pod only: whoever ends the guard again and again gains nothing.
        """
        if self.shares is not None or self.gateway is None or self.gateway.counters is not None:
            return  # who has shared counters is either told to use them, or given a share
        guess = PPM // (self.gateway.pods + 1)
        if guess != self._guess:
            filled = Portions(guess) if self._guess == 0 and self._holding.fresh else NO_TOKENS
            self._state.limiter.set_shares(time.monotonic_ns(), guess, {}, filled)
            self._guess = guess

    def give_up_shares(self) -> None:
        """Cut off for so long that the hub gives our shares to others: wait for new ones."""
        held = self.shares
        if held is not None and (held.default or held.subjects or held.term):
            self.set_shares(Shares(held.round, 0))

    def end(self) -> Portions:
        """Let nothing with a limit pass any more; returns the tokens that were left."""
        freed = self._state.limiter.set_shares(time.monotonic_ns(), 0, {})
        self.shares = None
        self._state.term = ""
        self._holding.keep(None)
        return freed

    def bursts(self, uids: Set[str]) -> dict[str, int]:
        """The smallest burst of the limits of each account or key that has any, whoever counts them."""
        return self._state.policy.bursts(uids)

    async def _persist(self, envelope: Envelope) -> None:
        try:
            await asyncio.get_running_loop().run_in_executor(self._disk, self.store.persist, envelope)
        except OSError as error:
            # It is in force; after a restart the mounted Secrets and the hub bring it again.
            log.error("part not kept on disk", part=envelope.part, error=str(error))

    async def persist_memory(self) -> None:
        """Keep epoch and last contact on disk."""
        try:
            await asyncio.get_running_loop().run_in_executor(self._disk, self.store.persist_memory)
        except OSError as error:
            log.error("state not kept on disk", error=str(error))

    def _nack(self, envelope: Envelope, message: str) -> Nack:
        return self._refuse(envelope.part, envelope.epoch, envelope.revision, message)

    def _refuse(self, part: str, epoch: int, revision: int, message: str) -> Nack:
        self._metrics.rejections.inc()
        log.warning("part refused", part=part, epoch=epoch, revision=revision, reason=message)
        return Nack(part, epoch, revision, message)

    def close(self) -> None:
        """Finish what is being written."""
        self._disk.shutdown()


def _claimed(raw: bytes) -> tuple[str, int, int]:
    """Part and order that a refused envelope claims, so that the hub knows which one it was."""
    try:
        envelope = document.decode(raw)
    except DocumentError:
        return "", 0, 0
    return envelope.part[:_LONGEST_PART], envelope.epoch, envelope.revision
