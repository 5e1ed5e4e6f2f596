"""The server's certificate broken where it is mounted: the last sound one is served, and a proxy that starts
with a broken one says so, refuses, and needs no restart when it is repaired."""

from __future__ import annotations

import shutil
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiohttp
import pytest

from sendward import names
from sendward.protocol import PPM, Ack, Hello, Part, Shares
from tests.fakes.hub import write_certificate
from tests.guard import builders
from tests.guard.harness import Harness, eventually
from tests.guard.test_product import GOOD, compiled, post

NOT_LOADED = (503, ["CertificateNotLoaded"])


@pytest.fixture
async def pod() -> AsyncIterator[Harness]:
    """Guard and Envoy with the product's own configuration; the certificate as the kubelet mounts it."""
    harness = Harness()
    try:
        await harness.start()
        swap(harness, write_certificate(harness.path("/good")).parent)
        await harness.hub.wait_for(Hello)
        await harness.hub.send(Shares(round=1, default=PPM))
        account = builders.account("acme", builders.key("one"))
        await harness.hub.send(Part(builders.sealed(builders.shard(account), 1)))
        await harness.hub.send(Part(compiled(harness)))
        await harness.hub.wait_for(Ack, lambda ack: ack.part == "gateway")
        await eventually(harness.ready, "readiness")
        yield harness
    finally:
        await harness.stop()


def swap(pod: Harness, source: Path, fault: Callable[[Path], object] = lambda _: None) -> None:
    """What the kubelet does when the Secret changed: another folder behind `..data`."""
    folder = pod.path(names.PATH_TLS)
    folder.mkdir(parents=True, exist_ok=True)
    fresh = folder / f"..{len(list(folder.iterdir()))}"
    shutil.copytree(source, fresh)
    fault(fresh)
    (folder / "..data_tmp").symlink_to(fresh.name)
    (folder / "..data_tmp").rename(folder / "..data")
    for name in ("tls.crt", "tls.key"):
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(f"..data/{name}")


def _cut(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:100])


def _delete_both(folder: Path) -> None:
    for name in ("tls.crt", "tls.key"):
        (folder / name).unlink()


def _foreign_key(folder: Path) -> None:
    other = write_certificate(folder.parent / "..other").parent
    shutil.copy(other / "tls.key", folder / "tls.key")
    shutil.rmtree(other)


FAULTS: dict[str, Callable[[Path], object]] = {
    "certificate truncated": _cut("tls.crt"),
    "key truncated": _cut("tls.key"),
    "certificate empty": lambda folder: (folder / "tls.crt").write_bytes(b""),
    "key deleted": lambda folder: (folder / "tls.key").unlink(),
    "both deleted": _delete_both,
    "key of another": _foreign_key,
}


async def serves(pod: Harness, certificate: Path) -> bool:
    """Whether new connections get this certificate, and messages pass."""
    trust = ssl.create_default_context(cafile=certificate / "tls.crt")
    try:
        return await post(pod, trust, GOOD.value) == (200, None)
    except aiohttp.ClientError:
        return False


async def test_the_last_sound_certificate_is_served_while_the_mounted_one_is_broken(pod: Harness) -> None:
    current = pod.path("/good")
    for fault in FAULTS.values():
        swap(pod, current, fault)
        assert await serves(pod, current)
        assert await pod.ready()
    following = write_certificate(pod.path("/next")).parent
    swap(pod, following)
    await eventually(lambda: serves(pod, following), "the next sound certificate is served")


@pytest.mark.parametrize("fault", ["certificate truncated", "both deleted", "key of another"])
async def test_a_proxy_that_starts_with_a_broken_certificate_waits_for_a_sound_one(
    pod: Harness, fault: str
) -> None:
    current = pod.path("/good")
    swap(pod, current, FAULTS[fault])
    assert pod.envoy is not None
    pod.envoy.kill()
    pod.envoy.wait()
    pod.start_envoy()

    async def told() -> bool:
        return await pod.probe("/ready") == NOT_LOADED

    await eventually(told, "the reason is told")
    assert not await serves(pod, current)
    swap(pod, current)
    await eventually(pod.ready, "readiness with the repaired certificate")
    assert await serves(pod, current)
