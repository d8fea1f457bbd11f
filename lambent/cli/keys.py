"""`lambent keys`: the keys, first credentials and certificates of an installation on Kubernetes, made in the cluster.

What is there already stays as it is: every installation and upgrade may run this, and two at the same time may. Only a
certificate that expires soon is replaced, by one of the same authority.
"""

from __future__ import annotations

import os
import secrets as random_source
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import click

from lambent.infra.authority import AuthorityError, Pair, issue, make_authority, signed_by, valid_for
from lambent.infra.kubernetes_secrets import ClusterUnreachable, KubernetesSecrets, Secrets
from lambent.infra.layout import new_credentials
from lambent.infra.secrets import KEY_BYTES

# A certificate with fewer days left is replaced.
RENEW_DAYS = 120


@click.group("keys")
def command() -> None:
    """Keys, credentials and certificates of an installation on Kubernetes."""


def _secrets(function: Callable[..., None]) -> Callable[..., None]:
    """The options that say which Secrets it is about; those that are left out are not looked at."""
    for option in reversed(
        (
            click.option("--namespace", default="", help="Left out: the one of the pod or of the kubeconfig."),
            click.option("--keys-secret", help="Secret for master.key and cluster.key."),
            click.option("--credentials-secret", help="Secret for the first access key."),
            click.option("--redis-secret", help="Secret for the password of the bundled Redis-compatible server."),
            click.option(
                "--tls-secret", help="Secret for tls.crt, tls.key and ca.crt; the authority's key goes to NAME-ca."
            ),
        )
    ):
        function = option(function)
    return function


@command.command("ensure")
@_secrets
@click.option("--tls-names", default="", help="Further DNS names in the certificate, separated by commas.")
@click.option("--label", "labels", multiple=True, help="name=value; given to Secrets that are made.")
def ensure(
    namespace: str, keys_secret: str | None, credentials_secret: str | None, redis_secret: str | None,
    tls_secret: str | None, tls_names: str, labels: tuple[str, ...],
) -> None:  # fmt: skip
    """Make what is missing, and leave what is there."""
    if any("=" not in label for label in labels):
        raise click.UsageError("--label is name=value")
    with _cluster(namespace, dict(label.split("=", 1) for label in labels)) as store:
        said = []
        if keys_secret:
            said += ensure_keys(store, keys_secret)
        if credentials_secret:
            said += ensure_credentials(store, credentials_secret)
        if redis_secret:
            said += ensure_password(store, redis_secret)
        if tls_secret:
            said += ensure_certificate(store, tls_secret, [name for name in tls_names.split(",") if name])
    for line in said:
        click.echo(line)


@command.command("forget")
@_secrets
def forget(
    namespace: str, keys_secret: str | None, credentials_secret: str | None, redis_secret: str | None,
    tls_secret: str | None,
) -> None:  # fmt: skip
    """Delete what was made. What was sealed with the keys cannot be opened again."""
    authority = f"{tls_secret}-ca" if tls_secret else None
    with _cluster(namespace, {}) as store:
        for name in filter(None, (keys_secret, credentials_secret, redis_secret, tls_secret, authority)):
            click.echo(f"secret {name}: {'deleted' if store.delete(name) else 'not there'}")


@contextmanager
def _cluster(namespace: str, labels: Mapping[str, str]) -> Iterator[KubernetesSecrets]:
    """The Secrets of a namespace; what goes wrong with them is one line."""
    from lambent.infra.kubernetes_access import core_api

    try:
        api, here = core_api()
        yield KubernetesSecrets(api, namespace or here, labels)
    except (ClusterUnreachable, AuthorityError) as error:
        raise click.ClickException(str(error)) from None


def ensure_keys(store: Secrets, name: str) -> list[str]:
    """The keys that secrets are sealed with and that processes know each other by. Answers what was done."""
    made = store.create(name, {"master.key": os.urandom(KEY_BYTES), "cluster.key": os.urandom(KEY_BYTES)})
    return [_said(name, "keys", made)]


def ensure_credentials(store: Secrets, name: str) -> list[str]:
    """The first access key. Answers what was done."""
    key, secret = new_credentials()
    made = store.create(
        name,
        {
            "access-key-id": key.encode(),
            "secret-access-key": secret.encode(),
            "root-credentials": f"{key}:{secret}".encode(),
        },
    )
    return [_said(name, "access key", made)]


def ensure_password(store: Secrets, name: str) -> list[str]:
    """The password of the bundled server. Answers what was done."""
    return [_said(name, "password", store.create(name, {"password": random_source.token_hex(24).encode()}))]


def ensure_certificate(store: Secrets, name: str, names: list[str], renew_days: float = RENEW_DAYS) -> list[str]:
    """The certificate that all processes show each other, and the authority that signs it. Answers what was done."""
    authority_name = f"{name}-ca"
    made = store.get(authority_name)
    if made is None:
        authority = make_authority()
        store.create(authority_name, {"tls.key": authority.key, "tls.crt": authority.certificate}, "kubernetes.io/tls")
        made = store.get(authority_name)  # somebody else's, if that was faster
    if made is None or not {"tls.key", "tls.crt"} <= made.keys():
        raise AuthorityError(f"secret {authority_name} has no tls.key and tls.crt; delete it to have it made anew")
    authority = Pair(made["tls.key"], made["tls.crt"])
    present = store.get(name)
    if present is not None and present.get("ca.crt") != authority.certificate:
        # Given by others, or by an authority that is gone: not ours to replace.
        return [f"secret {name}: certificate of another authority, left as it is"]
    shown = b"" if present is None else present.get("tls.crt", b"")
    if shown and signed_by(shown, authority.certificate) and valid_for(shown, renew_days):
        return [_said(name, "certificate", False)]
    issued = issue(authority, names)
    data = {"tls.key": issued.key, "tls.crt": issued.certificate, "ca.crt": authority.certificate}
    if present is None:
        return [_said(name, "certificate", store.create(name, data, "kubernetes.io/tls"))]
    store.update(name, data)
    return [f"secret {name}: certificate renewed"]


def _said(name: str, what: str, made: bool) -> str:
    return f"secret {name}: {what} {'made' if made else 'there already'}"
