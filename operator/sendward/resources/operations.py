"""The operations of a send API: which requests there are, and where the parts of a message stand."""

from __future__ import annotations

from typing import Annotated, ClassVar, Final, Literal

from pydantic import Field

from sendward.resources.base import Model
from sendward.resources.fields import PATH_PATTERN, POINTER_PATTERN, PRINTABLE_PATTERN, OperationName
from sendward.resources.rules import Rule

_PARAMETER: Final = Field(min_length=1, max_length=64, pattern=PRINTABLE_PATTERN)


class Place(Model):
    """Where a value stands in a request: exactly one of the three."""

    object_rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="[has(self.jsonPointer), has(self.queryParameter), has(self.formField)].exists_one(x, x)",
            message="names no place, or several. Set exactly one of jsonPointer, queryParameter, formField",
            holds=lambda place: (
                [place.json_pointer, place.query_parameter, place.form_field].count(None) == 2
            ),
        ),
    )

    json_pointer: (
        Annotated[
            str,
            Field(
                max_length=128,
                pattern=POINTER_PATTERN,
                description="JSON pointer (RFC 6901) into a JSON body.",
                examples=["/message/to"],
            ),
        ]
        | None
    ) = None
    query_parameter: (
        Annotated[str, _PARAMETER, Field(description="Name of a query parameter.", examples=["to"])] | None
    ) = None
    form_field: (
        Annotated[
            str, _PARAMETER, Field(description="Name of a field of a form-encoded body.", examples=["to"])
        ]
        | None
    ) = None


class MessageFields(Model):
    """Set on operations that submit a message: such requests consume the message limits."""

    recipient: Annotated[Place, Field(description="Where the recipient's number stands.")]
    sender_id: Annotated[
        Place | None, Field(description="Where the sender id stands. Absent: requests carry none.")
    ] = None
    text: Annotated[
        Place | None, Field(description="Where the text stands. Absent: it is not looked at.")
    ] = None


class OperationSpec(Model):
    """One operation of the send API. What no operation matches is refused."""

    object_rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            field="path",
            cel="!self.path.contains('//') && !(self.path + '/').contains('/./')"
            " && !(self.path + '/').contains('/../')",
            message="has an empty, . or .. segment. Write the path as it is after normalization",
            holds=lambda operation: (
                not any(part in f"{operation.path}/" for part in ("/./", "/../"))
                and "//" not in operation.path
            ),
        ),
        Rule(
            field="path",
            cel="self.pathMatch == 'Exact' || self.path == '/' || !self.path.endsWith('/')",
            message="ends in a slash. Remove it: with pathMatch Prefix, /v1 covers /v1 and all below it",
            holds=lambda operation: (
                operation.path_match == "Exact" or operation.path == "/" or not operation.path.endswith("/")
            ),
        ),
    )

    name: Annotated[
        OperationName,
        Field(description="Name that keys and policies refer to.", examples=["send"]),
    ]
    method: Annotated[
        Literal["GET", "POST", "PUT", "PATCH", "DELETE"],
        Field(description="HTTP method.", examples=["POST"]),
    ] = "POST"
    path: Annotated[
        str,
        Field(
            max_length=256,
            pattern=PATH_PATTERN,
            description="Path of the request, without query.",
            examples=["/v1/messages"],
        ),
    ]
    path_match: Annotated[
        Literal["Exact", "Prefix"],
        Field(
            description="Exact: this path only. Prefix: this path and everything below it.",
            examples=["Prefix"],
        ),
    ] = "Exact"
    message: Annotated[
        MessageFields | None,
        Field(
            description="Where the parts of a message stand. Set on operations that submit a message: such"
            " requests consume the message limits. Absent: the operation submits none, a status query, say;"
            " no limit counts its requests, and no sender id is looked for in them."
        ),
    ] = None


def _operations_differ(operations: list[OperationSpec]) -> bool:
    matches = [(operation.method, operation.path, operation.path_match) for operation in operations]
    return len(set(matches)) == len(matches)


OPERATIONS_DIFFER: Final = Rule(
    cel="self.all(a, self.exists_one(b,"
    " a.method == b.method && a.path == b.path && a.pathMatch == b.pathMatch))",
    message="two operations have the same method, path and pathMatch. Remove one of them",
    holds=_operations_differ,
)
