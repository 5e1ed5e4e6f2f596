from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import pytest
import yaml
from pydantic import BaseModel, Field, TypeAdapter

from sendward.resources.base import Model
from sendward.resources.crds import definition, generate, write
from sendward.resources.kinds import KINDS, Kind
from sendward.resources.schema import structural

_COMMITTED = Path(__file__).parents[3] / "crds"
_MAX_BYTES = 200_000
_EACH = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


def _fields(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every node of a schema below its root."""
    children = {f".{name}": child for name, child in schema.get("properties", {}).items()}
    if "items" in schema:
        children["[]"] = schema["items"]
    if "additionalProperties" in schema:
        children["{}"] = schema["additionalProperties"]
    for step, child in children.items():
        yield path + step, child
        yield from _fields(child, path + step)


def _parts(kind: Kind) -> Iterator[tuple[str, dict[str, Any]]]:
    root = definition(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    for part in ("spec", "status"):
        yield part, root["properties"][part]
        yield from _fields(root["properties"][part], part)


def test_the_committed_files_are_the_generated_ones() -> None:
    committed = {path.name: path.read_text(encoding="utf-8") for path in _COMMITTED.glob("*.yaml")}
    assert committed == generate(), "run `make crds` and commit crds/"


def test_write(tmp_path: Path) -> None:
    write(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(generate())


def test_equal_models_give_equal_bytes() -> None:
    assert generate() == generate()


@_EACH
def test_yaml_says_what_was_meant(kind: Kind) -> None:
    assert yaml.safe_load(generate()[f"{kind.plural}.yaml"]) == definition(kind)


@_EACH
def test_size(kind: Kind) -> None:
    assert len(json.dumps(definition(kind))) < _MAX_BYTES
    assert len(generate()[f"{kind.plural}.yaml"].encode()) < _MAX_BYTES


@_EACH
def test_every_field_is_described(kind: Kind) -> None:
    bare = [path for path, schema in _parts(kind) if not schema.get("description")]
    assert bare == []


@_EACH
def test_every_scalar_has_an_example(kind: Kind) -> None:
    """An entry of a list or mapping is shown in the example of its list or mapping."""
    scalars = ((path, schema) for path, schema in _parts(kind) if "properties" not in schema)
    plain = ((path, schema) for path, schema in scalars if not path.endswith(("[]", "{}")))
    lists_of_objects = ("object", "array")
    missing = [
        path
        for path, schema in plain
        if "Example: " not in schema["description"]
        and not (schema["type"] in lists_of_objects and "properties" in schema.get("items", {}))
    ]
    assert missing == []


@_EACH
def test_every_duration_and_count_names_its_unit(kind: Kind) -> None:
    units = (
        "duration",
        "a count",
        "in bytes",
        "in percent",
        "ort",
        "umber",
        "version",
        "Generation",
        "Messages",
    )
    vague = [
        path
        for path, schema in _parts(kind)
        if (schema["type"] == "integer" or "(s|m|h|d)" in schema.get("pattern", ""))
        and not any(unit in schema["description"] for unit in units)
    ]
    assert vague == []


@_EACH
def test_everything_is_bounded(kind: Kind) -> None:
    unbounded = [
        path
        for path, schema in _parts(kind)
        if path.startswith("spec")
        and (
            (schema["type"] == "string" and "enum" not in schema and "maxLength" not in schema)
            or (schema["type"] == "array" and "maxItems" not in schema)
            or (schema["type"] == "integer" and not {"minimum", "maximum"} <= schema.keys())
            or ("additionalProperties" in schema and "maxProperties" not in schema)
        )
    ]
    assert unbounded == []


def _examples(model: type[BaseModel]) -> Iterator[tuple[str, Any, Any]]:
    for name, field in model.model_fields.items():
        annotation = Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
        for example in field.examples or ():
            yield f"{model.__name__}.{name}", annotation, example


def _models(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    yield model
    for child in model.__subclasses__():
        yield from _models(child)


def test_examples_are_accepted() -> None:
    checked = 0
    for model in _models(Model):
        for name, annotation, example in _examples(model):
            checked += 1
            assert TypeAdapter(annotation).validate_python(example) is not None, name
    assert checked > 40


def test_an_unknown_construct_is_refused() -> None:
    class Odd(BaseModel):
        amount: Annotated[float, Field(multiple_of=0.5)]

    with pytest.raises(ValueError, match="multipleOf"):
        structural(Odd)
