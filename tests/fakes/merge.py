"""Server-side apply and JSON patch, as far as the operator uses them."""

from __future__ import annotations

import copy
from typing import Any

Object = dict[str, Any]


class PatchFailedError(Exception):
    """The patch does not fit the object."""


def apply(current: Object, before: Object, wanted: Object) -> Object:
    """`current` with the manager's fields of `before` replaced by those of `wanted`.

    Maps merge key by key; lists of objects with a `type` merge by it, as conditions do, and finalizers
    as a set; every other list is replaced whole.
    """
    result = copy.deepcopy(current)
    _remove(result, before, wanted)
    _merge(result, wanted)
    return result


def _remove(target: Object, before: Object, wanted: Object) -> None:
    for key, value in before.items():
        if key not in target:
            continue
        if isinstance(value, dict) and isinstance(target[key], dict):
            _remove(target[key], value, wanted.get(key) or {})
            if key not in wanted and not target[key]:
                del target[key]
        elif _is_map_list(value) or key == "finalizers":
            kept = [_entry(one) for one in wanted.get(key) or []]
            owned = [_entry(one) for one in value]
            target[key] = [one for one in target[key] if _entry(one) in kept or _entry(one) not in owned]
        elif key not in wanted:
            del target[key]


def _merge(target: Object, wanted: Object) -> None:
    for key, value in wanted.items():
        if isinstance(value, dict) and isinstance(target.get(key), dict):
            _merge(target[key], value)
        elif (_is_map_list(value) or key == "finalizers") and target.get(key):
            place = {_entry(one): n for n, one in enumerate(target[key])}
            for one in value:
                if _entry(one) in place:
                    target[key][place[_entry(one)]] = copy.deepcopy(one)
                else:
                    target[key].append(copy.deepcopy(one))
        else:
            target[key] = copy.deepcopy(value)


def _is_map_list(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(v, dict) and "type" in v for v in value)


def _entry(one: Any) -> str:
    return str(one["type"]) if isinstance(one, dict) else str(one)


def merge_patch(current: Object, patch: Object) -> Object:
    """RFC 7386."""
    result = copy.deepcopy(current)
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict):
            result[key] = merge_patch(result[key] if isinstance(result.get(key), dict) else {}, value)
        else:
            result[key] = copy.deepcopy(value)
    return result


def json_patch(current: Object, operations: list[Object]) -> Object:
    """RFC 6902 with test, add, replace and remove; raises PatchFailedError."""
    result = copy.deepcopy(current)
    for operation in operations:
        *folders, last = [
            part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]
        ]
        try:
            place: Any = result
            for folder in folders:
                place = place[int(folder)] if isinstance(place, list) else place[folder]
            _operate(place, last, operation)
        except (KeyError, IndexError, ValueError, TypeError):
            raise PatchFailedError(operation["path"]) from None
    return result


def _operate(place: Any, last: str, operation: Object) -> None:
    key: Any = int(last) if isinstance(place, list) and last != "-" else last
    match operation["op"]:
        case "test":
            if place[key] != operation["value"]:
                raise PatchFailedError(operation["path"])
        case "add" if isinstance(place, list):
            place.insert(len(place) if key == "-" else key, operation["value"])
        case "add":
            place[key] = operation["value"]
        case "replace":
            place[key]  # must be there
            place[key] = operation["value"]
        case "remove":
            del place[key]
        case other:
            raise PatchFailedError(f"operation {other}")
