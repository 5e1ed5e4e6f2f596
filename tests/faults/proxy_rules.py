"""Rules of the tamper proxy, as data, and the ledger of what came by."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from tests.faults.proxy_calls import Call, Server, Sort

Hook = Callable[[Call], Awaitable[None] | None]


@dataclass(slots=True)
class Rule:
    """What befalls the next `times` calls (None: all) that `matches` picks; in the order of the fields."""

    matches: Callable[[Call], bool]
    times: int | None = 1
    hold: asyncio.Event | None = None  # the call waits until it is set
    delay: float = 0.0  # seconds
    before: Hook | None = None
    reset: bool = False  # the connection breaks, the server never sees the call
    answer: int = 0  # this status in place of the server, which never sees the call
    retry_after: str = ""  # with `answer`
    body: bytes = b""  # with `answer`; default: a Status object, or Vault's `errors`
    twice: bool = False  # the server sees the call twice, the client gets the first answer
    after: Hook | None = None
    lose: bool = False  # the connection breaks after the server carried the call out


@dataclass(frozen=True, slots=True)
class Event:
    """One line of a watch. `kind` is the plural resource name of the watch."""

    kind: str
    type: str
    namespace: str
    name: str
    line: bytes


@dataclass(slots=True)
class WatchRule:
    """What befalls the next `times` watch events (None: all) that `matches` picks.

    A held or delayed event holds up those behind it, as a stream does. "swap" sends it after the next
    one; "cut" ends the stream in its place.
    """

    matches: Callable[[Event], bool]
    act: Literal["pass", "drop", "double", "swap", "cut"] = "pass"
    times: int | None = 1
    hold: asyncio.Event | None = None
    delay: float = 0.0  # seconds


def call_number(number: int) -> Callable[[Call], bool]:
    """The call with this number."""
    return lambda call: call.number == number


def calls_to(
    kind: str = "",
    *,
    method: str = "",
    name: str = "",
    server: Server | None = None,
    sort: Sort | None = None,
) -> Callable[[Call], bool]:
    """Calls of which everything that is given is true."""

    def matches(call: Call) -> bool:
        wanted = ((kind, call.kind), (method, call.method), (name, call.name), (server, call.server))
        return all(not want or want == have for want, have in wanted) and sort in (None, call.sort)

    return matches


@dataclass(slots=True)
class Ledger:
    """What came by, oldest first, and what shall happen. `counts` says which calls get a number."""

    rules: list[Rule] = field(default_factory=list)
    watch_rules: list[WatchRule] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    counts: Callable[[Call], bool] = lambda call: call.sort is Sort.MUTATION
    numbered: int = 0

    def clear(self) -> None:
        """Forget calls and rules; numbers start at 1 again."""
        self.rules.clear()
        self.watch_rules.clear()
        self.calls.clear()
        self.numbered = 0

    @property
    def mutations(self) -> list[Call]:
        """The calls that have a number."""
        return [call for call in self.calls if call.number]

    def note(self, call: Call) -> None:
        """Number and record a call."""
        if self.counts(call):
            self.numbered += 1
            call.number = self.numbered
        self.calls.append(call)

    def rule(self, call: Call) -> Rule | None:
        """The rule for a call, used up once more."""
        return _use(next((r for r in self.rules if r.times != 0 and r.matches(call)), None))

    def watch_rule(self, event: Event) -> WatchRule | None:
        """The rule for a watch event, used up once more."""
        return _use(next((r for r in self.watch_rules if r.times != 0 and r.matches(event)), None))


_R = TypeVar("_R", Rule, WatchRule)


def _use(rule: _R | None) -> _R | None:
    if rule is not None and rule.times is not None:
        rule.times -= 1
    return rule
