"""The user's cluster, by kubeconfig, for commands that ask for one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import typer
import urllib3
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException

from sendward.names import GROUP

API_KEYS: Final = "apikeys"
_VERSION: Final = "v1alpha1"
_SECONDS: Final = 10  # time-out of one request

Object = dict[str, Any]


class Cluster:
    """Our custom resources and namespaces, with the rights of the user. `namespace` is the context's."""

    def __init__(self, *, context: str = "", kubeconfig: str = "") -> None:
        settings = client.Configuration()
        config.load_kube_config(  # type: ignore[no-untyped-call]
            config_file=kubeconfig or None, context=context or None, client_configuration=settings
        )
        settings.retries = 0  # a person waits, and each retry would be talk on stderr
        api = client.ApiClient(settings)
        self._custom: Any = client.CustomObjectsApi(api)  # its answers are plain JSON, typed as object
        self._core: Any = client.CoreV1Api(api)
        self.namespace = _context_namespace(context, kubeconfig)

    def namespace_uid(self, name: str) -> str:
        """Raises ApiException."""
        found = self._core.read_namespace(name, _request_timeout=_SECONDS)
        return str(found.metadata.uid)

    def list(self, plural: str, namespace: str | None) -> list[Object]:
        """All objects of one of our kinds, in one namespace or in all (None)."""
        items: list[Object] = []
        token = ""
        while True:
            options = {"limit": 500, "_continue": token, "_request_timeout": _SECONDS}
            if namespace is None:
                page = self._custom.list_cluster_custom_object(GROUP, _VERSION, plural, **options)
            else:
                page = self._custom.list_namespaced_custom_object(
                    GROUP, _VERSION, namespace, plural, **options
                )
            items += page["items"]
            token = page["metadata"].get("continue") or ""
            if not token:
                return items

    def get(self, plural: str, namespace: str, name: str) -> Object:
        """Raises ApiException."""
        found: Object = self._custom.get_namespaced_custom_object(
            GROUP, _VERSION, namespace, plural, name, _request_timeout=_SECONDS
        )
        return found

    def set_spec(self, plural: str, obj: Object, fields: Object) -> Object:
        """Merge `fields` into the spec of this very object, and of no other that took its name."""
        meta = obj["metadata"]
        changed: Object = self._custom.patch_namespaced_custom_object(
            GROUP,
            _VERSION,
            meta["namespace"],
            plural,
            meta["name"],
            {"metadata": {"uid": meta["uid"]}, "spec": fields},
            _content_type="application/merge-patch+json",
            _request_timeout=_SECONDS,
        )
        return changed


def _context_namespace(context: str, kubeconfig: str) -> str:
    listed: Any = config.list_kube_config_contexts  # untyped
    contexts, active = listed(config_file=kubeconfig or None)
    chosen = next((one for one in contexts if one["name"] == context), active)
    return str((chosen or {}).get("context", {}).get("namespace") or "default")


@contextmanager
def faults() -> Iterator[None]:
    """Faults of the cluster as one sentence and an exit code, without a stack trace."""
    try:
        yield
    except config.ConfigException as error:
        typer.echo(f"The kubeconfig cannot be used: {error}", err=True)
        raise typer.Exit(3) from None
    except urllib3.exceptions.HTTPError as error:
        typer.echo(f"The cluster cannot be reached: {type(error).__name__}.", err=True)
        raise typer.Exit(4) from None
    except ApiException as error:
        typer.echo(f"The API server answered {error.status}: {_message(error)}", err=True)
        wrong = error.status in {400, 404, 409, 422}
        raise typer.Exit(1 if wrong else 4) from None


def _message(error: ApiException) -> str:
    try:
        return str(json.loads(error.body or "{}").get("message") or error.reason)
    except (ValueError, AttributeError):
        return str(error.reason)
