"""One behaviour per case: what the guards are told, and what the users are told, for some resources.

`input.yaml` holds `objects` (kind, name, spec, labels, created), optionally `onboarded: false`,
`guards: 0`, and `then`: a list of steps (`change`, `erase`, `hours`), each settled before the next.
"""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sendward import document, names
from sendward.apply import kinds
from tests.core.harness import TENANT, World
from tests.golden.golden import Golden, cases, read_input

CASES = cases(Path(__file__).parent)
_GUARD_LEFT_OUT = ("envoy", "operations")  # have golden cases of their own


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_resources_become_a_document_and_statuses(case: Path, golden: Golden) -> None:
    given = read_input(case)
    world = World(onboarded=given.get("onboarded", True))
    try:
        for obj in given["objects"]:
            _put(world, obj)
        gateways = [obj["name"] for obj in given["objects"] if obj["kind"] == "MessagingGateway"]
        for gateway in gateways if given.get("guards", 1) else ():
            world.add_guard(f"{gateway}-0", gateway)
        world.settle()
        for step in given.get("then", []):
            _do(world, step)
            world.settle()
        rename = _Stable()
        golden.check(
            case,
            {
                "document.yaml": rename({name: _document(world, name) for name in gateways}),
                "statuses.yaml": rename(_statuses(world)),
                "networkpolicies.yaml": rename(_policies(world)),
            },
        )
    finally:
        world.close()


def _put(world: World, obj: dict[str, Any]) -> None:
    kind = next(kind for kind in kinds.OURS if kind.kind == obj["kind"])
    meta = {"namespace": TENANT, "name": obj["name"], "labels": obj.get("labels", {})}
    if "created" in obj:
        meta["creationTimestamp"] = obj["created"]
    world.kube.put(kind, {"metadata": meta, "spec": obj["spec"]})


def _do(world: World, step: dict[str, Any]) -> None:
    if "change" in step:
        kind, name = step["change"].split("/")
        world.change(kind, name, **step["spec"])
    if "erase" in step:
        world.erase(*step["erase"].split("/"))
    if "hours" in step:
        world.pass_time(timedelta(hours=step["hours"]))


def _document(world: World, gateway: str) -> dict[str, Any]:
    found = world.documents.get(world.gateway_uid(gateway))
    if found is None:
        return {}
    made = {}
    for part, envelope in found.envelopes.items():
        if part == names.PART_GATEWAY:
            content = msgspec.to_builtins(document.open_gateway(envelope))
            made[part] = {name: value for name, value in content.items() if name not in _GUARD_LEFT_OUT}
        else:
            made[part] = msgspec.to_builtins(document.open_shard(envelope))
    return made


def _statuses(world: World) -> dict[str, Any]:
    return {
        f"{kind.kind}/{obj['metadata']['name']}": obj["status"]
        for kind in kinds.OURS
        for obj in world.kube.of(kind)
    }


def _policies(world: World) -> list[Any]:
    """Only who may come in: the rest has golden cases of its own."""
    return [
        {
            "name": obj["metadata"]["name"],
            "ingress": [
                peer["ipBlock"]["cidr"]
                for rule in obj["spec"]["ingress"]
                for peer in rule.get("from", [])
                if "ipBlock" in peer
            ],
        }
        for obj in world.kube.of(kinds.NETWORK_POLICY)
    ]


class _Stable:
    """Ids and digests are drawn at random: they are told apart, but not shown."""

    _RANDOM = re.compile(r"^([0-9a-f]{64}|[0-9A-Za-z]{10})$")

    def __init__(self) -> None:
        self._names: dict[str, str] = {}

    def __call__(self, value: Any, field: str = "") -> Any:
        if isinstance(value, dict):
            return {name: self(item, name) for name, item in value.items()}
        if isinstance(value, list):
            return [self(item, field) for item in value]
        if field in ("id", "digest") and self._RANDOM.match(value):
            return self._names.setdefault(value, f"{field}-{len(self._names) // 2 + 1}")
        return value
