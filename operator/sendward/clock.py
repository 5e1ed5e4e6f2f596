"""Time as an argument: the only place that reads a clock."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Wall clock for what is written down, monotonic clock for intervals."""

    def now(self) -> datetime:
        """UTC, with whole microseconds."""

    def monotonic(self) -> float:
        """Seconds, never going backwards."""


class SystemClock:
    """The machine's clocks."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()
