"""What the admission policies are written with: rules, variables and CEL literals."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final

from sendward import names

Object = dict[str, Any]
ONBOARDED: Final = {"matchLabels": {names.LABEL_ONBOARDED: "true"}}
LABELLED: Final = {"matchExpressions": [{"key": names.LABEL_GATEWAY, "operator": "Exists"}]}


def rule(operations: list[str], resources: list[str]) -> Object:
    """Operations on resources of the core group."""
    return {"apiGroups": [""], "apiVersions": ["v1"], "operations": operations, "resources": resources}


def constraints(*rules: Object, labelled: bool = True) -> Object:
    """Where a policy holds: in onboarded namespaces, and, if `labelled`, for pods of a gateway."""
    selector = {"objectSelector": LABELLED} if labelled else {}
    return {
        "matchPolicy": "Equivalent",
        "namespaceSelector": ONBOARDED,
        **selector,
        "resourceRules": list(rules),
    }


def variables(**expressions: str) -> list[Object]:
    """Each may use those before it as `variables.<name>`; evaluated when first used."""
    return [{"name": name, "expression": expression} for name, expression in expressions.items()]


def validation(message: str, *conditions: str) -> Object:
    """All conditions hold, or the request is refused with `message`."""
    expression = " && ".join(f"({condition})" for condition in conditions)
    return {"expression": expression, "message": message, "reason": "Forbidden"}


def strings(values: Iterable[str]) -> str:
    """A list literal; JSON strings are CEL strings."""
    return json.dumps(list(values))


def string(value: str) -> str:
    """A string literal."""
    return json.dumps(value)


OURS: Final = strings([names.GUARD_CONTAINER, names.PROXY_CONTAINER])
GATEWAY: Final = f"object.metadata.?labels[?{string(names.LABEL_GATEWAY)}].orValue('')"
