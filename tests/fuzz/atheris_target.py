"""One target under libFuzzer, guided by the coverage of our own code: `TARGET [libFuzzer's arguments]`."""

from __future__ import annotations

import logging
import sys

import atheris
import structlog

with atheris.instrument_imports(include=["sendward"]):
    from tests.fuzz.targets import TARGETS

structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
name = sys.argv.pop(1)
atheris.Setup(sys.argv, TARGETS[name])
atheris.Fuzz()
