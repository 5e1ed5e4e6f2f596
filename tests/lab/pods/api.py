"""The API server over HTTP: single requests, and mirrors that follow whole collections."""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import aiohttp

log = logging.getLogger(__name__)

Object = dict[str, Any]
Key = tuple[str, str]  # namespace, name

STRATEGIC: Final = "application/strategic-merge-patch+json"
RELIST_DELAY: Final = 0.3  # seconds


@dataclass(frozen=True)
class ApiAccess:
    """How the runner reaches the API server.

    `url` as `https://10.123.0.1:6443`: host and port must be reachable from the pods' addresses
    too, since pods get them as KUBERNETES_SERVICE_HOST and _PORT. `token` is an administrator's.
    """

    url: str
    token: str
    ca: Path


class ApiError(Exception):
    """An answer of 400 or above with the server's own message; status 0 when there was no answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status

    @property
    def passing(self) -> bool:
        """Whether the same call may succeed later."""
        return self.status in (0, 429) or self.status >= 500


class Api:
    """A thin client. Use as an async context manager."""

    def __init__(self, access: ApiAccess) -> None:
        self.access = access
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        context = ssl.create_default_context(cafile=str(self.access.ca))
        self._session = aiohttp.ClientSession(
            base_url=self.access.url,
            connector=aiohttp.TCPConnector(ssl=context, limit=0),
            headers={"Authorization": f"Bearer {self.access.token}"},
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=5),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    @property
    def session(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise RuntimeError("Api is used outside of its context")
        return self._session

    async def request(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, kind: str = "application/json"
    ) -> Object:
        """One call. Raises ApiError."""
        try:
            async with self.session.request(
                method,
                path,
                data=None if body is None else json.dumps(body),
                headers={"Content-Type": kind},
                timeout=aiohttp.ClientTimeout(total=30),
            ) as response:
                status, text = response.status, await response.text()
        except (aiohttp.ClientError, OSError) as error:
            raise ApiError(0, f"{type(error).__name__}: {error}") from None
        try:
            content: Object = json.loads(text)
        except ValueError:
            raise ApiError(status, text) from None
        if status >= 400:
            raise ApiError(status, str(content.get("message", "")))
        return content

    async def get(self, path: str) -> Object | None:
        """The object, or None when there is none."""
        try:
            return await self.request("GET", path)
        except ApiError as error:
            if error.status == 404:
                return None
            raise


class Mirror:
    """A local copy of one collection in all namespaces, kept by list and watch.

    `on_change(key, object)` is called for each addition and change, with None for a removal; it
    must not block.
    """

    def __init__(
        self, api: Api, path: str, on_change: Callable[[Key, Object | None], None] | None = None
    ) -> None:
        self.objects: dict[Key, Object] = {}
        self.listed = asyncio.Event()
        self._api = api
        self._path = path
        self._on_change = on_change or (lambda _key, _object: None)

    async def run(self) -> None:
        """Follow the collection until cancelled."""
        while True:
            try:
                version = await self._list()
                while True:
                    version = await self._watch(version)
            except (ApiError, aiohttp.ClientError, OSError, ValueError) as error:
                log.debug("mirror of %s starts again: %s", self._path, type(error).__name__)
            await asyncio.sleep(RELIST_DELAY)

    async def _list(self) -> str:
        answer = await self._api.request("GET", self._path)
        found = {_key(item): item for item in answer["items"]}
        for gone in self.objects.keys() - found.keys():
            self._set(gone, None)
        for key, item in found.items():
            self._set(key, item)
        self.listed.set()
        return str(answer["metadata"]["resourceVersion"])

    async def _watch(self, version: str) -> str:
        """Follow one watch to its end; returns the version to go on from."""
        params = {
            "watch": "true",
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": "300",
        }
        async with self._api.session.get(self._path, params=params) as response:
            if response.status >= 400:
                raise ApiError(response.status, str(response.reason))
            pending = b""
            async for chunk in response.content.iter_any():
                *lines, pending = (pending + chunk).split(b"\n")
                for line in lines:
                    version = self._event(json.loads(line))
        return version

    def _event(self, event: Object) -> str:
        item: Object = event["object"]
        if event["type"] == "ERROR":
            raise ApiError(int(item.get("code", 500)), str(item.get("message", "")))
        if event["type"] != "BOOKMARK":
            self._set(_key(item), None if event["type"] == "DELETED" else item)
        return str(item["metadata"]["resourceVersion"])

    def _set(self, key: Key, item: Object | None) -> None:
        if item is None:
            self.objects.pop(key, None)
        else:
            self.objects[key] = item
        self._on_change(key, item)


def _key(item: Object) -> Key:
    meta = item["metadata"]
    return str(meta.get("namespace", "")), str(meta["name"])
