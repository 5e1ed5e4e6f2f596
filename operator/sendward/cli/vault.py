"""`sendward vault`: what an administrator does in Vault, once, and prints for consumers of keys."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from sendward.names import AUDIENCE_VAULT, OPERATOR_NAMESPACE, SERVICE_ACCOUNT_OPERATOR

app = typer.Typer(name="vault", no_args_is_help=True, help="Prepare Vault; print policies for consumers.")

_ROLE = "sendward-operator"


class AuthMethod(StrEnum):
    """How the operator logs in."""

    JWT = "jwt"
    KUBERNETES = "kubernetes"


@app.command()
def bootstrap(
    kv_mount: Annotated[str, typer.Option(help="Mount of the KV v2 engine for key values.")] = "sendward",
    pki_mount: Annotated[
        str, typer.Option(help="Mount of the PKI engine for server certificates.")
    ] = "sendward-pki",
    without_pki: Annotated[bool, typer.Option("--without-pki", help="Leave PKI alone.")] = False,
    auth: Annotated[AuthMethod, typer.Option(help="How the operator logs in.")] = AuthMethod.JWT,
    auth_mount: Annotated[str, typer.Option(help="Mount of the auth method; default: its name.")] = "",
    role: Annotated[str, typer.Option(help="Name of the role that the operator logs in to.")] = _ROLE,
    service_account: Annotated[
        str, typer.Option(help="The operator's service account.")
    ] = SERVICE_ACCOUNT_OPERATOR,
    namespace: Annotated[str, typer.Option(help="Its namespace.")] = OPERATOR_NAMESPACE,
    audience: Annotated[str, typer.Option(help="Audience of its tokens.")] = AUDIENCE_VAULT,
    issuer: Annotated[str, typer.Option(help="jwt: issuer of service-account tokens.")] = "",
    jwt_public_key: Annotated[
        Path | None, typer.Option(help="jwt: PEM file with the key that verifies these tokens.")
    ] = None,
    oidc_discovery_url: Annotated[
        str, typer.Option(help="jwt: where Vault finds these keys itself, instead of a file.")
    ] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would change.")] = False,
) -> None:
    """Prepare Vault for the operator: mounts, PKI, login, least-privilege policy.

    Run it as an administrator, with VAULT_ADDR, VAULT_TOKEN and, for a private CA, VAULT_CACERT. It can
    be run again: what is already right stays as it is.
    """
    from sendward.cli.vault_bootstrap import Settings, run

    if auth is AuthMethod.JWT and bool(jwt_public_key) == bool(oidc_discovery_url):
        raise typer.BadParameter("--auth jwt needs either --jwt-public-key or --oidc-discovery-url.")
    try:
        public_key = jwt_public_key.read_text(encoding="ascii") if jwt_public_key else ""
    except (OSError, UnicodeDecodeError) as error:
        typer.echo(f"{jwt_public_key}: cannot be read: {type(error).__name__}", err=True)
        raise typer.Exit(3) from None
    settings = Settings(
        kv_mount=kv_mount.strip("/"),
        pki_mount="" if without_pki else pki_mount.strip("/"),
        auth=auth.value,
        auth_mount=auth_mount.strip("/") or auth.value,
        role=role,
        service_account=service_account,
        namespace=namespace,
        audience=audience,
        issuer=issuer,
        jwt_public_key=public_key,
        oidc_discovery_url=oidc_discovery_url,
        dry_run=dry_run,
    )
    run(settings)


@app.command()
def policy(
    account: Annotated[str, typer.Argument(help="Name of the SenderAccount.")],
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="Its namespace.")] = "default",
    key: Annotated[str, typer.Option("--key", help="Only this APIKey.")] = "",
    kv_mount: Annotated[str, typer.Option(help="Mount of the KV v2 engine.")] = "sendward",
    context: Annotated[str, typer.Option(help="Context of the kubeconfig.")] = "",
    kubeconfig: Annotated[str, typer.Option(help="Path of the kubeconfig.")] = "",
) -> None:
    """Print the Vault policy that lets a consumer read the keys of an account.

    For an administrator to apply: `sendward vault policy ACCOUNT -n NS | vault policy write NAME -`.
    """
    from sendward.cli.cluster import API_KEYS, Cluster, faults
    from sendward.cli.vault_policy import consumer_policy

    with faults():
        cluster = Cluster(context=context, kubeconfig=kubeconfig)
        namespace_uid = cluster.namespace_uid(namespace)
        keys = {
            str(one["metadata"]["name"]): str(one["metadata"]["uid"])
            for one in cluster.list(API_KEYS, namespace)
            if one["spec"]["account"] == account and key in {"", one["metadata"]["name"]}
        }
    if not keys:
        wanted = f"no APIKey {key!r}" if key else "no APIKey"
        typer.echo(f"Account {account!r} has {wanted} in namespace {namespace!r}.", err=True)
        raise typer.Exit(1)
    typer.echo(consumer_policy(kv_mount.strip("/"), account, namespace_uid, keys), nl=False)
