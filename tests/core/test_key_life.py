"""The life of one API key, disturbed in every way at every moment, judged by what must always hold."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sendward import names
from tests.core.harness import TENANT_UID, SimulatedGuard, World

OVERLAP = timedelta(hours=24)
UNUSED = timedelta(hours=1)
GATEWAY: dict[str, Any] = {
    "http": {
        "port": 8443,
        "applicationPort": 8080,
        "operations": [{"name": "send", "method": "POST", "path": "/v1/messages"}],
    },
    "tls": {"vaultPKI": {"dnsNames": ["sms.example"]}},
    "sourceCIDRs": ["192.0.2.0/24"],
    "staleAfter": "Never",
    "shards": 1,
}
POLICIES: dict[str, dict[str, Any]] = {
    "plain": {"rotation": {"overlap": "24h"}},
    "quick": {"rotation": {"overlap": "24h", "retireWhenUnusedFor": "1h"}},
    "scheduled": {"rotation": {"every": "30d", "overlap": "24h"}, "maximumAge": "60d"},
    "held": {"rotation": {"overlap": "24h"}, "onCompromise": "Hold"},
    "handed": {"rotation": {"overlap": "24h"}, "handOver": {"type": "Secret"}},
}
RANKS = {"Current": 0, "Previous": 1, "Retired": 2, "Revoked": 2}


@dataclass
class Held:
    """A version that the holder read from Vault; `since`: when a newer one could be read first."""

    number: int
    used: datetime
    superseded: datetime | None = None


@dataclass
class Holder:
    """Reads Vault when it likes, sends with any version that it ever read."""

    versions: dict[str, Held] = field(default_factory=dict)


class KeyLife(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.holder = Holder()
        self.nonces = 0
        world = self.world
        world.put("MessagingGateway", "sms", GATEWAY)
        for name, spec in POLICIES.items():
            world.put("APIKeyPolicy", name, spec)
        world.put("SenderAccount", "bank", {"gateways": ["sms"]})
        world.put("APIKey", "k", {"account": "bank", "policy": "plain"})
        self.guards = [world.add_guard("p1", "sms"), world.add_guard("p2", "sms")]
        world.settle()
        self.uid = world.get("APIKey", "k")["metadata"]["uid"]
        self.recorded: dict[int, str] = {}
        self.ranks: dict[int, int] = {}

    def teardown(self) -> None:
        try:
            self._end()
        finally:
            self.world.close()

    # --- what may happen ------------------------------------------------------------------------

    @rule()
    def deliver(self) -> None:
        self.world.deliver()

    @rule(times=st.integers(1, 4))
    def work(self, times: int) -> None:
        for _ in range(times):
            _ = self.world.work_pass() or self.world.work_job()

    @rule(times=st.integers(1, 4))
    def jobs(self, times: int) -> None:
        for _ in range(times):
            self.world.work_job()

    @rule(which=st.integers(0, 1))
    def guard_takes(self, which: int) -> None:
        self.world.take(self.guards[which])

    @rule(seconds=st.sampled_from([0.1, 5, 60, 1800, 3600, 86400, 20 * 86400]))
    def time_passes(self, seconds: float) -> None:
        self.world.pass_time(timedelta(seconds=seconds))

    @rule()
    def settle(self) -> None:
        self.world.settle()

    @precondition(lambda self: self.alive)
    @rule()
    def nonce(self) -> None:
        self.nonces += 1
        self.world.change("APIKey", "k", rotateNonce=str(self.nonces))

    @precondition(lambda self: self.alive)
    @rule(through=st.integers(0, 2))
    def revoke(self, through: int) -> None:
        newest = max(self.recorded, default=0)
        through = max(newest + through - 1, self.revoked_through, 0)
        self.world.change("APIKey", "k", revokeThrough=through)

    @precondition(lambda self: self.alive)
    @rule(policy=st.sampled_from([*POLICIES, "missing"]))
    def policy(self, policy: str) -> None:
        self.world.change("APIKey", "k", policy=policy)

    @precondition(lambda self: self.alive)
    @rule(sure=st.integers(0, 5))
    def delete(self, sure: int) -> None:
        if sure == 0:
            self.world.erase("APIKey", "k")

    @rule()
    def crash(self) -> None:
        self.world.start()

    @rule(crash=st.booleans(), sealed=st.booleans())
    def stop_when_a_version_reaches_vault(self, crash: bool, sealed: bool) -> None:
        """The moment at which most is at stake: the version is there, and nothing says so yet."""
        world, written = self.world, self.world.vault.written
        for _ in range(60):
            moved = world.deliver() or world.work_pass()
            moved = sum(world.take(guard) for guard in self.guards) > 0 or moved
            moved = world.work_job() or moved
            if world.vault.written > written:
                world.vault.down = sealed
                if crash:
                    world.start()
                return
            if not moved:
                return

    @rule(fault=st.sampled_from(["fail", "lose"]))
    def vault_fault(self, fault: Any) -> None:
        self.world.vault.fault = fault

    @rule(fault=st.sampled_from(["fail", "lose"]))
    def api_fault(self, fault: Any) -> None:
        self.world.kube.fault = fault

    @rule(down=st.booleans())
    def vault_seals(self, down: bool) -> None:
        self.world.vault.down = down

    @rule()
    def holder_reads(self) -> None:
        data = self._latest()
        if data is not None:
            now = self.world.clock.now()
            self.holder.versions.setdefault(data["id"], Held(int(data["number"]), now))

    @rule(number=st.integers(0, 10))
    def holder_sends(self, number: int) -> None:
        held = list(self.holder.versions)
        if not held:
            return
        version = held[number % len(held)]
        for guard in self.guards:
            if guard.accepts("bank", version, self.world.clock.now()):
                moment = self.world.clock.now()
                self.holder.versions[version].used = moment
                gateway = self.world.gateway_uid("sms")
                self.world.steps.used(gateway, {version: int(moment.timestamp())})

    # --- what must always hold ------------------------------------------------------------------

    @property
    def alive(self) -> bool:
        return self.world.exists("APIKey", "k") and "deletionTimestamp" not in self.object["metadata"]

    @property
    def object(self) -> dict[str, Any]:
        return self.world.get("APIKey", "k")

    @property
    def revoked_through(self) -> int:
        found: int = self.object["spec"].get("revokeThrough", 0)
        return found

    @property
    def versions(self) -> list[dict[str, Any]]:
        if not self.world.exists("APIKey", "k"):
            return []
        found: list[dict[str, Any]] = self.world.status("APIKey", "k").get("versions", [])
        return found

    def _entry(self) -> Any:
        return self.world.vault.kv.get(names.key_path(TENANT_UID, self.uid))

    def _latest(self) -> dict[str, str] | None:
        entry = self._entry()
        data: dict[str, str] | None = entry.versions[entry.current] if entry else None
        return data

    @invariant()
    def remember(self) -> None:
        """One number, one version, for ever (I7)."""
        for version in self.versions:
            assert self.recorded.setdefault(version["number"], version["id"]) == version["id"]
            rank = RANKS[version["state"]]
            assert rank >= self.ranks.get(version["number"], 0), "a version came back to life"
            self.ranks[version["number"]] = rank
        if self.world.exists("APIKey", "k"):
            live = {number for number, rank in self.ranks.items() if rank < RANKS["Retired"]}
            assert live <= {version["number"] for version in self.versions}, "a record was lost"
        latest = self._latest()
        if latest is None:
            return
        for held in self.holder.versions.values():
            if held.number < int(latest["number"]) and held.superseded is None:
                held.superseded = self.world.clock.now()

    @invariant()
    def what_the_holder_has_is_accepted(self) -> None:
        """I1, for what is readable in Vault now and for what was read before."""
        if not self.alive:
            return
        latest = self._latest()
        if latest is not None and int(latest["number"]) > self.revoked_through:
            issued = datetime.fromisoformat(latest["issuedAt"])
            for guard in self.guards:
                if self.world.clock.now() - issued < timedelta(days=20):
                    self._is_accepted(guard, latest["id"])
        for version, held in self.holder.versions.items():
            if held.number <= self.revoked_through or held.superseded is None:
                continue
            now = self.world.clock.now()
            unused = now - max(held.used, held.superseded) >= UNUSED
            if not unused and now - held.superseded < OVERLAP:
                for guard in self.guards:
                    self._is_accepted(guard, version)

    def _is_accepted(self, guard: SimulatedGuard, version: str) -> None:
        account = next((a for a in guard.accounts() if a.name == "bank"), None)
        assert account is not None
        assert guard.accepts("bank", version, self.world.clock.now()), version

    @invariant()
    def what_is_said_to_be_revoked_is_refused(self) -> None:
        if not self.alive:
            return
        conditions = self.world.status("APIKey", "k").get("conditions", [])
        revoked = next((c for c in conditions if c["type"] == "Revoked"), None)
        generation = self.object["metadata"]["generation"]
        said = revoked and revoked["status"] == "True" and revoked["observedGeneration"] == generation
        for guard in self.guards if said else ():
            for account in guard.accounts():
                for version in [v for key in account.keys for v in key.versions if not v.revoked]:
                    assert version.number > self.revoked_through
        for recorded in self.versions:
            if recorded["state"] == "Revoked":
                for guard in self.guards:
                    assert not guard.accepts("bank", recorded["id"], self.world.clock.now())

    @invariant()
    def at_most_two_live_versions_in_vault(self) -> None:
        """I6: what is declared, plus one in an overlap; what has ended waits to be destroyed."""
        entry = self._entry()
        ended = {v["id"] for v in self.versions if v["state"] in ("Retired", "Revoked")}
        live = [entry.versions[n]["id"] for n in entry.live] if entry else []
        assert len([v for v in live if v not in ended]) <= 2

    @invariant()
    def numbers_rise(self) -> None:
        """I7: every write to Vault is a version of its own."""
        entry = self._entry()
        if entry:
            numbers = [int(entry.versions[n]["number"]) for n in sorted(entry.live)]
            assert numbers == sorted(set(numbers))

    def _end(self) -> None:
        """Without further faults it comes to rest, where an undisturbed run would (I5)."""
        world = self.world
        world.vault.down = False
        world.vault.fault = world.kube.fault = ""
        world.settle()
        for _ in range(3):  # overlaps end, what waited for them happens
            world.pass_time(OVERLAP)
            world.settle()
        if not self.world.exists("APIKey", "k"):
            assert self._entry() is None
            return
        spec, status = self.object["spec"], world.status("APIKey", "k")
        states = [v["state"] for v in self.versions]
        policy = POLICIES.get(spec["policy"])
        if policy is not None:
            held = policy.get("onCompromise") == "Hold" and "Current" not in states
            assert states.count("Current") == (0 if held else 1)
            assert states.count("Previous") == 0
            assert held or status["rotateNonce"] == spec.get("rotateNonce", ""), (spec, status)
            assert all(v.get("destroyed") for v in self.versions if v["state"] in ("Retired", "Revoked"))
            entry = self._entry()
            live = {entry.versions[n]["id"] for n in entry.live} if entry else set()
            assert live == {v["id"] for v in self.versions if v["state"] == "Current"}
            secrets = [o for o in world.kube.objects if o[2] == names.hand_over_secret("k")]
            assert bool(secrets) == (policy.get("handOver") is not None and not held)
        assert set(self.recorded) == set(range(1, len(self.recorded) + 1)) or spec.get("revokeThrough")
        writes, calls = len(world.kube.writes), world.vault.calls
        world.settle()
        world.start()
        world.settle()
        assert (len(world.kube.writes), world.vault.calls) == (writes, calls)


KeyLife.TestCase.settings = settings(
    max_examples=30,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestKeyLife = KeyLife.TestCase
