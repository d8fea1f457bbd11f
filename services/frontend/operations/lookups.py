"""What a request names, from the store, or AWS's error; shared by all operations on functions."""

from __future__ import annotations

from typing import Protocol

from lambent.domain.errors import AwsError, conflict
from lambent.domain.functions import FunctionRecord, Snapshot, State, UpdateStatus, VersionRecord
from lambent.domain.names import LATEST, FunctionRef, function_arn, not_found, parse
from lambent.infra.functions.port import FunctionStore
from services.frontend.operations.configuration import version_view
from services.frontend.operations.settling import Settler
from services.frontend.transport.call import Call


def function_ref(name: str, call: Call) -> FunctionRef:
    """A function as such, for operations on nothing but $LATEST or the whole; another qualifier names nothing."""
    ref = parse(name, None, call.tenant)
    if ref.qualifier not in (None, LATEST):
        raise not_found(ref)
    return FunctionRef(ref.tenant, ref.name, None)


class Snapshots(Protocol):
    """Who makes the snapshots of versions."""

    def begin(self, record: FunctionRecord, version: VersionRecord) -> None:
        """Make that of a version which is published now; nothing where there is to be none."""
        ...

    def look(self, record: FunctionRecord, version: VersionRecord) -> None:
        """Go on with what its frontend left undone."""
        ...


class Lookups:
    """Reads functions in the state in which they should be by now."""

    def __init__(self, store: FunctionStore, settler: Settler, snapshots: Snapshots) -> None:
        self._store = store
        self._snapshots = snapshots
        self._settler = settler

    async def latest(self, ref: FunctionRef) -> FunctionRecord:
        """A function's $LATEST."""
        record = await self._store.get(ref.tenant, ref.name)
        if record is None:
            raise not_found(ref)
        return await self._settler.look(record)

    async def qualified(self, ref: FunctionRef) -> tuple[FunctionRecord, str, Snapshot | None]:
        """What a qualifier stands for, shown as `version_view` does, its version (an alias's unweighted one) and that
        one's snapshot."""
        if ref.qualifier in (None, LATEST):
            return await self.latest(ref), LATEST, None
        assert ref.qualifier is not None
        function = await self._store.find(ref.tenant, ref.name, ref.qualifier)
        versions = () if function is None else function.stands_for(ref.qualifier)
        if function is None or not versions:
            raise not_found(ref)
        if versions[0] == LATEST:
            return await self._settler.look(function.record), LATEST, None
        published = function.versions.get(versions[0])
        if published is None:
            raise not_found(ref)
        self._snapshots.look(function.record, published)
        return version_view(function.record, published), published.number, published.snapshot

    async def changeable(self, ref: FunctionRef, expected_revision: str | None) -> FunctionRecord:
        """A function's $LATEST with no change under way and, where one is expected, of that revision."""
        record = await self.latest(ref)
        check_changeable(record, expected_revision)
        return record


def check_changeable(record: FunctionRecord, expected_revision: str | None) -> None:
    """Refuse a change while another is under way, or of another revision than the expected one."""
    if record.state is State.PENDING:
        raise conflict(
            "The operation cannot be performed at this time. The function is currently in the following state: Pending"
        )
    if record.update_status is UpdateStatus.IN_PROGRESS:
        raise update_in_progress(FunctionRef(record.tenant, record.name, None))
    check_revision(record.revision_id, expected_revision)


def check_revision(revision: str | None, expected: str | None, api: str = "GetFunction/GetAlias") -> None:
    """AWS's guard against changes of what somebody else has changed since it was read. `revision`: None: there is
    nothing yet. `api`: what shows it."""
    if expected not in (None, revision):
        raise AwsError(
            "PreconditionFailedException",
            "The Revision Id provided does not match the latest Revision Id. "
            f"Call the {api} API to retrieve the latest Revision Id",
        )


def update_in_progress(ref: FunctionRef) -> AwsError:
    """AWS's answer while an update waits for its second half."""
    return conflict(
        "The operation cannot be performed at this time. "
        f"An update is in progress for resource: {function_arn(ref.tenant, ref.name)}"
    )


def storage_exceeded() -> AwsError:
    """AWS's answer where a tenant's packages would be too large."""
    return AwsError("CodeStorageExceededException", "Code storage limit exceeded.")
