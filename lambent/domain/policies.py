"""Policies of functions and of layer versions: who beside their own account may use them. Decided over plain values.

A statement allows one action to one principal. Conditions speak of what comes along with a call: that it came through
a function URL, or what services of AWS bring, of which callers of this cluster bring nothing; a statement with a
condition that does not hold allows nothing.

Sources: https://docs.aws.amazon.com/lambda/latest/dg/access-control-resource-based.html,
https://docs.aws.amazon.com/lambda/latest/api/API_AddPermission.html
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lambent.domain.errors import AwsError, conflict, invalid_parameter
from lambent.domain.principals import Principal

INVOKE = "lambda:InvokeFunction"
INVOKE_ASYNC = "lambda:InvokeAsync"
GET_LAYER_VERSION = "lambda:GetLayerVersion"
NOTHING: Mapping[str, str] = {}

# Operators of conditions whose two sides have to be the same; those of other operators never hold here.
_EQUAL = ("StringEquals", "Bool")

_SERVICE = re.compile(r"[a-z0-9.-]+\.amazonaws\.com(\.cn)?")
_ACCOUNT = re.compile(r"\d{12}")
_ARN = re.compile(r"arn:aws[a-zA-Z-]*:(iam|sts)::(\d{12}):(root|(user|role|assumed-role|federated-user)/.+)")


@dataclass(frozen=True, slots=True)
class Statement:
    """One permission."""

    sid: str
    action: str  # one action, lambda:* or *
    principal: str  # an account, an ARN, a service, or * for everybody
    # Operator, key and value of each condition; all have to hold.
    conditions: tuple[tuple[str, str, str], ...] = ()

    def document(self, arn: str) -> dict[str, Any]:
        """As IAM knows it. `arn`: of what it is for."""
        told: dict[str, Any] = {
            "Sid": self.sid,
            "Effect": "Allow",
            "Principal": _principal(self.principal),
            "Action": self.action,
            "Resource": arn,
        }
        for operator, key, value in self.conditions:
            told.setdefault("Condition", {}).setdefault(operator, {})[key] = value
        return told

    def text(self, arn: str) -> str:
        """The same as JSON."""
        return _json(self.document(arn))

    def allows(self, action: str, caller: Principal | None, told: Mapping[str, str] = NOTHING) -> bool:
        """Whether a caller may do something by it. `caller`: None for somebody unknown; `told`: what is known of the
        call, by the keys that conditions name."""
        if self.action not in ("*", "lambda:*", action):
            return False
        if not all(operator in _EQUAL and told.get(key) == value for operator, key, value in self.conditions):
            return False
        if caller is None or self.principal == "*":
            return self.principal == "*"
        match = _ARN.fullmatch(self.principal)
        account = match[2] if match is not None and match[3] == "root" else self.principal
        return (
            self.principal == caller.arn
            or account == caller.account
            or (match is not None and match[4] == "role" and _role(self.principal) == _role(caller.arn))
        )


@dataclass(frozen=True, slots=True)
class Policy:
    """All permissions of a function, a version, an alias or a layer version; at least one."""

    statements: tuple[Statement, ...]
    revision_id: str

    def text(self, arn: str) -> str:
        """The JSON document that IAM knows. `arn`: of what it is for."""
        statements = [each.document(arn) for each in self.statements]
        return _json({"Version": "2012-10-17", "Id": "default", "Statement": statements})

    def allows(self, action: str, caller: Principal | None, told: Mapping[str, str] = NOTHING) -> bool:
        """Whether a caller may do something by any of them; as of a statement."""
        return any(each.allows(action, caller, told) for each in self.statements)


def add(before: Policy | None, statement: Statement, arn: str, revision_id: str, most_bytes: int) -> Policy:
    """A policy with one statement more. `arn`: of what it is for. Raises AwsError."""
    if _principal(statement.principal) is None:
        raise invalid_parameter("The provided principal was invalid. Please check the principal and try again.")
    statements = () if before is None else before.statements
    if any(each.sid == statement.sid for each in statements):
        raise conflict(
            f"The statement id ({statement.sid}) provided already exists. "
            "Please provide a new statement id, or remove the existing statement."
        )
    after = Policy((*statements, statement), revision_id)
    size = len(after.text(arn).encode())
    if size > most_bytes:
        text = f"The final policy size ({size}) is bigger than the limit ({most_bytes})."
        raise AwsError("PolicyLengthExceededException", text)
    return after


def remove(before: Policy | None, sid: str, revision_id: str) -> Policy | None:
    """A policy without a statement; None: nothing is left. Raises AwsError."""
    if before is None:
        raise no_policy()
    left = tuple(each for each in before.statements if each.sid != sid)
    if len(left) == len(before.statements):
        raise AwsError("ResourceNotFoundException", f"Statement {sid} is not found in resource policy.")
    return Policy(left, revision_id) if left else None


def no_policy() -> AwsError:
    """AWS's answer where nothing is allowed to anybody."""
    return AwsError("ResourceNotFoundException", "No policy is associated with the given resource.")


def denied(caller: Principal, action: str, arn: str) -> AwsError:
    """AWS's answer to a caller of another account whom no policy lets in. `arn`: of what it wanted to use."""
    return AwsError(
        "AccessDeniedException",
        f"User: {caller.arn} is not authorized to perform: {action} on resource: {arn} "
        f"because no resource-based policy allows the {action} action",
    )


def account_of(arn: str) -> str | None:
    """The account of a principal. None: the ARN is of none."""
    match = _ARN.fullmatch(arn)
    return None if match is None else match[2]


def _json(document: dict[str, Any]) -> str:
    return json.dumps(document, separators=(",", ":"))


def _role(arn: str) -> tuple[str, str] | None:
    """Account and name of a role, or of the role of a session; its path is not part of a session's ARN."""
    match = _ARN.fullmatch(arn)
    if match is None or match[4] not in ("role", "assumed-role"):
        return None
    parts = match[3].split("/")
    return match[2], parts[-1] if match[4] == "role" else parts[1]


def _principal(text: str) -> str | dict[str, str] | None:
    """As a document names it; None: it is no principal."""
    if text == "*":
        return text
    if _SERVICE.fullmatch(text):
        return {"Service": text}
    if _ACCOUNT.fullmatch(text):
        return {"AWS": f"arn:aws:iam::{text}:root"}
    return {"AWS": text} if _ARN.fullmatch(text) else None
