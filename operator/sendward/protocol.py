"""What guard and hub say to each other over the WebSocket: one JSON object a message, tagged by `type`.

    guard                                   hub
      | -- Hello ------------------------->  |   what it has, the highest epoch it has seen
      | <------------------------- Part ---  |   every part whose order differs
      | -- Ack / Nack -------------------->  |   after Envoy took it too
      | <----------------------- Shares ---  |   decreases first; after all acknowledged, increases
      | -- SharesAck --------------------->  |
      | -- Report (each second) ---------->  |   demand, last use, place of the counters
      | -- Leave ------------------------->  |   at its end: its shares, and what is left in them

The hub never learns from the client which gateway it serves: it takes that from the pod.
"""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta, Struct, field

HUB_PATH: Final = "/v1/stream"
PPM: Final = 1_000_000  # a share is counted in millionths of a limit
REPORT_SECONDS: Final = 1.0
MAX_MESSAGE_BYTES: Final = 4 * 1024 * 1024
MAX_COUNT: Final = 2**53  # exact in every reader of JSON, and within the range of a float
MAX_FREED: Final = 4096  # subjects in one answer to shares
MAX_ID: Final = 64  # characters of a uid or of the id of a key version

Count = Annotated[int, Meta(ge=0, le=MAX_COUNT)]
Id = Annotated[str, Meta(max_length=MAX_ID)]


class Have(Struct, frozen=True):
    """One part that the guard enforces now."""

    epoch: int
    revision: int
    digest: str


class Portions(Struct, frozen=True, omit_defaults=True):
    """Tokens as parts of whole bursts, in millionths: of accounts and keys by uid, of all others."""

    default: Count = 0
    subjects: dict[Id, Count] = field(default_factory=dict)


class Shares(Struct, frozen=True, tag=True, omit_defaults=True):
    """How much of each limit this guard may use, in millionths. Replaces the previous message.

    `subjects` maps the uid of an account or key to its share; all others have `default`.
    `filled`: the tokens that come with what this message adds; the rest of it starts empty.
    `term`: limit by the shared counters of this term, and by no share; "": by shares. `full`: the
    counters of that term begin full, since nobody can have used anything yet; this guard fills them, once.
    """

    round: Count
    default: Count
    subjects: dict[Id, Count] = field(default_factory=dict)
    filled: Portions = field(default_factory=Portions)
    term: Id = ""
    full: bool = False


class Hello(Struct, frozen=True, tag=True):
    """First message of a guard.

    `shares`: the last message of shares, by which it limits now; None when it never had one. A hub
    that took over knows from it what is already given away.
    """

    formats: list[int]
    highest_epoch: int
    parts: dict[str, Have]
    shares: Shares | None = None


class Part(Struct, frozen=True, tag=True):
    """An encoded `document.Envelope` (base64 in JSON)."""

    envelope: bytes


class Ack(Struct, frozen=True, tag=True):
    """The part is in force: the guard judges by it, and Envoy accepted its configuration."""

    part: str
    epoch: int
    revision: int


class Nack(Struct, frozen=True, tag=True):
    """The part was refused; the previous one stays in force."""

    part: str
    epoch: int
    revision: int
    message: str


class SharesAck(Struct, frozen=True, tag=True, omit_defaults=True):
    """The guard limits by these shares from now on. `freed`: the tokens that it gave up."""

    round: int
    freed: Portions = field(default_factory=Portions)


class Leave(Struct, frozen=True, tag=True, omit_defaults=True):
    """The guard ends, and judges nothing any more: its shares are free. `freed`: the tokens in them."""

    freed: Portions = field(default_factory=Portions)


class Report(Struct, frozen=True, tag=True, omit_defaults=True):
    """Usage since the last report. `demand`: messages asked for (also refused ones) per account or
    key uid. `last_used`: Unix seconds per key-version id. `bursts`: of the subjects in `demand`, the
    smallest burst of their limits; a share below one message of it lets nothing pass. `place`: which
    shared counters it reaches: where they are declared to be and the Redis process there; "": none; None:
    that is not known yet, and nobody need leave the counters for it.
    """

    demand: dict[str, int]
    last_used: dict[str, int]
    bursts: dict[str, int] = field(default_factory=dict)
    place: Id | None = ""


GuardMessage = Hello | Ack | Nack | SharesAck | Leave | Report
HubMessage = Part | Shares


def is_of_place(longer: str, place: str) -> bool:
    """Whether a term, or a more exact place, is of this place of shared counters."""
    return bool(place) and longer.startswith(f"{place}.")
