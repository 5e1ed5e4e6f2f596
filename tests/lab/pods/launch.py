"""The first code of a container's process; it ends by becoming the container's program.

Runs alone (`python -I -S launch.py LAUNCH DONE`), with the standard library only. LAUNCH is a descriptor
with a JSON `Launch`, DONE one that closes when the program has taken over.
A new container gets the pod's network namespace, a mount namespace with a private, writable overlay
of the machine's whole file tree, its volumes, and then loses the rights it should not have. With
`join` the process enters a running container instead, as `kubectl exec` does.

Private copies of directories in the overlay let an unprivileged user pass through folders that are
closed on the machine itself (an interpreter below /root, say) without touching them.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import socket
import sys
from typing import Any, NoReturn, TypedDict

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWNET = 0x00020000, 0x04000000, 0x40000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_REMOUNT = 1, 2, 4, 32
MS_BIND, MS_REC, MS_PRIVATE = 4096, 16384, 1 << 18
PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 24, 38
LAST_CAPABILITY = 40
EXIT_SETUP = 128  # what a container engine reports when it cannot start the process
FRESH = {"/tmp": "1777", "/run": "755", "/dev/shm": "1777"}

libc = ctypes.CDLL(None, use_errno=True)


class Mount(TypedDict):
    """One bind mount: a file or folder of the machine at a path of the container."""

    source: str
    target: str
    read_only: bool


class Launch(TypedDict):
    """Everything the process needs to know."""

    netns: str
    join: int | None  # pid of the container to enter
    scratch: str  # an empty folder for the overlay
    code: list[str]  # folders that must be readable whatever lies around them
    mounts: list[Mount]
    read_only_root: bool
    hostname: str
    workdir: str
    argv: list[str]
    env: dict[str, str]
    uid: int
    gid: int
    groups: list[int]
    capabilities: list[int]
    no_new_privileges: bool


def call(name: str, *arguments: Any) -> None:
    """One libc call; raises OSError."""
    converted = [a.encode() if isinstance(a, str) else a for a in arguments]
    if getattr(libc, name)(*converted) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}{arguments!r}: {os.strerror(code)}")


def mount(source: str, target: str, kind: str | None, flags: int, options: str | None = None) -> None:
    call("mount", source, target, kind, ctypes.c_ulong(flags), options)


def enter(path: str, kind: int) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    call("setns", descriptor, kind)
    os.close(descriptor)


def join(pid: int) -> None:
    """Enter the file tree and host name of a running container."""
    root = os.open(f"/proc/{pid}/root", os.O_RDONLY | os.O_DIRECTORY)
    enter(f"/proc/{pid}/ns/uts", CLONE_NEWUTS)
    enter(f"/proc/{pid}/ns/mnt", CLONE_NEWNS)
    os.fchdir(root)
    os.chroot(".")
    os.close(root)


def build(spec: Launch) -> None:
    """Make the container's own file tree and go into it."""
    call("unshare", CLONE_NEWNS | CLONE_NEWUTS)
    socket.sethostname(spec["hostname"])
    mount("none", "/", None, MS_REC | MS_PRIVATE)
    # Opened before the root changes: the only way to the machine's files afterwards.
    code = [(path, os.open(path, os.O_PATH)) for path in spec["code"]]
    volumes = [(entry, os.open(entry["source"], os.O_PATH)) for entry in spec["mounts"]]
    merged = overlay(spec["scratch"])
    for path in ("/proc", "/sys", "/dev"):
        mount(path, merged + path, None, MS_BIND | MS_REC)
    os.chroot(merged)
    os.chdir("/")
    for path, mode in FRESH.items():
        mount("tmpfs", path, "tmpfs", MS_NOSUID | MS_NODEV, f"mode={mode}")
    for entry, descriptor in volumes:
        bind(entry, descriptor)
    # After the volumes: a checkout below /tmp is hidden by a volume there, too.
    for path, descriptor in code:
        show_code(path, descriptor)
    for descriptor in [item[1] for item in code] + [item[1] for item in volumes]:
        os.close(descriptor)
    os.makedirs(spec["workdir"], exist_ok=True)
    if spec["read_only_root"]:
        volumes_at = {os.path.realpath(entry["target"]) for entry, _ in volumes}
        for path in {"/", "/tmp", "/run"} - volumes_at:
            mount("none", path, None, MS_REMOUNT | MS_BIND | MS_RDONLY)


def overlay(scratch: str) -> str:
    """Mount the overlay; its upper layer is a tmpfs, which vanishes with the mount namespace."""
    mount("tmpfs", scratch, "tmpfs", 0, "mode=755")
    for name in ("upper", "work", "root"):
        os.mkdir(f"{scratch}/{name}")
    options = f"lowerdir=/,upperdir={scratch}/upper,workdir={scratch}/work"
    mount("overlay", f"{scratch}/root", "overlay", 0, options)
    return f"{scratch}/root"


def show_code(path: str, descriptor: int) -> None:
    """Make a folder visible when the overlay hides it, and its ancestors passable."""
    if not os.path.exists(path) or not os.listdir(path):
        os.makedirs(path, exist_ok=True)
        mount(f"/proc/self/fd/{descriptor}", path, None, MS_BIND | MS_REC)
    private = os.stat("/").st_dev  # what lies elsewhere is mounted from the machine: hands off
    while path != "/":
        found = os.stat(path)
        if found.st_dev == private and found.st_mode & 0o005 != 0o005:
            os.chmod(path, found.st_mode & 0o7777 | 0o055)
        path = os.path.dirname(path)


def bind(entry: Mount, descriptor: int) -> None:
    """Mount one volume at its place, making the mount point in the overlay."""
    target = os.path.realpath(entry["target"])
    source = f"/proc/self/fd/{descriptor}"
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    elif not os.path.exists(target):
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(target, "x"):
            pass
    mount(source, target, None, MS_BIND)
    if entry["read_only"]:
        mount("none", target, None, MS_REMOUNT | MS_BIND | MS_RDONLY)


def drop_rights(spec: Launch) -> None:
    """Become the container's user, without a way back."""
    for capability in range(LAST_CAPABILITY + 1):
        if capability not in spec["capabilities"]:
            libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)  # an unknown number is refused: fine
    os.setgroups(spec["groups"])
    os.setgid(spec["gid"])
    os.setuid(spec["uid"])
    if spec["no_new_privileges"]:
        libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def become(spec: Launch) -> NoReturn:
    program = shutil.which(spec["argv"][0], path=spec["env"].get("PATH"))
    if program is None:
        raise OSError(f"exec: {spec['argv'][0]!r}: executable file not found")
    os.execve(program, spec["argv"], spec["env"])


def main() -> NoReturn:
    """Read the launch and carry it out."""
    os.set_inheritable(int(sys.argv[2]), False)
    with os.fdopen(int(sys.argv[1])) as stream:
        stream.seek(0)
        spec: Launch = json.load(stream)
    try:
        os.umask(0o022)
        enter(spec["netns"], CLONE_NEWNET)
        if spec["join"] is not None:
            join(spec["join"])
        else:
            build(spec)
        os.chdir(spec["workdir"])
        drop_rights(spec)
        become(spec)
    except OSError as error:
        print(f"container start failed: {error}", file=sys.stderr, flush=True)
        os._exit(EXIT_SETUP)


if __name__ == "__main__":
    main()
