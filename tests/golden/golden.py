"""Compares what a compiler made with the files beside its input; `--update-golden` rewrites them."""

import difflib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

UPDATE_COMMAND = "python -m pytest tests/golden --update-golden"
INPUT = "input.yaml"


class _Dumper(yaml.SafeDumper):
    """Block style without anchors: equal parts of an output stay readable where they stand."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def cases(folder: Path) -> list[Path]:
    """All case folders below `folder`: those with an `input.yaml`, sorted."""
    return sorted(path.parent for path in folder.rglob(INPUT))


def read_input(case: Path) -> Any:
    """The parsed input of a case."""
    return yaml.safe_load((case / INPUT).read_text())


def render(name: str, content: object) -> str:
    """Text of an expected file: `.yaml` and `.json` from data, anything else must be text already."""
    match Path(name).suffix:
        case ".yaml":
            return yaml.dump(content, Dumper=_Dumper, sort_keys=True, width=120, allow_unicode=True)
        case ".json":
            return json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
        case _:
            assert isinstance(content, str), f"{name} needs text"
            return content


class Golden:
    """`update`: write what was made instead of comparing it."""

    def __init__(self, update: bool) -> None:
        self._update = update

    def check(self, case: Path, made: Mapping[str, object]) -> None:
        """`made` is the whole output of a case by file name; a file too many is a difference too."""
        texts = {name: render(name, content) for name, content in made.items()}
        stale = [path for path in sorted(case.iterdir()) if path.name not in {*texts, INPUT}]
        if self._update:
            for name, text in texts.items():
                (case / name).write_text(text)
            for path in stale:
                path.unlink()
            return
        differences = [_difference(case / name, text) for name, text in texts.items()]
        differences += [f"{path} is expected, but was not made" for path in stale]
        if found := [difference for difference in differences if difference]:
            pytest.fail("\n".join([*found, f"If this is intended: {UPDATE_COMMAND}"]), pytrace=False)


def _difference(file: Path, made: str) -> str:
    if not file.exists():
        return f"{file} does not exist"
    lines = difflib.unified_diff(
        file.read_text().splitlines(), made.splitlines(), f"{file} (expected)", "made", lineterm="", n=3
    )
    return "\n".join(lines)
