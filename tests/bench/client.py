"""A sender: reads its key from Vault and keeps one TLS connection to the gateway open."""

from __future__ import annotations

import asyncio
import ssl
from typing import Final, Self

import aiohttp

from tests.bench import resources
from tests.lab.servers import Lab

_BODY: Final = b'{"to":"+447700900123","from":"ACME","text":"hello"}'


class Probe:
    """One open connection to a gateway pod."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, address: str, tls: ssl.SSLContext) -> Self:
        """Connect to a pod's address."""
        reader, writer = await asyncio.open_connection(
            address, resources.PORT, ssl=tls, server_hostname=resources.HOST
        )
        return cls(reader, writer)

    async def send(self, key: str) -> int:
        """Send one message; the status of the answer. Raises OSError, IncompleteReadError."""
        lines = (
            "POST /v1/messages HTTP/1.1",
            f"host: {resources.HOST}",
            f"authorization: Bearer {key}",
            "content-type: application/json",
            f"content-length: {len(_BODY)}",
        )
        self._writer.write("\r\n".join((*lines, "", "")).encode() + _BODY)
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        length = next((int(v) for k, _, v in (x.partition(":") for x in head) if k == "content-length"), 0)
        await self._reader.readexactly(length)
        return int(head[0].split(" ")[1])

    def close(self) -> None:
        """Close the connection."""
        self._writer.transport.abort()


class VaultReader:
    """Reads keys as an administrator, on connections that stay open."""

    def __init__(self, lab: Lab) -> None:
        tls = ssl.create_default_context(cafile=str(lab.ca_file))
        self._address = f"{lab.vault_address}/v1/sendward/data/"
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=tls), headers={"X-Vault-Token": lab.vault_token}
        )

    async def key(self, path: str) -> str:
        """The current value of a key; empty if there is none yet."""
        async with self._session.get(self._address + path) as answer:
            if answer.status == 404:
                return ""
            answer.raise_for_status()
            value: str = (await answer.json())["data"]["data"]["key"]
            return value

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()
