"""Sendward installed in a lab, as an administrator would do it: bootstrap Vault, apply the manifests,
onboard a namespace. Operator, webhook and gateways run as pods with the rights that are shipped."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import sys
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final, Self

import yaml

from sendward import names
from tests.lab.images import PROXY, PYTHON_ENV, REPOSITORY, SAMPLE_GATEWAY, SENDWARD
from tests.lab.pods.runner import PodRunner
from tests.lab.servers import Lab

SYSTEM: Final = names.OPERATOR_NAMESPACE
QUICKSTART: Final = REPOSITORY / "policies" / "quickstart"
VAULT_CA: Final = "vault-ca"
Object = dict[str, Any]


class StackError(Exception):
    """Something of the stack did not come up; the message says what was seen last."""


async def eventually(
    check: Callable[[], Any], what: str, *, seconds: float = 60.0, every: float = 0.1
) -> Any:
    """The first true value of `check` (awaited if need be). Raises StackError with `what`."""
    deadline = time.monotonic() + seconds
    last: Any = None
    while time.monotonic() < deadline:
        last = check()
        if asyncio.iscoroutine(last):
            last = await last
        if last:
            return last
        await asyncio.sleep(every)
    raise StackError(f"not within {seconds:.0f} s: {what}")


class Stack:
    """`async with Stack(lab) as stack`. `say` hears of progress."""

    def __init__(self, lab: Lab, say: Callable[[str], None] = lambda _: None) -> None:
        self.lab = lab
        self._say = say
        self._exits = AsyncExitStack()
        self.runner: PodRunner = PodRunner.of(lab)

    async def __aenter__(self) -> Self:
        await self._exits.enter_async_context(self.runner)
        try:
            await self._install()
        except BaseException:
            await self._exits.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._exits.aclose()

    # --- commands -------------------------------------------------------------------------------

    async def sendward(self, *arguments: str, check: bool = True) -> str:
        """Run the command line as an administrator; its stdout."""
        environment = {
            **os.environ,
            **PYTHON_ENV,
            "KUBECONFIG": str(self.lab.kubeconfig),
            "VAULT_ADDR": self.lab.vault_address,
            "VAULT_TOKEN": self.lab.vault_token,
            "VAULT_CACERT": str(self.lab.ca_file),
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            "from sendward.cli.main import main; main()",
            *arguments,
            env=environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
        if check and process.returncode:
            raise StackError(f"sendward {' '.join(arguments[:2])}: {err.decode().strip()[-800:]}")
        return out.decode()

    async def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl as an administrator; its stdout."""
        return await asyncio.to_thread(self.lab.kubectl, *arguments, stdin=stdin)

    async def apply(self, objects: list[Object], namespace: str = "") -> None:
        """Server-side apply of objects or of parsed YAML."""
        where = ["-n", namespace] if namespace else []
        text = yaml.safe_dump_all(objects)
        await self.kubectl("apply", "--server-side", "--force-conflicts", *where, "-f", "-", stdin=text)

    async def get(self, kind: str, name: str, namespace: str) -> Object:
        """One object as JSON."""
        found: Object = json.loads(await self.kubectl("get", kind, name, "-n", namespace, "-o", "json"))
        return found

    async def listing(self, kinds: str, namespace: str, *options: str) -> list[Object]:
        """All objects of these kinds ("roles,rolebindings") in a namespace; "" for everywhere."""
        where = ["-n", namespace] if namespace else ["-A"]
        found: list[Object] = json.loads(await self.kubectl("get", kinds, *where, *options, "-o", "json"))[
            "items"
        ]
        return found

    async def patch(self, kind: str, name: str, namespace: str, change: Object) -> None:
        """Merge-patch, as a user would edit."""
        await self.kubectl("patch", kind, name, "-n", namespace, "--type=merge", "-p", json.dumps(change))

    async def condition(self, kind: str, name: str, namespace: str, wanted: str) -> Object | None:
        """A condition of an object, if it has it for its present generation."""
        found = await self.get(kind, name, namespace)
        for condition in found.get("status", {}).get("conditions", []):
            if condition["type"] == wanted and (
                condition["observedGeneration"] == found["metadata"]["generation"]
            ):
                result: Object = condition
                return result
        return None

    async def wait_for(
        self, kind: str, name: str, namespace: str, wanted: str = "Ready", *, seconds: float = 60.0
    ) -> None:
        """Until a condition is True for the present generation."""

        async def holds() -> bool:
            condition = await self.condition(kind, name, namespace, wanted)
            return condition is not None and condition["status"] == "True"

        try:
            await eventually(holds, f"{kind} {name} {wanted}", seconds=seconds)
        except StackError as error:
            found = await self.get(kind, name, namespace)
            raise StackError(f"{error}; status: {json.dumps(found.get('status', {}))}") from None

    # --- the stack ------------------------------------------------------------------------------

    async def _install(self) -> None:
        self._say("Vault: mounts, role and the operator's policy (sendward vault bootstrap)")
        key = self.lab.directory / "service-account.pub"
        key.write_text(self.lab.service_account_public_key_pem)
        await self.sendward(
            "vault", "bootstrap", "--auth", "jwt", "--jwt-public-key", str(key), "--issuer",
            self.lab.service_account_issuer,
        )  # fmt: skip
        self._say("Cluster: definitions, rights, operator and webhook (sendward install | kubectl apply)")
        manifests = await self.sendward(
            "install", "--vault-address", self.lab.vault_address, "--vault-auth", "jwt",
            "--vault-ca-config-map", VAULT_CA, "--image", SENDWARD, "--proxy-image", PROXY,
            "--proxy-concurrency", "1", "--operator-replicas", "2", "--webhook-replicas", "1",
        )  # fmt: skip
        objects = [obj for obj in yaml.safe_load_all(manifests) if obj]
        first = [obj for obj in objects if obj["kind"] in ("Namespace", "CustomResourceDefinition")]
        await self.apply(first)
        await self.kubectl("wait", "--for=condition=Established", "--timeout=30s", "crd", "--all")
        ca = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": VAULT_CA, "namespace": SYSTEM},
            "data": {"ca.crt": await asyncio.to_thread(Path(self.lab.ca_file).read_text)},
        }
        await self.apply([ca, *(obj for obj in objects if obj not in first)])
        self._say("Waiting for operator and webhook to be Ready")
        for name in ("sendward-operator", "sendward-webhook"):
            await self.kubectl("rollout", "status", "-n", SYSTEM, f"deployment/{name}", "--timeout=45s")

    async def onboard(self, namespace: str) -> None:
        """Create a namespace if need be, and give the operator its rights in it."""
        manifests = await self.sendward("onboard", namespace)
        await self.apply([obj for obj in yaml.safe_load_all(manifests) if obj])

    async def quickstart(self, namespace: str) -> None:
        """The policies of the quickstart, applied as a folder, in whatever order."""
        await self.kubectl("apply", "-n", namespace, "-f", str(QUICKSTART))

    async def deploy_gateway(
        self, namespace: str, gateway: str = "sms", *, replicas: int = 2, arguments: tuple[str, ...] = ()
    ) -> None:
        """The sample messaging gateway as a Deployment whose pods carry the gateway's label."""
        labels = {"app": gateway, names.LABEL_GATEWAY: gateway}
        container = {
            "name": "application",
            "image": SAMPLE_GATEWAY,
            "args": list(arguments),
            "readinessProbe": {
                "httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 1, "failureThreshold": 2,
            },
            "securityContext": {"runAsUser": 1000, "runAsNonRoot": True},
        }  # fmt: skip
        deployment = {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": gateway, "namespace": namespace},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": {"app": gateway}},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {"containers": [container], "terminationGracePeriodSeconds": 5},
                },
            },
        }
        await self.apply([deployment])

    async def pods(self, namespace: str, selector: str) -> list[Object]:
        """Pods that exist and are not terminating."""
        found = await self.listing("pods", namespace, "-l", selector)
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    async def ready_pods(
        self, namespace: str, selector: str, count: int, *, seconds: float = 90
    ) -> list[Object]:
        """Wait for `count` Ready pods."""

        async def check() -> list[Object]:
            pods = [pod for pod in await self.pods(namespace, selector) if _is_ready(pod)]
            return pods if len(pods) == count else []

        found: list[Object] = await eventually(
            check, f"{count} ready pods of {selector} in {namespace}", seconds=seconds
        )
        return found

    async def leader(self) -> str:
        """Name of the operator pod that leads."""
        lease = await self.get("lease", names.LEASE, SYSTEM)
        holder: str = lease["spec"].get("holderIdentity") or ""
        return holder.split("_", maxsplit=1)[0]

    # --- Vault and clients ----------------------------------------------------------------------

    async def vault_get(self, path: str) -> Object:
        """Read from Vault as an administrator."""
        import aiohttp  # noqa: PLC0415

        tls = ssl.create_default_context(cafile=str(self.lab.ca_file))
        headers = {"X-Vault-Token": self.lab.vault_token}
        async with (
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls), headers=headers) as session,
            session.get(f"{self.lab.vault_address}/v1/{path}") as answer,
        ):
            found: Object = await answer.json()
            return found

    async def key(self, name: str, namespace: str, version: int = 0) -> str:
        """The value of an API key, as its holder would read it from Vault."""
        status = (await self.get("apikey", name, namespace))["status"]
        query = f"?version={version}" if version else ""
        found = await self.vault_get(f"sendward/data/{status['vaultPath']}{query}")
        value: str = found["data"]["data"]["key"]
        return value

    async def client_tls(self) -> ssl.SSLContext:
        """What a client needs to trust the gateways: the CA of Vault's PKI."""
        found = await self.vault_get("sendward-pki/cert/ca")
        context = ssl.create_default_context(cadata=found["data"]["certificate"])
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        return context


def _is_ready(pod: Object) -> bool:
    conditions = pod.get("status", {}).get("conditions", [])
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
