from pathlib import Path

import pytest

from tests.golden.golden import Golden, cases, read_input

MADE = {"out.yaml": {"b": [1], "a": "x"}, "out.json": {"a": "ü"}, "out.txt": "text\n"}


@pytest.fixture
def case(tmp_path: Path) -> Path:
    folder = tmp_path / "group" / "case"
    folder.mkdir(parents=True)
    (folder / "input.yaml").write_text("n: 1\n")
    return folder


def test_update_writes_what_then_compares_equal(case: Path) -> None:
    Golden(update=True).check(case, MADE)
    assert (case / "out.yaml").read_text() == "a: x\nb:\n  - 1\n"
    Golden(update=False).check(case, MADE)
    assert read_input(case) == {"n": 1}
    assert cases(case.parent.parent) == [case]


def test_difference_is_shown_with_the_remedy(case: Path) -> None:
    Golden(update=True).check(case, MADE)
    with pytest.raises(pytest.fail.Exception, match=r"(?s)-a: x\n\+a: y.*--update-golden"):
        Golden(update=False).check(case, MADE | {"out.yaml": {"b": [1], "a": "y"}})


def test_file_that_is_not_made_any_more_is_a_difference(case: Path) -> None:
    Golden(update=True).check(case, MADE | {"old.txt": "x"})
    with pytest.raises(pytest.fail.Exception, match=r"old\.txt is expected, but was not made"):
        Golden(update=False).check(case, MADE)
    Golden(update=True).check(case, MADE)
    assert not (case / "old.txt").exists()


def test_missing_file_is_a_difference(case: Path) -> None:
    with pytest.raises(pytest.fail.Exception, match=r"out\.txt does not exist"):
        Golden(update=False).check(case, {"out.txt": ""})
