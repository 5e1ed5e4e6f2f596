"""Onboarded namespaces: the watches on our objects in them, what an earlier leader left there, and the
hub's CA for their guards.
"""

from __future__ import annotations

import asyncio
from base64 import b64decode
from collections.abc import Callable
from typing import Any, Final

import structlog

from sendward import document, names
from sendward.apply import kinds
from sendward.apply.informer import Informer, until_following
from sendward.apply.objects import Objects, Target
from sendward.apply.ports import Gone, Kind, Kube
from sendward.apply.signing import DocumentSigner
from sendward.compile.objects import hub_ca
from sendward.controller.documents import Documents
from sendward.controller.watch import Owned
from sendward.document import DocumentError, Envelope
from sendward.errors import SendwardError
from sendward.graph.store import Store
from sendward.resources.base import Resource
from sendward.resources.messaging_gateway import MessagingGatewaySpec

_OURS: Final = f"{names.LABEL_MANAGED_BY}=sendward"
_WATCHED: Final = ((kinds.SECRET, True), (kinds.CONFIG_MAP, False), (kinds.NETWORK_POLICY, False))
_log = structlog.get_logger(__name__)


class Tenants:
    """`opened` is called for each namespace whose watches have listed and whose documents are loaded.
    `restored`: as `on_restored` of an Informer.
    """

    def __init__(
        self,
        kube: Kube,
        store: Store,
        objects: Objects,
        owned: Owned,
        documents: Documents,
        signer: DocumentSigner,
        bundle: Callable[[], str],
        opened: Callable[[str], None],
        restored: Callable[[str], None],
    ) -> None:
        self._kube = kube
        self._store = store
        self._objects = objects
        self._owned = owned
        self._documents = documents
        self._signer = signer
        self._bundle = bundle
        self._opened = opened
        self._leads = asyncio.Event()
        self._restored = restored
        self._tasks: dict[str, list[asyncio.Task[None]]] = {}
        self._informers: dict[str, list[Informer]] = {}

    def onboarded(self, namespace: str, present: bool) -> None:
        """The label of a namespace appeared or vanished."""
        if present and namespace not in self._tasks:
            self._informers[namespace] = [self._informer(namespace, kind, meta) for kind, meta in _WATCHED]
            self._tasks[namespace] = [asyncio.create_task(i.run()) for i in self._informers[namespace]]
            self._tasks[namespace].append(asyncio.create_task(self._open(namespace)))
        elif not present:
            for task in self._tasks.pop(namespace, []):
                task.cancel()
            self._informers.pop(namespace, None)

    def lead(self) -> None:
        """Now that this process leads: every namespace is taken over as soon as its own watches follow."""
        self._leads.set()

    def _informer(self, namespace: str, kind: Kind, metadata_only: bool) -> Informer:
        def event(type_: str, raw: dict[str, Any]) -> None:
            if type_ == "DELETED":
                self._owned.deleted(kind, raw)
            else:
                self._owned.event(kind, raw)

        def reset(seen: Any) -> None:
            present = {Target(kind, ns, name) for ns, name in seen}
            self._objects.ghosts(kind, namespace, present)

        return Informer(
            self._kube,
            kind,
            event,
            reset,
            self._restored,
            namespace=namespace,
            label_selector=_OURS,
            metadata_only=metadata_only,
        )

    async def _open(self, namespace: str) -> None:
        """Take over the documents of a namespace and give its guards the hub's CA."""
        await self._leads.wait()
        await until_following(self._informers[namespace])
        while namespace in self._tasks:
            try:
                await self._load(namespace)
                await self.ensure_ca(namespace)
            except (Gone, SendwardError) as error:
                _log.warning("namespace not taken over", namespace=namespace, cause=str(error))
                await asyncio.sleep(1.0)
            else:
                self._opened(namespace)
                return

    async def ensure_ca(self, namespace: str) -> None:
        """The ConfigMap by which guards know the hub. Raises SendwardError."""
        found = self._store.namespaces.get(namespace)
        if found is not None:
            await self._objects.ensure(
                kinds.CONFIG_MAP, hub_ca(namespace, found.uid, self._bundle()), found.uid
            )

    async def restore_ca(self, namespace: str) -> None:
        """The same, after somebody took it away; tried until it is there."""
        while namespace in self._tasks:
            try:
                await self.ensure_ca(namespace)
            except SendwardError as error:
                _log.warning("CA of the hub not restored", namespace=namespace, cause=str(error))
                await asyncio.sleep(1.0)
            else:
                return

    async def _load(self, namespace: str) -> None:
        token = ""
        while True:
            page = await self._kube.page(
                kinds.SECRET,
                namespace=namespace,
                label_selector=f"{_OURS},{names.LABEL_PART}=document",
                limit=100,
                continue_token=token,
            )
            for secret in page.items:
                self._take_over(namespace, secret)
            token = page.continue_token
            if not token:
                return

    def _take_over(self, namespace: str, secret: dict[str, Any]) -> None:
        """A part that is not ours or not for its gateway is left out, so it will be written again."""
        name = secret["metadata"]["name"]
        try:
            envelope = document.decode(b64decode(secret.get("data", {}).get("document", "")))
            self._signer.verify(envelope, envelope.gateway, envelope.part)
            gateway = self._gateway(namespace, envelope)
            if gateway is None:
                return
            expected = names.document_secret(gateway[0], envelope.part)
            if name != expected or envelope.part not in names.document_parts(gateway[1]):
                raise DocumentError(f"it belongs into Secret {expected}")
            self._documents.load(envelope.gateway, namespace, gateway[0], gateway[1], envelope)
        except (DocumentError, ValueError) as error:
            _log.warning("document part refused", namespace=namespace, secret=name, cause=str(error))
            self._objects.distrust(Target(kinds.SECRET, namespace, name))

    def _gateway(self, namespace: str, envelope: Envelope) -> tuple[str, int] | None:
        """Name and shards of the gateway that an envelope is for; None when it is gone."""
        for record in self._store.group(namespace).gateways.values():
            item = record.item
            if record.meta.uid == envelope.gateway and isinstance(item, Resource):
                spec: MessagingGatewaySpec = item.spec
                return record.meta.key.name, spec.shards
        if envelope.part == names.PART_GATEWAY:
            found = document.open_gateway(envelope)
            return found.name, found.shards
        return None

    async def close(self) -> None:
        """Stop all watches."""
        for namespace in list(self._tasks):
            self.onboarded(namespace, False)
