"""What the definitions promise beyond the rules: transitions, defaults, pruning, columns, status."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest

from sendward.resources.base import Resource
from sendward.resources.kinds import BY_NAME
from sendward.resources.parse import parse, parse_status
from tests.crds.api import Judge
from tests.crds.cases import GATEWAY, GONE, KEY, MINIMAL, an_object, put

pytestmark = pytest.mark.lab
_KINDS = pytest.mark.parametrize("kind", MINIMAL)


@pytest.fixture
def existing(judge: Judge, request: pytest.FixtureRequest) -> Iterator[dict[str, Any]]:
    """A created object of the kind that the test is parametrized with."""
    obj = an_object(request.param, MINIMAL[request.param], name="existing")
    judge.delete(obj)
    status, created = judge.create(obj, dry=False)
    assert status == 200, created
    yield created
    judge.delete(obj)


_EXISTING = pytest.mark.parametrize("existing", MINIMAL, indirect=True)


def _after(obj: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    later = copy.deepcopy(obj)
    put(later, path.split("."), value)
    return later


@_EXISTING
def test_a_new_object_is_not_yet_observed(existing: dict[str, Any]) -> None:
    assert existing["status"] == {"observedGeneration": -1}
    assert parse_status(existing["kind"], existing).observed_generation == -1


@_EXISTING
def test_the_api_server_fills_in_the_defaults_of_the_models(existing: dict[str, Any]) -> None:
    typed = parse(existing)
    bare = parse(an_object(existing["kind"], MINIMAL[existing["kind"]]))
    assert isinstance(typed, Resource)
    assert isinstance(bare, Resource)
    assert typed.spec == bare.spec
    assert typed.meta.uid == existing["metadata"]["uid"]
    assert typed.meta.generation == 1
    shown = typed.spec.model_dump(by_alias=True, exclude_none=True)
    assert shown == existing["spec"]


@pytest.mark.parametrize("existing", [GATEWAY], indirect=True)
def test_shards_are_fixed(existing: dict[str, Any], judge: Judge) -> None:
    status, body = judge.update(_after(existing, "spec.shards", 32))
    assert status == 422
    assert body["details"]["causes"][0]["field"] == "spec.shards"
    assert "is fixed at creation" in body["message"]
    # Left out, the default 16 stands again, which is the old value.
    assert judge.update(_after(existing, "spec.shards", GONE))[0] == 200
    assert judge.update(_after(existing, "spec.mode", "Audit"))[0] in {200, 409}


@pytest.mark.parametrize("existing", [KEY], indirect=True)
def test_revocation_is_not_taken_back(existing: dict[str, Any], judge: Judge) -> None:
    status, existing = judge.update(_after(existing, "spec.revokeThrough", 3))
    assert status == 200
    for lower in (2, 0, GONE):
        status, body = judge.update(_after(existing, "spec.revokeThrough", lower))
        assert status == 422, lower
        assert body["details"]["causes"][0]["field"] == "spec.revokeThrough"
        assert "may only grow" in body["message"]
    assert judge.update(_after(existing, "spec.revokeThrough", 4))[0] == 200


@_KINDS
def test_unknown_fields(kind: str, judge: Judge) -> None:
    obj = an_object(kind, {**MINIMAL[kind], "colour": "red"})
    status, body = judge.create(obj)
    assert status == 400
    assert 'unknown field "spec.colour"' in body["message"]
    # Whoever asks for no validation of fields has them pruned, so that `parse` never sees them.
    status, body = judge.create(obj, strict=False)
    assert status == 200
    assert "colour" not in body["spec"]
    assert isinstance(parse(body), Resource)


@_EXISTING
def test_status_is_a_subresource(existing: dict[str, Any], judge: Judge) -> None:
    condition = {
        "type": "Ready",
        "status": "False",
        "reason": "NoSidecars",
        "message": "none",
        "observedGeneration": 1,
        "lastTransitionTime": "2026-03-01T12:00:00Z",
    }
    written = {**existing, "status": {"observedGeneration": 1, "conditions": [condition]}}
    status, body = judge.update(written)
    assert status == 200
    assert body["status"] == {"observedGeneration": -1}
    written["metadata"] = body["metadata"]
    status, body = judge.update(written, subresource="/status")
    assert status == 200, body
    assert body["metadata"]["generation"] == existing["metadata"]["generation"]
    found = parse_status(existing["kind"], body)
    assert found.conditions[0].reason == "NoSidecars"
    twice = {**body, "status": {"observedGeneration": 1, "conditions": [condition, condition]}}
    assert judge.update(twice, subresource="/status")[0] == 422


@_KINDS
def test_columns(kind: str, judge: Judge) -> None:
    path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{BY_NAME[kind].plural}.sendward.io"
    status, body = judge.call("GET", path)
    assert status == 200
    columns = [column["name"] for column in body["spec"]["versions"][0]["additionalPrinterColumns"]]
    assert columns[:2] == ["Ready", "Reason"]
    assert columns[3:] == ["Age", "Message"]
    assert body["status"]["acceptedNames"]["categories"] == ["sendward"]
    assert not [c for c in body["status"]["conditions"] if c["type"] == "NonStructuralSchema"]
