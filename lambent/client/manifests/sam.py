"""Templates of AWS's Serverless Application Model: what their functions ask for, in the words of Lambda's API.

Read are AWS::Serverless::Function and AWS::Serverless::LayerVersion, with Globals, Parameters, Mappings and Conditions;
every other resource is noted and left out, as are events of functions that nothing here causes.
https://docs.aws.amazon.com/serverless-application-model/latest/developerguide/sam-resource-function.html
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lambent.client.deploying import Document
from lambent.client.manifests import documents, images
from lambent.client.manifests.plan import Files, ManifestError, Plan, PlannedFunction, PlannedLayer
from lambent.client.manifests.references import References
from lambent.client.manifests.rules import EVENT, SCHEDULE, as_text, planned_rule, planned_schedule, state
from lambent.client.manifests.shapes import listed, members, whole
from lambent.client.manifests.variables import Surroundings

NAMES = ("template.yaml", "template.yml", "template.json")
FUNCTION, LAYER = "AWS::Serverless::Function", "AWS::Serverless::LayerVersion"
_MEMORY_MB, _TIMEOUT, _STORAGE_MB = 128, 3, 512  # the model's defaults
_MOST_CONDITIONS = 50  # within each other

# Members that go into the API's request as they are; that are read otherwise; and that change nothing here.
_AS_THEY_ARE = ("Description", "Handler", "Runtime", "LoggingConfig")
_READ = {
    "FunctionName", "CodeUri", "InlineCode", "MemorySize", "Timeout", "EphemeralStorage", "Environment", "VpcConfig",
    "Tracing", "DeadLetterQueue", "Architectures", "Layers", "Tags", "ReservedConcurrentExecutions", "SnapStart",
    "ProvisionedConcurrencyConfig", "AutoPublishAlias", "EventInvokeConfig", "FunctionUrlConfig", "Events",
    "PackageType", "ImageUri", "ImageConfig", "FileSystemConfigs", *_AS_THEY_ARE,
}  # fmt: skip
_NOTHING_HERE = {
    "Role", "Policies", "AssumeRolePolicyDocument", "PermissionsBoundary", "RolePath", "KmsKeyArn", "PropagateTags",
    "AutoPublishAliasAllProperties", "AutoPublishCodeSha256", "VersionDescription", "DeploymentPreference",
    "CodeSigningConfigArn", "RuntimeManagementConfig",
}  # fmt: skip
_SOURCES = {
    "SQS": "Queue", "Kinesis": "Stream", "DynamoDB": "Stream", "MSK": "Stream",
    "SelfManagedKafka": "KafkaBootstrapServers",
}  # fmt: skip
_CONFIGS = {"MSK": "AmazonManagedKafkaEventSourceConfig", "SelfManagedKafka": "SelfManagedKafkaEventSourceConfig"}
_SOURCE = {
    "BatchSize", "Enabled", "FilterCriteria", "MaximumBatchingWindowInSeconds", "FunctionResponseTypes",
    "ScalingConfig", "StartingPosition", "StartingPositionTimestamp", "ParallelizationFactor", "MaximumRetryAttempts",
    "MaximumRecordAgeInSeconds", "BisectBatchOnFunctionError", "TumblingWindowInSeconds", "Topics",
}  # fmt: skip
# Events that rules make, with the member that says when; and what of those goes into the API's requests as it is.
_RULES = {
    "Schedule": "Schedule", "ScheduleV2": "ScheduleExpression", "EventBridgeRule": "Pattern",
    "CloudWatchEvent": "Pattern",
}  # fmt: skip
_TARGET = ("InputPath", "InputTransformer", "RetryPolicy")
_RULE_READ = {
    "Name", "RuleName", "Description", "Enabled", "State", "Input", "DeadLetterConfig", "EventBusName", *_TARGET,
}  # fmt: skip
_RULE_NOTHING = {"RoleArn", "PermissionsBoundary", "OmitName", "Target"}
# Of a ScheduleV2 alone.
_SCHEDULE = ("ScheduleExpressionTimezone", "StartDate", "EndDate", "FlexibleTimeWindow")
_LAYER = ("Description", "CompatibleRuntimes", "CompatibleArchitectures", "LicenseInfo")
_URL = ("AuthType", "Cors", "InvokeMode")
_NO_VALUE = object()


def read(document: Document, path: Path, surroundings: Surroundings, resources: Mapping[str, str], stack: str) -> Plan:
    """What the template at `path` asks for. `resources`: what names stand for that are not made here. `stack`: what
    names of functions begin with; empty for samconfig.toml's or the folder's. Raises ManifestError."""
    return _Template(document, path.resolve().parent, surroundings, resources, stack).plan()


class _Template:
    """A template on its way to a plan."""

    def __init__(
        self, document: Document, folder: Path, surroundings: Surroundings, resources: Mapping[str, str], stack: str
    ) -> None:
        self._folder = folder
        self._stack = stack or _configured(folder) or folder.name
        self._mappings = members(document.get("Mappings"), "Mappings")
        self._conditions = members(document.get("Conditions"), "Conditions")
        self._depth = 0
        parameters = {
            name: str(surroundings.params.get(name, members(each, f"Parameters.{name}").get("Default")))
            for name, each in members(document.get("Parameters"), "Parameters").items()
            if name in surroundings.params or "Default" in members(each, f"Parameters.{name}")
        }
        given = {"AWS::StackName": self._stack, "AWS::URLSuffix": "amazonaws.com", **parameters, **resources}
        self._references = References(surroundings.account, surroundings.region, {}, {}, given)
        listing = members(document.get("Resources"), "Resources")
        found = {name: members(each, f"Resources.{name}") for name, each in listing.items()}
        kinds = {name: each.get("Type") for name, each in found.items()}
        wanted = {name: each for name, each in found.items() if self._is_there(each, f"Resources.{name}")}
        self._globals = members(document.get("Globals"), "Globals")
        self._functions = {
            name: self._properties(name, each) for name, each in wanted.items() if kinds[name] == FUNCTION
        }
        self._layers = {name: each for name, each in wanted.items() if kinds[name] == LAYER}
        self._names = {
            name: self._text(each["FunctionName"], f"{name}.FunctionName")
            if each.get("FunctionName") is not None
            else f"{self._stack}-{name}"
            for name, each in self._functions.items()
        }
        self._references.functions, self._references.layers = self._names, {name: name for name in self._layers}
        self._plan = Plan(self._stack)
        for name in wanted:
            if kinds[name] not in (FUNCTION, LAYER):
                self._plan.notes.append(f"Resources.{name}: {kinds[name]} is not made")

    def plan(self) -> Plan:
        """What it asks for."""
        for name, layer in self._layers.items():
            self._plan.layers.append(self._layer(name, members(self._resolved(layer.get("Properties"), name), name)))
        if not self._functions:
            raise ManifestError(f"Resources: there is no {FUNCTION}")
        for name, properties in self._functions.items():
            self._plan.functions.append(self._function(name, properties))
        return self._plan

    # Values

    def _text(self, value: Any, where: str) -> str:
        return self._references.text(self._resolved(value, where), where)

    def _is_there(self, resource: Document, where: str) -> bool:
        condition = resource.get("Condition")
        return condition is None or self._holds({"Condition": condition}, where)

    def _resolved(self, value: Any, where: str) -> Any:
        """A value with every function of the template's replaced. Raises ManifestError."""
        if isinstance(value, list):
            found = (self._resolved(each, f"{where}[{number}]") for number, each in enumerate(value))
            return [each for each in found if each is not _NO_VALUE]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            [(kind, inner)] = value.items()
            if kind == "Ref" or kind.startswith("Fn::"):
                return self._called(kind, inner, where)
        resolved = {name: self._resolved(each, f"{where}.{name}") for name, each in value.items()}
        return {name: each for name, each in resolved.items() if each is not _NO_VALUE}

    def _called(self, kind: str, inner: Any, where: str) -> Any:
        match kind, inner:
            case "Ref", "AWS::NoValue":
                return _NO_VALUE
            case "Fn::If", [str(name), yes, no]:
                return self._resolved(yes if self._holds({"Condition": name}, where) else no, where)
            case "Fn::FindInMap", [mapping, first, second, *_]:
                keys = [self._text(each, where) for each in (mapping, first, second)]
                try:
                    return self._mappings[keys[0]][keys[1]][keys[2]]
                except (KeyError, TypeError):
                    raise ManifestError(f"{where}: Mappings has no {'.'.join(keys)}") from None
            case "Fn::Select", [number, each]:
                parts, place = listed(self._resolved(each, where), where), whole(number, where)
                if place is None or not 0 <= place < len(parts):
                    raise ManifestError(f"{where}: there is no item {number}")
                return parts[place]
            case "Fn::Split", [str(separator), text] if separator:
                return self._text(text, where).split(separator)
            case ("Fn::Sub", [str(text), dict(named)]):
                return self._references.text({kind: [text, self._resolved(named, where)]}, where)
            case "Fn::Join", [str(separator), parts]:
                return self._references.text({kind: [separator, self._resolved(parts, where)]}, where)
        return self._references.text({kind: inner}, where)

    def _holds(self, condition: Any, where: str) -> bool:
        """Whether a condition does."""
        self._depth += 1
        try:
            if isinstance(condition, dict) and len(condition) == 1 and self._depth < _MOST_CONDITIONS:
                match next(iter(condition.items())):
                    case "Condition", str(name) if name in self._conditions:
                        return self._holds(self._conditions[name], f"Conditions.{name}")
                    case "Fn::Equals", [one, other]:
                        return self._text(one, where) == self._text(other, where)
                    case "Fn::Not", [inner]:
                        return not self._holds(inner, where)
                    case "Fn::And", [*inner]:
                        return all(self._holds(each, where) for each in inner)
                    case "Fn::Or", [*inner]:
                        return any(self._holds(each, where) for each in inner)
            raise ManifestError(f"{where}: this is no condition")
        finally:
            self._depth -= 1

    # Resources

    def _properties(self, name: str, resource: Document) -> Document:
        """A function's, with what all have; lists and maps of both count, as the model has it."""
        own = members(resource.get("Properties"), f"Resources.{name}.Properties")
        common = members(self._globals.get("Function"), "Globals.Function")
        return members(_merged(common, own), name)

    def _layer(self, name: str, said: Document) -> PlannedLayer:
        as_they_are = {member: said[member] for member in _LAYER if said.get(member) is not None}
        request = {"LayerName": str(said.get("LayerName") or name), **as_they_are}
        if "ContentUri" not in said:
            raise ManifestError(f"{name}: say its `ContentUri`")
        return PlannedLayer(name, self._files(f"{name}.ContentUri", said["ContentUri"]), request)

    def _files(self, where: str, uri: Any) -> Files:
        if not isinstance(uri, str) or uri.startswith("s3://"):
            raise ManifestError(
                f"{where}: code in a bucket is not fetched; name the folder, as templates that are built do"
            )
        place = self._folder / uri
        return Files(self._folder, artifact=place) if documents.is_file(place) else Files(place)

    def _function(self, name: str, said: Document) -> PlannedFunction:
        where = f"{name}."
        layers = [
            self._references.layer(each, f"{where}Layers")
            for each in listed(said.pop("Layers", None), f"{where}Layers")
        ]
        events = members(said.pop("Events", None), f"{where}Events")
        # What is not read may name what cannot be had.
        said = {
            member: self._resolved(value, f"{where}{member}") if member in _READ else None
            for member, value in said.items()
        }
        said = {member: value for member, value in said.items() if value is not _NO_VALUE}
        package = said.get("PackageType", "Zip")
        if package not in ("Zip", "Image"):
            raise ManifestError(f"{where}PackageType: {package!r} is neither Zip nor Image")
        image = package == "Image"
        for member in ("Runtime", "Handler"):
            if image:
                said.pop(member, None)  # of all functions, which are packages else
            elif not said.get(member):
                raise ManifestError(f"{name}: say its `{member}`")
        for member in sorted(set(said) - _READ - _NOTHING_HERE):
            self._plan.notes.append(f"{where}{member} is left out")
        configuration = self._configuration(name, said)
        if image:
            configuration["ImageConfig"] = images.settings(said.get("ImageConfig"), images.SAM, f"{where}ImageConfig")
        planned = PlannedFunction(name, self._names[name], self._code(name, said), configuration, layers)
        tags = members(said.get("Tags"), f"{where}Tags")
        planned.tags = {key: self._references.text(value, f"{where}Tags.{key}") for key, value in tags.items()}
        planned.reserved = whole(said.get("ReservedConcurrentExecutions"), f"{where}ReservedConcurrentExecutions")
        provisioned = members(said.get("ProvisionedConcurrencyConfig"), f"{where}ProvisionedConcurrencyConfig")
        planned.provisioned = whole(
            provisioned.get("ProvisionedConcurrentExecutions"), f"{where}ProvisionedConcurrencyConfig"
        ) or None  # fmt: skip
        alias = said.get("AutoPublishAlias")
        planned.alias, planned.publish = None if alias is None else str(alias), alias is not None
        if planned.provisioned and alias is None:
            raise ManifestError(f"{name}: ProvisionedConcurrencyConfig goes with AutoPublishAlias")
        planned.event_invoke = self._event_invoke(f"{where}EventInvokeConfig", said.get("EventInvokeConfig"))
        url = members(said.get("FunctionUrlConfig"), f"{where}FunctionUrlConfig")
        if url:
            planned.url = {"InvokeMode": "BUFFERED", **{member: url[member] for member in _URL if member in url}}
            planned.url.setdefault("AuthType", "AWS_IAM")
        for event, source in events.items():
            self._event(f"{where}Events.{event}", members(source, f"{where}Events.{event}"), planned)
        return planned

    def _code(self, name: str, said: Document) -> Files | str:
        if said.get("PackageType") == "Image":
            if not said.get("ImageUri"):
                raise ManifestError(f"{name}: no image is built here; push it, and say its `ImageUri`")
            return str(said["ImageUri"])
        inline = said.get("InlineCode")
        if inline is None:
            return self._files(f"{name}.CodeUri", said.get("CodeUri", "."))
        ending = "js" if str(said["Runtime"]).startswith("nodejs") else "py"
        return Files(self._folder, inline=(f"index.{ending}", str(inline)))

    def _configuration(self, name: str, said: Document) -> Document:
        where = f"{name}."
        variables = members(
            members(said.get("Environment"), f"{where}Environment").get("Variables"), f"{where}Environment"
        )
        vpc = members(said.get("VpcConfig"), f"{where}VpcConfig")
        storage = members(said.get("EphemeralStorage"), f"{where}EphemeralStorage").get("Size")
        configuration: Document = {
            "Description": "",
            **{member: said[member] for member in _AS_THEY_ARE if said.get(member) is not None},
            "MemorySize": whole(said.get("MemorySize"), f"{where}MemorySize") or _MEMORY_MB,
            "Timeout": whole(said.get("Timeout"), f"{where}Timeout") or _TIMEOUT,
            "EphemeralStorage": {"Size": whole(storage, f"{where}EphemeralStorage") or _STORAGE_MB},
            "Environment": {
                "Variables": {
                    key: self._references.text(value, f"{where}Environment.{key}")
                    for key, value in variables.items()
                    if value is not None
                }
            },
            "TracingConfig": {"Mode": "Active" if said.get("Tracing") == "Active" else "PassThrough"},
            "VpcConfig": {
                member: listed(vpc.get(member), f"{where}VpcConfig") for member in ("SubnetIds", "SecurityGroupIds")
            },
            "DeadLetterConfig": {
                "TargetArn": members(said.get("DeadLetterQueue"), f"{where}DeadLetterQueue").get("TargetArn", "")
            },
        }
        configuration["FileSystemConfigs"] = listed(said.get("FileSystemConfigs"), f"{where}FileSystemConfigs")
        for member in ("Architectures", "SnapStart"):
            if said.get(member) is not None:
                configuration[member] = said[member]
        return configuration

    def _event_invoke(self, where: str, said: Any) -> Document | None:
        request = {
            member: value
            for member, value in members(said, where).items()
            if member in ("MaximumEventAgeInSeconds", "MaximumRetryAttempts")
        }
        found = {}
        for member, each in members(
            members(said, where).get("DestinationConfig"), f"{where}.DestinationConfig"
        ).items():
            target = members(each, f"{where}.DestinationConfig.{member}").get("Destination")
            if target is None:
                raise ManifestError(
                    f"{where}.DestinationConfig.{member}: no queue or topic is made; say the `Destination`"
                )
            found[member] = {"Destination": target}
        if found:
            request["DestinationConfig"] = found
        return request or None

    def _event(self, where: str, event: Document, planned: PlannedFunction) -> None:
        kind = str(event.get("Type"))
        if kind in _RULES:
            self._rule(where, kind, members(self._resolved(event.get("Properties"), where), where), planned)
            return
        if kind not in _SOURCES:
            self._plan.notes.append(f"{where}: {kind} calls {planned.name} on AWS and does not here")
            return
        said = members(self._resolved(event.get("Properties"), where), f"{where}.Properties")
        arn = said.get(_SOURCES[kind])
        if arn is None:
            raise ManifestError(f"{where}: say its `{_SOURCES[kind]}`")
        source: Document = {"EventSourceArn": arn}
        if kind == "SelfManagedKafka":
            source = {"SelfManagedEventSource": {"Endpoints": {"KAFKA_BOOTSTRAP_SERVERS": listed(arn, where)}}}
        if kind in _CONFIGS:
            source["StartingPosition"] = "TRIM_HORIZON"
        for member, value in said.items():
            if member in _SOURCE:
                source[member] = value == "true" if member == "Enabled" and isinstance(value, str) else value
            elif member == "ConsumerGroupId" and kind in _CONFIGS:
                source[_CONFIGS[kind]] = {member: value}
            elif member == "DestinationConfig":
                failure = members(members(value, f"{where}.{member}").get("OnFailure"), f"{where}.{member}")
                source[member] = {"OnFailure": {"Destination": failure.get("Destination")}}
            elif member != _SOURCES[kind]:
                self._plan.notes.append(f"{where}.{member} is left out")
        planned.sources.append(source)

    def _rule(self, where: str, kind: str, said: Document, planned: PlannedFunction) -> None:
        given = _RULES[kind]
        when = said.get(given)
        if when is None:
            raise ManifestError(f"{where}: say its `{given}`")
        if str(said.get("EventBusName", "default")).rpartition("/")[2] != "default":
            self._plan.notes.append(f"{where} is of another bus than `default`: {planned.name} is not called")
            return
        schedule = {member: said.get(member) for member in _SCHEDULE} if kind == "ScheduleV2" else {}
        for member in sorted(said.keys() - _RULE_READ - _RULE_NOTHING - schedule.keys() - {given}):
            self._plan.notes.append(f"{where}.{member} is left out")
        target = {member: said.get(member) for member in _TARGET} | {"Input": as_text(said.get("Input"))}
        letters = members(said.get("DeadLetterConfig"), f"{where}.DeadLetterConfig")
        if letters:
            if letters.get("Arn") is None:
                raise ManifestError(f"{where}.DeadLetterConfig: no queue is made; say its `Arn`")
            target["DeadLetterConfig"] = {"Arn": letters["Arn"]}
        rule = {
            "EventPattern" if given == "Pattern" else "ScheduleExpression": as_text(when),
            "State": said.get("State") or state(said.get("Enabled")),
            "Description": said.get("Description"),
        }
        name = said.get("Name", said.get("RuleName"))
        if schedule:
            planned.schedules.append(planned_schedule(planned, name, {**rule, **schedule}, target))
            return
        planned.rules.append(planned_rule(planned, EVENT if given == "Pattern" else SCHEDULE, name, rule, target))


def _merged(common: Any, own: Any) -> Any:
    """What Globals and a resource say together."""
    if (
        isinstance(common, dict)
        and isinstance(own, dict)
        and not any(key.startswith("Fn::") for key in (*common, *own))
    ):
        return {
            **common,
            **{name: _merged(common[name], each) if name in common else each for name, each in own.items()},
        }
    if isinstance(common, list) and isinstance(own, list):
        return [*common, *own]
    return own


def _configured(folder: Path) -> str:
    """The name that samconfig.toml gives the stack; empty: none."""
    path = folder / "samconfig.toml"
    try:
        document = tomllib.loads(path.read_text()) if path.is_file() else {}
    except (OSError, ValueError) as error:
        raise ManifestError(f"{path}: {error}") from None
    for command in ("deploy", "global"):
        found = document.get("default", {}).get(command, {}).get("parameters", {}).get("stack_name")
        if found:
            return str(found)
    return ""
