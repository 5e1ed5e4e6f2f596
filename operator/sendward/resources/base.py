"""What all kinds share: strict frozen models, the parsed `Resource`, and `Invalid` as data."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Final, Generic, Self, TypeVar

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler, model_validator
from pydantic.alias_generators import to_camel
from pydantic_core import CoreSchema

from sendward.resources.rules import JsonSchema, Rule, raise_broken, with_validation

_ACRONYMS: Final = (("Cidrs", "CIDRs"), ("Ids", "IDs"), ("Pki", "PKI"))


def _alias(name: str) -> str:
    """YAML name of a field: camelCase, acronyms as Kubernetes writes them."""
    alias = to_camel(name)
    for plain, acronym in _ACRONYMS:
        alias = alias.replace(plain, acronym)
    return f"{alias[:-2]}ID" if alias.endswith("Id") else alias


class Named(BaseModel):
    """Base of specs and statuses: camelCase in YAML, frozen."""

    model_config = ConfigDict(alias_generator=_alias, populate_by_name=True, frozen=True)


class Model(Named):
    """Base of everything in a spec: no unknown fields, `object_rules` hold."""

    model_config = ConfigDict(extra="forbid")

    object_rules: ClassVar[tuple[Rule, ...]] = ()

    @model_validator(mode="after")
    def _obey_rules(self) -> Self:
        raise_broken(self.object_rules, self)
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchema:
        found: dict[str, Any] = handler.resolve_ref_schema(handler(schema))
        for rule in cls.object_rules:
            found = with_validation(found, rule.entry())
        return found


SpecT = TypeVar("SpecT", bound=Model, covariant=True)  # noqa: PLC0105 - reads better without suffix


@dataclass(frozen=True, slots=True)
class ObjectKey:
    """Names one object: kind, namespace, name."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Meta:
    """The metadata that decisions need."""

    key: ObjectKey
    uid: str
    generation: int
    created: datetime
    labels: tuple[tuple[str, str], ...]
    deleting: bool
    finalizers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Resource(Generic[SpecT]):
    """A sound object. Its status is read apart, by `resources.parse.parse_status`."""

    meta: Meta
    spec: SpecT


@dataclass(frozen=True, slots=True)
class Invalid:
    """An object that breaks its schema: data, which denies its subject. `errors` name YAML paths.

    `selector`: the account selector of an invalid policy as far as it can be read, () when it has
    none by design, None when it cannot be read (then it is taken to select every account).
    """

    meta: Meta
    errors: tuple[str, ...]
    selector: tuple[tuple[str, str], ...] | None = None
