"""Answers an AdmissionReview: looks the gateway and the parameters up, then injects."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any, Final, Literal

from sendward import names
from sendward.apply.kinds import CONFIG_MAP, MESSAGING_GATEWAY
from sendward.apply.ports import Kube
from sendward.errors import NotFound, SendwardError
from sendward.webhook.inject import (
    GATEWAY_NAME,
    GatewayInfo,
    Parameters,
    RefusedError,
    inject,
    parse_gateway,
    patch,
)

Object = dict[str, Any]
_OPERATIONS: Final = ("CREATE", "UPDATE", "DELETE", "CONNECT")
# What reading a pod raises when a field of it is of another type, or nested too deeply: the API server
# sends no such pod, so it is not looked at field by field.
_MISSHAPEN: Final = (AttributeError, IndexError, KeyError, TypeError, ValueError, RecursionError)


class MalformedError(Exception):
    """The body is no AdmissionReview of a pod's creation."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The answer's body, and the labels of its metrics."""

    body: Object
    decision: Literal["allowed", "refused", "error"]
    kind: str
    operation: str
    message: str = ""


class Reviewer:
    """One API server, one installation. Reads gateway and parameters on each request: an upgrade then
    takes effect here at the same instant as in the admission policy.
    """

    def __init__(self, kube: Kube, namespace: str) -> None:
        self._kube = kube
        self._namespace = namespace

    async def review(self, body: bytes) -> Outcome:
        """Raises MalformedError; every other fault is a refusal in the answer."""
        request = _request(body)
        kind = "Pod" if _is_pod(request.get("kind")) else "other"
        operation = request["operation"] if request.get("operation") in _OPERATIONS else "other"
        try:
            changes = await self._changes(request, kind, operation)
        except RefusedError as refusal:
            answer = _refusal(403, "Forbidden", "; ".join(refusal.problems))
            return _outcome(request, answer, "refused", kind, operation)
        except _MISSHAPEN as error:
            message = f"the pod is not of the shape that the API server sends ({type(error).__name__})"
            return _outcome(request, _refusal(400, "BadRequest", message), "refused", kind, operation)
        except SendwardError as error:
            message = f"sendward cannot judge this pod now ({error}); it is refused until it can: try again"
            return _outcome(request, _refusal(503, "ServiceUnavailable", message), "error", kind, operation)
        answer = {"allowed": True}
        if changes:
            encoded = base64.b64encode(json.dumps(changes).encode()).decode()
            answer |= {"patchType": "JSONPatch", "patch": encoded}
        return _outcome(request, answer, "allowed", kind, operation)

    async def _changes(self, request: Object, kind: str, operation: str) -> list[Object]:
        if kind != "Pod" or operation != "CREATE" or request.get("subResource"):
            raise RefusedError(
                [f"the webhook {names.WEBHOOK_CONFIGURATION} judges the creation of pods only"]
            )
        pod = request["object"]
        labels = pod.get("metadata", {}).get("labels", {})
        if names.LABEL_GATEWAY not in labels:
            return []
        label = labels[names.LABEL_GATEWAY]
        gateway = await self._gateway(request["namespace"], label)
        return patch(pod, inject(pod, gateway, await self._parameters()))

    async def _gateway(self, namespace: str, name: str) -> GatewayInfo:
        field = f"metadata.labels[{names.LABEL_GATEWAY}]"
        if not GATEWAY_NAME.fullmatch(name):
            raise RefusedError([f"{field}: {name!r} is not the name of a MessagingGateway"])
        try:
            found = await self._kube.get(MESSAGING_GATEWAY, namespace, name)
        except NotFound:
            raise RefusedError(
                [
                    f"{field}: there is no MessagingGateway {name!r} in namespace {namespace!r}; "
                    "create it first, or correct the label"
                ]
            ) from None
        if found["metadata"].get("deletionTimestamp"):
            raise RefusedError([f"{field}: MessagingGateway {name!r} is being deleted"])
        return parse_gateway(found)

    async def _parameters(self) -> Parameters:
        where = f"ConfigMap {names.CONFIGMAP_PARAMETERS} in namespace {self._namespace}"
        try:
            data = (await self._kube.get(CONFIG_MAP, self._namespace, names.CONFIGMAP_PARAMETERS)).get(
                "data", {}
            )
        except NotFound:
            raise RefusedError([f"{where} is missing; apply the output of `sendward install`"]) from None
        return parse_parameters(data, where)


def parse_parameters(data: dict[str, str], where: str) -> Parameters:
    """Raises RefusedError when a parameter is missing or unusable."""
    keys = (
        names.PARAM_GUARD_IMAGE,
        names.PARAM_PROXY_IMAGE,
        names.PARAM_PROXY_CONCURRENCY,
        names.PARAM_HUB,
        names.PARAM_DOCUMENT_KEY,
    )
    missing = [key for key in keys if not data.get(key)]
    if missing == [names.PARAM_DOCUMENT_KEY]:
        raise RefusedError(
            [f"{where} has no {names.PARAM_DOCUMENT_KEY} yet: the operator writes it when it starts"]
        )
    if missing:
        raise RefusedError([f"{where} lacks {', '.join(missing)}; apply the output of `sendward install`"])
    try:
        length = len(base64.b64decode(data[names.PARAM_DOCUMENT_KEY], validate=True))
    except ValueError:
        length = 0
    if length != 32:
        raise RefusedError([f"{where}: {names.PARAM_DOCUMENT_KEY} is no Ed25519 public key in base64"])
    return Parameters(*(data[key] for key in keys))


def _request(body: bytes) -> Object:
    try:
        review = json.loads(body)
        if review["apiVersion"] == "admission.k8s.io/v1" and review["kind"] == "AdmissionReview":
            request: Object = review["request"]
            if isinstance(request["uid"], str) and isinstance(request.get("object"), dict):
                return request
    except (ValueError, RecursionError, KeyError, TypeError):
        pass
    raise MalformedError("expected an AdmissionReview (admission.k8s.io/v1) with an object")


def _is_pod(kind: object) -> bool:
    return isinstance(kind, dict) and kind.get("kind") == "Pod"


def _refusal(code: int, reason: str, message: str) -> Object:
    return {"allowed": False, "status": {"code": code, "reason": reason, "message": message}}


def _outcome(
    request: Object,
    answer: Object,
    decision: Literal["allowed", "refused", "error"],
    kind: str,
    operation: str,
) -> Outcome:
    body = {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "response": {"uid": request["uid"], **answer},
    }
    return Outcome(body, decision, kind, operation, answer.get("status", {}).get("message", ""))
