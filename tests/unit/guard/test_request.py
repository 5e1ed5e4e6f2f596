"""Reading requests: tables of what passes and what does not, and that nothing ever raises."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sendward.document import Operation, Place
from sendward.guard import request as http
from sendward.guard.request import Message, Operations, RawRequest, Request
from sendward.verdict import Reason
from tests.guard import builders

GOOD = builders.credential("one").value.encode()
OTHER = builders.credential("two").value.encode()

POST = Operation("send", "POST", "/v1/messages")
LIST = Operation("list", "GET", "/v1/messages", prefix=True)
DEEP = Operation("deep", "GET", "/v1/messages/archive", prefix=True)
SLASH = Operation("slash", "GET", "/files/", prefix=True)
OPERATIONS = Operations([POST, LIST, DEEP, SLASH])


def parse(method: str, target: bytes) -> str:
    found = http.parse(RawRequest(method, target, [], b""), OPERATIONS)
    return found.operation.name if isinstance(found, Request) else found.name


@pytest.mark.parametrize(
    ("method", "target", "expected"),
    [
        ("POST", b"/v1/messages", "send"),
        ("POST", b"/v1/messages?a=b", "send"),
        ("GET", b"/v1/messages/17", "list"),
        ("GET", b"/v1/messages/", "list"),
        ("GET", b"/v1/messages/archive", "deep"),
        ("GET", b"/v1/messages/archive/1", "deep"),
        ("GET", b"/v1/messages/archived", "list"),
        ("GET", b"/files/a", "slash"),
        ("GET", b"/v1/messages/%41.txt", "list"),
        ("GET", b"/v1/messages", "list"),  # the exact path has another method: the prefix counts
        ("DELETE", b"/v1/messages/17", "MethodNotAllowed"),
        ("get", b"/v1/messages/17", "MethodNotAllowed"),
        ("GET", b"/v1/messagesx", "UnknownOperation"),
        ("GET", b"/files", "UnknownOperation"),
        ("GET", b"/", "UnknownOperation"),
        ("GET", b"/V1/messages/1", "UnknownOperation"),
    ],
)
def test_operations(method: str, target: bytes, expected: str) -> None:
    assert parse(method, target) == expected


@pytest.mark.parametrize(
    "target",
    [
        b"",
        b"*",
        b"v1/messages",
        b"http://host/v1/messages/1",
        b"//v1/messages/1",
        b"/v1//messages/1",
        b"/v1/messages/./1",
        b"/v1/messages/../balance",
        b"/v1/messages/..",
        b"/v1/messages/.",
        b"/v1/messages/%2e%2e/balance",
        b"/v1/messages/.%2E/balance",
        b"/v1/messages/..%2fbalance",
        b"/v1/messages/%2F",
        b"/v1/messages/%5c..",
        b"/v1/messages/%5C",
        b"/v1/messages/\\..",
        b"/v1/messages/..;/balance",
        b"/v1/messages/a;b",
        b"/v1/messages/a%3bb",
        b"/v1/messages/%00",
        b"/v1/messages/\x00",
        b"/v1/messages/%252e",
        b"/v1/messages/%c0%ae",
        b"/v1/messages/%zz",
        b"/v1/messages/%4",
        b"/v1/messages/%0d%0a",
        b"/v1/messages/a b",
        b"/v1/messages/a#b",
        b"/v1/messages/\xff",
        b"/v1/messages/1?a=\x01",
        b"/v1/messages/1?a#b",
    ],
)
def test_unsound_targets_are_refused(target: bytes) -> None:
    assert parse("GET", target) == "MalformedRequest"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([], Reason.MissingKey),
        ([(b"x-other", GOOD)], Reason.MissingKey),
        ([(b"x-api-key", GOOD)], None),
        ([(b"authorization", b"Bearer " + GOOD)], None),
        ([(b"authorization", b"bearer  " + GOOD)], None),
        ([(b"x-api-key", GOOD), (b"x-api-key", GOOD)], Reason.MultipleKeys),
        ([(b"x-api-key", GOOD + b"," + OTHER)], Reason.MultipleKeys),
        ([(b"x-api-key", GOOD + b", " + OTHER)], Reason.MultipleKeys),
        ([(b"authorization", b"Bearer " + GOOD + b", Bearer " + GOOD)], Reason.MultipleKeys),
        ([(b"authorization", b"Bearer " + GOOD), (b"x-api-key", GOOD)], Reason.MultipleKeys),
        ([(b"authorization", b"Basic YTpi"), (b"x-api-key", GOOD)], Reason.MultipleKeys),
        ([(b"authorization", b"Basic YTpi")], Reason.MalformedKey),
        ([(b"authorization", GOOD)], Reason.MalformedKey),
        ([(b"authorization", b"")], Reason.MalformedKey),
        ([(b"x-api-key", b"")], Reason.MalformedKey),
        ([(b"x-api-key", GOOD[:-1])], Reason.MalformedKey),
        ([(b"x-api-key", GOOD + b"0")], Reason.MalformedKey),
        ([(b"x-api-key", GOOD + b"\n")], Reason.MalformedKey),
        ([(b"x-api-key", b"\xff" * 65)], Reason.MalformedKey),
        ([(b"x_api_key", GOOD)], Reason.MalformedKey),
        ([(b"x-api-key", GOOD), (b"x_api_key", OTHER)], Reason.MalformedKey),
    ],
)
def test_credentials(headers: list[tuple[bytes, bytes]], expected: Reason | None) -> None:
    one = builders.credential("one")
    assert http.credential(headers) == (expected or (one.id, one.secret))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10.0.0.1", (4, 0x0A000001)),
        ("::1", (6, 1)),
        ("::ffff:10.0.0.1", (4, 0x0A000001)),
        ("10.0.0.1, 10.0.0.2", None),
        ("10.0.0.1:80", None),
        ("010.0.0.1", None),
        ("", None),
    ],
)
def test_sources(text: str, expected: object) -> None:
    assert http.source(text) == expected


def message(
    operation: Operation, body: bytes, *, query: str = "", content_type: bytes | None = b"application/json",
    more: tuple[tuple[bytes, bytes], ...] = (),
) -> Message | Reason:  # fmt: skip
    headers = [(b"content-type", content_type)] if content_type is not None else []
    raw = RawRequest("POST", b"/", [*headers, *more], body)
    return http.message(Request(raw, query, operation))


JSON = builders.SEND


def encoded(to: object = "+447700900123", **other: object) -> bytes:
    return json.dumps({"to": to, "from": "ACME", "text": "hello", **other}).encode()


@pytest.mark.parametrize(
    ("body", "cost"),
    [
        (encoded(), 1),
        (encoded("447700900123"), 1),
        (encoded(["+447700900123"]), 1),
        (encoded(["+447700900123"] * 1000), 1000),
        (encoded(text=""), 1),
        (encoded(more={"a": [1, 2, {"b": None}]}), 1),
    ],
)
def test_messages_and_their_cost(body: bytes, cost: int) -> None:
    assert message(JSON, body) == Message(cost, "ACME")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{",
        b"\xff\xfe{}",
        b"\xef\xbb\xbf" + encoded(),
        encoded() + b"x",
        encoded().decode().encode("utf-16"),
        encoded(None),
        encoded(447700900123),
        encoded([]),
        encoded(["+447700900123"] * 1001),
        encoded(["+447700900123", 5]),
        encoded([["+447700900123"]]),
        encoded({"number": "+447700900123"}),
        encoded(""),
        encoded("+447700900123,+447700900124"),
        encoded("447700900123 447700900124"),
        encoded("+447700900123\n+447700900124"),
        encoded("\u0664\u0664\u0667\u0667"),
        encoded(text=5),
        encoded(**{"from": ["ACME"]}),
        b'{"to":"+447700900123","to":"+447700900124","from":"A","text":"t"}',
        b'{"to":"+447700900123","from":"A","text":"t","x":{"y":1,"y":2}}',
        b'{"to":"+447700900123","from":"A","text":"t","x":NaN}',
        b'{"to":"+447700900123","from":"A","text":"t","x":-Infinity}',
        b'{"to":"+447700900123","from":"A","text":"t","x":' + b"9" * 5000 + b"}",
        b'{"to":"+447700900123","from":"A","text":"t","x":' + b"[" * 65 + b"]" * 65 + b"}",
        b"[" * 100_000,
    ],
)
def test_unreadable_messages_are_refused(body: bytes) -> None:
    assert message(JSON, body) is Reason.MalformedMessage


def test_depth_counts_nesting_and_not_brackets() -> None:
    assert message(JSON, encoded(more=[[]] * 500, text="[" * 500 + '"\\')) == Message(1, "ACME")


def test_a_string_without_an_end_is_looked_through_once() -> None:
    """Each escaped quote began another search to the end: minutes of one sender's making, for all."""
    body = b"[]" * 80 + b'"' + b'\\"' * 500_000
    assert message(JSON, body) is Reason.MalformedMessage


@pytest.mark.parametrize("twin", ["TO", "To", "FROM", "\u017fender", "Sender"])
def test_names_that_differ_by_case_only_are_refused(twin: str) -> None:
    """Some servers read the one, some the other, and some the last."""
    operation = Operation(
        "o", "POST", "/", recipient=Place("jsonPointer", "/to"), sender_id=Place("jsonPointer", "/sender")
    )
    body = {"to": "+447700900123", "from": "A", "sender": "A"}
    sound = message(operation, json.dumps(body).encode())
    found = message(operation, json.dumps({**body, twin: "B"}).encode())
    assert (sound, found) == (
        Message(1, "A"),
        Message(1, "A") if twin == "FROM" else Reason.MalformedMessage,
    )


@pytest.mark.parametrize(
    ("content_type", "sound"),
    [
        (b"application/json", True),
        (b"Application/JSON; charset=UTF-8", True),
        (b'application/json;charset="utf-8"', True),
        (b"application/json; charset=utf-16", False),
        (b"application/jsonx", False),
        (b"text/plain", False),
        (b"", False),
        (None, False),
    ],
)
def test_content_types(content_type: bytes | None, *, sound: bool) -> None:
    assert isinstance(message(JSON, encoded(), content_type=content_type), Message) is sound


@pytest.mark.parametrize("name", [b"content-type", b"content-encoding"])
def test_second_content_type_or_encoding_is_refused(name: bytes) -> None:
    assert message(JSON, encoded(), more=((name, b"gzip"),)) is Reason.MalformedMessage


@pytest.mark.parametrize(
    ("pointer", "body", "sound"),
    [
        ("/a~1b/c~0d", {"a/b": {"c~d": "+447700900123"}}, True),
        ("/m/0/to", {"m": [{"to": "+447700900123"}]}, True),
        ("/m/0/to", {"m": [{"to": "+447700900123"}, {"to": "+447700900124"}]}, False),
        ("/m/1/to", {"m": [{}, {"to": "+447700900123"}]}, False),
        ("/m/to", {"m": "+447700900123"}, False),
    ],
)
def test_pointers(pointer: str, body: object, *, sound: bool) -> None:
    operation = Operation("o", "POST", "/", recipient=Place("jsonPointer", pointer))
    found = message(operation, json.dumps(body).encode())
    assert found == (Message(1, None) if sound else Reason.MalformedMessage)


KANNEL = Operation(
    "kannel",
    "GET",
    "/cgi-bin/sendsms",
    recipient=Place("queryParameter", "to"),
    sender_id=Place("queryParameter", "from"),
)
FORM = Operation("form", "POST", "/send", recipient=Place("formField", "to"))
FORM_TYPE = b"application/x-www-form-urlencoded"


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("to=%2B447700900123&from=ACME", Message(1, "ACME")),
        ("to=+447700900123&from=AC%20ME", Message(1, "AC ME")),
        ("%74o=447700900123&from=A", Message(1, "A")),
        ("to=447700900123&from=%FC", Message(1, "\xfc")),
        ("from=A", Reason.MalformedMessage),
        ("to=447700900123", Reason.MalformedMessage),
        ("to=447700900123&to=447700900124&from=A", Reason.MalformedMessage),
        ("to=447700900123&%74o=447700900124&from=A", Reason.MalformedMessage),
        ("to=447700900123+447700900124&from=A", Reason.MalformedMessage),
        ("to=447700900123&from=A;to=447700900124", Reason.MalformedMessage),
        ("to=447700900123&from=A&To=447700900124", Reason.MalformedMessage),
        ("to=447700900123&from=A&to[]=447700900124", Reason.MalformedMessage),
        ("to=447700900123&from=A&from%5B0%5D=B", Reason.MalformedMessage),
        ("to=447700900123&from=A&x=%zz", Reason.MalformedMessage),
        ("", Reason.MalformedMessage),
    ],
)
def test_query_parameters(query: str, expected: object) -> None:
    assert message(KANNEL, b"", query=query, content_type=None) == expected


@pytest.mark.parametrize(
    ("body", "query", "content_type", "sound"),
    [
        (b"to=447700900123&x=1", "", FORM_TYPE, True),
        (b"to=447700900123", "", FORM_TYPE + b"; charset=utf-8", True),
        (b"to=447700900123", "to=447700900124", FORM_TYPE, False),
        (b"to=447700900123", "", b"text/plain", False),
        (b"to=447700900123&to=1234", "", FORM_TYPE, False),
        (b"", "to=447700900123", FORM_TYPE, False),
    ],
)
def test_form_fields(body: bytes, query: str, content_type: bytes, *, sound: bool) -> None:
    assert isinstance(message(FORM, body, query=query, content_type=content_type), Message) is sound


@pytest.mark.parametrize("content_type", [b"multipart/form-data; boundary=x", b"application/json", None])
def test_a_body_that_is_not_judged_may_not_come_beside_the_query(content_type: bytes | None) -> None:
    """An application may take from it what the query declares."""
    query = "to=447700900123&from=A"
    assert message(KANNEL, b"", query=query, content_type=content_type) == Message(1, "A")
    assert message(KANNEL, b"to", query=query, content_type=content_type) is Reason.MalformedMessage


def test_a_form_may_not_repeat_a_declared_query_parameter() -> None:
    found = message(KANNEL, b"to=1234", query="to=447700900123&from=A", content_type=FORM_TYPE)
    assert found is Reason.MalformedMessage


headers = st.lists(
    st.tuples(
        st.sampled_from([b"authorization", b"x-api-key", b"content-type", b"content-encoding", b"x"]),
        st.one_of(
            st.binary(max_size=80), st.sampled_from([GOOD, b"Bearer " + GOOD, b"application/json", FORM_TYPE])
        ),
    ),
    max_size=4,
)
bodies = st.one_of(
    st.binary(max_size=200),
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["to", "from", "text"]), inner)
        ),
    ).map(lambda value: json.dumps(value).encode()),
)


@given(st.text(max_size=5), st.binary(max_size=80), headers, bodies)
def test_nothing_raises(method: str, target: bytes, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    raw = RawRequest(method, target, headers, body)
    assert isinstance(http.parse(raw, OPERATIONS), Request | Reason)
    assert isinstance(http.credential(headers), tuple | Reason)
    for operation in (JSON, KANNEL, FORM):
        query = target.decode("ascii", "ignore")
        assert isinstance(http.message(Request(raw, query, operation)), Message | Reason)


@given(st.text(max_size=40))
def test_sources_never_raise(text: str) -> None:
    assert http.source(text) is None or isinstance(http.source(text), tuple)
