"""The command that is given traces of anybody's system and says which layer was missing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def doctor(  # noqa: PLR0913  each parameter is one option
    *,
    traces: Annotated[
        list[str],
        typer.Argument(
            metavar="TRACE",
            help="Files, folders, or - for standard input: logs of chats, spans, runs, or a "
            "journal. Also gzipped.",
            show_default=False,
        ),
    ],
    form: Annotated[
        str | None,
        typer.Option(
            "--format", metavar="NAME", help="What format they are in; guessed if not said."
        ),
    ] = None,
    effects: Annotated[
        Path | None,
        typer.Option(
            "--effects", metavar="FILE.toml", help="What tools read and write, where names mislead."
        ),
    ] = None,
    turn: Annotated[
        str | None,
        typer.Option("--turn", metavar="ID", help="Only this run; of a journal also `last`."),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE", help="Write a page that opens in a browser, too."),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", metavar="", help="Long lists in full.")
    ] = False,
    as_json: Annotated[
        bool,
        typer.Option("--json", metavar="", help="Print a JSON object a line, one for each trace."),
    ] = False,
) -> None:
    """Say which of the six layers was missing when a run went wrong, or that none was.

    The format is guessed. One trace gets a report; several, a folder, or JSON
    lines with a trace a line get a line each, and totals.

    A layer is missing where the trace shows what it would have stopped; a
    guard fired where one of its kind did; not exercised where nothing called
    for it; and not observable where the trace cannot show it.

    Exit codes: 0 no layer was missing, 1 some was, 2 nothing could be read.
    """
    # Only here: importers and rules take as long to load as all other commands together.
    from undercroft.cli.doctor_run import Asked, run  # noqa: PLC0415

    run(
        Asked(
            traces=traces,
            form=form,
            effects=effects,
            turn=turn,
            html=html,
            everything=everything,
            as_json=as_json,
        )
    )
