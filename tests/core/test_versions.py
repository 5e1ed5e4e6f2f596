"""Two versions of Sendward, one after the other: what a newer operator left behind is read by this one."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from sendward import names
from sendward.apply import kinds
from sendward.errors import Forbidden, Unavailable
from tests.core.harness import TENANT
from tests.core.watched import Watched

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


def _edit(world: Watched, change: Any) -> None:
    """A newer operator, which is gone now, wrote into the status."""
    key = (kinds.API_KEY.plural, TENANT, "k")
    obj = copy.deepcopy(world.kube.objects[key])
    change(obj["status"])
    world.kube.version += 1
    obj["metadata"]["resourceVersion"] = str(world.kube.version)
    world.kube.objects[key] = obj


def _in_mid_rotation(world: Watched) -> None:
    world.change("APIKey", "k", rotateNonce="1")
    world.settle()
    world.keep = {world.id_of(1), world.id_of(2)}


def test_fields_of_a_newer_version_are_left_alone_while_nothing_changes(world: Watched) -> None:
    _in_mid_rotation(world)

    def newer(status: dict[str, Any]) -> None:
        status["signing"] = {"algorithm": "hmac-sha512"}
        status["versions"][0]["signedSince"] = "2026-01-01T00:00:00Z"

    _edit(world, newer)
    writes = len(world.kube.writes)
    world.start()
    world.settle()
    assert len(world.kube.writes) == writes
    assert world.status("APIKey", "k")["signing"] == {"algorithm": "hmac-sha512"}
    world.wait(DAY - timedelta(hours=1))
    world.keep = {world.id_of(2)}
    world.wait(timedelta(hours=2))
    assert world.versions() == [(1, "Retired"), (2, "Current")]
    world.judge_end()


def test_a_condition_of_a_newer_version_stops_nothing(world: Watched) -> None:
    _in_mid_rotation(world)

    def newer(status: dict[str, Any]) -> None:
        status["conditions"].append({**status["conditions"][0], "type": "Signed", "reason": "SignedByNobody"})

    _edit(world, newer)
    world.start()
    world.settle()
    assert world.versions() == [(1, "Previous"), (2, "Current")]
    world.judge_end()


def test_a_state_of_a_newer_version_never_brings_a_version_back_or_issues_its_number_again(
    world: Watched,
) -> None:
    """The current version stays in force; the number of the one that nobody here understands stays taken."""
    _in_mid_rotation(world)
    first, second = world.id_of(1), world.id_of(2)
    world.keep = {second}
    _edit(world, lambda status: status["versions"][0].update(state="Quarantined"))
    world.start()
    world.settle()
    assert world.versions()[-1] == (2, "Current")
    world.change("APIKey", "k", revokeThrough=1)
    world.settle()
    world.refuse.add(first)
    world.change("APIKey", "k", rotateNonce="2")
    world.settle()
    assert world.versions()[-2:] == [(2, "Previous"), (3, "Current")]


@pytest.mark.parametrize("vault", ["up", "away"])
def test_an_operator_that_can_read_no_document_cuts_nobody_off(world: Watched, vault: str) -> None:
    """They are of another format, or somebody deleted them: until Vault was asked guards keep theirs."""
    _in_mid_rotation(world)
    for obj in world.kube.of(kinds.SECRET):
        if obj["metadata"]["labels"].get(names.LABEL_PART) == "document":
            del world.kube.objects[kinds.SECRET.plural, TENANT, obj["metadata"]["name"]]
    if vault == "away":
        world.faulty.refuses = lambda _operation, _path: Unavailable("sealed")
    world.start()
    if vault == "away":
        world.settle()
        world.faulty.heal()
    world.wait(timedelta(minutes=5), every=timedelta(minutes=1))
    world.judge_end()


def test_a_shard_without_document_goes_out_without_what_vault_cannot_tell(world: Watched) -> None:
    """One key's right in Vault is gone: it is refused, and the others of the shard go on."""
    world.declare("other")
    world.settle()
    world.keep = {world.id_of(1, "other")}
    for obj in world.kube.of(kinds.SECRET):
        if obj["metadata"]["labels"].get(names.LABEL_PART) == "document":
            del world.kube.objects[kinds.SECRET.plural, TENANT, obj["metadata"]["name"]]
    path = world.path()
    world.faulty.refuses = lambda _, called: Forbidden("Vault refused") if called == path else None
    first = world.id_of(1)
    world.start()
    world.wait(timedelta(minutes=2), every=timedelta(minutes=1))
    world.refuse.add(first)
    world.change("APIKey", "k", revokeThrough=1)
    world.settle()
    assert world.condition("APIKey", "k", "Revoked") == ("True", "Revoked")
