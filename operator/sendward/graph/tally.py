"""How many objects have which conditions: kept up to date object by object, so that asking costs nothing."""

from __future__ import annotations

from collections import Counter
from typing import Final

import msgspec

Shape = tuple[tuple[str, str], ...]  # type and status of each condition
NO_CONDITIONS: Final[Shape] = ()


class _Condition(msgspec.Struct):
    type: str
    status: str


class _Status(msgspec.Struct):
    conditions: list[_Condition] = []


_DECODER: Final = msgspec.json.Decoder(_Status)


class Tally:
    """Few shapes are in use at a time, so each is kept once."""

    def __init__(self) -> None:
        self._shapes: dict[Shape, Shape] = {}
        self._objects: Counter[tuple[str, Shape]] = Counter()

    def shape(self, status: bytes) -> Shape:
        """Of a status as JSON. `status` is our own encoding of it, or empty."""
        if not status:
            return NO_CONDITIONS
        found = tuple((one.type, one.status) for one in _DECODER.decode(status).conditions)
        return self._shapes.setdefault(found, found)

    def move(self, kind: str, before: Shape | None, after: Shape | None) -> None:
        """An object changed from one shape to another; None: it was not there, or is not any more."""
        if before is not None:
            self._objects[kind, before] -= 1
            if not self._objects[kind, before]:
                del self._objects[kind, before]
        if after is not None:
            self._objects[kind, after] += 1

    def conditions(self) -> Counter[tuple[str, str, str]]:
        """Objects by kind, type of condition, and status."""
        found: Counter[tuple[str, str, str]] = Counter()
        for (kind, shape), count in self._objects.items():
            for type_, status in shape:
                found[kind, type_, status] += count
        return found
