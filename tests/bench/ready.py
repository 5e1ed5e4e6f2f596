"""Who is Ready, as one watch of accounts and one of keys show it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Set
from typing import Any

from sendward.apply import kinds
from sendward.apply.informer import Informer
from sendward.apply.kube import KubeClient
from sendward.apply.ports import Kind
from tests.bench import resources


class Ready:
    """Follows accounts and keys: who is Ready for its present generation."""

    def __init__(self, kube: KubeClient) -> None:
        self._ready: dict[str, set[str]] = {}
        self._changed = asyncio.Event()
        self.informers = [self._informer(kube, kind) for kind in (kinds.SENDER_ACCOUNT, kinds.API_KEY)]

    def _informer(self, kube: KubeClient, kind: Kind) -> Informer:
        ready = self._ready.setdefault(kind.kind, set())

        def event(type_: str, found: dict[str, Any]) -> None:
            name = found["metadata"]["name"]
            if type_ != "DELETED" and _is_ready(found):
                ready.add(name)
            else:
                ready.discard(name)
            self._changed.set()

        def reset(_: Set[tuple[str, str]]) -> None:
            self._changed.set()

        def restored(found: str) -> None:
            raise AssertionError(f"{found}: the API server's data was restored")

        return Informer(
            kube, kind, event, reset, restored, namespace=resources.NAMESPACE, relist_seconds=36_000
        )

    def forget(self, kind: Kind, names: Iterable[str]) -> None:
        """Wait for these anew: they are about to change."""
        self._ready[kind.kind] -= set(names)

    async def all(self, names: Iterable[str], seconds: float) -> None:
        """Until the accounts and keys of these names are Ready. Raises TimeoutError."""
        wanted = set(names)
        async with asyncio.timeout(seconds):
            while not all(wanted <= ready for ready in self._ready.values()):
                self._changed.clear()
                await self._changed.wait()

    def count(self) -> str:
        """How far it is, for people."""
        return ", ".join(f"{len(ready)} {kind}" for kind, ready in self._ready.items())


def _is_ready(found: dict[str, Any]) -> bool:
    generation = found["metadata"]["generation"]
    return any(
        c["type"] == "Ready" and c["status"] == "True" and c["observedGeneration"] == generation
        for c in found.get("status", {}).get("conditions", ())
    )
