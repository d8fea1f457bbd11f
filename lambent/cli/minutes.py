"""Options that say how many minutes ago something was."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import click

# Ten years.
_MOST = 10 * 365.25 * 24 * 60


class Minutes(click.ParamType[datetime]):
    """A number of minutes; the moment that they are ago."""

    name = "minutes"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        try:
            minutes = float(str(value))
        except ValueError:
            minutes = math.nan
        if not 0 <= minutes <= _MOST:
            self.fail(f"{value!r} is not a number of minutes from 0 to {_MOST:.0f}", param, ctx)
        return datetime.now(UTC) - timedelta(minutes=minutes)
