"""Where packages and logs are kept, as the settings say."""

from __future__ import annotations

from lambent.domain.clock import Clock
from lambent.infra.code_store import CodeStore, DirectoryCodeStore
from lambent.infra.layout import Layout
from lambent.infra.log_files import DirectoryLogStore
from lambent.infra.log_store import LogStore
from lambent.infra.redis_client import connect_for_threads
from lambent.infra.redis_code import RedisCodeStore
from lambent.infra.redis_logs import RedisLogStore
from lambent.infra.settings import Settings


def code_store(settings: Settings, layout: Layout) -> CodeStore:
    """The store of packages and layers."""
    if settings.storage.code == "redis":
        return RedisCodeStore(connect_for_threads(settings.cluster.redis_url))
    return DirectoryCodeStore(layout.code)


def log_store(settings: Settings, layout: Layout, writer: str, clock: Clock) -> LogStore:
    """The store of logs. `writer`: unique among live processes."""
    days = settings.timing.log_days
    if settings.storage.logs == "redis":
        client = connect_for_threads(settings.cluster.redis_url)
        group_bytes = settings.storage.log_group_mb * 1024 * 1024
        return RedisLogStore(client, clock, keep_days=days, group_bytes=group_bytes)
    return DirectoryLogStore(layout.logs, writer, keep_days=days)
