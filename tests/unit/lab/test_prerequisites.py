"""Each lack is one sentence with its remedy."""

import pytest

from tests.lab.prerequisites import LabError, check_namespace_tools, go_problem, tool_problem


@pytest.mark.parametrize(
    "version", ["go version go1.25.0 linux/amd64", "go version go1.26.8 linux/arm64", "go2.0"]
)
def test_recent_go_is_fine(version: str) -> None:
    assert go_problem(version) is None


@pytest.mark.parametrize(
    "version", ["go version go1.24.9 linux/amd64", "go version go1.9 linux/amd64", "nonsense"]
)
def test_old_go_is_told_with_the_version_found(version: str) -> None:
    problem = go_problem(version)
    assert problem is not None
    assert version in problem
    assert "Go 1.25 or newer" in problem


def test_missing_go_is_told() -> None:
    assert "not on the PATH" in (go_problem(None) or "")


def test_a_missing_tool_names_its_package() -> None:
    assert tool_problem("no-such-tool", "iproute2") == (
        "`no-such-tool` is missing: install the package iproute2 (`sudo apt-get install iproute2`)."
    )
    assert tool_problem("sh", "dash") is None


def test_a_refused_namespace_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = ["sh", "-c", "echo unshare failed: Operation not permitted >&2; exit 1"]
    monkeypatch.setattr("tests.lab.prerequisites.unshare_command", lambda: refused)
    with pytest.raises(LabError, match=r"may not create namespaces .*not permitted.*run as root, or allow"):
        check_namespace_tools()
