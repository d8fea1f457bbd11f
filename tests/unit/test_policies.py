"""Policies: whom a statement allows what, and what a policy may become."""

from __future__ import annotations

import json

import pytest

from lambent.domain.errors import AwsError
from lambent.domain.policies import INVOKE, Policy, Statement, add, remove
from lambent.domain.principals import Principal

ARN = "arn:aws:lambda:us-east-1:000000000000:function:f:live"
USER = Principal("AKID", "111111111111", "arn:aws:iam::111111111111:user/ada")
SESSION = Principal("ASIA", "111111111111", "arn:aws:sts::111111111111:assumed-role/worker/f")
ROOT = Principal("AKID", "222222222222", "arn:aws:iam::222222222222:root")


@pytest.mark.parametrize(
    ("principal", "user", "session", "root"),
    [
        ("*", True, True, True),
        ("111111111111", True, True, False),
        ("arn:aws:iam::111111111111:root", True, True, False),
        ("222222222222", False, False, True),
        ("arn:aws:iam::111111111111:user/ada", True, False, False),
        ("arn:aws:iam::222222222222:user/ada", False, False, False),
        ("arn:aws:iam::111111111111:role/worker", False, True, False),
        ("arn:aws:iam::111111111111:role/some/path/worker", False, True, False),
        ("arn:aws:iam::111111111111:role/other", False, False, False),
        ("arn:aws:iam::222222222222:role/worker", False, False, False),
        ("arn:aws:sts::111111111111:assumed-role/worker/f", False, True, False),
        ("arn:aws:sts::111111111111:assumed-role/worker/g", False, False, False),
        ("s3.amazonaws.com", False, False, False),
    ],
)
def test_whom_a_statement_allows(principal: str, user: bool, session: bool, root: bool) -> None:
    statement = Statement("s", INVOKE, principal)
    assert [statement.allows(INVOKE, caller) for caller in (USER, SESSION, ROOT)] == [user, session, root]


@pytest.mark.parametrize(
    ("action", "allowed"),
    [(INVOKE, True), ("lambda:*", True), ("*", True), ("lambda:GetFunction", False), ("lambda:Invoke", False)],
)
def test_what_a_statement_allows(action: str, allowed: bool) -> None:
    assert Statement("s", action, "*").allows(INVOKE, USER) is allowed


def test_a_condition_that_callers_cannot_meet_allows_nothing() -> None:
    assert not Statement("s", "*", "*", (("StringEquals", "AWS:SourceAccount", "111111111111"),)).allows(INVOKE, USER)


def test_a_policy_is_the_document_that_iam_knows() -> None:
    conditions = (("StringEquals", "AWS:SourceAccount", "1"), ("StringEquals", "aws:PrincipalOrgID", "o"))
    policy = add(None, Statement("a", INVOKE, "s3.amazonaws.com", conditions), ARN, "r1", 1000)
    policy = add(policy, Statement("b", "*", "111111111111"), ARN, "r2", 1000)
    assert json.loads(policy.text(ARN)) == {
        "Version": "2012-10-17", "Id": "default",
        "Statement": [
            {
                "Sid": "a", "Effect": "Allow", "Principal": {"Service": "s3.amazonaws.com"}, "Action": INVOKE,
                "Resource": ARN,
                "Condition": {"StringEquals": {"AWS:SourceAccount": "1", "aws:PrincipalOrgID": "o"}},
            },
            {
                "Sid": "b", "Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::111111111111:root"}, "Action": "*",
                "Resource": ARN,
            },
        ],
    }  # fmt: skip
    assert remove(policy, "a", "r3") == Policy(policy.statements[1:], "r3")
    last = remove(policy, "b", "r3")
    assert remove(last, "a", "r4") is None, "the last one takes the policy with it"


@pytest.mark.parametrize(
    ("statement", "error", "says"),
    [
        (Statement("a", INVOKE, "*"), "ResourceConflictException", "The statement id (a) provided already exists."),
        (Statement("b", INVOKE, "nobody"), "InvalidParameterValueException", "principal was invalid"),
        (Statement("b", INVOKE, "1234"), "InvalidParameterValueException", "principal was invalid"),
        (Statement("b", INVOKE, "arn:aws:s3:::bucket"), "InvalidParameterValueException", "principal was invalid"),
        (
            Statement("b", INVOKE, "*", (("ArnLike", "AWS:SourceArn", "x" * 900),)),
            "PolicyLengthExceededException",
            "1000",
        ),
    ],
)
def test_statements_that_a_policy_does_not_take(statement: Statement, error: str, says: str) -> None:
    before = add(None, Statement("a", INVOKE, "111111111111"), ARN, "r1", 1000)
    with pytest.raises(AwsError, match=says.replace("(", r"\(").replace(")", r"\)")) as caught:
        add(before, statement, ARN, "r2", 1000)
    assert caught.value.name == error


def test_what_is_not_there_cannot_be_removed() -> None:
    with pytest.raises(AwsError, match="No policy is associated"):
        remove(None, "a", "r1")
    with pytest.raises(AwsError, match="Statement b is not found in resource policy"):
        remove(add(None, Statement("a", INVOKE, "*"), ARN, "r1", 1000), "b", "r2")
