"""What functions must not reach, from the settings."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lambent.infra.config import ConfigError
from lambent.infra.settings import Internal, Settings, Telemetry, Worker
from services.worker.unreachable import unreachable


def test_whatever_of_the_platform_is_private_and_what_is_named() -> None:
    settings = replace(
        Settings(),
        cluster=replace(Settings().cluster, redis_url="redis+cluster://store,store-2:7000"),
        internal=Internal(scheduler="unix:/s, sched:9010", store="door:9003", worker="0.0.0.0:9020"),
        telemetry=Telemetry(prometheus="0.0.0.0:9090"),
        worker=Worker(unreachable="10.96.0.0/12, kubernetes.default:443,fd00::1, [fd00::2]:80, 192.0.2.1/32"),
    )
    assert unreachable(settings) == (
        ("0.0.0.0/0", 9010), ("::/0", 9010), ("0.0.0.0", 9020), ("0.0.0.0/0", 9003), ("::/0", 9003), ("store", 6379),
        ("store-2", 7000),
        ("0.0.0.0", 9090), ("0.0.0.0", 9091), ("0.0.0.0", 9092), ("0.0.0.0", 9093),
        ("10.96.0.0/12", None), ("kubernetes.default", 443), ("fd00::1", None), ("fd00::2", 80), ("192.0.2.1", None),
    )  # fmt: skip


def test_on_one_machine_it_is_the_metadata_of_a_clouds_machine_alone() -> None:
    assert unreachable(Settings()) == (("169.254.169.254", None), ("fd00:ec2::254", None))


@pytest.mark.parametrize("text", ["10.0.0.1/8", "host", "host:", "host:0", "host:99999", ":80", "a b:x"])
def test_what_is_no_place_is_said(text: str) -> None:
    with pytest.raises(ConfigError, match=r"worker.unreachable: .* is neither HOST:PORT nor an address nor a network"):
        unreachable(replace(Settings(), worker=Worker(unreachable=text)))
