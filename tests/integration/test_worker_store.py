"""Workers without a store: packages from, and logs to, a frontend's door, over real gRPC, with and without TLS."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import grpc
import pytest

from lambent.domain.errors import AwsError
from lambent.domain.names import Tenant
from lambent.infra import rpc
from lambent.infra.authority import Pair, issue, make_authority
from lambent.infra.certificates import Certificates, CertificatesError, certificates
from lambent.infra.code_store import MemoryCodeStore
from lambent.infra.log_store import LogChunk, MemoryLogStore
from lambent.internal.v1 import worker_store_service_pb2 as pb
from lambent.internal.v1 import worker_store_service_pb2_grpc as pb_grpc
from services.frontend.transport.store_door import PIECE_BYTES, StoreDoor
from services.worker.store_client import WAITING_BYTES, StoreClient
from tests.conftest import free_port

TOKEN = "the cluster's secret"
ONE = Tenant("000000000001", "us-east-1")
PATIENCE = 20.0


def write(folder: Path, authority: Pair) -> Path:
    """Certificates of an authority, as a Secret is mounted."""
    issued = issue(authority)
    folder.mkdir(exist_ok=True)
    for name, data in {"tls.crt": issued.certificate, "tls.key": issued.key, "ca.crt": authority.certificate}.items():
        partial = folder / f".{name}"
        partial.write_bytes(data)
        partial.rename(folder / name)
    return folder


class WatchedLogs(MemoryLogStore):
    """Says when something has been written, which the door does in a thread."""

    def __init__(self) -> None:
        super().__init__()
        self.written = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def flush(self) -> None:
        super().flush()
        self._loop.call_soon_threadsafe(self.written.set)


class Door:
    """A door that can be closed and opened again."""

    def __init__(self, tls: Certificates | None) -> None:
        self.address = f"127.0.0.1:{free_port()}"
        self.tls = tls
        self.code, self.logs = MemoryCodeStore(), WatchedLogs()
        self._door: StoreDoor | None = None

    async def open(self) -> None:
        self._door = StoreDoor(self.address, TOKEN, self.code, self.logs, self.tls)
        await self._door.start()

    async def close(self) -> None:
        if self._door is not None:
            await self._door.close()

    async def until(self, condition: Callable[[list[str]], bool]) -> None:
        """Wait until the lines are such."""
        async with asyncio.timeout(PATIENCE):
            while not condition(self.lines()):
                self.logs.written.clear()
                await self.logs.written.wait()

    def lines(self) -> list[str]:
        return [line for chunk in self.logs.read(ONE, "/g")[0] for line in chunk.lines]


@pytest.fixture(params=["plain", "tls"])
async def door(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Door]:
    tls = Certificates(write(tmp_path / "tls", make_authority())) if request.param == "tls" else None
    made = Door(tls)
    await made.open()
    yield made
    await made.close()


@pytest.fixture
async def store(door: Door) -> AsyncIterator[StoreClient]:
    client = StoreClient(door.address, TOKEN, door.tls, random.Random(1))
    client.start()
    yield client
    await client.close(0.1)


def chunk(number: int, text: str = "") -> LogChunk:
    return LogChunk(number, "stream", "r", [text or f"line {number}"], "f")


async def test_packages_come_whole_and_unknown_ones_not_at_all(door: Door, store: StoreClient) -> None:
    package = random.Random(2).randbytes(3 * PIECE_BYTES + 17)
    digest, empty = door.code.put(package), door.code.put(b"")
    assert await asyncio.to_thread(store.get, digest) == package
    assert await asyncio.to_thread(store.get, empty) == b""
    with pytest.raises(KeyError):
        await asyncio.to_thread(store.get, "00" * 32)


async def test_logs_arrive_in_order_also_those_written_while_no_frontend_was_there(
    door: Door, store: StoreClient
) -> None:
    store.append(ONE, "/g", chunk(1))
    store.flush()
    await door.until(lambda lines: lines == ["line 1"])
    await door.close()
    for number in (2, 3):
        store.append(ONE, "/g", chunk(number))
        store.flush()
    with pytest.raises(AwsError, match="no frontend gives packages"):
        await asyncio.to_thread(store.get, "00" * 32)
    await door.open()
    await door.until(lambda lines: lines == ["line 1", "line 2", "line 3"])
    store.append(ONE, "/g", chunk(4))
    await store.close(PATIENCE)
    assert door.lines()[-1] == "line 4"


async def test_of_logs_that_cannot_be_sent_for_long_the_newest_are_kept(door: Door, store: StoreClient) -> None:
    await door.close()
    each, count = WAITING_BYTES // 8, 20
    for number in range(count):
        store.append(ONE, "/g", chunk(number, f"{number} " + "x" * each))
        store.flush()
    await door.open()
    await door.until(lambda lines: bool(lines) and lines[-1].startswith(f"{count - 1} "))
    kept = [int(line.split()[0]) for line in door.lines()]
    assert kept == list(range(count - len(kept), count))
    assert len(kept) < count / 2


async def test_who_does_not_know_the_token_gets_nothing(door: Door) -> None:
    stranger = StoreClient(door.address, "guessed", door.tls, random.Random(1))
    stranger.start()
    with pytest.raises(AwsError, match="the cluster's token is missing or wrong"):
        await asyncio.to_thread(stranger.get, door.code.put(b"package"))
    await stranger.close(0.0)


async def test_peers_without_a_certificate_of_this_authority_are_refused(tmp_path: Path) -> None:
    ours = Certificates(write(tmp_path / "ours", make_authority()))
    others = Certificates(write(tmp_path / "others", make_authority()))
    door = Door(ours)
    await door.open()
    digest = door.code.put(b"package")
    for tls in (others, None):
        stranger = StoreClient(door.address, TOKEN, tls, random.Random(1))
        stranger.start()
        with pytest.raises(AwsError, match="no frontend gives packages"):
            await asyncio.to_thread(stranger.get, digest)
        await stranger.close(0.0)
    await door.close()


async def test_certificates_of_a_new_authority_are_used_without_a_restart(tmp_path: Path) -> None:
    """gRPC and plain sockets alike: who listens and who dials read the folder again."""
    folder = write(tmp_path / "tls", make_authority())
    tls = Certificates(folder)
    door = Door(tls)
    await door.open()
    digest = door.code.put(b"package")
    echo = await asyncio.start_server(_echo, "127.0.0.1", 0, ssl=tls.listening())
    port = echo.sockets[0].getsockname()[1]
    for _ in range(3):
        write(folder, make_authority())
        fresh = Certificates(folder)  # of a process that started now
        client = StoreClient(door.address, TOKEN, fresh, random.Random(1))
        client.start()
        assert await asyncio.to_thread(client.get, digest) == b"package"
        await client.close(0.0)
        assert await _said(port, fresh) == b"hello"
        assert await _said(port, tls) == b"hello"
    echo.close()
    await door.close()


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(await reader.readexactly(5))
    await writer.drain()
    writer.close()


async def _said(port: int, tls: Certificates) -> bytes:
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=tls.dialling(), server_hostname="lambent.internal"
    )
    writer.write(b"hello")
    answer = await reader.readexactly(5)
    writer.close()
    return answer


def test_certificates_that_cannot_be_used_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(CertificatesError, match=r"cannot use the certificates in .*No such file"):
        certificates(str(tmp_path / "none"))
    folder = write(tmp_path / "tls", make_authority())
    (folder / "tls.crt").write_bytes(b"no certificate")
    with pytest.raises(CertificatesError, match="cannot use the certificates"):
        certificates(str(folder))
    assert certificates("") is None


async def test_a_name_that_stands_for_nobody_is_tried_as_it_is() -> None:
    candidates = rpc.Candidates("nobody.invalid:1, 127.0.0.1:1, unix:/none")
    with pytest.raises(grpc.aio.AioRpcError):
        await candidates.ask(lambda channel: pb_grpc.WorkerStoreServiceStub(channel).AppendLogs(pb.AppendLogsRequest()))
    assert candidates.addresses == ["nobody.invalid:1", "127.0.0.1:1", "unix:/none"]
    await candidates.close()
