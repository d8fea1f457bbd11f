"""serverless.yml, as the Serverless Framework reads it for AWS: what it asks for, in the words of Lambda's API.

What a manifest says that there is nothing for here (HTTP APIs, resources of CloudFormation) is noted and left out; what
cannot be understood is an error. https://www.serverless.com/framework/docs/providers/aws/guide/serverless.yml
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from lambent.client.deploying import Document
from lambent.client.manifests import documents, images
from lambent.client.manifests.patterns import LEFT_OUT
from lambent.client.manifests.plan import (
    PROVISIONED,
    Files,
    ManifestError,
    Plan,
    PlannedFunction,
    PlannedLayer,
)
from lambent.client.manifests.references import References
from lambent.client.manifests.rules import EVENT, SCHEDULE, as_text, planned_rule, planned_schedule, state
from lambent.client.manifests.shapes import listed, members, renamed, texts, whole
from lambent.client.manifests.variables import Surroundings, Variables

NAMES = ("serverless.yml", "serverless.yaml", "serverless.json")
_MEMORY_MB, _TIMEOUT, _STORAGE_MB = 1024, 6, 512  # the framework's defaults
_STAGE = "dev"

# Of a manifest and of its functions: what is read; and what changes nothing here, so that nobody need be told.
_READ = {"service", "provider", "package", "functions", "layers", "params", "custom", "plugins"}
_NOTHING = {
    "frameworkVersion", "configValidationMode", "org", "app", "console", "dashboard", "deprecationNotificationMode",
    "disabledDeprecations", "unresolvedVariablesNotificationMode", "variablesResolutionMode", "useDotenv",
}  # fmt: skip
_FUNCTION_READ = {
    "handler", "name", "description", "runtime", "memorySize", "timeout", "ephemeralStorageSize", "environment",
    "reservedConcurrency", "provisionedConcurrency", "layers", "tags", "architecture", "tracing", "vpc", "onError",
    "destinations", "maximumEventAge", "maximumRetryAttempts", "url", "snapStart", "package", "events", "logs",
    "image", "fileSystemConfig",
}  # fmt: skip
_PROVIDER_READ = {"name", "versionFunctions", "ecr"}  # beside what functions have
_FUNCTION_NOTHING = {
    "role", "iamRoleStatements", "iamRoleStatementsName", "iamRoleStatementsInherit", "kmsKeyArn", "awsKmsKeyArn",
    "versionFunction", "dependsOn", "condition", "disableLogs", "logRetentionInDays", "logDataProtectionPolicy",
    "runtimeManagement",
}  # fmt: skip
_PLUGINS_FOR_NOTHING = {"serverless-python-requirements", "serverless-offline", "serverless-dotenv-plugin"}

_EVENTS = {"sqs", "stream", "msk", "kafka", "schedule", "eventBridge"}  # those that are read
# In an event's words and in the API's.
_STREAM = {
    "batchSize": "BatchSize", "startingPosition": "StartingPosition", "enabled": "Enabled",
    "parallelizationFactor": "ParallelizationFactor", "batchWindow": "MaximumBatchingWindowInSeconds",
    "maximumRetryAttempts": "MaximumRetryAttempts", "maximumRecordAgeInSeconds": "MaximumRecordAgeInSeconds",
    "bisectBatchOnFunctionError": "BisectBatchOnFunctionError", "tumblingWindowInSeconds": "TumblingWindowInSeconds",
}  # fmt: skip
_SQS = {"batchSize": "BatchSize", "enabled": "Enabled", "maximumBatchingWindow": "MaximumBatchingWindowInSeconds"}
_TOPIC = {**_SQS, "startingPosition": "StartingPosition", "startingPositionTimestamp": "StartingPositionTimestamp"}
_RULE = {"name", "description", "enabled"}
_TARGET = {"inputPath": "InputPath", "deadLetterQueueArn": "DeadLetterConfig"}
_RETRIES = {"maximumEventAge": "MaximumEventAgeInSeconds", "maximumRetryAttempts": "MaximumRetryAttempts"}
_TRANSFORMER = {"inputPathsMap": "InputPathsMap", "inputTemplate": "InputTemplate"}
_LAYER = {
    "description": "Description", "compatibleRuntimes": "CompatibleRuntimes", "licenseInfo": "LicenseInfo",
    "compatibleArchitectures": "CompatibleArchitectures",
}  # fmt: skip
_LOGS = {
    "logFormat": "LogFormat", "applicationLogLevel": "ApplicationLogLevel", "systemLogLevel": "SystemLogLevel",
    "logGroup": "LogGroup",
}  # fmt: skip
_CORS = {
    "allowedOrigins": "AllowOrigins", "allowedHeaders": "AllowHeaders", "allowedMethods": "AllowMethods",
    "exposedResponseHeaders": "ExposeHeaders", "allowCredentials": "AllowCredentials", "maxAge": "MaxAge",
}  # fmt: skip


def read(document: Any, path: Path, surroundings: Surroundings, resources: Mapping[str, str]) -> Plan:
    """What the manifest at `path` asks for. `surroundings.stage`: empty for the manifest's own. `resources`: what names
    stand for that are not made here. Raises ManifestError."""
    if not isinstance(document, dict) or "service" not in document or "provider" not in document:
        raise ManifestError(f"{path}: a manifest says `service`, `provider` and `functions`")
    folder = path.resolve().parent
    if not surroundings.stage:
        said = document["provider"].get("stage") if isinstance(document["provider"], dict) else None
        found = Variables(document, folder, surroundings).resolved(said, "provider.stage")
        surroundings = replace(surroundings, stage=_STAGE if found is None else str(found))
    params = members(Variables(document, folder, surroundings).resolved(document.get("params"), "params"), "params")
    of_stage = {
        name: value
        for stage in ("default", surroundings.stage)
        for name, value in members(params.get(stage), f"params.{stage}").items()
    }
    surroundings = replace(surroundings, params={**of_stage, **surroundings.params})
    return _Reader(document, folder, surroundings, resources).plan()


class _Reader:
    """A manifest on its way to a plan. What is not read may have variables that nobody can resolve."""

    def __init__(
        self, document: Document, folder: Path, surroundings: Surroundings, resources: Mapping[str, str]
    ) -> None:
        self._folder = folder
        self._stage = surroundings.stage
        self._variables = Variables(document, folder, surroundings)
        provider = self._variables.opened(document["provider"], "provider")
        self._provider = {"name": provider} if isinstance(provider, str) else self._chosen(provider, "provider")
        if self._provider.get("name", "aws") != "aws":
            raise ManifestError(
                f"provider.name: {self._provider['name']!r} is another cloud; functions of `aws` run here"
            )
        service = self._value(document, "service")
        self._service = str(service.get("name") if isinstance(service, dict) else service)
        self._package = members(self._value(document, "package"), "package")
        self._layers = members(self._value(document, "layers"), "layers")
        self._functions: dict[str, Document] = {}
        parts = self._variables.opened(document.get("functions"), "functions") or {}
        for part in parts if isinstance(parts, list) else [parts]:
            for key, each in members(self._variables.opened(part, "functions"), "functions").items():
                self._functions[key] = self._chosen(
                    self._variables.opened(each, f"functions.{key}"), f"functions.{key}"
                )
        ours = members(self._variables.resolved("${self:custom.lambent, null}", "custom.lambent"), "custom.lambent")
        given = {name: str(value) for name, value in members(ours.get("resources"), "custom.lambent.resources").items()}
        self._names = {
            key: str(members(function, f"functions.{key}").get("name") or f"{self._service}-{self._stage}-{key}")
            for key, function in self._functions.items()
        }
        self._references = References(
            surroundings.account,
            surroundings.region,
            {f"{_logical(key)}LambdaFunction": name for key, name in self._names.items()},
            {f"{_logical(key)}LambdaLayer": key for key in self._layers},
            {**given, **resources},
        )
        self._plan = Plan(f"{self._service}, stage {self._stage}")
        for name in sorted(set(document) - _READ - _NOTHING):
            self._note(name, "is left out" if name != "resources" else "are not made: only functions and layers are")
        self._plugins(self._value(document, "plugins"))

    def _value(self, document: Document, name: str) -> Any:
        return self._variables.resolved(document.get(name), name)

    def _chosen(self, value: Any, where: str) -> Document:
        """The members of a function, or of the provider, without variables as far as they are read."""
        return {
            name: self._events(each, f"{where}.events") if name == "events"
            else self._variables.resolved(each, f"{where}.{name}") if name in _FUNCTION_READ | _PROVIDER_READ
            else None
            for name, each in members(value, where).items()
        }  # fmt: skip

    def _events(self, value: Any, where: str) -> list[Any]:
        """Those that are read without variables, of all others what kind they are."""
        found = []
        for number, each in enumerate(listed(self._variables.opened(value, where), where)):
            place = f"{where}[{number}]"
            event = self._variables.opened(each, place)
            kind = next(iter(event), "") if isinstance(event, dict) else str(event)
            found.append(self._variables.resolved(event, place) if kind in _EVENTS else kind)
        return found

    def plan(self) -> Plan:
        """What it asks for."""
        for key, layer in self._layers.items():
            self._plan.layers.append(self._layer(key, members(layer, f"layers.{key}")))
        if not self._functions:
            raise ManifestError("functions: there is none")
        for key, function in self._functions.items():
            self._plan.functions.append(self._function(key, members(function, f"functions.{key}")))
        return self._plan

    def _note(self, where: str, what: str) -> None:
        self._plan.notes.append(f"{where} {what}")

    def _plugins(self, plugins: Any) -> None:
        names = plugins.get("modules") if isinstance(plugins, dict) else plugins
        for name in texts(names, "plugins"):
            if name not in _PLUGINS_FOR_NOTHING:
                self._note(f"plugins: {name}", "is not run")

    def _layer(self, key: str, layer: Document) -> PlannedLayer:
        where = f"layers.{key}"
        if "path" not in layer and "package" not in layer:
            raise ManifestError(f"{where}: say its `path`")
        request = {"LayerName": str(layer.get("name") or key), **renamed(layer, _LAYER)}
        own = members(layer.get("package"), f"{where}.package")
        artifact = own.get("artifact")
        files = Files(
            self._folder / str(layer.get("path", ".")), tuple(texts(own.get("patterns"), f"{where}.package.patterns")),
            None if artifact is None else self._folder / str(artifact),
        )  # fmt: skip
        return PlannedLayer(key, files, request)

    def _function(self, key: str, function: Document) -> PlannedFunction:
        where = f"functions.{key}"
        if "handler" not in function and "image" not in function:
            raise ManifestError(f"{where}: say its `handler`, or its `image`")
        for name in sorted(set(function) - _FUNCTION_READ - _FUNCTION_NOTHING):
            self._note(f"{where}.{name}", "is left out")
        configuration = self._configuration(where, function)
        code: Files | str = ""
        if "image" in function:
            known = members(self._provider.get("ecr"), "provider.ecr").get("images")
            code, configuration["ImageConfig"] = images.of_serverless(function["image"], known, f"{where}.image")
        else:
            code = self._files(where, function)
        planned = PlannedFunction(key, self._names[key], code, configuration)
        layers = listed(self._said(function, "layers"), f"{where}.layers")
        planned.layers = [self._references.layer(each, f"{where}.layers[{n}]") for n, each in enumerate(layers)]
        tags = {
            **members(self._provider.get("tags"), "provider.tags"),
            **members(function.get("tags"), f"{where}.tags"),
        }
        planned.tags = {name: self._references.text(value, f"{where}.tags.{name}") for name, value in tags.items()}
        planned.reserved = whole(function.get("reservedConcurrency"), f"{where}.reservedConcurrency")
        planned.provisioned = whole(function.get("provisionedConcurrency"), f"{where}.provisionedConcurrency") or None
        if function.get("snapStart"):
            planned.configuration["SnapStart"] = {"ApplyOn": "PublishedVersions"}
        planned.alias = PROVISIONED if planned.provisioned else "snapstart" if function.get("snapStart") else None
        planned.publish = self._provider.get("versionFunctions") is not False or planned.alias is not None
        planned.event_invoke = self._event_invoke(where, function)
        planned.url = self._url(f"{where}.url", function.get("url"))
        for number, event in enumerate(listed(function.get("events"), f"{where}.events")):
            self._event(f"{where}.events[{number}]", event, planned)
        return planned

    def _said(self, function: Document, name: str) -> Any:
        """What the function says, or else the provider for all of them."""
        return function.get(name, self._provider.get(name))

    def _configuration(self, where: str, function: Document) -> Document:
        configuration: Document = {
            **self._program(where, function),
            "Description": str(function.get("description") or ""),
            "MemorySize": whole(self._said(function, "memorySize"), f"{where}.memorySize") or _MEMORY_MB,
            "Timeout": whole(self._said(function, "timeout"), f"{where}.timeout") or _TIMEOUT,
            "EphemeralStorage": {
                "Size": whole(self._said(function, "ephemeralStorageSize"), f"{where}.ephemeralStorageSize")
                or _STORAGE_MB
            },
            "Environment": {"Variables": self._environment(where, function)},
            "TracingConfig": {"Mode": self._tracing(function)},
        }
        if (architecture := self._said(function, "architecture")) is not None:
            configuration["Architectures"] = [str(architecture)]
        vpc = members(self._said(function, "vpc"), f"{where}.vpc")
        configuration["VpcConfig"] = {
            member: [
                self._references.text(each, f"{where}.vpc.{name}")
                for each in listed(vpc.get(name), f"{where}.vpc.{name}")
            ]
            for name, member in (("subnetIds", "SubnetIds"), ("securityGroupIds", "SecurityGroupIds"))
        }
        mount = members(function.get("fileSystemConfig"), f"{where}.fileSystemConfig")
        names = {"arn": "Arn", "localMountPath": "LocalMountPath"} if mount else {}
        found = {
            member: self._references.text(mount.get(name), f"{where}.fileSystemConfig.{name}")
            for name, member in names.items()
        }
        configuration["FileSystemConfigs"] = [found] if found else []
        failed = function.get("onError")
        configuration["DeadLetterConfig"] = {
            "TargetArn": "" if failed is None else self._references.text(failed, f"{where}.onError")
        }
        lambdas = members(members(self._provider.get("logs"), "provider.logs").get("lambda"), "provider.logs.lambda")
        logs = {**lambdas, **members(function.get("logs"), f"{where}.logs")}
        logging = {member: str(value) for member, value in renamed(logs, _LOGS).items()}
        return configuration | ({"LoggingConfig": logging} if logging else {})

    def _program(self, where: str, function: Document) -> Document:
        """What runs of a package; an image says that itself."""
        if "image" in function:
            return {}
        runtime = self._said(function, "runtime")
        if runtime is None:
            raise ManifestError(f"{where}: say its `runtime`, or that of all in `provider`")
        return {"Runtime": str(runtime), "Handler": str(function["handler"]).removeprefix("./")}

    def _environment(self, where: str, function: Document) -> dict[str, str]:
        said = {
            **members(self._provider.get("environment"), "provider.environment"),
            **members(function.get("environment"), f"{where}.environment"),
        }
        return {
            name: self._references.text(value, f"{where}.environment.{name}")
            for name, value in said.items()
            if value is not None
        }

    def _tracing(self, function: Document) -> str:
        said = function.get("tracing", members(self._provider.get("tracing"), "provider.tracing").get("lambda"))
        return "Active" if said in (True, "Active") else "PassThrough"

    def _files(self, where: str, function: Document) -> Files:
        own = members(function.get("package"), f"{where}.package")
        artifact = own.get("artifact") or self._package.get("artifact")
        patterns = [
            pattern
            for source, place in ((self._package, "package"), (own, f"{where}.package"))
            for pattern in (
                *(f"!{each}" for each in texts(source.get("exclude"), f"{place}.exclude")),
                *texts(source.get("include"), f"{place}.include"),
                *texts(source.get("patterns"), f"{place}.patterns"),
            )
        ]
        root = None if artifact is None else self._folder / str(artifact)
        return Files(self._folder, (*LEFT_OUT, *patterns), root)

    def _event_invoke(self, where: str, function: Document) -> Document | None:
        request: Document = {}
        if (age := whole(function.get("maximumEventAge"), f"{where}.maximumEventAge")) is not None:
            request["MaximumEventAgeInSeconds"] = age
        if (retries := whole(function.get("maximumRetryAttempts"), f"{where}.maximumRetryAttempts")) is not None:
            request["MaximumRetryAttempts"] = retries
        destinations = members(function.get("destinations"), f"{where}.destinations")
        found = {
            member: {"Destination": self._destination(destinations[name], f"{where}.destinations.{name}")}
            for name, member in (("onSuccess", "OnSuccess"), ("onFailure", "OnFailure"))
            if destinations.get(name) is not None
        }
        if found:
            request["DestinationConfig"] = found
        return request or None

    def _destination(self, value: Any, where: str) -> str:
        if isinstance(value, dict) and "arn" in value:
            value = value["arn"]
        if isinstance(value, str) and value in self._names:
            return self._references.function_arn(self._names[value])
        return self._references.text(value, where)

    def _url(self, where: str, said: Any) -> Document | None:
        if not said:
            return None
        url = {} if said is True else members(said, where)
        request: Document = {
            "AuthType": "AWS_IAM" if str(url.get("authorizer", "")).lower() == "aws_iam" else "NONE",
            "InvokeMode": str(url.get("invokeMode") or "BUFFERED"),
        }
        cors = url.get("cors")
        if cors is True:
            request["Cors"] = {
                "AllowOrigins": ["*"], "AllowMethods": ["*"],
                "AllowHeaders": ["Content-Type", "X-Amz-Date", "Authorization", "X-Api-Key", "X-Amz-Security-Token"],
            }  # fmt: skip
        elif cors:
            request["Cors"] = {
                member: value if member in ("AllowCredentials", "MaxAge") else texts(value, f"{where}.cors")
                for member, value in renamed(members(cors, f"{where}.cors"), _CORS).items()
            }
        return request

    # Events

    def _event(self, where: str, event: Any, planned: PlannedFunction) -> None:
        kind, said = next(iter(event.items())) if isinstance(event, dict) and event else (str(event), None)
        if kind == "sqs":
            planned.sources.append(self._queue(f"{where}.sqs", said))
        elif kind == "stream":
            planned.sources.append(self._stream(f"{where}.stream", said))
        elif kind in ("msk", "kafka"):
            planned.sources.append(self._topic(f"{where}.{kind}", members(said, f"{where}.{kind}"), kind))
        elif kind == "schedule":
            self._schedule(f"{where}.schedule", said, planned)
        elif kind == "eventBridge":
            self._on_event(f"{where}.eventBridge", members(said, f"{where}.eventBridge"), planned)
        else:
            self._note(f"{where}: {kind}", f"calls {planned.name} on AWS and does not here")

    def _schedule(self, where: str, said: Any, planned: PlannedFunction) -> None:
        event = said if isinstance(said, dict) and "rate" in said else {"rate": said}
        rates = event["rate"] if isinstance(event["rate"], list) else [event["rate"]]
        for number, each in enumerate(rates, 1):
            expression = self._references.text(each, f"{where}.rate")
            name = event.get("name")
            own = {**event, "name": name if name is None or number == 1 else f"{name}-{number}"}
            source: Document = {"ScheduleExpression": expression}
            zone = event.get("timezone")
            if zone is not None or event.get("method") == "scheduler" or expression.startswith("at("):
                source["ScheduleExpressionTimezone"] = zone
            self._rule(where, own, source, {"rate", "method", "timezone", "roleArn"}, planned)

    def _on_event(self, where: str, event: Document, planned: PlannedFunction) -> None:
        bus = event.get("eventBus", "default")
        if not isinstance(bus, str) or bus.rpartition("/")[2] != "default":
            self._note(f"{where}.eventBus", f"is another bus than `default`: {planned.name} is not called")
            return
        source = {"EventPattern": as_text(event.get("pattern")), "ScheduleExpression": event.get("schedule")}
        self._rule(where, event, source, {"eventBus", "pattern", "schedule"}, planned)

    def _rule(self, where: str, event: Document, source: Document, others: set[str], planned: PlannedFunction) -> None:
        target = renamed(event, _TARGET)
        if "DeadLetterConfig" in target:
            queue = self._references.text(target["DeadLetterConfig"], f"{where}.deadLetterQueueArn")
            target["DeadLetterConfig"] = {"Arn": queue}
        target["Input"] = as_text(event.get("input"))
        for member, theirs, names in (
            ("RetryPolicy", "retryPolicy", _RETRIES), ("InputTransformer", "inputTransformer", _TRANSFORMER),
        ):  # fmt: skip
            if said := members(event.get(theirs), f"{where}.{theirs}"):
                target[member] = renamed(said, names)
        known = {"input", "retryPolicy", "inputTransformer", *_RULE, *_TARGET, *others}
        for name in sorted(event.keys() - known):
            self._note(f"{where}.{name}", "is left out")
        rule = {**source, "State": state(event.get("enabled")), "Description": event.get("description")}
        if "ScheduleExpressionTimezone" in source:
            for member in ("InputPath", "InputTransformer"):
                if target.pop(member, None) is not None:
                    self._note(f"{where}: {member}", "is left out: only rules have it, not schedules in a time zone")
            planned.schedules.append(planned_schedule(planned, event.get("name"), rule, target))
            return
        kind = SCHEDULE if source.get("ScheduleExpression") is not None else EVENT
        planned.rules.append(planned_rule(planned, kind, event.get("name"), rule, target))

    def _queue(self, where: str, said: Any) -> Document:
        event = said if isinstance(said, dict) and "arn" in said else {"arn": said}
        source = self._source(where, event, _SQS, {"maximumConcurrency"})
        if event.get("maximumConcurrency") is not None:
            source["ScalingConfig"] = {"MaximumConcurrency": event["maximumConcurrency"]}
        return source

    def _stream(self, where: str, said: Any) -> Document:
        event = said if isinstance(said, dict) and "arn" in said else {"arn": said}
        source = self._source(where, event, _STREAM, {"type", "destinations", "consumer"})
        source.setdefault("StartingPosition", "TRIM_HORIZON")
        if event.get("consumer"):
            self._note(f"{where}.consumer", "is left out: the stream is read as by one without")
        if (failure := members(event.get("destinations"), f"{where}.destinations").get("onFailure")) is not None:
            destination = self._destination(failure, f"{where}.destinations.onFailure")
            source["DestinationConfig"] = {"OnFailure": {"Destination": destination}}
        return source

    def _topic(self, where: str, event: Document, kind: str) -> Document:
        """Of Kafka, with an ARN or without."""
        if "topic" not in event:
            raise ManifestError(f"{where}: say its `topic`")
        others = {"bootstrapServers", "topic", "consumerGroupId", "accessConfigurations", "saslScram512"}
        source = self._source(where, event, _TOPIC, others)
        source |= {"Topics": [str(event["topic"])]}
        source.setdefault("StartingPosition", "TRIM_HORIZON")
        if kind == "kafka":
            servers = texts(event.get("bootstrapServers"), f"{where}.bootstrapServers")
            source["SelfManagedEventSource"] = {"Endpoints": {"KAFKA_BOOTSTRAP_SERVERS": servers}}
        if event.get("consumerGroupId") is not None:
            config = "SelfManagedKafkaEventSourceConfig" if kind == "kafka" else "AmazonManagedKafkaEventSourceConfig"
            source[config] = {"ConsumerGroupId": str(event["consumerGroupId"])}
        for name in sorted({"accessConfigurations", "saslScram512"} & event.keys()):
            self._note(f"{where}.{name}", "is left out: connections say how brokers are logged in to")
        return source

    def _source(self, where: str, event: Document, names: Mapping[str, str], others: set[str]) -> Document:
        source: Document = {}
        if "bootstrapServers" not in event:
            if "arn" not in event:
                raise ManifestError(f"{where}: say its `arn`")
            source["EventSourceArn"] = self._references.text(event["arn"], f"{where}.arn")
        for name in event:
            if name in names:
                source[names[name]] = event[name]
            elif name == "functionResponseType":
                source["FunctionResponseTypes"] = [event[name]]
            elif name == "filterPatterns":
                patterns = [_json(each) for each in listed(event[name], f"{where}.{name}")]
                source["FilterCriteria"] = {"Filters": [{"Pattern": pattern} for pattern in patterns]}
            elif name not in {"arn", *others}:
                self._note(f"{where}.{name}", "is left out")
        return source


def _logical(key: str) -> str:
    """A key as the framework makes names of resources of it."""
    return key[:1].upper() + key[1:].replace("-", "Dash").replace("_", "Underscore")


def _json(value: Any) -> str:
    return value if isinstance(value, str) else documents.as_json(value)
