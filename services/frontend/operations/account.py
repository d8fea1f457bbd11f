"""AccountService: what an account may use, and what it does."""

from __future__ import annotations

from lambent.domain.limits import Limits
from lambent.infra.functions.port import FunctionStore
from lambent.v1 import account_service_pb2 as pb
from services.frontend.transport.call import Call


class AccountOperations:
    """The operations of lambent.v1.AccountService."""

    def __init__(self, store: FunctionStore, limits: Limits) -> None:
        self._store = store
        self._limits = limits

    async def get_account_settings(
        self, request: pb.GetAccountSettingsRequest, call: Call
    ) -> pb.GetAccountSettingsResponse:
        """Limits of the caller's account in this region, and its use of them."""
        limits, tenant = self._limits, call.tenant
        settings = await self._store.settings(tenant)
        return pb.GetAccountSettingsResponse(
            account_limit=pb.AccountLimit(
                total_code_size=limits.code_storage_bytes,
                code_size_unzipped=limits.unzipped_bytes,
                code_size_zipped=limits.zip_bytes,
                concurrent_executions=limits.concurrent_executions,
                # Less than nothing is left where the limit was lowered under what is set.
                unreserved_concurrent_executions=max(0, settings.unreserved(limits.concurrent_executions)),
            ),
            account_usage=pb.AccountUsage(
                total_code_size=await self._store.code_bytes(tenant),
                function_count=await self._store.count(tenant),
            ),
        )
