"""Builds the lab's servers, from Go modules or Debian packages, into a cache outside the tree.

A binary's folder is named by the hash of all that decides it (module files, sources, flags), so a second
run builds nothing and a changed version never meets an old binary. `ensure` builds outside the lab's
namespaces, where modules and packages are reachable; `require` only looks, and is what runs inside.
"""

import argparse
import fcntl
import hashlib
import os
import platform
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.lab.debian import PACKAGES, Package
from tests.lab.prerequisites import LabError, check_build_tools

MODULES = Path(__file__).parent / "build"
_ROOT = Path(__file__).parents[2]
KUBERNETES_VERSION = "v1.34.4"

_VERSION_PACKAGE = "k8s.io/component-base/version"
_KUBERNETES_LDFLAGS = (
    f"-X {_VERSION_PACKAGE}.gitVersion={KUBERNETES_VERSION} "
    f"-X {_VERSION_PACKAGE}.gitMajor=1 -X {_VERSION_PACKAGE}.gitMinor=34"
)


@dataclass(frozen=True)
class Build:
    """One binary of Go: which package of which module folder, with which flags."""

    name: str
    module: str
    """Folder under `tests/lab/build`."""
    package: str
    usual_minutes: float
    """On 2 cores with an empty Go build cache, in the order of `BUILDS`."""
    tags: str = ""
    ldflags: str = ""

    @property
    def flags(self) -> tuple[str, ...]:
        """What `go build` is given besides the output and the package."""
        tags = ("-tags", self.tags) if self.tags else ()
        return ("-mod=readonly", "-buildvcs=false", *tags, "-ldflags", f"-s -w {self.ldflags}".strip())

    def key(self, modules: Path = MODULES) -> str:
        """Hash of everything in the tree that decides the binary, 16 hex digits."""
        digest = hashlib.sha256()
        for part in (platform.system(), platform.machine(), self.package, *self.flags):
            digest.update(part.encode() + b"\0")
        for file in sorted((modules / self.module).iterdir()):
            digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
        return digest.hexdigest()[:16]

    def check(self) -> None:
        """Raise LabError unless it can be built here."""
        check_build_tools()

    def command(self, output: Path) -> list[str]:
        """What puts the binary into the folder `output`."""
        folder = str(MODULES / self.module)
        return ["go", "build", "-C", folder, "-v", *self.flags, "-o", str(output / self.name), self.package]


BUILDS: tuple[Build, ...] = (
    Build("etcd", "etcd", "go.etcd.io/etcd/server/v3", 2),
    Build("etcdutl", "etcdutl", "go.etcd.io/etcd/etcdutl/v3", 0.5),
    Build(
        "kube-apiserver",
        "kubernetes",
        "k8s.io/kubernetes/cmd/kube-apiserver",
        7,
        ldflags=_KUBERNETES_LDFLAGS,
    ),
    Build(
        "kube-controller-manager",
        "kubernetes",
        "k8s.io/kubernetes/cmd/kube-controller-manager",
        2,
        ldflags=_KUBERNETES_LDFLAGS,
    ),
    Build("kubectl", "kubernetes", "k8s.io/kubernetes/cmd/kubectl", 1, ldflags=_KUBERNETES_LDFLAGS),
    Build("vault", "vault", "github.com/hashicorp/vault", 9, tags="minimal"),
    Build("cyclonus", "cyclonus", "github.com/mattfenwick/cyclonus/cmd/cyclonus", 1),
    Build("kstatus-check", "kstatus", ".", 0.5),
    Build("load", "load", ".", 0.5),
)
"""Literal list; the order is the order of building (the Kubernetes ones share Go's build cache)."""

_ALL: tuple[Build | Package, ...] = (*BUILDS, *PACKAGES)
ALL = tuple(build.name for build in _ALL)


def cache_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """The folder of built binaries: `SENDWARD_LAB_CACHE`, else below the user's cache folder."""
    if own := environ.get("SENDWARD_LAB_CACHE"):
        return Path(own)
    home = environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "sendward" / "lab"


def path_of(build: Build | Package) -> Path:
    """Where the binary stands once it is there."""
    return cache_dir() / f"{build.name}-{build.key()}" / build.name


def named(names: tuple[str, ...]) -> tuple[Build | Package, ...]:
    """The builds of these names, each once, in the order of `ALL`; all of them for no name."""
    if unknown := set(names) - set(ALL):
        raise LabError(f"The lab cannot build {', '.join(sorted(unknown))}; it knows {', '.join(ALL)}.")
    return tuple(build for build in _ALL if not names or build.name in names)


def require(name: str) -> Path:
    """The built binary; raises LabError with the command to run if it is missing."""
    (build,) = named((name,))
    path = path_of(build)
    if not path.exists():
        raise LabError(f"{name} is not built yet: run `python -m tests.lab.builds {name}` outside the lab.")
    return path


def ensure(*names: str) -> dict[str, Path]:
    """Build what is missing of these binaries (all without a name); returns the path of each.

    Raises LabError if a tool is missing or a build fails.
    """
    wanted = named(names)
    for build in wanted:
        if not path_of(build).exists():
            build.check()
    for number, build in enumerate(wanted, start=1):
        if not path_of(build).exists():
            with _locked(cache_dir() / f"{build.name}.lock"):
                if not path_of(build).exists():
                    _build(build, f"[{number}/{len(wanted)}]")
    return {build.name: path_of(build) for build in wanted}


def _build(build: Build | Package, position: str) -> None:
    """Build into a temporary folder beside the final one and rename it: whole or absent."""
    final = path_of(build).parent
    with tempfile.TemporaryDirectory(dir=final.parent, prefix=f".{build.name}-") as scratch:
        output = Path(scratch) / "out"
        output.mkdir()
        command = build.command(output)
        # GOFLAGS and GOWORK of the caller would change what is built.
        environ = os.environ | {"CGO_ENABLED": "0", "GOFLAGS": "", "GOWORK": "off"}
        process = subprocess.Popen(
            command,
            cwd=_ROOT,
            env=environ,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            lines = _follow(process, build, position)
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
        if process.returncode != 0:
            tail = "\n  ".join(lines[-15:])
            tool = Path(command[0]).name
            raise LabError(f"Building {build.name} failed ({tool} exited {process.returncode}):\n  {tail}")
        output.rename(final)


def _follow(process: "subprocess.Popen[str]", build: Build | Package, position: str) -> list[str]:
    """Show progress until the build ends; returns what it printed (one line for each step or package)."""
    assert process.stderr is not None
    lines: list[str] = []
    stderr = process.stderr
    reader = threading.Thread(target=lambda: lines.extend(line.rstrip() for line in stderr), daemon=True)
    reader.start()
    tty = sys.stderr.isatty()
    interval = 2.0 if tty else 30.0
    started = time.monotonic()
    print(f"{position} building {build.name} (usually {_duration(build.usual_minutes * 60)} on 2 cores)",
          file=sys.stderr, flush=True)  # fmt: skip
    while True:
        reader.join(interval)
        if not reader.is_alive():
            break
        line = f"{position} {build.name}: {_duration(time.monotonic() - started)}, {len(lines)} steps done"
        print(f"\r\033[K{line}" if tty else line, end="" if tty else "\n", file=sys.stderr, flush=True)
    process.wait()
    result = "built" if process.returncode == 0 else "failed"
    start = "\r\033[K" if tty else ""
    print(f"{start}{position} {build.name}: {result} after {_duration(time.monotonic() - started)}",
          file=sys.stderr, flush=True)  # fmt: skip
    return lines


def _duration(seconds: float) -> str:
    """`45 s` or `7 min 05 s`."""
    whole = round(seconds)
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60:02} s"


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock, so that two runs do not build the same binary twice."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waiting for another run that builds {path.stem}", file=sys.stderr, flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def main() -> None:
    """`python -m tests.lab.builds [NAME...]`: build and print where each binary stands."""
    parser = argparse.ArgumentParser(prog="python -m tests.lab.builds", description=main.__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(ALL)}; default: all")
    # As Ctrl-C does: the compiler ends and the unfinished folder goes.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        paths = ensure(*parser.parse_args().names)
    except LabError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    for path in paths.values():
        print(path)


if __name__ == "__main__":
    main()
