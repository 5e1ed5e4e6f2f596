"""Outside the lab is told; command prefixes are what the tools take."""

import pytest

from tests.lab import enter, prerequisites
from tests.lab.prerequisites import LabError


def test_outside_is_told_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.if_nameindex", lambda: [(1, "lo"), (2, "eth0")])
    assert not enter.inside()
    with pytest.raises(LabError, match="make test-lab"):
        enter.require_inside()


def test_the_bridge_marks_the_lab(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.if_nameindex", lambda: [(1, "lo"), (2, "lab0")])
    assert enter.inside()


@pytest.mark.parametrize(("uid", "mapped"), [(0, False), (1000, True)])
def test_only_ordinary_users_get_a_user_namespace(
    monkeypatch: pytest.MonkeyPatch, uid: int, mapped: bool
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: uid)
    assert ("--map-root-user" in prerequisites.unshare_command()) is mapped
    assert ("--user" in enter.join_command(7)) is mapped
