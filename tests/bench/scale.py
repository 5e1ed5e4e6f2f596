"""`python -m tests.bench.scale`: what 100,000 accounts, 200 gateway pods and 2 hubs would cost.

A calculation, no run. Unit costs of the parts that decide it are measured here, in this process, with the
product's own code; what a whole installation costs per account comes from build/bench/results.json.
Each line says what was multiplied with what.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sendward import document
from sendward.controller.hub_state import GatewayState
from sendward.document import Account, Key, Limit, Shard, Version
from sendward.graph.acknowledgement import acknowledged, expected
from sendward.graph.facts import Pod
from sendward.guard.policy import Policy
from sendward.protocol import Ack, Have, Hello, Part
from tests.bench.__main__ import RESULTS

_HOLD_OFF_MS: Final = 25
_NETWORK: Final = 125_000_000  # bytes a second: 1 Gbit/s out of the node of the hub
_NOW: Final = datetime(2026, 1, 1, tzinfo=UTC)


def _hex(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _uid(text: str) -> str:
    found = _hex(text)
    return f"{found[:8]}-{found[8:12]}-{found[12:16]}-{found[16:20]}-{found[20:32]}"


def _account(number: int) -> Account:
    """An account as the bench declares it, with one key of one version."""
    limits = [Limit(100_000, 10, 100_000)]
    version = Version(_hex(f"id{number}")[:10], 1, _hex(f"secret{number}"), not_after=1_790_000_000)
    key = Key(_uid(f"key{number}"), f"customer-{number:06}", [version], limits=limits)
    return Account(
        _uid(f"account{number}"), f"customer-{number:06}", cidrs=[["10.123.0.0/16"]],
        sender_ids=["ACME", "+15550100"], limits=limits, keys=[key],
    )  # fmt: skip


def _ms(work: Callable[[], object], times: int = 20) -> float:
    """CPU milliseconds of one call."""
    work()
    began = time.process_time()
    for _ in range(times):
        work()
    return (time.process_time() - began) / times * 1000


@dataclass(frozen=True)
class ShardCost:
    """Of one shard with `accounts` accounts, when one of them changes."""

    accounts: int
    size: int  # bytes of gzip, as they are bounded
    wire: int  # bytes to each guard, and in the Secret
    seal_ms: float  # operator: encode, compress, sign, frame
    take_ms: float  # guard: decode, verify, put in force


def shard_cost(accounts: int) -> ShardCost:
    """Measured with the code of operator and guard."""
    content = Shard([_account(number) for number in range(accounts)])
    signing = Ed25519PrivateKey.generate()
    public = signing.public_key()

    def seal() -> bytes:
        envelope = document.seal(signing, "g", "0", 1, 1, document.compress(content))
        return msgspec.json.encode(Part(document.encode(envelope)))

    raw = document.encode(document.seal(signing, "g", "0", 1, 1, document.compress(content)))
    policy = Policy()

    def take() -> None:
        envelope = document.decode(raw)
        document.verify(envelope, public, "g", "0")
        policy.set_shard(0, document.open_shard(envelope))

    size = len(document.compress(content))
    return ShardCost(accounts, size, len(seal()), _ms(seal), _ms(take))


def acknowledgement_ms(guards: int) -> float:
    """Operator: one acknowledgement of a part that `guards` guards have, and whether all have it now."""
    envelope = document.seal(
        Ed25519PrivateKey.generate(), "g", "0", 1, 1, document.compress(Shard([_account(0)]))
    )
    have = {"0": Have(1, 1, envelope.digest)}
    pods = [
        Pod(_uid(str(n)), "ns", f"p{n}", "g", ready=True, terminating=False, injected=True)
        for n in range(guards)
    ]
    state = GatewayState()
    state.publish({"0": envelope}, [])
    for pod in pods:
        state.hello(pod, Hello([1], 1, have), _NOW)

    def work() -> None:
        state.acknowledge(pods[0].uid, Ack("0", 1, 1))
        found = state.facts("0")
        acknowledged(expected(pods, found, None, _NOW), found, "0", (1, 1))

    return _ms(work)


@dataclass(frozen=True)
class Plan:
    """What is calculated: one gateway with all accounts, which is the worst case."""

    accounts: int = 100_000
    pods: int = 200
    shards: int = 16
    hubs: int = 2


def lines(plan: Plan, found: dict[tuple[str, int], float]) -> list[tuple[str, str, str]]:
    """(what, value, how). `found`: results by name and N."""
    cost = shard_cost(plan.accounts // plan.shards)
    ack = acknowledgement_ms(plan.pods)
    wire = cost.wire * plan.pods / _NETWORK * 1000
    revoke = _HOLD_OFF_MS + cost.seal_ms + wire + cost.take_ms
    told = revoke + ack * plan.pods
    half = _HOLD_OFF_MS + cost.seal_ms + wire / plan.hubs + cost.take_ms + ack * plan.pods / plan.hubs
    full = "over its bound" if cost.size > document.MAX_PART_BYTES else "within its bound"
    rows = [
        ("one shard", f"{cost.size / 1000:.0f} kB", f"{cost.accounts:,} accounts in it; {full} of 900 kB"),
        ("sealing it", f"{cost.seal_ms:.0f} ms", "encode, gzip, sign: operator, one core"),
        ("taking it", f"{cost.take_ms:.0f} ms", "gunzip, verify, compare, one account compiled: each guard"),
        (
            "a change to all guards",
            f"{cost.wire * plan.pods / 1e6:.0f} MB",
            f"to {plan.pods} pods: {wire:.0f} ms at 1 Gbit/s",
        ),
        ("revoke to refused, the last pod", f"{revoke:.0f} ms", "hold-off, sealing, wire, taking"),
        ("until Revoked is True", f"{told:.0f} ms", f"and {plan.pods} acknowledgements of {ack:.2f} ms each"),
        (
            f"the same, {plan.hubs} hubs that share the guards",
            f"{half:.0f} ms",
            "one leader serves all guards today",
        ),
    ]
    return rows + _grown(plan, found)


def _grown(plan: Plan, found: dict[tuple[str, int], float]) -> list[tuple[str, str, str]]:
    """What grows with accounts, from two measured sizes."""
    rows = []
    for name, what, unit in (
        ("converge_seconds", "from nothing to Ready, 2 cores for everything", "s"),
        ("restart_to_ready_seconds", "restart to ready", "s"),
        ("restart_rss_mb", "operator's memory after a restart", "MB"),
        ("operator_rss_mb", "operator's memory in the storm", "MB"),
    ):
        sizes = sorted(n for (measured, n) in found if measured == name)[-2:]
        if len(sizes) == 2:
            (small, large), (low, high) = sizes, (found[name, n] for n in sizes)
            slope = (high - low) / (large - small)
            value = high + slope * (plan.accounts - large)
            rows.append(
                (what, f"{value:,.0f} {unit}", f"{low:.3g} at {small:,}, {high:.3g} at {large:,}, on a line")
            )
    return rows


def main() -> None:
    """Print the calculation for some numbers of shards."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.scale", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--accounts", type=int, default=100_000)
    parser.add_argument("--pods", type=int, default=200)
    arguments = parser.parse_args()
    results: list[dict[str, Any]] = json.loads(RESULTS.read_text())["results"] if RESULTS.exists() else []
    found = {(each["name"], each["N"]): float(each["value"]) for each in results}
    for shards in (16, 64):
        plan = Plan(arguments.accounts, arguments.pods, shards)
        size = f"{plan.accounts:,} accounts in one gateway, {plan.pods} pods"
        print(f"\n{size}, {plan.shards} shards, {plan.hubs} hubs")
        for what, value, how in lines(plan, found):
            print(f"  {what:<46} {value:>14}   {how}")


if __name__ == "__main__":
    main()
