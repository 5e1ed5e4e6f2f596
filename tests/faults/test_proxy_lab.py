"""The tamper proxy before the real API server."""

from __future__ import annotations

import asyncio
import uuid

import pytest

from sendward.apply import kinds
from sendward.apply.kube import KubeClient
from tests.faults.proxy_calls import Call
from tests.faults.proxy_lab import lab_proxies
from tests.faults.proxy_rules import Rule, call_number
from tests.lab.servers import Lab

pytestmark = pytest.mark.lab


async def test_the_proxy_passes_calls_and_watches_of_the_real_api_server(servers: Lab) -> None:
    async with lab_proxies(servers) as proxies:
        client = KubeClient(proxies.kube.url, token=servers.admin_token, ca_file=str(servers.ca_file))
        place = f"proxy-{uuid.uuid4().hex[:8]}"
        version = (await client.page(kinds.NAMESPACE)).resource_version
        seen: list[str] = []

        async def watch() -> None:
            async for event in client.watch(kinds.NAMESPACE, version):
                seen.append(event.object["metadata"]["name"])

        watching = asyncio.create_task(watch())
        killed: list[Call] = []
        proxies.ledger.rules.append(Rule(call_number(1), after=killed.append))
        await client.create(kinds.NAMESPACE, {"metadata": {"name": place}})
        async with asyncio.timeout(30):
            while place not in seen:  # noqa: ASYNC110 - of a server
                await asyncio.sleep(0.02)
        await client.delete(kinds.NAMESPACE, None, place)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await client.close()
        assert [call.status for call in killed] == [201]
        assert [call.method for call in proxies.ledger.mutations] == ["POST", "DELETE"]
