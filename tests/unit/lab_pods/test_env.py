from __future__ import annotations

import base64
from typing import Any, Literal

import pytest

from tests.lab.images import Image
from tests.lab.pods.env import ConfigError, argv, environment, expand, field_value, identity

IMAGE = Image(("/bin/tool", "--flag"), {"FROM_IMAGE": "1"}, uid=64017, gid=64017)
POD: dict[str, Any] = {
    "metadata": {
        "name": "gw-0",
        "namespace": "team",
        "uid": "u-1",
        "labels": {"b": 'say "hi"', "a": "x"},
    },
    "spec": {"nodeName": "node", "serviceAccountName": "gw"},
    "status": {"podIP": "10.0.0.9", "podIPs": [{"ip": "10.0.0.9"}]},
}


def source(kind: Literal["Secret", "ConfigMap"], name: str) -> dict[str, Any] | None:
    if name != "known":
        return None
    return {"data": {"k": base64.b64encode(b"secret").decode() if kind == "Secret" else "plain"}}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$(A)", "1"),
        ("x$(A)y$(A)", "x1y1"),
        ("$(UNKNOWN)", "$(UNKNOWN)"),
        ("$$(A)", "$(A)"),
        ("$A ${A} $", "$A ${A} $"),
        ("$$$(A)", "$1"),
    ],
)
def test_expand_follows_kubernetes(text: str, expected: str) -> None:
    assert expand(text, {"A": "1"}) == expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("metadata.name", "gw-0"),
        ("metadata.namespace", "team"),
        ("metadata.uid", "u-1"),
        ("metadata.labels['a']", "x"),
        ("metadata.labels['none']", ""),
        ("metadata.labels", 'a="x"\nb="say \\"hi\\""'),
        ("spec.nodeName", "node"),
        ("spec.serviceAccountName", "gw"),
        ("status.podIP", "10.0.0.9"),
        ("status.podIPs", "10.0.0.9"),
    ],
)
def test_field_values(path: str, expected: str) -> None:
    assert field_value(POD, path) == expected


def test_an_unknown_field_path_is_named() -> None:
    with pytest.raises(ConfigError, match=r"spec\.hostname"):
        field_value(POD, "spec.hostname")


def test_later_variables_win_and_see_earlier_ones() -> None:
    container = {
        "envFrom": [{"configMapRef": {"name": "known"}, "prefix": "C_"}, {"secretRef": {"name": "known"}}],
        "env": [
            {"name": "FROM_IMAGE", "value": "2"},
            {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "BOTH", "value": "$(IP)/$(k)/$(C_k)/$(LATER)"},
            {"name": "LATER", "valueFrom": {"secretKeyRef": {"name": "known", "key": "k"}}},
            {"name": "GONE", "valueFrom": {"secretKeyRef": {"name": "no", "key": "k", "optional": True}}},
        ],
    }
    values = environment(POD, container, IMAGE, {"KUBERNETES_SERVICE_HOST": "h"}, source)
    assert values["FROM_IMAGE"] == "2"
    assert values["BOTH"] == "10.0.0.9/secret/plain/$(LATER)"
    assert values["LATER"] == "secret"
    assert values["KUBERNETES_SERVICE_HOST"] == "h"
    assert "GONE" not in values


@pytest.mark.parametrize(
    ("value_from", "message"),
    [
        ({"secretKeyRef": {"name": "no", "key": "k"}}, 'secret "no" not found'),
        ({"configMapKeyRef": {"name": "known", "key": "z"}}, "find key z"),
        ({"resourceFieldRef": {"resource": "limits.cpu"}}, "resourceFieldRef"),
    ],
)
def test_what_cannot_be_resolved_is_an_error(value_from: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        environment(POD, {"env": [{"name": "X", "valueFrom": value_from}]}, IMAGE, {}, source)


@pytest.mark.parametrize(
    ("container", "expected"),
    [
        ({}, ["/bin/tool", "--flag"]),
        ({"args": ["$(A)"]}, ["/bin/tool", "--flag", "1"]),
        ({"command": ["sh"]}, ["sh"]),
        ({"command": ["sh", "-c"], "args": ["echo $(A)"]}, ["sh", "-c", "echo 1"]),
    ],
)
def test_argv(container: dict[str, Any], expected: list[str]) -> None:
    assert argv(container, IMAGE, {"A": "1"}) == expected


def test_identity_merges_pod_and_container() -> None:
    pod = {"spec": {"securityContext": {"runAsUser": 1, "fsGroup": 5, "supplementalGroups": [6]}}}
    container = {"securityContext": {"runAsUser": 2, "runAsGroup": 3, "capabilities": {"drop": ["ALL"]}}}
    who = identity(pod, container, IMAGE)
    assert (who.uid, who.gid, who.groups, who.capabilities) == (2, 3, (5, 6), ())


def test_capabilities_added_to_none() -> None:
    wanted = {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}
    who = identity({"spec": {}}, {"securityContext": {"capabilities": wanted}}, IMAGE)
    assert who.capabilities == (10,)
    assert who.uid == 64017


def test_root_is_refused_where_it_must_not_be() -> None:
    pod = {"spec": {"securityContext": {"runAsNonRoot": True}}}
    with pytest.raises(ConfigError, match="runAsNonRoot"):
        identity(pod, {}, Image(("x",)))
