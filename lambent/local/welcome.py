"""What `lambent up` tells people: progress, proof of life, and lines to copy."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from lambent.client import Client, LambentError
from lambent.client.deploying import deploy
from lambent.client.packaging import package, read_function_file
from lambent.infra.settings import Settings

EXAMPLE = "hello"


def teller() -> Callable[[str], None]:
    """Writes progress, a line each."""

    def say(line: str) -> None:
        sys.stdout.write(f"  {line}\n")
        sys.stdout.flush()

    return say


def example_folder() -> Path:
    """The example in a checkout or inside the wheel."""
    package_folder = Path(__file__).resolve().parent.parent
    bundled = package_folder / "_bundle" / "examples" / EXAMPLE
    return bundled if bundled.is_dir() else package_folder.parent / "examples" / EXAMPLE


def greet(settings: Settings, credentials: tuple[str, str], worker: Mapping[str, str], fresh: bool) -> None:
    """Prove that the cluster lives, on an empty data folder by an example; then say how to use it."""
    say = teller()
    cluster = settings.cluster
    say(f"isolation: {worker.get('isolation', 'unknown')} ({worker.get('isolation_reason', '')})")
    key, secret = credentials
    if fresh and cluster.examples:
        with Client(cluster.grpc, access_key=key, secret_key=secret, region=cluster.region) as client:
            _prove(client, say)
    sys.stdout.write(
        f"""
Lambent is up.  REST http://{cluster.http}   gRPC {cluster.grpc}   data {Path(cluster.data).resolve()}

  export AWS_ACCESS_KEY_ID={key}
  export AWS_SECRET_ACCESS_KEY={secret}
  export AWS_DEFAULT_REGION={cluster.region}
  export AWS_ENDPOINT_URL=http://{cluster.http}

  aws lambda list-functions
  aws lambda invoke --function-name {EXAMPLE} --payload '{{"name": "you"}}' /dev/stdout

Ctrl-C stops it.
"""
    )
    sys.stdout.flush()


def _prove(client: Client, say: Callable[[str], None]) -> None:
    folder = example_folder()
    try:
        say(f"deploying the example `{EXAMPLE}`")
        wanted = read_function_file(folder)
        wanted.name = EXAMPLE
        deploy(client, folder, wanted, package(folder, lambda text: None), lambda text: None)
        cold = client.invoke(EXAMPLE, {"name": "world"})
        warm = client.invoke(EXAMPLE, {"name": "world"})
    except LambentError as error:
        say(f"the example could not be run: {error}")
        return
    say(
        f"{EXAMPLE} answered {warm.payload.decode()}: "
        f"cold in {cold.elapsed * 1000:.1f} ms, warm in {warm.elapsed * 1000:.1f} ms"
    )
