"""What a guard limits by outlives its process, and never comes with tokens."""

from __future__ import annotations

from pathlib import Path

import pytest

from sendward.guard.holding import Holding
from sendward.protocol import PPM, Shares

SHARES = Shares(7, PPM // 2, {"account": PPM // 4})


def test_a_fresh_pod_holds_nothing(tmp_path: Path) -> None:
    holding = Holding(tmp_path)
    assert (holding.fresh, holding.shares) == (True, None)


def test_a_successor_holds_what_its_predecessor_did(tmp_path: Path) -> None:
    Holding(tmp_path).keep(SHARES)
    successor = Holding(tmp_path)
    assert (successor.fresh, successor.shares) == (False, SHARES)


def test_a_guard_that_was_killed_before_it_had_shares_is_not_fresh_again(tmp_path: Path) -> None:
    Holding(tmp_path)
    assert (Holding(tmp_path).fresh, Holding(tmp_path).shares) == (False, None)


@pytest.mark.parametrize(
    "content", [b"", b"{", b'{"shares": 1}', b'{"shares": {"round": -1, "default": 1}}', b"[" * 99_999]
)
def test_a_file_that_cannot_be_read_gives_nothing_and_is_no_fresh_start(
    tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "shares.json").write_bytes(content)
    holding = Holding(tmp_path)
    assert (holding.fresh, holding.shares) == (False, None)


def test_shares_that_cannot_be_written_are_not_replaced_by_larger_ones(tmp_path: Path) -> None:
    """No room for the new file: the old one must not come back after a kill."""
    holding = Holding(tmp_path)
    holding.keep(Shares(1, PPM))
    (tmp_path / ".shares.json.new").mkdir()
    holding.keep(SHARES)
    successor = Holding(tmp_path)
    assert (successor.fresh, successor.shares) == (False, None)
