"""Vault restored from an older snapshot, or changed by hand: what is declared and recorded wins."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from datetime import timedelta

import pytest

from sendward import keyformat
from sendward.controller.vault_audit import VaultAudit
from sendward.errors import Forbidden, Unavailable
from tests.core.watched import Watched
from tests.fakes.vault import Entry

DAY = timedelta(days=1)


@pytest.fixture
def world() -> Iterator[Watched]:
    world = Watched()
    world.add_guard("p1", "sms")
    world.add_guard("p2", "sms")
    world.declare()
    world.settle()
    world.keep = {world.id_of(1)}
    yield world
    world.close()


def _snapshot(world: Watched) -> dict[str, Entry]:
    return copy.deepcopy(world.vault.kv)


def _rotate(world: Watched, nonce: str) -> None:
    world.change("APIKey", "k", rotateNonce=nonce)
    world.settle()


def _settled_after_rotation(world: Watched) -> None:
    """The holder took the newest version, the old one is retired."""
    newest = world.status("APIKey", "k")["currentVersion"]
    world.keep = {world.id_of(newest)}
    world.wait(DAY + timedelta(hours=1))


def test_a_rotation_after_a_restore_keeps_every_value_that_is_accepted(world: Watched) -> None:
    """Vault counts from its snapshot again, so two recorded versions have the same number in it."""
    old = _snapshot(world)
    _rotate(world, "1")
    _settled_after_rotation(world)
    world.vault.kv = old  # version 2, which is in use, is lost
    _rotate(world, "2")
    assert world.versions() == [(1, "Retired"), (2, "Previous"), (3, "Current")]
    _settled_after_rotation(world)
    assert world.versions() == [(1, "Retired"), (2, "Retired"), (3, "Current")]
    assert world.id_of(3) in world.in_vault()
    _rotate(world, "3")
    assert world.versions()[-2:] == [(3, "Previous"), (4, "Current")]
    assert {world.id_of(3), world.id_of(4)} <= set(world.in_vault())


@pytest.mark.parametrize("crash", [False, True])
def test_a_revocation_after_a_restore_keeps_the_new_value(world: Watched, crash: bool) -> None:
    old = _snapshot(world)
    _rotate(world, "1")
    _settled_after_rotation(world)
    world.vault.kv = old
    lost = world.id_of(2)
    world.keep.clear()
    world.change("APIKey", "k", revokeThrough=2)
    if crash:
        world.start()
    world.settle()
    world.refuse.add(lost)
    assert world.versions() == [(1, "Retired"), (2, "Revoked"), (3, "Current")]
    world.keep = {world.id_of(3)}
    world.settle()
    assert world.id_of(3) in world.in_vault()


# --- the comparison of Vault with what is recorded -------------------------------------------------


def test_a_version_that_vault_lost_is_issued_anew_and_the_old_one_lives_on(world: Watched) -> None:
    world.declare("other")
    world.settle()
    old = _snapshot(world)
    _rotate(world, "1")
    _settled_after_rotation(world)
    world.vault.kv = old
    world.audit()
    assert world.versions() == [(1, "Retired"), (2, "Previous"), (3, "Current")]
    events = [o for o in world.kube.objects.values() if o["kind"] == "Event"]
    assert not events or any("GoneFromVault" in event["note"] for event in events)
    assert world.versions("other") == [(1, "Current")]
    _settled_after_rotation(world)
    world.judge_end()
    world.judge_end("other")


@pytest.mark.parametrize("what", ["path", "version", "foreign", "all"])
def test_a_current_value_that_a_hand_took_away_is_issued_anew(world: Watched, what: str) -> None:
    entry = world.entry()
    match what:
        case "path":
            del world.vault.kv[world.path()]
        case "version":
            entry.versions[1] = None
        case "foreign":
            entry.versions[2] = {"password": "by hand"}
        case _:
            world.vault.kv.clear()
    world.audit()
    assert world.versions() == [(1, "Previous"), (2, "Current")]
    _settled_after_rotation(world)
    assert world.versions() == [(1, "Retired"), (2, "Current")]
    world.judge_end()


def test_a_current_value_that_is_lost_in_an_overlap_is_issued_beside_both(world: Watched) -> None:
    old = _snapshot(world)
    _rotate(world, "1")
    world.keep = {world.id_of(1), world.id_of(2)}
    world.vault.kv = old
    world.audit()
    assert world.versions() == [(1, "Previous"), (2, "Previous"), (3, "Current")]
    assert len(world.in_vault()) == 2
    _settled_after_rotation(world)
    assert world.versions() == [(1, "Retired"), (2, "Retired"), (3, "Current")]
    world.judge_end()


@pytest.mark.parametrize("crash", [False, True])
def test_a_revoked_value_that_came_back_is_destroyed_again_and_never_accepted(
    world: Watched, crash: bool
) -> None:
    old = _snapshot(world)
    first = world.id_of(1)
    world.keep.clear()
    world.change("APIKey", "k", revokeThrough=1)
    world.settle()
    world.refuse.add(first)
    world.keep = {world.id_of(2)}
    world.vault.kv = old
    if crash:
        world.start()
        world.settle()
    assert world.in_vault() == [first]
    world.audit()
    assert world.versions() == [(1, "Revoked"), (2, "Previous"), (3, "Current")]
    assert first not in world.in_vault()
    _settled_after_rotation(world)
    world.judge_end()


def test_a_retired_value_that_came_back_under_its_successor_is_destroyed_again(world: Watched) -> None:
    _rotate(world, "1")
    old = _snapshot(world)
    _settled_after_rotation(world)
    world.vault.kv = old
    assert len(world.in_vault()) == 2
    world.audit()
    assert world.versions() == [(1, "Retired"), (2, "Current")]
    world.judge_end()


def test_a_deleted_key_that_came_back_is_removed_again(world: Watched) -> None:
    world.declare("other")
    world.settle()
    other, old, path = world.id_of(1, "other"), _snapshot(world), world.path("other")
    world.erase("APIKey", "other")
    world.settle()
    world.refuse.add(other)
    world.vault.kv = old
    world.audit()
    assert path not in world.vault.kv
    assert world.versions() == [(1, "Current")]
    world.judge_end()


def test_a_comparison_spares_a_version_that_is_on_its_way(world: Watched) -> None:
    """Written, and not recorded: before and after a crash."""
    for nonce, crash in (("1", False), ("2", True)):
        world.change("APIKey", "k", rotateNonce=nonce)
        written = world.vault.written
        while world.vault.written == written:
            moved = world.deliver() or world.work_pass() or world.work_job()
            assert sum(world.take(guard) for guard in world.guards) or moved
        if crash:
            world.start()
        newest = str((world.entry().versions[world.entry().current] or {})["id"])
        world.keep.add(newest)
        audit = VaultAudit(world.vault, world.store, world.steps, world.dirty.mark)
        world.loop.run_until_complete(audit.run())
        world.settle()
        assert world.id_of(world.status("APIKey", "k")["currentVersion"]) == newest
        _settled_after_rotation(world)
        world.judge_end()


def test_a_comparison_of_what_is_sound_changes_nothing(world: Watched) -> None:
    _rotate(world, "1")
    _settled_after_rotation(world)
    before, writes = _snapshot(world), len(world.kube.writes)
    for _ in range(200):
        world.audit()
    assert world.vault.kv == before
    assert len(world.kube.writes) == writes
    assert set(world.faulty.operations[-400:]) <= {"kv-list", "kv-read"}


def test_a_comparison_that_vault_refuses_changes_nothing(world: Watched) -> None:
    world.faulty.refuses = lambda operation, _: Forbidden("no") if operation == "kv-read" else None
    world.audit()
    assert world.versions() == [(1, "Current")]
    world.faulty.refuses = lambda _operation, _path: Unavailable("sealed")
    with pytest.raises(Unavailable):
        world.audit()
    assert world.versions() == [(1, "Current")]


# --- what a hand wrote -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        {"key": "x"},
        {"number": "2", "issuedAt": "2026-01-01T00:00:00"},  # no time zone
        {"number": "2", "issuedAt": "9999-12-31T23:59:59+00:00"},
        {"number": "2", "issuedAt": "0001-01-01T00:00:00+00:00"},
        {"number": "99999999999999999999", "issuedAt": "2026-01-01T00:00:00+00:00"},
        {"number": "9" * 5000, "issuedAt": "2026-01-01T00:00:00+00:00"},
        {"number": "\N{SUPERSCRIPT TWO}", "issuedAt": "2026-01-01T00:00:00+00:00"},
    ],
    ids=["foreign", "naive", "far", "ancient", "large", "endless", "no-digit"],
)
def test_what_a_hand_wrote_into_vault_stops_nothing(world: Watched, data: dict[str, str]) -> None:
    """A value of the right shape with a number or a time that nothing can be done with."""
    entry = world.entry()
    version = keyformat.id_from_bytes(b"by hand!")
    whole = {"id": version, "key": keyformat.encode(version, keyformat.secret_from_bytes(bytes(32)))}
    entry.versions[entry.current + 1] = {**whole, **data}
    world.change("APIKeyPolicy", "std", maximumAge="60d")
    _rotate(world, "1")
    assert [state for _, state in world.versions()] == ["Previous", "Current"]
    _settled_after_rotation(world)
    assert [state for _, state in world.versions()] == ["Retired", "Current"]
    assert world.condition("APIKey", "k", "Ready") == ("True", "Ready")
    world.keep.clear()
    world.change("APIKey", "k", revokeThrough=world.status("APIKey", "k")["currentVersion"])
    world.settle()
    assert world.condition("APIKey", "k", "Revoked") == ("True", "Revoked")
