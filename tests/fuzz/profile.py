"""How many examples a property is tried with: few in `make test`, many in `make fuzz`."""

from __future__ import annotations

from typing import Final

from hypothesis import settings

LONG: Final = "fuzz"
_MANY: Final = 2000


def examples(few: int) -> int:
    """`few`, or 2,000 under the profile of `make fuzz`."""
    return _MANY if settings.get_current_profile_name() == LONG else few
