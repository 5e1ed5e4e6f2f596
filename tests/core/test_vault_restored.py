"""Vault restored from an older snapshot, or changed by hand: what is declared and recorded wins."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from datetime import timedelta

import pytest

from sendward import keyformat
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
