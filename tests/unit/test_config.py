"""Settings from four sources."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from lambent.domain.limits import PROFILES, Limits
from lambent.infra.config import ConfigError, load, table


def test_flags_win_over_the_environment_over_the_file_over_defaults(tmp_path: Path) -> None:
    file = tmp_path / "lambent.toml"
    file.write_text('http = "127.0.0.1:1"\ngrpc = "127.0.0.1:2"\naccount = "111111111111"\n[limits]\nzip_bytes = 7\n')
    loaded = load(
        file,
        {"LAMBENT_GRPC": "127.0.0.1:3", "LAMBENT_ACCOUNT": "222222222222"},
        {"account": "333333333333", "http": None},
    )
    cluster = loaded.settings.cluster
    assert (cluster.http, cluster.grpc, cluster.account) == ("127.0.0.1:1", "127.0.0.1:3", "333333333333")
    assert loaded.settings.limits.zip_bytes == 7
    assert loaded.sources["http"] == str(file)
    assert loaded.sources["grpc"] == "LAMBENT_GRPC"
    assert loaded.sources["account"] == "--account"
    assert loaded.sources["region"] == "default"


def test_handing_the_settings_on_as_a_file_changes_nothing(tmp_path: Path) -> None:
    loaded = load(None, {"LAMBENT_TIMING_KEEP_ALIVE_SECONDS": "1.5", "LAMBENT_EXAMPLES": "false"}, {"data": "/x y"})
    file = tmp_path / "settings.toml"
    file.write_text(loaded.to_toml())
    assert load(file, {}, {}).settings == loaded.settings


@pytest.mark.parametrize(
    ("environment", "complaint"),
    [
        ({"LAMBENT_HTPP": "x"}, "did you mean LAMBENT_HTTP?"),
        ({"LAMBENT_HTTP": "nowhere"}, "http cannot be 'nowhere'"),
        ({"LAMBENT_HTTP": "127.0.0.1:65536"}, "http cannot be '127.0.0.1:65536'"),
        ({"LAMBENT_TIMING_KEEP_ALIVE_SECONDS": "nan"}, "timing.keep_alive_seconds must be a number, not nan"),
        ({"LAMBENT_REGION": "eu-west-1", "LAMBENT_REGIONS": "us-east-1,us-west-2"}, "is none of regions"),
        ({"LAMBENT_WORKER_POOL": "many"}, "worker.pool must be of type int"),
        ({"LAMBENT_TIMING_LEASE_SECONDS": "0"}, "must be at least 0.1"),
        ({"LAMBENT_ACCOUNT": "12"}, "account cannot be '12'"),
        ({"LAMBENT_ROOT_CREDENTIALS": "onlyakey"}, "root_credentials cannot be"),
    ],
    ids=["unknown", "address", "port", "number", "region", "type", "minimum", "account", "credentials"],
)
def test_what_cannot_be_is_one_line_that_says_why(environment: dict[str, str], complaint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(None, environment, {})
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_region_that_is_shown_is_one_that_is_served() -> None:
    loaded = load(None, {"LAMBENT_REGIONS": " eu-west-1, us-east-2"}, {})
    assert (loaded.settings.cluster.region, loaded.sources["region"]) == ("eu-west-1", "the first of regions")
    assert load(None, {"LAMBENT_REGIONS": "eu-west-1,us-east-1"}, {}).settings.cluster.region == "us-east-1"


def test_a_broken_or_missing_file_is_said(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("= 1")
    with pytest.raises(ConfigError, match="is not TOML"):
        load(tmp_path / "bad.toml", {}, {})
    (tmp_path / "latin.toml").write_bytes(b"data = '\xff'")
    with pytest.raises(ConfigError, match="is not TOML"):
        load(tmp_path / "latin.toml", {}, {})
    with pytest.raises(ConfigError, match="cannot read"):
        load(tmp_path / "none.toml", {}, {})


def test_every_setting_is_documented_and_named_once() -> None:
    rows = list(table())
    assert all(row.doc.endswith(".") for row in rows)
    assert len({row.variable for row in rows}) == len(rows)


def test_a_profile_of_limits_holds_where_none_is_set_by_itself() -> None:
    loaded = load(None, {"LAMBENT_LIMIT_PROFILE": "aws-2024", "LAMBENT_LIMITS_STREAMED_RESPONSE_BYTES": "7"}, {})
    limits = loaded.settings.limits
    assert (limits.async_request_bytes, limits.streamed_response_bytes) == (262_144, 7)
    assert loaded.sources["limits.async_request_bytes"] == "limit_profile aws-2024"
    assert limits.sync_request_bytes == Limits().sync_request_bytes
    with pytest.raises(ConfigError, match="limit_profile cannot be 'aws-1999'"):
        load(None, {"LAMBENT_LIMIT_PROFILE": "aws-1999"}, {})


def test_profiles_name_limits_that_there_are() -> None:
    assert set().union(*PROFILES.values()) <= {field.name for field in dataclasses.fields(Limits)}
