"""A journal as it grows: what each turn and step comes to, line by line.

Keeps: nothing is read twice, and a journal that nobody writes to costs next to nothing; one that
is not there yet is waited for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import msgspec
import typer
from rich.text import Text

from undercroft.cli.console import colour, columns, err, out, put, sign, word
from undercroft.cli.moments import Since
from undercroft.cli.options import DB_DEFAULT, Db
from undercroft.cli.plain import to_line
from undercroft.cli.safe import clock, cut, safe, took
from undercroft.layers.observability.news import Told
from undercroft.storage.following import Follower

_POLL_S = 0.2
_TURN, _STEP, _STATUS, _TOOK = 12, 22, 11, 9
_WIDE, _STEP_NARROW = 76, 14


def tail(  # noqa: PLR0913  what there is to narrow it by
    *,
    turn: Annotated[
        str | None, typer.Option("--turn", metavar="TURN", help="Only of this turn.")
    ] = None,
    session: Annotated[
        str | None, typer.Option("--session", metavar="ID", help="Only of this conversation.")
    ] = None,
    status: Annotated[
        list[str] | None,
        typer.Option(
            "--status",
            metavar="STATUS",
            help="Only what comes to this, as failed or refused. Repeatable.",
        ),
    ] = None,
    since: Since = None,
    for_s: Annotated[
        float | None,
        typer.Option("--for", metavar="SECONDS", min=0.0, help="Stop after so long."),
    ] = None,
    idle_s: Annotated[
        float | None,
        typer.Option(
            "--until-idle", metavar="SECONDS", min=0.0, help="Stop once nothing came for so long."
        ),
    ] = None,
    db: Db = DB_DEFAULT,
    as_json: Annotated[
        bool, typer.Option("--json", metavar="", help="Print one JSON object a line.")
    ] = False,
) -> None:
    """Follow a journal: each turn and step as it begins and ends. Ctrl-C ends it."""
    follower = Follower(db, turn=turn, session=session, since=since)
    wanted = frozenset(status or ())
    show = _print_json if as_json else _print
    try:
        for batch in _batches(follower, for_s, idle_s):
            show([told for told in batch if not wanted or told.status in wanted])
    except KeyboardInterrupt:
        raise typer.Exit(0) from None
    finally:
        follower.close()


def _batches(
    follower: Follower,
    for_s: float | None,
    idle_s: float | None,
    *,
    now: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[list[Told]]:
    """Yield what is new, until it is time to stop."""
    began = heard = now()
    told = False
    while True:
        found = follower.read()
        if not told and follower.missing:
            told = True
            err().print(Text(f"{safe(follower.path)} is not there yet.", style="dim"))
        if found:
            heard = now()
            yield found
        if follower.behind:
            continue
        if for_s is not None and now() - began >= for_s:
            return
        if idle_s is not None and now() - heard >= idle_s:
            return
        sleep(_POLL_S)


def _print(batch: list[Told]) -> None:
    console = out()
    width = console.width
    put(console, [_line(told, width) for told in batch])
    console.file.flush()


def _line(told: Told, width: int) -> Text:
    # What tells one turn from another is the end of its id.
    name = safe(told.turn_id)
    step = _STEP if width >= _WIDE else _STEP_NARROW
    room = width - 10 - _TURN - 2 - step - _STATUS - _TOOK
    return columns(
        (Text(clock(told.at), style="dim"), 10),
        (Text(f"…{name[1 - _TURN + 2 :]}" if len(name) >= _TURN else name), _TURN),
        (sign(told.status), 2),
        (Text(cut(safe(told.step_id or told.what), step - 1)), step),
        (Text(cut(word(told.status), _STATUS - 1), style=colour(told.status)), _STATUS),
        (Text(took(told.took_s), style="dim"), _TOOK),
        (Text(cut(safe(told.detail), room), style="dim"), room),
    )


def _print_json(batch: list[Told]) -> None:
    console = out()
    for told in batch:
        console.file.write(to_line(_plain(told)) + "\n")
    console.file.flush()


def _plain(told: Told) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.to_builtins(told)
    return found
