"""The story: what Sendward promises, as an ordered list of expectations on real servers.

    story_stage    the stack, the namespace, the senders
    story_access   who may send what from where
    story_limits   how fast
    story_keys     rotation and revocation
    story_faults   what goes on when something is down, and NetworkPolicies

`make demo` prints it, `tests/e2e/test_story.py` runs each step as a test.
"""

from __future__ import annotations

from typing import Final

from tests.lab import story_access, story_faults, story_keys, story_limits
from tests.lab.story_stage import Step

# In this order: a step may rely on what an earlier one left (hooli's account, a revoked key, a
# stopped operator, a sealed Vault); limits come late, since they use up what the quickstart allows.
STORY: Final[tuple[Step, ...]] = (
    *story_access.STEPS,
    *story_limits.STEPS,
    *story_keys.STEPS,
    *story_faults.STEPS,
)
