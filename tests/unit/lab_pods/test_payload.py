from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.lab.pods.payload import File, Kind, MissingSourceError, payload, references
from tests.lab.pods.volumes import write_atomically

POD = {"metadata": {"name": "p", "namespace": "n", "labels": {"a": "b"}}, "spec": {}}
OBJECTS: dict[tuple[Kind, str], Mapping[str, Any]] = {
    ("Secret", "s"): {"data": {"a": base64.b64encode(b"A").decode(), "b": base64.b64encode(b"B").decode()}},
    ("ConfigMap", "c"): {"data": {"k": "v"}, "binaryData": {"raw": base64.b64encode(b"\xff").decode()}},
}


def files(volume: dict[str, Any]) -> dict[str, File]:
    return payload(
        volume,
        POD,
        lambda kind, name: OBJECTS.get((kind, name)),
        lambda wanted: f"token-{wanted['audience']}",
    )


def test_secret_with_default_mode() -> None:
    assert files({"secret": {"secretName": "s"}}) == {"a": File(b"A", 0o644), "b": File(b"B", 0o644)}


def test_items_choose_path_and_mode() -> None:
    source = {"secretName": "s", "defaultMode": 0o400, "items": [{"key": "a", "path": "x/y", "mode": 0o440}]}
    assert files({"secret": source}) == {"x/y": File(b"A", 0o440)}


def test_config_map_with_binary_data() -> None:
    assert files({"configMap": {"name": "c"}}) == {"k": File(b"v", 0o644), "raw": File(b"\xff", 0o644)}


@pytest.mark.parametrize(
    "volume",
    [
        {"secret": {"secretName": "none"}},
        {"configMap": {"name": "none"}},
        {"secret": {"secretName": "s", "items": [{"key": "z", "path": "z"}]}},
        {"projected": {"sources": [{"secret": {"name": "none"}}]}},
    ],
)
def test_what_is_missing_and_not_optional_is_an_error(volume: dict[str, Any]) -> None:
    with pytest.raises(MissingSourceError):
        files(volume)


def test_optional_sources_leave_nothing() -> None:
    assert files({"secret": {"secretName": "none", "optional": True}}) == {}
    item = {"key": "z", "path": "z"}
    assert files({"configMap": {"name": "c", "optional": True, "items": [item]}}) == {}


def test_projected_joins_its_sources() -> None:
    volume = {
        "projected": {
            "defaultMode": 0o440,
            "sources": [
                {"secret": {"name": "s", "items": [{"key": "a", "path": "a"}]}},
                {"secret": {"name": "none", "optional": True}},
                {"serviceAccountToken": {"path": "token", "audience": "sendward"}},
                {"downwardAPI": {"items": [{"path": "l", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
            ],
        }
    }
    assert files(volume) == {
        "a": File(b"A", 0o440),
        "token": File(b"token-sendward", 0o440),
        "l": File(b'a="b"', 0o440),
    }
    assert list(references(volume)) == [("Secret", "s"), ("Secret", "none")]


def test_written_files_are_swapped_by_one_link(tmp_path: Path) -> None:
    write_atomically(tmp_path, {"a": File(b"1", 0o640), "deep/b": File(b"1", 0o600)}, None)
    first = (tmp_path / "..data").readlink()
    write_atomically(tmp_path, {"a": File(b"2", 0o640), "c": File(b"2", 0o600)}, None)

    assert (tmp_path / "..data").readlink() != first
    assert not (tmp_path / first).exists()
    assert (tmp_path / "a").readlink() == Path("..data/a")
    assert (tmp_path / "a").read_bytes() == b"2"
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640
    assert sorted(path.name for path in tmp_path.iterdir() if not path.name.startswith("..")) == ["a", "c"]
