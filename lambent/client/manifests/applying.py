"""From what is there to what a plan asks for: functions by hash and difference, and what belongs to them.

What a plan no longer names stays as it is: who made it may not have been a manifest.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from google.protobuf.json_format import MessageToDict, ParseDict, ParseError
from google.protobuf.message import Message

from lambent.client.deploying import ROLE, Document, differing, differs, digest
from lambent.client.errors import Conflict, NotFound
from lambent.client.manifests.patterns import chooser
from lambent.client.manifests.plan import (
    PROVISIONED,
    Files,
    ManifestError,
    Plan,
    PlannedFunction,
    PlannedLayer,
    PlannedRule,
    PlannedSchedule,
)
from lambent.client.manifests.rules import beginning, is_made_for
from lambent.client.packaging import Step, package, zipped
from lambent.client.sync import Client
from lambent.v1 import alias_service_pb2 as aliases
from lambent.v1 import concurrency_service_pb2 as concurrency
from lambent.v1 import event_invoke_service_pb2 as event_invoke
from lambent.v1 import event_source_service_pb2 as sources
from lambent.v1 import function_service_pb2 as fn
from lambent.v1 import function_url_service_pb2 as urls
from lambent.v1 import layer_service_pb2 as layers
from lambent.v1 import permission_service_pb2 as permissions
from lambent.v1 import rule_service_pb2 as rules
from lambent.v1 import schedule_service_pb2 as schedules
from lambent.v1 import tag_service_pb2 as tags
from lambent.v1 import version_service_pb2 as versions

_Request = TypeVar("_Request", bound=Message)

# What makes a URL everybody's; AWS asks for both.
_PUBLIC: tuple[Document, ...] = (
    {
        "StatementId": "FunctionURLAllowPublicAccess", "Action": "lambda:InvokeFunctionUrl", "Principal": "*",
        "FunctionUrlAuthType": "NONE",
    },
    {
        "StatementId": "FunctionURLInvokeAllowPublicAccess", "Action": "lambda:InvokeFunction", "Principal": "*",
        "InvokedViaFunctionUrl": True,
    },
)  # fmt: skip
_PATIENCE, _PAUSE = 300, 0.1  # looks at a mapping that is changing, and seconds between them
# What makes a source what it is, beside its ARN; and what only a new mapping takes.
_SOURCE = ("SelfManagedEventSource", "Topics")
_OF_NEW = {
    "EventSourceArn", "StartingPosition", "StartingPositionTimestamp", "AmazonManagedKafkaEventSourceConfig",
    "SelfManagedKafkaEventSourceConfig", *_SOURCE,
}  # fmt: skip
# What only a creation takes.
_FIXED = {"Architectures"}
# Members of which absence means the same as being empty.
_EMPTY = {"VpcConfig", "DeadLetterConfig", "ImageConfig"}


@dataclass(frozen=True, slots=True)
class Deployed:
    """What was done with one function."""

    key: str
    arn: str
    action: str  # created, updated or unchanged
    version: str | None  # the one published last
    url: str | None


def apply(client: Client, plan: Plan, account: str, step: Step) -> Iterator[Deployed]:
    """Make it so, function by function. Raises LambentError, PackagingError."""
    for function in plan.functions:
        _check(function)
    packed: dict[Files, bytes] = {}

    def made(files: Files) -> bytes:
        if files not in packed:
            packed[files] = _zipped(files, step)
        return packed[files]

    published = {each.key: _layer(client, each, made(each.files), step) for each in plan.layers}
    for function in plan.functions:
        arns = [published.get(each, each) for each in function.layers]
        code = made(function.code) if isinstance(function.code, Files) else function.code
        yield _Deployment(client, function, arns, account, step).run(code)


def _zipped(files: Files, step: Step) -> bytes:
    if files.inline is not None:
        name, text = files.inline
        return zipped({name: text.encode()})
    if files.artifact is None:
        return package(files.root, step, chooser(files.patterns))
    try:
        return files.artifact.read_bytes()
    except OSError as error:
        raise ManifestError(f"{files.artifact}: {error.strerror}") from None


def _layer(client: Client, layer: PlannedLayer, data: bytes, step: Step) -> str:
    """The ARN of the newest version, which is a new one where the content differs."""
    name = layer.request["LayerName"]
    listed = client.call(layers.ListLayerVersionsRequest(layer_name=name, max_items=1)).layer_versions
    for version in listed:
        found = client.call(layers.GetLayerVersionRequest(layer_name=name, version_number=version.version))
        if found.content.code_sha256 == digest(data):
            return str(found.layer_version_arn)
    step(f"publishing layer {name}")
    request = _message(layers.PublishLayerVersionRequest, layer.request, f"layer {name}")
    request.content.zip_file = data
    return str(client.call(request).layer_version_arn)


class _Deployment:
    """One function on its way to what is planned."""

    def __init__(self, client: Client, planned: PlannedFunction, arns: list[str], account: str, step: Step) -> None:
        self._client = client
        self._planned = planned
        self._name = planned.name
        self._layers = arns
        self._account = account
        self._step = step
        self._arn = ""  # once it is there

    def _say(self, text: str) -> None:
        self._step(f"{self._name}: {text}")

    def run(self, code: bytes | str) -> Deployed:
        """Everything. `code`: a package, or an image's URI."""
        try:
            there = self._client.get_function(self._name)
        except NotFound:
            action = self._create(code)
        else:
            action = self._update(there, code)
        self._arn = self._client.wait_until_ready(self._name).function_arn
        self._concurrency()
        version = self._publish()
        self._provision()
        self._event_invoke()
        url = self._url()
        for source in self._planned.sources:
            self._source(source)
        self._rules()
        return Deployed(self._planned.key, self._arn, action, version, url)

    def _create(self, code: bytes | str) -> str:
        self._say("creating")
        document = {name: value for name, value in self._planned.configuration.items() if _says(name, value)}
        request = _message(fn.CreateFunctionRequest, document, self._name)
        request.function_name, request.role = self._name, ROLE.format(account=self._account)
        if isinstance(code, str):
            request.package_type, request.code.image_uri = "Image", code
        else:
            request.code.zip_file = code
        request.layers.extend(self._layers)
        request.tags.update(self._planned.tags)
        self._client.create_function(request)
        return "created"

    def _update(self, there: fn.GetFunctionResponse, code: bytes | str) -> str:
        action = "unchanged"
        current = there.configuration
        architectures = self._planned.configuration.get("Architectures", list(current.architectures))
        request = fn.UpdateFunctionCodeRequest(function_name=self._name, architectures=architectures)
        if isinstance(code, str):
            request.image_uri, request.dry_run = code, True
            wanted = self._client.update_function_code(request).code_sha256  # what its tag leads to now
            request.dry_run = False
        else:
            request.zip_file, wanted = code, digest(code)
        if current.code_sha256 != wanted or architectures != list(current.architectures):
            self._say("sending the code")
            self._client.update_function_code(request)
            self._client.wait_until_ready(self._name)
            action = "updated"
        changes = self._changes(MessageToDict(current))
        if changes:
            self._say(f"changing {', '.join(sorted(changes))}")
            change = _message(fn.UpdateFunctionConfigurationRequest, changes, self._name)
            change.function_name = self._name
            self._client.update_function_configuration(change)
            action = "updated"
        if missing := {name: each for name, each in self._planned.tags.items() if there.tags.get(name) != each}:
            self._client.call(tags.TagResourceRequest(resource=current.function_arn, tags=missing))
            action = "updated"
        return action

    def _changes(self, current: Document) -> Document:
        """Members of the configuration that are to be others."""
        wanted = {name: value for name, value in self._planned.configuration.items() if name not in _FIXED}
        current = {**current, "ImageConfig": current.get("ImageConfigResponse", {}).get("ImageConfig")}
        changes = differing(current, wanted)
        if changes.get("FileSystemConfigs") == []:
            changes["FileSystemConfigs"] = [{}]  # one empty item stands for none
        if [each["Arn"] for each in current.get("Layers", [])] != self._layers:
            changes["Layers"] = self._layers or [""]  # one empty item stands for none
        if "SnapStart" not in wanted and current.get("SnapStart", {}).get("ApplyOn", "None") != "None":
            changes["SnapStart"] = {"ApplyOn": "None"}
        return changes

    def _concurrency(self) -> None:
        found = self._client.get_function(self._name)
        reserved = found.concurrency.reserved_concurrent_executions if found.HasField("concurrency") else None
        if reserved != self._planned.reserved:
            self._say("reserving concurrency" if self._planned.reserved is not None else "reserving no concurrency")
            self._client.reserve_concurrency(self._name, self._planned.reserved)

    def _publish(self) -> str | None:
        """The version that the function is now, with its alias on it."""
        if not self._planned.publish:
            return None
        version = str(self._client.call(versions.PublishVersionRequest(function_name=self._name)).version)
        alias = self._planned.alias
        if alias is None:
            return version
        wanted: dict[str, Any] = {"function_name": self._name, "name": alias, "function_version": version}
        try:
            moved = self._client.call(aliases.GetAliasRequest(function_name=self._name, name=alias))
            if moved.function_version != version:
                self._say(f"moving {alias} to version {version}")
                self._client.call(aliases.UpdateAliasRequest(**wanted))
        except NotFound:
            self._say(f"making {alias} of version {version}")
            self._client.call(aliases.CreateAliasRequest(**wanted))
        return version

    def _provision(self) -> None:
        """Provisioned concurrency of the alias; none of any other."""
        wanted = {} if self._planned.provisioned is None else {self._planned.alias: self._planned.provisioned}
        listing = concurrency.ListProvisionedConcurrencyConfigsRequest(function_name=self._name)
        for found in self._client.call(listing).provisioned_concurrency_configs:
            alias = found.function_arn.rpartition(":")[2]
            if alias not in wanted and alias in (self._planned.alias, PROVISIONED):
                self._say(f"provisioning none of {alias}")
                which = {"FunctionName": self._name, "Qualifier": alias}
                self._call(concurrency.DeleteProvisionedConcurrencyConfigRequest, which)
            elif wanted.get(alias) == found.requested_provisioned_concurrent_executions:
                del wanted[alias]  # as it is to be
        for executions in wanted.values():
            self._say(f"provisioning {executions}")
            request = {"ProvisionedConcurrentExecutions": executions}
            self._call(concurrency.PutProvisionedConcurrencyConfigRequest, request, self._called())

    def _called(self) -> Document:
        """What names the function as it is called: by its alias, where it has one."""
        alias = self._planned.alias
        return {"FunctionName": self._name} | ({} if alias is None else {"Qualifier": alias})

    def _event_invoke(self) -> None:
        if self._planned.event_invoke is not None:
            self._call(event_invoke.PutFunctionEventInvokeConfigRequest, self._planned.event_invoke, self._called())
            return
        with suppress(NotFound):  # as it is to be
            self._call(event_invoke.DeleteFunctionEventInvokeConfigRequest, self._called())

    def _url(self) -> str | None:
        document = self._planned.url
        if document is None:
            return None
        called = self._called()
        try:
            found = self._call(urls.GetFunctionUrlConfigRequest, called)
        except NotFound:
            self._say("making its URL")
            made = self._call(urls.CreateFunctionUrlConfigRequest, document, called)
            address = str(made.function_url)
        else:
            address = str(found.function_url)
            if differs(MessageToDict(found), document):
                self._say("changing its URL")
                self._call(urls.UpdateFunctionUrlConfigRequest, document, called)
        if document["AuthType"] == "NONE":
            for statement in _PUBLIC:
                with suppress(Conflict):  # it has that permission
                    self._call(permissions.AddPermissionRequest, statement, called)
        return address

    def _call(self, kind: type[Message], *documents: Document) -> Any:
        """One call, of these members."""
        return self._client.call(
            _message(kind, {name: each for part in documents for name, each in part.items()}, self._name)
        )

    def _source(self, document: Document) -> None:
        arn, function = document.get("EventSourceArn"), self._arn
        called = function if self._planned.alias is None else f"{function}:{self._planned.alias}"
        named = arn or ", ".join(document["Topics"])
        source = {name: document[name] for name in _SOURCE if name in document}
        listed = [each for each in self._mappings(arn) if not differs(MessageToDict(each), source)]
        # By whatever qualifier: with another one beside it, each would have a part of what comes.
        found = next((each for each in listed if f"{each.function_arn}:".startswith(f"{function}:")), None)
        if found is None:
            self._say(f"reading {named}")
            self._call(sources.CreateEventSourceMappingRequest, document, {"FunctionName": called})
            return
        found = self._settled(found)
        # A mapping is told whether it is enabled, and of which function; it tells its state, and an ARN.
        current = {
            **MessageToDict(found), "Enabled": not found.state.startswith("Disab"), "FunctionName": found.function_arn,
        }  # fmt: skip
        wanted = {key: each for key, each in document.items() if key not in _OF_NEW}
        wanted["FunctionName"] = called
        changes = {key: each for key, each in wanted.items() if differs(current.get(key), each)}
        if changes:
            self._say(f"changing how {named} is read")
            self._call(sources.UpdateEventSourceMappingRequest, changes, {"UUID": found.uuid})

    def _mappings(self, arn: str | None) -> Iterator[sources.EventSourceMappingConfiguration]:
        """Those of a source; None: all of the account."""
        marker: str | None = None
        while True:
            listing = sources.ListEventSourceMappingsRequest(event_source_arn=arn, marker=marker)
            page = self._client.call(listing)
            yield from page.event_source_mappings
            marker = page.next_marker
            if not marker:
                return

    def _rules(self) -> None:
        """The function as the target of its rules and schedules, and of no other that was made for it without a name of
        its own."""
        alias = self._planned.alias
        called = self._arn if alias is None else f"{self._arn}:{alias}"
        for planned in self._planned.rules:
            self._rule(planned, called)
        for schedule in self._planned.schedules:
            self._schedule(schedule, called)
        self._end_schedules({planned.name for planned in self._planned.schedules})
        kept = {planned.name for planned in self._planned.rules}
        for arn in {self._arn, called}:
            listing = rules.ListRuleNamesByTargetRequest(target_arn=arn)
            for name in self._client.call(listing).rule_names:
                if name not in kept and is_made_for(name, self._name):
                    self._say(f"ending rule {name}")
                    self._client.call(rules.RemoveTargetsRequest(rule=name, ids=[self._name]))
                    if not self._client.call(rules.ListTargetsByRuleRequest(rule=name)).targets:
                        self._client.call(rules.DeleteRuleRequest(name=name))

    def _rule(self, planned: PlannedRule, called: str) -> None:
        try:
            found = self._client.call(rules.DescribeRuleRequest(name=planned.name))
        except NotFound:
            self._say(f"making rule {planned.name}")
        else:
            if differs(MessageToDict(found), planned.rule):
                self._say(f"changing rule {planned.name}")
        self._call(rules.PutRuleRequest, {"Name": planned.name}, planned.rule)  # as it was, it goes on counting
        target = {"Id": self._name, "Arn": called, **planned.target}
        self._call(rules.PutTargetsRequest, {"Rule": planned.name, "Targets": [target]})

    def _schedule(self, planned: PlannedSchedule, called: str) -> None:
        target = {"Arn": called, "RoleArn": ROLE.format(account=self._account), **planned.target}
        request = {"Name": planned.name, **planned.schedule, "Target": target}
        try:
            found = self._client.call(schedules.GetScheduleRequest(name=planned.name))
        except NotFound:
            self._say(f"making schedule {planned.name}")
            self._call(schedules.CreateScheduleRequest, request)
            return
        if differs(MessageToDict(found), request):
            self._say(f"changing schedule {planned.name}")
        self._call(schedules.UpdateScheduleRequest, request)  # whose times are as they were goes on counting

    def _end_schedules(self, kept: set[str]) -> None:
        listing = schedules.ListSchedulesRequest(group_name="default", name_prefix=beginning(self._name))
        for each in self._client.call(listing).schedules:
            ours = f"{each.target.arn}:".startswith(f"{self._arn}:") and is_made_for(each.name, self._name)
            if ours and each.name not in kept:
                self._say(f"ending schedule {each.name}")
                self._client.call(schedules.DeleteScheduleRequest(name=each.name))

    def _settled(self, mapping: sources.EventSourceMappingConfiguration) -> sources.EventSourceMappingConfiguration:
        """A mapping once no change of it is under way: until then it takes no other."""
        for _ in range(_PATIENCE):
            if mapping.state in ("Enabled", "Disabled"):
                break
            time.sleep(_PAUSE)
            mapping = self._client.call(sources.GetEventSourceMappingRequest(uuid=mapping.uuid))
        return mapping


def _check(planned: PlannedFunction) -> None:
    """Whether every member is of its kind, before anything is changed. Raises ManifestError."""
    _message(fn.CreateFunctionRequest, planned.configuration, planned.name)
    _message(event_invoke.PutFunctionEventInvokeConfigRequest, planned.event_invoke or {}, planned.name)
    _message(urls.CreateFunctionUrlConfigRequest, planned.url or {}, planned.name)
    for source in planned.sources:
        _message(sources.CreateEventSourceMappingRequest, source, planned.name)
    for each in planned.rules:
        _message(rules.PutRuleRequest, each.rule, planned.name)
        _message(rules.RuleTarget, each.target, planned.name)
    for schedule in planned.schedules:
        _message(schedules.CreateScheduleRequest, schedule.schedule, planned.name)
        _message(schedules.ScheduleTarget, schedule.target, planned.name)


def _message(kind: type[_Request], document: Document, where: str) -> _Request:
    """A request of these members. Raises ManifestError."""
    try:
        request: _Request = ParseDict(document, kind())
    except ParseError as error:
        raise ManifestError(f"{where}: {str(error).splitlines()[0]}") from None
    return request


def _says(name: str, value: Any) -> bool:
    """Whether a member of a configuration says anything."""
    return name not in _EMPTY or any(value.values())
