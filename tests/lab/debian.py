"""Servers of the lab that come as Debian packages: unpacked into the cache, nothing is installed.

`apt-get` decides the version and checks signature and hash of each package; on Debian 12 that is
Redis 7.0, on Ubuntu 24.04 too. Where there is no apt, a server that is installed is taken.
"""

import argparse
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.lab.prerequisites import LabError, search_path

_DOWNLOAD_SECONDS = 300


@dataclass(frozen=True)
class Package:
    """One server: the Debian package with its binary, and those with libraries that a machine may lack."""

    name: str
    binary: str
    """Path of the binary inside the unpacked packages."""
    packages: tuple[str, ...]
    usual_minutes: float = 0.2

    def key(self) -> str:
        """Hash of what decides the binary, 16 hex digits; the version is what apt has on this system."""
        parts = (platform.machine(), *_distribution(), self.binary)
        return hashlib.sha256("\0".join((*parts, *self.packages)).encode()).hexdigest()[:16]

    def check(self) -> None:
        """Raise LabError unless the server can be had here."""
        _source(self)

    def command(self, output: Path) -> list[str]:
        """What puts the server into the folder `output`."""
        return [sys.executable, "-m", "tests.lab.debian", self.name, str(output)]


PACKAGES: tuple[Package, ...] = (
    Package(
        "redis-server",
        "usr/bin/redis-server",
        ("redis-server", "redis-tools", "libjemalloc2", "liblzf1", "libatomic1"),
    ),
)


def _distribution() -> tuple[str, str]:
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        return "", ""
    return release.get("ID", ""), release.get("VERSION_ID", "")


def _source(package: Package) -> Path | None:
    """The installed server, where there is no apt; None: apt has it."""
    path = search_path()
    if shutil.which("apt-get", path=path) and shutil.which("dpkg-deb", path=path):
        return None
    installed = shutil.which(package.name, path=path)
    if installed is None:
        raise LabError(
            f"`{package.name}` is missing, and there is no apt-get to fetch it with: install it with this "
            "system's package manager, so that it is on the PATH."
        )
    return Path(installed)


def provide(package: Package, output: Path) -> None:
    """Put an executable file of the package's name into `output`. Raises LabError."""
    installed = _source(package)
    launcher = output / package.name
    if installed is not None:
        _write_launcher(launcher, f'exec {shlex.quote(str(installed))} "$@"')
        return
    root = output / "root"
    with tempfile.TemporaryDirectory() as folder:
        # apt's sandbox user must be able to write there.
        os.chmod(folder, 0o777)
        apt = _private_apt(Path(folder))
        print("reading the lists of packages", file=sys.stderr, flush=True)
        _run([*apt, "update"], Path(folder))
        for name in package.packages:
            print(f"downloading {name}", file=sys.stderr, flush=True)
            _run([*apt, "download", name], Path(folder))
        for file in sorted(Path(folder).glob("*.deb")):
            print(f"unpacking {file.name}", file=sys.stderr, flush=True)
            _run(["dpkg-deb", "--extract", str(file), str(root)], output)
    if not (root / package.binary).exists():
        raise LabError(f"{package.binary} is in none of the packages {', '.join(package.packages)}.")
    libraries = ":".join(
        f"$here/{path.relative_to(output)}" for path in sorted(root.glob("usr/lib/*-linux-gnu*"))
    )
    _write_launcher(
        launcher,
        'here=$(dirname "$(readlink -f "$0")")\n'
        f'LD_LIBRARY_PATH="{libraries}" exec "$here/root/{package.binary}" "$@"',
    )


def _private_apt(folder: Path) -> list[str]:
    """apt with lists of its own: the system's may be missing or out of date, and need root to be renewed."""
    command = ["apt-get", "--quiet"]
    for option, place in (("Dir::State::lists", "lists/partial"), ("Dir::Cache", "cache/archives/partial")):
        (folder / place).mkdir(parents=True)
        command += ["-o", f"{option}={folder / place.split('/')[0]}"]
    return command


def _write_launcher(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    _run([str(path), "--version"], path.parent)


def _run(command: list[str], folder: Path) -> None:
    environ = os.environ | {"PATH": search_path(), "LC_ALL": "C"}
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environ,
            capture_output=True,
            text=True,
            timeout=_DOWNLOAD_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise LabError(f"`{shlex.join(command)}` hangs: see whether the network is there.") from None
    if done.returncode != 0:
        last = "\n".join((done.stdout + done.stderr).splitlines()[-6:])
        remedy = "See apt's sources, and whether they can be reached." if command[0] == "apt-get" else ""
        raise LabError(f"`{shlex.join(command)}` failed:\n{last}\n{remedy}".rstrip())


def main() -> None:
    """Put one server into a folder; called by `tests.lab.builds`."""
    parser = argparse.ArgumentParser(prog="python -m tests.lab.debian", description=main.__doc__)
    parser.add_argument("name", choices=[package.name for package in PACKAGES])
    parser.add_argument("output", type=Path)
    arguments = parser.parse_args()
    (package,) = (package for package in PACKAGES if package.name == arguments.name)
    try:
        provide(package, arguments.output)
    except LabError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
