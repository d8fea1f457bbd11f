"""VersionService: publishing $LATEST, and what was published."""

from __future__ import annotations

from collections.abc import Iterator

from lambent.domain.clock import Clock, Ids
from lambent.domain.concurrency import ConcurrencyState
from lambent.domain.errors import conflict, invalid_parameter
from lambent.domain.functions import Deployed, Function, FunctionRecord, Snapshot, State, UpdateStatus, VersionRecord
from lambent.domain.limits import Limits
from lambent.domain.names import LATEST, FunctionRef, not_found, parse
from lambent.infra.functions.port import NOBODY, Edit, FunctionStore
from lambent.infra.secrets import SecretBox
from lambent.v1 import function_service_pb2
from lambent.v1 import version_service_pb2 as pb
from services.frontend.operations import configuration as conf
from services.frontend.operations import paging
from services.frontend.operations.editing import Editor
from services.frontend.operations.lookups import Lookups, Snapshots, check_changeable, function_ref
from services.frontend.operations.unserved import refuse_unserved
from services.frontend.transport.call import Call


class Publisher:
    """Makes versions of what $LATEST is."""

    def __init__(self, snapshots: Snapshots, clock: Clock, ids: Ids) -> None:
        self._snapshots = snapshots
        self._clock = clock
        self._ids = ids

    def version(self, record: FunctionRecord, generation: int, description: str | None = None) -> VersionRecord:
        """The version after the last one. `description`: None for the function's own."""
        return VersionRecord(
            number=str(record.last_version + 1),
            description=record.configuration.description if description is None else description,
            revision_id=self._ids.uuid(),
            last_modified=self._clock.epoch(),
            deployed=Deployed(self._ids.token(16), generation, record.configuration, record.code),
            snapshot=Snapshot(State.PENDING) if record.configuration.snap_start == "PublishedVersions" else None,
        )

    def published(self, record: FunctionRecord, version: VersionRecord) -> None:
        """A version is there, perhaps since long: what is left to do for it is done beside the answer."""
        self._snapshots.begin(record, version)


class VersionOperations:
    """The operations of lambent.v1.VersionService."""

    def __init__(
        self,
        *,
        store: FunctionStore,
        lookups: Lookups,
        editor: Editor,
        publisher: Publisher,
        secrets: SecretBox,
        limits: Limits,
        ids: Ids,
    ) -> None:
        self._store = store
        self._lookups = lookups
        self._editor = editor
        self._publisher = publisher
        self._secrets = secrets
        self._limits = limits
        self._ids = ids

    async def publish_version(
        self, request: pb.PublishVersionRequest, call: Call
    ) -> function_service_pb2.FunctionConfiguration:
        """A version of $LATEST: the last one where nothing has changed since, else a new one."""
        ref = function_ref(request.function_name, call)
        refuse_unserved(request)
        expected = request.revision_id if request.HasField("revision_id") else None
        # What is under way and should have ended is ended first.
        await self._lookups.changeable(ref, expected)
        generation = await self._store.next_generation(ref.tenant)
        answer: list[tuple[FunctionRecord, VersionRecord]] = []

        def decide(function: Function, settings: ConcurrencyState) -> Edit | None:
            record = function.record
            check_changeable(record, expected)
            _check_publishable(record, request.code_sha256 if request.HasField("code_sha256") else None)
            last = function.versions.get(str(record.last_version))
            if last is not None and last.publishes(record.configuration, record.code):
                answer[:] = [(record, last)]
                return None
            description = request.description if request.HasField("description") else None
            version = self._publisher.version(record, generation, description)
            answer[:] = [(record, version)]
            return publishing(record, version, self._ids.uuid())

        await self._editor.edit(ref, decide)
        record, version = answer[0]
        self._publisher.published(record, version)
        return conf.version_message(record, version, self._secrets)

    async def list_versions_by_function(
        self, request: pb.ListVersionsByFunctionRequest, call: Call
    ) -> pb.ListVersionsByFunctionResponse:
        """One page: $LATEST, then by number. Markers carry the last number of the page before."""
        ref = parse(request.function_name, None, call.tenant)
        function = await self._store.read(ref.tenant, ref.name)
        if function is None:
            raise not_found(FunctionRef(ref.tenant, ref.name, None))
        after = paging.marker_after(request) if request.HasField("marker") else ""
        items = versions_after(function, after, self._secrets)
        found, marker = paging.page(items, lambda item: item.version, paging.page_size(request, self._limits))
        return pb.ListVersionsByFunctionResponse(next_marker=marker, versions=found)


def publishing(record: FunctionRecord, version: VersionRecord, revision_id: str) -> Edit:
    """Keeps a version and counts it; $LATEST then has `revision_id`, as nothing else of it changes."""
    after = record.counting(version, revision_id)
    return Edit(
        record.tenant, record.name, NOBODY, revision=record.revision_id, record=after,
        versions={version.number: version}, added_bytes=version.deployed.code.size,
    )  # fmt: skip


def versions_after(
    function: Function, after: str, secrets: SecretBox
) -> Iterator[function_service_pb2.FunctionConfiguration]:
    """List items of a function's versions that follow a version's number, `$LATEST` or nothing."""
    record = function.record
    if not after:
        yield conf.list_item(conf.to_message(record, secrets, LATEST))
    # As text of one length, numbers sort as numbers; what is no number follows none.
    last = (len(after), after) if after.isdecimal() else (0, "")
    for number in sorted(function.versions, key=lambda number: (len(number), number)):
        if (len(number), number) > last:
            yield conf.list_item(conf.version_message(record, function.versions[number], secrets))


def _check_publishable(record: FunctionRecord, expected_digest: str | None) -> None:
    if record.state is State.FAILED or record.update_status is UpdateStatus.FAILED:
        raise conflict(
            "The operation cannot be performed at this time. "
            f"The function is currently in the following state: {State.FAILED}"
        )
    actual = conf.shown_digest(record.code)
    if expected_digest not in (None, actual):
        raise invalid_parameter(
            f"CodeSHA256 ({expected_digest}) is different from current CodeSHA256 in $LATEST ({actual}). "
            "Please try again with the CodeSHA256 in $LATEST."
        )
