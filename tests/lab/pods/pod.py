"""One pod from its binding to its removal."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.lab.images import Image
from tests.lab.pods import hosts
from tests.lab.pods.api import STRATEGIC, Api, ApiError, Mirror, Object
from tests.lab.pods.containers import Container, RestartPolicy, Surroundings, timestamp
from tests.lab.pods.env import ConfigError
from tests.lab.pods.network import Addresses, Namespace
from tests.lab.pods.payload import Kind, MissingSourceError
from tests.lab.pods.refuse import refusals
from tests.lab.pods.status import ContainerState, PodFacts, pod_status, waiting
from tests.lab.pods.volumes import Volumes

log = logging.getLogger(__name__)

RETRY: Final = 0.5  # seconds, for whatever a pod waits for
SIDECAR_GRACE: Final = 2.0  # seconds that a sidecar gets even when the others used the whole grace period
RESOLV: Final = "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n"  # nothing listens: fails at once


@dataclass(frozen=True)
class Node:
    """What all pods of the runner share."""

    api: Api
    sources: Mapping[Kind, Mirror]
    services: Mirror
    slices: Mirror
    images: Mapping[str, Image]
    data: Path
    addresses: Addresses
    host_address: str
    service_env: Mapping[str, str]
    refresh: float  # seconds between looks at volumes and names
    backoff_cap: float  # seconds


class Pod:
    """Runs one pod; `run` ends when the pod is gone from the API server."""

    def __init__(self, pod: Object, node: Node) -> None:
        self.object = pod
        self.containers: dict[str, Container] = {}
        meta = pod["metadata"]
        self.uid = str(meta["uid"])
        self.path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}"
        self._node = node
        self._folder = node.data / "pods" / self.uid
        self.namespace = Namespace(f"pod-{self.uid.replace('-', '')[-16:]}", node.addresses.take())
        self._volumes = Volumes(node.api, node.sources, pod, self._folder / "volumes")
        self._states = [_state(spec, role) for spec, role in _roles(pod["spec"])]
        self._facts = PodFacts(
            address="",
            host_address=node.host_address,
            start_time=timestamp(),
            restart_policy=str(pod["spec"].get("restartPolicy", "Always")),
        )
        self._published: Object = dict(pod.get("status") or {})
        self._dirty = asyncio.Event()
        self._stop = asyncio.Event()
        self._gone = False

    def update(self, pod: Object) -> None:
        """Take in a newer version of the object; begins the termination when it asks for it."""
        self.object = self._volumes.pod = self._with_address(pod)
        for container in self.containers.values():
            container.replace_pod(self.object)
        if pod["metadata"].get("deletionTimestamp"):
            self._stop.set()

    def vanish(self) -> None:
        """The object is gone already (deletion without grace): end everything at once."""
        self._gone = True
        self._stop.set()
        self.kill()

    def kill(self) -> None:
        for container in self.containers.values():
            container.kill()

    async def run(self) -> None:
        helpers = [asyncio.create_task(self._publish()), asyncio.create_task(self._refresh())]
        starting = asyncio.create_task(self._start())
        try:
            await self._stop.wait()
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            await self._terminate()
            for helper in helpers:
                helper.cancel()
            for result in await asyncio.gather(*helpers, return_exceptions=True):
                if isinstance(result, Exception):
                    log.error("pod %s", self.path, exc_info=result)
            await self._publish_once()
            await self._clean_up()
            await self._delete()
        finally:
            for task in (starting, *helpers):
                task.cancel()
            await self._destroy()

    async def _start(self) -> None:
        """Everything up to the pod's own completion."""
        try:
            if problems := refusals(self.object["spec"]):
                self._hold("Unsupported", "; ".join(problems), pod_level=True)
                return
            self._make_folders()
            await self.namespace.create()
            self._set_facts(address=self.namespace.address)
            self.object = self._volumes.pod = self._with_address(self.object)
            await self._set_up_volumes()
            self._make_containers()
            if await self._initialise():
                await self._run_main()
        except ConfigError as error:
            self._hold("ErrImageNeverPull", str(error))
        except Exception as error:
            log.exception("pod %s", self.path)
            self._hold("RunnerError", f"{type(error).__name__}: {error}", pod_level=True)

    async def _set_up_volumes(self) -> None:
        while True:
            try:
                await self._volumes.set_up()
                return
            except (MissingSourceError, ApiError, ConfigError) as error:
                self._hold("ContainerCreating", str(error))
            await asyncio.sleep(RETRY)

    def _make_containers(self) -> None:
        files = {name: self._folder / name for name in ("hosts", "resolv.conf", "host.conf")}
        around = Surroundings(
            pod=self.object,
            namespace=self.namespace,
            folder=self._folder,
            log_folder=self._node.data / "logs",
            volume_path=self._volumes.path,
            files={f"/etc/{name}": path for name, path in files.items()},
            service_env=self._node.service_env,
            source=self._source,
            backoff_cap=self._node.backoff_cap,
            changed=self._dirty.set,
        )
        specs = [spec for spec, _ in _roles(self.object["spec"])]
        for spec, state in zip(specs, self._states, strict=True):
            state.state = waiting("PodInitializing")
            image = find_image(self._node.images, state.image)
            self.containers[state.name] = Container(spec, state, image, around)
        self._dirty.set()

    async def _initialise(self) -> bool:
        """Init containers and sidecars, one after another; False when the pod has failed."""
        policy: RestartPolicy = "Never" if self._facts.restart_policy == "Never" else "OnFailure"
        for container in self._by_role("init", "sidecar"):
            if container.state.role == "sidecar":
                container.start("Always")
                await container.passed.wait()
                continue
            container.start(policy)
            await container.ended.wait()
            if container.state.exit_code() != 0:
                await self._stop_sidecars(asyncio.get_running_loop().time() + SIDECAR_GRACE)
                return False
        return True

    async def _run_main(self) -> None:
        mains = self._by_role("main")
        for container in mains:
            container.start(_policy(self._facts.restart_policy))
        await asyncio.gather(*(container.ended.wait() for container in mains))
        await self._stop_sidecars(asyncio.get_running_loop().time() + self._grace())

    async def _terminate(self) -> None:
        """Main containers first, together; then the sidecars in reverse order."""
        deadline = asyncio.get_running_loop().time() + (0.0 if self._gone else self._grace())
        await asyncio.gather(*(c.stop(deadline) for c in self._by_role("main", "init")))
        await self._stop_sidecars(deadline)

    async def _stop_sidecars(self, deadline: float) -> None:
        loop = asyncio.get_running_loop()
        for container in reversed(self._by_role("sidecar")):
            await container.stop(max(deadline, loop.time() + SIDECAR_GRACE))

    def _by_role(self, *roles: str) -> list[Container]:
        return [c for c in self.containers.values() if c.state.role in roles]

    def _grace(self) -> float:
        asked = self.object["metadata"].get("deletionGracePeriodSeconds")
        return float(self.object["spec"].get("terminationGracePeriodSeconds", 30) if asked is None else asked)

    def _source(self, kind: Kind, name: str) -> Object | None:
        namespace = str(self.object["metadata"]["namespace"])
        return self._node.sources[kind].objects.get((namespace, name))

    def _with_address(self, pod: Object) -> Object:
        status = {
            **(pod.get("status") or {}),
            "podIP": self.namespace.address,
            "podIPs": [{"ip": self.namespace.address}],
            "hostIP": self._node.host_address,
            "hostIPs": [{"ip": self._node.host_address}],
        }
        return {**pod, "status": status}

    def _make_folders(self) -> None:
        for folder in (self._folder, self._node.data / "logs", self._folder / "volumes"):
            folder.mkdir(parents=True, exist_ok=True)
        (self._folder / "resolv.conf").write_text(RESOLV)
        (self._folder / "host.conf").write_text("multi on\n")
        (self._folder / "hosts").write_text(self._names())

    def _names(self) -> str:
        return hosts.render(
            self.object,
            self.namespace.address,
            self._node.services.objects,
            self._node.slices.objects.values(),
        )

    async def _refresh(self) -> None:
        """Keep volumes and names up to date."""
        shown = ""
        while True:
            await asyncio.sleep(self._node.refresh)
            if not self.containers:
                continue
            names = self._names()
            if names != shown:
                _overwrite(self._folder / "hosts", names.encode())
                shown = names
            try:
                await self._volumes.refresh()
            except ApiError as error:
                log.warning("volumes of %s: %s", self.path, error)

    def _set_facts(self, address: str = "", reason: str = "", message: str = "") -> None:
        self._facts = PodFacts(
            address=address or self._facts.address,
            host_address=self._facts.host_address,
            start_time=self._facts.start_time,
            restart_policy=self._facts.restart_policy,
            reason=reason,
            message=message,
        )
        self._dirty.set()

    def _hold(self, reason: str, message: str, pod_level: bool = False) -> None:
        """Show why no container can start."""
        for state in self._states:
            if "waiting" in state.state:
                state.state = waiting(reason, message)
        if pod_level:
            self._set_facts(reason=reason, message=message)
        self._dirty.set()

    async def _publish(self) -> None:
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            await self._publish_once()

    async def _publish_once(self) -> None:
        """Write the status when it differs from what was written last."""
        status = pod_status(self._states, self._facts, self._published, timestamp())
        if self._gone or status == self._published:
            return
        # Lists of addresses are merged by default: one from an earlier runner would stay.
        lists = {field: [{"$patch": "replace"}, *status.get(field, ())] for field in ("podIPs", "hostIPs")}
        body = {"metadata": {"uid": self.uid}, "status": {**status, **lists}}
        try:
            await self._node.api.request("PATCH", f"{self.path}/status", body, STRATEGIC)
            self._published = status
        except ApiError as error:
            if error.passing:
                await asyncio.sleep(RETRY)
                self._dirty.set()
            elif error.status not in (404, 409):
                log.warning("status of %s: %s", self.path, error)

    async def _clean_up(self) -> None:
        await self.namespace.delete()
        self._node.addresses.give_back(self.namespace.address)
        await self._volumes.tear_down()
        shutil.rmtree(self._folder, ignore_errors=True)

    async def _delete(self) -> None:
        """Tell the API server that nothing of the pod is left."""
        body = {"gracePeriodSeconds": 0, "preconditions": {"uid": self.uid}}
        while not self._gone:
            try:
                await self._node.api.request("DELETE", self.path, body)
                return
            except ApiError as error:
                if not error.passing:
                    return  # gone, or another pod has the name by now
            await asyncio.sleep(RETRY)

    async def _destroy(self) -> None:
        """Leave nothing behind, however `run` ended."""
        self.kill()
        for container in self.containers.values():
            await container.stop(0.0)
        await self._clean_up()


def find_image(images: Mapping[str, Image], name: str) -> Image:
    """The image by its name, with or without a registry before it. Raises ConfigError."""
    for candidate in (name, name.rsplit("/", 1)[-1]):
        if candidate in images:
            return images[candidate]
    raise ConfigError(f"image {name!r} is not in the lab's image table")


def _roles(spec: Mapping[str, Any]) -> Sequence[tuple[Mapping[str, Any], str]]:
    inits = [
        (entry, "sidecar" if entry.get("restartPolicy") == "Always" else "init")
        for entry in spec.get("initContainers") or ()
    ]
    return [*inits, *((entry, "main") for entry in spec["containers"])]


def _state(spec: Mapping[str, Any], role: str) -> ContainerState:
    match role:
        case "init" | "sidecar" | "main":
            return ContainerState(str(spec["name"]), str(spec["image"]), role)
    raise AssertionError(role)


def _policy(text: str) -> RestartPolicy:
    match text:
        case "Always" | "OnFailure" | "Never":
            return text
    raise AssertionError(text)


def _overwrite(path: Path, content: bytes) -> None:
    """Change a file that is bind-mounted elsewhere, without a moment in which it is empty."""
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.pwrite(descriptor, content, 0)
        os.ftruncate(descriptor, len(content))
    finally:
        os.close(descriptor)
