"""What Vault holds, against what is recorded: found are keys without an owner, values that are gone, and
ended values that came back, after a hand or a backup of Vault was at work.

A round costs one LIST and a few reads per namespace: of the keys that changed last, which a backup cannot
know, of those that Vault has nothing of, and of some others, so that each key is looked at once a day.
Only what is wrong there makes it look at every key of the namespace.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from heapq import nlargest
from typing import Final

import structlog

from sendward import names
from sendward.apply.ports import KVValue, Vault
from sendward.compile import rotation
from sendward.controller.keysteps import KeySteps
from sendward.errors import SendwardError, Unavailable
from sendward.graph.facts import Namespace
from sendward.graph.store import Record, Store
from sendward.resources.base import ObjectKey
from sendward.resources.status import APIKeyStatus, KeyVersion

_NEWEST: Final = 4  # keys of a namespace that are compared each time: a restore takes back what is newest
_ROUNDS: Final = 144  # of ten minutes: a day
_FIRST, _EVERY, _RETRY = 10.0, 600.0, 1.0  # seconds
_KEPT: Final = 16  # versions of a path that Vault keeps, by `sendward vault bootstrap`
_NEVER: Final = datetime.min.replace(tzinfo=UTC)
_log = structlog.get_logger(__name__)


class VaultAudit:
    """`mark` hears which keys must be looked at again."""

    def __init__(
        self, vault: Vault, store: Store, steps: KeySteps, mark: Callable[[ObjectKey], None]
    ) -> None:
        self._vault = vault
        self._store = store
        self._steps = steps
        self._mark = mark
        self._round = 0
        self._undecided = False  # in the last round a key that differs was being worked on

    async def keep(self) -> None:
        """A round every ten minutes, sooner after an undecided one, until cancelled. The guards come first:
        what they know tells a restored etcd from a restored Vault.
        """
        pause = soon = _FIRST
        while True:
            await asyncio.sleep(pause)
            try:
                await self.run()
            except SendwardError as error:
                _log.warning("Vault not compared", cause=str(error))
                pause = _RETRY
                continue
            pause = soon if self._undecided else _EVERY
            soon = min(2 * soon, _EVERY) if self._undecided else _FIRST

    async def run(self) -> None:
        """One round over all namespaces. Raises Unavailable when Vault is away."""
        self._undecided = False
        for name in list(self._store.opened):
            found = self._store.namespaces.get(name)
            if found is None:
                continue
            try:
                await self._namespace(found)
            except Unavailable:
                raise
            except SendwardError as error:
                _log.warning("Vault not compared", namespace=name, cause=str(error))
        self._round = (self._round + 1) % _ROUNDS

    async def _namespace(self, namespace: Namespace) -> None:
        held = set(await self._vault.kv_list(namespace.uid))
        # Read after the LIST: a key that was declared meanwhile is no orphan.
        records = list(self._store.group(namespace.name).keys.values())
        for orphan in held - {record.meta.uid for record in records}:
            await self._vault.kv_delete(names.key_path(namespace.uid, orphan))
            _log.info("orphan removed from Vault", namespace=namespace.name, key_uid=orphan)
        if not records:
            return
        chosen = [record for record in records if self._is_chosen(record, held)]
        newest = nlargest(_NEWEST, records, key=_changed)
        wrong = [await self._differs(namespace, record) for record in [*newest, *chosen]]
        if any(wrong):
            _log.warning(
                "Vault does not hold what is recorded: every key is compared", namespace=namespace.name
            )
            if await self._is_backup(namespace, records):
                _log.warning("the records are older than Vault: etcd was restored", namespace=namespace.name)
                for record in records:
                    self._steps.doubt(record.meta.uid)
                    self._mark(record.meta.key)
                return
            await self._repair(namespace, records)

    def _is_chosen(self, record: Record, held: set[str]) -> bool:
        missing = record.meta.uid not in held and rotation.current(_status(record)) is not None
        return missing or zlib.crc32(record.meta.uid.encode()) % _ROUNDS == self._round

    async def _is_backup(self, namespace: Namespace, records: Iterable[Record]) -> bool:
        """Whether Vault holds a version of ours that a key at rest does not know: then its words count."""
        for record in records:
            latest = await self._vault.kv_read(names.key_path(namespace.uid, record.meta.uid))
            if (
                latest is not None
                and _is_unrecorded(latest, _status(record).versions)
                and self._is_at_rest(record)
            ):
                return True
        return False

    async def _repair(self, namespace: Namespace, records: Iterable[Record]) -> None:
        for record in records:
            try:
                await self._repair_key(namespace, record)
            except Unavailable:
                raise
            except SendwardError as error:
                _log.warning("Vault not compared", key=str(record.meta.key), cause=str(error))

    async def _repair_key(self, namespace: Namespace, record: Record) -> None:
        """What ended is destroyed again; a current value that is gone is named, so that one is issued."""
        path = names.key_path(namespace.uid, record.meta.uid)
        latest = await self._vault.kv_read(path)
        if not self._is_at_rest(record):
            return
        versions = _status(record).versions
        if latest is not None:
            kept = {v.vault_version for v in versions if v.state in ("Current", "Previous")}
            end = latest.version if _is_unrecorded(latest, versions) else latest.version + 1
            numbers = range(max(1, latest.version - _KEPT + 1), end)
            if ended := [number for number in numbers if number not in kept]:
                await self._vault.kv_destroy(path, ended)
        current = rotation.current(_status(record))
        if current is not None and await self._is_gone(path, record):
            self._steps.state(record.meta.uid).gone = current.id
            self._mark(record.meta.key)

    async def _differs(self, namespace: Namespace, record: Record) -> bool:
        path = names.key_path(namespace.uid, record.meta.uid)
        wrong = await self._is_gone(path, record) or await self._came_back(path, record)
        at_rest = self._is_at_rest(record)
        self._undecided = self._undecided or (wrong and not at_rest)
        return wrong and at_rest

    async def _is_gone(self, path: str, record: Record) -> bool:
        """Whether a holder who reads the path does not find the current version."""
        current = rotation.current(_status(record))
        if current is None:
            return False
        latest = await self._vault.kv_read(path)
        found = (latest.version, (latest.data or {}).get("id")) if latest else None
        return found != (current.vault_version, current.id)

    async def _came_back(self, path: str, record: Record) -> bool:
        """Whether the version that ended last can be read."""
        ended = [version for version in _status(record).versions if version.destroyed]
        if not ended:
            return False
        last = max(ended, key=_moment)
        found = await self._vault.kv_read(path, last.vault_version)
        return found is not None and (found.data or {}).get("id") == last.id

    def _is_at_rest(self, record: Record) -> bool:
        """Nothing was recorded since it was read, and no version is on its way."""
        now, state = self._store.get(record.meta.key), self._steps.state(record.meta.uid)
        if now is None or now.meta.uid != record.meta.uid or now.status != record.status:
            return False
        newest = rotation.newest_number(_status(record))
        waits = state.pending is not None or any(v.number > newest for v in state.loaded.values())
        return not (waits or state.busy or record.meta.deleting)


def _status(record: Record) -> APIKeyStatus:
    return APIKeyStatus.model_validate_json(record.status)


def _is_unrecorded(latest: KVValue, versions: list[KeyVersion]) -> bool:
    """A version that was written just before a crash, perhaps: the next write takes it over."""
    number = (latest.data or {}).get("number", "")
    return (
        number.isdecimal() and len(number) < 10 and int(number) > max((v.number for v in versions), default=0)
    )


def _changed(record: Record) -> datetime:
    """When the newest thing happened to a key that Vault must know of."""
    return max((_moment(version) for version in _status(record).versions), default=_NEVER)


def _moment(version: KeyVersion) -> datetime:
    return version.ended_at if version.ended_at is not None and version.destroyed else version.issued_at
