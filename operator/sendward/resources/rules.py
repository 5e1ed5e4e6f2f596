"""Rules on one object, said twice in one place: in CEL for the API server, in Python for `parse`.

A `Rule` stands either in `Annotated[...]` (then it is about that value) or in a model's `object_rules` (then
it is about the fields of that model). `tests/crds` holds both sides against a real API server.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Final

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

VALIDATIONS: Final = "x-kubernetes-validations"
BROKEN: Final = "broken_rules"  # pydantic error type; ctx["broken"] holds (YAML field, message) pairs
JsonSchema = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Rule:
    """`cel` and `holds` mean the same. `message` names the remedy, `field` the YAML field it is about.

    `describe` and `message_cel`, where given, make a message out of the offending value.
    """

    cel: str
    message: str
    holds: Callable[[Any], bool]
    field: str = ""
    describe: Callable[[Any], str] | None = None
    message_cel: str = ""

    def broken_by(self, value: object) -> tuple[str, str] | None:
        """(field, message), or None when the rule holds."""
        if self.holds(value):
            return None
        return self.field, self.describe(value) if self.describe else self.message

    def entry(self) -> dict[str, str]:
        """The rule as an entry of `x-kubernetes-validations`."""
        entry = {"rule": self.cel, "message": self.message}
        if self.message_cel:
            entry["messageExpression"] = self.message_cel
        if self.field:
            entry["fieldPath"] = f".{self.field}"
        return entry

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchema:
        return with_validation(handler(schema), self.entry())

    def _check(self, value: Any) -> Any:
        raise_broken((self,), value)
        return value


@dataclass(frozen=True, slots=True)
class Transition:
    """A rule on an update, which only the API server can judge (`oldSelf`)."""

    cel: str
    message: str

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchema:
        return with_validation(handler(schema), {"rule": self.cel, "message": self.message})


@dataclass(frozen=True, slots=True)
class Unique:
    """No two entries of a list are equal, or agree in `key` (a required field of each entry)."""

    key: str = ""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchema:
        kind = {"x-kubernetes-list-type": "set"}
        if self.key:
            kind = {"x-kubernetes-list-type": "map"}
        keys = {"x-kubernetes-list-map-keys": [self.key]} if self.key else {}
        return {**handler(schema), **kind, **keys}

    def _check(self, values: list[Any]) -> list[Any]:
        seen: set[Hashable] = set()
        broken: list[tuple[str, str]] = []
        for value in values:
            key = getattr(value, self.key) if self.key else value
            if key in seen:
                broken.append(("", f"{key} stands more than once. Remove one of them"))
            seen.add(key)
        if broken:
            raise PydanticCustomError(BROKEN, "duplicate entries", {"broken": broken})
        return values


def with_validation(schema: JsonSchema, entry: dict[str, str]) -> JsonSchema:
    """A copy of `schema` with one more rule."""
    return {**schema, VALIDATIONS: [*schema.get(VALIDATIONS, ()), entry]}


def raise_broken(rules: tuple[Rule, ...], value: object) -> None:
    """Raises the pydantic error that carries every broken rule."""
    broken = [found for rule in rules if (found := rule.broken_by(value)) is not None]
    if broken:
        raise PydanticCustomError(BROKEN, "rules are broken", {"broken": broken})


def cel_seconds(value: str) -> str:
    """CEL for the seconds of a duration: the API server's own `duration()` knows no days."""
    last = f"size({value}) - 1"
    units = "{'s': 1, 'm': 60, 'h': 3600, 'd': 86400}"
    return f"int({value}.substring(0, {last})) * {units}[{value}.substring({last})]"


def cel_is_duration(value: str) -> str:
    """CEL that keeps `cel_seconds` from failing on other text, which the field's own pattern refuses."""
    return f"{value}.matches('^[0-9]+[smhd]$')"


def cel_compare(left: str, relation: str, right: str | int) -> str:
    """CEL that two durations stand in a relation (`right` may be seconds); true unless both are durations."""
    if isinstance(right, int):
        return f"!{cel_is_duration(left)} || {cel_seconds(left)} {relation} {right}"
    both = f"!{cel_is_duration(left)} || !{cel_is_duration(right)}"
    return f"{both} || {cel_seconds(left)} {relation} {cel_seconds(right)}"
