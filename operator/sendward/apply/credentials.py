"""Draws, writes, reads back and destroys key versions. The only place where key values live.

Values are drawn by Vault in batches: 40 bytes a version (32 for the secret, 8 for the id), so 100
versions cost one call. What leaves this class is ids, digests and numbers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime
from typing import Final

from sendward import keyformat, names
from sendward.apply.ports import Vault
from sendward.compile import rotation
from sendward.compile.credentials import Pending, Phase
from sendward.errors import Bug, NotFound
from sendward.resources.status import APIKeyStatus

_DRAW_BYTES: Final = 40
_BATCH: Final = 100
_MAX_NUMBER: Final = 2**31 - 1  # of a version, as its status can hold it
_YEARS: Final = range(2000, 3000)  # of an issue: further ones cannot be counted with
_KEPT: Final = 10  # versions of a path that Vault keeps unless it is told otherwise


class Credentials:
    """One instance per operator process."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self._pool = bytearray()
        self._refill = asyncio.Lock()
        self._values: dict[str, tuple[str, str]] = {}  # key uid -> (version id, key)

    async def draw(self, key_uid: str, number: int, now: datetime) -> Pending:
        """Draw a version in memory; nothing is written anywhere."""
        raw = await self._random()
        version_id = keyformat.id_from_bytes(raw[32:])
        secret = keyformat.secret_from_bytes(raw[:32])
        self._values[key_uid] = (version_id, keyformat.encode(version_id, secret))
        return Pending(number, version_id, keyformat.digest(secret), Phase.DRAWN, now)

    async def write(self, path: str, key_uid: str, pending: Pending, cas: int) -> int:
        """Write the drawn version with check-and-set; the KV version. Raises Conflict, Unavailable."""
        version_id, key = self._values[key_uid]
        if version_id != pending.id:
            raise Bug(f"version {pending.id} is not the one that was drawn")
        data = {
            "id": pending.id,
            "number": str(pending.number),
            "issuedAt": pending.issued_at.isoformat(),
            "key": key,
        }
        return await self._vault.kv_write(path, data, cas)

    async def read_back(self, path: str, key_uid: str, status: APIKeyStatus) -> tuple[int, list[Pending]]:
        """The KV version of the path (0: none) and the versions in it that the status does not know, the
        oldest first. There is more than one only when the status comes from a backup.
        """
        latest = await self._vault.kv_read(path)
        if latest is None:
            return 0, []
        known = max((version.vault_version for version in status.versions), default=0)
        newest, found = rotation.newest_number(status), []
        first = min(known + 1, latest.version)  # a path that was deleted counts from 1 again
        for number in range(max(first, latest.version - _KEPT + 1), latest.version + 1):
            value = latest if number == latest.version else await self._vault.kv_read(path, number)
            parsed = _parse(number, value.data, newest) if value is not None and value.data else None
            if parsed is not None and value is not None and value.data is not None:
                found.append(parsed)
                if len(found) == 1:
                    self._values[key_uid] = (parsed.id, value.data["key"])
                newest = parsed.number
        return latest.version, found

    async def ended(self, path: str, status: APIKeyStatus) -> frozenset[str]:
        """Ids of versions that the status calls live and that Vault has destroyed, or deleted with their
        key: they ended, and the status comes from a backup.
        """
        live = [version for version in status.versions if version.state in ("Current", "Previous")]
        if live and await self._vault.kv_read(path) is None:
            return frozenset(version.id for version in live)
        result = set()
        for version in live:
            found = await self._vault.kv_read(path, version.vault_version)
            if found is not None and found.data is None:
                result.add(version.id)
        return frozenset(result)

    async def digests(self, path: str, status: APIKeyStatus) -> dict[str, str]:
        """Digests of the live versions, read from Vault: version id -> hex SHA-256. A version that is
        gone from Vault is left out: nobody can tell its verifier any more.
        """
        result = {}
        for version in status.versions:
            if version.state not in ("Current", "Previous"):
                continue
            found = await self._vault.kv_read(path, version.vault_version)
            parsed = keyformat.parse(found.data.get("key", "")) if found and found.data else None
            if parsed is not None and parsed[0] == version.id:
                result[version.id] = keyformat.digest(parsed[1])
        return result

    async def hand_over_values(
        self, path: str, key_uid: str, version_id: str, kv_version: int
    ) -> dict[str, str]:
        """Secret data for the holder: the key and its version's id. Reads Vault unless just drawn.

        Raises NotFound when the version is gone from Vault.
        """
        held = self._values.get(key_uid)
        if held is None or held[0] != version_id:
            found = await self._vault.kv_read(path, kv_version)
            if found is None or found.data is None or found.data.get("id") != version_id:
                raise NotFound(f"version {version_id} is gone from Vault")
            held = (version_id, found.data["key"])
        return {"key": held[1], "id": held[0]}

    async def destroy(self, path: str, kv_versions: list[int]) -> None:
        """Destroy versions that nobody may use any more."""
        if kv_versions:
            await self._vault.kv_destroy(path, kv_versions)

    async def purge(self, namespace_uid: str, key_uid: str) -> None:
        """Remove all of a key from Vault."""
        self._values.pop(key_uid, None)
        await self._vault.kv_delete(names.key_path(namespace_uid, key_uid))

    def forget(self, key_uid: str) -> None:
        """Drop the value from memory once it is handed over and recorded."""
        self._values.pop(key_uid, None)

    async def _random(self) -> bytes:
        async with self._refill:
            if len(self._pool) < _DRAW_BYTES:
                self._pool += await self._vault.random(_DRAW_BYTES * _BATCH)
            raw = bytes(self._pool[:_DRAW_BYTES])
            del self._pool[:_DRAW_BYTES]
            return raw


def _parse(kv_version: int, data: Mapping[str, str], newest: int) -> Pending | None:
    """A foreign write into the path is no version of ours: it is left behind by the next one.

    What is not above the newest recorded number is known, or ended long ago and came back with a
    backup of Vault.
    """
    parsed = keyformat.parse(data.get("key", ""))
    try:
        number = int(data.get("number", ""))
        issued = datetime.fromisoformat(data.get("issuedAt", ""))
    except ValueError:
        return None
    sound = number <= _MAX_NUMBER and issued.tzinfo is not None and issued.year in _YEARS
    if parsed is None or number <= newest or not sound:
        return None
    return Pending(number, parsed[0], keyformat.digest(parsed[1]), Phase.WRITTEN, issued, kv_version)
