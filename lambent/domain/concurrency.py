"""Reserved and provisioned concurrency of one tenant: what may be set, decided over plain values.

Every function answers a new state, its revision one higher, or raises the error that AWS's service gives.
Source: https://docs.aws.amazon.com/lambda/latest/dg/lambda-concurrency.html and AWS's recorded answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from lambent.domain.errors import AwsError, conflict, invalid_parameter
from lambent.domain.functions import AliasRecord, Function
from lambent.domain.limits import Limits
from lambent.domain.names import LATEST, is_version

UNPUBLISHED = "Provisioned Concurrency Configs cannot be applied to unpublished function versions."
_SNAP_START = "Provisioned Concurrency is not supported for functions with SnapStart."
_WEIGHTED = "Invalid alias configuration for Provisioned Concurrency"
_VERSION_HAS_IT = "Alias can't be used for Provisioned Concurrency configuration on an already Provisioned version"
_ALIAS_HAS_IT = "Version is pointed by a Provisioned Concurrency alias"


@dataclass(frozen=True, slots=True)
class Provisioned:
    """One provisioned concurrency configuration."""

    executions: int
    put_revision: int  # the state's revision at which it was last put
    last_modified: float  # epoch seconds


@dataclass(frozen=True, slots=True)
class ConcurrencyState:
    """All that is set in one tenant."""

    revision: int = 0  # grows by every change, and by every change of what a provisioned alias stands for
    reserved: Mapping[str, int] = field(default_factory=dict)  # by function
    provisioned: Mapping[str, Mapping[str, Provisioned]] = field(default_factory=dict)  # by function and qualifier

    @property
    def empty(self) -> bool:
        """Whether nothing is set."""
        return not self.reserved and not self.provisioned

    def of(self, name: str) -> Mapping[str, Provisioned]:
        """The provisioned configurations of one function, by qualifier."""
        return self.provisioned.get(name, {})

    def mentions(self, name: str) -> bool:
        """Whether anything is set for a function."""
        return name in self.reserved or name in self.provisioned

    def provisioned_total(self, name: str) -> int:
        """Provisioned concurrency of all versions and aliases of a function."""
        return sum(each.executions for each in self.of(name).values())

    def claim(self, name: str) -> int:
        """What a function takes from the account, run or not; reserved concurrency has the provisioned within."""
        return self.reserved[name] if name in self.reserved else self.provisioned_total(name)

    def unreserved(self, limit: int) -> int:
        """What is left of `limit` for functions without reserved concurrency, on demand."""
        return limit - sum(self.claim(name) for name in self.reserved.keys() | self.provisioned.keys())

    def touched(self) -> ConcurrencyState:
        """The same settings under the next revision."""
        return replace(self, revision=self.revision + 1)


def put_reserved(state: ConcurrencyState, name: str, executions: int, limits: Limits) -> ConcurrencyState:
    """Reserve `executions` for a function in place of what it had."""
    provisioned = state.provisioned_total(name)
    if executions < provisioned:
        # AWS's text has these spaces.
        raise invalid_parameter(
            f" ReservedConcurrentExecutions  {executions} should not be lower than "
            f"function's total provisioned concurrency [{provisioned}]."
        )
    after = replace(state.touched(), reserved={**state.reserved, name: executions})
    if _breaks_floor(state, after, limits):
        raise invalid_parameter(
            "Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution "
            f"below its minimum value of [{limits.unreserved_minimum}]."
        )
    return after


def delete_reserved(state: ConcurrencyState, name: str) -> ConcurrencyState:
    """Give a function's reserved concurrency back. The same state if it had none."""
    if name not in state.reserved:
        return state
    return replace(state.touched(), reserved={key: each for key, each in state.reserved.items() if key != name})


def put_provisioned(
    state: ConcurrencyState, function: Function, qualifier: str, executions: int, limits: Limits, now: float
) -> ConcurrencyState:
    """Provision `executions` for a version or alias that exists, in place of what it had.

    A version has one configuration at most, its own or that of one alias.
    """
    name = function.record.name
    check_provisionable(state, function, qualifier)
    configurations = {**state.of(name), qualifier: Provisioned(executions, state.revision + 1, now)}
    after = replace(state.touched(), provisioned={**state.provisioned, name: configurations})
    reserved = state.reserved.get(name)
    if reserved is not None:
        if after.provisioned_total(name) > reserved:
            raise invalid_parameter(
                "Requested Provisioned Concurrency should not be greater than "
                "the reservedConcurrentExecution for function"
            )
        return after
    pool = delete_provisioned(state, name, qualifier).unreserved(limits.concurrent_executions)
    if executions > pool:
        raise invalid_parameter(
            f"Specified ConcurrentExecutions for function is greater than account's unreserved concurrency [{pool}]."
        )
    if _breaks_floor(state, after, limits):
        raise invalid_parameter(
            "Specified ConcurrentExecutions for function decreases account's UnreservedConcurrentExecution "
            f"below its minimum value of [{limits.unreserved_minimum}]."
        )
    return after


def delete_provisioned(state: ConcurrencyState, name: str, qualifier: str) -> ConcurrencyState:
    """End the provisioned concurrency of a version or alias. The same state if it had none."""
    rest = {key: each for key, each in state.of(name).items() if key != qualifier}
    if len(rest) == len(state.of(name)):
        return state
    others = {key: each for key, each in state.provisioned.items() if key != name}
    return replace(state.touched(), provisioned={**others, name: rest} if rest else others)


def delete_function(state: ConcurrencyState, name: str) -> ConcurrencyState:
    """Forget everything of a function. The same state if it had nothing."""
    if not state.mentions(name):
        return state
    return replace(
        state.touched(),
        reserved={key: each for key, each in state.reserved.items() if key != name},
        provisioned={key: each for key, each in state.provisioned.items() if key != name},
    )


def repoint(state: ConcurrencyState, function: Function, before: AliasRecord, after: AliasRecord) -> ConcurrencyState:
    """An alias of `function` is changed. The same state unless its provisioned environments must move."""
    configuration = state.of(function.record.name).get(after.name)
    if configuration is None or (before.version, before.weights) == (after.version, after.weights):
        return state
    _check_versions(state, function, after.name, after.versions)
    return state.touched()


def check_provisionable(state: ConcurrencyState, function: Function, qualifier: str) -> None:
    """Refuse what cannot have a configuration: $LATEST, an alias with weights, what another configuration covers."""
    versions = function.stands_for(qualifier)
    if len(versions) > 1:
        raise conflict(_WEIGHTED)
    _check_versions(state, function, qualifier, versions)


def _check_versions(state: ConcurrencyState, function: Function, qualifier: str, versions: tuple[str, ...]) -> None:
    if LATEST in versions:
        raise invalid_parameter(UNPUBLISHED)
    if any(function.versions[each].deployed.configuration.snap_start != "None" for each in versions):
        raise invalid_parameter(_SNAP_START)
    for other in state.of(function.record.name):
        if other != qualifier and not set(versions).isdisjoint(function.stands_for(other)):
            raise conflict(_ALIAS_HAS_IT if is_version(qualifier) else _VERSION_HAS_IT)


def _breaks_floor(before: ConcurrencyState, after: ConcurrencyState, limits: Limits) -> bool:
    """Whether too little is left unreserved because of this change; one that takes nothing more is never to blame."""
    left = after.unreserved(limits.concurrent_executions)
    return left < limits.unreserved_minimum and left < before.unreserved(limits.concurrent_executions)


def missing_configuration() -> AwsError:
    """AWS's answer where nothing is provisioned."""
    return AwsError(
        "ProvisionedConcurrencyConfigNotFoundException", "No Provisioned Concurrency Config found for this function"
    )


def split(executions: int, alias: AliasRecord | None) -> tuple[int, ...]:
    """How a configuration's environments spread over `AliasRecord.versions`; the sum is `executions`."""
    if alias is None or not alias.weights:
        return (executions,)
    additional = round(executions * next(iter(alias.weights.values())))
    return (executions - additional, additional)
