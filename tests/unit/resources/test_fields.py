from __future__ import annotations

import pytest
from pydantic import ValidationError

from sendward.resources.api_key_policy import RotationSpec
from sendward.resources.fields import is_name, seconds
from sendward.resources.rate_limit_policy import LimitSpec


@pytest.mark.parametrize(("text", "expected"), [("1s", 1), ("15m", 900), ("12h", 43200), ("90d", 7776000)])
def test_seconds(text: str, expected: int) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "0s", "5", "1s\n", "1h30m", "-1s", "1000000s", "\u0661s"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="is no duration"):
        seconds(text)


def test_names() -> None:
    assert is_name("a" * 40)
    assert not any(is_name(name) for name in ("", "a" * 41, "a.b", "-a", "a-", "A", "a\n"))


def test_models_are_frozen_and_checked_when_built_in_code() -> None:
    limit = LimitSpec(messages=5)
    with pytest.raises(ValidationError, match="frozen"):
        limit.messages = 6  # type: ignore[misc]
    with pytest.raises(ValidationError):
        RotationSpec(every="1h", overlap="2h")
