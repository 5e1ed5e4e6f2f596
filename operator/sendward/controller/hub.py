"""The hub: streams policy to the guards, takes their acknowledgements and usage, splits limits.

Only the leader serves; a standby answers 503 and the guard tries the next address.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final

import msgspec
import structlog
from aiohttp import web

from sendward import names
from sendward.clock import Clock
from sendward.controller import hub_metrics as metrics
from sendward.controller.hub_auth import Authenticator, Refused, TokenReviewer, View
from sendward.controller.hub_session import Session
from sendward.controller.hub_state import GatewayState, Order, highest_epoch
from sendward.controller.propagation import Propagation
from sendward.document import Envelope
from sendward.graph.facts import Guard
from sendward.protocol import (
    HUB_PATH,
    REPORT_SECONDS,
    Ack,
    GuardMessage,
    Hello,
    Leave,
    Nack,
    Report,
    Shares,
    SharesAck,
)

_SHARES_ACK_SECONDS: Final = 10.0  # a guard that does not answer would hold up the others' shares

_log = structlog.get_logger(__name__)


class Hub:
    """One per process. `is_serving`: this process leads and its view of the cluster is complete.

    Callbacks run in the event loop and return at once:
    `on_change(gateway uid, part)`: a guard acknowledged or refused a part; "": connections changed.
    `on_epoch(seen)`: a guard has seen an epoch above the published ones: move above it.
    `on_ahead(gateway uid, part, (epoch, revision))`: a guard has something newer than what is
    published; seal the part anew above that order.
    `seen()`: when the oldest change of what is published now was seen, monotonic; None: it is no change.
    """

    def __init__(
        self,
        kube: TokenReviewer,
        view: View,
        clock: Clock,
        *,
        is_serving: Callable[[], bool],
        epoch: Callable[[], int],
        on_change: Callable[[str, str], None],
        on_epoch: Callable[[int], None],
        on_ahead: Callable[[str, str, Order], None],
        seen: Callable[[], float | None] = lambda: None,
    ) -> None:
        self._view = view
        self._clock = clock
        self._is_serving = is_serving
        self._epoch = epoch
        self._on_change = on_change
        self._on_epoch = on_epoch
        self._on_ahead = on_ahead
        self._seen = seen
        self._propagation = Propagation()
        self._authenticator = Authenticator(kube, view, clock)
        self.serving_since = clock.now()  # set again when this process begins to lead
        self._gateways: dict[str, GatewayState] = {}
        self._sessions: dict[str, Session] = {}  # by pod uid
        self._outbox: dict[str, tuple[Shares, float]] = {}  # shares to send, or not yet answered
        self._unsent: set[str] = set()  # pods whose shares in the outbox are still to be sent
        self._nudge = asyncio.Event()
        self._labels: dict[str, tuple[str, str]] = {}
        self._runner: web.AppRunner | None = None
        self._balancer: asyncio.Task[None] | None = None
        self.port = 0

    # --- the server -----------------------------------------------------------------------------

    async def start(self, tls: ssl.SSLContext, host: str | None = None, port: int = names.PORT_HUB) -> None:
        """Listen. `tls` may be given new certificates later."""
        application = web.Application()
        application.router.add_get(HUB_PATH, self._handle)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=3.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port, ssl_context=tls).start()
        self.port = self._runner.addresses[0][1]
        self._balancer = asyncio.create_task(self._balance())

    async def stop(self) -> None:
        """Close every stream; guards then look for the next leader."""
        for session in list(self._sessions.values()):
            session.stop("HubStops")
        if self._balancer:
            self._balancer.cancel()
            with suppress(asyncio.CancelledError):
                await self._balancer
        if self._runner:
            await self._runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        try:
            if not self._is_serving():
                raise Refused(503, "Standby")
            peer = await self._authenticator.authenticate(request.headers.get("Authorization", ""))
        except Refused as refused:
            metrics.REFUSED.labels(refused.reason).inc()
            if refused.reason != "Standby":
                _log.warning("guard refused", reason=refused.reason, remote=request.remote)
            return web.Response(status=refused.status, text=refused.reason)
        session = Session(peer, self, self._next_frame, self._clock)
        # No await since the pod was looked up: a deletion from now on finds the session.
        if before := self._sessions.get(peer.pod.uid):
            self._detach(before)
            before.stop("Replaced")
        self._sessions[peer.pod.uid] = session
        return await session.run(request)

    # --- for the loop ---------------------------------------------------------------------------

    def publish(self, gateway_uid: str, envelopes: Mapping[str, Envelope]) -> None:
        """Current envelopes by part; parts that are not named stay as they are. Streams at once."""
        self._publish(gateway_uid, envelopes, self._seen())

    def load(self, gateway_uid: str, envelopes: Mapping[str, Envelope]) -> None:
        """The same with what an earlier leader published: it is no change that is on its way."""
        self._publish(gateway_uid, envelopes, None)

    def _publish(self, gateway_uid: str, envelopes: Mapping[str, Envelope], seen: float | None) -> None:
        state = self._state(gateway_uid)
        before = {part: state.order(part) for part in envelopes}
        pods = list(self._view.pods(gateway_uid))
        replaced = {pod.uid for pod in pods if pod.made_for_another(gateway_uid)}
        if not state.publish(envelopes, pods, self._epoch(), replaced=replaced):
            return
        if seen is not None:
            changed = [part for part, order in before.items() if state.order(part) != order]
            self._propagation.begin(gateway_uid, changed, seen)
            self._settle(gateway_uid, state)
        for session in self._sessions.values():
            if session.peer.gateway_uid == gateway_uid:
                self._report_ahead(state, session)
                session.wake()

    def withdraw(self, gateway_uid: str) -> None:
        """The gateway is gone: close its streams, forget its guards."""
        self._gateways.pop(gateway_uid, None)
        self._propagation.forget(gateway_uid)
        for session in list(self._sessions.values()):
            if session.peer.gateway_uid == gateway_uid:
                self._detach(session)
                session.stop("GatewayGone")
        if labels := self._labels.pop(gateway_uid, None):
            for metric in (metrics.GUARDS, metrics.OUT_OF_SYNC, metrics.REJECTIONS):
                metric.remove(*labels)

    def guards(self, gateway_uid: str, part: str | None = None) -> dict[str, Guard]:
        """Every guard of a gateway that spoke to this leader and whose pod exists, by pod uid; with
        `part` it is told only whether this one is in force.
        """
        state = self._gateways.get(gateway_uid)
        return state.facts(part) if state else {}

    def last_used(self) -> dict[str, dict[str, int]]:
        """Gateway uid to key-version id to Unix seconds, since the last call. A guard is believed
        for keys of its own gateway only, so judge each version by its gateways.
        """
        used = {uid: state.last_used for uid, state in self._gateways.items() if state.last_used}
        for uid in used:
            self._gateways[uid].last_used = {}
        return used

    def pod_gone(self, pod_uid: str) -> None:
        """No such pod any more. A terminating one keeps the stream it has: its guard still judges."""
        if session := self._sessions.get(pod_uid):
            self._detach(session)
            session.stop("PodGone")

    # --- events of sessions ---------------------------------------------------------------------

    def on_hello(self, session: Session, hello: Hello) -> None:
        if self._sessions.get(session.peer.pod.uid) is not session:
            return
        state, pod = self._state(session.peer.gateway_uid), session.peer.pod
        replaced = pod.made_for_another(session.peer.gateway_uid)
        state.hello(pod, hello, self._clock.now(), replaced=replaced)
        seen = highest_epoch(hello) or 0
        if seen > self._epoch():
            self._on_epoch(seen)
        self._report_ahead(state, session)
        state.shares.retarget()
        self._nudge.set()
        self._on_change(session.peer.gateway_uid, "")

    def on_message(self, session: Session, message: GuardMessage) -> None:
        uid, gateway_uid = session.peer.pod.uid, session.peer.gateway_uid
        state = self._gateways.get(gateway_uid)
        if state is None or uid not in state.records or self._sessions.get(uid) is not session:
            return
        now = self._clock.now()
        state.records[uid].last_contact = now
        match message:
            case Ack():
                state.acknowledge(uid, message)
                if message.part in self._propagation.waiting(gateway_uid):
                    self._settle(gateway_uid, state)
                self._report_ahead(state, session)
                self._on_change(gateway_uid, message.part)
            case Nack():
                state.refuse(uid, message)
                metrics.REJECTIONS.labels(session.peer.pod.namespace, session.peer.pod.gateway).inc()
                self._on_change(gateway_uid, message.part)
            case SharesAck():
                state.shares.acknowledge(uid, message.round, message.freed)
                if uid in self._outbox and self._outbox[uid][0].round == message.round:
                    del self._outbox[uid]
                self._nudge.set()
            case Leave():
                state.shares.leave(uid, message.freed)
                state.shares.retarget()
                self._nudge.set()
            case Report():
                if state.report(uid, message, now, self._clock.monotonic()):
                    self._nudge.set()

    def on_end(self, session: Session) -> None:
        self._detach(session)

    def _detach(self, session: Session) -> None:
        """From here on the guard counts as cut off. Nothing happens for one that was replaced."""
        uid, gateway_uid = session.peer.pod.uid, session.peer.gateway_uid
        if self._sessions.get(uid) is not session:
            return
        del self._sessions[uid]
        self._outbox.pop(uid, None)
        self._unsent.discard(uid)
        state = self._gateways.get(gateway_uid)
        if state and session.greeted:
            state.disconnect(uid, self._clock.now())
            state.shares.retarget()
            self._nudge.set()
            self._on_change(gateway_uid, "")

    def _report_ahead(self, state: GatewayState, session: Session) -> None:
        if session.greeted:
            for part, order in state.ahead(session.peer.pod.uid).items():
                self._on_ahead(session.peer.gateway_uid, part, order)

    def _next_frame(self, session: Session) -> bytes | None:
        """Shares first, they are small; then whatever part the guard lacks."""
        uid = session.peer.pod.uid
        state = self._gateways.get(session.peer.gateway_uid)
        if state is None or self._sessions.get(uid) is not session:
            return None
        if uid in self._unsent:
            self._unsent.discard(uid)
            return msgspec.json.encode(self._outbox[uid][0])
        part = state.next_part(uid, session.sent)
        if part is None:
            return None
        session.sent[part] = state.published[part].order
        return state.published[part].frame

    def _state(self, gateway_uid: str) -> GatewayState:
        if gateway_uid not in self._gateways:
            self._gateways[gateway_uid] = GatewayState()
        return self._gateways[gateway_uid]

    # --- shares ---------------------------------------------------------------------------------

    async def _balance(self) -> None:
        """Each second by demand; in between, what an acknowledgement or a change made possible."""
        tick = self._clock.monotonic()
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(max(tick - self._clock.monotonic(), 0)):
                    await self._nudge.wait()
            self._nudge.clear()
            if self._clock.monotonic() >= tick:
                tick = self._clock.monotonic() + REPORT_SECONDS
                self._each(self._tick)
            self._each(self._send_shares)

    def _each(self, step: Callable[[str, GatewayState], None]) -> None:
        """A fault in one gateway is seen, and leaves the others alone."""
        for gateway_uid, state in list(self._gateways.items()):
            try:
                step(gateway_uid, state)
            except Exception as error:  # noqa: BLE001  # the balancer must outlive every fault
                _log.error("shares failed", gateway=gateway_uid, error=type(error).__name__)

    def _tick(self, gateway_uid: str, state: GatewayState) -> None:
        now = self._clock.now()
        present = set()
        for known in state.pods():
            pod = self._view.pod(known.namespace, known.name)
            if pod and pod.uid == known.uid:
                present.add(pod.uid)
            else:
                self.pod_gone(known.uid)
        if state.sweep(present, self._view.stale_after(gateway_uid), self.serving_since, now):
            self._on_change(gateway_uid, "")
        self._settle(gateway_uid, state)
        state.shares.retarget()
        for uid in state.records:
            sent = self._outbox.get(uid)
            if sent and self._clock.monotonic() - sent[1] >= _SHARES_ACK_SECONDS:
                self._sessions[uid].stop("SharesNotAcknowledged")
        if pods := list(self._view.pods(gateway_uid)):
            labels = self._labels[gateway_uid] = (pods[0].namespace, pods[0].gateway)
            connected = sum(record.connected for record in state.records.values())
            metrics.GUARDS.labels(*labels).set(connected)
            metrics.OUT_OF_SYNC.labels(*labels).set(state.out_of_sync(pods))

    def _settle(self, gateway_uid: str, state: GatewayState) -> None:
        """Which parts that were on their way are in force now."""
        if not (pods := state.expected(self._view.pods(gateway_uid))):
            self._propagation.forget(gateway_uid)
        for part in self._propagation.waiting(gateway_uid):
            if state.in_force(part, pods):
                self._propagation.end(gateway_uid, part, self._clock.monotonic())

    def _send_shares(self, gateway_uid: str, state: GatewayState) -> None:
        # Before that it is not known who else may hold shares; what guards have goes on.
        if not state.published:
            return
        state.shares.offer_counters(self._view.counters(gateway_uid))
        now = self._clock.monotonic()
        for uid, message in state.shares.due().items():
            self._outbox[uid] = (message, now)
            self._unsent.add(uid)
            self._sessions[uid].wake()
