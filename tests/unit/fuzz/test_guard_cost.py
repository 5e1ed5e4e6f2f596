"""What one request may cost the guard: no more than its length, whatever stands in it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import pytest

from sendward.document import Operation, Place
from sendward.guard import request as http
from sendward.guard.request import (
    MAX_BRACKETS,
    MAX_DEPTH,
    MAX_FIELDS,
    Message,
    Operations,
    RawRequest,
    Request,
)
from sendward.verdict import Reason
from tests.guard import builders

SHORT, LONG = 32 * 1024, 1024 * 1024  # bytes; a gateway may declare bodies of up to 1 MiB
FORM = Operation(
    "form", "POST", "/", recipient=Place("formField", "to"), sender_id=Place("formField", "from")
)
JSON_TYPE, FORM_TYPE = b"application/json", b"application/x-www-form-urlencoded"

BODIES: dict[str, Callable[[int], bytes]] = {
    "arrays side by side": lambda size: b'{"x":[' + b"[]," * (size // 3) + b"0]}",
    "arrays in arrays": lambda size: b"[" * size,
    "objects in objects": lambda size: b'{"a":' * (size // 5),
    "as deep as allowed, often": lambda size: b"[" + (b"[" * 60 + b"]" * 60 + b",") * (size // 121) + b"0]",
    "escaped quotes": lambda size: b"[]" * 80 + b'"' + b'\\"' * (size // 2),
    "backslashes": lambda size: b"[]" * 80 + b'"' + b"\\" * size,
    "open strings": lambda size: b"[]" * 80 + b'"a' * (size // 2),
    "unicode escapes": lambda size: b'{"to":"' + b"\\ud83d\\ude00" * (size // 12) + b'"}',
    "lone surrogates": lambda size: b'{"to":"' + b"\\ud83d" * (size // 6) + b'"}',
    "long numbers": lambda size: b'{"x":[' + (b"9" * 4000 + b",") * (size // 4001) + b"0]}",
    "a number beyond all bounds": lambda size: b'{"x":' + b"9" * size + b"}",
    "exponents": lambda size: b'{"x":[' + b"1e99999," * (size // 8) + b"0]}",
    "a fraction": lambda size: b'{"x":0.' + b"1" * size + b"}",
    "members": lambda size: json.dumps({f"k{n}": 0 for n in range(size // 12)}).encode(),
    "members that differ by case": lambda size: json.dumps(
        {"to": "1", **{f"T\u0130{n}": 0 for n in range(size // 20)}}
    ).encode(),
    "the same member": lambda size: b"{" + b'"to":1,' * (size // 7) + b'"to":1}',
    "recipients": lambda size: json.dumps({"to": ["+447700900123"] * (size // 17)}).encode(),
    "blanks": lambda size: b" " * size,
    "a byte order mark": lambda size: b"\xef\xbb\xbf" + b" " * size,
    "no UTF-8": lambda size: b'{"to":"' + b"\xff" * size,
}
FORMS: dict[str, Callable[[int], bytes]] = {
    "empty pairs": lambda size: b"&" * size,
    "pairs": lambda size: b"a=b&" * (size // 4),
    "the same field": lambda size: b"to=1&" * (size // 5),
    "brackets": lambda size: b"to" + b"[" * size,
    "percent signs": lambda size: b"%" * size,
    "escapes": lambda size: b"%41" * (size // 3),
    "plus signs": lambda size: b"to=" + b"+" * size,
    "equals signs": lambda size: b"=" * size,
}


def judged(operation: Operation, content_type: bytes, body: bytes) -> Message | Reason:
    raw = RawRequest("POST", b"/", [(b"content-type", content_type)], body)
    return http.message(Request(raw, "", operation))


def cpu(work: Callable[[], object]) -> float:
    """CPU seconds of this thread, the best of three."""
    best = float("inf")
    for _ in range(3):
        started = time.thread_time()
        work()
        best = min(best, time.thread_time() - started)
    return best


def grows_no_faster_than_its_input(work: Callable[[int], object]) -> None:
    """32 times the input: linear work costs 32 times as much, quadratic work 1,024 times."""
    assert cpu(lambda: work(LONG)) < 160 * max(cpu(lambda: work(SHORT)), 0.0005)


@pytest.mark.parametrize("case", BODIES)
def test_a_json_body_costs_no_more_than_its_length(case: str) -> None:
    bodies = {size: BODIES[case](size) for size in (SHORT, LONG)}
    assert judged(builders.SEND, JSON_TYPE, bodies[LONG]) is Reason.MalformedMessage
    grows_no_faster_than_its_input(lambda size: judged(builders.SEND, JSON_TYPE, bodies[size]))


@pytest.mark.parametrize("case", FORMS)
def test_a_form_costs_no_more_than_its_length(case: str) -> None:
    bodies = {size: FORMS[case](size) for size in (SHORT, LONG)}
    assert judged(FORM, FORM_TYPE, bodies[LONG]) is Reason.MalformedMessage
    grows_no_faster_than_its_input(lambda size: judged(FORM, FORM_TYPE, bodies[size]))


PATHS: dict[str, Callable[[int], bytes]] = {
    "slashes": lambda size: b"/a" * (size // 2),
    "dots": lambda size: b"/..." * (size // 4),
    "escapes": lambda size: b"/" + b"%41" * (size // 3),
    "overlong escapes": lambda size: b"/" + b"%c0%ae" * (size // 6),
    "a query": lambda size: b"/a?" + b"?" * size,
    "bad at the end": lambda size: b"/" + b"a" * size + b"\\",
}


@pytest.mark.parametrize("case", PATHS)
def test_a_path_costs_no_more_than_its_length(case: str) -> None:
    operations = Operations([builders.SEND, builders.STATUS])
    targets = {size: PATHS[case](size) for size in (SHORT, LONG)}
    grows_no_faster_than_its_input(
        lambda size: http.parse(RawRequest("GET", targets[size], [], b""), operations)
    )


CREDENTIALS: dict[str, Callable[[int], list[tuple[bytes, bytes]]]] = {
    "a long value": lambda size: [(b"x-api-key", b"swk_" + b"A" * size)],
    "blanks": lambda size: [(b"authorization", b"Bearer" + b" " * size + b"x")],
    "many headers": lambda size: [(b"x-api-key", b"swk")] * (size // 16),
    "underscores": lambda size: [(b"authorization", b"Bearer " + b"_" * size)],
}


@pytest.mark.parametrize("case", CREDENTIALS)
def test_a_credential_costs_no_more_than_its_length(case: str) -> None:
    headers = {size: CREDENTIALS[case](size) for size in (SHORT, LONG)}
    assert isinstance(http.credential(headers[LONG]), Reason)
    grows_no_faster_than_its_input(lambda size: http.credential(headers[size]))


@pytest.mark.parametrize("scheme", [b"Bearer", b"bearer", b"BEARER", b"bEaReR"])
def test_the_scheme_is_bearer_in_any_case(scheme: bytes) -> None:
    one = builders.credential("one")
    assert http.credential([(b"authorization", scheme + b" " + one.value.encode())]) == (one.id, one.secret)


@pytest.mark.parametrize(
    "value",
    [b"Bearer\t%s", b"Bearer:%s", b"Bearer%%20%s", b"Bearer Bearer %s", b"Token %s", b" Bearer %s", b"%s"],
)
def test_no_other_scheme_is_taken_for_bearer(value: bytes) -> None:
    header = (b"authorization", value % builders.credential("one").value.encode())
    assert http.credential([header]) is Reason.MalformedKey


def test_a_form_has_a_bounded_number_of_fields() -> None:
    """64 KiB of "&" held the guard for 25 ms, and no limit counted them."""
    for count, expected in ((MAX_FIELDS, Message(1, "A")), (MAX_FIELDS + 1, Reason.MalformedMessage)):
        body = b"to=447700900123&from=A" + b"&" * (count - 2)
        assert judged(FORM, FORM_TYPE, body) == expected


def test_a_json_body_has_a_bounded_number_of_brackets() -> None:
    for count, expected in ((MAX_BRACKETS, Message(1, "A")), (MAX_BRACKETS + 1, Reason.MalformedMessage)):
        body = {"to": "+447700900123", "from": "A", "text": "t", "x": [[]] * (count - 2)}
        assert judged(builders.SEND, JSON_TYPE, json.dumps(body).encode()) == expected


def test_nesting_is_bounded_before_the_decoder_sees_it() -> None:
    def nested(depth: int) -> bytes:
        return b'{"to":"+447700900123","from":"A","text":"t","x":' + b"[" * depth + b"]" * depth + b"}"

    assert judged(builders.SEND, JSON_TYPE, nested(MAX_DEPTH - 1)) == Message(1, "A")
    assert judged(builders.SEND, JSON_TYPE, nested(MAX_DEPTH)) is Reason.MalformedMessage
