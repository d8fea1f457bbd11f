"""IdentityService: who a caller is."""

from __future__ import annotations

from lambent.v1 import identity_service_pb2 as pb
from services.frontend.transport.call import Call


class IdentityOperations:
    """The operations of lambent.v1.IdentityService."""

    async def get_caller_identity(
        self, request: pb.GetCallerIdentityRequest, call: Call
    ) -> pb.GetCallerIdentityResponse:
        """Who calls."""
        who = call.principal
        user_id = who.account if who.arn.endswith(":root") else who.access_key_id
        return pb.GetCallerIdentityResponse(user_id=user_id, account=who.account, arn=who.arn)
