"""What stands in a volume: the files of secret, configMap, downwardAPI and projected volumes. Pure."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tests.lab.pods.env import field_value

Kind = Literal["Secret", "ConfigMap"]
Lookup = Callable[[Kind, str], Mapping[str, Any] | None]
Token = Callable[[Mapping[str, Any]], str]

DEFAULT_MODE = 0o644


class MissingSourceError(Exception):
    """A Secret, ConfigMap or key that is not optional does not exist: the pod has to wait."""


@dataclass(frozen=True)
class File:
    """Content and permission bits of one file."""

    data: bytes
    mode: int


Payload = dict[str, File]  # path below the volume, with "/" between its parts


def references(volume: Mapping[str, Any]) -> Iterator[tuple[Kind, str]]:
    """The Secrets and ConfigMaps that a volume reads."""
    if "secret" in volume:
        yield "Secret", str(volume["secret"]["secretName"])
    if "configMap" in volume:
        yield "ConfigMap", str(volume["configMap"]["name"])
    for source in (volume.get("projected") or {}).get("sources") or ():
        if "secret" in source:
            yield "Secret", str(source["secret"]["name"])
        if "configMap" in source:
            yield "ConfigMap", str(source["configMap"]["name"])


def payload(volume: Mapping[str, Any], pod: Mapping[str, Any], lookup: Lookup, token: Token) -> Payload:
    """All files of one volume. Raises MissingSourceError, or ConfigError for an unknown field path."""
    if "secret" in volume:
        source = volume["secret"]
        return _object_files("Secret", source["secretName"], source, _mode(source), lookup)
    if "configMap" in volume:
        source = volume["configMap"]
        return _object_files("ConfigMap", source["name"], source, _mode(source), lookup)
    if "downwardAPI" in volume:
        source = volume["downwardAPI"]
        return _downward(source, pod, _mode(source))
    files: Payload = {}
    mode = _mode(volume["projected"])
    for source in volume["projected"].get("sources") or ():
        files.update(_projection(source, pod, mode, lookup, token))
    return files


def _projection(
    source: Mapping[str, Any], pod: Mapping[str, Any], mode: int, lookup: Lookup, token: Token
) -> Payload:
    if "secret" in source:
        return _object_files("Secret", source["secret"]["name"], source["secret"], mode, lookup)
    if "configMap" in source:
        return _object_files("ConfigMap", source["configMap"]["name"], source["configMap"], mode, lookup)
    if "downwardAPI" in source:
        return _downward(source["downwardAPI"], pod, mode)
    wanted = source["serviceAccountToken"]
    return {str(wanted["path"]): File(token(wanted).encode(), mode)}


def _mode(source: Mapping[str, Any]) -> int:
    return int(source.get("defaultMode", DEFAULT_MODE))


def _object_files(kind: Kind, name: str, source: Mapping[str, Any], mode: int, lookup: Lookup) -> Payload:
    optional = bool(source.get("optional"))
    found = lookup(kind, name)
    if found is None:
        if optional:
            return {}
        raise MissingSourceError(f'{kind.lower()} "{name}" not found')
    content = _content(kind, found)
    items = source.get("items")
    if not items:
        return {key: File(data, mode) for key, data in content.items()}
    files: Payload = {}
    for item in items:
        if item["key"] in content:
            files[str(item["path"])] = File(content[item["key"]], int(item.get("mode", mode)))
        elif not optional:
            raise MissingSourceError(f'{kind.lower()} "{name}" has no key {item["key"]!r}')
    return files


def _content(kind: Kind, found: Mapping[str, Any]) -> dict[str, bytes]:
    data = found.get("data") or {}
    if kind == "Secret":
        return {key: base64.b64decode(value) for key, value in data.items()}
    binary = found.get("binaryData") or {}
    return {key: value.encode() for key, value in data.items()} | {
        key: base64.b64decode(value) for key, value in binary.items()
    }


def _downward(source: Mapping[str, Any], pod: Mapping[str, Any], mode: int) -> Payload:
    files: Payload = {}
    for item in source.get("items") or ():
        path = (item.get("fieldRef") or {}).get("fieldPath", "resourceFieldRef")
        files[str(item["path"])] = File(field_value(pod, path).encode(), int(item.get("mode", mode)))
    return files
