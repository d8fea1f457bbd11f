"""PermissionService: who beside a function's own account may invoke it; and the answer to those who want to.

What statements mean is decided by lambent/domain/policies.py.
"""

from __future__ import annotations

from lambent.domain import policies
from lambent.domain.clock import Ids
from lambent.domain.concurrency import ConcurrencyState
from lambent.domain.errors import AwsError, invalid_parameter
from lambent.domain.functions import Function
from lambent.domain.limits import Limits
from lambent.domain.names import LATEST, FunctionRef, function_arn, not_found, parse
from lambent.domain.policies import INVOKE, Policy, Statement, denied
from lambent.infra.functions.port import NOBODY, Edit, FunctionStore
from lambent.v1 import permission_service_pb2 as pb
from services.frontend.operations.editing import Editor
from services.frontend.operations.lookups import check_revision
from services.frontend.operations.provisioner import check_exists
from services.frontend.transport.call import Call

_Request = pb.AddPermissionRequest | pb.RemovePermissionRequest | pb.GetPolicyRequest


class PermissionOperations:
    """The operations of lambent.v1.PermissionService."""

    def __init__(self, *, store: FunctionStore, editor: Editor, limits: Limits, ids: Ids) -> None:
        self._store = store
        self._editor = editor
        self._limits = limits
        self._ids = ids

    async def add_permission(self, request: pb.AddPermissionRequest, call: Call) -> pb.AddPermissionResponse:
        """Allow one thing more."""
        ref = _ref(request, call)
        statement = Statement(request.statement_id, request.action, request.principal, _conditions(request))
        revision_id = self._ids.uuid()

        def decide(function: Function, settings: ConcurrencyState) -> Edit:
            check_exists(function, _scope(ref))
            before = function.policies.get(_scope(ref))
            _check_revision(before, request)
            after = policies.add(before, statement, ref.arn, revision_id, self._limits.policy_bytes)
            return Edit(ref.tenant, ref.name, NOBODY, policies={_scope(ref): after})

        await self._editor.edit(ref, decide)
        return pb.AddPermissionResponse(statement=statement.text(ref.arn))

    async def remove_permission(self, request: pb.RemovePermissionRequest, call: Call) -> pb.RemovePermissionResponse:
        """Allow something no more."""
        ref = _ref(request, call)
        revision_id = self._ids.uuid()

        def decide(function: Function, settings: ConcurrencyState) -> Edit:
            before = function.policies.get(_scope(ref))
            _check_revision(before, request)
            after = policies.remove(before, request.statement_id, revision_id)
            return Edit(ref.tenant, ref.name, NOBODY, policies={_scope(ref): after})

        if await self._store.get(ref.tenant, ref.name) is None:
            raise AwsError("ResourceNotFoundException", f"No policy found for: {function_arn(ref.tenant, ref.name)}")
        await self._editor.edit(ref, decide)
        return pb.RemovePermissionResponse()

    async def get_policy(self, request: pb.GetPolicyRequest, call: Call) -> pb.GetPolicyResponse:
        """What is allowed."""
        ref = _ref(request, call)
        function = await self._store.find(ref.tenant, ref.name, _scope(ref))
        if function is None:
            raise not_found(ref)
        policy = function.policies.get(_scope(ref))
        if policy is None:
            raise AwsError("ResourceNotFoundException", "The resource you requested does not exist.")
        return pb.GetPolicyResponse(policy=policy.text(ref.arn), revision_id=policy.revision_id)


class Guests:
    """Lets callers of other accounts in where a policy does."""

    def __init__(self, store: FunctionStore) -> None:
        self._store = store

    async def admit(self, ref: FunctionRef, call: Call, action: str = INVOKE) -> None:
        """Raises AccessDeniedException where a caller may not invoke another account's function, also where there is
        none: a tenant learns of another's only what it was allowed. `action`: what the policy has to allow."""
        function = await self._store.find(ref.tenant, ref.name, _scope(ref))
        # No policy can be set for $LATEST by that name.
        policy = None if function is None or ref.qualifier == LATEST else function.policies.get(_scope(ref))
        if policy is None or not policy.allows(action, call.principal):
            raise denied(call.principal, action, ref.arn)


def _ref(request: _Request, call: Call) -> FunctionRef:
    ref = parse(request.function_name, request.qualifier if request.HasField("qualifier") else None, call.tenant)
    if ref.qualifier == LATEST:
        raise invalid_parameter("We currently do not support adding policies for $LATEST.")
    return ref


def _scope(ref: FunctionRef) -> str:
    """Under which name the policy is kept that invocations in this form are allowed by."""
    return ref.qualifier or LATEST


def _conditions(request: pb.AddPermissionRequest) -> tuple[tuple[str, str, str], ...]:
    found = [
        ("ArnLike", "AWS:SourceArn", request.source_arn),
        ("StringEquals", "AWS:SourceAccount", request.source_account),
        ("StringEquals", "lambda:EventSourceToken", request.event_source_token),
        ("StringEquals", "aws:PrincipalOrgID", request.principal_org_id),
        ("StringEquals", "lambda:FunctionUrlAuthType", request.function_url_auth_type),
        ("Bool", "lambda:InvokedViaFunctionUrl", "true" if request.invoked_via_function_url else ""),
    ]
    return tuple(condition for condition in found if condition[2])


def _check_revision(before: Policy | None, request: pb.AddPermissionRequest | pb.RemovePermissionRequest) -> None:
    expected = request.revision_id if request.HasField("revision_id") else None
    check_revision(None if before is None else before.revision_id, expected, "GetPolicy")
