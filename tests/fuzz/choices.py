"""Bytes as a sequence of choices, so that one input of a fuzzer describes a structured value."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, TypeVar

from tests.fuzz import hostile

_T = TypeVar("_T")
_TEXTS = (
    *hostile.TEXTS,
    *hostile.NAMES,
    *hostile.CIDRS,
    *hostile.PATHS,
    *hostile.POINTERS,
    *hostile.PATTERNS,
)


class Choices:
    """Reads from the front; after the end every choice is the first one."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        """Bytes that were not read yet."""
        return len(self._data) - self._at

    def number(self, below: int) -> int:
        """A number from 0 up to `below` - 1, at most 65535."""
        value = self.take(1 if below <= 256 else 2)
        return int.from_bytes(value, "big") % below

    def take(self, length: int) -> bytes:
        """The next bytes, fewer at the end."""
        found = self._data[self._at : self._at + length]
        self._at += len(found)
        return found

    def rest(self) -> bytes:
        """All that is left."""
        return self.take(self.left)

    def flip(self) -> bool:
        return self.number(2) == 1

    def pick(self, options: Sequence[_T]) -> _T:
        return options[self.number(len(options))]

    def text(self) -> str:
        """A hostile text, or bytes of the input as text."""
        if self.flip():
            return self.pick(_TEXTS)
        return self.take(self.number(24)).decode("utf-8", "surrogateescape")

    def value(self, depth: int = 3) -> Any:
        """Anything that JSON can hold."""
        match self.number(5):
            case 0:
                return copy.deepcopy(self.pick(hostile.JUNK))
            case 1:
                return self.pick(hostile.NUMBERS)
            case 2 if depth:
                return [self.value(depth - 1) for _ in range(self.number(4))]
            case 3 if depth:
                return {self.text(): self.value(depth - 1) for _ in range(self.number(4))}
            case _:
                return self.text()


def changed(choices: Choices, value: Any) -> Any:
    """A copy of a JSON value with up to three changes: a field set, taken away, or moved to another place."""
    value = copy.deepcopy(value)
    for _ in range(choices.number(4)):
        holders = _holders(value)
        if not holders:
            return choices.value()
        holder = choices.pick(holders)
        if isinstance(holder, dict):
            name = choices.pick([*holder, choices.text()])
            if choices.number(4) == 0:
                holder.pop(name, None)
            else:
                holder[name] = choices.value()
        elif holder and choices.flip():
            holder[choices.number(len(holder))] = choices.value()
        else:
            holder.append(choices.value())
    return value


def _holders(value: Any) -> list[Any]:
    """Every mapping and list in a JSON value, itself first."""
    if not isinstance(value, dict | list):
        return []
    children = list(value.values()) if isinstance(value, dict) else value
    return [value, *(holder for child in children for holder in _holders(child))]
