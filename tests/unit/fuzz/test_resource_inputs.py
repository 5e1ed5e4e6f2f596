"""Hostile texts in every field of every kind: a resource or an `Invalid` whose errors are fit to be shown."""

from __future__ import annotations

import copy
import time
from typing import Any

import pytest

from sendward.resources.base import Invalid, Resource
from sendward.resources.crds import definition
from sendward.resources.kinds import BY_NAME, KINDS
from sendward.resources.parse import MAX_ERRORS, parse
from sendward.resources.schema import Schema, structural
from tests.crds.cases import GATEWAY, MINIMAL, an_object, changed
from tests.fuzz import hostile

TEXTS = sorted({*hostile.TEXTS, *hostile.CIDRS, *hostile.PATHS, *hostile.POINTERS, *hostile.PATTERNS})


def text_fields(schema: Schema, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Every field below a schema that holds a text, with its path; "0" is the first entry of a list."""
    if schema.get("type") == "string":
        return [path]
    found = [
        f for name, child in schema.get("properties", {}).items() for f in text_fields(child, (*path, name))
    ]
    return found + (text_fields(schema["items"], (*path, "0")) if "items" in schema else [])


FIELDS = [(kind.name, path) for kind in KINDS for path in text_fields(structural(kind.spec))]


def placed(node: Any, path: tuple[str, ...], value: str) -> Any:
    """A copy of a spec with the text in its place; what is missing on the way is added."""
    if not path:
        return value
    if path[0] == "0":
        return [placed(node[0] if isinstance(node, list) and node else {}, path[1:], value)]
    fields = dict(node) if isinstance(node, dict) else {}
    return fields | {path[0]: placed(fields.get(path[0]), path[1:], value)}


@pytest.mark.parametrize(
    ("kind", "path"), FIELDS, ids=lambda part: part if isinstance(part, str) else ".".join(part)
)
def test_no_text_reaches_a_message_as_it_is(kind: str, path: tuple[str, ...]) -> None:
    """Statuses are read in terminals, by people, and by what turns YAML into something else."""
    for text in TEXTS:
        found = parse(an_object(kind, placed(copy.deepcopy(MINIMAL[kind]), path, text)))
        if isinstance(found, Invalid):
            assert len(found.errors) <= MAX_ERRORS
            assert all(error.isprintable() and len(error) < 600 for error in found.errors), (
                text,
                found.errors,
            )


@pytest.mark.parametrize(
    "name", ["", "\x00", "a\nb", "{{", "../x", "a/b", "\u202e", "b\u0430nk", "A", "a" * 10_000]
)
@pytest.mark.parametrize("kind", MINIMAL)
def test_a_name_that_is_none_is_refused(kind: str, name: str) -> None:
    found = parse(an_object(kind, MINIMAL[kind], name))
    assert isinstance(found, Invalid)
    assert all(error.isprintable() and len(error) < 600 for error in found.errors)


@pytest.mark.parametrize("name", ["n", "no", "y", "null", "true", "1e3", "0", "0x1", "a" * 40])
@pytest.mark.parametrize("kind", MINIMAL)
def test_a_name_that_yaml_takes_for_something_else_stays_a_text(kind: str, name: str) -> None:
    found = parse(an_object(kind, MINIMAL[kind], name))
    assert isinstance(found, Resource)
    assert found.meta.key.name == name


def _bounds(schema: Schema, path: str) -> list[str]:
    """Fields of a schema without a bound on their size."""
    if not schema:
        return []
    kind = schema.get("type")
    missing = []
    if kind == "string" and "enum" not in schema and "maxLength" not in schema and "format" not in schema:
        missing.append(path)
    if kind == "array" and "maxItems" not in schema:
        missing.append(path)
    if "additionalProperties" in schema and "maxProperties" not in schema:
        missing.append(path)
    children = {**schema.get("properties", {}), "[]": schema.get("items", {})}
    children["{}"] = schema.get("additionalProperties", {})
    return missing + [found for name, child in children.items() for found in _bounds(child, f"{path}.{name}")]


@pytest.mark.parametrize("kind", BY_NAME)
def test_every_field_of_a_spec_is_bounded(kind: str) -> None:
    [version] = definition(BY_NAME[kind])["spec"]["versions"]
    schema = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
    assert _bounds(schema, "spec") == []


@pytest.mark.parametrize("kind", BY_NAME)
def test_no_field_takes_a_pattern_a_url_a_namespaced_reference_or_a_vault_path(kind: str) -> None:
    """No tenant pattern means no ReDoS; no URL no request forgery; no namespace no reach into another."""
    forbidden = (
        "regex",
        "pattern",
        "expression",
        "template",
        "url",
        "uri",
        "endpoint",
        "host",
        "path",
        "lua",
        "namespace",
    )
    # The gateway's own pods dial Redis, within their NetworkPolicy; the operator never does.
    redis = "limits.redis.host"
    allowed = {"http.operations.0.path", "http.operations.0.pathMatch", "metricsNamespace", redis}
    fields = {".".join(path) for path in text_fields(structural(BY_NAME[kind].spec))}
    assert {f for f in fields for word in forbidden if word in f.rpartition(".")[2].lower()} <= allowed


ESCALATIONS: dict[str, dict[str, Any]] = {
    "a Secret of another namespace": {"tls.secretName": "other/tls"},
    "a Secret of another namespace, as a reference": {"tls.secretRef": {"name": "tls", "namespace": "other"}},
    "a Secret by path": {"tls.secretName": "../../other/tls"},
    "a namespace": {"namespace": "other"},
    "a URL": {"tls.secretName": "https://169.254.169.254/latest"},
    "a Vault path": {"tls.vaultPath": "secret/data/../other"},
    "a Vault glob": {"tls.vaultPKI.role": "*"},
    "a metrics namespace by glob": {"metricsNamespace": "*"},
    "every namespace": {"metricsNamespace": ""},
}


@pytest.mark.parametrize("case", ESCALATIONS)
def test_nothing_of_another_namespace_can_be_named(case: str) -> None:
    assert isinstance(parse(changed(GATEWAY, ESCALATIONS[case])), Invalid)


@pytest.mark.parametrize(
    "kind", ["Secret", "ClusterRole", "Namespace", "CustomResourceDefinition", "SenderAccountList"]
)
def test_a_foreign_or_cluster_scoped_kind_is_refused(kind: str) -> None:
    found = parse(an_object(kind, {}) | {"apiVersion": "sendward.io/v1alpha1"})
    assert isinstance(found, Invalid)
    assert f"kind: {kind} is none of" in found.errors[0]


def _cpu(spec: dict[str, Any]) -> float:
    """CPU seconds of the best of three."""
    best = float("inf")
    for _ in range(3):
        started = time.thread_time()
        parse(an_object(GATEWAY, spec))
        best = min(best, time.thread_time() - started)
    return best


@pytest.mark.parametrize("part", ["a", "a-", "a.", "1", "\u0130", "/", "(a+)+", "~0"])
@pytest.mark.parametrize("field", ["tls.secretName", "metricsNamespace", "staleAfter"])
def test_a_longer_text_costs_no_more_than_its_length(field: str, part: str) -> None:
    """Quadratic work would cost 256 times as much for 16 times the text, exponential work never end."""
    short, long = (changed(GATEWAY, {field: part * count + "!"})["spec"] for count in (4000, 64_000))
    assert _cpu(long) < 64 * max(_cpu(short), 0.0005)
