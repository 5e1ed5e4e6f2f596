"""AdmissionReviews of any shape: an answer, or `MalformedError`; never a labelled pod without its sidecar."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sendward import names
from sendward.webhook.review import MalformedError, Outcome
from tests.fuzz.profile import examples
from tests.fuzz.target_webhook import POD, check, response, review, reviewer


async def answer(body: bytes) -> Outcome | None:
    try:
        return await reviewer().review(body)
    except MalformedError:
        return None


def said(outcome: Outcome | None) -> dict[str, Any]:
    assert outcome is not None
    return response(outcome)


async def test_the_pod_as_it_is_is_injected() -> None:
    outcome = await answer(json.dumps(review(POD)).encode())
    assert outcome is not None
    check(outcome)
    assert response(outcome)["allowed"]


@pytest.mark.parametrize("uid", ["", "a" * 100_000, "\u202e\x00\n\U0001f600", "../..", "{{ .Values }}"])
async def test_an_odd_uid_comes_back_as_it_is(uid: str) -> None:
    assert said(await answer(json.dumps(review(POD, uid=uid)).encode()))["uid"] == uid


BODIES: dict[str, bytes] = {
    "empty": b"",
    "binary": bytes(range(256)),
    "deep": b"[" * 1_000_000,
    "deep in the object": json.dumps(review(POD)).encode().replace(b'"sms-0"', b'{"a":' * 50_000),
    "a huge number": b'{"apiVersion":' + b"9" * 10_000 + b"}",
    "UTF-16": json.dumps(review(POD)).encode("utf-16-be")[1:],
    "a number as uid": json.dumps(review(POD, uid=5)).encode(),
    "no object": json.dumps(review(None)).encode(),
    "a list": json.dumps([review(POD)]).encode(),
    "another version": json.dumps(review(POD) | {"apiVersion": "admission.k8s.io/v1beta1"}).encode(),
}


@pytest.mark.parametrize("case", BODIES)
async def test_what_is_no_review_is_malformed(case: str) -> None:
    with pytest.raises(MalformedError):
        await reviewer().review(BODIES[case])


@pytest.mark.parametrize("port", [0, -1, 65536, 10**30, True])
async def test_a_probe_to_a_port_that_cannot_be_is_refused(port: int) -> None:
    """The API server judges only what we made of it, and the guard could not read its settings."""
    pod = copy.deepcopy(POD)
    pod["spec"]["containers"][0]["readinessProbe"]["httpGet"]["port"] = port
    found = said(await answer(json.dumps(review(pod)).encode()))
    assert not found["allowed"]
    assert "spec.containers[0].readinessProbe" in found["status"]["message"]


async def test_a_pod_nested_deeper_than_it_can_be_copied_is_refused() -> None:
    deep: Any = "x"
    for _ in range(600):
        deep = {"a": deep}
    found = said(await answer(json.dumps(review({**POD, "spec": deep})).encode()))
    assert (found["allowed"], found["status"]["code"]) == (False, 400)


async def test_a_probe_beyond_its_bounds_is_refused() -> None:
    for name, value in (("path", "/" * 5000), ("httpHeaders", [{"name": "a", "value": "b"}] * 65)):
        pod = copy.deepcopy(POD)
        pod["spec"]["containers"][0]["readinessProbe"]["httpGet"][name] = value
        assert not said(await answer(json.dumps(review(pod)).encode()))["allowed"]


JUNK = st.sampled_from(
    [None, True, -1, 10**30, 1.5, "", "\x00", "\ud800", "sms", "http", [], {}, [None], {"": None}]
)


def places(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [path, *(place for key, child in items for place in places(child, (*path, key)))]


def _child(node: Any, step: Any) -> Any:
    """What stands there; something that is in no review where nothing does."""
    there = step in node if isinstance(node, dict) else isinstance(node, list) and step in range(len(node))
    return node[step] if there else {}


PLACES = [place for place in places(review(POD)) if place]


@settings(max_examples=examples(200), deadline=None)
@given(st.lists(st.tuples(st.sampled_from(PLACES), JUNK), min_size=1, max_size=3))
async def test_a_review_with_fields_of_any_type_gets_an_answer(
    changes: list[tuple[tuple[Any, ...], Any]],
) -> None:
    body = copy.deepcopy(review(POD))
    for place, value in changes:
        node: Any = body
        for step in place[:-1]:
            node = _child(node, step)
        if isinstance(node, dict):
            node[place[-1]] = copy.deepcopy(value)
    outcome = await answer(json.dumps(body).encode())
    if outcome is not None and "patch" in response(outcome):
        check(outcome)
    elif outcome is not None and outcome.decision == "allowed":
        assert names.LABEL_GATEWAY not in body["request"]["object"].get("metadata", {}).get("labels", {})
