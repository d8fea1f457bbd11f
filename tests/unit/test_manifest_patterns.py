"""Which files of a folder a package has."""

from __future__ import annotations

import pytest

from lambent.client.manifests.patterns import LEFT_OUT, chooser


@pytest.mark.parametrize(
    ("patterns", "names", "left"),
    [
        ([], ["a.py", "b/c.py"], []),
        (["!tests/**"], ["a.py"], ["tests/a.py", "tests/b/c.py"]),
        (["!tests"], ["a.py", "tests.py"], ["tests/a.py"]),
        (["!**", "src/**"], ["src/a.py", "src/b/c.py"], ["a.py", "other/src.py"]),
        (["!./data/**"], ["a.py"], ["data/x"]),
        (["!*.md"], ["docs/a.md", "a.py"], ["a.md"]),
        (["!**/*.md"], ["a.py"], ["a.md", "docs/a.md", "docs/b/c.md"]),
        (["!**/test_?.py"], ["test_10.py"], ["test_1.py", "a/test_2.py"]),
        (["!{docs,tests}/**"], ["a,b", "src/a"], ["docs/a", "tests/b"]),
        (["![ab].py"], ["c.py"], ["a.py", "b.py"]),
        (["![!ab].py"], ["a.py"], ["c.py"]),
        (["!**", "a(1).py"], ["a(1).py"], ["a1.py"]),
        (["!node_modules/**", "node_modules/left/**"], ["node_modules/left/a.js"], ["node_modules/right/a.js"]),
        (
            [*LEFT_OUT],
            ["app.py", "env.py"],
            ["serverless.yml", "serverless.yaml", ".env", ".env.dev", ".serverless/a.zip"],
        ),
        ([*LEFT_OUT, ".env"], [".env"], [".env.dev"]),
    ],
)
def test_the_last_pattern_that_fits_decides(patterns: list[str], names: list[str], left: list[str]) -> None:
    chosen = chooser(patterns)
    assert [name for name in [*names, *left] if chosen(name)] == names
