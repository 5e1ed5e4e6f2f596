"""The sidecar's volumes are full: what arrives is enforced all the same, or refused as a whole, and no
restart finds something older than what was in force."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sendward import names
from sendward.protocol import PPM, Ack, Hello, Nack, Part, Shares
from tests.faults.test_sidecar_files import (
    NEW,
    OLD,
    answered,
    enforced,
    gateway,
    give,
    good,
    restart,
    revoked,
)
from tests.guard import builders
from tests.guard.harness import Harness, eventually

pytestmark = pytest.mark.lab  # it mounts file systems of its own


@pytest.fixture
async def pod() -> AsyncIterator[Harness]:
    """Guard and Envoy with small volumes of their own, and a document from before the revocation."""
    harness = Harness()
    volumes = [harness.path(name) for name in (names.PATH_STATE, names.PATH_RUN)]
    for volume in volumes:
        volume.mkdir(parents=True)
        _run("mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(volume))
    try:
        await harness.start()
        await harness.hub.wait_for(Hello)
        await give(harness, OLD)
        await harness.hub.send(Shares(round=1, default=PPM))
        await eventually(harness.ready, "readiness")
        yield harness
    finally:
        for process in (harness.envoy, harness.guard):
            if process is not None:
                process.kill()
                process.wait()
        for volume in volumes:
            _run("umount", str(volume))
        await harness.stop()


def fill(volume: Path) -> Path:
    """Take all that is left of a volume; deleting the file gives it back."""
    filler = volume / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 4096)
        except OSError:
            pass
    return filler


def _run(*command: str) -> None:
    subprocess.run(command, check=True)


async def test_a_revocation_is_enforced_though_it_cannot_be_kept(pod: Harness) -> None:
    state = pod.path(names.PATH_STATE)
    filler = fill(state)
    assert await answered(pod, revoked(0)) == (200, None)
    await give(pod, NEW)
    await enforced(pod)
    assert not list(state.glob(".*"))  # half a file would only fill the volume further
    await pod.hub.stop()
    await restart(pod, ready=False)
    # Neither the hub nor a mounted Secret says more: nothing is better than what was true before.
    assert (await answered(pod, revoked(0)))[0] == 503
    filler.unlink()
    pod.hub.messages.clear()
    await pod.hub.start(pod.hub.port)
    await pod.hub.wait_for(Hello)
    await give(pod, NEW)
    await pod.hub.send(Shares(round=1, default=PPM))
    await eventually(pod.ready, "readiness")
    await pod.hub.stop()
    await restart(pod)
    await enforced(pod)


async def test_envoys_files_are_written_together_or_not_at_all(pod: Harness) -> None:
    """The listener's file no longer fits, that of the clusters does: the old ones are put back."""
    filler = fill(pod.path(names.PATH_RUN))
    with filler.open("r+b") as file:
        file.truncate(filler.stat().st_size - 4096)
    before = {path: pod.path(path).read_bytes() for path in (names.PATH_CDS, names.PATH_LDS)}
    files = pod.files()
    files.clusters[0]["connect_timeout"] = "2s"
    files.listeners[0]["stat_prefix"] = "x" * 8192
    content = builders.gateway(envoy=files, application_port=pod.application_port, shards=1)
    await pod.hub.send(Part(builders.sealed(content, NEW)))
    nack = await pod.hub.wait_for(Nack)
    assert (nack.part, nack.revision) == ("gateway", NEW)
    assert "No space left" in nack.message
    assert {path: pod.path(path).read_bytes() for path in before} == before
    assert await answered(pod, good(0)) == (200, None)
    filler.unlink()
    await pod.hub.send(Part(gateway(pod, NEW + 1)))
    await pod.hub.wait_for(Ack, lambda ack: (ack.part, ack.revision) == ("gateway", NEW + 1))
    assert await answered(pod, good(0)) == (200, None)
