"""When each key version was last used, as the guards of each gateway report it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from datetime import UTC, datetime


class LastUsed:
    """A guard is a tenant's pod: it is believed for versions that exist, and asked by its gateway."""

    def __init__(self) -> None:
        self._moments: dict[tuple[str, str], datetime] = {}  # by gateway uid and version id
        self._versions: set[str] = set()

    def know(self, versions: Iterable[str]) -> None:
        """These exist (ids)."""
        self._versions.update(versions)

    def heard(self, gateway_uid: str, last: Mapping[str, int]) -> None:
        """Last use per version id, Unix seconds."""
        for version, moment in last.items():
            if version in self._versions:
                self._moments[gateway_uid, version] = datetime.fromtimestamp(moment, UTC)

    def of(self, version: str, gateways: Set[str]) -> datetime | None:
        """The latest use in any of these gateways."""
        times = [t for gateway in gateways if (t := self._moments.get((gateway, version))) is not None]
        return max(times) if times else None

    def sweep(self, versions: set[str], gateways: Set[str]) -> None:
        """Forget all versions and gateways but these."""
        self._versions = versions
        for place in [p for p in self._moments if p[0] not in gateways or p[1] not in versions]:
            del self._moments[place]
