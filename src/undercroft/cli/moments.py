"""Moments as people type them: a date, a date and a time, or how long ago."""

from __future__ import annotations

import datetime as dt
import re
import time
from typing import Annotated, TypeAlias

import typer

_AGO = re.compile(r"(\d{1,9}(?:\.\d{1,3})?)\s*(s|m|h|d|w)\Z")
_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


def moment(text: str, now_s: float | None = None) -> float:
    """Return seconds since 1970; a time without a zone is on the clock of this machine.

    Raises:
        ValueError: It is no moment.
    """
    ago = _AGO.match(text.strip())
    if ago is not None:
        return (time.time() if now_s is None else now_s) - float(ago[1]) * _UNITS[ago[2]]
    return dt.datetime.fromisoformat(text.strip()).timestamp()


def read_moment(text: str) -> float:
    """Return what was typed as a moment; what is none is an error of who typed it."""
    try:
        return moment(text)
    except (ValueError, OverflowError, OSError):
        wanted = "how long ago, as 30m, 2h or 7d; or a time, as 2026-01-31 or 2026-01-31T09:30"
        raise typer.BadParameter(f"{text!r} is no moment. Say {wanted}.") from None


Since: TypeAlias = Annotated[
    float | None,
    typer.Option(
        "--since",
        metavar="WHEN",
        parser=read_moment,
        help="Only from then on: 2h (ago), 2026-01-31, 2026-01-31T09:30.",
    ),
]
Until: TypeAlias = Annotated[
    float | None,
    typer.Option("--until", metavar="WHEN", parser=read_moment, help="Only before that."),
]
