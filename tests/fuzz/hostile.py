"""Texts and values that broke somebody's YAML, template, log, parser or eyes before."""

from __future__ import annotations

from typing import Any, Final

from hypothesis import strategies as st

MARK: Final = "zqevil"  # stands in every free text of the hostile tenant; nobody else has it

# Names that the API server admits for any object; ours must be DNS labels of at most 40 characters.
NAMES: Final = (
    "n",
    "no",
    "y",
    "null",
    "true",
    "1e3",
    "0",
    "0x1",
    "-1",
    "a.b",
    "xn--80ak6aa92e",
    "a" * 40,
    "a" * 41,
    "a" * 253,
    "gateway",
    "sendward",
    "sendward-sms",
    "sms-doc-0",
    "sms-tls",
    "kube-system",
    "default",
    f"{MARK}",
    f"{MARK}-1",
)
TEXTS: Final = (
    "",
    "n",
    "no",
    "null",
    "~",
    "1e3",
    "0x10",
    "yes",
    "{{ .Values.x }}",
    "{{",
    "}}",
    "${HOME}",
    "$(id)",
    "`id`",
    "%s%n",
    "%DOWNSTREAM_REMOTE_ADDRESS%",
    "%REQ(authorization)%",
    "a\nb",
    "a\r\nx-sw-account: bank",
    "\x00",
    "a\x00b",
    "\x1b[31m",
    "\u202egnp.exe",
    "\u200b",
    "\ufeff",
    "b\u0430nk",
    "\U0001f4a3",
    "\u0130",
    "\u017f",
    "e\u0301",
    "'; DROP TABLE x; --",
    '"',
    "\\",
    "\\u0000",
    "</script>",
    "../../secret",
    "..",
    "/",
    "a/b",
    "*",
    "^(a+)+$",
    "(a{100}){100}",
    "(?=a)",
    "a" * 10_000,
    "&anchor",
    "*alias",
    "!!python/object:os.system",
    "- x",
    "key: value",
    "# x",
    "@type",
    "type.googleapis.com/envoy.config.listener.v3.Listener",
    "\u2028",
    "\udcff",
)
# What the schemas let through: hostile to whoever reads it as something else.
ACCEPTED_TEXTS: Final = tuple(
    text for text in TEXTS if len(text) < 100 and text.isprintable() and "\ud800" not in text
)
CIDRS: Final = (
    "0.0.0.0/0",
    "::/0",
    "0.0.0.0/1",
    "128.0.0.0/1",
    "::/1",
    "8000::/1",
    "::ffff:0:0/96",
    "::ffff:10.0.0.0/104",
    "10.1.2.3/8",
    "10.0.0.0/8",
    "10.0.0.0/9",
    "10.255.255.255/32",
    "0.0.0.0/32",
    "255.255.255.255/32",
    "127.0.0.0/8",
    "169.254.169.254/32",
    "::1/128",
    "fe80::1%eth0/64",
    "fe80::/10",
    "2001:db8::/32",
    "64:ff9b::/96",
    "10.0.0.0/33",
    "010.0.0.0/8",
    "10.0.0.0/255.0.0.0",
    "10.0.0.0",
    "",
    "any",
    "\u0661\u0660.0.0.0/8",
    "10.0.0.0/08",
    "10.0.0.0/8\n",
)
PATHS: Final = (
    "/",
    "/v1/messages",
    "/v1",
    "//",
    "/..",
    "/.",
    "/a/../b",
    "/a//b",
    "/a/",
    "/~",
    "/a;x",
    "/%2e%2e",
    "/*",
    "/{x}",
    "/a?b",
    "/a#b",
    "/a b",
    "/\\",
    "/a\x00",
    "x",
    "",
    "/" + "a" * 255,
    "/" + "a" * 256,
    "/.well-known/x",
    "/a/.b/..c",
)
POINTERS: Final = (
    "/to",
    "/",
    "/~0~1",
    "/~2",
    "/~",
    "to",
    "",
    "/a/0/b",
    "/" * 128,
    "/" * 129,
    "/\u202e",
    "/{{",
    "/a\nb",
)
PATTERNS: Final = ("^(a+)+$", "(a{100}){100}", ".*" * 50, "(?=a)b", "[", "\\", "a" * 10_000)
NUMBERS: Final = (-1, 0, 1, 2**31, 2**53, 2**63, 2**64, 10**30, 1.0, 1.5, float("inf"), True)
JUNK: Final[tuple[Any, ...]] = (
    None,
    True,
    *NUMBERS,
    "",
    [],
    {},
    [None],
    [[]],
    {"": None},
    {"a": {"b": []}},
    "x" * 400,
)

names = st.sampled_from(NAMES)
texts = st.sampled_from((*TEXTS, *PATTERNS)) | st.text(max_size=12)
cidrs = st.sampled_from(CIDRS)
paths = st.sampled_from(PATHS)
pointers = st.sampled_from(POINTERS)
junk = st.sampled_from(JUNK)


def marked(texts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """The same with the mark at their end."""
    return texts.map(lambda text: f"{text}{MARK}")
