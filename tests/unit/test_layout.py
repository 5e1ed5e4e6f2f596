"""Rules about the tree itself."""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def tracked() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    return [ROOT / name for name in listed.split("\0") if name]


def test_the_package_folder_does_not_shadow_the_standard_library() -> None:
    assert not (ROOT / "operator" / "__init__.py").exists()


def test_definitions_stay_small_enough_for_every_tool() -> None:
    for path in (ROOT / "crds").glob("*.yaml"):
        assert path.stat().st_size < 200_000, path.name


def test_no_file_names_a_package_registry_or_a_home_folder() -> None:
    unwanted = re.compile(r"pypi\.org|proxy\.golang|crates\.io|registry\.npm|/root/\.|/home/[a-z]+/")
    here = Path(__file__).resolve()
    for path in tracked():
        if path == here or path.suffix == ".sum" or not path.is_file():
            continue
        found = unwanted.search(path.read_text(encoding="utf-8", errors="replace"))
        assert found is None, f"{path.relative_to(ROOT)}: {found and found[0]}"


def test_locked_requirements_carry_hashes() -> None:
    for path in (ROOT / "requirements").glob("*.txt"):
        for block in re.split(r"\n(?=\S)", path.read_text(encoding="utf-8")):
            if re.match(r"^[a-z0-9]", block, re.IGNORECASE):
                assert "--hash=sha256:" in block, f"{path.name}: {block.splitlines()[0]}"
