"""A fault of the user, as data: it flows to the status of the object that it is about."""

from __future__ import annotations

from dataclasses import dataclass

from sendward.conditions import ConditionType, Reason


@dataclass(frozen=True, slots=True)
class Problem:
    """`field` is the YAML path; `message` names the remedy. `type` is the condition it turns False."""

    type: ConditionType
    reason: Reason
    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}" if self.field else self.message
