"""dict -> `Resource` or `Invalid`: the only door from YAML into the typed world.

Nothing here raises, whatever stands in the object: a fault of the user is data. Errors name the YAML
path as the user typed it, and the remedy; they quote at most 80 characters of a value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from difflib import get_close_matches
from functools import cache
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from sendward.names import API_VERSION
from sendward.resources.base import Invalid, Meta, Model, Named, ObjectKey, Resource
from sendward.resources.fields import HINTS, NAME_PATTERN, is_name
from sendward.resources.kinds import BY_NAME
from sendward.resources.rules import BROKEN
from sendward.resources.schema import Schema, structural
from sendward.resources.status import Status

MAX_ERRORS: Final = 20  # of one object; a status or a terminal shows no more
_MAX_QUOTE: Final = 80
_LONG_AGO: Final = datetime(1970, 1, 1, tzinfo=UTC)  # of objects that were never created: files


def parse(obj: Mapping[str, Any]) -> Resource[Model] | Invalid:
    """An object of one of our kinds, as the API server or a YAML file has it. Never raises."""
    errors: list[str] = []
    meta = _meta(obj, errors)
    kind = BY_NAME.get(meta.key.kind)
    if kind is None:
        errors.append(f"kind: {_quote(meta.key.kind)} is none of {', '.join(BY_NAME)}")
        return Invalid(meta, tuple(errors))
    if _get(obj, "apiVersion") != API_VERSION:
        errors.append(f"apiVersion: {_quote(_get(obj, 'apiVersion'))} is not served. Write {API_VERSION}")
    spec = _spec(kind.spec, _get(obj, "spec"), errors)
    if spec is None or errors:
        return Invalid(meta, tuple(errors[:MAX_ERRORS]), _selector(_get(obj, "spec")))
    return Resource(meta, spec)


def parse_status(kind: str, obj: Mapping[str, Any]) -> Status:
    """What we last wrote into the status; an unreadable or missing one is empty. Never raises.

    `kind` must be one of `kinds.BY_NAME`.
    """
    model = BY_NAME[kind].status
    status = _get(obj, "status")
    if status is None:
        return model()
    try:
        return model.model_validate(status, by_alias=True, by_name=False)
    except ValidationError:
        return _mended(model, status)


def _mended(model: type[Status], status: object) -> Status:
    """One that somebody else wrote: nulls count as absent, as in a spec."""
    try:
        return model.model_validate(_normal(status, _schema(model)), by_alias=True, by_name=False)
    except ValidationError:
        return model()


@dataclass(slots=True)
class _Fields:
    """Reads fields of the metadata; a value of a wrong type is an error and counts as absent."""

    values: object
    errors: list[str] = field(default_factory=list)

    def text(self, name: str) -> str:
        value = _get(self.values, name)
        if isinstance(value, str) and value.isprintable():  # half a surrogate could not be written anywhere
            return value
        if value is not None:
            self.errors.append(f"metadata.{name}: {_quote(value)} is no text")
        return ""

    def time(self, name: str) -> datetime | None:
        value = _get(self.values, name)
        if value is None:
            return None
        try:
            moment = value if isinstance(value, datetime) else datetime.fromisoformat(value)
        except (TypeError, ValueError):
            self.errors.append(f"metadata.{name}: {_quote(value)} is no time")
            return None
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment

    def generation(self) -> int:
        value = _get(self.values, "generation")
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        if value is not None:
            self.errors.append(f"metadata.generation: {_quote(value)} is no whole number")
        return 0

    def labels(self) -> tuple[tuple[str, str], ...]:
        value = _get(self.values, "labels")
        if value is None:
            return ()
        if not isinstance(value, Mapping):
            self.errors.append("metadata.labels: is no mapping")
            return ()
        pairs = [(key, text) for key, text in value.items() if isinstance(key, str) and isinstance(text, str)]
        if len(pairs) < len(value):
            self.errors.append('metadata.labels: has a value that is no text. Quote it: "1", "true"')
        return tuple(sorted(pairs))

    def finalizers(self) -> tuple[str, ...]:
        value = _get(self.values, "finalizers")
        return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list) else ()


@cache
def _schema(model: type[Named]) -> Schema:
    return structural(model)


def _meta(obj: object, errors: list[str]) -> Meta:
    metadata = _get(obj, "metadata")
    fields = _Fields(metadata, errors)
    kind = _get(obj, "kind")
    name = fields.text("name")
    if not isinstance(metadata, Mapping):
        errors.append("metadata: is missing. Add it, with a name")
    elif not is_name(name):
        errors.append(f"metadata.name: {_quote(name)} {HINTS[NAME_PATTERN]}")
    return Meta(
        key=ObjectKey(kind if isinstance(kind, str) else "", fields.text("namespace"), name),
        uid=fields.text("uid"),
        generation=fields.generation(),
        created=fields.time("creationTimestamp") or _LONG_AGO,
        labels=fields.labels(),
        deleting=_get(metadata, "deletionTimestamp") is not None,
        finalizers=fields.finalizers(),
    )


def _spec(model: type[Model], spec: object, errors: list[str]) -> Model | None:
    if spec is None:
        errors.append("spec: is missing. Add it")
        return None
    try:
        return model.model_validate(_normal(spec, _schema(model)), strict=True, by_alias=True, by_name=False)
    except ValidationError as invalid:
        for error in invalid.errors(include_url=False):
            errors.extend(_explain(error, _schema(model)))
        return None


def _selector(spec: object) -> tuple[tuple[str, str], ...] | None:
    """The account selector of an invalid policy: see `Invalid.selector`."""
    if not isinstance(spec, Mapping):
        return None
    selector = spec.get("accountSelector")
    if selector is None:
        return ()
    pairs = _get(selector, "matchLabels")
    if not isinstance(pairs, Mapping) or not pairs:
        return None
    if not all(isinstance(key, str) and isinstance(value, str) for key, value in pairs.items()):
        return None
    return tuple(sorted(pairs.items()))


def _explain(error: ErrorDetails, schema: Schema) -> list[str]:
    """One or more lines, "path: what is wrong. Remedy"."""
    path = "spec" + "".join(_step(part) for part in error["loc"] if part != "[key]")
    context = error.get("ctx", {})
    match error["type"]:
        case kind if kind == BROKEN:
            # A message may repeat the value.
            return [
                f"{path}.{name}: {_printable(text)}" if name else f"{path}: {_printable(text)}"
                for name, text in context["broken"]
            ]
        case "extra_forbidden":
            return [f"{path}: is no field of this kind.{_nearest(error['loc'], schema)}"]
        case "missing":
            return [f"{path}: is missing. Add it"]
        case "string_pattern_mismatch":
            hint = HINTS.get(context["pattern"], f"does not match {context['pattern']}")
            return [f"{path}: {_quote(error['input'])} {hint}"]
        case _:
            value = error["input"]
            shown = f'the text "{_short(value)}"' if isinstance(value, str) else _quote(value)
            return [f"{path}: {shown} is not accepted. {error['msg']}"]


def _step(part: str | int) -> str:
    return f"[{part}]" if isinstance(part, int) else f".{_short(part)}"


def _nearest(location: tuple[str | int, ...], schema: Schema) -> str:
    """The remedy for a misspelt field: the field that looks most like it."""
    for part in location[:-1]:
        schema = (
            schema.get("items", {}) if isinstance(part, int) else schema.get("properties", {}).get(part, {})
        )
    fields = {name.lower(): name for name in schema.get("properties", {})}
    word = str(location[-1]).replace("_", "").lower()
    close = get_close_matches(word[:_MAX_QUOTE], fields, n=1)
    return f" Write {fields[close[0]]}" if close else " Remove it"


def _get(obj: object, name: str) -> Any:
    return obj.get(name) if isinstance(obj, Mapping) else None


def _normal(value: object, schema: Schema) -> object:
    """As the API server reads it: a null in a known field counts as absent, 1.0 in a whole number as 1.

    It goes no deeper than the schema, whatever the depth of the value.
    """
    if isinstance(value, Mapping):
        fields, others = schema.get("properties", {}), schema.get("additionalProperties")
        known = {name: fields.get(name, others) for name in value}
        return {
            name: item if known[name] is None else _normal(item, known[name])
            for name, item in value.items()
            if item is not None or known[name] is None
        }
    if isinstance(value, list) and "items" in schema:
        return [_normal(item, schema["items"]) for item in value]
    if isinstance(value, float) and schema.get("type") == "integer" and value.is_integer():
        return int(value)
    return value


def _quote(value: object) -> str:
    if isinstance(value, str):
        return _short(value) or "the empty text"
    return f"a {type(value).__name__}" if isinstance(value, Mapping | list) else _short(_text(value))


def _text(value: object) -> str:
    """A scalar as YAML writes it."""
    if value is None or isinstance(value, bool):
        return str(value).lower() if value is not None else "null"
    try:
        return str(value)
    except ValueError:  # an integer beyond the limit of digits
        return "a huge number"


def _short(text: str) -> str:
    """Printable, on one line, at most 80 characters."""
    return _printable(text if len(text) <= _MAX_QUOTE else text[:_MAX_QUOTE] + "...")


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "replace").decode() for c in text)
