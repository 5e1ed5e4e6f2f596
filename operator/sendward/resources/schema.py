"""pydantic models -> structural OpenAPI v3, as the API server demands it.

Structural means: no `$ref`, no `anyOf ... null`, no `additionalProperties: false`; an optional field is
one that is not required. Every description ends with the field's default and an example.
"""

from __future__ import annotations

import json
from typing import Any, Final

from pydantic import BaseModel

from sendward.resources.fields import HINTS
from sendward.resources.rules import VALIDATIONS

Schema = dict[str, Any]

# Copied as they are; whatever else pydantic emits must be dealt with below.
_PLAIN: Final = (
    "type",
    "format",
    "enum",
    "pattern",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
    "required",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    VALIDATIONS,
)
_HANDLED: Final = frozenset(
    {"description", "default", "examples", "properties", "items", "additionalProperties", "title"}
)


def structural(model: type[BaseModel], *, defaults: bool = True) -> Schema:
    """The schema of a model. `defaults=False` leaves all defaults out (the status has only its own)."""
    raw = model.model_json_schema(by_alias=True)
    return _convert(raw, raw.get("$defs", {}), defaults=defaults)


def _convert(node: Schema, definitions: dict[str, Schema], *, defaults: bool) -> Schema:
    node = _without_indirection(node, definitions)
    unknown = node.keys() - set(_PLAIN) - _HANDLED
    if unknown:
        raise ValueError(f"no structural form for {sorted(unknown)} in {node}")
    schema: Schema = {}
    if text := _description(node, with_default=defaults):
        schema["description"] = text
    schema.update({word: node[word] for word in _PLAIN if word in node})
    if node.get("type") == "integer":
        schema["format"] = "int64"
    if hint := HINTS.get(node.get("pattern", "")):
        schema[VALIDATIONS] = [_remedy(node["pattern"], hint), *schema.get(VALIDATIONS, ())]
    if defaults and node.get("default") is not None:
        schema["default"] = _default(node)
    if "properties" in node:
        schema["properties"] = {
            name: _convert(child, definitions, defaults=defaults)
            for name, child in node["properties"].items()
        }
    if "items" in node:
        schema["items"] = _convert(node["items"], definitions, defaults=defaults)
        schema.setdefault("x-kubernetes-list-type", "atomic")
    if isinstance(node.get("additionalProperties"), dict):
        schema["additionalProperties"] = _convert(
            node["additionalProperties"], definitions, defaults=defaults
        )
    return schema


def _without_indirection(node: Schema, definitions: dict[str, Schema]) -> Schema:
    """Follow `$ref`, drop the null branch of an Optional, turn `const` into `enum`; outer words win."""
    node = {word: value for word, value in node.items() if word != "$defs"}
    while True:
        if "$ref" in node:
            target = definitions[node["$ref"].rsplit("/", 1)[1]]
            node = {**target, **{word: value for word, value in node.items() if word != "$ref"}}
        elif "anyOf" in node:
            (branch,) = [branch for branch in node["anyOf"] if branch.get("type") != "null"]
            node = {**branch, **{word: value for word, value in node.items() if word != "anyOf"}}
        elif "const" in node:
            node = {**node, "enum": [node["const"]]}
            del node["const"]
        else:
            return node


def _remedy(pattern: str, hint: str) -> dict[str, str]:
    """The pattern once more, as a rule: for the pattern itself the API server shows no remedy."""
    quoted = pattern.replace("\\", "\\\\").replace("'", "\\'")
    return {"rule": f"self.matches('{quoted}')", "message": hint}


def _default(node: Schema) -> Any:
    """An object's default is `{}`: the API server then fills in the defaults of its fields."""
    return {} if isinstance(node["default"], dict) else node["default"]


def _description(node: Schema, *, with_default: bool) -> str:
    parts = [" ".join(node["description"].split())] if "description" in node else []
    if with_default and node.get("default") is not None and not isinstance(node["default"], dict):
        parts.append(f"Default: {json.dumps(node['default'])}.")
    parts.extend(f"Example: {json.dumps(example)}." for example in node.get("examples", ()))
    return " ".join(parts)
