"""The matrix as data: what is done to an account, when that is reached, and what must hold meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tests.faults.matrix import subject as s
from tests.faults.matrix.objects import AGE_DAYS, AGED, OVERLAP_DAYS, SCHEDULED
from tests.faults.matrix.subject import Step, View, holds

Reached = Callable[[View], bool]


@dataclass(frozen=True, slots=True)
class Scenario:
    """`prepare` is done undisturbed; every call that changes something after `act` is one to be killed at.

    `ends`: versions that end; from `told` on, what the API server shows promises that they are refused.
    All other versions are accepted from the moment when they lie in Vault. `versions`: how many are ever
    issued, `live` how many of them may lie in Vault at a time. `replicas`: with 1 the killed operator
    itself goes on, with 2 a standby does.
    """

    name: str
    prepare: tuple[Step, ...]
    act: tuple[Step, ...]
    done: Reached
    versions: int
    live: int = 1
    ends: frozenset[int] = frozenset()
    told: Reached = lambda _: False
    replicas: int = 1


def _ready(*states: str) -> Reached:
    def reached(view: View) -> bool:
        return view.states() == list(states) and holds(view.key, "Ready") and holds(view.account, "Ready")

    return reached


def _first_is(state: str) -> Reached:
    return lambda view: view.states()[:1] == [state]


def _key_gone(view: View) -> bool:
    return view.key is None and view.account is None


def _gateway_gone(view: View) -> bool:
    return view.gateway is None and holds(view.account, "ResolvedRefs", "False")


_ISSUED: Final = (s.declare(SCHEDULED), s.ready)
_FIRST: Final = frozenset({1})

SCENARIOS: Final[tuple[Scenario, ...]] = (
    Scenario("issue", (), (s.declare(SCHEDULED),), _ready("Current"), versions=1),
    Scenario(
        "rotate by schedule",
        _ISSUED,
        (s.age(AGE_DAYS + 1),),
        _ready("Previous", "Current"),
        versions=2,
        live=2,
    ),
    Scenario(
        "rotate by nonce",
        _ISSUED,
        (s.ask_for_rotation,),
        _ready("Previous", "Current"),
        versions=2,
        live=2,
    ),
    Scenario(
        "rotate by maximum age",
        (s.declare(AGED), s.ready),
        (s.age(AGE_DAYS - OVERLAP_DAYS / 2),),
        _ready("Previous", "Current"),
        versions=2,
        live=2,
    ),
    Scenario(
        "retire",
        (*_ISSUED, s.ask_for_rotation, s.rotated, s.ready),
        (s.overlap_over,),
        _ready("Retired", "Current"),
        versions=2,
        live=2,
        ends=_FIRST,
        told=_first_is("Retired"),
    ),
    Scenario(
        "revoke",
        _ISSUED,
        (s.revoke,),
        _ready("Revoked", "Current"),
        versions=2,
        ends=_FIRST,
        told=lambda view: _first_is("Revoked")(view) or holds(view.key, "Revoked"),
    ),
    Scenario(
        "suspend",
        _ISSUED,
        (s.suspend,),
        lambda view: holds(view.account, "Ready"),
        versions=1,
        ends=_FIRST,
        told=lambda view: holds(view.account, "Programmed"),
    ),
    Scenario(
        "delete account", _ISSUED, (s.delete_account,), _key_gone, versions=1, ends=_FIRST, told=_key_gone
    ),
    Scenario(
        "delete gateway",
        (s.own_gateway, *_ISSUED),
        (s.delete_gateway,),
        _gateway_gone,
        versions=1,
        ends=_FIRST,
        told=_gateway_gone,
    ),
    Scenario(
        "leader change",
        _ISSUED,
        (s.end_leader, s.ask_for_rotation),
        _ready("Previous", "Current"),
        versions=2,
        live=2,
        replicas=2,
    ),
)
