"""Rate limits as token buckets in exact integers; time is an argument, in monotonic nanoseconds.

A limit admits at most `burst + rate * w` messages in any window `w`. A guard uses a share of it, in
millionths: its rate is that part of the rate, its capacity that part of the burst, rounded down.
Shares that sum to at most one million therefore never admit more than the limit, also while they
move between guards (decreases first): an added share comes with the tokens that another guard gave
up for it, and with none otherwise.

One token is `period * 10**9 * PPM` units, so that a nanosecond earns the integer `messages * share`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sendward.document import Limit
from sendward.protocol import MAX_FREED, PPM, Portions

_SECOND: Final = 1_000_000_000
NEAR: Final = 0.8  # of a limit
_RETRY_UNKNOWN: Final = 1  # seconds; when no waiting alone admits, a larger share may

Limits = Sequence[Limit]


@dataclass(frozen=True, slots=True)
class Admission:
    """The answer for one request. Positions are those of the subjects asked for.

    `refused`: the first subject with an enforced limit that is reached, with `retry_after` in seconds;
    nothing was consumed. `audited`: the first subject whose audited limit is reached.
    """

    refused: int | None = None
    retry_after: int = 0
    audited: int | None = None


ADMITTED: Final = Admission()
NO_TOKENS: Final = Portions()


def fill_time(limit: Limit) -> int:
    """Nanoseconds from empty to full; the same for every share."""
    return -(-limit.burst * limit.period * _SECOND // limit.messages)


class _Bucket:
    """Tokens of one limit at one share."""

    __slots__ = ("capacity", "last", "limit", "rate", "tokens", "unit")

    def __init__(self, limit: Limit, share: int, tokens: int, now: int) -> None:
        self.limit = limit
        self.unit = limit.period * _SECOND * PPM
        self.rate = limit.messages * share
        self.capacity = limit.burst * share // PPM * self.unit
        self.tokens = min(tokens, self.capacity)
        self.last = now

    def portion(self, part: int) -> int:
        """Tokens for this part of the whole burst, in millionths; exact, since a token is a multiple."""
        return self.limit.burst * part * (self.unit // PPM)

    def held(self) -> int:
        """The part of the whole burst that is there, in millionths, rounded down."""
        return self.tokens * PPM // (self.limit.burst * self.unit)

    def settle(self, now: int) -> None:
        elapsed = now - self.last
        if elapsed > 0:
            self.tokens = min(self.capacity, self.tokens + elapsed * self.rate)
            self.last = now

    def used(self, now: int) -> float:
        """From 0 (full) to 1; a share below one message has nothing to use up."""
        self.settle(now)
        return 1 - self.tokens / self.capacity if self.capacity else 0.0

    def wait(self, needed: int) -> int:
        """Seconds until `needed` units are there, at least 1."""
        if self.rate == 0 or needed > self.capacity:
            return _RETRY_UNKNOWN
        nanoseconds = -(-(needed - self.tokens) // self.rate)
        return max(1, -(-nanoseconds // _SECOND))


@dataclass(slots=True)
class _Level:
    """How full buckets that do not exist yet are: full at share `low` at time `since`, then refilled."""

    share: int = 0
    low: int = 0
    since: int = 0

    def settle(self, now: int, horizon: int) -> None:
        if now - self.since >= horizon:
            self.low = self.share  # any bucket had time to fill

    def change(self, share: int, freed: int, filled: int, now: int) -> None:
        if share > self.share:
            self.since = now
        self.low = min(self.low - freed + filled, share)
        self.share = share

    def bucket(self, limit: Limit, now: int) -> _Bucket:
        unit = limit.period * _SECOND * PPM
        tokens = limit.burst * self.low * (unit // PPM)
        if self.low < self.share:
            tokens += max(0, now - self.since) * limit.messages * self.share
        return _Bucket(limit, self.share, tokens, now)


class _Subject:
    """The buckets of one account or key."""

    __slots__ = ("buckets", "level", "limits")

    def __init__(self, level: _Level) -> None:
        self.level = level
        self.limits: Limits = ()
        self.buckets: list[_Bucket] = []

    def use(self, limits: Limits, now: int) -> None:
        """Buckets for `limits`; what was used up of a changed limit stays used up."""
        old = self.buckets
        taken: set[int] = set()
        self.buckets = []
        for index, limit in enumerate(limits):
            position = self._predecessor(old, taken, limit, index)
            if position is None:
                self.buckets.append(self.level.bucket(limit, now))
                continue
            taken.add(position)
            before = old[position]
            before.settle(now)
            unit = limit.period * _SECOND * PPM
            self.buckets.append(_Bucket(limit, self.level.share, before.tokens * unit // before.unit, now))
        self.limits = limits

    @staticmethod
    def _predecessor(old: list[_Bucket], taken: set[int], limit: Limit, index: int) -> int | None:
        for position, bucket in enumerate(old):
            if position not in taken and bucket.limit.period == limit.period:
                return position
        return index if index < len(old) and index not in taken else None

    def change(self, share: int, filled: int, now: int, horizon: int) -> int:
        """Limit by another share. A smaller one gives up tokens in proportion: that part is returned.

        Only what every bucket can give counts, since one number says it for all of them.
        """
        level = self.level
        if share == level.share:
            return 0
        level.settle(now, horizon)
        freed = 0
        if share < level.share:
            held = level.low
            for bucket in self.buckets:
                bucket.settle(now)
                held = min(held, bucket.held())
            freed = held * (level.share - share) // level.share
            filled = 0
        level.change(share, freed, filled, now)
        for index, bucket in enumerate(self.buckets):
            bucket.settle(now)
            tokens = bucket.tokens + bucket.portion(filled - freed)
            self.buckets[index] = _Bucket(bucket.limit, share, tokens, now)
        return freed

    def full(self, now: int) -> bool:
        for bucket in self.buckets:
            bucket.settle(now)
        return all(bucket.tokens == bucket.capacity for bucket in self.buckets)


class Limiter:
    """All counters of a guard, by uid of account or key."""

    def __init__(self) -> None:
        self._subjects: dict[str, _Subject] = {}
        self._default = _Level()
        self._horizon = 0
        self.has_share = False  # of anything

    def __len__(self) -> int:
        return len(self._subjects)

    def expect(self, fill: int) -> None:
        """Limits with this `fill_time` may come: shares settle no faster than that."""
        self._horizon = max(self._horizon, fill)

    def set_shares(
        self, now: int, default: int, subjects: Mapping[str, int], filled: Portions = NO_TOKENS
    ) -> Portions:
        """Replace all shares; returns the tokens that were given up, as parts of the whole burst.

        `filled`: the tokens that come with what is added; none by default.
        """
        self.has_share = default > 0 or any(subjects.values())
        before = self._default
        for uid in (subjects.keys() | filled.subjects.keys()) - self._subjects.keys():
            self._subjects[uid] = _Subject(_Level(before.share, before.low, before.since))
        freed = {
            uid: subject.change(
                subjects.get(uid, default), filled.subjects.get(uid, filled.default), now, self._horizon
            )
            for uid, subject in self._subjects.items()
        }
        # What no counter exists for changes as a subject without buckets does.
        others = _Subject(before).change(default, filled.default, now, self._horizon)
        return _bounded(others, {uid: part for uid, part in freed.items() if part != others})

    def admit(
        self, now: int, wanted: Sequence[tuple[str, Limits]], cost: int, *, audit: bool = False
    ) -> Admission:
        """Take `cost` tokens from every limit of every subject, or from none.

        `audit`: no limit refuses. An audited limit that is reached is left as it is.
        """
        refused: int | None = None
        audited: int | None = None
        retry_after = 0
        paying: list[tuple[_Bucket, int]] = []
        for position, (uid, limits) in enumerate(wanted):
            for bucket in self._buckets(uid, limits, now):
                needed = cost * bucket.unit
                if bucket.tokens >= needed:
                    paying.append((bucket, needed))
                elif audit or bucket.limit.audit:
                    audited = position if audited is None else audited
                else:
                    refused = position if refused is None else refused
                    retry_after = max(retry_after, bucket.wait(needed))
        if refused is not None:
            return Admission(refused, retry_after, audited)
        for bucket, needed in paying:
            bucket.tokens -= needed
        return ADMITTED if audited is None else Admission(audited=audited)

    def _buckets(self, uid: str, limits: Limits, now: int) -> list[_Bucket]:
        if not limits:
            return []
        subject = self._subjects.get(uid)
        if subject is None:
            level = self._default
            subject = self._subjects[uid] = _Subject(_Level(level.share, level.low, level.since))
        if subject.limits is not limits and subject.limits != limits:
            subject.use(limits, now)
        for bucket in subject.buckets:
            bucket.settle(now)
        return subject.buckets

    def used(self, now: int) -> tuple[float, int]:
        """How much of a limit is used up, of the account or key nearest to its limit (0 to 1), and how
        many are as near as `NEAR`; both of this guard's share.
        """
        most, near = 0.0, 0
        for subject in self._subjects.values():
            used = max((bucket.used(now) for bucket in subject.buckets), default=0.0)
            most = max(most, used)
            near += used >= NEAR
        return most, near

    def sweep(self, now: int) -> None:
        """Forget subjects that are as a new one would be: all buckets full, share by default."""
        level = self._default
        idle = [
            uid
            for uid, subject in self._subjects.items()
            if subject.level.share == level.share
            and now - subject.level.since >= self._horizon
            and subject.full(now)
        ]
        for uid in idle:
            del self._subjects[uid]


def _bounded(default: int, subjects: dict[str, int]) -> Portions:
    """Never more than what is there, however many subjects there are."""
    if len(subjects) <= MAX_FREED:
        return Portions(default, subjects)
    return Portions(min(default, *subjects.values()))
