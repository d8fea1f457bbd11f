"""How the queue's keys in Redis are called. Keys of one tenant share a hash tag. docs/reference/queue.md shows how to
read them.

lambent:{ACCOUNT:REGION}:async                sorted set: queue → when something in it can be leased, milliseconds
lambent:{ACCOUNT:REGION}:async:lease          counter of leases
lambent:{ACCOUNT:REGION}:async:names          set of queues that have had dead items
lambent:{ACCOUNT:REGION}:async:paused         hash: queue → since when it is paused, milliseconds
lambent:{ACCOUNT:REGION}:async:priorities     hash: queue → its priority, where it is not 0
lambent:{ACCOUNT:REGION}:async:NAME:fresh     list of ids that were never leased, oldest first
lambent:{ACCOUNT:REGION}:async:NAME:delayed   sorted set: id → when it can be leased again, milliseconds
lambent:{ACCOUNT:REGION}:async:NAME:leased    sorted set: id → end of its lease, milliseconds
lambent:{ACCOUNT:REGION}:async:NAME:tokens    hash: id → token of its lease
lambent:{ACCOUNT:REGION}:async:NAME:values    hash: id → the item
lambent:{ACCOUNT:REGION}:async:NAME:states    hash: id → how far it has come
lambent:{ACCOUNT:REGION}:async:NAME:dead      sorted set: id → when it was given up, milliseconds
lambent:{ACCOUNT:REGION}:async:NAME:dedup:TOKEN
                                              string: until when a token is kept, milliseconds, and the id it stands for
lambent:async-tenants                         set of ACCOUNT:REGION: every tenant that may have queues
lambent:async-wakes                           channel: "ACCOUNT:REGION NAME" when a queue gets its first fresh item
"""

from __future__ import annotations

from pathlib import Path

from lambent.domain.names import Tenant

TENANTS, WAKES = "lambent:async-tenants", "lambent:async-wakes"


def index(tenant: Tenant) -> str:
    """A tenant's index of queues."""
    return f"lambent:{tenant.tag}:async"


def of_tenant(tenant: Tenant, part: str) -> str:
    """What a tenant has beside its queues."""
    return f"{index(tenant)}:{part}"


def of_queue(tenant: Tenant, name: str, *parts: str) -> list[str]:
    """The parts of one queue."""
    return [f"{index(tenant)}:{name}:{part}" for part in parts]


def of_token(tenant: Tenant, name: str, token: str) -> str:
    """What is kept of a token of one queue."""
    return f"{index(tenant)}:{name}:dedup:{token}"


def milliseconds(seconds: float) -> str:
    """Times as scripts take them."""
    return str(int(seconds * 1000))


def script(name: str) -> str:
    """A script behind what scripts share; a first line that says how it is to be run stays the first."""
    folder = Path(__file__).parent
    text = (folder / f"{name}.lua").read_text()
    first, _, rest = text.partition("\n") if text.startswith("#!") else ("", "", text)
    shared = (folder / "enqueue.lua").read_text() if "enqueue(" in rest or "announce(" in rest else ""
    return f"{first}\n{shared}{rest}".lstrip("\n")
