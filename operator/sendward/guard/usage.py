"""What the guard reports to the hub: demand per account and key, last use per key version."""

from __future__ import annotations

from sendward.guard.decide import Decision
from sendward.protocol import Report


class Usage:
    """Counts since the last report; bounded by the number of accounts and keys."""

    def __init__(self) -> None:
        self._demand: dict[str, int] = {}
        self._last_used: dict[str, int] = {}

    def record(self, decision: Decision, unix: int) -> None:
        """Count one decision at `unix` seconds. Refused messages are demand too."""
        if not decision.key_version:
            return
        self._last_used[decision.key_version] = unix
        if decision.cost:
            demand = self._demand
            for uid in (decision.account_uid, decision.key_uid):
                demand[uid] = demand.get(uid, 0) + decision.cost

    def take(self) -> Report:
        """Everything since the last `take`."""
        report = Report(demand=self._demand, last_used=self._last_used)
        self._demand, self._last_used = {}, {}
        return report

    def put_back(self, report: Report) -> None:
        """`report` was not delivered: keep its last uses; its demand is out of date."""
        self._last_used = {**report.last_used, **self._last_used}
