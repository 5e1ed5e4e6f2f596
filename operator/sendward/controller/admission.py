"""How many keys are on their way to a version at once, and in which order the others follow.

Ten thousand new keys, taken all at once, would hold memory for each, and each round of their versions
would touch every shard. So a bounded number is under way; the others wait in rounds of arrival,
within a round by shard: who came a round later never goes first, and neighbours share a shard.
Each lane is one set of gateways: guards that never acknowledge hold up nobody else.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from typing import Final

from sendward.resources.base import ObjectKey

AT_ONCE: Final = 256
_ROUND: Final = 2048  # arrivals that are ordered by shard

Lane = frozenset[str]  # uids of gateways


@dataclass(slots=True)
class _Lane:
    inside: set[str] = field(default_factory=set)
    waiting: dict[str, ObjectKey] = field(default_factory=dict)
    order: list[tuple[int, int, int, str]] = field(default_factory=list)  # heap: round, shard, arrival, uid
    arrivals: int = 0


class Admission:
    """By key uid. A key that was called keeps its place until it leaves."""

    def __init__(self) -> None:
        self._lanes: dict[Lane, _Lane] = {}
        self._lane_of: dict[str, Lane] = {}

    def __len__(self) -> int:
        """Keys that are under way or wait."""
        return len(self._lane_of)

    def enter(self, uid: str, account: ObjectKey, gateways: Lane, shard: int) -> bool:
        """Whether the key may begin; if not, a later `leave` names its account."""
        lane = self._lanes.setdefault(self._lane_of.setdefault(uid, gateways), _Lane())
        if uid in lane.inside:
            return True
        if uid in lane.waiting:
            return False
        if len(lane.inside) < AT_ONCE:
            lane.inside.add(uid)
            return True
        lane.waiting[uid] = account
        lane.arrivals += 1
        heapq.heappush(lane.order, (lane.arrivals // _ROUND, shard, lane.arrivals, uid))
        return False

    def leave(self, uid: str) -> list[ObjectKey]:
        """The key has what it wanted, or cannot have it now. Returns the accounts whose turn it is."""
        gateways = self._lane_of.pop(uid, None)
        if gateways is None:
            return []
        lane = self._lanes[gateways]
        lane.inside.discard(uid)
        lane.waiting.pop(uid, None)
        called = []
        while lane.order and len(lane.inside) < AT_ONCE:
            *_, following = heapq.heappop(lane.order)
            account = lane.waiting.pop(following, None)
            if account is not None:
                lane.inside.add(following)
                called.append(account)
        if not lane.inside and not lane.waiting:
            del self._lanes[gateways]
        return called
