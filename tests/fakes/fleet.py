"""Gateway pods and their hub in simulated time: the real `GatewayShares` and the real `Limiter`, with
messages that take a while, pods that come, go and are killed, and a hub that is cut off or replaced."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import chain, count

from sendward.controller.shares import GatewayShares
from sendward.document import Limit
from sendward.guard.limiter import Limiter, fill_time
from sendward.protocol import PPM, Portions, Shares

SECOND = 1_000_000_000
LATENCY = SECOND // 50
GRACE = 60 * SECOND  # after staleAfter, until the hub gives the shares of a guard to others
START = 3 * SECOND // 2  # until a guard has its document, and knows whether it reaches the counters
UNMET = 10 * SECOND  # until one that never reached them says so, as guard/counters.py does
GUESS = 3 * SECOND  # a new guard without shares guesses then, as guard/main.py does
UID = "account"


class Exact:
    """One counter for all pods: what it refuses would exceed `burst + rate * w` in some window w."""

    def __init__(self, limit: Limit) -> None:
        self._rate = limit.messages
        self.message = limit.period * SECOND  # one message; a nanosecond earns `messages`
        self._capacity = self._tokens = limit.burst * self.message
        self._last = 0
        self.accepted = 0

    def holds(self, now: int, cost: int) -> bool:
        """Whether so many messages may pass at `now`."""
        self._tokens = min(self._capacity, self._tokens + (now - self._last) * self._rate)
        self._last = now
        return self._tokens >= cost * self.message

    def empty(self) -> None:
        """Nothing is left."""
        self._tokens = 0

    def left(self, now: int) -> Fraction:
        """Messages that may pass at once at `now`."""
        self.holds(now, 0)
        return Fraction(self._tokens, self.message)

    def take(self, now: int, cost: int) -> float:
        """Count a message that passed; what is left then. Below 0: some window has more than it may."""
        self.holds(now, cost)
        self._tokens -= cost * self.message
        self.accepted += cost
        return self._tokens / self.message


class Counters:
    """Counters that all guards share, as `guard/counters.py` promises them: whatever is not known to be
    there counts as used up.
    """

    _processes = count()

    def __init__(self, limit: Limit) -> None:
        self._limit = limit
        self.restart()

    def flush(self) -> None:
        """It knows nothing any more."""
        self.term = ""
        self.bucket = Exact(self._limit)

    def restart(self) -> None:
        """Another process answers, and knows nothing."""
        self.process = f"process-{next(self._processes)}"
        self.flush()

    def begin(self, term: str, now: int, *, full: bool = False) -> None:
        """Let a term begin, empty or full, unless it began already."""
        if term != self.term:
            self.term, self.bucket = term, Exact(self._limit)
            self.bucket.holds(now, 0)
            if not full:
                self.bucket.empty()

    def admit(self, term: str, now: int, cost: int) -> bool:
        """Take from the counters of the term."""
        self.begin(term, now)
        if not self.bucket.holds(now, cost):
            return False
        self.bucket.take(now, cost)
        return True


@dataclass
class Pod:
    """A pod and its guard. `held` is what a successor of the process finds."""

    name: str
    limiter: Limiter
    held: Shares | None = None
    hub: bool = True  # whether it can reach the hub
    stream: int = 0  # messages of an earlier stream are lost
    connected: bool = False
    fresh: bool = True
    guessed: bool = False
    began: int = 0
    heard: int = 0  # when it last heard of the hub
    counters: bool = True  # whether it can reach the shared counters, if there are any
    met: bool = False  # its guard has reached them once
    primary: int = 0  # which of two Redis it reaches under the one name
    term: str = ""
    demand: dict[str, int] = field(default_factory=dict)
    accepted: int = 0


class Fleet:
    """`limit` holds for the one account, over all pods. `place`: of counters that they share; "": none."""

    _words = count()

    def __init__(self, limit: Limit, *, new: bool = True, place: str = "") -> None:
        self.limit = limit
        self.now = 0
        self.hub = self._leader()
        if new:
            self.hub.begin()
        self.pods: dict[str, Pod] = {}
        self.place = place
        self.counters = {place: (Counters(limit), Counters(limit))}
        self.exact = Exact(limit)  # what passed, against the bound
        self.ideal = Exact(limit)  # what one exact counter would have let pass
        self.closest = float(limit.burst)  # the least that was left of the bound
        self.offered = 0
        self.guesses = 0
        self.stale = 0  # nanoseconds after which a guard that is cut off refuses everything; 0: never
        self.passed: list[tuple[int, int]] = []  # when it was counted, and its cost
        self._led = 0  # since when this hub leads
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._count = 0
        self._in(SECOND, self._tick)

    def _leader(self) -> GatewayShares:
        return GatewayShares(lambda: str(next(self._words)))

    # --- time -----------------------------------------------------------------------------------

    def _in(self, delay: int, event: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._events, (self.now + delay, self._count, event))

    def run(self, until: int) -> None:
        """Let everything happen that is due before `until`."""
        while self._events and self._events[0][0] <= until:
            moment, _, event = heapq.heappop(self._events)
            self.now = moment
            event()
        self.now = until

    def _tick(self) -> None:
        for name, pod in self.pods.items():
            away = self.now - max(pod.heard, self._led)
            if self.stale and not pod.connected and away >= self.stale + GRACE:
                self.hub.expire(name)
        self.hub.retarget()
        self._send()
        self._in(SECOND, self._tick)

    # --- pods -----------------------------------------------------------------------------------

    def _limiter(self) -> Limiter:
        made = Limiter()
        made.expect(fill_time(self.limit))
        return made

    def join(self, name: str, *, hub: bool = True) -> None:
        """A new pod."""
        self.pods[name] = pod = Pod(name, self._limiter(), hub=hub, heard=self.now)
        self._start(pod)

    def _start(self, pod: Pod) -> None:
        limiter, pod.began = pod.limiter, self.now
        self._in(SECOND, lambda: self._report(pod, limiter))
        if pod.held is None:
            self._in(GUESS, lambda: self._guess(pod, limiter))
        if pod.hub:
            self._in(LATENCY, lambda: self._connect(pod, limiter))

    def restart(self, name: str) -> None:
        """The guard is killed; its successor knows what it held, and no counter."""
        self.cut(name, back=False)
        pod = self.pods[name]
        pod.limiter, pod.fresh, pod.guessed, pod.met, pod.demand = self._limiter(), False, False, False, {}
        if pod.held is not None:
            pod.limiter.set_shares(self.now, pod.held.default, pod.held.subjects)
        pod.term = pod.held.term if pod.held else ""
        self._start(pod)

    def leave(self, name: str, *, in_order: bool = True) -> None:
        """The pod is gone; `in_order`: its guard could say so, if it is connected."""
        pod = self.pods[name]
        freed = pod.limiter.set_shares(self.now, 0, {})
        pod.term = ""
        if in_order and pod.connected:
            self.hub.leave(name, freed)
        self.cut(name, back=False)
        del self.pods[name]
        self.hub.remove(name)
        self._changed()

    def cut(self, name: str, *, back: bool = True) -> None:
        """Its stream breaks, with everything on the way; `back`: until `reconnect`."""
        pod = self.pods[name]
        pod.hub = pod.hub and not back
        pod.stream += 1
        if pod.connected:
            pod.connected = False
            pod.heard = self.now
            self.hub.disconnect(name)
            self._changed()

    def reconnect(self, name: str) -> None:
        """The hub can be reached again."""
        pod = self.pods[name]
        pod.hub = True
        self._connect(pod, pod.limiter)

    def take_over(self) -> None:
        """Another process leads; it knows the pods, and nothing of shares."""
        self.hub = self._leader()
        self.hub.expect(self.pods)
        self._led = self.now
        for name, pod in self.pods.items():
            if pod.connected:
                pod.connected = False
                pod.heard = self.now
                self.cut(name, back=False)
                self._in(LATENCY, lambda pod=pod: self._connect(pod, pod.limiter))  # type: ignore[misc]

    def _connect(self, pod: Pod, limiter: Limiter) -> None:
        if pod.limiter is not limiter or pod.connected or not pod.hub or pod.name not in self.pods:
            return
        pod.stream += 1
        pod.connected = True
        self.hub.connect(pod.name, pod.held)
        self._changed()

    # --- messages -------------------------------------------------------------------------------

    def _changed(self) -> None:
        self.hub.retarget()
        self._send()

    def declare(self, place: str) -> None:
        """The gateway's shared counters are there from now on; guards and hub learn it at once."""
        self.place = place
        self.counters.setdefault(place, (Counters(self.limit), Counters(self.limit)))

    def _send(self) -> None:
        self.hub.offer_counters(self.place)
        for name, message in self.hub.due().items():
            pod = self.pods[name]
            self._in(LATENCY, lambda pod=pod, m=message, s=pod.stream: self._read(pod, m, s))  # type: ignore[misc]

    def _read(self, pod: Pod, message: Shares, stream: int) -> None:
        if pod.stream != stream:
            return
        if message.term and self._reaches(pod, message.term):
            self._counters(pod).begin(message.term, self.now, full=message.full)
        freed = pod.limiter.set_shares(self.now, message.default, message.subjects, message.filled)
        pod.term = message.term
        pod.held = Shares(message.round, message.default, message.subjects, term=message.term)
        self._in(LATENCY, lambda: self._acknowledged(pod, message, stream, freed))

    def _counters(self, pod: Pod) -> Counters:
        return self.counters[self.place][pod.primary]

    def _place(self, pod: Pod) -> str:
        """Which counters the pod reaches."""
        known = self.place and pod.counters and not self._is_starting(pod)
        return f"{self.place}.{self._counters(pod).process}" if known else ""

    def _told(self, pod: Pod) -> str | None:
        """What it reports of that."""
        place = self._place(pod)
        pod.met = pod.met or bool(place)
        unmet = self.place and not pod.met and self.now < pod.began + UNMET
        return None if unmet or self._is_starting(pod) else place

    def _is_starting(self, pod: Pod) -> bool:
        return self.now < pod.began + START

    def _reaches(self, pod: Pod, term: str) -> bool:
        place = self._place(pod)
        return bool(place) and term.startswith(f"{place}.")

    def _acknowledged(self, pod: Pod, message: Shares, stream: int, freed: Portions) -> None:
        if pod.stream == stream:
            self.hub.acknowledge(pod.name, message.round, freed)
            self._send()

    def _report(self, pod: Pod, limiter: Limiter) -> None:
        if pod.limiter is not limiter:
            return
        demand, pod.demand = pod.demand, {}
        if self._is_stale(pod) and pod.held is not None:
            limiter.set_shares(self.now, 0, {})
            pod.term, pod.held = "", Shares(pod.held.round, 0)
        if pod.term and self._reaches(pod, pod.term):
            self._counters(pod).begin(pod.term, self.now)
        if pod.connected:
            news = self.hub.reach(pod.name, self._told(pod))
            bursts = dict.fromkeys(demand, self.limit.burst)
            if self.hub.report(pod.name, demand, self.now / SECOND, bursts) or news:
                self._send()
        self._in(SECOND, lambda: self._report(pod, limiter))

    def _is_stale(self, pod: Pod) -> bool:
        return bool(self.stale) and not pod.connected and self.now - pod.heard >= self.stale

    def _guess(self, pod: Pod, limiter: Limiter) -> None:
        """The documented exception: a new guard that was given nothing."""
        if pod.limiter is not limiter or pod.held is not None or pod.name not in self.pods or self.place:
            return
        part = PPM // (len(self.pods) + 1)
        limiter.set_shares(self.now, part, {}, Portions(part if pod.fresh else 0))
        self.guesses += 1

    # --- traffic --------------------------------------------------------------------------------

    def send(self, name: str, cost: int = 1) -> bool:
        """One request at a pod, now."""
        self.offered += cost
        if self.ideal.holds(self.now, cost):
            self.ideal.take(self.now, cost)
        pod = self.pods[name]
        pod.demand[UID] = pod.demand.get(UID, 0) + cost
        if not self._admits(pod, cost):
            return False
        self.closest = min(self.closest, self.exact.take(self.now, cost))
        pod.accepted += cost
        self.passed.append((self.now, cost))
        return True

    def send_late(self, name: str, there: int, back: int) -> None:
        """A request whose question to the counters takes a while, and their answer."""
        pod, term = self.pods[name], self.pods[name].term
        limiter, place = pod.limiter, self._place(pod)
        if not term.startswith(f"{place}.") or self._is_stale(pod):
            return
        counters = self._counters(pod)

        def count() -> None:
            if place.endswith(f".{counters.process}") and counters.admit(term, self.now, 1):
                counted = self.now
                self._in(back, lambda: conclude(counted))

        def conclude(counted: int) -> None:
            if pod.limiter is limiter and pod.term == term:
                self.passed.append((counted, 1))

        self._in(there, count)

    def _admits(self, pod: Pod, cost: int) -> bool:
        if self._is_stale(pod):
            return False
        if not pod.term:
            return pod.limiter.admit(self.now, [(UID, (self.limit,))], cost).refused is None
        return self._reaches(pod, pod.term) and self._counters(pod).admit(pod.term, self.now, cost)

    def least(self) -> float:
        """As `closest`, with what was answered late."""
        exact = Exact(self.limit)
        return min((exact.take(now, cost) for now, cost in sorted(self.passed)), default=0.0)

    def tokens(self) -> Fraction:
        """What all guards together could let pass at once, now, in messages."""
        total = Fraction(0)
        for pod in self.pods.values():
            subject = pod.limiter._subjects.get(UID)
            level = subject.level if subject else pod.limiter._default
            bucket = subject.buckets[0] if subject and subject.buckets else level.bucket(self.limit, self.now)
            bucket.settle(self.now)
            total += Fraction(bucket.tokens, bucket.unit)
        for counters in chain.from_iterable(self.counters.values()):
            if counters.term and any(pod.term == counters.term for pod in self.pods.values()):
                total += counters.bucket.left(self.now)
        return total

    @property
    def utilisation(self) -> float:
        """What passed, as a part of what one exact counter would have let pass."""
        return self.exact.accepted / self.ideal.accepted if self.ideal.accepted else 1.0
