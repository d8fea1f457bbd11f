"""What stands in a manifest for values that are elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lambent.client.manifests import documents
from lambent.client.manifests.plan import ManifestError
from lambent.client.manifests.variables import Surroundings, Variables

DOCUMENT: dict[str, Any] = {
    "service": "shop",
    "custom": {
        "stage": "${opt:stage, 'dev'}",
        "sizes": {"dev": 256, "prod": 1024},
        "size": "${self:custom.sizes.${self:custom.stage}, 128}",
        "list": ["a", "${self:service}"],
        "whole": "${self:custom.sizes}",
        "loop": "${self:custom.pool}",
        "pool": "${self:custom.loop}",
        "snake": "${self:custom.snake}x",
    },
}


def resolved(value: Any, tmp_path: Path, **options: str) -> Any:
    surroundings = Surroundings(
        "dev", "eu-west-1", "000000000000", {"HOME": "/root", "EMPTY": ""}, options, {"key": "k"}
    )
    return Variables(DOCUMENT, tmp_path, surroundings).resolved(value, "here")


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("plain", "plain"),
        ("${self:service}", "shop"),
        ("${self:service}-${sls:stage}", "shop-dev"),
        ("${self:custom.size}", 256),  # a number stays one
        ("size ${self:custom.size}", "size 256"),
        ("${self:custom.list.1}", "shop"),
        ("${self:custom.list}", ["a", "shop"]),
        ("${self:custom.whole}", {"dev": 256, "prod": 1024}),
        ("${self:custom.whole.prod}", 1024),
        ("${env:HOME}", "/root"),
        ("${env:EMPTY, 'other'}", ""),
        ("${env:NONE, 'with, comma'}", "with, comma"),
        ("${env:NONE, self:service}", "shop"),
        ("${env:NONE, ${self:custom.none, 3}}", 3),
        ("${env:NONE, 1.5}", 1.5),
        ("${env:NONE, true}", True),
        ("${env:NONE, null}", None),
        ("${env:NONE, ''}", ""),
        ("${ssm:/secret, 'default'}", "default"),
        ("${param:key}", "k"),
        ("${aws:region}/${aws:accountId}", "eu-west-1/000000000000"),
        ("${strToBool(${env:NONE, 'false'})}", False),
        ("${strToBool(1)}", True),
        # What is none of the framework's is left to whoever reads it next.
        ("${AWS::Region}", "${AWS::Region}"),
        ("${Name}", "${Name}"),
        ("arn:${AWS::Partition}:${self:service}", "arn:${AWS::Partition}:shop"),
        ("${unfinished", "${unfinished"),
        ({"a": ["${self:service}"]}, {"a": ["shop"]}),
        (7, 7),
    ],
)
def test_an_expression_stands_for_a_value(said: Any, meant: Any, tmp_path: Path) -> None:
    assert resolved(said, tmp_path) == meant


def test_options_come_before_their_fallbacks(tmp_path: Path) -> None:
    assert resolved("${self:custom.size}", tmp_path, stage="prod") == 1024
    assert resolved("${self:custom.size}", tmp_path, stage="test") == 128


def test_files_are_read_from_the_manifests_folder(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "prod.yml").write_text("db: {host: h, port: 5432, name: '${self:service}'}\n")
    (tmp_path / "plain.json").write_text('{"a": [1, {"b": null}]}')
    (tmp_path / "text.txt").write_text("as it is")
    assert resolved("${file(./more/prod.yml):db.host}", tmp_path) == "h"
    assert resolved("${file(more/${env:NONE, 'prod'}.yml):db}", tmp_path) == {"host": "h", "port": 5432, "name": "shop"}
    assert resolved("${file(plain.json):a.0}", tmp_path) == 1
    assert resolved("${file(text.txt)}", tmp_path) == "as it is"
    assert resolved("${file(absent.yml):a, 'none'}", tmp_path) == "none"


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("${self:custom.none}", "here: there is no value for ${self:custom.none}"),
        ("${env:NONE}", "there is no value for ${env:NONE}"),
        ("${ssm:/secret}", "there is no value for ${ssm:/secret}; ssm is not looked into from here"),
        ("${env:NONE, neither}", "'neither' is neither a source nor a value in quotes"),
        ("x ${self:custom.sizes}", "is no text"),
        ("${self:custom.loop}", "stands for itself"),
        ("${self:custom.snake}", "stands for itself"),
        ("${strToBool(maybe)}", "'maybe' is neither true nor false"),
        ("${file(code.js):a}", "programs are not run"),
    ],
)
def test_what_stands_for_nothing_is_told_with_its_place(said: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "code.js").touch()
    with pytest.raises(ManifestError) as caught:
        resolved(said, tmp_path)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_yaml_is_read_as_manifests_are_written(tmp_path: Path) -> None:
    path = tmp_path / "a.yml"
    path.write_text(
        "no: no\nyes: on\ndate: 2012-10-17\ntime: 12:30:45\nmode: 0755\nhex: 0x1f\nbig: 1_000\nfloat: 1.5\nnothing:\n"
        "ref: !Ref Queue\narn: !GetAtt Queue.Arn\nsub: !Sub '${AWS::Region}-x'\njoin: !Join ['-', [a, !Ref B]]\n"
        "base: &base {a: 1}\nmerged: {<<: *base, b: true}\n"
    )
    assert documents.read(path) == {
        "no": "no", "yes": "on", "date": "2012-10-17", "time": "12:30:45", "mode": 755, "hex": 31, "big": "1_000",
        "float": 1.5, "nothing": None, "ref": {"Ref": "Queue"}, "arn": {"Fn::GetAtt": ["Queue", "Arn"]},
        "sub": {"Fn::Sub": "${AWS::Region}-x"}, "join": {"Fn::Join": ["-", ["a", {"Ref": "B"}]]},
        "base": {"a": 1}, "merged": {"a": 1, "b": True},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("a.yml", "a: [1,\nb: 2", "a.yml, line 2: "),
        ("a.yml", "a: *none", "a.yml, line 1: found undefined alias"),
        ("a.yml", "a: \x00", "a.yml: "),
        ("a.json", "{", "a.json: "),
        ("a.yml", None, "a.yml: No such file"),
    ],
)
def test_what_cannot_be_read_is_told_in_one_line(name: str, text: str | None, told: str, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(ManifestError) as caught:
        documents.read(tmp_path / name)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_object_is_made_of_what_yaml_says(tmp_path: Path) -> None:
    (tmp_path / "a.yml").write_text("a: !!python/object/apply:os.system ['false']\n")
    with pytest.raises(ManifestError, match="could not determine a constructor"):
        documents.read(tmp_path / "a.yml")
