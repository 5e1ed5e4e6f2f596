"""How the limits of one gateway are split over its guards. Pure: messages in, messages out; the words
for terms of counters are drawn by whoever makes the object.

The promise: for every account and key, at every instant, the shares that guards may be limiting by
add up to at most the whole limit. What a guard may be limiting by is its `bound`: the largest of
what it acknowledged and what is on the way to it. A guard is given no more than what the bounds of
all others leave free, so decreases go out first and increases follow as they are acknowledged; a
guard that is cut off keeps its bound until its pod is gone.

Tokens move with the shares: what a guard gives up for a decrease is kept (`_pool`), and comes with
the next increase. A share whose tokens are not known to be there comes without: so the bursts of all
guards add up to at most the whole burst as well, whoever joins, leaves or restarts.

A leader that takes over does not know what its predecessor gave away; guards tell it in their
Hello. Until all of them have, what is missing to the whole limit counts as given to the others.

A gateway may have counters that its guards share (Redis). Then all guards limit by these or all by
shares: nobody is told of a term of the counters while anybody may have a share, and nobody is given a
share while anybody may use a term. A term begins with empty counters, but with full ones where nobody can
have used anything yet. It ends when they are declared elsewhere, or when a connected guard does not reach
them; but for that not while another may go on using them that is cut off or was not met yet, since nobody
could be given a share then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from sendward.controller.share_tables import (
    MAX_SUBJECTS,
    NO_SHARES,
    NOTHING,
    Table,
    claimed,
    clamped,
    combine,
    free,
    is_calm,
    is_empty,
    released,
    upper,
)
from sendward.protocol import MAX_COUNT, MAX_FREED, MAX_ID, PPM, Portions, Shares, is_of_place

IDLE_SECONDS: Final = 10.0  # without demand for this long, a subject has the equal default
_MAX_ROUND: Final = MAX_COUNT // 2  # that a guard may move us to: what follows stays below MAX_COUNT
_IDLE_PART: Final = 10  # guards without demand together keep at most 1/10, for first messages
_CLEARLY: Final = 2  # times as much demand: who has a share that not all can have keeps it until then
_NOISE: Final = 0.5  # messages a second
_SMALLEST_BURST: Final = 1  # of a limit of which no guard has told the burst


@dataclass(slots=True)
class _Guard:
    bound: Table = NOTHING  # what it may be limiting by at most
    sent: tuple[int, Table] | None = None  # round and shares on the way to it
    connected: bool = False
    informed: bool = False  # it limits by shares of ours, and not by its own guess
    demand: dict[str, float] = field(default_factory=dict)  # messages a second, smoothed
    asked: dict[str, float] = field(default_factory=dict)  # when there was demand, monotonic seconds
    bursts: dict[str, int] = field(default_factory=dict)  # of what there is demand for
    reaches: str | None = None  # which shared counters; "": none; None: it has not said so yet


class GatewayShares:
    """The state of one gateway. `draw`: a word that was never used before, for a term."""

    def __init__(self, draw: Callable[[], str]) -> None:
        self._draw = draw
        self._unknown: set[str] = set()
        self._found = NOTHING  # the sum of what guards said they hold when we met them
        self._guards: dict[str, _Guard] = {}
        self._splits: dict[str, dict[str, int]] = {}  # subject to guard to share
        self._default = 0
        self._round = 0
        self._pool = NOTHING  # tokens of what nobody holds, as parts of whole bursts
        self._place = ""  # of the shared counters; "": there are none
        self._fills: str | None = None  # the guard that fills the counters of a new term

    @property
    def guards(self) -> frozenset[str]:
        """All whose share is accounted for, connected or not."""
        return frozenset(self._guards) | self._unknown

    def expect(self, unknown: Iterable[str]) -> None:
        """Pods whose guards may hold shares of an earlier leader; those we met already have told."""
        self._unknown |= set(unknown) - self._guards.keys()

    def begin(self) -> None:
        """The gateway is new: nobody can have used anything yet, so the first shares come filled."""
        if not self._unknown and all(state.bound == NOTHING for state in self._guards.values()):
            self._pool = Table(PPM)

    def offer_counters(self, place: str) -> None:
        """Where the gateway's shared counters are declared to be (`document.Redis.place`); "": nowhere."""
        self._place = place

    def connect(self, guard: str, current: Shares | None) -> None:
        """A guard said Hello and by which shares it limits."""
        held = claimed(current)
        if guard not in self._guards:
            self._guards[guard] = _Guard(bound=held)
            self._found = combine((self._found, held))
            self._unknown.discard(guard)
        state = self._guards[guard]
        state.connected = True
        state.sent = None
        state.reaches = None
        state.informed = current is not None
        if current is not None:
            state.bound = held
            self._round = max(self._round, min(current.round, _MAX_ROUND))

    def disconnect(self, guard: str) -> None:
        """Cut off: it keeps limiting by what it had, or by what was on the way."""
        if state := self._guards.get(guard):
            state.connected = False
            state.sent = None
            self._filled(guard)
            for told in (state.demand, state.asked, state.bursts):
                told.clear()

    def expire(self, guard: str) -> None:
        """Cut off for so long that it refuses everything: its share is free."""
        self._unknown.discard(guard)
        state = self._guards.get(guard)
        if state and not state.connected:
            state.bound = NOTHING

    def remove(self, guard: str) -> None:
        """Its pod is gone."""
        self._unknown.discard(guard)
        self._filled(guard)
        self._guards.pop(guard, None)

    def acknowledge(self, guard: str, round_number: int, freed: Portions | None = None) -> None:
        """It limits by that message from now on; an answer to another message says nothing.

        `freed`: the tokens that it gave up, believed up to the share that it gave up.
        """
        state = self._guards.get(guard)
        if state and state.sent and state.sent[0] == round_number:
            before, state.bound, state.sent = state.bound, state.sent[1], None
            self._filled(guard)
            if freed:
                self._keep(before, state.bound, freed)

    def leave(self, guard: str, freed: Portions) -> None:
        """It ended in order: it limits by nothing any more. `freed`: the tokens that it had left."""
        state = self._guards.get(guard)
        if state and state.connected:
            before, state.bound = state.bound, NOTHING
            self.disconnect(guard)
            self._keep(before, state.bound, freed)

    def _keep(self, before: Table, after: Table, freed: Portions) -> None:
        if len(freed.subjects) <= MAX_FREED:
            self._pool = combine((self._pool, released(before, after, freed)))

    def _filled(self, guard: str) -> None:
        """Whoever was to fill the counters has done so, or will not: the others may use them."""
        if self._fills == guard:
            self._fills = None

    def reach(self, guard: str, place: str | None) -> bool:
        """Which shared counters the guard reaches, below their declared place; True when that is news."""
        state = self._guards.get(guard)
        if state is None or not state.connected or state.reaches == place:
            return False
        state.reaches = place
        return True

    def report(
        self, guard: str, demand: Mapping[str, int], now: float, bursts: Mapping[str, int] | None = None
    ) -> bool:
        """Messages asked for since the last report, about a second ago; `now` is monotonic.

        `bursts`: the smallest burst of the limits of each subject in `demand`. Shares follow a demand that
        begins or ends at once: True when there is one.
        """
        state = self._guards.get(guard)
        if state is None or not state.connected:
            return False
        before = set(state.demand)
        for subject in list(state.demand):
            state.demand[subject] /= 2
            if now - state.asked[subject] >= IDLE_SECONDS:
                del state.demand[subject], state.asked[subject]
                state.bursts.pop(subject, None)
        for subject, count in demand.items():
            if count <= 0 or (subject not in state.demand and len(state.demand) >= MAX_SUBJECTS):
                continue
            if count > MAX_COUNT or len(subject) > MAX_ID:  # no guard of ours says so
                continue
            # A first report counts whole, so that shares move within a second.
            state.demand[subject] = state.demand[subject] + count / 2 if subject in state.demand else count
            state.asked[subject] = now
            if bursts and 1 <= bursts.get(subject, 0) <= MAX_COUNT:
                state.bursts[subject] = bursts[subject]
        moved = state.demand.keys() - before
        moved |= {s for s in before - demand.keys() if state.demand.get(s, 0) >= _NOISE}
        if len(self._splits.keys() | moved) > MAX_SUBJECTS:
            return False  # the busiest of them are looked for each second
        self._aim(moved)
        return bool(moved)

    def retarget(self) -> None:
        """Aim at shares that follow the demand; each second, and when a guard came or went."""
        connected = self._connected()
        if not connected:
            self._splits = {}
            return
        reserved = self._reserved()
        self._default = max(PPM - reserved.default, 0) // len(connected)
        wanted = self._busiest(connected) | set(reserved.subjects)
        self._splits = {subject: split for subject, split in self._splits.items() if subject in wanted}
        self._aim(wanted)

    def _connected(self) -> list[str]:
        return sorted(uid for uid, state in self._guards.items() if state.connected)

    def _reserved(self) -> Table:
        """What guards that are cut off, or that we have not met yet, may hold."""
        away = [state.bound for state in self._guards.values() if not state.connected]
        return combine([*away, self._missing()])

    def _aim(self, subjects: Iterable[str]) -> None:
        """Aim at shares of these subjects that follow their demand."""
        connected, reserved = self._connected(), self._reserved()
        for subject in subjects:
            capacity = max(PPM - reserved.of(subject), 0)
            demand = {uid: self._guards[uid].demand.get(subject, 0.0) for uid in connected}
            # The largest that any tells: no guard can make it seem that there is nothing to split.
            bursts = [self._guards[uid].bursts.get(subject, 0) for uid in connected]
            before = self._splits.get(subject, {})
            target = split(capacity, demand, max(*bursts, _SMALLEST_BURST), before)
            self._splits[subject] = before if is_calm(before, target, demand, capacity) else target

    def due(self) -> dict[str, Shares]:
        """What to send now, by guard. Each message counts as on its way from here on."""
        total = combine([state.bound for state in self._guards.values()] + [self._missing()])
        self._pool = clamped(self._pool, total)
        if (turn := self._turn(total)) is not None:
            return self._take_turn(turn)
        sums = dict(total.subjects)
        for subject in (*self._splits, *self._pool.subjects):
            sums.setdefault(subject, total.default)
        default_sum = total.default
        messages: dict[str, Shares] = {}
        for uid, state in self._open_to_news():
            bound = state.bound
            default = min(self._default, free(default_sum, bound.default))
            shares = {s: min(self._target(uid, s), free(sums[s], bound.of(s))) for s in sums}
            wanted = Table(default, {s: share for s, share in shares.items() if share != default})
            if not self._is_worth_sending(state, wanted):
                continue
            self._send(state, wanted)
            filled = self._fill(bound, wanted, sums)
            default_sum += state.bound.default - bound.default
            for s in sums:
                sums[s] += state.bound.of(s) - bound.of(s)
            messages[uid] = Shares(self._round, wanted.default, dict(wanted.subjects), filled)
        return messages

    def _open_to_news(self) -> list[tuple[str, _Guard]]:
        return [
            (uid, state) for uid, state in sorted(self._guards.items()) if state.connected and not state.sent
        ]

    def _send(self, state: _Guard, wanted: Table) -> None:
        """The table is on its way from here on."""
        self._round += 1
        state.sent = (self._round, wanted)
        state.informed = True
        state.bound = upper(state.bound, wanted)

    def _turn(self, total: Table) -> Table | None:
        """What every guard is to have while counters are used, or are about to be; None: shares as usual."""
        terms = {state.bound.term for state in self._guards.values() if state.bound.term}
        connected = [state for state in self._guards.values() if state.connected]
        if terms:
            term = min(terms)
            reached = all(state.reaches is None or is_of_place(term, state.reaches) for state in connected)
            # One that is cut off may go on using them, so that nothing is gained by leaving them.
            away = any(state.bound.term for state in self._guards.values() if not state.connected)
            shared = any(not is_empty(state.bound) for state in self._guards.values())
            stay = len(terms) == 1 and not shared and (reached or away or bool(self._unknown))
            return Table(term=term) if stay and is_of_place(term, self._place) else NOTHING
        if not self._place or not is_empty(self._reserved()):
            return None
        places = {state.reaches for state in connected if state.reaches is not None}
        if is_empty(total) and not places:
            return NOTHING  # nobody has anything yet, and a report comes each second
        if not is_empty(total) and any(state.reaches is None for state in connected):
            return None  # shares serve them until it is known
        if len(places) != 1 or not is_of_place(place := min(places), self._place):
            return None  # who reaches another Redis than the others would count apart
        return Table(term=f"{place}.{self._draw()}") if is_empty(total) else NOTHING

    def _take_turn(self, turn: Table) -> dict[str, Shares]:
        begins = bool(turn.term) and not any(state.bound.term for state in self._guards.values())
        full = begins and self._pool == Table(PPM)  # nobody has used anything
        messages: dict[str, Shares] = {}
        for uid, state in self._open_to_news():
            if self._fills is not None:
                break  # whoever came before it would begin the term with empty counters
            known = is_of_place(turn.term, state.reaches or "") or state.bound.term == turn.term
            wanted = turn if known else NOTHING
            if self._is_worth_sending(state, wanted):
                self._send(state, wanted)
                messages[uid] = Shares(self._round, 0, term=wanted.term, full=full)
                self._fills = uid if full else None
        if begins and messages:
            self._pool = NOTHING
        return messages

    def _fill(self, bound: Table, wanted: Table, subjects: Iterable[str]) -> Portions:
        """Take tokens for what is added to `bound` from the pool."""
        pool = self._pool

        def part(kept: int, before: int, after: int) -> int:
            return max(min(kept, after - before), 0)

        default = part(pool.default, bound.default, wanted.default)
        parts = {s: part(pool.of(s), bound.of(s), wanted.of(s)) for s in subjects}
        left = {s: pool.of(s) - parts[s] for s in parts}
        self._pool = Table(
            pool.default - default, {s: rest for s, rest in left.items() if rest != pool.default - default}
        )
        return Portions(default, {s: tokens for s, tokens in parts.items() if tokens != default})

    def _target(self, guard: str, subject: str) -> int:
        found = self._splits.get(subject)
        return self._default if found is None else found.get(guard, 0)

    def _is_worth_sending(self, state: _Guard, wanted: Table) -> bool:
        if state.informed:
            return wanted != state.bound
        # With nothing to give yet, its own careful guess serves it better; what it forgot it is to give up.
        return wanted.default > 0 or bool(wanted.term) or state.bound != NOTHING

    def _busiest(self, connected: list[str]) -> set[str]:
        """Alone, a guard has everything there is, so nothing need follow its demand."""
        if len(connected) < 2:
            return set()
        totals: dict[str, float] = {}
        for uid in connected:
            for subject, rate in self._guards[uid].demand.items():
                totals[subject] = totals.get(subject, 0.0) + rate
        if len(totals) <= MAX_SUBJECTS:
            return set(totals)
        return set(sorted(totals, key=lambda s: (-totals[s], s))[:MAX_SUBJECTS])

    def _missing(self) -> Table:
        """What guards that we have not met yet may hold."""
        if not self._unknown:
            return NOTHING
        found = self._found
        rest = {subject: max(PPM - share, 0) for subject, share in found.subjects.items()}
        return Table(max(PPM - found.default, 0), rest)


def split(
    capacity: int, demand: Mapping[str, float], burst: int, before: Mapping[str, int] = NO_SHARES
) -> dict[str, int]:
    """Shares of `capacity` by demand; equal ones without any demand.

    A share below one message of `burst` lets nothing pass, so there is none: when the burst is too
    small for everybody, the guards with the most demand have it, and keep it (`before`) until others
    have clearly more. A guard without demand keeps one message's worth, as long as that is little.
    """
    message = -(-PPM // burst)

    def order(uid: str) -> tuple[float, str]:
        has_it = before.get(uid, 0) >= message
        return -(_CLEARLY * (demand[uid] + _NOISE) if has_it else demand[uid]), uid

    busy = sorted((uid for uid, rate in demand.items() if rate > 0), key=order)
    if not busy:
        return dict.fromkeys(demand, capacity // len(demand))
    idle = len(demand) - len(busy)
    floor = message if message * idle * _IDLE_PART <= capacity else 0
    rest = capacity - floor * idle
    served = busy[: max(rest // message, 1)]
    base = message if message * len(served) <= rest else 0
    spread = rest - base * len(served)
    total = sum(demand[uid] for uid in served)
    shares = {uid: 0 if demand[uid] > 0 else floor for uid in demand}
    return shares | {uid: base + int(spread * (demand[uid] / total)) for uid in served}
