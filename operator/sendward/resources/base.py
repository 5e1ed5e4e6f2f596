"""What all kinds share: strict frozen models, the parsed `Resource`, and `Invalid` as data."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final, Generic, TypeVar

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


_ACRONYMS: Final = (("Cidrs", "CIDRs"), ("Ids", "IDs"), ("Pki", "PKI"))


def _alias(name: str) -> str:
    """YAML name of a field: camelCase, acronyms as Kubernetes writes them."""
    alias = to_camel(name)
    for plain, acronym in _ACRONYMS:
        alias = alias.replace(plain, acronym)
    return alias


class Model(BaseModel):
    """Base of everything in a spec: camelCase in YAML, frozen, unknown fields refused."""

    model_config = ConfigDict(
        alias_generator=_alias, populate_by_name=True, frozen=True, extra="forbid"
    )


SpecT = TypeVar("SpecT", bound=Model, covariant=True)


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
    """A sound object. `status` is what we last wrote, parsed (see `resources.status`)."""

    meta: Meta
    spec: SpecT


@dataclass(frozen=True, slots=True)
class Invalid:
    """An object that breaks its schema: data, which denies its subject. `errors` name YAML paths."""

    meta: Meta
    errors: tuple[str, ...]
