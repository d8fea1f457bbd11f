"""FunctionService: creating, reading, changing and deleting functions."""

from __future__ import annotations

import dataclasses

from lambent.domain import concurrency
from lambent.domain.clock import Clock, Ids
from lambent.domain.concurrency import ConcurrencyState
from lambent.domain.errors import AwsError, conflict, invalid_parameter
from lambent.domain.functions import Code, Configuration, Function, FunctionRecord, State, UpdateStatus, VersionRecord
from lambent.domain.layers import check_size
from lambent.domain.names import LATEST, FunctionRef, Tenant, is_version, not_found, parse
from lambent.infra.functions.attached import AttachedFunctions
from lambent.infra.functions.port import EVERY_VERSION, NOBODY, Edit, FunctionStore
from lambent.infra.secrets import SecretBox
from lambent.v1 import function_service_pb2 as pb
from services.frontend.code_urls import CodeUrls
from services.frontend.images import Images
from services.frontend.operations import configuration as conf
from services.frontend.operations import paging
from services.frontend.operations.editing import Editor
from services.frontend.operations.layers import LayerAttacher
from services.frontend.operations.lookups import Lookups, function_ref, storage_exceeded, update_in_progress
from services.frontend.operations.settling import Settler
from services.frontend.operations.unserved import refuse_unserved
from services.frontend.operations.uploads import Uploads, source_of
from services.frontend.operations.versions import Publisher, versions_after
from services.frontend.transport.call import Call


class FunctionOperations:
    """The operations of lambent.v1.FunctionService."""

    def __init__(
        self,
        *,
        store: FunctionStore,
        uploads: Uploads,
        images: Images,
        layers: LayerAttacher,
        settler: Settler,
        lookups: Lookups,
        editor: Editor,
        publisher: Publisher,
        secrets: SecretBox,
        urls: CodeUrls,
        offer: conf.Offer,
        attached: AttachedFunctions,
        clock: Clock,
        ids: Ids,
    ) -> None:
        """`offer`: what functions may be given."""
        self._offer = offer
        self._attached = attached
        self._store = store
        self._uploads = uploads
        self._images = images
        self._layers = layers
        self._settler = settler
        self._lookups = lookups
        self._editor = editor
        self._publisher = publisher
        self._secrets = secrets
        self._urls = urls
        self._limits = offer.limits
        self._clock = clock
        self._ids = ids

    async def create_function(self, request: pb.CreateFunctionRequest, call: Call) -> pb.FunctionConfiguration:
        """Keep a new function; it is Active shortly after."""
        ref = parse(request.function_name, None, call.tenant, creating=True)
        if ref.qualifier is not None:
            raise invalid_parameter("A function cannot be created with a qualifier in its name.")
        refuse_unserved(request)
        refuse_unserved(request.code)
        configuration = conf.from_create(request, ref.tenant, ref.name, self._offer, self._secrets)
        configuration = dataclasses.replace(configuration, layers=await self._layers.attach(request.layers, call))
        if await self._store.get(ref.tenant, ref.name) is not None:
            raise _exists(ref)
        code = await self._code(request.code, ref.tenant, configuration)
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
        version: VersionRecord | None = None
        if request.publish:
            version = self._publisher.version(record, record.generation)
            record = record.counting(version, record.revision_id)
        if configuration.attached:
            await self._attached.add(ref.tenant, ref.name, now)
        obstacle = await self._store.create(record, self._ids.uuid(), version, self._limits.code_storage_bytes)
        if obstacle is not None:
            raise _exists(ref) if obstacle == "exists" else storage_exceeded()
        self._settler.begin(record)
        if version is not None:
            self._publisher.published(record, version)
        return conf.to_message(record, self._secrets, version=LATEST if version is None else version.number)

    async def get_function(self, request: pb.GetFunctionRequest, call: Call) -> pb.GetFunctionResponse:
        """Configuration, a URL of the package, and reserved concurrency where it is set."""
        ref = self._ref(request, call)
        record, version, snapshot = await self._lookups.qualified(ref)
        response = pb.GetFunctionResponse(
            configuration=conf.to_message(record, self._secrets, ref.qualifier, version, snapshot),
            code=self._location(record.code),
        )
        if ref.qualifier is None:
            function = await self._store.find(ref.tenant, ref.name, LATEST)
            response.tags.update({} if function is None else function.tags)
        reserved = (await self._store.settings(ref.tenant)).reserved.get(ref.name)
        if reserved is not None:
            response.concurrency.reserved_concurrent_executions = reserved
        return response

    async def get_function_configuration(
        self, request: pb.GetFunctionConfigurationRequest, call: Call
    ) -> pb.FunctionConfiguration:
        """The configuration alone."""
        ref = self._ref(request, call)
        record, version, snapshot = await self._lookups.qualified(ref)
        return conf.to_message(record, self._secrets, ref.qualifier, version, snapshot)

    async def get_function_code_signing_config(
        self, request: pb.GetFunctionCodeSigningConfigRequest, call: Call
    ) -> pb.GetFunctionCodeSigningConfigResponse:
        """No function has one: packages are not signed here."""
        record = await self._lookups.latest(function_ref(request.function_name, call))
        return pb.GetFunctionCodeSigningConfigResponse(function_name=record.name)

    async def list_functions(self, request: pb.ListFunctionsRequest, call: Call) -> pb.ListFunctionsResponse:
        """One page, by name, or by name and version. Markers carry the last name (and version) of the page before."""
        after = paging.marker_after(request) if request.HasField("marker") else ""
        size = paging.page_size(request, self._limits)
        if request.function_version == "ALL":
            versions = await self._every_version(call.tenant, after, size + 1)
            found, marker = paging.page(versions, lambda item: f"{item.function_name}:{item.version}", size)
        else:
            records = await self._store.list(call.tenant, after, size + 1)
            latest = (conf.list_item(conf.to_message(record, self._secrets)) for record in records)
            found, marker = paging.page(latest, lambda item: item.function_name, size)
        return pb.ListFunctionsResponse(next_marker=marker, functions=found)

    async def _every_version(self, tenant: Tenant, after: str, wanted: int) -> list[pb.FunctionConfiguration]:
        """At least `wanted` list items of all functions' versions, if there are so many, from behind `NAME:VERSION`."""
        name, _, version = after.partition(":")
        found: list[pb.FunctionConfiguration] = []
        names = [name] if name else []
        names += [record.name for record in await self._store.list(tenant, name, wanted)]
        for each in names:
            function = await self._store.read(tenant, each)
            if function is not None:
                found += versions_after(function, version if each == name else "", self._secrets)
            if len(found) >= wanted:
                break
        return found

    async def update_function_code(self, request: pb.UpdateFunctionCodeRequest, call: Call) -> pb.FunctionConfiguration:
        """New code for $LATEST."""
        ref = function_ref(request.function_name, call)
        refuse_unserved(request)
        record = await self._lookups.changeable(ref, request.revision_id if request.HasField("revision_id") else None)
        configuration = record.configuration
        if request.architectures:
            configuration = dataclasses.replace(configuration, architecture=request.architectures[0])
        code = await self._code(request, ref.tenant, configuration, dry_run=request.dry_run)
        changed = dataclasses.replace(record, code=code, configuration=configuration)
        if request.dry_run:
            return conf.to_message(changed, self._secrets)
        return await self._change(record, changed, publish=request.publish)

    async def update_function_configuration(
        self, request: pb.UpdateFunctionConfigurationRequest, call: Call
    ) -> pb.FunctionConfiguration:
        """Changes the members that are sent."""
        ref = function_ref(request.function_name, call)
        refuse_unserved(request)
        record = await self._lookups.changeable(ref, request.revision_id if request.HasField("revision_id") else None)
        configuration = conf.merge(record.configuration, request, ref.tenant, ref.name, self._offer, self._secrets)
        if request.layers:
            configuration = dataclasses.replace(configuration, layers=await self._layers.attach(request.layers, call))
            check_size(record.code.unzipped, configuration.layers, self._limits.unzipped_bytes)
        return await self._change(record, dataclasses.replace(record, configuration=configuration), publish=False)

    async def delete_function(self, request: pb.DeleteFunctionRequest, call: Call) -> pb.DeleteFunctionResponse:
        """Forget a function. Its running invocations end undisturbed."""
        ref = self._ref(request, call)
        if ref.qualifier == LATEST:
            raise invalid_parameter("$LATEST version cannot be deleted without deleting the function.")
        generation = await self._store.next_generation(ref.tenant)
        if ref.qualifier is None:
            await self._editor.edit(ref, lambda function, settings: _deletion(function, settings, generation))
            return pb.DeleteFunctionResponse()
        number = ref.qualifier
        if is_version(number):
            await self._editor.edit(
                ref, lambda function, settings: _version_deletion(function, settings, number, generation)
            )
            return pb.DeleteFunctionResponse()
        await self._lookups.latest(FunctionRef(ref.tenant, ref.name, None))
        raise invalid_parameter("Deletion of aliases is not currently supported.")

    # Reading

    @staticmethod
    def _ref(
        request: pb.GetFunctionRequest | pb.GetFunctionConfigurationRequest | pb.DeleteFunctionRequest, call: Call
    ) -> FunctionRef:
        return parse(request.function_name, request.qualifier if request.HasField("qualifier") else None, call.tenant)

    def _location(self, code: Code) -> pb.FunctionCodeLocation:
        if code.image is not None:
            return pb.FunctionCodeLocation(
                repository_type="ECR", image_uri=code.image, resolved_image_uri=code.resolved
            )  # fmt: skip
        return pb.FunctionCodeLocation(repository_type="S3", location=self._urls.make(code.sha256))

    # Changing

    async def _code(
        self,
        request: pb.FunctionCode | pb.UpdateFunctionCodeRequest,
        tenant: Tenant,
        configuration: Configuration,
        *,
        dry_run: bool = False,
    ) -> Code:
        """The code that a request brings or names for a function of this configuration."""
        source = source_of(request, of_image=configuration.image is not None)
        if isinstance(source, str):
            return await self._images.find(tenant, source, configuration.architecture)
        return await self._uploads.keep(source, tenant, configuration.layers, dry_run=dry_run)

    async def _change(
        self, before: FunctionRecord, after: FunctionRecord, *, publish: bool
    ) -> pb.FunctionConfiguration:
        now, generation = self._clock.epoch(), await self._store.next_generation(before.tenant)
        record = dataclasses.replace(
            after,
            generation=generation,
            revision_id=self._ids.uuid(),
            last_modified=now,
            changed=now,
            update_status=UpdateStatus.IN_PROGRESS,
        )
        version, added = None, record.code.size - before.code.size
        versions: dict[str, VersionRecord] = {}
        if publish:
            version = await self._unchanged_since(record)
            if version is None:
                version = self._publisher.version(record, generation)
                record = record.counting(version, record.revision_id)
                versions[version.number] = version
                added += version.deployed.code.size
        if record.configuration.attached:
            await self._attached.add(record.tenant, record.name, now)
        edit = Edit(
            before.tenant, before.name, NOBODY, revision=before.revision_id, record=record, versions=versions,
            added_bytes=added,
        )  # fmt: skip
        obstacle = await self._store.change(edit, self._limits.code_storage_bytes)
        ref = FunctionRef(before.tenant, before.name, None)
        if obstacle == "missing":
            raise not_found(ref)
        if obstacle == "code-storage":
            raise storage_exceeded()
        if obstacle is not None:
            raise update_in_progress(ref)
        self._settler.begin(record)
        if version is not None:
            self._publisher.published(record, version)
            return conf.version_message(record, version, self._secrets)
        return conf.to_message(record, self._secrets)

    async def _unchanged_since(self, record: FunctionRecord) -> VersionRecord | None:
        """The version published last, if a record would publish the same again."""
        number = str(record.last_version)
        function = await self._store.find(record.tenant, record.name, number)
        last = None if function is None else function.versions.get(number)
        return last if last is not None and last.publishes(record.configuration, record.code) else None


def _deletion(function: Function, settings: ConcurrencyState, generation: int) -> Edit:
    """A function goes with everything that is set for it."""
    record = function.record
    after = concurrency.delete_function(settings, record.name)
    return Edit(record.tenant, record.name, EVERY_VERSION, generation, delete=True, settings=after)


def _version_deletion(function: Function, settings: ConcurrencyState, number: str, generation: int) -> Edit | None:
    """A version goes, unless an alias points to it. None: it does not exist, which AWS passes over in silence."""
    record, version = function.record, function.versions.get(number)
    if version is None:
        return None
    users = sorted(alias.name for alias in function.aliases.values() if number in alias.versions)
    if users:
        raise conflict(f"Unable to delete version because the following aliases reference it: [{', '.join(users)}]")
    after = concurrency.delete_provisioned(settings, record.name, number)
    return Edit(
        record.tenant, record.name, number, generation, versions={number: None}, event_configs={number: None},
        policies={number: None}, runtime_management={number: None}, settings=after,
        added_bytes=-version.deployed.code.size,
    )  # fmt: skip


def _exists(ref: FunctionRef) -> AwsError:
    return conflict(f"Function already exist: {ref.name}")
