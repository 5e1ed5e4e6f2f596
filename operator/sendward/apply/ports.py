"""What the operator asks of the API server and of Vault. The real clients and the stateful fakes
under tests/fakes pass one shared suite. Every method raises only `sendward.errors`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

Object = dict[str, Any]  # a Kubernetes object as JSON


@dataclass(frozen=True, slots=True)
class Kind:
    """A resource of the API server. `group` is "" for the core group."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a list. `continue_token` is "" on the last one."""

    items: list[Object]
    resource_version: str
    continue_token: str


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """`type` is ADDED, MODIFIED, DELETED or BOOKMARK."""

    type: str
    object: Object


class Gone(Exception):  # noqa: N818 - the name of the HTTP status
    """A watch or a continue token is too old (410): list again from the start."""


@dataclass(frozen=True, slots=True)
class TokenStatus:
    """Answer to a TokenReview. `extra` holds pod name and uid of bound tokens."""

    authenticated: bool
    username: str
    audiences: tuple[str, ...]
    extra: Mapping[str, tuple[str, ...]]


class Kube(Protocol):
    """A thin client: at most 32 requests at once; honours Retry-After; never retries a write itself."""

    async def page(
        self,
        kind: Kind,
        *,
        namespace: str | None = None,
        label_selector: str = "",
        metadata_only: bool = False,
        limit: int = 500,
        continue_token: str = "",
    ) -> Page: ...

    def watch(
        self,
        kind: Kind,
        resource_version: str,
        *,
        namespace: str | None = None,
        label_selector: str = "",
        metadata_only: bool = False,
        timeout_seconds: int = 290,
    ) -> AsyncIterator[WatchEvent]:
        """Ends after `timeout_seconds` without an error; raises Gone on 410, Unavailable on others."""

    async def get(self, kind: Kind, namespace: str | None, name: str) -> Object:
        """Raises NotFound."""

    async def create(self, kind: Kind, obj: Object) -> Object:
        """Raises Conflict when the name is taken."""

    async def replace(self, kind: Kind, obj: Object) -> Object:
        """PUT; with `metadata.resourceVersion` it raises Conflict on a lost race."""

    async def apply(self, kind: Kind, obj: Object, *, subresource: str = "") -> Object:
        """Server-side apply, field manager `sendward`, force. `subresource="status"` for status.

        With `metadata.uid` set it never recreates a deleted object (raises NotFound or Conflict).
        """

    async def patch(self, kind: Kind, namespace: str | None, name: str, operations: list[Object]) -> Object:
        """JSON patch (RFC 6902); use a `test` operation on uid or resourceVersion."""

    async def delete(self, kind: Kind, namespace: str | None, name: str, *, uid: str = "") -> None:
        """Absent is success; with `uid` another object of that name is left alone."""

    async def review_token(self, token: str, audience: str) -> TokenStatus: ...


@dataclass(frozen=True, slots=True)
class KVValue:
    """The latest version of a KV v2 path. `data` is None when that version is deleted or destroyed."""

    version: int
    data: Mapping[str, str] | None


@dataclass(frozen=True, slots=True)
class Certificate:
    """A server certificate: PEM strings; `private_key` is a secret."""

    chain: str
    private_key: str
    not_before: datetime
    not_after: datetime

    def __repr__(self) -> str:
        return f"Certificate(not_after={self.not_after.isoformat()})"


class Vault(Protocol):
    """The few calls the operator makes. Logs in, renews and logs in again by itself.

    Mount names are settings of the client; `path` comes from `names.key_path`.
    """

    async def random(self, count: int) -> bytes:
        """`count` random bytes drawn by Vault (sys/tools/random), at most 64 kB a call."""

    async def kv_write(self, path: str, data: Mapping[str, str], cas: int) -> int:
        """Write with check-and-set; the new KV version. Raises Conflict on a mismatch.

        Unavailable after a lost answer says nothing about whether the write happened: read back.
        """

    async def kv_read(self, path: str, version: int = 0) -> KVValue | None:
        """One KV version, 0 for the latest; None when the path or that version never existed, or its
        metadata was deleted.
        """

    async def kv_destroy(self, path: str, versions: list[int]) -> None: ...

    async def kv_delete(self, path: str) -> None:
        """Delete all versions and the metadata. Absent is success."""

    async def kv_list(self, prefix: str) -> list[str]:
        """Names below a prefix, without values; [] when there are none."""

    async def issue_certificate(
        self, common_name: str, dns_names: list[str], ttl_seconds: int
    ) -> Certificate:
        """A server certificate from the PKI mount's role for gateways."""
