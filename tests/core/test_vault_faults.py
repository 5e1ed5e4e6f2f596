"""Every way in which Vault fails, in each stage of a key's life. After all that happens it is judged
whether the key that its holder has is accepted (I1) and what is revoked is not (I2)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest

from sendward.errors import Forbidden, NotFound, Rejected, SendwardError, Unavailable
from tests.core.watched import Fails, Watched, healthy

DAY = timedelta(days=1)
SEALED = Unavailable("Vault answered 503 to it: Vault is sealed")
WAITING = ("False", "VaultUnavailable")


def always(error: SendwardError) -> Fails:
    return lambda _operation, _path: error


class Slow:
    """Every call waits until the client gives up after 15 s; time passes for all meanwhile."""

    world: Watched

    def __call__(self, _operation: str, _path: str) -> SendwardError:
        self.world.pass_time(timedelta(seconds=15))
        return Unavailable("https://vault: TimeoutError")


OUTAGES: dict[str, Fails] = {
    "sealed": always(SEALED),
    "down": always(Unavailable("https://vault: ClientConnectorError")),
    "403-on-everything": always(Forbidden("Vault refused: the policy is too narrow")),
    "429-without-retry-after": always(Unavailable("Vault answered 429 to it")),
    "429-come-back-in-a-year": always(Unavailable("Vault answered 429 to it", 365 * 86400.0)),
    "500": always(Unavailable("Vault answered 500 to it: internal error")),
    "503": always(Unavailable("Vault answered 503 to it")),
    "slow": Slow(),
    "mount-gone": always(NotFound("Vault answered 404 to it: no handler for route")),
    "malformed": always(Rejected("Vault answered 400 to it")),
}


@pytest.fixture
def world() -> Iterator[Watched]:
    world = Watched()
    world.add_guard("p1", "sms")
    world.add_guard("p2", "sms")
    world.settle()
    yield world
    world.close()


@pytest.fixture(params=OUTAGES)
def outage(request: pytest.FixtureRequest, world: Watched) -> Fails:
    found = OUTAGES[request.param]
    if isinstance(found, Slow):
        found.world = world
    return found


def _issued(world: Watched, key: str = "k") -> str:
    """A key with one version, which its holder uses from now on."""
    world.declare(key)
    world.settle()
    world.keep.add(world.id_of(1, key))
    return world.id_of(1, key)


# --- Vault does not answer, in each stage ----------------------------------------------------------


def test_an_issue_waits_with_a_condition_and_is_done_once(world: Watched, outage: Fails) -> None:
    world.faulty.refuses = outage
    world.declare()
    world.wait(timedelta(hours=1))
    assert world.condition("APIKey", "k", "Programmed") == WAITING
    assert world.versions() == []
    assert world.in_vault() == []
    world.faulty.heal()
    world.wait(timedelta(minutes=10))
    assert world.versions() == [(1, "Current")]
    world.judge_end()


def test_a_rotation_waits_and_the_old_key_lives_on_past_its_schedule(world: Watched, outage: Fails) -> None:
    first = _issued(world)
    world.faulty.refuses = outage
    world.wait(40 * DAY, every=timedelta(hours=6))
    assert world.condition("APIKey", "k", "Programmed") == WAITING
    assert world.versions() == [(1, "Current")]
    world.faulty.heal()
    world.wait(timedelta(minutes=10))
    assert world.versions() == [(1, "Previous"), (2, "Current")]
    world.judge_end()
    world.keep = {world.id_of(2)}
    world.wait(DAY + timedelta(hours=1))
    world.refuse.add(first)
    world.settle()
    assert world.versions() == [(1, "Retired"), (2, "Current")]
    world.judge_end()


def test_a_retirement_is_enforced_and_its_value_destroyed_later(world: Watched, outage: Fails) -> None:
    first = _issued(world)
    world.change("APIKey", "k", rotateNonce="1")
    world.settle()
    world.keep = {world.id_of(2)}
    world.faulty.refuses = outage
    world.wait(DAY + timedelta(hours=1))
    world.refuse.add(first)
    world.settle()
    assert world.versions() == [(1, "Retired"), (2, "Current")]
    assert len(world.in_vault()) == 2
    assert world.condition("APIKey", "k", "Programmed") == WAITING
    world.faulty.heal()
    world.wait(timedelta(minutes=10))
    world.judge_end()


def test_a_revocation_needs_no_vault(world: Watched, outage: Fails) -> None:
    first, _ = _issued(world), _issued(world, "other")
    world.faulty.refuses = outage
    world.keep.discard(first)
    world.change("APIKey", "k", revokeThrough=1)
    began = world.clock.now()
    while world.condition("APIKey", "k", "Revoked")[0] != "True":
        assert world.deliver() or world.work_pass() or any(map(world.take, world.guards)) or world.work_job()
    assert world.clock.now() - began < timedelta(seconds=16)  # one call that hangs, at most
    world.refuse.add(first)
    world.wait(timedelta(hours=1))
    assert world.versions() == [(1, "Revoked")]
    assert world.condition("APIKey", "k", "Programmed") == WAITING  # the new version waits
    world.faulty.heal()
    world.wait(timedelta(minutes=10))
    assert world.versions() == [(1, "Revoked"), (2, "Current")]
    world.judge_end()
    world.judge_end("other")


def test_revoked_is_said_though_vault_hangs(world: Watched) -> None:
    first = _issued(world)
    world.keep.clear()
    world.faulty.hangs = "kv-destroy"
    world.change("APIKey", "k", revokeThrough=1)
    while world.condition("APIKey", "k", "Revoked")[0] != "True":
        assert world.deliver() or world.work_pass() or any(map(world.take, world.guards)) or world.work_job()
    world.refuse.add(first)
    world.faulty.hangs = ""
    world.wait(timedelta(minutes=10))
    world.judge_end()


def test_a_deleted_key_is_refused_at_once_and_goes_when_vault_is_empty(world: Watched, outage: Fails) -> None:
    first = _issued(world)
    world.faulty.refuses = outage
    path = world.path()
    world.keep.clear()
    world.erase("APIKey", "k")
    world.settle()
    world.refuse.add(first)
    world.wait(timedelta(hours=1))
    assert world.exists("APIKey", "k")
    world.faulty.heal()
    world.wait(timedelta(minutes=10))
    assert not world.exists("APIKey", "k")
    assert path not in world.vault.kv


def test_what_fails_with_one_path_fails_for_that_key_only(world: Watched) -> None:
    _issued(world)
    _issued(world, "other")
    path = world.path()
    refused = Forbidden("Vault refused")
    world.faulty.refuses = lambda _operation, called: refused if called == path else None
    for key in ("k", "other"):
        world.change("APIKey", key, rotateNonce="1")
    world.settle()
    assert world.condition("APIKey", "k", "Programmed") == WAITING
    assert world.versions() == [(1, "Current")]
    assert world.versions("other") == [(1, "Previous"), (2, "Current")]
    world.faulty.heal()
    world.wait(timedelta(minutes=10))
    assert world.versions() == [(1, "Previous"), (2, "Current")]
    world.judge_end()
    world.judge_end("other")


# --- the call is carried out, and its answer is lost -----------------------------------------------


@pytest.mark.parametrize("times", [1, 2, 3])
@pytest.mark.parametrize("operation", ["random", "kv-write", "kv-destroy", "kv-delete"])
def test_a_lost_answer_never_makes_a_second_version(world: Watched, operation: str, times: int) -> None:
    """Through a whole life: issue, rotation, retirement, revocation, deletion."""
    left = {"calls": 0}

    def lost(called: str, _path: str) -> SendwardError | None:
        if called != operation or left["calls"] == 0:
            return None
        left["calls"] -= 1
        return Unavailable("Vault answered 500 to it")

    world.faulty.loses = lost
    stages: list[tuple[dict[str, object], timedelta]] = [
        ({}, timedelta()),
        ({"rotateNonce": "1"}, timedelta()),
        ({"rotateNonce": "1"}, DAY + timedelta(hours=1)),
        ({"revokeThrough": 2}, timedelta()),
    ]
    world.declare()
    for fields, span in stages:
        left["calls"] = times
        world.change("APIKey", "k", **fields)
        world.wait(span + timedelta(minutes=10))
        left["calls"] = 0
    assert world.versions() == [(1, "Retired"), (2, "Revoked"), (3, "Current")]
    assert world.vault.written == 3
    world.judge_end()
    left["calls"] = times
    world.erase("APIKey", "k")
    world.wait(timedelta(minutes=10))
    assert not world.exists("APIKey", "k")
    assert not world.vault.kv
    world.faulty.loses = healthy
