"""RuleService: EventBridge's rules and the functions that they tell. What may be set is decided by
lambent/domain/rules.py; when a schedule is due, pollers act on it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Protocol, TypeVar

from lambent.domain import rules
from lambent.domain.clock import Clock
from lambent.domain.errors import AwsError
from lambent.domain.limits import Limits
from lambent.domain.names import Tenant
from lambent.domain.rules import Rule
from lambent.domain.tags import check_tags
from lambent.infra.due.port import DueStore
from lambent.v1 import rule_service_pb2 as pb
from services.frontend.operations import paging
from services.frontend.operations.bus_events import BusEvents
from services.frontend.operations.editing import RecordEditor
from services.frontend.operations.rule_messages import (
    described,
    rule_message,
    tags_of,
    target_message,
    target_of,
    wanted,
)
from services.frontend.transport.call import Call

LARGEST_PAGE = 100
_NO_TARGET = "The target is not one of the rule's."

T = TypeVar("T")
# From a rule that there is to what it is to be: itself where nothing is to change, None where it ends. Raises AwsError.
_Decision = Callable[[Rule], Rule | None]


class Named(Protocol):
    """A request about one rule."""

    @property
    def event_bus_name(self) -> str: ...


class Paged(Protocol):
    """A request of one page."""

    @property
    def limit(self) -> int: ...
    @property
    def next_token(self) -> str: ...


class RuleOperations:
    """The operations of lambent.v1.RuleService."""

    def __init__(self, *, store: DueStore[Rule], bus: BusEvents, limits: Limits, clock: Clock) -> None:
        self._store = store
        self._editor = RecordEditor(store, full=_full, crowded=_too_many_changes)
        self._limits = limits
        self._clock = clock
        self._bus = bus

    # Rules

    async def put_rule(self, request: pb.PutRuleRequest, call: Call) -> pb.PutRuleResponse:
        """A new rule, or another one of its name."""
        rules.check_bus(request.event_bus_name, call.tenant)
        tags = tags_of(request.tags)
        self._check_tags(tags)
        said = wanted(request)

        def decide(before: Rule | None) -> Rule:
            return rules.put(before, call.tenant, request.name, said, tags, self._clock.epoch())

        await self._editor.edit(call.tenant, request.name, decide, self._limits.rules)
        return pb.PutRuleResponse(rule_arn=Rule(call.tenant, request.name).arn)

    async def describe_rule(self, request: pb.DescribeRuleRequest, call: Call) -> pb.DescribeRuleResponse:
        """What is set."""
        return described(await self._get(request, request.name, call))

    async def list_rules(self, request: pb.ListRulesRequest, call: Call) -> pb.ListRulesResponse:
        """One page, by name."""
        rules.check_bus(request.event_bus_name, call.tenant)
        found = [rule for rule in await self._store.list(call.tenant) if rule.name.startswith(request.name_prefix)]
        page, token = _page(request, found, lambda rule: rule.name)
        return pb.ListRulesResponse(rules=[rule_message(rule) for rule in page], next_token=token)

    async def delete_rule(self, request: pb.DeleteRuleRequest, call: Call) -> pb.DeleteRuleResponse:
        """Ends a rule."""

        def decide(rule: Rule) -> None:
            if rule.targets:
                raise AwsError("ValidationException", "Rule can't be deleted since it has targets.")

        try:
            await self._edit(request, request.name, call, decide)
        except AwsError as error:
            if error.name != "ResourceNotFoundException" or request.event_bus_name not in ("", rules.BUS):
                raise
        return pb.DeleteRuleResponse()

    async def enable_rule(self, request: pb.EnableRuleRequest, call: Call) -> pb.EnableRuleResponse:
        """Lets it act."""
        await self._edit(request, request.name, call, self._turned(rules.ENABLED))
        return pb.EnableRuleResponse()

    async def disable_rule(self, request: pb.DisableRuleRequest, call: Call) -> pb.DisableRuleResponse:
        """Lets it rest."""
        await self._edit(request, request.name, call, self._turned(rules.DISABLED))
        return pb.DisableRuleResponse()

    def _turned(self, state: str) -> _Decision:
        return lambda rule: rules.with_state(rule, state, self._clock.epoch())

    # Targets

    async def put_targets(self, request: pb.PutTargetsRequest, call: Call) -> pb.PutTargetsResponse:
        """All of them, or none."""
        added = [target_of(each) for each in request.targets]
        await self._edit(request, request.rule, call, lambda rule: rules.with_targets(rule, added, self._limits))
        return pb.PutTargetsResponse(failed_entry_count=0)

    async def remove_targets(self, request: pb.RemoveTargetsRequest, call: Call) -> pb.RemoveTargetsResponse:
        """Those that it has."""
        unknown: list[str] = []

        def decide(rule: Rule) -> Rule:
            there = {target.id for target in rule.targets}
            unknown[:] = [id for id in request.ids if id not in there]
            return rules.without_targets(rule, request.ids)

        await self._edit(request, request.rule, call, decide)
        failed = [
            pb.RemoveTargetsResultEntry(target_id=id, error_code="ResourceNotFoundException", error_message=_NO_TARGET)
            for id in unknown
        ]
        return pb.RemoveTargetsResponse(failed_entry_count=len(failed), failed_entries=failed)

    async def list_targets_by_rule(
        self, request: pb.ListTargetsByRuleRequest, call: Call
    ) -> pb.ListTargetsByRuleResponse:
        """One page, by id."""
        rule = await self._get(request, request.rule, call)
        page, token = _page(request, rule.targets, lambda target: target.id)
        return pb.ListTargetsByRuleResponse(targets=[target_message(each) for each in page], next_token=token)

    async def list_rule_names_by_target(
        self, request: pb.ListRuleNamesByTargetRequest, call: Call
    ) -> pb.ListRuleNamesByTargetResponse:
        """One page, by name."""
        rules.check_bus(request.event_bus_name, call.tenant)
        found = [
            rule.name
            for rule in await self._store.list(call.tenant)
            if any(target.arn == request.target_arn for target in rule.targets)
        ]
        page, token = _page(request, found, lambda name: name)
        return pb.ListRuleNamesByTargetResponse(rule_names=page, next_token=token)

    # Events

    async def put_events(self, request: pb.PutEventsRequest, call: Call) -> pb.PutEventsResponse:
        """Every entry by itself."""
        return await self._bus.put_events(request, call)

    async def test_event_pattern(self, request: pb.TestEventPatternRequest, call: Call) -> pb.TestEventPatternResponse:
        """Whether it has it."""
        return await self._bus.test_event_pattern(request, call)

    # Tags

    async def list_tags_for_resource(
        self, request: pb.RuleServiceListTagsForResourceRequest, call: Call
    ) -> pb.RuleServiceListTagsForResourceResponse:
        """Those of a rule."""
        name = rules.name_of(request.resource_arn, call.tenant)
        rule = await self._store.get(call.tenant, name)
        if rule is None:
            raise rules.missing(name)
        tags = [pb.RuleTag(key=key, value=value) for key, value in (rule.tags or {}).items()]
        return pb.RuleServiceListTagsForResourceResponse(tags=tags)

    async def tag_resource(
        self, request: pb.RuleServiceTagResourceRequest, call: Call
    ) -> pb.RuleServiceTagResourceResponse:
        """Adds some, or changes them."""
        added = tags_of(request.tags)

        def decide(rule: Rule) -> Rule:
            tags = {**(rule.tags or {}), **added}
            self._check_tags(tags)
            return rule.with_tags(tags)

        await self._change(call.tenant, rules.name_of(request.resource_arn, call.tenant), decide)
        return pb.RuleServiceTagResourceResponse()

    async def untag_resource(
        self, request: pb.RuleServiceUntagResourceRequest, call: Call
    ) -> pb.RuleServiceUntagResourceResponse:
        """Takes some away."""

        def decide(rule: Rule) -> Rule:
            return rule.with_tags({key: each for key, each in (rule.tags or {}).items() if key not in request.tag_keys})

        await self._change(call.tenant, rules.name_of(request.resource_arn, call.tenant), decide)
        return pb.RuleServiceUntagResourceResponse()

    def _check_tags(self, tags: Mapping[str, str]) -> None:
        check_tags(tags, self._limits, partial(AwsError, "ValidationException"))

    # The store

    async def _get(self, request: Named, name: str, call: Call) -> Rule:
        rules.check_bus(request.event_bus_name, call.tenant)
        rule = await self._store.get(call.tenant, name)
        if rule is None:
            raise rules.missing(name)
        return rule

    async def _edit(self, request: Named, name: str, call: Call, decide: _Decision) -> None:
        rules.check_bus(request.event_bus_name, call.tenant)
        await self._change(call.tenant, name, decide)

    async def _change(self, tenant: Tenant, name: str, decide: _Decision) -> None:
        """Change a rule as `decide` says. Raises ResourceNotFoundException where there is none."""

        def decide_if_there(before: Rule | None) -> Rule | None:
            if before is None:
                raise rules.missing(name)
            return decide(before)

        await self._editor.edit(tenant, name, decide_if_there)


def _page(request: Paged, items: Iterable[T], key: Callable[[T], str]) -> tuple[list[T], str | None]:
    """One page of what is in order of its keys, and the token of the next one. Raises ValidationException."""
    after = paging.key_of(request.next_token, AwsError("ValidationException", "Parameter NextToken is not valid."))
    return paging.page((each for each in items if key(each) > after), key, request.limit or LARGEST_PAGE)


def _full() -> AwsError:
    return AwsError("LimitExceededException", "The requested resource exceeds the maximum number allowed.")


def _too_many_changes(name: str) -> AwsError:
    return AwsError("ConcurrentModificationException", f"Rule {name} was modified concurrently; try again shortly.")
