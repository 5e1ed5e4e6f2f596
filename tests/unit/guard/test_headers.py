"""Envoy forwards only the headers that are judged, so no other one may change an answer."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sendward import names
from tests.guard import builders
from tests.unit.guard.test_fuzz import BODY, answers

JUDGED = frozenset(names.HEADERS_JUDGED)
GOOD = builders.credential("one").value

OTHERS = "cookie api-key forwarded x-forwarded-for x-sw-account x-http-method-override accept-encoding"
header_names = st.sampled_from([*names.HEADERS_JUDGED, "X-API-Key", "X-SW-Source", *OTHERS.split()])
values = st.sampled_from([GOOD, f"Bearer {GOOD}", "application/json", "gzip", "10.0.0.1", "DELETE", "", ","])
headers = st.lists(st.tuples(header_names, values), max_size=8)


def wire(found: list[tuple[str, str]]) -> bytes:
    lines = ["POST /v1/messages HTTP/1.1", f"content-length: {len(BODY)}", *(f"{n}: {v}" for n, v in found)]
    return "\r\n".join((*lines, "", "")).encode() + BODY


@given(headers, st.booleans())
def test_what_is_not_forwarded_changes_no_answer(found: list[tuple[str, str]], complete: bool) -> None:
    if complete:  # so that some pass
        found = [
            *found,
            ("x-api-key", GOOD),
            ("x-sw-source", "10.0.0.1"),
            ("content-type", "application/json"),
        ]
    forwarded = [header for header in found if header[0].lower() in JUDGED]
    assert answers(wire(found)) == answers(wire(forwarded))
