"""What guards may limit by, as tables of shares, and the arithmetic on them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from sendward.protocol import PPM, Portions, Shares

MAX_SUBJECTS: Final = 2048  # the busiest subjects of a gateway follow demand, the others are split equally
_CALM: Final = 10  # a share within 1/10 of its target stays: demand jitters
_MAX_CLAIMED: Final = 2 * MAX_SUBJECTS  # subjects that a guard may name in its Hello


@dataclass(frozen=True, slots=True)
class Table:
    """Shares in millionths, per account or key uid; all others have `default`. `term`: of the shared
    counters by which it limits instead; "" for none.
    """

    default: int = 0
    subjects: Mapping[str, int] = field(default_factory=dict)
    term: str = ""

    def of(self, subject: str) -> int:
        return self.subjects.get(subject, self.default)


NOTHING: Final = Table()
NO_SHARES: Final[Mapping[str, int]] = {}


def free(total: int, own: int) -> int:
    """What the others leave, where `total` contains one's own part."""
    return max(PPM - (total - own), 0)


def is_empty(table: Table) -> bool:
    """Whether it gives no share of anything."""
    return not table.default and not any(table.subjects.values())


def claimed(message: Shares | None) -> Table:
    """What a guard says that it limits by, within bounds."""
    if message is None:
        return NOTHING
    if len(message.subjects) > _MAX_CLAIMED:
        # More than all others could be told of in one message: it counts as holding its most of all.
        return Table(_bounded(max(message.default, *message.subjects.values())), term=message.term)
    subjects = {subject: _bounded(share) for subject, share in message.subjects.items()}
    return Table(_bounded(message.default), subjects, message.term)


def _bounded(share: int) -> int:
    return min(max(share, 0), PPM)


def combine(tables: Iterable[Table]) -> Table:
    """The sum for every subject."""
    parts = list(tables)
    default = sum(table.default for table in parts)
    subjects: dict[str, int] = {}
    for table in parts:
        for subject, share in table.subjects.items():
            subjects[subject] = subjects.get(subject, default) + share - table.default
    return Table(default, subjects)


def upper(one: Table, other: Table) -> Table:
    """The larger share for every subject, and whichever term: it may be limiting by either."""
    subjects = {s: max(one.of(s), other.of(s)) for s in {*one.subjects, *other.subjects}}
    return Table(max(one.default, other.default), subjects, other.term or one.term)


def released(before: Table, after: Table, freed: Portions) -> Table:
    """What was freed, up to the share that was given up."""
    told = Table(freed.default, freed.subjects)

    def part(tokens: int, old: int, new: int) -> int:
        return max(min(tokens, old - new), 0)

    subjects = {*freed.subjects, *before.subjects, *after.subjects}
    return Table(
        part(told.default, before.default, after.default),
        {s: part(told.of(s), before.of(s), after.of(s)) for s in subjects},
    )


def clamped(pool: Table, total: Table) -> Table:
    """Never more tokens than there are shares that nobody holds."""
    default = min(pool.default, free(total.default, 0))
    subjects = {s: min(pool.of(s), free(total.of(s), 0)) for s in {*pool.subjects, *total.subjects}}
    return Table(default, {s: part for s, part in subjects.items() if part != default})


def is_calm(
    before: Mapping[str, int], target: Mapping[str, int], demand: Mapping[str, float], capacity: int
) -> bool:
    """The same guards, the same capacity, and no share off by much; one without demand, by nothing."""
    if before.keys() != target.keys() or sum(before.values()) > capacity:
        return False
    if capacity - sum(before.values()) > len(before):  # more than rounding: there is more to give
        return False
    return all(
        before[uid] == share or (demand[uid] > 0 and abs(before[uid] - share) * _CALM <= share)
        for uid, share in target.items()
    )
