"""What the guard reads of an HTTP request, as Envoy's ext_authz HTTP service forwards it.

Everything here is pure and total: any bytes give a value or a `Reason`, never an exception. Envoy
has normalised the path before, but nothing here relies on it.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Final
from urllib.parse import unquote_to_bytes

from msgspec import Struct

from sendward import keyformat
from sendward.document import Operation, Place
from sendward.verdict import Reason

MAX_RECIPIENTS: Final = 1000
MAX_DEPTH: Final = 64  # of nested JSON arrays and objects
# Refused bodies are not held against a limit, so they must be cheap: 64 KiB of "&" took 25 ms.
MAX_BRACKETS: Final = 4096  # "[" and "{" in a JSON body, also those in strings
MAX_FIELDS: Final = 1000  # of a query or form

Headers = Sequence[tuple[bytes, bytes]]  # names in lower case, duplicates kept
Source = tuple[int, int]  # IP version and address as a number

_PATH: Final = re.compile(r"(?:/[0-9A-Za-z._~!$&'()*+,=:@%-]*)+")
# Encoded separators, dots, percent signs and NUL: another decoder might see another path.
_HIDDEN: Final = re.compile(r"%(?:2[eEfF]|5[cC]|25|3[bB]|[01][0-9A-Fa-f]|7[fF]|(?![0-9A-Fa-f]{2}))")
_QUERY: Final = re.compile(r"[\x21-\x7e]*")
_BROKEN_PERCENT: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")
# One number and no separator: some gateways take a list in one value, which would be counted as one.
_RECIPIENT: Final = re.compile(r" ?\+?[0-9]{3,20}")
_JSON_TYPE: Final = re.compile(rb'application/json\s*(?:;\s*charset\s*=\s*"?utf-8"?\s*)?', re.IGNORECASE)
_FORM_TYPE: Final = re.compile(
    rb'application/x-www-form-urlencoded\s*(?:;\s*charset\s*=\s*"?utf-8"?\s*)?', re.IGNORECASE
)
# A string without an end is one match too, else each quote in it began a search to the end of the body.
_NESTING: Final = re.compile(rb'"(?:[^"\\]|\\.)*+"?|[\[{]|[\]}]', re.DOTALL)


class RawRequest(Struct, frozen=True):
    """A request as parsed by the HTTP server. `target` is path and query as sent."""

    method: str
    target: bytes
    headers: Headers
    body: bytes


class Request(Struct, frozen=True):
    """A request whose path and method name an operation."""

    raw: RawRequest
    query: str
    operation: Operation


class Message(Struct, frozen=True):
    """`cost` is the number of recipients; the other fields are None where none is declared."""

    cost: int
    sender_id: str | None


class Operations:
    """Operations by path: exact beats prefix, then the longest prefix; then the method decides."""

    __slots__ = ("_exact", "_prefixes", "sound")

    def __init__(self, operations: Sequence[Operation]) -> None:
        self._exact: dict[str, dict[str, Operation]] = {}
        prefixes: dict[str, dict[str, Operation]] = {}
        for operation in operations:
            table = prefixes if operation.prefix else self._exact
            table.setdefault(operation.path, {})[operation.method] = operation
        self._prefixes = sorted(prefixes.items(), key=lambda item: len(item[0]), reverse=True)
        # Looked at once, and not with each request.
        self.sound = frozenset(path for path in self._exact if _sound_path(path))

    def match(self, method: str, path: str) -> Operation | Reason:
        """The operation of a path that was found sound, UnknownOperation or MethodNotAllowed.

        Exact paths first, then prefixes, the longest first; of these the first with this method, as
        the proxy routes.
        """
        known = False
        for methods in self._candidates(path):
            known = True
            if method in methods:
                return methods[method]
        return Reason.MethodNotAllowed if known else Reason.UnknownOperation

    def _candidates(self, path: str) -> Iterator[dict[str, Operation]]:
        if path in self._exact:
            yield self._exact[path]
        for prefix, methods in self._prefixes:
            if path == prefix or path.startswith(prefix if prefix.endswith("/") else prefix + "/"):
                yield methods


def parse(raw: RawRequest, operations: Operations) -> Request | Reason:
    """The request with its operation, or MalformedRequest, UnknownOperation, MethodNotAllowed."""
    try:
        target = raw.target.decode("ascii")
    except UnicodeDecodeError:
        return Reason.MalformedRequest
    path, _, query = target.partition("?")
    if path not in operations.sound and not _sound_path(path):
        return Reason.MalformedRequest
    if query and (not _QUERY.fullmatch(query) or "#" in query):
        return Reason.MalformedRequest
    operation = operations.match(raw.method, path)
    return operation if isinstance(operation, Reason) else Request(raw, query, operation)


def _sound_path(path: str) -> bool:
    if not _PATH.fullmatch(path) or _HIDDEN.search(path) or "//" in path:
        return False
    if "%" in path:
        try:
            unquote_to_bytes(path).decode("utf-8")  # overlong forms of "/" and "." are no UTF-8
        except UnicodeDecodeError:
            return False
    return "/." not in path or not any(part in (".", "..") for part in path.split("/"))


def credential(headers: Headers) -> tuple[str, str] | Reason:
    """(id, secret) of the one API key, or MissingKey, MultipleKeys, MalformedKey.

    A second header, a joined value (as proxies fold duplicates) or both headers at once are refused
    before anything is compared: which of two keys counts must never depend on who reads them.
    """
    found: list[tuple[bytes, bytes]] = []
    for header in headers:
        name = header[0]
        if name in {b"authorization", b"x-api-key"}:
            found.append(header)
        elif name == b"x_api_key":
            return Reason.MalformedKey  # some servers read it as x-api-key
    if not found:
        return Reason.MissingKey
    name, value = found[0]
    if len(found) > 1 or b"," in value:
        return Reason.MultipleKeys
    if name == b"authorization":
        scheme, _, value = value.partition(b" ")
        if scheme.lower() != b"bearer":
            return Reason.MalformedKey
    try:
        return keyformat.parse(value.strip(b" ").decode("ascii")) or Reason.MalformedKey
    except UnicodeDecodeError:
        return Reason.MalformedKey


@lru_cache(maxsize=4096)
def source(text: str) -> Source | None:
    """The client's address as Envoy judged it; None if the text is no single address."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if address.version == 6 and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address.version, int(address)


class _MalformedError(Exception):
    """The message cannot be read; becomes MalformedMessage."""


def message(request: Request) -> Message | Reason:
    """Recipients, sender id and text where the operation declares them, or MalformedMessage."""
    operation = request.operation
    reader = _Reader(request)
    try:
        cost = 0
        if operation.recipient is not None:
            cost = _recipients(reader.value(operation.recipient))
        sender_id = None
        if operation.sender_id is not None:
            sender_id = _string(reader.value(operation.sender_id))
        if operation.text is not None:
            _string(reader.value(operation.text))
    except _MalformedError:
        return Reason.MalformedMessage
    return Message(cost, sender_id)


def _string(value: object) -> str:
    if not isinstance(value, str):
        raise _MalformedError
    return value


def _recipients(value: object) -> int:
    numbers = value if isinstance(value, list) else [value]
    if not 1 <= len(numbers) <= MAX_RECIPIENTS:
        raise _MalformedError
    for number in numbers:
        if not isinstance(number, str) or not _RECIPIENT.fullmatch(number):
            raise _MalformedError
    return len(numbers)


_UNREAD: Final = object()


class _Reader:
    """Reads places of one request; each source of values is parsed once, when first asked for."""

    __slots__ = ("_document", "_fields", "_request")

    def __init__(self, request: Request) -> None:
        self._request = request
        self._document: object = _UNREAD
        self._fields: list[list[tuple[bytes, bytes]]] = []

    def value(self, place: Place) -> object:
        """The value at a place; `_MalformedError` if it is missing, repeated or unreadable."""
        if place.kind == "jsonPointer":
            if self._document is _UNREAD:
                self._document = _json(self._request.raw)
            return _resolve(self._document, place.name)
        return self._field(place)

    def _field(self, place: Place) -> str:
        if not self._fields:
            # Both are read: an application may take the one where the other is declared.
            self._fields += [_pairs(self._request.query.encode("ascii")), _form(self._request.raw)]
        wanted_name = _field_name(place.name.encode())
        in_query, in_form = (
            [value for name, value in pairs if _field_name(name) == wanted_name] for pairs in self._fields
        )
        wanted, other = (in_query, in_form) if place.kind == "queryParameter" else (in_form, in_query)
        if len(wanted) != 1 or other:
            raise _MalformedError
        try:
            return wanted[0].decode("utf-8")
        except UnicodeDecodeError:
            # Gateways with another charset parameter; a sender id or number is ASCII anyway.
            return wanted[0].decode("latin-1")


def _pairs(encoded: bytes) -> list[tuple[bytes, bytes]]:
    if not encoded:
        return []
    if b";" in encoded or encoded.count(b"&") >= MAX_FIELDS or _BROKEN_PERCENT.search(encoded):
        raise _MalformedError  # some parsers take ";" for a separator
    pairs = []
    for item in encoded.replace(b"+", b" ").split(b"&"):
        name, _, value = item.partition(b"=")
        pairs.append((unquote_to_bytes(name), unquote_to_bytes(value)))
    return pairs


def _field_name(name: bytes) -> bytes:
    """What servers may take a name for: some ignore case and blanks, some read `to[]` as `to`."""
    return name.partition(b"[")[0].strip().lower()


def _content_type(raw: RawRequest) -> bytes:
    found: bytes | None = None
    for name, value in raw.headers:
        if name == b"content-type":
            if found is not None:
                raise _MalformedError
            found = value
        elif name == b"content-encoding" and value.lower() != b"identity":
            raise _MalformedError
    return (found or b"").strip()


def _form(raw: RawRequest) -> list[tuple[bytes, bytes]]:
    if not _FORM_TYPE.fullmatch(_content_type(raw)):
        if raw.body:
            raise _MalformedError  # the application may find there what was judged in the query
        return []
    return _pairs(raw.body)


def _json(raw: RawRequest) -> object:
    if not _JSON_TYPE.fullmatch(_content_type(raw)) or _too_deep(raw.body):
        raise _MalformedError
    document: object
    try:
        text = raw.body.decode("utf-8").strip(_BLANKS)
        document, end = _DECODER.raw_decode(text)
    except (ValueError, RecursionError):
        raise _MalformedError from None
    if end != len(text):
        raise _MalformedError
    return document


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("duplicate key")  # parsers disagree on which one counts
    return found


def _refuse_constant(_text: str) -> object:
    raise ValueError("not JSON")  # NaN and Infinity


_BLANKS: Final = " \t\n\r"  # RFC 8259; `raw_decode` takes none
# Made once: `json.loads` with hooks makes one a call.
_DECODER: Final = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse_constant)


def _too_deep(body: bytes) -> bool:
    brackets = body.count(b"[") + body.count(b"{")
    if brackets <= MAX_DEPTH:
        return False
    if brackets > MAX_BRACKETS:
        return True
    depth = 0
    for match in _NESTING.finditer(body):
        if match[0] in (b"[", b"{"):
            depth += 1
            if depth > MAX_DEPTH:
                return True
        elif match[0] in (b"]", b"}"):
            depth -= 1
    return False


def _resolve(document: object, pointer: str) -> object:
    """The value at an RFC 6901 pointer."""
    node = document
    for name, folded in _names(pointer):
        if isinstance(node, dict) and name in node:
            if [other.casefold() for other in node].count(folded) > 1:
                raise _MalformedError  # parsers that ignore case disagree on which one counts
            node = node[name]
        elif isinstance(node, list) and len(node) == 1 and name == "0":
            node = node[0]  # further elements would pass unjudged, so there may be none
        else:
            raise _MalformedError
    return node


@lru_cache(maxsize=1024)
def _names(pointer: str) -> tuple[tuple[str, str], ...]:
    """The names of a pointer, each with the form under which parsers that ignore case look for it."""
    names = [token.replace("~1", "/").replace("~0", "~") for token in pointer.split("/")[1:]]
    return tuple((name, name.casefold()) for name in names)
