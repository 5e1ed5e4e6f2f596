"""Property: whatever is in the spec, the API server and `parse` come to the same verdict."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from sendward.resources.base import Resource
from sendward.resources.kinds import BY_NAME
from sendward.resources.parse import parse
from sendward.resources.schema import Schema, structural
from tests.crds.api import Judge
from tests.crds.cases import MINIMAL, an_object

_EXAMPLES = 60

# Values near the edge of some rule, whichever field they land in.
_DURATIONS = ("1s", "59s", "60s", "1m", "1h", "24h", "25h", "1d", "31d", "90d", "91d", "Never", "0s", "1w")
_NETWORKS = (
    "10.0.0.0/8",
    "10.0.0.0/16",
    "0.0.0.0/0",
    "::/0",
    "10.1.2.3/8",
    "2001:db8::/32",
    "2001:DB8::/32",
    "::ffff:1.2.3.4/128",
    "10.0.0.0",
)
_WORDS = (
    "a",
    "b",
    "send",
    "a.b",
    "A",
    "a" * 41,
    "/",
    "/v1/",
    "/a//b",
    "/..",
    "/to",
    "+12345",
    "é",
    "\x00",
    "30s\n",
)
_TEXTS = st.sampled_from((*_DURATIONS, *_NETWORKS, *_WORDS)) | st.text(max_size=6)
_NUMBERS = st.sampled_from((-1, 0, 1, 2, 8443, 8080, 15021, 65535, 65536, 10_000_001, 2**63, 10**30, 2.0))
_JUNK = (
    st.none()
    | st.booleans()
    | _NUMBERS
    | _TEXTS
    | st.sampled_from((1.5, [], {}, [None], {"": None}, "x" * 400)).map(copy.deepcopy)
)


def _value(schema: Schema) -> st.SearchStrategy[Any]:
    """Values of the right type for a schema, good and bad."""
    match schema["type"]:
        case "object" if "properties" in schema:
            required = schema.get("required", [])
            fields = {name: _value(child) for name, child in schema["properties"].items()}
            return st.fixed_dictionaries(
                {name: fields[name] for name in required},
                optional={name: fields[name] for name in fields if name not in required},
            )
        case "object":
            return st.dictionaries(_TEXTS, _value(schema["additionalProperties"]), max_size=3)
        case "array":
            return st.lists(_value(schema["items"]), max_size=3)
        case _:
            return _scalar(schema)


def _scalar(schema: Schema) -> st.SearchStrategy[Any]:
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if schema["type"] == "boolean":
        return st.booleans()
    if schema["type"] == "integer":
        edges = [schema[bound] for bound in ("minimum", "maximum") if bound in schema]
        return st.sampled_from([*edges, *(edge + 1 for edge in edges)]) | _NUMBERS
    return _TEXTS


def _places(schema: Schema, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Schema]]:
    """Every field below a schema, with its path."""
    found: list[tuple[tuple[str, ...], Schema]] = []
    for name, child in schema.get("properties", {}).items():
        found.append(((*path, name), child))
        found.extend(_places(child, (*path, name)))
    if "items" in schema:
        found.extend(_places(schema["items"], (*path, "0")))
    return found


def _set(node: Any, path: tuple[str, ...], value: Any) -> None:
    """Set a value where the way to it exists; elsewhere leave the spec as it is."""
    for step in path[:-1]:
        if isinstance(node, list):
            if not node:
                return
            node = node[0]
        elif isinstance(node, dict):
            node = node.setdefault(step, {})
        else:
            return
    if isinstance(node, dict):
        node[path[-1]] = value


@st.composite
def _specs(draw: st.DrawFn, kind: str) -> Any:
    """The minimal spec with up to three changes: right type, junk, or an unknown field."""
    schema = structural(BY_NAME[kind].spec)
    spec = copy.deepcopy(MINIMAL[kind])
    for _ in range(draw(st.integers(0, 3))):
        path, child = draw(st.sampled_from(_places(schema)))
        value = draw(st.one_of(_value(child), _value(child), _value(child), _JUNK))
        unknown = draw(st.integers(0, 19)) == 0
        _set(spec, (*path[:-1], "unknown") if unknown else path, value)
    return spec


@pytest.mark.lab
@pytest.mark.parametrize("kind", MINIMAL)
def test_both_judges_agree(kind: str, judge: Judge) -> None:
    verdicts: set[bool] = set()

    @settings(
        max_examples=_EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(_specs(kind))
    def agree(spec: Any) -> None:
        obj = an_object(kind, spec)
        status, body = judge.create(obj)
        assert status in {200, 400, 422}, body
        ours = parse(obj)
        assert isinstance(ours, Resource) == (status == 200), (json.dumps(spec), body.get("message"), ours)
        verdicts.add(status == 200)

    agree()
    assert verdicts == {True, False}, "the examples were all alike: they compared nothing"
