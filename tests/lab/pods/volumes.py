"""Volume directories of a pod, written and swapped as the kubelet does.

<volume>/..2026_01_02_03_04_05.123456   the files
<volume>/..data -> ..2026_...            replaced by rename: readers see all files change at once
<volume>/tls.crt -> ..data/tls.crt
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from tests.lab.pods import network
from tests.lab.pods.api import Api, Mirror, Object
from tests.lab.pods.payload import Kind, MissingSourceError, Payload, payload, references

DATA: Final = "..data"
PATHS: Final[Mapping[Kind, str]] = {"Secret": "secrets", "ConfigMap": "configmaps"}


def write_atomically(folder: Path, files: Payload, group: int | None) -> None:
    """Replace the volume's content in one step. `group` is the pod's fsGroup, if it has one."""
    previous = os.readlink(folder / DATA) if (folder / DATA).is_symlink() else None
    fresh = folder / f"..{datetime.now(UTC):%Y_%m_%d_%H_%M_%S.%f}"
    fresh.mkdir(mode=0o755)
    for path, file in files.items():
        target = fresh / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.data)
        # With an fsGroup the kubelet adds read permission for the group.
        target.chmod(file.mode if group is None else file.mode | 0o440)
    if group is not None:
        _give_to_group(fresh, group)
    (folder / "..data_tmp").symlink_to(fresh.name)
    (folder / "..data_tmp").rename(folder / DATA)
    visible = {path.split("/")[0] for path in files}
    for name in visible:
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(f"{DATA}/{name}")
    for link in folder.iterdir():
        if link.is_symlink() and link.name != DATA and link.name not in visible:
            link.unlink()
    if previous is not None:
        shutil.rmtree(folder / previous)


def _give_to_group(folder: Path, group: int) -> None:
    for path in (folder, *folder.rglob("*")):
        os.chown(path, -1, group)
        if path.is_dir():
            path.chmod(path.stat().st_mode | 0o2550)


@dataclass
class _Token:
    value: str
    renew_at: float  # monotonic seconds


class Volumes:
    """The volumes of one pod."""

    def __init__(self, api: Api, mirrors: Mapping[Kind, Mirror], pod: Object, folder: Path) -> None:
        self.pod = pod
        self._api = api
        self._mirrors = mirrors
        self._folder = folder
        self._tokens: dict[tuple[str, int], _Token] = {}
        self._written: dict[str, Payload] = {}
        self._seen: dict[str, tuple[object, ...]] = {}
        self._memory: list[Path] = []
        security = pod["spec"].get("securityContext") or {}
        self._group: int | None = security.get("fsGroup")
        self._specs: list[Object] = list(pod["spec"].get("volumes") or ())

    def path(self, name: str) -> Path:
        """Folder of a volume on the machine."""
        return self._folder / name

    async def set_up(self) -> None:
        """Make all volumes from what the API server says now. Raises MissingSourceError; call again then."""
        for spec in self._specs:
            if "emptyDir" in spec:
                await self._empty_dir(spec)
            else:
                found = {
                    (kind, name): await self._api.get(
                        f"/api/v1/namespaces/{self._namespace}/{PATHS[kind]}/{name}"
                    )
                    for kind, name in references(spec)
                }
                try:
                    await self._write(spec, lambda kind, name, found=found: found[kind, name])
                except MissingSourceError as missing:
                    raise MissingSourceError(
                        f'MountVolume.SetUp failed for volume "{spec["name"]}": {missing}'
                    ) from None

    async def refresh(self) -> None:
        """Follow changes of Secrets, ConfigMaps, labels and token ages. A source that has gone
        missing leaves the volume as it was, as on a real node.
        """
        for spec in self._specs:
            if "emptyDir" not in spec:
                with contextlib.suppress(MissingSourceError):
                    await self._write(spec, self._mirrored)

    async def tear_down(self) -> None:
        """Remove everything, unmounting the memory-backed volumes."""
        for path in self._memory:
            await network.run("umount", "-l", str(path))
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def _namespace(self) -> str:
        return str(self.pod["metadata"]["namespace"])

    def _mirrored(self, kind: Kind, name: str) -> Object | None:
        return self._mirrors[kind].objects.get((self._namespace, name))

    async def _empty_dir(self, spec: Object) -> None:
        path = self.path(spec["name"])
        if path.exists():
            return
        path.mkdir(parents=True)
        if spec["emptyDir"].get("medium") == "Memory":
            await network.run("mount", "-t", "tmpfs", "tmpfs", str(path))
            self._memory.append(path)
        path.chmod(0o777)
        if self._group is not None:
            os.chown(path, -1, self._group)
            path.chmod(0o2777)

    async def _write(self, spec: Object, lookup: Any) -> None:
        for source in (spec.get("projected") or {}).get("sources") or ():
            if "serviceAccountToken" in source:
                await self._renew(source["serviceAccountToken"])
        name = str(spec["name"])
        state = self._state(spec, lookup)
        if self._seen.get(name) == state:
            return
        files = payload(spec, self.pod, lookup, lambda wanted: self._tokens[_token_key(wanted)].value)
        if self._written.get(name) != files:
            path = self.path(name)
            path.mkdir(parents=True, exist_ok=True)
            write_atomically(path, files, self._group)
            self._written[name] = files
        self._seen[name] = state

    def _state(self, spec: Object, lookup: Any) -> tuple[object, ...]:
        """Changes whenever the volume's content may have changed; cheap, since it is asked often."""
        found = [lookup(kind, name) for kind, name in references(spec)]
        meta = self.pod["metadata"]
        return (
            [item and item["metadata"]["resourceVersion"] for item in found],
            meta.get("labels"),
            meta.get("annotations"),
            [token.value for token in self._tokens.values()],
        )

    async def _renew(self, wanted: Mapping[str, Any]) -> None:
        """Keep a token that is bound to this pod; renewed at 80 % of its life."""
        key = _token_key(wanted)
        held = self._tokens.get(key)
        if held is not None and time.monotonic() < held.renew_at:
            return
        audience, seconds = key
        meta = self.pod["metadata"]
        account = self.pod["spec"].get("serviceAccountName", "default")
        answer = await self._api.request(
            "POST",
            f"/api/v1/namespaces/{meta['namespace']}/serviceaccounts/{account}/token",
            {
                "apiVersion": "authentication.k8s.io/v1",
                "kind": "TokenRequest",
                "spec": {
                    "audiences": [audience] if audience else [],
                    "expirationSeconds": seconds,
                    "boundObjectRef": {
                        "apiVersion": "v1",
                        "kind": "Pod",
                        "name": meta["name"],
                        "uid": meta["uid"],
                    },
                },
            },
        )
        self._tokens[key] = _Token(str(answer["status"]["token"]), time.monotonic() + 0.8 * seconds)


def _token_key(wanted: Mapping[str, Any]) -> tuple[str, int]:
    return str(wanted.get("audience", "")), int(wanted.get("expirationSeconds", 3600))
