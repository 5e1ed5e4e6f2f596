"""What decides a binary's folder, and that a second run builds nothing."""

import dataclasses
import shutil
from pathlib import Path

import pytest

from tests.lab import builds
from tests.lab.prerequisites import LabError

ETCD = next(build for build in builds.BUILDS if build.name == "etcd")


@pytest.fixture
def modules(tmp_path: Path) -> Path:
    folder = tmp_path / "modules"
    shutil.copytree(builds.MODULES / "etcd", folder / "etcd")
    return folder


def test_the_key_is_stable(modules: Path) -> None:
    assert ETCD.key(modules) == ETCD.key() == ETCD.key()


@pytest.mark.parametrize("file", ["go.mod", "go.sum"])
def test_the_key_follows_the_module_files(modules: Path, file: str) -> None:
    before = ETCD.key(modules)
    path = modules / "etcd" / file
    path.write_text(path.read_text() + "\n// changed\n")
    assert ETCD.key(modules) != before


def test_the_key_follows_new_sources(modules: Path) -> None:
    before = ETCD.key(modules)
    (modules / "etcd" / "main.go").write_text("package main\n")
    assert ETCD.key(modules) != before


@pytest.mark.parametrize(
    "change", [{"tags": "other"}, {"ldflags": "-X a=b"}, {"package": "example.org/other"}]
)
def test_the_key_follows_flags_and_package(change: dict[str, str]) -> None:
    assert dataclasses.replace(ETCD, **change).key() != ETCD.key()  # type: ignore[arg-type]


def test_every_module_folder_is_built_and_complete() -> None:
    assert {build.module for build in builds.BUILDS} == {path.name for path in builds.MODULES.iterdir()}
    for build in builds.BUILDS:
        module = builds.MODULES / build.module
        if "require" in (module / "go.mod").read_text():
            assert (module / "go.sum").stat().st_size > 0


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"SENDWARD_LAB_CACHE": "/a", "XDG_CACHE_HOME": "/b"}, Path("/a")),
        ({"XDG_CACHE_HOME": "/b"}, Path("/b/sendward/lab")),
        ({}, Path.home() / ".cache/sendward/lab"),
    ],
)
def test_cache_dir(environ: dict[str, str], expected: Path) -> None:
    assert builds.cache_dir(environ) == expected


def test_ensure_does_nothing_for_what_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SENDWARD_LAB_CACHE", str(tmp_path))
    monkeypatch.setenv("PATH", "")  # not even Go is needed then
    builds.path_of(ETCD).parent.mkdir()
    builds.path_of(ETCD).touch()
    assert builds.ensure("etcd") == {"etcd": builds.path_of(ETCD)}
    assert capsys.readouterr() == ("", "")


def test_ensure_says_that_go_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SENDWARD_LAB_CACHE", str(tmp_path))
    monkeypatch.setenv("PATH", "")
    with pytest.raises(LabError, match=r"`go` is not on the PATH: install Go 1\.25 or newer"):
        builds.ensure("etcd")


def test_a_failed_build_leaves_nothing_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SENDWARD_LAB_CACHE", str(tmp_path / "cache"))
    fake = tmp_path / "bin" / "go"
    fake.parent.mkdir()
    fake.write_text(
        "#!/bin/sh\n[ $1 = version ] && echo go version go1.25.0 && exit\necho no space >&2; exit 1\n"
    )
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}:/usr/bin:/bin")
    with pytest.raises(LabError, match=r"Building etcd failed \(go exited 1\):\n  no space"):
        builds.ensure("etcd")
    assert not builds.path_of(ETCD).exists()
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["etcd.lock"]
    assert "[1/1] building etcd (usually 2 min 00 s on 2 cores)" in capsys.readouterr().err


def test_require_names_the_command_that_builds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SENDWARD_LAB_CACHE", str(tmp_path))
    with pytest.raises(LabError, match=r"python -m tests\.lab\.builds vault"):
        builds.require("vault")


def test_an_unknown_name_is_told() -> None:
    with pytest.raises(LabError, match="cannot build nginx; it knows etcd, etcdutl, kube-apiserver"):
        builds.named(("nginx", "etcd"))
