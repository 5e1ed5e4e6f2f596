"""The registry of fuzz targets: a function of bytes that raises when a promise is broken."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from tests.fuzz.target_document import envelopes
from tests.fuzz.target_http import http
from tests.fuzz.target_hub import hub
from tests.fuzz.target_pipeline import pipeline
from tests.fuzz.target_resources import resources
from tests.fuzz.target_webhook import webhook

TARGETS: Final[dict[str, Callable[[bytes], None]]] = {
    "resources": resources,
    "pipeline": pipeline,
    "http": http,
    "document": envelopes,
    "hub": hub,
    "webhook": webhook,
}
CORPUS: Final = Path(__file__).parent / "corpus"
