"""From what is kept of a function's version to what invoking it takes."""

from __future__ import annotations

from lambent.domain.functions import Deployed, Function, State
from lambent.domain.images import ImageSettings
from lambent.domain.names import LATEST, Tenant
from lambent.infra.functions.variables import open_variables
from lambent.infra.invoker.invoker import Target
from lambent.infra.secrets import SecretBox
from lambent.internal.v1 import deployment_pb2


def deployed_of(function: Function, version: str) -> Deployed | None:
    """What is deployed as `version`. None: there is none such, or its creation has not ended."""
    if version == LATEST:
        return function.record.serving
    published = function.versions.get(version)
    return None if published is None else published.deployed


def version_state(function: Function, version: str) -> State:
    """Whether a published version can be invoked; $LATEST, whose record says so itself, counts as Active."""
    published = function.versions.get(version)
    return State.ACTIVE if published is None else published.state


def target_of(secrets: SecretBox, function: Function, version: str, *, pending: bool = False) -> Target | None:
    """What runs as `version`. None: there is none such, or its creation has not ended. Raises SecretsError.

    `pending`: a version whose snapshot is not made yet is wanted, too.
    """
    record, deployed = function.record, deployed_of(function, version)
    if deployed is None or not (pending or version_state(function, version) is State.ACTIVE):
        return None
    return Target(
        tenant=record.tenant,
        function_name=record.name,
        version=version,
        deployment_id=deployed.deployment_id,
        generation=deployed.generation,
        memory_mb=deployed.configuration.memory_mb,
        deployment=_deployment(secrets, record.tenant, record.name, version, deployed).SerializeToString(),
        architecture=deployed.configuration.architecture,
        runtime=deployed.configuration.runs_on,
        vpc=deployed.configuration.vpc,
        isolated=deployed.configuration.isolated,
    )


def _deployment(
    secrets: SecretBox, tenant: Tenant, name: str, version: str, deployed: Deployed
) -> deployment_pb2.Deployment:
    configuration = deployed.configuration
    image, mount = configuration.image or ImageSettings(), configuration.file_system
    return deployment_pb2.Deployment(
        account=tenant.account,
        region=tenant.region,
        function_name=name,
        version=version,
        deployment_id=deployed.deployment_id,
        runtime=configuration.runs_on,
        handler=configuration.handler,
        code_sha256=deployed.code.sha256,
        memory_mb=configuration.memory_mb,
        timeout_seconds=configuration.timeout,
        ephemeral_storage_mb=configuration.ephemeral_storage_mb,
        variables=open_variables(secrets, tenant, name, configuration.variables) or {},
        log_format=configuration.log_format,
        application_log_level=configuration.application_log_level or "",
        system_log_level=configuration.system_log_level or "",
        log_group=configuration.log_group,
        layer_sha256=[layer.code.sha256 for layer in configuration.layers],
        role=configuration.role,
        image=deployed.code.resolved,
        entry_point=image.entry_point,
        command=image.command,
        working_directory=image.working_directory,
        file_system_arn="" if mount is None else mount.arn,
        file_system_path="" if mount is None else mount.path,
        snap_start=version != LATEST and configuration.snap_start == "PublishedVersions",
    )
