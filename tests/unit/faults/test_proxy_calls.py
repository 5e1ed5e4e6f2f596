"""What the proxy reads from a request."""

from __future__ import annotations

import pytest

from tests.faults.proxy_calls import Sort, kube_call, vault_call

_GROUP = "/apis/sendward.io/v1alpha1/namespaces/ns"


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", f"{_GROUP}/apikeys/k", (Sort.READ, "apikeys", "ns", "k", "")),
        ("PATCH", f"{_GROUP}/apikeys/k/status", (Sort.MUTATION, "apikeys", "ns", "k", "status")),
        ("POST", "/api/v1/namespaces/ns/secrets", (Sort.MUTATION, "secrets", "ns", "made", "")),
        ("DELETE", "/api/v1/namespaces/ns", (Sort.MUTATION, "namespaces", "", "ns", "")),
        ("PUT", "/api/v1/namespaces/ns/finalize", (Sort.MUTATION, "namespaces", "", "ns", "finalize")),
        ("PATCH", "/apis/coordination.k8s.io/v1/namespaces/s/leases/l", (Sort.LEASE, "leases", "s", "l", "")),
        ("POST", "/apis/events.k8s.io/v1/namespaces/ns/events", (Sort.EVENT, "events", "ns", "made", "")),
        (
            "POST",
            "/apis/authentication.k8s.io/v1/tokenreviews",
            (Sort.REVIEW, "tokenreviews", "", "made", ""),
        ),
        ("GET", "/healthz", (Sort.READ, "/healthz", "", "", "")),
    ],
)
def test_a_kube_request_is_read_from_its_path(
    method: str, path: str, expected: tuple[Sort, str, str, str, str]
) -> None:
    call = kube_call(method, path, {}, b'{"metadata": {"name": "made"}}')
    assert (call.sort, call.kind, call.namespace, call.name, call.subresource) == expected


def test_a_watch_is_told_from_a_list() -> None:
    assert kube_call("GET", "/api/v1/pods", {"watch": "true"}, b"").sort is Sort.WATCH
    assert kube_call("GET", "/api/v1/pods", {}, b"").sort is Sort.READ


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"metadata": null}'])
def test_a_body_without_a_name_is_no_fault(body: bytes) -> None:
    assert kube_call("POST", "/api/v1/namespaces/ns/secrets", {}, body).name == ""


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("POST", "/v1/sendward/data/n/k", (Sort.MUTATION, "data", "n/k")),
        ("POST", "/v1/sendward/destroy/n/k", (Sort.MUTATION, "destroy", "n/k")),
        ("DELETE", "/v1/sendward/metadata/n/k", (Sort.MUTATION, "metadata", "n/k")),
        ("LIST", "/v1/sendward/metadata/n", (Sort.READ, "metadata", "n")),
        ("POST", "/v1/sendward-pki/issue/gateways", (Sort.MUTATION, "issue", "gateways")),
        ("POST", "/v1/sys/tools/random", (Sort.DRAW, "sys/tools/random", "")),
        ("POST", "/v1/auth/jwt/login", (Sort.TOKEN, "auth/jwt/login", "")),
    ],
)
def test_a_vault_request_is_read_from_its_path(
    method: str, path: str, expected: tuple[Sort, str, str]
) -> None:
    call = vault_call(method, path, {}, b"")
    assert (call.sort, call.kind, call.name) == expected
