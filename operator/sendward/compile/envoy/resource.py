"""Building blocks of Envoy's JSON."""

from __future__ import annotations

from typing import Final

from sendward.resources.fields import seconds

Json = dict[str, object]

_TYPE_PREFIX: Final = "type.googleapis.com/"


def typed(type_name: str, **fields: object) -> Json:
    """A message with its "@type"; `type_name` is the protobuf name."""
    return {"@type": _TYPE_PREFIX + type_name, **fields}


def extension(name: str, type_name: str, **fields: object) -> Json:
    """A named extension with its typed configuration."""
    return {"name": name, "typed_config": typed(type_name, **fields)}


def duration(text: str, extra: int = 0) -> str:
    """A protobuf duration from one of ours (`15s`, `2m`), plus `extra` seconds."""
    return f"{seconds(text) + extra}s"
