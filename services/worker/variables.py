"""The environment variables and names that a function sees: exactly Lambda's, then the user's own over the free ones.

Source: https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html (defined runtime variables).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Protocol

from lambent.domain.images import Built
from lambent.domain.runtimes import family
from lambent.internal.v1.deployment_pb2 import Deployment

# Of an image that says nothing of it.
_IMAGE_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Places(Protocol):
    """Where a function finds what is its own: a sandbox says so."""

    @property
    def task_root(self) -> str: ...

    @property
    def opt_root(self) -> str: ...

    @property
    def runtime_root(self) -> str: ...


def _own_log_group(deployment: Deployment) -> str:
    return f"/aws/lambda/{deployment.function_name}"


def log_group_name(deployment: Deployment) -> str:
    """The log group that a function's environments write to."""
    return deployment.log_group or _own_log_group(deployment)


def log_stream_name(deployment: Deployment, stream_id: str, now: float) -> str:
    """YYYY/MM/DD/[version]id; with the function's name before the version in a group that others may share.

    Source: https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs-loggroups.html
    """
    function = "" if log_group_name(deployment) == _own_log_group(deployment) else deployment.function_name
    return f"{datetime.fromtimestamp(now, UTC):%Y/%m/%d}/{function}[{deployment.version}]{stream_id}"


def environment_variables(
    deployment: Deployment,
    stream: str,
    places: Places,
    *,
    initialization: str,
    endpoints: Mapping[str, str],
    credentials: Mapping[str, str],
    image: Built | None = None,
) -> dict[str, str]:
    """What the function's process finds in its environment.

    `initialization`: AWS's name for how it starts (`on-demand`, `provisioned-concurrency`, `snap-start`); `endpoints`,
    `credentials`: the variables for those, of which the function's own replace the former; `image`: what the function's
    image says of itself, whose variables take the place of those that a runtime has.
    """
    task_root, opt_root, root = places.task_root, places.opt_root, places.runtime_root
    kind = family(deployment.runtime)
    path = f"/usr/local/bin:/usr/bin/:/bin:{opt_root}/bin"
    free = {
        "TZ": ":UTC",
        "AWS_XRAY_CONTEXT_MISSING": "LOG_ERROR",
        "AWS_XRAY_DAEMON_ADDRESS": "127.0.0.1:2000",
        "_AWS_XRAY_DAEMON_ADDRESS": "127.0.0.1",
        "_AWS_XRAY_DAEMON_PORT": "2000",
        **endpoints,
    }
    if image is not None:
        free |= {"PATH": _IMAGE_PATH, **image.environ()}
    else:
        free |= {
            "LANG": "en_US.UTF-8",
            "PATH": path if kind == "provided" else f"/var/lang/bin:{path}",
            "LD_LIBRARY_PATH": (
                f"/var/lang/lib:/lib64:/usr/lib64:{root}:{root}/lib:{task_root}:{task_root}/lib:{opt_root}/lib"
            ),
            "PWD": task_root,
            "SHLVL": "0",
        }
    if kind == "python":
        free["PYTHONPATH"] = root
    elif kind == "nodejs":
        major = deployment.runtime[len(kind) :].partition(".")[0]
        layers = f"{opt_root}/nodejs"
        free["NODE_PATH"] = f"{layers}/node{major}/node_modules:{layers}/node_modules:{root}/node_modules"
    reserved = {
        "AWS_REGION": deployment.region,
        "AWS_DEFAULT_REGION": deployment.region,
        "AWS_LAMBDA_FUNCTION_NAME": deployment.function_name,
        "AWS_LAMBDA_FUNCTION_VERSION": deployment.version,
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(deployment.memory_mb),
        "AWS_LAMBDA_INITIALIZATION_TYPE": initialization,
        "AWS_LAMBDA_LOG_GROUP_NAME": log_group_name(deployment),
        "AWS_LAMBDA_LOG_STREAM_NAME": stream,
        "AWS_LAMBDA_LOG_FORMAT": deployment.log_format or "Text",
        "LAMBDA_TASK_ROOT": task_root,
        "LAMBDA_RUNTIME_DIR": root,
        **credentials,
    }
    if image is None:
        reserved["_HANDLER"] = deployment.handler  # an image's is what it is started with
        if kind != "provided":
            reserved["AWS_EXECUTION_ENV"] = f"AWS_Lambda_{deployment.runtime}"
    if deployment.log_format == "JSON":
        reserved["AWS_LAMBDA_LOG_LEVEL"] = deployment.application_log_level or "INFO"
    return {**free, **deployment.variables, **reserved}
