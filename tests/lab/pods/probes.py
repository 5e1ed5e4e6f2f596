"""Probes as the kubelet runs them: HTTP and TCP from the node's side to the pod's address, exec inside."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

import aiohttp

Exec = Callable[[Sequence[str]], Awaitable[int]]  # runs argv in the container, returns its exit code

DEFAULTS: Final[Mapping[str, int]] = {
    "initialDelaySeconds": 0,
    "periodSeconds": 10,
    "timeoutSeconds": 1,
    "successThreshold": 1,
    "failureThreshold": 3,
}


def setting(probe: Mapping[str, Any], name: str) -> int:
    """A number of the probe, with the API's default."""
    return int(probe.get(name) or DEFAULTS[name])


def port_number(container: Mapping[str, Any], port: int | str) -> int:
    """A port by number or by the name that the container gives it. Raises LookupError."""
    if isinstance(port, int):
        return port
    for entry in container.get("ports") or ():
        if entry.get("name") == port:
            return int(entry["containerPort"])
    raise LookupError(f"no container port is named {port!r}")


async def handle(
    handler: Mapping[str, Any], container: Mapping[str, Any], address: str, execute: Exec
) -> bool:
    """Carry out one httpGet, tcpSocket or exec; True when it succeeded."""
    try:
        if "exec" in handler:
            return await execute(handler["exec"]["command"]) == 0
        if "tcpSocket" in handler:
            return await _tcp(handler["tcpSocket"], container, address)
        return await _http(handler["httpGet"], container, address)
    except (OSError, aiohttp.ClientError, LookupError):
        return False


async def once(probe: Mapping[str, Any], container: Mapping[str, Any], address: str, execute: Exec) -> bool:
    """One attempt within the probe's time-out."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(setting(probe, "timeoutSeconds")):
            return await handle(probe, container, address, execute)
    return False


async def _tcp(action: Mapping[str, Any], container: Mapping[str, Any], address: str) -> bool:
    port = port_number(container, action["port"])
    _, writer = await asyncio.open_connection(action.get("host", address), port)
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True


async def _http(action: Mapping[str, Any], container: Mapping[str, Any], address: str) -> bool:
    scheme = str(action.get("scheme", "HTTP")).lower()
    host = action.get("host", address)
    url = f"{scheme}://{host}:{port_number(container, action['port'])}{action.get('path', '/')}"
    headers = [("User-Agent", "kube-probe/1.34"), ("Connection", "close")]
    headers += [(entry["name"], entry["value"]) for entry in action.get("httpHeaders") or ()]
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    connector = aiohttp.TCPConnector(ssl=context, force_close=True)
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.get(url, headers=headers, allow_redirects=False) as response,
    ):
        return 200 <= response.status < 400
