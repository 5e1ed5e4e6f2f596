"""The parts of the document that this guard holds, verified, and their copies on disk.

Parts come from the mounted Secrets, from disk and from the hub; they are the same signed bytes, and
for each part the newest (epoch, revision) wins, wherever it came from. Order is judged per part: a new
leader does not sign again what did not change, so parts of several epochs stand side by side.
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from typing import Final

import msgspec
import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from msgspec import Struct

from sendward import document, names
from sendward.document import DocumentError, Envelope
from sendward.guard import files
from sendward.protocol import Have

_PART: Final = re.compile(rf"{names.PART_GATEWAY}|0|[1-9][0-9]{{0,2}}")
_MEMORY: Final = "memory.json"

log = structlog.get_logger(__name__)


class Memory(Struct):
    """What outlives a restart besides the parts. `last_contact` in Unix seconds; 0: never. `replaced`: the
    hub knows another gateway by the name of ours.
    """

    highest_epoch: int = 0
    last_contact: int = 0
    replaced: bool = False


class Store:
    """Verifies, remembers and keeps. `directory` belongs to this guard alone."""

    def __init__(self, key: Ed25519PublicKey, gateway_uid: str, directory: Path) -> None:
        self._key = key
        self._gateway_uid = gateway_uid
        self._directory = directory
        self.held: dict[str, Envelope] = {}
        self.memory = self._read_memory()

    def examine(self, raw: bytes) -> Envelope:
        """The envelope, if it is a genuine part of this gateway; raises DocumentError."""
        envelope = document.decode(raw)
        if not _PART.fullmatch(envelope.part):
            raise DocumentError("no such part")
        document.verify(envelope, self._key, self._gateway_uid, envelope.part)
        return envelope

    def successor(self, raw: bytes) -> Envelope | None:
        """The envelope, if it is a genuine part `gateway` of another gateway."""
        try:
            envelope = document.decode(raw)
            document.verify(envelope, self._key, envelope.gateway, names.PART_GATEWAY)
        except DocumentError:
            return None
        return envelope if envelope.gateway != self._gateway_uid else None

    def outdated(self, envelope: Envelope) -> str:
        """Why a genuine envelope must not replace the one that is held; empty if it may."""
        held = self.held.get(envelope.part)
        if held is None or envelope.order > held.order:
            return ""
        return (
            f"epoch {envelope.epoch} revision {envelope.revision} is not newer than "
            f"epoch {held.epoch} revision {held.revision}"
        )

    def hold(self, envelope: Envelope) -> None:
        """The envelope is in force from now on."""
        self.held[envelope.part] = envelope

    def see(self, epoch: int) -> None:
        """An epoch was seen in a genuine envelope, in force or not."""
        self.memory.highest_epoch = max(self.memory.highest_epoch, epoch)

    def have(self) -> dict[str, Have]:
        """What is in force, for the hub."""
        return {
            part: Have(envelope.epoch, envelope.revision, envelope.digest)
            for part, envelope in self.held.items()
        }

    def persist(self, envelope: Envelope) -> None:
        """Keep one part on disk. Blocks; raises OSError, and then none of it is kept."""
        path = self._directory / envelope.part
        try:
            files.replace(path, document.encode(envelope), durable=True)
        except OSError:
            # What lies there is older than what is in force: a restart had better find nothing.
            with contextlib.suppress(OSError):
                path.unlink()
            raise
        self.persist_memory()

    def persist_memory(self) -> None:
        """Keep epoch and last contact on disk. Blocks; raises OSError."""
        files.replace(self._directory / _MEMORY, msgspec.json.encode(self.memory), durable=True)

    def read_disk(self) -> list[bytes]:
        """The parts as they lie on disk, not yet examined."""
        found = []
        for path in sorted(self._directory.iterdir()):
            if not _PART.fullmatch(path.name):
                continue
            try:
                found.append(path.read_bytes())
            except OSError as error:
                log.warning("part on disk is unreadable, ignored", part=path.name, error=type(error).__name__)
        return found

    def _read_memory(self) -> Memory:
        try:
            return msgspec.json.decode((self._directory / _MEMORY).read_bytes(), type=Memory)
        except FileNotFoundError:
            return Memory()
        except (OSError, ValueError, RecursionError):
            log.warning("state file is unreadable, ignored", file=_MEMORY)
            return Memory()


class Mount:
    """The Secrets of the document, mounted as one file a part; kubelet swaps them by a symlink."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._seen: dict[str, tuple[int, int, int]] = {}

    def changed(self) -> list[bytes]:
        """The parts whose file is new or another one since the last call."""
        found = []
        try:
            entries = sorted(os.scandir(self._directory), key=lambda entry: entry.name)
        except FileNotFoundError:
            return []
        for entry in entries:
            if not _PART.fullmatch(entry.name):
                continue
            try:
                status = entry.stat()
                mark = (status.st_ino, status.st_mtime_ns, status.st_size)
                if self._seen.get(entry.name) == mark:
                    continue
                found.append(Path(entry.path).read_bytes())
            except OSError:
                continue  # swapped while we looked: the next call reads it
            self._seen[entry.name] = mark
        return found
