"""What several commands ask for, declared once."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import typer

DB_DEFAULT = "undercroft.db"

Db: TypeAlias = Annotated[
    str,
    typer.Option(
        "--db",
        metavar="FILE",
        envvar="UNDERCROFT_DB",
        help="The journal.",
    ),
]
Json: TypeAlias = Annotated[
    bool, typer.Option("--json", metavar="", help="Print one JSON document, for programs.")
]
Model: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="APP:MODEL",
        help="The model client that handlers ask, or what makes one: app.py:model.",
    ),
]
Targets: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--target",
        metavar="APP:FLOW",
        help="Where the code of the turn is, if it cannot be imported from here. Repeatable.",
    ),
]
Secrets: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--secrets",
        metavar="FILE",
        envvar="UNDERCROFT_SECRETS",
        help="A JSON list of secret values: never written, and put back where a turn needs them.",
        show_default=False,
    ),
]
Turn: TypeAlias = Annotated[
    str,
    typer.Argument(
        metavar="TURN",
        help="A turn's id, the beginning of it, or `last`.",
        show_default=False,
    ),
]
Step: TypeAlias = Annotated[
    str | None,
    typer.Argument(
        metavar="STEP",
        help="The step, such as gate.6; may be left out where there is only one.",
        show_default=False,
    ),
]
By: TypeAlias = Annotated[
    str, typer.Option("--by", metavar="NAME", help="Who says so, for the record.")
]
Reason: TypeAlias = Annotated[
    str, typer.Option("--reason", metavar="TEXT", help="Why, for the record.", show_default=False)
]
