"""What the machine must offer to build and enter the lab; each lack is one sentence with its remedy."""

import os
import re
import shutil
import subprocess
import sys

MINIMUM_GO = (1, 25)
MINIMUM_PYTHON = (3, 11)


class LabError(Exception):
    """The lab cannot do what was asked; the message says why and what helps."""


def search_path() -> str:
    """`PATH` with the folders of system tools, which ordinary users often lack."""
    return os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])


def _platform_problem() -> str | None:
    if sys.platform != "linux":
        return "The lab needs Linux (it uses network namespaces): run it in a Linux machine or VM."
    if sys.version_info < MINIMUM_PYTHON:
        return (
            f"The lab needs Python 3.11 or newer, this is {sys.version.split()[0]}: install a newer python3."
        )
    return None


def go_problem(version_output: str | None) -> str | None:
    """What is wrong with this answer of `go version` (None: no `go` on the PATH)."""
    if version_output is None:
        return "`go` is not on the PATH: install Go 1.25 or newer from https://go.dev/dl/."
    found = re.search(r"go(\d+)\.(\d+)", version_output)
    if found is None or (int(found[1]), int(found[2])) < MINIMUM_GO:
        return f"The lab needs Go 1.25 or newer, this is {version_output.strip()!r}: update it from https://go.dev/dl/."
    return None


def tool_problem(tool: str, package: str) -> str | None:
    """A sentence if the tool is not installed."""
    if shutil.which(tool, path=search_path()) is None:
        return f"`{tool}` is missing: install the package {package} (`sudo apt-get install {package}`)."
    return None


def _go_version() -> str | None:
    go = shutil.which("go")
    if go is None:
        return None
    return subprocess.run([go, "version"], capture_output=True, text=True, check=False).stdout


def check_build_tools() -> None:
    """Raise LabError unless the servers can be compiled here."""
    if problem := _platform_problem() or go_problem(_go_version()):
        raise LabError(problem)


def check_namespace_tools() -> None:
    """Raise LabError unless namespaces can be created here by this user."""
    problem = _platform_problem() or tool_problem("ip", "iproute2") or tool_problem("unshare", "util-linux")
    if problem:
        raise LabError(problem)
    probe = subprocess.run(
        [*unshare_command(), "true"], capture_output=True, text=True, check=False, env=_environ()
    )
    if probe.returncode != 0:
        raise LabError(
            f"This user may not create namespaces ({probe.stderr.strip()}): run as root, or allow "
            "unprivileged user namespaces (`sudo sysctl -w kernel.unprivileged_userns_clone=1 "
            "user.max_user_namespaces=15000`; on Ubuntu also kernel.apparmor_restrict_unprivileged_userns=0)."
        )


def unshare_command() -> list[str]:
    """The prefix that runs a command in fresh namespaces: plain for root, else in a user namespace."""
    user = [] if os.geteuid() == 0 else ["--map-root-user"]
    return ["unshare", *user, "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]


def _environ() -> dict[str, str]:
    return os.environ | {"PATH": search_path()}


def main() -> None:
    """`python -m tests.lab.prerequisites`: check everything, say the first lack."""
    try:
        check_build_tools()
        check_namespace_tools()
        if problem := tool_problem("make", "make"):
            raise LabError(problem)
    except LabError as error:
        sys.exit(f"error: {error}")
    print(
        f"prerequisites: Python {sys.version.split()[0]}, {(_go_version() or '').strip()}, namespaces: fine"
    )


if __name__ == "__main__":
    main()
