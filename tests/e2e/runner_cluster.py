"""What the tests of the pod runner ask of it and of the API server."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from tests.lab.pods.runner import PodRunner
from tests.lab.servers import Lab

_DEADLINE = 60.0  # seconds; only a broken runner gets there

T = TypeVar("T")


class Cluster:
    """The lab's servers and a runner, with the few calls that these tests make."""

    def __init__(self, lab: Lab, runner: PodRunner, namespace: str) -> None:
        self.lab = lab
        self.runner = runner
        self.namespace = namespace

    async def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        return await asyncio.to_thread(self.lab.kubectl, *arguments, "-n", self.namespace, stdin=stdin)

    async def apply(self, *objects: dict[str, Any]) -> None:
        await self.kubectl("apply", "-f", "-", stdin=json.dumps(_list(objects)))

    async def pods(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(await self.kubectl("get", "pods", "-o", "json"))["items"]
        return found

    async def ready_pod(self, name: str = "web") -> dict[str, Any]:
        async def look() -> dict[str, Any] | None:
            for pod in await self.pods():
                if pod["metadata"]["name"].startswith(name) and condition(pod, "Ready") == "True":
                    return pod
            return None

        try:
            return await until(look)
        except TimeoutError:
            statuses = [pod["status"] for pod in await self.pods()]
            raise AssertionError(f"no ready pod {name}: {json.dumps(statuses, indent=1)}") from None

    async def sh(self, pod: str, container: str, script: str) -> str:
        result = await self.runner.execute(self.namespace, pod, container, "/bin/sh", "-c", script)
        assert result.code == 0, result.stderr.decode()
        return result.stdout.decode().strip()


async def until(look: Callable[[], Awaitable[T | None]]) -> T:
    """The first answer that is not None."""
    async with asyncio.timeout(_DEADLINE):
        while (found := await look()) is None:  # noqa: ASYNC110 - another process decides
            await asyncio.sleep(0.1)
        return found


async def holds(check: Callable[[], Awaitable[bool]]) -> None:
    async def look() -> bool | None:
        return await check() or None

    await until(look)


def _list(objects: tuple[dict[str, Any], ...]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "List", "items": list(objects)}


def condition(pod: dict[str, Any], kind: str) -> str:
    conditions = pod["status"].get("conditions", [])
    return next((str(c["status"]) for c in conditions if c["type"] == kind), "")
