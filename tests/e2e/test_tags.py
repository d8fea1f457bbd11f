"""Tags of functions through AWS's own clients, and what else tools ask of every function."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.e2e.harness import Cluster, error_of, zipped

CODE = zipped({"app.py": "def handler(event, context):\n    return event\n"})
LIMIT = 50


def create(cluster: Cluster, name: str, package: bytes, **configuration: Any) -> str:
    """A function's ARN."""
    cluster.create(name, package, **configuration)
    arn: str = cluster.client().get_function(FunctionName=name)["Configuration"]["FunctionArn"]
    return arn


def test_tags_are_added_changed_and_removed_and_make_no_new_revision(cluster: Cluster) -> None:
    client = cluster.client()
    arn = create(cluster, "tagged", CODE, Tags={"team": "x", "stage": "dev"})
    assert client.list_tags(Resource=arn)["Tags"] == {"team": "x", "stage": "dev"}
    before = client.get_function(FunctionName="tagged")["Configuration"]
    client.tag_resource(Resource=arn, Tags={"team": "y", "größe": "", "a/b c": "1+1=2"})
    client.untag_resource(Resource=arn, TagKeys=["stage", "never there"])
    wanted = {"team": "y", "größe": "", "a/b c": "1+1=2"}
    assert client.list_tags(Resource=arn)["Tags"] == wanted
    assert client.get_function(FunctionName="tagged")["Tags"] == wanted
    assert client.get_function(FunctionName="tagged")["Configuration"] == before
    assert "Tags" not in client.get_function(FunctionName="tagged", Qualifier="$LATEST")
    cluster.update("tagged", Timeout=7)
    assert client.list_tags(Resource=arn)["Tags"] == wanted, "a change of the configuration leaves them"
    client.untag_resource(Resource=arn, TagKeys=list(wanted))
    assert client.list_tags(Resource=arn)["Tags"] == {}
    assert "Tags" not in client.get_function(FunctionName="tagged")
    client.delete_function(FunctionName="tagged")
    assert error_of(client.list_tags, Resource=arn) == (
        404, "ResourceNotFoundException", f"Function not found: {arn}",
    )  # fmt: skip
    again = create(cluster, "tagged", CODE)
    assert client.list_tags(Resource=again)["Tags"] == {}, "they went with the function"


def test_of_tags_that_come_at_once_none_is_lost(cluster: Cluster) -> None:
    arn = create(cluster, "at-once", CODE)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: cluster.client().tag_resource(Resource=arn, Tags={f"t{n}": str(n)}), range(24)))
    assert cluster.client().list_tags(Resource=arn)["Tags"] == {f"t{n}": str(n) for n in range(24)}


def test_the_command_line_tags(cluster: Cluster) -> None:
    arn = create(cluster, "by-command", CODE)
    assert cluster.aws("lambda", "tag-resource", "--resource", arn, "--tags", "team=z,stage=prod").returncode == 0
    assert cluster.aws("lambda", "untag-resource", "--resource", arn, "--tag-keys", "stage").returncode == 0
    assert json.loads(cluster.aws("lambda", "list-tags", "--resource", arn).stdout) == {"Tags": {"team": "z"}}


@pytest.mark.parametrize(
    ("tags", "told"),
    [
        ({f"t{n}": "" for n in range(LIMIT + 1)}, "Number of tags exceeds resource tag limit."),
        ({"aws:x": "1"}, "reserved"),
        ({"AWS:x": "1"}, "reserved"),
        ({"": "1"}, "1 to 128"),
        ({"k" * 129: "1"}, "1 to 128"),
        ({"k": "v" * 257}, "at most 256"),
    ],
)
def test_tags_that_may_not_be_are_refused_and_change_nothing(cluster: Cluster, tags: dict[str, str], told: str) -> None:
    client = cluster.client()
    arn = create(cluster, "refusing", CODE, Tags={"a": "b"})
    status, name, message = error_of(client.tag_resource, Resource=arn, Tags=tags)
    assert (status, name) == (400, "InvalidParameterValueException")
    assert told in message
    assert client.list_tags(Resource=arn)["Tags"] == {"a": "b"}
    client.delete_function(FunctionName="refusing")


def test_what_has_no_tags_is_named(cluster: Cluster) -> None:
    client = cluster.client()
    arn = create(cluster, "plain", CODE)
    for qualifier in ("$LATEST", "1", "live"):
        status, name, message = error_of(client.list_tags, Resource=f"{arn}:{qualifier}")
        assert (status, name) == (400, "InvalidParameterValueException")
        assert message == "Tags on function aliases and versions are not supported. Please specify a function ARN."
    mapping = arn.replace("function:plain", "event-source-mapping:12345678-1234-1234-1234-123456789abc")
    assert error_of(client.tag_resource, Resource=mapping, Tags={"a": "b"}) == (
        404, "ResourceNotFoundException", f"Event source mapping not found: {mapping}",
    )  # fmt: skip
    assert error_of(client.tag_resource, Resource=arn, Tags={})[:2] == (400, "ValidationException")
    assert error_of(client.untag_resource, Resource=arn, TagKeys=[])[:2] == (400, "ValidationException")
    for resource in ("plain", "arn:aws:s3:::bucket", f"{arn}:a b"):
        assert error_of(client.list_tags, Resource=resource)[:2] == (400, "ValidationException")
    elsewhere = arn.replace("us-east-1", "eu-west-1")
    assert error_of(client.list_tags, Resource=elsewhere)[:2] == (404, "ResourceNotFoundException")


def test_a_function_has_no_code_signing_configuration(cluster: Cluster) -> None:
    client = cluster.client()
    cluster.create("unsigned", CODE)
    answer = client.get_function_code_signing_config(FunctionName="unsigned")
    assert answer["FunctionName"] == "unsigned"
    assert "CodeSigningConfigArn" not in answer
    missing = error_of(client.get_function_code_signing_config, FunctionName="nobody")
    assert missing[:2] == (404, "ResourceNotFoundException")
