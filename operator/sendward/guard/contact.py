"""When the hub was last heard of, and whether that is too long ago."""

from __future__ import annotations

from sendward.clock import Clock
from sendward.guard.store import Memory


class Contact:
    """Kept in `memory` across restarts. A guard that never heard of the hub counts from its start."""

    def __init__(self, memory: Memory, clock: Clock) -> None:
        self._memory = memory
        self._clock = clock
        self._heard = clock.monotonic()
        if memory.last_contact == 0:
            memory.last_contact = int(clock.now().timestamp())

    def heard(self) -> None:
        """The hub answered just now."""
        self._heard = self._clock.monotonic()
        self._memory.last_contact = int(self._clock.now().timestamp())

    def age(self) -> float:
        """Seconds since then; the longer of both clocks, so that setting one back gains nothing."""
        by_wall_clock = self._clock.now().timestamp() - self._memory.last_contact
        return max(by_wall_clock, self._clock.monotonic() - self._heard)

    def stale(self, after: int | None) -> bool:
        """Whether `after` seconds have passed; None: never."""
        return after is not None and self.age() > after
