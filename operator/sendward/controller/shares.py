"""How the limits of one gateway are split over its guards. Pure: messages in, messages out.

The promise: for every account and key, at every instant, the shares that guards may be limiting by
add up to at most the whole limit. What a guard may be limiting by is its `bound`: the largest of
what it acknowledged and what is on the way to it. A guard is given no more than what the bounds of
all others leave free, so decreases go out first and increases follow as they are acknowledged; a
guard that is cut off keeps its bound until its pod is gone.

A leader that takes over does not know what its predecessor gave away; guards tell it in their
Hello. Until all of them have, what is missing to the whole limit counts as given to the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from sendward.protocol import MAX_COUNT, MAX_ID, PPM, Shares

IDLE_SECONDS: Final = 10.0  # without demand for this long, a subject has the equal default
MAX_SUBJECTS: Final = 2048  # the busiest subjects of a gateway follow demand, the others are split equally
_MAX_CLAIMED: Final = 2 * MAX_SUBJECTS  # subjects that a guard may name in its Hello
_MAX_ROUND: Final = MAX_COUNT // 2  # that a guard may move us to: what follows stays below MAX_COUNT
_FLOOR: Final = 5  # a guard without demand keeps 1/5 of an equal share, for first messages
_CALM: Final = 10  # a share within 1/10 of its target stays: demand jitters


@dataclass(frozen=True, slots=True)
class Table:
    """Shares in millionths, per account or key uid; all others have `default`."""

    default: int = 0
    subjects: Mapping[str, int] = field(default_factory=dict)

    def of(self, subject: str) -> int:
        return self.subjects.get(subject, self.default)


_NOTHING: Final = Table()


@dataclass(slots=True)
class _Guard:
    bound: Table = _NOTHING  # what it may be limiting by at most
    sent: tuple[int, Table] | None = None  # round and shares on the way to it
    connected: bool = False
    informed: bool = False  # it limits by shares of ours, and not by its own guess
    demand: dict[str, float] = field(default_factory=dict)  # messages a second, smoothed
    asked: dict[str, float] = field(default_factory=dict)  # when there was demand, monotonic seconds


class GatewayShares:
    """The state of one gateway."""

    def __init__(self) -> None:
        self._unknown: set[str] = set()
        self._found = _NOTHING  # the sum of what guards said they hold when we met them
        self._guards: dict[str, _Guard] = {}
        self._splits: dict[str, dict[str, int]] = {}  # subject to guard to share
        self._default = 0
        self._round = 0

    @property
    def guards(self) -> frozenset[str]:
        """All whose share is accounted for, connected or not."""
        return frozenset(self._guards) | self._unknown

    def expect(self, unknown: Iterable[str]) -> None:
        """Pods whose guards may hold shares of an earlier leader; those we met already have told."""
        self._unknown |= set(unknown) - self._guards.keys()

    def connect(self, guard: str, current: Shares | None) -> None:
        """A guard said Hello and by which shares it limits."""
        table = _table(current)
        if guard not in self._guards:
            self._guards[guard] = _Guard(bound=table)
            self._found = _combine((self._found, table))
            self._unknown.discard(guard)
        state = self._guards[guard]
        state.connected = True
        state.sent = None
        state.informed = current is not None
        if current is not None:
            state.bound = table
            self._round = max(self._round, min(current.round, _MAX_ROUND))

    def disconnect(self, guard: str) -> None:
        """Cut off: it keeps limiting by what it had, or by what was on the way."""
        if state := self._guards.get(guard):
            state.connected = False
            state.sent = None
            state.demand.clear()
            state.asked.clear()

    def expire(self, guard: str) -> None:
        """Cut off for so long that it refuses everything: its share is free."""
        self._unknown.discard(guard)
        state = self._guards.get(guard)
        if state and not state.connected:
            state.bound = _NOTHING

    def remove(self, guard: str) -> None:
        """Its pod is gone."""
        self._unknown.discard(guard)
        self._guards.pop(guard, None)

    def acknowledge(self, guard: str, round_number: int) -> None:
        """It limits by that message from now on; an answer to another message says nothing."""
        state = self._guards.get(guard)
        if state and state.sent and state.sent[0] == round_number:
            state.bound = state.sent[1]
            state.sent = None

    def report(self, guard: str, demand: Mapping[str, int], now: float) -> None:
        """Messages asked for since the last report, about a second ago; `now` is monotonic."""
        state = self._guards.get(guard)
        if state is None or not state.connected:
            return
        for subject in list(state.demand):
            state.demand[subject] /= 2
            if now - state.asked[subject] >= IDLE_SECONDS:
                del state.demand[subject], state.asked[subject]
        for subject, count in demand.items():
            if count <= 0 or (subject not in state.demand and len(state.demand) >= MAX_SUBJECTS):
                continue
            if count > MAX_COUNT or len(subject) > MAX_ID:  # no guard of ours says so
                continue
            # A first report counts whole, so that shares move within a second.
            state.demand[subject] = state.demand[subject] + count / 2 if subject in state.demand else count
            state.asked[subject] = now

    def retarget(self) -> None:
        """Aim at shares that follow the demand; each second, and when a guard came or went."""
        connected = sorted(uid for uid, state in self._guards.items() if state.connected)
        if not connected:
            self._splits = {}
            return
        reserved = _combine(
            [state.bound for state in self._guards.values() if not state.connected] + [self._missing()]
        )
        self._default = max(PPM - reserved.default, 0) // len(connected)
        busy = self._busiest(connected)
        splits: dict[str, dict[str, int]] = {}
        for subject in busy | set(reserved.subjects):
            capacity = max(PPM - reserved.of(subject), 0)
            demand = {uid: self._guards[uid].demand.get(subject, 0.0) for uid in connected}
            target = split(capacity, demand)
            before = self._splits.get(subject, {})
            splits[subject] = before if _is_calm(before, target, capacity) else target
        self._splits = splits

    def due(self) -> dict[str, Shares]:
        """What to send now, by guard. Each message counts as on its way from here on."""
        total = _combine([state.bound for state in self._guards.values()] + [self._missing()])
        sums = dict(total.subjects)
        for subject in self._splits:
            sums.setdefault(subject, total.default)
        default_sum = total.default
        messages: dict[str, Shares] = {}
        for uid, state in sorted(self._guards.items()):
            if not state.connected or state.sent:
                continue
            bound = state.bound
            default = min(self._default, _free(default_sum, bound.default))
            shares = {s: min(self._target(uid, s), _free(sums[s], bound.of(s))) for s in sums}
            wanted = Table(default, {s: share for s, share in shares.items() if share != default})
            if not self._is_worth_sending(state, wanted):
                continue
            self._round += 1
            state.sent = (self._round, wanted)
            state.informed = True
            state.bound = _upper(bound, wanted)
            default_sum += state.bound.default - bound.default
            for s in sums:
                sums[s] += state.bound.of(s) - bound.of(s)
            messages[uid] = Shares(self._round, wanted.default, dict(wanted.subjects))
        return messages

    def _target(self, guard: str, subject: str) -> int:
        found = self._splits.get(subject)
        return self._default if found is None else found.get(guard, 0)

    def _is_worth_sending(self, state: _Guard, wanted: Table) -> bool:
        if state.informed:
            return wanted != state.bound
        # With nothing to give yet, its own careful guess serves it better.
        return wanted.default > 0

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
            return _NOTHING
        found = self._found
        rest = {subject: max(PPM - share, 0) for subject, share in found.subjects.items()}
        return Table(max(PPM - found.default, 0), rest)


def split(capacity: int, demand: Mapping[str, float]) -> dict[str, int]:
    """Shares of `capacity` by demand, with a floor for everybody; equal ones without any demand."""
    total = sum(demand.values())
    if not total:
        return dict.fromkeys(demand, capacity // len(demand))
    floor = capacity // (_FLOOR * len(demand))
    rest = capacity - floor * len(demand)
    return {guard: floor + int(rest * rate / total) for guard, rate in demand.items()}


def _is_calm(before: Mapping[str, int], target: Mapping[str, int], capacity: int) -> bool:
    """The same guards, the same capacity, and no share off by much."""
    if before.keys() != target.keys() or sum(before.values()) > capacity:
        return False
    if capacity - sum(before.values()) > len(before):  # more than rounding: there is more to give
        return False
    return all(abs(before[uid] - share) * _CALM <= share for uid, share in target.items())


def _free(total: int, own: int) -> int:
    """What the others leave, where `total` contains one's own part."""
    return max(PPM - (total - own), 0)


def _table(message: Shares | None) -> Table:
    if message is None:
        return _NOTHING
    if len(message.subjects) > _MAX_CLAIMED:
        # More than all others could be told of in one message: it counts as holding its most of all.
        return Table(_bounded(max(message.default, *message.subjects.values())))
    return Table(_bounded(message.default), {s: _bounded(v) for s, v in message.subjects.items()})


def _bounded(share: int) -> int:
    return min(max(share, 0), PPM)


def _combine(tables: Iterable[Table]) -> Table:
    """The sum for every subject."""
    parts = list(tables)
    default = sum(table.default for table in parts)
    subjects: dict[str, int] = {}
    for table in parts:
        for subject, share in table.subjects.items():
            subjects[subject] = subjects.get(subject, default) + share - table.default
    return Table(default, subjects)


def _upper(one: Table, other: Table) -> Table:
    """The larger share for every subject."""
    subjects = {s: max(one.of(s), other.of(s)) for s in {*one.subjects, *other.subjects}}
    return Table(max(one.default, other.default), subjects)
