"""The CustomResourceDefinitions, generated from the models: `crds/` holds this module's output."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import yaml

from sendward.names import API_VERSION, GROUP
from sendward.resources.fields import NAME_PATTERN
from sendward.resources.kinds import CATEGORY, KINDS, Column, Kind
from sendward.resources.rules import VALIDATIONS
from sendward.resources.schema import Schema, structural

_VERSION: Final = API_VERSION.removeprefix(f"{GROUP}/")
_READY: Final = '.status.conditions[?(@.type=="Ready")]'
_COMMON: Final = (
    Column("Ready", f"{_READY}.status", "Whether every sidecar enforces this generation"),
    Column("Reason", f"{_READY}.reason", "Why, in one word"),
)
_AGE: Final = Column("Age", ".metadata.creationTimestamp", "Time since creation", "date")
_MESSAGE: Final = Column("Message", f"{_READY}.message", "Why, in a sentence")
_HEADER: Final = "# Generated from operator/sendward/resources by `make crds`. Do not edit.\n"


def generate() -> dict[str, str]:
    """File name -> YAML text of each definition; equal models give equal bytes."""
    return {f"{kind.plural}.yaml": _HEADER + _dump(definition(kind)) for kind in KINDS}


def write(directory: Path) -> None:
    """Write the definitions into `directory`, which exists."""
    for name, text in generate().items():
        (directory / name).write_text(text, encoding="utf-8")


def definition(kind: Kind) -> Schema:
    """One CustomResourceDefinition."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "names": {
                "kind": kind.name,
                "listKind": f"{kind.name}List",
                "plural": kind.plural,
                "singular": kind.singular,
                "shortNames": [kind.short],
                "categories": [CATEGORY],
            },
            "scope": "Namespaced",
            "versions": [
                {
                    "name": _VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": _columns(kind),
                    "schema": {"openAPIV3Schema": _root(kind)},
                }
            ],
        },
    }


def _columns(kind: Kind) -> list[dict[str, Any]]:
    columns = [_column(column) for column in (*_COMMON, kind.column, _AGE)]
    return [*columns, {**_column(_MESSAGE), "priority": 1}]


def _column(column: Column) -> dict[str, Any]:
    return {
        "name": column.name,
        "type": column.type,
        "jsonPath": column.path,
        "description": column.description,
    }


def _root(kind: Kind) -> Schema:
    status = structural(kind.status, defaults=False)
    # On the status itself: on its field alone the API server would not apply it to a missing status.
    status["default"] = {"observedGeneration": -1}
    return {
        "description": _module_line(kind),
        "type": "object",
        "required": ["spec"],
        VALIDATIONS: [
            {
                "rule": f"self.metadata.name.matches('{NAME_PATTERN}')",
                "message": "metadata.name is too long or has a dot."
                " Write a DNS label: a-z, 0-9 and -, at most 40 characters",
            }
        ],
        "properties": {
            "apiVersion": {"type": "string", "description": f"Always {API_VERSION}."},
            "kind": {"type": "string", "description": f"Always {kind.name}."},
            # The bound is the API server's own; repeated, it bounds the cost of the rule on the name.
            "metadata": {"type": "object", "properties": {"name": {"type": "string", "maxLength": 253}}},
            "spec": structural(kind.spec),
            "status": status,
        },
    }


def _module_line(kind: Kind) -> str:
    return " ".join((kind.spec.__doc__ or "").split())


class _Dumper(yaml.SafeDumper):
    """Without anchors, so that each definition reads from top to bottom."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - the base names it
        return True


def _dump(document: Schema) -> str:
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=110, allow_unicode=True)
