"""The Python SDK: `Client` for ordinary code, `AsyncClient` for asyncio. Both speak gRPC.

from lambent.client import Client

with Client("127.0.0.1:9002", access_key="...", secret_key="...") as client:
    result = client.invoke("hello", {"name": "world"})
    print(result.json(), result.log_tail)
"""

from lambent.client.aio import AsyncClient
from lambent.client.errors import (
    AccessDenied,
    Conflict,
    InvalidRequest,
    LambentError,
    NotFound,
    ServiceFault,
    Throttled,
    Unavailable,
)
from lambent.client.results import FunctionFailed, InvokeResult, LogRecord
from lambent.client.sync import Client

__all__ = [
    "AccessDenied",
    "AsyncClient",
    "Client",
    "Conflict",
    "FunctionFailed",
    "InvalidRequest",
    "InvokeResult",
    "LambentError",
    "LogRecord",
    "NotFound",
    "ServiceFault",
    "Throttled",
    "Unavailable",
]
