"""FunctionService: creating, reading, changing and deleting functions."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import hashlib

from lambent.domain.clock import Clock, Ids
from lambent.domain.errors import AwsError, invalid_parameter, validation
from lambent.domain.functions import Code, FunctionRecord, State, UpdateStatus
from lambent.domain.limits import Limits
from lambent.domain.names import LATEST, MAX_NAME, FunctionRef, function_arn, not_found, parse
from lambent.infra import packages
from lambent.infra.code_store import CodeStore
from lambent.infra.secrets import SecretBox
from lambent.v1 import function_service_pb2 as pb
from services.frontend.code_urls import CodeUrls
from services.frontend.directory import FunctionDirectory
from services.frontend.operations import configuration as conf
from services.frontend.operations.settling import Settler
from services.frontend.operations.unserved import refuse_unserved
from services.frontend.store.port import FunctionStore
from services.frontend.transport.call import Call


class FunctionOperations:
    """The operations of lambent.v1.FunctionService."""

    def __init__(
        self,
        *,
        store: FunctionStore,
        code: CodeStore,
        directory: FunctionDirectory,
        settler: Settler,
        secrets: SecretBox,
        urls: CodeUrls,
        limits: Limits,
        clock: Clock,
        ids: Ids,
    ) -> None:
        self._store = store
        self._code = code
        self._directory = directory
        self._settler = settler
        self._secrets = secrets
        self._urls = urls
        self._limits = limits
        self._clock = clock
        self._ids = ids

    async def create_function(self, request: pb.CreateFunctionRequest, call: Call) -> pb.FunctionConfiguration:
        """Keep a new function; it is Active shortly after."""
        ref = parse(request.function_name, None, call.tenant, creating=True)
        if ref.qualifier is not None:
            raise invalid_parameter("A function cannot be created with a qualifier in its name.")
        refuse_unserved(request)
        refuse_unserved(request.code)
        configuration = conf.from_create(request, ref.tenant, ref.name, self._limits, self._secrets)
        if await self._store.get(ref.tenant, ref.name) is not None:
            raise _exists(ref)
        code = await self._keep_package(request.code.zip_file if request.code.HasField("zip_file") else None)
        now = self._clock.epoch()
        record = FunctionRecord(
            tenant=ref.tenant,
            name=ref.name,
            configuration=configuration,
            code=code,
            generation=await self._store.next_generation(ref.tenant),
            revision_id=self._ids.uuid(),
            last_modified=now,
            state=State.PENDING,
            update_status=None,
            changed=now,
            serving=None,
            tags=dict(request.tags),
        )
        obstacle = await self._store.create(record, self._limits.code_storage_bytes)
        if obstacle is not None:
            raise _exists(ref) if obstacle == "exists" else _storage_exceeded()
        self._settler.begin(record)
        return conf.to_message(record, self._secrets)

    async def get_function(self, request: pb.GetFunctionRequest, call: Call) -> pb.GetFunctionResponse:
        """Configuration and a URL of the package."""
        ref = self._ref(request, call)
        record = await self._read(ref)
        response = pb.GetFunctionResponse(
            configuration=conf.to_message(record, self._secrets, ref.qualifier),
            code=pb.FunctionCodeLocation(repository_type="S3", location=self._urls.make(record.code.sha256)),
        )
        if ref.qualifier is None:
            response.tags.update(record.tags)
        return response

    async def get_function_configuration(
        self, request: pb.GetFunctionConfigurationRequest, call: Call
    ) -> pb.FunctionConfiguration:
        """The configuration alone."""
        ref = self._ref(request, call)
        return conf.to_message(await self._read(ref), self._secrets, ref.qualifier)

    async def list_functions(self, request: pb.ListFunctionsRequest, call: Call) -> pb.ListFunctionsResponse:
        """One page, by name. Markers carry the last name of the page before."""
        after = _open_marker(request.marker) if request.HasField("marker") else ""
        wanted = min(request.max_items or self._limits.list_page_items, self._limits.list_page_items)
        records = await self._store.list(call.tenant, after, wanted + 1)
        response = pb.ListFunctionsResponse()
        for record in records[:wanted]:
            message = conf.to_message(record, self._secrets, LATEST if request.function_version == "ALL" else None)
            for member in conf.LIST_OMITS:
                message.ClearField(member)  # type: ignore[arg-type]
            response.functions.append(message)
        if len(records) > wanted:
            response.next_marker = base64.urlsafe_b64encode(records[wanted - 1].name.encode()).decode()
        return response

    async def update_function_code(self, request: pb.UpdateFunctionCodeRequest, call: Call) -> pb.FunctionConfiguration:
        """New code for $LATEST."""
        ref = self._changeable(request.function_name, call)
        refuse_unserved(request)
        if not request.HasField("zip_file"):
            # Changing the architecture alone is an update of the code to AWS; there is then nothing to fetch.
            raise invalid_parameter("Please provide a source for function code.")
        record = await self._read_to_change(ref, request.revision_id if request.HasField("revision_id") else None)
        code = await self._keep_package(request.zip_file, dry_run=request.dry_run)
        configuration = record.configuration
        if request.architectures:
            configuration = dataclasses.replace(configuration, architecture=request.architectures[0])
        changed = dataclasses.replace(record, code=code, configuration=configuration)
        if request.dry_run:
            return conf.to_message(changed, self._secrets)
        return await self._change(record, changed)

    async def update_function_configuration(
        self, request: pb.UpdateFunctionConfigurationRequest, call: Call
    ) -> pb.FunctionConfiguration:
        """Changes the members that are sent."""
        ref = self._changeable(request.function_name, call)
        refuse_unserved(request)
        record = await self._read_to_change(ref, request.revision_id if request.HasField("revision_id") else None)
        configuration = conf.merge(record.configuration, request, ref.tenant, ref.name, self._limits, self._secrets)
        return await self._change(record, dataclasses.replace(record, configuration=configuration))

    async def delete_function(self, request: pb.DeleteFunctionRequest, call: Call) -> pb.DeleteFunctionResponse:
        """Forget a function. Its running invocations end undisturbed."""
        ref = self._ref(request, call)
        if ref.qualifier == LATEST:
            raise invalid_parameter("$LATEST version cannot be deleted without deleting the function.")
        if ref.qualifier is not None:
            if await self._store.get(ref.tenant, ref.name) is None:
                raise not_found(FunctionRef(ref.tenant, ref.name, None))
            if not ref.qualifier.isdigit():
                raise invalid_parameter("Deletion of aliases is not currently supported.")
            # A version that does not exist is deleted silently.
            return pb.DeleteFunctionResponse()
        generation = await self._store.next_generation(ref.tenant)
        if not await self._store.delete(ref.tenant, ref.name, generation):
            raise not_found(ref)
        self._directory.forget(ref.tenant, ref.name, generation)
        return pb.DeleteFunctionResponse()

    # Reading

    @staticmethod
    def _ref(
        request: pb.GetFunctionRequest | pb.GetFunctionConfigurationRequest | pb.DeleteFunctionRequest, call: Call
    ) -> FunctionRef:
        return parse(request.function_name, request.qualifier if request.HasField("qualifier") else None, call.tenant)

    async def _read(self, ref: FunctionRef) -> FunctionRecord:
        record = await self._store.get(ref.tenant, ref.name)
        if record is None or ref.qualifier not in (None, LATEST):
            raise not_found(ref)
        return await self._settler.look(record)

    # Changing

    @staticmethod
    def _changeable(name: str, call: Call) -> FunctionRef:
        ref = parse(name, None, call.tenant)
        if len(ref.name) > MAX_NAME or ref.qualifier not in (None, LATEST):
            raise not_found(ref)
        return FunctionRef(ref.tenant, ref.name, None)

    async def _read_to_change(self, ref: FunctionRef, expected_revision: str | None) -> FunctionRecord:
        record = await self._read(ref)
        if record.state is State.PENDING:
            raise AwsError(
                "ResourceConflictException",
                "The operation cannot be performed at this time. "
                "The function is currently in the following state: Pending",
            )
        if record.update_status is UpdateStatus.IN_PROGRESS:
            raise _update_in_progress(ref)
        if expected_revision is not None and expected_revision != record.revision_id:
            raise AwsError(
                "PreconditionFailedException",
                "The Revision Id provided does not match the latest Revision Id. "
                "Call the GetFunction/GetAlias API to retrieve the latest Revision Id",
            )
        return record

    async def _change(self, before: FunctionRecord, after: FunctionRecord) -> pb.FunctionConfiguration:
        now = self._clock.epoch()
        record = dataclasses.replace(
            after,
            generation=await self._store.next_generation(before.tenant),
            revision_id=self._ids.uuid(),
            last_modified=now,
            changed=now,
            update_status=UpdateStatus.IN_PROGRESS,
        )
        obstacle = await self._store.replace(record, before.revision_id, self._limits.code_storage_bytes)
        ref = FunctionRef(before.tenant, before.name, None)
        if obstacle == "missing":
            raise not_found(ref)
        if obstacle == "revision":
            raise _update_in_progress(ref)
        if obstacle is not None:
            raise _storage_exceeded()
        self._settler.begin(record)
        return conf.to_message(record, self._secrets)

    async def _keep_package(self, data: bytes | None, *, dry_run: bool = False) -> Code:
        """Check a package and keep it. Raises what AWS says of a bad one."""
        if data is None:
            raise invalid_parameter("Please provide a source for function code.")
        if len(data) > self._limits.zip_bytes:
            raise AwsError(
                "RequestEntityTooLargeException", f"Zipped size must be smaller than {self._limits.zip_bytes} bytes"
            )
        try:
            await asyncio.to_thread(packages.check, data, self._limits)
        except packages.PackageError as error:
            raise invalid_parameter(package_text(error, self._limits)) from error
        if dry_run:
            return Code(hashlib.sha256(data).hexdigest(), len(data))
        return Code(await asyncio.to_thread(self._code.put, data), len(data))


def package_text(error: packages.PackageError, limits: Limits) -> str:
    """AWS's text where it has one for this fault, else what is wrong with the package."""
    if error.fault is packages.Fault.TOO_LARGE:
        return f"Unzipped size must be smaller than {limits.unzipped_bytes} bytes"
    if error.fault is packages.Fault.CORRUPT:
        return "Could not unzip uploaded file. Please check your file, then try to upload again."
    return f"Could not unzip uploaded file. {error}"


def _open_marker(marker: str) -> str:
    try:
        return base64.urlsafe_b64decode(marker.encode()).decode()
    except ValueError:
        raise validation(
            [f"Value '{marker}' at 'marker' failed to satisfy constraint: Member must be a marker from a page before"]
        ) from None


def _exists(ref: FunctionRef) -> AwsError:
    return AwsError("ResourceConflictException", f"Function already exist: {ref.name}")


def _storage_exceeded() -> AwsError:
    return AwsError("CodeStorageExceededException", "Code storage limit exceeded.")


def _update_in_progress(ref: FunctionRef) -> AwsError:
    return AwsError(
        "ResourceConflictException",
        "The operation cannot be performed at this time. "
        f"An update is in progress for resource: {function_arn(ref.tenant, ref.name)}",
    )
