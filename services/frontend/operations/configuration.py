"""From a request to a Configuration, from a record to a FunctionConfiguration: the service's own checks and defaults.

What the shape of a value forbids was refused before (transport/validation.py); here is what AWS checks deeper.
"""

from __future__ import annotations

import base64
import dataclasses

from lambent.domain import destinations, images, tenancy
from lambent.domain.errors import invalid_parameter
from lambent.domain.file_systems import FileSystems
from lambent.domain.functions import Code, Configuration, FunctionRecord, Snapshot, State, UpdateStatus, VersionRecord
from lambent.domain.limits import Limits
from lambent.domain.names import LATEST, Tenant, function_arn
from lambent.domain.networks import Networks
from lambent.domain.runtimes import ACCEPTED, RETIRED, SERVED, family, runtime_arn, runtime_version
from lambent.domain.tags import check_tags
from lambent.infra.functions.variables import open_variables, seal_variables
from lambent.infra.secrets import SecretBox, SecretsError
from lambent.v1 import function_service_pb2 as pb
from services.frontend.operations.timestamps import written
from services.frontend.variables import check_variables

_CREATING = "The function is being created."
_IDLE = ("The function was not invoked for long, and its network was taken back.", "Idle")
_RESTORING = ("The function is being restored.", "Restoring")
# Members of configuration responses that lists leave out. Source: AWS's recorded answers.
LIST_OMITS = (
    "state", "state_reason", "state_reason_code", "last_update_status", "last_update_status_reason",
    "last_update_status_reason_code", "runtime_version_config",
)  # fmt: skip


def runtimes(named: str) -> frozenset[str]:
    """Runtimes that functions may be created with, from their names separated by commas; none: all that workers can
    run. Raises ValueError for a name that they cannot."""
    found = frozenset(filter(None, (name.strip() for name in named.split(","))))
    if unknown := sorted(found - SERVED):
        raise ValueError(f"runtimes: {unknown[0]} is none of {', '.join(sorted(SERVED))}")
    return found or SERVED


def check_runtime(runtime: str, served: frozenset[str]) -> None:
    """Refuse runtimes that AWS or this cluster does not take."""
    if runtime in RETIRED:
        raise invalid_parameter(
            f"The runtime parameter of {runtime} is no longer supported for creating or updating AWS Lambda functions. "
            "We recommend you use a supported runtime while creating or updating functions."
        )
    if runtime not in ACCEPTED:
        raise invalid_parameter(
            f"Value {runtime} at 'runtime' failed to satisfy constraint: Member must satisfy enum value set: "
            f"[{', '.join(ACCEPTED)}] or be a valid ARN"
        )
    if runtime not in served:
        raise invalid_parameter(
            f"Runtime {runtime} is not served by this cluster; served: {', '.join(sorted(served))}."
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Offer:
    """What functions may be given in this cluster."""

    limits: Limits
    runtimes: frozenset[str]
    networks: Networks
    file_systems: FileSystems


def from_create(
    request: pb.CreateFunctionRequest, tenant: Tenant, name: str, offer: Offer, secrets: SecretBox
) -> Configuration:
    """The configuration that a CreateFunction asks for, with AWS's defaults."""
    limits = offer.limits
    of_image = request.package_type == images.PACKAGE_TYPE
    if not of_image and not (request.HasField("runtime") and request.HasField("handler")):
        raise invalid_parameter(
            "Runtime and Handler are mandatory parameters for functions created with deployment packages."
        )
    check_tags(request.tags, limits)
    blank = Configuration(
        role=request.role,
        runtime="",
        handler="",
        description="",
        timeout=limits.default_timeout_seconds,
        memory_mb=limits.default_memory_mb,
        ephemeral_storage_mb=limits.default_ephemeral_storage_mb,
        architecture=request.architectures[0] if request.architectures else "x86_64",
        variables=None,
        dead_letter_target=None,
        kms_key_arn=None,
        tracing_mode="PassThrough",
        snap_start="None",
        log_format="Text",
        application_log_level=None,
        system_log_level=None,
        log_group=f"/aws/lambda/{name}",
        isolated=request.tenancy_config.tenant_isolation_mode == tenancy.PER_TENANT,
        image=images.ImageSettings() if of_image else None,
    )
    return merge(blank, request, tenant, name, offer, secrets)


def merge(
    current: Configuration,
    request: pb.CreateFunctionRequest | pb.UpdateFunctionConfigurationRequest,
    tenant: Tenant,
    name: str,
    offer: Offer,
    secrets: SecretBox,
) -> Configuration:
    """`current` with the members that `request` carries; maps are replaced whole."""
    limits = offer.limits
    changes: dict[str, object] = {}
    if current.image is not None and (request.HasField("runtime") or request.HasField("handler") or request.layers):
        raise invalid_parameter(
            "Please don't provide Handler or Runtime or Layer when the intended function PackageType is Image."
        )
    if request.HasField("image_config"):
        changes["image"] = _image_settings(current, request.image_config, limits)
    if request.HasField("runtime"):
        check_runtime(request.runtime, offer.runtimes)
        changes["runtime"] = request.runtime
    for member in ("role", "handler", "description", "timeout"):
        if request.HasField(member):
            changes[member] = getattr(request, member)
    if request.HasField("memory_size"):
        changes["memory_mb"] = _at_most("MemorySize", request.memory_size, limits.max_memory_mb)
    if request.HasField("timeout"):
        changes["timeout"] = _at_most("Timeout", request.timeout, limits.max_timeout_seconds)
    if request.HasField("ephemeral_storage"):
        changes["ephemeral_storage_mb"] = request.ephemeral_storage.size
    if request.HasField("environment"):
        variables = dict(request.environment.variables)
        check_variables(variables, limits.environment_bytes)
        changes["variables"] = seal_variables(secrets, tenant, name, variables)
    if request.HasField("dead_letter_config"):
        changes["dead_letter_target"] = _dead_letter_target(request.dead_letter_config.target_arn)
    if request.HasField("kms_key_arn"):
        changes["kms_key_arn"] = request.kms_key_arn or None
    if request.HasField("tracing_config") and request.tracing_config.HasField("mode"):
        changes["tracing_mode"] = request.tracing_config.mode
    if request.HasField("snap_start") and request.snap_start.HasField("apply_on"):
        changes["snap_start"] = request.snap_start.apply_on
    if request.HasField("vpc_config"):
        asked = request.vpc_config
        changes["vpc"] = offer.networks.attach(
            asked.subnet_ids, asked.security_group_ids, asked.ipv6_allowed_for_dual_stack
        )
    for mount in request.file_system_configs:
        none = not mount.ByteSize()  # one empty item stands for none (`clearable` in options.proto)
        changes["file_system"] = None if none else offer.file_systems.mount(tenant, mount.arn, mount.local_mount_path)
    if request.HasField("logging_config"):
        changes |= _logging(current, request.logging_config)
    merged = dataclasses.replace(current, **changes)  # type: ignore[arg-type]
    _check_snap_start(merged, limits)
    return merged


def _check_snap_start(wanted: Configuration, limits: Limits) -> None:
    """Refuse SnapStart where AWS does. Every Python can be copied here, AWS's own only from 3.12 on.

    Source: https://docs.aws.amazon.com/lambda/latest/dg/snapstart.html (supported features and limitations)
    """
    if wanted.snap_start == "None":
        return
    if wanted.image is not None:
        raise invalid_parameter("PackageType Image is not supported for SnapStart enabled functions.")
    if family(wanted.runtime) != "python":
        raise invalid_parameter(f"{wanted.runtime} is not supported for SnapStart enabled functions.")
    if wanted.ephemeral_storage_mb > limits.default_ephemeral_storage_mb:
        raise invalid_parameter(
            f"Ephemeral storage of more than {limits.default_ephemeral_storage_mb} MB is not supported for SnapStart "
            "enabled functions."
        )
    if wanted.file_system is not None:
        raise invalid_parameter("FileSystemConfigs is not supported for SnapStart enabled functions.")
    if wanted.isolated:
        raise tenancy.unsupported("SnapStart")


def _image_settings(current: Configuration, wanted: pb.ImageConfig, limits: Limits) -> images.ImageSettings | None:
    """What is said of the image instead of what was."""
    settings = images.ImageSettings(tuple(wanted.entry_point), tuple(wanted.command), wanted.working_directory)
    if current.image is None:
        if settings.given:
            raise invalid_parameter("Please don't provide ImageConfig when the function's PackageType is Zip.")
        return None
    if settings.size > limits.image_settings_bytes:
        raise invalid_parameter(f"ImageConfig must have at most {limits.image_settings_bytes} bytes.")
    if any("\0" in text for text in (*settings.entry_point, *settings.command, settings.working_directory)):
        raise invalid_parameter("ImageConfig cannot have the character NUL.")
    return settings


def _dead_letter_target(arn: str) -> str | None:
    if arn and destinations.parse(arn, destinations.DEAD_LETTERS) is None:
        raise invalid_parameter(
            f"The dead-letter target {arn} must be the ARN of an SQS queue or an SNS topic, and neither may be FIFO."
        )
    return arn or None


def _at_most(member: str, value: int, most: int) -> int:
    if value > most:
        raise invalid_parameter(
            f"'{member}' value failed to satisfy constraint: Member must have value less than or equal to {most}"
        )
    return value


def _logging(current: Configuration, wanted: pb.LoggingConfig) -> dict[str, object]:
    form = wanted.log_format if wanted.HasField("log_format") else current.log_format
    changes: dict[str, object] = {"log_format": form}
    if wanted.HasField("log_group"):
        changes["log_group"] = wanted.log_group
    if form == "Text":
        if wanted.HasField("application_log_level") or wanted.HasField("system_log_level"):
            raise invalid_parameter(
                'LogLevel is not supported when LogFormat is set to "Text". Remove LogLevel from your request or '
                'change the LogFormat to "JSON" and try again.'
            )
        return changes | {"application_log_level": None, "system_log_level": None}
    for member in ("application_log_level", "system_log_level"):
        if wanted.HasField(member):
            changes[member] = getattr(wanted, member)
        elif getattr(current, member) is None:
            changes[member] = "INFO"
    return changes


def shown_digest(code: Code) -> str:
    """A digest as CodeSha256 has it: base64 of a package's, hexadecimal of an image's."""
    return code.sha256 if code.image is not None else base64.b64encode(bytes.fromhex(code.sha256)).decode()


def version_view(record: FunctionRecord, version: VersionRecord) -> FunctionRecord:
    """A published version in the place of $LATEST, to be shown."""
    if not record.away:
        # One that is Pending has served nobody yet, unlike a function on its way back.
        record = dataclasses.replace(record, state=version.state, serving=None)
    return dataclasses.replace(
        record,
        configuration=dataclasses.replace(version.deployed.configuration, description=version.description),
        code=version.deployed.code,
        revision_id=version.revision_id,
        last_modified=version.last_modified,
        update_status=UpdateStatus.SUCCESSFUL,
    )


def to_message(
    record: FunctionRecord,
    secrets: SecretBox,
    qualifier: str | None = None,
    version: str = LATEST,
    snapshot: Snapshot | None = None,
) -> pb.FunctionConfiguration:
    """A record as the API shows it; `qualifier`: as the function was asked for; `snapshot`: the version's."""
    configuration = record.configuration
    taken = "On" if snapshot is not None and snapshot.taken else "Off"
    message = pb.FunctionConfiguration(
        function_name=record.name,
        function_arn=function_arn(record.tenant, record.name, qualifier),
        role=configuration.role,
        code_size=record.code.size,
        description=configuration.description,
        timeout=configuration.timeout,
        memory_size=configuration.memory_mb,
        last_modified=written(record.last_modified),
        code_sha256=shown_digest(record.code),
        version=version,
        tracing_config=pb.TracingConfigResponse(mode=configuration.tracing_mode),
        revision_id=record.revision_id,
        state=record.state,
        architectures=[configuration.architecture],
        ephemeral_storage=pb.EphemeralStorage(size=configuration.ephemeral_storage_mb),
        snap_start=pb.SnapStartResponse(apply_on=configuration.snap_start, optimization_status=taken),
        logging_config=pb.LoggingConfig(
            log_format=configuration.log_format,
            log_group=configuration.log_group,
            application_log_level=configuration.application_log_level,
            system_log_level=configuration.system_log_level,
        ),
    )
    if configuration.image is not None:
        message.package_type = images.PACKAGE_TYPE
        if configuration.image.given:
            message.image_config_response.image_config.CopyFrom(
                pb.ImageConfig(
                    entry_point=configuration.image.entry_point,
                    command=configuration.image.command,
                    working_directory=configuration.image.working_directory or None,
                )
            )
    else:
        message.package_type = "Zip"
        message.runtime, message.handler = configuration.runtime, configuration.handler
        message.runtime_version_config.runtime_version_arn = runtime_arn(
            record.tenant.region, runtime_version(configuration.runtime)
        )
    if configuration.variables is not None:
        message.environment.CopyFrom(_environment(record, secrets))
    if configuration.dead_letter_target is not None:
        message.dead_letter_config.target_arn = configuration.dead_letter_target
    if configuration.kms_key_arn is not None:
        message.kms_key_arn = configuration.kms_key_arn
    if configuration.isolated:
        message.tenancy_config.tenant_isolation_mode = tenancy.PER_TENANT
    if configuration.file_system is not None:
        mount = configuration.file_system
        message.file_system_configs.add(arn=mount.arn, local_mount_path=mount.path)
    for layer in configuration.layers:
        message.layers.add(arn=layer.arn, code_size=layer.code.size)
    if configuration.vpc is not None:
        message.vpc_config.CopyFrom(
            pb.VpcConfigResponse(
                subnet_ids=configuration.vpc.subnets,
                security_group_ids=configuration.vpc.security_groups,
                vpc_id=configuration.vpc.vpc,
                ipv6_allowed_for_dual_stack=configuration.vpc.ipv6,
            )
        )
    if record.away:
        message.state_reason, message.state_reason_code = _IDLE if record.state is State.INACTIVE else _RESTORING
    elif record.state is State.PENDING:
        message.state_reason, message.state_reason_code = _CREATING, "Creating"
    elif record.state is State.FAILED and snapshot is not None:
        message.state_reason, message.state_reason_code = snapshot.reason, snapshot.reason_code
    if record.update_status is not None:
        message.last_update_status = record.update_status
        if record.update_status is UpdateStatus.IN_PROGRESS:
            message.last_update_status_reason, message.last_update_status_reason_code = _CREATING, "Creating"
    return message


def version_message(record: FunctionRecord, version: VersionRecord, secrets: SecretBox) -> pb.FunctionConfiguration:
    """A published version as the API shows it."""
    view = version_view(record, version)
    return to_message(view, secrets, version.number, version.number, version.snapshot)


def list_item(message: pb.FunctionConfiguration) -> pb.FunctionConfiguration:
    """A configuration as lists show it."""
    for member in LIST_OMITS:
        message.ClearField(member)  # type: ignore[arg-type]
    return message


def _environment(record: FunctionRecord, secrets: SecretBox) -> pb.EnvironmentResponse:
    try:
        variables = open_variables(secrets, record.tenant, record.name, record.configuration.variables)
    except SecretsError as error:
        return pb.EnvironmentResponse(
            error=pb.EnvironmentError(error_code="KMSAccessDeniedException", message=str(error))
        )
    return pb.EnvironmentResponse(variables=variables or {})
