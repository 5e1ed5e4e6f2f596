"""What a guard knows of its shared counters before it has spoken to them."""

from __future__ import annotations

import socket
from pathlib import Path

from sendward import document
from sendward.guard.counters import SharedCounters


async def test_it_is_not_known_whether_counters_answer_until_they_were_asked(tmp_path: Path) -> None:
    counters = SharedCounters("gateway", tmp_path)
    assert not counters.untried
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        counters.use(document.Redis("127.0.0.1", nobody.getsockname()[1]))
        assert counters.untried
        await counters.check()
    assert not counters.untried
    assert counters.place == ""
    counters.use(None)
    assert not counters.untried
    await counters.close()
