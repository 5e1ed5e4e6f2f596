"""Guards and the hub's account of their shares: messages are read and answered when a test says so."""

from __future__ import annotations

from dataclasses import dataclass, field

from sendward.controller.shares import GatewayShares
from sendward.protocol import Shares


@dataclass
class Guard:
    """What a guard does with the messages: the last one that it read is in force."""

    current: Shares | None = None
    connected: bool = False
    inbox: list[Shares] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)

    def read(self) -> None:
        self.current = self.inbox.pop(0)
        self.answers.append(self.current.round)

    def share(self, subject: str) -> int:
        return self.current.subjects.get(subject, self.current.default) if self.current else 0


class Cluster:
    """Guards and the hub's account of them."""

    def __init__(self) -> None:
        self.hub = GatewayShares(lambda: "word")
        self.guards: dict[str, Guard] = {}
        self.now = 0.0

    def join(self, name: str) -> Guard:
        guard = self.guards[name] = Guard()
        self.connect(name)
        return guard

    def connect(self, name: str) -> None:
        guard = self.guards[name]
        guard.connected = True
        guard.inbox, guard.answers = [], []
        self.hub.connect(name, guard.current)

    def cut(self, name: str) -> None:
        self.guards[name].connected = False
        self.hub.disconnect(name)

    def send(self) -> int:
        messages = self.hub.due()
        for name, message in messages.items():
            self.guards[name].inbox.append(message)
        return len(messages)

    def tick(self) -> None:
        self.now += 1
        self.hub.retarget()
        self.send()

    def settle(self, demand: dict[str, dict[str, int]] | None = None, seconds: int = 20) -> None:
        for _ in range(seconds):
            for name, wanted in (demand or {}).items():
                self.hub.report(name, wanted, self.now, dict.fromkeys(wanted, 100))
            self.tick()
            while any(guard.inbox for guard in self.guards.values() if guard.connected):
                for name, guard in self.guards.items():
                    while guard.connected and guard.inbox:
                        guard.read()
                    while guard.connected and guard.answers:
                        self.hub.acknowledge(name, guard.answers.pop(0))
                self.send()

    def total(self, subject: str) -> int:
        return sum(guard.share(subject) for guard in self.guards.values())
