"""`sendward install`, `onboard` and `crds`: manifests on stdout, for `kubectl apply -f -` or Git."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from sendward import names

_DNS_LABEL: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


def _namespace(value: str) -> str:
    if not _DNS_LABEL.fullmatch(value):
        raise typer.BadParameter(f"{value!r} is no name of a namespace")
    return value


Namespace = Annotated[str, typer.Option(help="Namespace of operator and webhook.", callback=_namespace)]


def install(
    *,
    vault_address: Annotated[str, typer.Option(help="Vault's URL, such as https://vault.example:8200.")],
    namespace: Namespace = names.OPERATOR_NAMESPACE,
    image: Annotated[str, typer.Option(help="Image of operator, webhook and guard.")] = (
        f"sendward:{names.VERSION}"
    ),
    proxy_image: Annotated[str, typer.Option(help="Image of Envoy; its entry point is Envoy.")] = (
        "envoyproxy/envoy:distroless-v1.40.0"
    ),
    proxy_concurrency: Annotated[int, typer.Option(min=1, max=64, help="Envoy's worker threads.")] = 2,
    vault_auth: Annotated[str, typer.Option(help="Vault's auth method: jwt or kubernetes.")] = "jwt",
    vault_auth_mount: Annotated[str, typer.Option(help="Its mount; the method's name by default.")] = "",
    vault_role: Annotated[str, typer.Option(help="The operator's role in it.")] = "sendward-operator",
    vault_kv_mount: Annotated[str, typer.Option(help="KV v2 mount of the API keys.")] = "sendward",
    vault_pki_mount: Annotated[str, typer.Option(help="PKI mount of server certificates.")] = "sendward-pki",
    vault_ca_config_map: Annotated[
        str, typer.Option(help="ConfigMap in the operator's namespace with Vault's CA in ca.crt.")
    ] = "",
    operator_replicas: Annotated[int, typer.Option(min=1, max=5)] = 2,
    webhook_replicas: Annotated[int, typer.Option(min=1, max=20)] = 2,
    metrics_namespace: Annotated[str, typer.Option(help="Namespace that may read our metrics.")] = "",
) -> None:
    """Print the manifests of an installation, definitions of our kinds included."""
    from sendward.manifests.install import install as manifests
    from sendward.manifests.options import InstallOptions, VaultOptions

    if vault_auth not in ("kubernetes", "jwt"):
        raise typer.BadParameter(f"{vault_auth!r} is neither kubernetes nor jwt", param_hint="--vault-auth")
    vault = VaultOptions(
        address=vault_address,
        ca_config_map=vault_ca_config_map,
        auth=vault_auth,
        auth_mount=vault_auth_mount or vault_auth,
        role=vault_role,
        kv_mount=vault_kv_mount,
        pki_mount=vault_pki_mount,
    )
    options = InstallOptions(
        vault=vault,
        namespace=namespace,
        image=image,
        proxy_image=proxy_image,
        proxy_concurrency=proxy_concurrency,
        operator_replicas=operator_replicas,
        webhook_replicas=webhook_replicas,
        metrics_namespace=metrics_namespace,
    )
    try:
        objects = manifests(options)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--vault-address") from None
    _print(objects)


def onboard(
    target: Annotated[
        str, typer.Argument(metavar="NAMESPACE", help="Where gateways will run.", callback=_namespace)
    ],
    namespace: Namespace = names.OPERATOR_NAMESPACE,
) -> None:
    """Print what brings a namespace under Sendward: its label, and the operator's rights in it."""
    from sendward.manifests.install import onboard as manifests

    if target == namespace:
        raise typer.BadParameter(
            "the operator's own namespace cannot be onboarded: its pods must start without the webhook",
            param_hint="NAMESPACE",
        )
    _print(manifests(target, namespace))


def crds(
    output_dir: Annotated[
        Path | None, typer.Option(file_okay=False, help="Write one file each instead of printing.")
    ] = None,
) -> None:
    """Print the definitions of our kinds."""
    from sendward.resources.crds import generate, write

    if output_dir is None:
        typer.echo("---\n".join(generate().values()), nl=False)
        return
    output_dir.mkdir(parents=True, exist_ok=True)
    write(output_dir)


def _print(objects: list[dict[str, Any]]) -> None:
    import yaml

    class Dumper(yaml.CSafeDumper):
        """Without anchors: each object reads from top to bottom."""

        def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - the base names it
            return True

    typer.echo(yaml.dump_all(objects, Dumper=Dumper, sort_keys=False, width=110), nl=False)
