"""Files of the sidecar truncated, replaced or gone, on the guard's disk and in its mounts: what is in force
stays so, nothing that was revoked comes back, and the guard comes up again with whatever is sound."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiohttp
import pytest

from sendward import document, names
from sendward.protocol import PPM, Ack, Hello, Part, Shares
from tests.guard import builders
from tests.guard.harness import Harness, eventually

OLD, NEW = 3, 4  # revisions; NEW revokes


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def _directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _older(path: Path) -> None:
    path.write_bytes(shard(int(path.name), OLD))


def _foreign(path: Path) -> None:
    path.write_bytes(builders.sealed(builders.shard(), 99, part=path.name, gateway_uid="another"))


def _forged(path: Path) -> None:
    path.write_bytes(builders.sealed(builders.shard(), 99, part=path.name, signer=builders.FORGER))


def _swapped(path: Path) -> None:
    path.write_bytes(builders.sealed(builders.shard(), 99, part="77"))


# One shard for each fault: a single restart meets them all.
FAULTS: tuple[Callable[[Path], object], ...] = (
    _truncate,
    lambda path: path.write_bytes(b""),
    lambda path: path.write_bytes(b"\x00\xff" * 500),
    lambda path: path.unlink(),
    _directory,
    _older,
    _foreign,
    _forged,
    _swapped,
)
SHARDS = range(len(FAULTS))


def good(number: int) -> builders.Credential:
    return builders.credential(f"good-{number}")


def revoked(number: int) -> builders.Credential:
    return builders.credential(f"revoked-{number}")


def shard(number: int, revision: int) -> bytes:
    """An account with two keys, one of which is revoked in NEW."""
    keys = (
        builders.key(f"good-{number}", good(number).version()),
        builders.key(f"revoked-{number}", revoked(number).version(revoked=revision >= NEW)),
    )
    account = builders.account(f"acme-{number}", *keys)
    return builders.sealed(builders.shard(account), revision, part=str(number))


def parts(pod: Harness, revision: int) -> dict[str, bytes]:
    """A whole document."""
    return {"gateway": gateway(pod, revision), **{str(n): shard(n, revision) for n in SHARDS}}


def gateway(pod: Harness, revision: int) -> bytes:
    content = builders.gateway(envoy=pod.files(), application_port=pod.application_port, shards=len(FAULTS))
    return builders.sealed(content, revision)


async def give(pod: Harness, revision: int) -> None:
    """The document over the hub, acknowledged."""
    for name, raw in parts(pod, revision).items():
        await pod.hub.send(Part(raw))
        await pod.hub.wait_for(Ack, lambda ack, name=name: (ack.part, ack.revision) == (name, revision))  # type: ignore[misc]


@pytest.fixture
async def pod() -> AsyncIterator[Harness]:
    """Guard and Envoy with a document in which a key was revoked; mounted Secrets are up to date."""
    harness = Harness()
    try:
        await harness.start()
        await harness.hub.wait_for(Hello)
        for revision in (OLD, NEW):
            await give(harness, revision)
        await harness.hub.send(Shares(round=1, default=PPM))
        mount(harness)
        await eventually(harness.ready, "readiness")
        yield harness
    finally:
        await harness.stop()


def mount(pod: Harness) -> None:
    """The Secrets as the kubelet shows them: each file another one."""
    folder = pod.path(names.PATH_DOCUMENT)
    for name, raw in parts(pod, NEW).items():
        if (folder / name).is_dir():
            (folder / name).rmdir()
        (folder / f"..{name}").write_bytes(raw)
        (folder / f"..{name}").rename(folder / name)


async def answered(pod: Harness, credential: builders.Credential) -> tuple[int, object]:
    status, _, problem = await pod.send({"authorization": f"Bearer {credential.value}"})
    return status, problem.get("code")


async def enforced(pod: Harness) -> None:
    """Good keys pass, revoked ones do not."""
    for number in SHARDS:
        assert await answered(pod, good(number)) == (200, None), number
        assert await answered(pod, revoked(number)) == (401, "SW2205"), number


async def restart(pod: Harness, *, ready: bool = True) -> None:
    """A new guard process; Envoy goes on."""
    pod.kill_guard()
    pod.start_guard()

    async def up() -> bool:
        return (await pod.probe("/startup"))[0] == 200 and (await pod.ready() or not ready)

    await eventually(up, "the guard is back")


async def test_broken_copies_on_disk_are_made_good_by_the_mounted_ones(pod: Harness) -> None:
    await pod.hub.stop()
    state = pod.path(names.PATH_STATE)
    for number, fault in enumerate(FAULTS):
        fault(state / str(number))
    for name in ("gateway", "memory.json"):
        _truncate(state / name)
    await restart(pod)
    await enforced(pod)
    for name in ("gateway", "memory.json"):
        _directory(state / name)
    await restart(pod)
    await enforced(pod)


async def test_a_broken_mount_changes_nothing(pod: Harness) -> None:
    """Neither for a running guard, nor for the next one, which has its disk."""
    await pod.hub.stop()
    folder = pod.path(names.PATH_DOCUMENT)
    for number, fault in enumerate(FAULTS):
        fault(folder / str(number))
    (folder / "0").write_bytes(shard(0, NEW + 1))

    async def looked() -> bool:
        return document.decode((pod.path(names.PATH_STATE) / "0").read_bytes()).revision == NEW + 1

    await eventually(looked, "the guard reads what is mounted")
    await enforced(pod)
    await restart(pod)
    await enforced(pod)
    shutil.rmtree(folder)
    await restart(pod)
    await enforced(pod)


async def test_what_is_broken_everywhere_is_refused_until_the_hub_says_more(pod: Harness) -> None:
    """And only that: keys of other shards go on."""
    await pod.hub.stop()
    for place in (names.PATH_STATE, names.PATH_DOCUMENT):
        _truncate(pod.path(place) / "0")
    await restart(pod, ready=False)
    await eventually(lambda: _not_ready(pod, "ShardsMissing"), "the reason is told")
    for credential in (good(0), revoked(0)):
        assert (await answered(pod, credential))[0] == 503
    assert await answered(pod, good(1)) == (200, None)
    assert await answered(pod, revoked(1)) == (401, "SW2205")
    pod.hub.messages.clear()
    await pod.hub.start(pod.hub.port)
    assert set((await pod.hub.wait_for(Hello)).parts) == parts(pod, NEW).keys() - {"0"}
    await pod.hub.send(Part(shard(0, NEW)))
    await pod.hub.send(Shares(round=1, default=PPM))
    await eventually(pod.ready, "readiness")
    await enforced(pod)


async def _not_ready(pod: Harness, reason: str) -> bool:
    return reason in (await pod.probe("/ready"))[1]


@pytest.mark.parametrize("who", ["guard", "Envoy", "both"])
async def test_whoever_is_killed_comes_back_without_the_hub(pod: Harness, who: str) -> None:
    """From its own disk alone: nothing is mounted either."""
    await pod.hub.stop()
    shutil.rmtree(pod.path(names.PATH_DOCUMENT))
    if who != "Envoy":
        pod.kill_guard()
        assert (await answered(pod, good(0)))[0] == 503
    if who != "guard":
        assert pod.envoy is not None
        pod.envoy.kill()
        pod.envoy.wait()
        with pytest.raises(aiohttp.ClientError):
            await answered(pod, good(0))
        pod.start_envoy()
    if who != "Envoy":
        pod.start_guard()
    await eventually(pod.ready, "readiness")
    await enforced(pod)
