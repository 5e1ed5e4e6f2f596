"""A status that somebody else wrote: it costs its key what it told, and no other key anything."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from sendward import names
from sendward.apply import kinds
from sendward.names import API_VERSION
from sendward.resources.kinds import BY_NAME
from sendward.resources.parse import parse_status
from tests.core.harness import TENANT, World
from tests.fuzz.tenants import SHARED
from tests.unit.fuzz.test_nobody_but_the_subject import internal_errors, populated

VERSION: dict[str, Any] = {
    "number": 1, "id": "4fKz81QmTb", "state": "Current",
    "issuedAt": "2026-01-01T00:00:00Z", "vaultVersion": 1,
}  # fmt: skip
VERSIONS: dict[str, dict[str, Any]] = {
    "issued in a far future": {"issuedAt": "9999-12-31T23:59:59Z"},
    "issued in a far past": {"issuedAt": "0001-01-01T00:00:00+14:00"},
    "issued without a zone": {"issuedAt": "2026-01-01T00:00:00"},
    "issued at a number": {"issuedAt": 1e11},
    "retired in a far future": {"state": "Previous", "retireAt": "9999-12-31T23:59:59-14:00"},
    "retired without a zone": {"state": "Previous", "retireAt": "2026-01-01T00:00:00"},
    "ended without a zone": {"state": "Revoked", "endedAt": "2026-01-01T00:00:00"},
    "a negative number": {"number": -5},
    "a huge number": {"number": 10**30, "vaultVersion": 10**30},
    "an id that is a path": {"id": "../../other\n"},
    "an unknown state": {"state": "Eternal"},
}
POLICIES: dict[str, dict[str, Any]] = {
    "plain": {},
    "scheduled": {
        "rotation": {"every": "90d", "overlap": "48h", "retireWhenUnusedFor": "1h"},
        "maximumAge": "180d",
    },
    "for ever": {"rotation": {"every": "999999d", "overlap": "999998d"}, "maximumAge": "999999d"},
}


def _overwritten(world: World, status: dict[str, Any]) -> None:
    old = world.kube.objects[kinds.API_KEY.plural, TENANT, "bad"]
    world.kube._store(kinds.API_KEY, old, copy.deepcopy(old) | {"status": status})


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("case", VERSIONS)
def test_a_foreign_status_holds_up_no_other_key_of_its_account(case: str, policy: str) -> None:
    """A time that could not be reckoned with kept the account's other keys from being revoked."""
    world = populated([])
    try:
        world.put("APIKeyPolicy", "p", POLICIES[policy])
        world.put("SenderAccount", "bank", {"gateways": [SHARED]})
        for name in ("good", "bad"):
            world.put("APIKey", name, {"account": "bank", "policy": "p"})
        world.settle()
        _overwritten(world, {"observedGeneration": 1, "versions": [VERSION | VERSIONS[case]]})
        world.settle()
        world.change("APIKey", "good", revokeThrough=1)
        world.settle()
        assert world.condition("APIKey", "good", "Revoked") == ("True", "Revoked")
        assert internal_errors(world) == 0
    finally:
        world.close()


@pytest.mark.parametrize("kind", BY_NAME)
@pytest.mark.parametrize(
    "moment", ["9999-12-31T23:59:59Z", "0001-01-01T00:00:00+14:00", "2026-01-01T00:00:00", -1e30, "x"]
)
def test_a_status_is_read_whatever_its_times_are(kind: str, moment: object) -> None:
    condition = {"type": "Ready", "status": "True", "reason": "Ready", "observedGeneration": 1}
    status = {
        "conditions": [condition | {"lastTransitionTime": moment}],
        "versions": [VERSION | {"issuedAt": moment, "retireAt": moment, "endedAt": moment}],
        "nextRotation": moment,
        "certificateNotAfter": moment,
    }
    obj = {
        "apiVersion": API_VERSION,
        "kind": kind,
        "metadata": {"name": names.FIELD_MANAGER},
        "status": status,
    }
    found = parse_status(kind, obj)
    assert all(each.last_transition_time.tzinfo is not None for each in found.conditions)
