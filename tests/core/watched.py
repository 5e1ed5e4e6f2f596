"""A `World` that is judged after everything that happens in it, with a Vault that fails by rule."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sendward import names
from sendward.apply.ports import KVValue
from sendward.controller.vault_audit import VaultAudit
from sendward.errors import SendwardError
from tests.core.harness import TENANT_UID, SimulatedClock, SimulatedGuard, World
from tests.core.test_key_life import GATEWAY
from tests.fakes.memory import MemoryVault
from tests.fakes.vault import Entry

Fails = Callable[[str, str], SendwardError | None]
"""(operation, path) to the error that Vault answers, None to be carried out."""

POLICY: dict[str, Any] = {"rotation": {"every": "30d", "jitterPercent": 0, "overlap": "24h"}}


def healthy(_operation: str, _path: str) -> None:
    """Vault as it should be."""


@dataclass
class FaultyVault(MemoryVault):
    """`refuses` fails a call before it is carried out, `loses` after."""

    refuses: Fails = healthy
    loses: Fails = healthy
    hangs: str = ""  # this operation never ends
    operations: list[str] = field(default_factory=list)

    def _meet(self, operation: str, path: str) -> None:
        self.operations.append(operation)
        if error := self.refuses(operation, path):
            raise error

    def _part(self, operation: str, path: str) -> None:
        if error := self.loses(operation, path):
            raise error

    async def random(self, count: int) -> bytes:
        self._meet("random", "")
        drawn = await super().random(count)
        self._part("random", "")
        return drawn

    async def kv_write(self, path: str, data: Mapping[str, str], cas: int) -> int:
        self._meet("kv-write", path)
        number = await super().kv_write(path, data, cas)
        self._part("kv-write", path)
        return number

    async def kv_read(self, path: str, version: int = 0) -> KVValue | None:
        self._meet("kv-read", path)
        return await super().kv_read(path, version)

    async def kv_destroy(self, path: str, versions: list[int]) -> None:
        self._meet("kv-destroy", path)
        if self.hangs == "kv-destroy":
            await asyncio.Event().wait()
        await super().kv_destroy(path, versions)
        self._part("kv-destroy", path)

    async def kv_delete(self, path: str) -> None:
        self._meet("kv-delete", path)
        await super().kv_delete(path)
        self._part("kv-delete", path)

    async def kv_list(self, prefix: str) -> list[str]:
        self._meet("kv-list", prefix)
        return await super().kv_list(prefix)

    def heal(self) -> None:
        """No fault any more."""
        self.refuses = self.loses = healthy


@dataclass
class SkewedClock(SimulatedClock):
    """`ahead` of the true time, which passes evenly; the monotonic clock knows nothing of it."""

    ahead: timedelta = timedelta()

    def now(self) -> datetime:
        return self.moment + self.ahead


class Watched(World):
    """One account `bank` with the keys that a test declares. `keep` and `refuse` hold version ids that
    every guard must accept, or must not, at every instant from now on.
    """

    def __init__(self) -> None:
        self.keep: set[str] = set()
        self.refuse: set[str] = set()
        self.numbers: dict[tuple[str, int], str] = {}
        self.guards_ahead = timedelta()
        super().__init__()
        self.faulty = FaultyVault()
        self.vault = self.faulty
        self.skewed = SkewedClock()  # the operator's
        self.clock = self.skewed
        self.start()
        self.put("MessagingGateway", "sms", GATEWAY)
        self.put("APIKeyPolicy", "std", POLICY)
        self.put("SenderAccount", "bank", {"gateways": ["sms"]})

    def declare(self, key: str = "k", **spec: Any) -> None:
        """A user creates an API key."""
        self.put("APIKey", key, {"account": "bank", "policy": "std", **spec})

    def audit(self) -> None:
        """A round of the comparison of Vault with what is recorded, as every ten minutes."""
        audit = VaultAudit(self.vault, self.store, self.steps, self.dirty.mark)
        self.loop.run_until_complete(audit.run())
        self.settle()

    # --- after everything that happens -------------------------------------------------------------

    def deliver(self) -> bool:
        return self._judged(super().deliver())

    def work_pass(self) -> bool:
        return self._judged(super().work_pass())

    def work_job(self) -> bool:
        return self._judged(super().work_job())

    def take(self, guard: SimulatedGuard) -> bool:
        return self._judged(super().take(guard))

    def _judged(self, moved: bool) -> bool:
        now = self.clock.moment + self.guards_ahead
        for guard in self.guards:
            for version in self.keep:
                assert guard.accepts("bank", version, now), f"{version} is cut off"
            for version in self.refuse:
                assert not guard.accepts("bank", version, now), f"{version} is accepted"
        for key in ("k", "other"):
            self._judge_records(key)
        return moved

    def _judge_records(self, key: str) -> None:
        """One version a number for ever (I7)."""
        if self.exists("APIKey", key):
            for version in self.status("APIKey", key).get("versions", []):
                slot = (key, version["number"])
                assert self.numbers.setdefault(slot, version["id"]) == version["id"]

    def wait(self, span: timedelta, *, every: timedelta = timedelta(hours=1)) -> None:
        """Time passes in steps, and all that can happen happens."""
        end = self.clock.moment + span
        while self.clock.moment < end:
            self.settle()
            self.pass_time(min(every, max(end - self.clock.moment, timedelta())))
        self.settle()

    # --- what there is ---------------------------------------------------------------------------

    def versions(self, key: str = "k") -> list[tuple[int, str]]:
        """(number, state) of what is recorded."""
        return [(v["number"], v["state"]) for v in self.status("APIKey", key).get("versions", [])]

    def id_of(self, number: int, key: str = "k") -> str:
        """Id of a recorded version."""
        versions = self.status("APIKey", key)["versions"]
        return str(next(v["id"] for v in versions if v["number"] == number))

    def path(self, key: str = "k") -> str:
        """Where the key lies in Vault."""
        return names.key_path(TENANT_UID, self.get("APIKey", key)["metadata"]["uid"])

    def entry(self, key: str = "k") -> Entry:
        """What Vault holds of the key."""
        return self.vault.kv.get(self.path(key), Entry())

    def in_vault(self, key: str = "k") -> list[str]:
        """Ids of the versions whose value can be read."""
        entry = self.entry(key)
        return [str((entry.versions[number] or {}).get("id")) for number in entry.live]

    def judge_end(self, key: str = "k") -> None:
        """Vault holds the versions that are accepted, and no other (I6); then writes stop (I5)."""
        recorded = self.status("APIKey", key)["versions"]
        live = [v["id"] for v in recorded if v["state"] in ("Current", "Previous")]
        assert sorted(self.in_vault(key)) == sorted(live)
        assert all(v.get("destroyed") for v in recorded if v["state"] in ("Retired", "Revoked"))
        assert self.condition("APIKey", key, "Ready") == ("True", "Ready")
        writes, calls = len(self.kube.writes), self.vault.calls
        self.passes.start_over()
        self.settle()
        assert (len(self.kube.writes), self.vault.calls) == (writes, calls)
