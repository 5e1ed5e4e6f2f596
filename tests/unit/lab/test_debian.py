"""Servers from Debian packages: whole or a sentence with the remedy."""

import stat
from pathlib import Path

import pytest

from tests.lab import builds, debian
from tests.lab.debian import PACKAGES
from tests.lab.prerequisites import LabError

(REDIS,) = (package for package in PACKAGES if package.name == "redis-server")


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all of the search path."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setattr(debian, "search_path", lambda: f"{folder}:/nowhere")
    return folder


def tool(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def test_the_key_follows_the_packages() -> None:
    other = debian.Package(REDIS.name, REDIS.binary, REDIS.packages[:-1])
    assert REDIS.key() == REDIS.key() != other.key()


def test_without_apt_and_without_a_server_the_remedy_is_told(tools: Path) -> None:
    with pytest.raises(LabError, match=r"`redis-server` is missing, and there is no apt-get .*: install it"):
        REDIS.check()


def test_without_apt_an_installed_server_is_taken(tools: Path, tmp_path: Path) -> None:
    tool(tools, "redis-server", "echo installed $1")
    output = tmp_path / "out"
    output.mkdir()
    debian.provide(REDIS, output)
    assert str(tools / "redis-server") in (output / "redis-server").read_text()


def test_a_failed_download_is_told_with_the_remedy(tools: Path, tmp_path: Path) -> None:
    tool(tools, "apt-get", "echo 'E: Unable to locate package' >&2; exit 100")
    tool(tools, "dpkg-deb", "exit 1")
    output = tmp_path / "out"
    output.mkdir()
    with pytest.raises(LabError, match=r"(?s) update` failed.*Unable to locate package.*apt.s sources"):
        debian.provide(REDIS, output)


def test_a_server_that_does_not_run_is_told(tools: Path, tmp_path: Path) -> None:
    tool(tools, "redis-server", "echo no such library >&2; exit 127")
    output = tmp_path / "out"
    output.mkdir()
    with pytest.raises(LabError, match="no such library"):
        debian.provide(REDIS, output)


def test_it_is_one_of_the_labs_servers() -> None:
    assert builds.named(("redis-server",)) == (REDIS,)
