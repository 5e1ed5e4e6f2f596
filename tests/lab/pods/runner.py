"""The node: registers itself, binds pods to itself, runs them.

    async with PodRunner.of(lab) as runner:
        ...                                   # pods of the API server run now
        os.kill(runner.pid_of("team", "gw-0", "sendward-guard"), signal.SIGKILL)

The node sends no heartbeat, since the lab's controller manager runs no node controller. Every pod is
taken: with a single node, scheduling constraints hold by themselves.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import urlsplit

from tests.lab import BRIDGE_ADDRESS
from tests.lab.images import IMAGES, Image
from tests.lab.pods import network
from tests.lab.pods.api import STRATEGIC, Api, ApiAccess, ApiError, Key, Mirror, Object
from tests.lab.pods.containers import Container, timestamp
from tests.lab.pods.network import Addresses, Namespace, Result
from tests.lab.pods.pod import Node, Pod
from tests.lab.provider import Servers

log = logging.getLogger(__name__)

NODE: Final = "lab-node"
BIND_RETRY: Final = 0.3  # seconds


class PodRunner:
    """Runs pods while its context is open. Needs root in the lab's own namespaces.

    `refresh` is how often volumes and names follow the API server, `backoff_cap` the longest pause
    before a restart; both in seconds.
    """

    def __init__(
        self,
        access: ApiAccess,
        data: Path,
        *,
        images: Mapping[str, Image] = IMAGES,
        refresh: float = 1.0,
        backoff_cap: float = 3.0,
    ) -> None:
        self._api = Api(access)
        self._data = data
        self._images = images
        self._refresh = refresh
        self._backoff_cap = backoff_cap
        self._pods: dict[Key, Pod] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._binding: set[asyncio.Task[None]] = set()
        self._background: list[asyncio.Task[None]] = []
        self._node: Node | None = None

    @classmethod
    def of(cls, servers: Servers, **options: Any) -> Self:
        """A runner for the pods of these servers; its files lie in their folder."""
        access = ApiAccess(servers.apiserver_url, servers.admin_token, servers.ca_file)
        return cls(access, servers.directory / "pods", **options)

    async def __aenter__(self) -> Self:
        network.prepare()
        await self._api.__aenter__()
        try:
            await self._begin()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def _begin(self) -> None:
        secrets = Mirror(self._api, "/api/v1/secrets")
        config_maps = Mirror(self._api, "/api/v1/configmaps")
        services = Mirror(self._api, "/api/v1/services")
        slices = Mirror(self._api, "/apis/discovery.k8s.io/v1/endpointslices")
        where = urlsplit(self._api.access.url)
        self._node = Node(
            api=self._api,
            sources={"Secret": secrets, "ConfigMap": config_maps},
            services=services,
            slices=slices,
            images=self._images,
            data=self._data,
            addresses=Addresses(),
            host_address=BRIDGE_ADDRESS,
            service_env={
                "KUBERNETES_SERVICE_HOST": str(where.hostname),
                "KUBERNETES_SERVICE_PORT": str(where.port),
            },
            refresh=self._refresh,
            backoff_cap=self._backoff_cap,
        )
        await self._register()
        mirrors = (secrets, config_maps, services, slices)
        self._background = [asyncio.create_task(mirror.run()) for mirror in mirrors]
        for mirror in mirrors:
            await mirror.listed.wait()
        pods = Mirror(self._api, "/api/v1/pods", self._on_pod)
        self._background.append(asyncio.create_task(pods.run()))
        await pods.listed.wait()

    async def __aexit__(self, *_: object) -> None:
        tasks = [*self._background, *self._binding, *self._tasks.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._api.__aexit__()

    def pid_of(self, namespace: str, pod: str, container: str) -> int:
        """Process id of a running container. Raises LookupError."""
        return self._container(namespace, pod, container).pid()

    def log_path(self, namespace: str, pod: str, container: str) -> Path:
        """The log file; it outlives the pod and goes on over restarts."""
        return self._data / "logs" / f"{namespace}_{pod}_{container}.log"

    def logs(self, namespace: str, pod: str, container: str) -> str:
        """All that a container has written so far, stdout and stderr together."""
        path = self.log_path(namespace, pod, container)
        return path.read_text(errors="replace") if path.exists() else ""

    async def execute(self, namespace: str, pod: str, container: str, *argv: str) -> Result:
        """Run a program inside a container, as `kubectl exec` would."""
        return await self._container(namespace, pod, container).execute(argv)

    def network_of(self, namespace: str, pod: str) -> Namespace:
        """The pod's network namespace: `address`, `cut(destination)`, `restore(destination)`."""
        return self._pod(namespace, pod).namespace

    def volume_path(self, namespace: str, pod: str, volume: str) -> Path:
        """Folder of a pod's volume on the machine."""
        return self._data / "pods" / self._pod(namespace, pod).uid / "volumes" / volume

    def _pod(self, namespace: str, pod: str) -> Pod:
        found = self._pods.get((namespace, pod))
        if found is None:
            raise LookupError(f"no pod {namespace}/{pod} runs here")
        return found

    def _container(self, namespace: str, pod: str, container: str) -> Container:
        found = self._pod(namespace, pod).containers.get(container)
        if found is None:
            raise LookupError(f"pod {namespace}/{pod} has no container {container} yet")
        return found

    def _on_pod(self, key: Key, pod: Object | None) -> None:
        held = self._pods.get(key)
        if held is not None and (pod is None or held.uid != pod["metadata"]["uid"]):
            held.vanish()
            del self._pods[key]
            held = None
        if pod is None:
            return
        if held is not None:
            held.update(pod)
        elif not pod["spec"].get("nodeName"):
            self._bind(pod)
        elif pod["spec"]["nodeName"] == NODE:
            self._run(key, pod)

    def _run(self, key: Key, pod: Object) -> None:
        if self._node is None:
            raise RuntimeError("the runner has not been entered")
        held = self._pods[key] = Pod(pod, self._node)
        task = asyncio.create_task(held.run(), name=f"pod {key[0]}/{key[1]}")
        self._tasks[held.uid] = task
        task.add_done_callback(lambda done: self._ended(held.uid, done))
        held.update(pod)

    def _ended(self, uid: str, task: asyncio.Task[None]) -> None:
        self._tasks.pop(uid, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("%s ended by an error", task.get_name(), exc_info=error)

    def _bind(self, pod: Object) -> None:
        task = asyncio.create_task(self._bind_one(pod))
        self._binding.add(task)
        task.add_done_callback(self._binding.discard)

    async def _bind_one(self, pod: Object) -> None:
        meta = pod["metadata"]
        body = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": meta["name"], "uid": meta["uid"]},
            "target": {"apiVersion": "v1", "kind": "Node", "name": NODE},
        }
        path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}/binding"
        while True:
            try:
                await self._api.request("POST", path, body)
                return
            except ApiError as error:
                if not error.passing:
                    return  # bound already, or gone
            await asyncio.sleep(BIND_RETRY)

    async def _register(self) -> None:
        node = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "name": NODE,
                "labels": {"kubernetes.io/hostname": NODE, "kubernetes.io/os": "linux"},
            },
        }
        resources = {"cpu": "64", "memory": "256Gi", "pods": "1000"}
        status = {
            "addresses": [
                {"type": "InternalIP", "address": BRIDGE_ADDRESS},
                {"type": "Hostname", "address": NODE},
            ],
            "capacity": resources,
            "allocatable": resources,
            "conditions": [
                {
                    "type": "Ready",
                    "status": "True",
                    "reason": "PodRunnerReady",
                    "message": "the lab's pod runner is running",
                    "lastHeartbeatTime": timestamp(),
                    "lastTransitionTime": timestamp(),
                }
            ],
        }
        await self._create("/api/v1/nodes", node)
        await self._api.request("PATCH", f"/api/v1/nodes/{NODE}/status", {"status": status}, STRATEGIC)

    async def _create(self, path: str, body: Object) -> None:
        try:
            await self._api.request("POST", path, body)
        except ApiError as error:
            if error.status != 409:  # there already, from an earlier runner
                raise


__all__: Sequence[str] = ("NODE", "ApiAccess", "PodRunner")
