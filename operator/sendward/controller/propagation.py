"""How long a change takes from the watch that shows it to the last guard that must acknowledge it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from prometheus_client import Histogram

_SECONDS: Final = Histogram(
    "sendward_policy_propagation_duration_seconds",
    "From a change that is seen until every expected guard acknowledged the part of the document with it",
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)


class Propagation:
    """Parts that are on their way, by gateway uid, with the time of the oldest change in them."""

    def __init__(self, observe: Callable[[float], None] = _SECONDS.observe) -> None:
        self._observe = observe
        self._open: dict[str, dict[str, float]] = {}

    def begin(self, gateway_uid: str, parts: Iterable[str], seen: float) -> None:
        """These go out now; `seen` is monotonic. A change that is still on its way keeps its time."""
        waiting = self._open.setdefault(gateway_uid, {})
        for part in parts:
            waiting.setdefault(part, seen)

    def waiting(self, gateway_uid: str) -> list[str]:
        """Parts that some guard has not acknowledged."""
        return list(self._open.get(gateway_uid, ()))

    def end(self, gateway_uid: str, part: str, now: float) -> None:
        """Every expected guard has acknowledged the part; nothing happens when it was not waited for."""
        waiting = self._open.get(gateway_uid, {})
        since = waiting.pop(part, None)
        if since is not None:
            self._observe(now - since)
        if not waiting:
            self.forget(gateway_uid)

    def forget(self, gateway_uid: str) -> None:
        """No guard is expected, or the gateway is gone: nothing is waited for."""
        self._open.pop(gateway_uid, None)
