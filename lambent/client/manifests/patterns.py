"""Which files a package has: patterns as the Serverless Framework reads them, the last that fits decides.

`**` stands for any folders, `*` for any part of a name, `{a,b}` for one of several; `!` before a pattern leaves out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

# Never part of a package unless a pattern says so.
LEFT_OUT = (
    "!.gitignore", "!.DS_Store", "!npm-debug.log", "!serverless.y*ml", "!serverless.json", "!.serverless/**", "!.env*",
    "!.serverless_plugins/**", "!node_modules/.bin/**",
)  # fmt: skip

_PARTS = re.compile(r"\*\*/|\*\*|\*|\?|\{|\}|,|\[!?[^\]/]*\]|.", re.DOTALL)


def chooser(patterns: Iterable[str]) -> Callable[[str], bool]:
    """Whether a file is in, by its name relative to the root. All are that no pattern fits."""
    rules = [(not each.startswith("!"), _compiled(each.removeprefix("!").removeprefix("./"))) for each in patterns]

    def chosen(name: str) -> bool:
        return next((keep for keep, fits in reversed(rules) if fits.fullmatch(name)), True)

    return chosen


def _compiled(pattern: str) -> re.Pattern[str]:
    depth, text = 0, ""
    for part in _PARTS.findall(pattern):
        match part:
            case "**/":
                text += "(?:.*/)?"
            case "**":
                text += ".*"
            case "*":
                text += "[^/]*"
            case "?":
                text += "[^/]"
            case "{":
                depth, text = depth + 1, text + "(?:"
            case "}" if depth:
                depth, text = depth - 1, text + ")"
            case "," if depth:
                text += "|"
            case _ if len(part) > 1:
                inner = part[1:-1].replace("\\", "\\\\")
                text += f"[^{inner[1:]}]" if inner.startswith("!") else f"[{inner}]"
            case _:
                text += re.escape(part)
    # A folder's name stands for all that is in it.
    return re.compile(text + ")" * depth + "(?:/.*)?", re.DOTALL)
