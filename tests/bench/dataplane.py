"""The data plane: CPU per request, throughput and latency of Envoy and guard, beside plain Envoy.

Plain is the same Envoy with the same TLS, access log and application, and no policy (`chains`). All
variants run at once and are loaded in turns, so that a disturbance of the machine meets them all, and
each is compared with plain of the same round. Figures are medians over the rounds. Load generator and
application share the machine, so the CPU per request is the figure to trust; throughput and latency are
those of this machine.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from sendward import document
from sendward.compile.envoy import files
from tests.bench import chains, machine
from tests.bench.figures import Figure, figure
from tests.bench.sidecar import CIDR, Sidecar, free_port
from tests.guard import builders
from tests.lab.builds import require
from tests.lab.redis_server import RedisServer

Say = Callable[[str], None]

_CONNECTIONS: Final = 16


@dataclass(frozen=True)
class Rounds:
    """How often and how long each variant is loaded."""

    rounds: int
    seconds: float  # with several connections
    single_seconds: float  # with one connection


FULL: Final = Rounds(rounds=6, seconds=4.0, single_seconds=2.0)
QUICK: Final = Rounds(rounds=3, seconds=2.0, single_seconds=1.0)


@dataclass
class Samples:
    """What was measured of one variant, one value a round."""

    envoy_us: list[float] = field(default_factory=list)
    guard_us: list[float] = field(default_factory=list)
    redis_us: list[float] = field(default_factory=list)  # beside them, of the shared counters
    per_second: list[float] = field(default_factory=list)
    p50_ms: list[float] = field(default_factory=list)
    p99_ms: list[float] = field(default_factory=list)

    @property
    def total_us(self) -> list[float]:
        """CPU of both processes."""
        return [envoy + guard for envoy, guard in zip(self.envoy_us, self.guard_us, strict=True)]

    def ratio(self, other: Samples) -> float:
        """CPU beside that of another variant, in the same rounds: what disturbs both cancels out."""
        return statistics.median(a / b for a, b in zip(self.total_us, other.total_us, strict=True))


@dataclass
class Variant:
    """One configuration under load. `keys`: how many it knows."""

    name: str
    keys: int
    sidecar: Sidecar
    redis: RedisServer | None = None
    samples: Samples = field(default_factory=Samples)


async def measure(keys: Sequence[int], rounds: Rounds, say: Say) -> list[Figure]:
    """All figures of the data plane."""
    with ExitStack() as stack:
        application = _application(stack)
        variants = await _start(stack, sorted(keys), application, say)
        for number in range(rounds.rounds + 1):
            say(f"data plane: round {number} of {rounds.rounds}" + (" (to warm up)" if number == 0 else ""))
            # Forth and back, so that none always comes first.
            for variant in variants if number % 2 else reversed(variants):
                await _load(variant, rounds, keep=number > 0)
        figures = [found for variant in variants for found in _figures(variant, variants[0])]
        return [*figures, *_beside_native(variants)]


def _application(stack: ExitStack) -> int:
    port = free_port()
    process = subprocess.Popen([str(require("load")), "serve", "-address", f"127.0.0.1:{port}"])
    stack.callback(process.wait)
    stack.callback(process.kill)
    return port


async def _start(stack: ExitStack, keys: Sequence[int], application: int, say: Say) -> list[Variant]:
    def sidecar(name: str) -> Sidecar:
        made = Sidecar(name, application)
        stack.callback(made.stop)
        return made

    credentials = [builders.credential(f"key-{number}") for number in range(keys[-1])]
    variants = []
    # Plain comes first: it is what the others are compared with.
    for name, build in (("plain", chains.plain), ("bare", chains.bare), ("transport", chains.transport)):
        made = sidecar(name)
        say(f"data plane: {name}")
        await made.start_alone(build(files(made.spec)), credentials[:1])
        variants.append(Variant(name, 0, made))
    for count in keys:
        say(f"data plane: sendward and native chain, {count} keys")
        made = sidecar(f"sendward, {count} keys")
        await made.start_guarded(credentials[:count])
        variants.append(Variant("sendward", count, made))
        made = sidecar(f"native, {count} keys")
        await made.start_alone(
            chains.native(files(made.spec), credentials[:count], CIDR), credentials[:count]
        )
        variants.append(Variant("native", count, made))
    redis = _redis(stack)
    made = sidecar("sendward with shared counters")
    await made.start_guarded(credentials, document.Redis(redis.host, redis.port))
    variants.append(Variant("shared", len(credentials), made, redis))
    made = sidecar("native with signing")
    await made.start_signed(chains.native_signed(files(made.spec), credentials, CIDR), credentials)
    variants.append(Variant("native_signed", len(credentials), made))
    return variants


def _redis(stack: ExitStack) -> RedisServer:
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="swb-", dir="/tmp")))
    redis = RedisServer(folder, port=free_port())
    redis.start()
    stack.callback(redis.stop)
    return redis


def _cpu_seconds(variant: Variant) -> tuple[float, float, float]:
    """Used up to now by Envoy, guard and Redis."""
    envoy, guard, redis = variant.sidecar.envoy, variant.sidecar.guard, variant.redis
    pids = [envoy and envoy.pid, guard and guard.pid, redis and redis.process.pid]
    found = [machine.cpu_seconds(pid) if pid else 0.0 for pid in pids]
    return found[0], found[1], found[2]


async def _load(variant: Variant, rounds: Rounds, *, keep: bool) -> None:
    sidecar = variant.sidecar
    before = _cpu_seconds(variant)
    many = await _send(sidecar, _CONNECTIONS, rounds.seconds)
    used = [
        (after - earlier) / many["requests"] * 1e6
        for earlier, after in zip(before, _cpu_seconds(variant), strict=True)
    ]
    one = await _send(sidecar, 1, rounds.single_seconds)
    if keep:
        found = variant.samples
        for samples, value in zip((found.envoy_us, found.guard_us, found.redis_us), used, strict=True):
            samples.append(value)
        found.per_second.append(many["requests"] / many["seconds"])
        found.p50_ms.append(one["p50_ms"])
        found.p99_ms.append(one["p99_ms"])


async def _send(sidecar: Sidecar, connections: int, seconds: float) -> dict[str, Any]:
    """Load one variant; every request must be accepted, or what was measured is something else."""
    process = await asyncio.create_subprocess_exec(
        str(require("load")), "send", "-address", f"127.0.0.1:{sidecar.port}", "-ca", str(sidecar.place.ca),
        "-keys", str(sidecar.key_file), "-connections", str(connections), "-seconds", str(seconds),
        "-secret", sidecar.signing_secret,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, errors = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"{sidecar.place.name}: {errors.decode()}; {sidecar.logs()}")
    found: dict[str, Any] = json.loads(output)
    if set(found["statuses"]) != {"202"}:
        raise RuntimeError(f"{sidecar.place.name} answered {found['statuses']}; {sidecar.logs()}")
    return found


def _figures(variant: Variant, plain: Variant) -> list[Figure]:
    found, base = variant.samples, plain.samples
    median = statistics.median
    guard, envoy = variant.sidecar.guard, variant.sidecar.envoy

    def of(name: str, value: float, unit: str, note: str = "") -> Figure:
        ours = variant.name == "sendward"
        return figure(name if ours else f"{variant.name}_{name}", value, unit, variant.keys, note)

    spread = f"{min(found.envoy_us):.0f} to {max(found.envoy_us):.0f} in {len(found.envoy_us)} rounds"
    result = [of("envoy_cpu_us_per_request", median(found.envoy_us), "us", spread)]
    if guard is not None:
        spread = f"{min(found.guard_us):.0f} to {max(found.guard_us):.0f}"
        result.append(of("guard_cpu_us_per_request", median(found.guard_us), "us", spread))
        if variant.redis is not None:
            result.append(of("redis_cpu_us_per_request", median(found.redis_us), "us"))
        result.append(of("guard_rss_mb", machine.rss_mb(guard.pid, peak=True), "MB", "highest"))
    if envoy is not None:
        result.append(of("envoy_rss_mb", machine.rss_mb(envoy.pid), "MB"))
    result.append(
        of("max_requests_per_second", median(found.per_second), "1/s", f"{_CONNECTIONS} connections")
    )
    if variant is plain:
        result.append(of("latency_ms_p50", median(found.p50_ms), "ms", "1 connection"))
        result.append(of("latency_ms_p99", median(found.p99_ms), "ms", "1 connection"))
        return result
    result.append(of("cpu_ratio_to_plain_tls", found.ratio(base), "x", "Envoy and guard"))
    for name, ours, theirs in (("p50", found.p50_ms, base.p50_ms), ("p99", found.p99_ms, base.p99_ms)):
        added = [a - b for a, b in zip(ours, theirs, strict=True)]
        result.append(of(f"added_latency_ms_{name}", median(added), "ms", "1 connection"))
    return result


def _beside_native(variants: Sequence[Variant]) -> list[Figure]:
    """Sendward beside the native chains of as many keys."""
    ours = {variant.keys: variant.samples for variant in variants if variant.name == "sendward"}
    return [
        figure(f"cpu_ratio_to_{one.name}", ours[one.keys].ratio(one.samples), "x", one.keys)
        for one in variants
        if one.name in ("native", "native_signed")
    ]
