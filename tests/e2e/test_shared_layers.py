"""One account's layer in another account's functions, where the policy of the layer's version lets it."""

from __future__ import annotations

import json
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import OTHER_KEY, OTHER_SECRET
from tests.e2e.harness import ROLE, Cluster, code_blocks, error_of, run, zipped

ROOT = Path(__file__).resolve().parents[2]
OTHER = "111111111111"
USER = f"arn:aws:iam::{OTHER}:user/{OTHER_KEY}"
ARN = "arn:aws:lambda:us-east-1:000000000000:layer:"
GET = "lambda:GetLayerVersion"
CODE = zipped({"app.py": "def handler(event, context):\n    import told\n    return told.NAME\n"})
BARE = zipped({"app.py": "def handler(event, context):\n    return None\n"})


@pytest.fixture
def other(cluster: Cluster) -> Any:
    return cluster.client(key=OTHER_KEY, secret=OTHER_SECRET)


def publish(client: Any, name: str, says: str = "shared") -> int:
    package = zipped({"python/told.py": f"NAME = {says!r}\n"})
    number: int = client.publish_layer_version(LayerName=name, Content={"ZipFile": package})["Version"]
    return number


def create(client: Any, name: str, package: bytes = CODE, **configuration: Any) -> None:
    client.create_function(
        FunctionName=name, Runtime="python3.11", Role=ROLE, Handler="app.handler", Code={"ZipFile": package},
        **configuration,
    )  # fmt: skip
    client.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 0.05, "MaxAttempts": 200})


def updated(client: Any, name: str) -> None:
    client.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig={"Delay": 0.05, "MaxAttempts": 200})


def said(client: Any, name: str) -> Any:
    answer = client.invoke(FunctionName=name)
    document = json.loads(answer["Payload"].read())
    assert "FunctionError" not in answer, document
    return document


def denied(arn: str, action: str = GET) -> tuple[int, str, str]:
    return (
        403, "AccessDeniedException",
        f"User: {USER} is not authorized to perform: {action} on resource: {arn} "
        f"because no resource-based policy allows the {action} action",
    )  # fmt: skip


def test_a_policy_is_written_read_and_removed(cluster: Cluster) -> None:
    client = cluster.client()
    publish(client, "written")
    of, arn = {"LayerName": "written", "VersionNumber": 1}, f"{ARN}written:1"
    none = (404, "ResourceNotFoundException", "No policy is associated with the given resource.")
    assert error_of(client.get_layer_version_policy, **of) == none
    assert error_of(client.remove_layer_version_permission, **of, StatementId="a") == none

    added = client.add_layer_version_permission(**of, StatementId="a", Action=GET, Principal=OTHER)
    assert added["ResponseMetadata"]["HTTPStatusCode"] == 201
    statement = {
        "Sid": "a", "Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{OTHER}:root"}, "Action": GET,
        "Resource": arn,
    }  # fmt: skip
    assert json.loads(added["Statement"]) == statement
    found = client.get_layer_version_policy(**of)
    assert json.loads(found["Policy"]) == {"Version": "2012-10-17", "Id": "default", "Statement": [statement]}
    assert found["RevisionId"] == added["RevisionId"] == str(uuid.UUID(added["RevisionId"]))

    again = error_of(client.add_layer_version_permission, **of, StatementId="a", Action=GET, Principal="*")
    assert again == (
        409, "ResourceConflictException",
        "The statement id (a) provided already exists. Please provide a new statement id, or remove the existing "
        "statement.",
    )  # fmt: skip
    all_of = {"StatementId": "b", "Action": GET, "Principal": "*", "OrganizationId": "o-1234567890"}
    second = client.add_layer_version_permission(
        LayerName=f"{ARN}written", VersionNumber=1, **all_of, RevisionId=found["RevisionId"]
    )
    told = json.loads(second["Statement"])
    assert (told["Principal"], told["Condition"]) == ("*", {"StringEquals": {"aws:PrincipalOrgID": "o-1234567890"}})
    assert second["RevisionId"] != added["RevisionId"]
    stale = {"StatementId": "b", "RevisionId": added["RevisionId"]}
    assert error_of(client.remove_layer_version_permission, **of, **stale) == (
        412, "PreconditionFailedException",
        "The Revision Id provided does not match the latest Revision Id. "
        "Call the GetLayerPolicy API to retrieve the latest Revision Id",
    )  # fmt: skip
    gone = error_of(client.remove_layer_version_permission, **of, StatementId="c")
    assert gone == (404, "ResourceNotFoundException", "Statement c is not found in resource policy.")
    removed = client.remove_layer_version_permission(**of, StatementId="b", RevisionId=second["RevisionId"])
    assert removed["ResponseMetadata"]["HTTPStatusCode"] == 204
    assert client.get_layer_version_policy(**of)["RevisionId"] not in (added["RevisionId"], second["RevisionId"])
    client.remove_layer_version_permission(**of, StatementId="a")
    assert error_of(client.get_layer_version_policy, **of) == none


def test_permissions_that_come_at_once_are_all_kept(cluster: Cluster) -> None:
    client = cluster.client()
    publish(client, "busy")
    of = {"LayerName": "busy", "VersionNumber": 1}
    sids = {f"s{number}" for number in range(40)}
    with ThreadPoolExecutor(8) as threads:
        add = client.add_layer_version_permission
        list(threads.map(lambda sid: add(**of, StatementId=sid, Action=GET, Principal=OTHER), sids))
    statements = json.loads(client.get_layer_version_policy(**of)["Policy"])["Statement"]
    assert {each["Sid"] for each in statements} == sids


def test_policies_that_cannot_be(cluster: Cluster) -> None:
    client = cluster.client(validation=False)
    publish(client, "strict")
    good = {"LayerName": "strict", "VersionNumber": 1, "StatementId": "s", "Action": GET, "Principal": OTHER}
    missing = (404, "ResourceNotFoundException", f"Layer version {ARN}strict:2 does not exist.")
    for changed, expected in (
        ({"Action": "lambda:*"}, (400, "ValidationException")),
        ({"Action": "lambda:InvokeFunction"}, (400, "ValidationException")),
        ({"Principal": "nobody"}, (400, "ValidationException")),
        ({"Principal": USER}, (400, "ValidationException")),
        ({"Principal": "sns.amazonaws.com"}, (400, "ValidationException")),
        ({"StatementId": "a b"}, (400, "ValidationException")),
        ({"Principal": "*", "OrganizationId": "mine"}, (400, "ValidationException")),
        ({"OrganizationId": "o-1234567890"}, (400, "InvalidParameterValueException")),
        ({"LayerName": "no name"}, (400, "ValidationException")),
        ({"VersionNumber": 0}, (400, "InvalidParameterValueException", "Layer Version Cannot be less than 1")),
        ({"VersionNumber": 2}, missing),
        ({"LayerName": "nothing"}, (404, "ResourceNotFoundException", f"Layer version {ARN}nothing:1 does not exist.")),
        ({"LayerName": f"{ARN}strict".replace("us-east-1", "eu-west-1")}, (404, "ResourceNotFoundException")),
        ({"RevisionId": "x"}, (412, "PreconditionFailedException")),
    ):
        got = error_of(client.add_layer_version_permission, **{**good, **changed})
        assert got[: len(expected)] == expected, changed
    assert error_of(client.get_layer_version_policy, LayerName="strict", VersionNumber=1)[0] == 404, "nothing was kept"
    for look, more in (
        (client.get_layer_version_policy, {}),
        (client.remove_layer_version_permission, {"StatementId": "s"}),
    ):
        assert error_of(look, LayerName="strict", VersionNumber=2, **more) == missing
        assert error_of(look, LayerName="strict", VersionNumber=-1, **more)[:2] == (
            400,
            "InvalidParameterValueException",
        )

    def add_many() -> None:
        for number in range(200):
            client.add_layer_version_permission(**good | {"StatementId": f"{'x' * 96}{number}"})

    assert error_of(add_many)[:2] == (400, "PolicyLengthExceededException")


def test_another_account_has_what_it_was_allowed_and_nothing_else(cluster: Cluster, other: Any) -> None:
    client = cluster.client()
    for says in ("one", "two"):
        publish(client, "lent", says)
    lent, by_arn = f"{ARN}lent:1", other.get_layer_version_by_arn
    create(other, "borrows", BARE)
    update = other.update_function_configuration
    for arn in (lent, f"{ARN}lent:9", f"{ARN}nothing:1"):
        assert error_of(by_arn, Arn=arn) == denied(arn), "that there is one is not told"
        assert error_of(update, FunctionName="borrows", Layers=[arn]) == denied(arn)

    client.add_layer_version_permission(
        LayerName="lent", VersionNumber=1, StatementId="s", Action=GET, Principal=f"arn:aws:iam::{OTHER}:root"
    )
    got = by_arn(Arn=lent)
    assert (got["LayerVersionArn"], got["Version"]) == (lent, 1)
    assert other.get_layer_version(LayerName=f"{ARN}lent", VersionNumber=1)["LayerVersionArn"] == lent
    assert error_of(other.get_layer_version, LayerName="lent", VersionNumber=1)[:2] == (
        404,
        "ResourceNotFoundException",
    )
    create(other, "created", Layers=[lent])
    assert said(other, "created") == "one"
    other.update_function_code(FunctionName="borrows", ZipFile=CODE)
    updated(other, "borrows")
    update(FunctionName="borrows", Layers=[lent])
    updated(other, "borrows")
    assert said(other, "borrows") == "one"
    assert other.get_account_settings()["AccountUsage"]["TotalCodeSize"] < 10_000

    assert error_of(by_arn, Arn=f"{ARN}lent:2") == denied(f"{ARN}lent:2"), "each version has a policy of its own"
    elsewhere = cluster.client(key=OTHER_KEY, secret=OTHER_SECRET, region="eu-west-1")
    assert error_of(elsewhere.get_layer_version_by_arn, Arn=lent) == denied(lent)
    there = {
        "FunctionName": "there",
        "Runtime": "python3.11",
        "Role": ROLE,
        "Handler": "app.handler",
        "Code": {"ZipFile": CODE},
    }
    assert "expected to be in region eu-west-1" in error_of(elsewhere.create_function, **there, Layers=[lent])[2]
    version = {"LayerName": f"{ARN}lent", "VersionNumber": 1}
    for call, action, more in (
        (other.delete_layer_version, "DeleteLayerVersion", version),
        (other.list_layer_versions, "ListLayerVersions", {"LayerName": f"{ARN}lent"}),
        (other.publish_layer_version, "PublishLayerVersion", {"LayerName": f"{ARN}lent", "Content": {"ZipFile": CODE}}),
        (other.get_layer_version_policy, "GetLayerVersionPolicy", version),
        (other.remove_layer_version_permission, "RemoveLayerVersionPermission", version | {"StatementId": "s"}),
        (
            other.add_layer_version_permission, "AddLayerVersionPermission",
            version | {"StatementId": "t", "Action": GET, "Principal": "*"},
        ),
    ):  # fmt: skip
        assert error_of(call, **more) == denied(f"{ARN}lent", f"lambda:{action}")
    assert "lent" not in {each["LayerName"] for each in other.list_layers()["Layers"]}

    client.remove_layer_version_permission(LayerName="lent", VersionNumber=1, StatementId="s")
    assert error_of(by_arn, Arn=lent) == denied(lent)
    assert error_of(update, FunctionName="borrows", Layers=[lent]) == denied(lent)
    update(FunctionName="borrows", Timeout=7)  # of the next environments
    updated(other, "borrows")
    assert said(other, "borrows") == "one"
    client.delete_layer_version(LayerName="lent", VersionNumber=1)
    update(FunctionName="borrows", Timeout=8)
    updated(other, "borrows")
    assert said(other, "borrows") == "one"
    assert [each["Arn"] for each in other.get_function_configuration(FunctionName="borrows")["Layers"]] == [lent]
    for name in ("borrows", "created"):
        other.delete_function(FunctionName=name)


def test_everybody_is_let_in_but_for_organizations_and_deleted_versions(cluster: Cluster, other: Any) -> None:
    client = cluster.client()
    publish(client, "open")
    of, arn = {"LayerName": "open", "VersionNumber": 1}, f"{ARN}open:1"
    client.add_layer_version_permission(
        **of, StatementId="org", Action=GET, Principal="*", OrganizationId="o-1234567890"
    )
    assert error_of(other.get_layer_version_by_arn, Arn=arn) == denied(arn), "nobody here is of an organization"
    client.add_layer_version_permission(**of, StatementId="all", Action=GET, Principal="*")
    assert other.get_layer_version_by_arn(Arn=arn)["Version"] == 1
    client.delete_layer_version(**of)
    assert error_of(other.get_layer_version_by_arn, Arn=arn) == denied(arn)
    missing = (404, "ResourceNotFoundException", f"Layer version {arn} does not exist.")
    assert error_of(client.get_layer_version_policy, **of) == missing


def test_the_page_on_layers_shows_how_to_share(cluster: Cluster, other: Any) -> None:
    publish(cluster.client(), "requests")
    create(other, "theirs")
    page = (ROOT / "docs/howto/layers.md").read_text()
    share, use, take_back = code_blocks(page[page.index("## Share a layer") :], "sh")
    theirs = {"AWS_ACCESS_KEY_ID": OTHER_KEY, "AWS_SECRET_ACCESS_KEY": OTHER_SECRET}
    for block, keys in ((share, {}), (use, theirs), (take_back, {})):
        done = run("bash", "-ec", block, env=cluster.environment | keys)
        assert done.returncode == 0, f"{block}\n{done.stdout}{done.stderr}"
        updated(other, "theirs")
    assert said(other, "theirs") == "shared"
    assert error_of(other.get_layer_version_by_arn, Arn=f"{ARN}requests:1")[0] == 403
    other.delete_function(FunctionName="theirs")
