from __future__ import annotations

import copy
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sendward.names import API_VERSION
from sendward.resources.base import Invalid, Resource
from sendward.resources.kinds import BY_NAME, KINDS
from sendward.resources.messaging_gateway import MessagingGatewaySpec, RedisSpec
from sendward.resources.parse import MAX_ERRORS, parse, parse_status
from sendward.resources.status import APIKeyStatus, Status

_GATEWAY: dict[str, Any] = {
    "apiVersion": API_VERSION,
    "kind": "MessagingGateway",
    "metadata": {"name": "sms", "namespace": "tenant"},
    "spec": {
        "http": {
            "applicationPort": 8080,
            "operations": [{"name": "send", "path": "/v1", "message": {"recipient": {"jsonPointer": "/to"}}}],
        },
        "tls": {"secretName": "sms-tls"},
        "sourceCIDRs": ["192.0.2.0/24"],
    },
}


def _gateway(**spec: Any) -> dict[str, Any]:
    return {**_GATEWAY, "spec": {**copy.deepcopy(_GATEWAY["spec"]), **spec}}


def _errors(obj: Any) -> tuple[str, ...]:
    found = parse(obj)
    assert isinstance(found, Invalid)
    return found.errors


def test_a_sound_object() -> None:
    metadata = {
        "name": "sms",
        "namespace": "tenant",
        "uid": "u-1",
        "generation": 3,
        "creationTimestamp": "2026-03-01T12:00:00Z",
        "deletionTimestamp": "2026-03-02T12:00:00Z",
        "labels": {"b": "2", "a": "1"},
        "finalizers": ["sendward.io/revoke-first"],
    }
    found = parse({**_GATEWAY, "metadata": metadata})
    assert isinstance(found, Resource)
    assert isinstance(found.spec, MessagingGatewaySpec)
    assert str(found.meta.key) == "MessagingGateway tenant/sms"
    assert found.meta.uid == "u-1"
    assert found.meta.generation == 3
    assert found.meta.created == datetime(2026, 3, 1, 12, tzinfo=UTC)
    assert found.meta.labels == (("a", "1"), ("b", "2"))
    assert found.meta.deleting
    assert found.meta.finalizers == ("sendward.io/revoke-first",)


def test_an_object_from_a_file_has_no_uid_yet() -> None:
    found = parse(_GATEWAY)
    assert isinstance(found, Resource)
    assert (found.meta.uid, found.meta.generation, found.meta.labels) == ("", 0, ())
    assert not found.meta.deleting


@pytest.mark.parametrize(
    ("spec", "error"),
    [
        (
            {"sourceCIDRs": ["10.1.2.3/8"]},
            "spec.sourceCIDRs[0]: 10.1.2.3/8 has host bits set, or another spelling. Write 10.0.0.0/8",
        ),
        (
            {"sourceCIDRs": ["10.1.2.3"]},
            "spec.sourceCIDRs[0]: 10.1.2.3 has no prefix length. Write 10.1.2.3/32",
        ),
        (
            {"sourceCIDRs": ["nowhere"]},
            "spec.sourceCIDRs[0]: nowhere is no CIDR. Write, for example, 192.0.2.0/24 or 2001:db8::/32",
        ),
        (
            {"sourceCIDRs": ["10.0.0.0/8"] * 2},
            "spec.sourceCIDRs: 10.0.0.0/8 stands more than once. Remove one of them",
        ),
        ({"source_cidrs": []}, "spec.source_cidrs: is no field of this kind. Write sourceCIDRs"),
        ({"sourceCIDRS": []}, "spec.sourceCIDRS: is no field of this kind. Write sourceCIDRs"),
        ({"colour": "red"}, "spec.colour: is no field of this kind. Remove it"),
        ({"tls": {"secretname": "x"}}, "spec.tls.secretname: is no field of this kind. Write secretName"),
        ({"http": None}, "spec.http: is missing. Add it"),
        (
            {"staleAfter": "5 min"},
            "spec.staleAfter: 5 min is no duration. Write 30s, 15m, 12h or 90d, or Never",
        ),
        ({"shards": "16"}, 'spec.shards: the text "16" is not accepted. Input should be a valid integer'),
        (
            {"mode": "enforce"},
            "spec.mode: the text \"enforce\" is not accepted. Input should be 'Enforce' or 'Audit'",
        ),
        ({"trustedHops": []}, "spec.trustedHops: a list is not accepted. Input should be a valid integer"),
    ],
)
def test_errors_name_the_path_and_the_remedy(spec: dict[str, Any], error: str) -> None:
    assert error in _errors(_gateway(**spec))


def test_all_errors_are_found_at_once() -> None:
    errors = _errors(_gateway(shards=0, trustedHops=-1, mode="no"))
    assert [error.split(":")[0] for error in errors] == ["spec.trustedHops", "spec.shards", "spec.mode"]


def test_errors_are_bounded() -> None:
    errors = _errors(_gateway(sourceCIDRs=["x" * 10_000] * 200))
    assert len(errors) == MAX_ERRORS
    assert all(len(error) < 300 for error in errors)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"metadata": None}, "metadata: is missing. Add it, with a name"),
        ({"metadata": {}}, "metadata.name: the empty text is no name"),
        ({"metadata": {"name": "a.b"}}, "metadata.name: a.b is no name. Write a DNS label"),
        ({"metadata": {"name": 5}}, "metadata.name: 5 is no text"),
        ({"metadata": {"name": "a", "namespace": "\udcf6"}}, r"metadata.namespace: \udcf6 is no text"),
        (
            {"metadata": {"name": "a", "labels": {"a": 1}}},
            "metadata.labels: has a value that is no text. Quote it",
        ),
        ({"metadata": {"name": "a", "labels": []}}, "metadata.labels: is no mapping"),
        ({"metadata": {"name": "a", "generation": "1"}}, "metadata.generation: 1 is no whole number"),
        (
            {"metadata": {"name": "a", "creationTimestamp": "noon"}},
            "metadata.creationTimestamp: noon is no time",
        ),
        ({"kind": "Pod"}, "kind: Pod is none of MessagingGateway,"),
        ({"apiVersion": "v1"}, f"apiVersion: v1 is not served. Write {API_VERSION}"),
        ({"spec": None}, "spec: is missing. Add it"),
        ({"spec": []}, "spec: a list is not accepted"),
    ],
)
def test_errors_outside_the_spec(change: dict[str, Any], error: str) -> None:
    assert any(found.startswith(error) for found in _errors({**_GATEWAY, **change}))


def test_control_characters_do_not_reach_a_message() -> None:
    (error,) = _errors(_gateway(mode="a\x00b\nc\x1b[31m\ud800"))
    assert error.isprintable()


def test_a_null_in_a_known_field_counts_as_absent() -> None:
    found = parse(_gateway(shards=None, egress={"dns": None}, metricsNamespace=None))
    assert isinstance(found, Resource)
    assert isinstance(found.spec, MessagingGatewaySpec)
    assert found.spec.shards == 16
    assert _errors(_gateway(unknown=None)) == ("spec.unknown: is no field of this kind. Remove it",)


_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=()), max_size=20)
    | st.binary(max_size=5)
    | st.datetimes()
    | st.sampled_from(["x" * 100_000, "\x00", "\ud800", "1" * 5000])
)
_FIELDS = st.sampled_from(
    [
        "metadata",
        "name",
        "labels",
        "spec",
        "status",
        "http",
        "tls",
        "sourceCIDRs",
        "operations",
        "account",
        "versions",
    ]
)
_ANYTHING = st.recursive(
    _SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(_FIELDS | st.integers() | st.text(max_size=5), inner)
    ),
    max_leaves=20,
)


@settings(max_examples=300, derandomize=True, database=None, deadline=None)
@given(_ANYTHING, st.sampled_from([kind.name for kind in KINDS]), _ANYTHING, _ANYTHING)
def test_nothing_raises(anything: Any, kind: str, metadata: Any, spec: Any) -> None:
    assert isinstance(parse(anything), Invalid)
    whole = {"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": spec, "status": spec}
    assert isinstance(parse(whole), Invalid | Resource)
    assert isinstance(parse_status(kind, whole), BY_NAME[kind].status)
    assert isinstance(parse_status(kind, anything), BY_NAME[kind].status)


def test_depth_and_width_do_not_raise() -> None:
    deep: Any = "x"
    for _ in range(100_000):
        deep = {"matchLabels": [deep]}
    wide = {f"field{number}": number for number in range(20_000)}
    for spec in (deep, {"http": deep}, {"accountSelector": deep}, wide):
        for kind in BY_NAME:
            obj = {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": "a"}, "spec": spec}
            assert isinstance(parse(obj), Invalid)
            assert isinstance(parse_status(kind, {"status": spec}), Status)


def test_a_number_that_cannot_be_shown_does_not_raise() -> None:
    assert _errors(_gateway(shards=10**5000))[0].startswith("spec.shards: a huge number is not accepted")


_VERSION = {
    "number": 1,
    "id": "4fKz81QmTb",
    "state": "Current",
    "issuedAt": "2026-03-01T12:00:00Z",
    "vaultVersion": 1,
}


def test_status_is_read_back() -> None:
    status = {"observedGeneration": 2, "currentVersion": 1, "versions": [_VERSION], "nextRotation": None}
    found = parse_status("APIKey", {"status": status})
    assert isinstance(found, APIKeyStatus)
    assert found.versions[0].issued_at == datetime(2026, 3, 1, 12, tzinfo=UTC)
    assert found.next_rotation is None


def test_status_of_a_newer_operator_is_read_back() -> None:
    status = {"observedGeneration": 2, "future": 1, "versions": [{**_VERSION, "future": {}}]}
    found = parse_status("APIKey", {"status": status})
    assert isinstance(found, APIKeyStatus)
    assert len(found.versions) == 1


@pytest.mark.parametrize("status", [None, [], "x", {"observedGeneration": "x"}, {"conditions": [{}]}])
def test_an_unreadable_status_is_empty(status: object) -> None:
    assert parse_status("MessagingGateway", {"status": status}).observed_generation == -1


def test_limits_are_parsed_with_their_defaults() -> None:
    def redis(**fields: Any) -> RedisSpec | None:
        found = parse(_gateway(limits={"redis": fields} if fields else {}))
        assert isinstance(found, Resource)
        assert isinstance(found.spec, MessagingGatewaySpec)
        return found.spec.limits.redis

    assert redis() is None
    assert redis(host="redis") == RedisSpec(host="redis", port=6379, tls=False, pod_labels=None)
    found = redis(host="2001:db8::7", port=6380, tls=True, podLabels={"app": "redis"})
    assert found == RedisSpec(host="2001:db8::7", port=6380, tls=True, pod_labels={"app": "redis"})
