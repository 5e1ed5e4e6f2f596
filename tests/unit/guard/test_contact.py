"""How old the policy is, by whichever clock says more."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from sendward.guard.contact import Contact
from sendward.guard.store import Memory


class Clocks:
    def __init__(self) -> None:
        self.wall, self.steady = 1_000_000.0, 50.0

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.wall, UTC)

    def monotonic(self) -> float:
        return self.steady


@pytest.mark.parametrize(
    ("wall", "steady", "stale"), [(9, 9, False), (11, 11, True), (-500, 11, True), (11, 0, True)]
)
def test_age(wall: float, steady: float, *, stale: bool) -> None:
    clocks = Clocks()
    contact = Contact(Memory(), clocks)
    contact.heard()
    clocks.wall += wall
    clocks.steady += steady
    assert contact.stale(10) is stale
    assert not contact.stale(None)


def test_a_restart_does_not_make_young() -> None:
    clocks, memory = Clocks(), Memory()
    Contact(memory, clocks)
    clocks.wall += 11
    assert Contact(memory, clocks).stale(10)
