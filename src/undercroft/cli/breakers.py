"""The services that are called, how they stand, and a person's word on them: breakers.

Keeps: what stands on the board comes from the journal alone, so any process's services are
shown; reading it takes nothing from the processes that run.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.live import Live
from rich.text import Text

from undercroft.cli.console import columns, out, print_command, put, say
from undercroft.cli.options import DB_DEFAULT, By, Db, Json, Reason
from undercroft.cli.plain import print_json, to_json
from undercroft.cli.problem import CannotRunError
from undercroft.cli.safe import clock, cut, safe, took
from undercroft.cli.where import Where
from undercroft.errors import StoreError
from undercroft.layers.breakers.board import BoardRow
from undercroft.model.circuit import CircuitChanged
from undercroft.queries import order_service, read_services, read_transitions

EVERY_S = 1.0

# Sign and colour of every state; the word itself is always printed too.
_LOOKS = {
    "closed": ("✓", "green"),
    "open": ("✗", "red"),
    "half_open": ("◌", "cyan"),
    "forced_open": ("⊘", "red"),
    "observe_only": ("◉", "yellow"),
    "disabled": ("-", "dim"),
}
_SUSPECT = ("!", "yellow")
_STATES = {"observe_only": "forced closed", "disabled": "no breaker"}
_WHYS = {
    "failure_rate": "too many calls failed",
    "slow_rate": "too many calls were slow",
    "failures_in_a_row": "failures in a row",
    "wait_over": "the wait is over",
    "probes_passed": "its probes went well",
    "probes_failed": "its probes failed",
    "probes_late": "its probes took too long",
    "told_again": "a process still has it so",
}
_STATE_WIDTH, _TIME_WIDTH, _MOVE_WIDTH = 15, 21, 30
# With what is left out first where a terminal is narrow.
_FIGURES = (("FAILED", 7), ("SLOW", 6), ("P50", 9), ("P99", 9), ("CALLS", 7), ("RETRIES", 8))
_DISPENSABLE = ("RETRIES", "P50", "CALLS")
_ROOM_MIN = 17

Service = Annotated[
    str, typer.Argument(metavar="SERVICE", help="Its name, as `service=` of a tool has it.")
]

app = typer.Typer(
    add_completion=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def breakers(
    ctx: typer.Context,
    *,
    watch: Annotated[
        bool, typer.Option("--watch", metavar="", help="Draw it anew every second, till Ctrl-C.")
    ] = False,
    db: Db = DB_DEFAULT,
    as_json: Json = False,
) -> None:
    """Show every service that is called, how it stands, and since when.

    Exit codes: 0 all closed, 1 some open, forced or suspect, 2 could not run.
    """
    if ctx.invoked_subcommand is not None:
        ctx.obj = db if _typed(ctx) else None
        return
    if watch:
        _watch(db, as_json=as_json)
        return
    rows = read_services(db)
    if as_json:
        print_json(_document(rows))
    else:
        console = out()
        put(console, board(rows, console.width, time.time()))
    raise typer.Exit(1 if any(row.bad for row in rows) else 0)


def _document(rows: Sequence[BoardRow]) -> dict[str, object]:
    return {"at": time.time(), "services": rows}


def _watch(db: str, *, as_json: bool) -> None:
    """Show the board every second until somebody presses Ctrl-C."""
    console = out()
    try:
        rows = read_services(db)
        if as_json:
            _each_second(db, _line, rows)
        elif not console.is_terminal:
            _each_second(db, lambda seen: _page(console, seen), rows)
        else:
            with Live(console=console, auto_refresh=False) as live:
                _each_second(db, lambda seen: _redraw(live, console, seen), rows)
    except KeyboardInterrupt:
        return
    except BrokenPipeError:
        # Whoever read it has seen enough.
        sys.stderr.close()


def _each_second(
    db: str, show: Callable[[Sequence[BoardRow] | StoreError], None], rows: Sequence[BoardRow]
) -> None:
    seen: Sequence[BoardRow] | StoreError = rows
    next_s = time.monotonic()
    while True:
        show(seen)
        next_s = max(next_s + EVERY_S, time.monotonic())
        time.sleep(max(0.0, next_s - time.monotonic()))
        try:
            seen = read_services(db)
        except StoreError as error:
            # It may come back, and whoever watches wants to see that.
            seen = error


def _line(seen: Sequence[BoardRow] | StoreError) -> None:
    document = {"at": time.time(), "error": str(seen)}
    if not isinstance(seen, StoreError):
        document = _document(seen)
    sys.stdout.write(msgspec.json.format(to_json(document).encode(), indent=-1).decode() + "\n")
    sys.stdout.flush()


def _lines(seen: Sequence[BoardRow] | StoreError, width: int) -> list[Text]:
    now = time.time()
    head = [Text(clock(now, date=True), style="dim")]
    if isinstance(seen, StoreError):
        return [*head, Text(safe(str(seen)), style="red")]
    return [*head, *board(seen, width, now)]


def _page(console: Console, seen: Sequence[BoardRow] | StoreError) -> None:
    put(console, [*_lines(seen, console.width), Text()])


def _redraw(live: Live, console: Console, seen: Sequence[BoardRow] | StoreError) -> None:
    lines = _lines(seen, console.width)
    if len(lines) >= console.height:
        # The rest would scroll away, and be drawn over and over.
        lines = [*lines[: console.height - 2], Text("… more than fits here", style="dim")]
    live.update(Text("\n").join(lines), refresh=True)


# ---------------------------------------------------------------------- the board


def board(rows: Sequence[BoardRow], width: int, now: float) -> list[Text]:
    """Return the board as lines of at most `width` columns."""
    if not rows:
        return [Text("No live process calls a service now, and no breaker has opened so far.")]
    figures = _figures(width)
    head = columns(
        (Text("  SERVICE"), _room(width)),
        (Text("STATE"), _STATE_WIDTH),
        *((Text(name.rjust(size)), size) for name, size in figures),
    )
    head.stylize("dim")
    lines = [head]
    for row in rows:
        lines += [_row(row, width), *_details(row, width, now)]
    return lines


def _figures(width: int) -> list[tuple[str, int]]:
    """Return the columns that there is room for."""
    shown = dict(_FIGURES)
    for name in _DISPENSABLE:
        if width - _STATE_WIDTH - sum(shown.values()) < _ROOM_MIN:
            del shown[name]
    return list(shown.items())


def _room(width: int) -> int:
    return width - _STATE_WIDTH - sum(size for _, size in _figures(width))


def _row(row: BoardRow, width: int) -> Text:
    mark, style = _LOOKS.get(row.state, ("·", ""))
    if row.suspect and row.state == "closed":
        mark, style = _SUSPECT
    state = "suspect" if row.suspect and row.state == "closed" else _state(row.state)
    figures = {
        "FAILED": _share(row.failure_rate),
        "SLOW": _share(row.slow_rate),
        "P50": took(row.p50_s) or "-",
        "P99": took(row.p99_s) or "-",
        "CALLS": f"{row.calls:,}" if row.processes else "-",
        "RETRIES": f"{row.retries:,}" if row.processes else "-",
    }
    name = cut(safe(row.service), _room(width) - 3)
    return columns(
        (Text.assemble((mark, style), " ", (name, "bold")), _room(width)),
        (Text(cut(state, _STATE_WIDTH - 1), style=style), _STATE_WIDTH),
        *((Text(cut(figures[n], size - 1).rjust(size)), size) for n, size in _figures(width)),
    )


def _state(state: str) -> str:
    return _STATES.get(state, safe(state).replace("_", " "))


def _share(rate: float | None) -> str:
    if rate is None:
        return "-"
    return f"{rate:.0%}" if rate in (0, 1) or 0.01 <= rate <= 0.99 else f"{rate:.1%}"  # noqa: PLR2004  it would round to none or all


def _details(row: BoardRow, width: int, now: float) -> list[Text]:
    said = [_since(row, now)]
    if row.processes:
        said.append(_traffic(row))
    else:
        said.append("no live process calls it")
    lines = [Text(f"    {cut(text, width - 4)}", style="dim") for text in said]
    error = row.last_error
    if error is not None:
        name = f"{error.type}: " if error.type else ""
        text = safe(f"last error at {clock(error.at)}, {error.error_class}: {name}{error.message}")
        lines.append(Text(f"    {cut(text, width - 4)}", style="" if row.bad else "dim"))
    return lines


def _since(row: BoardRow, now: float) -> str:
    words = [_state(row.state)]
    if row.since_at is not None:
        words.append(f"since {clock(row.since_at, date=now - row.since_at > 43_200)}")  # noqa: PLR2004  half a day
        words.append(f"({took(max(0.0, now - row.since_at))})")
    text = " ".join(words)
    if row.by:
        text += f", says {safe(row.by)}" + (f": {safe(row.reason)}" if row.reason else "")
    elif row.why:
        text += f", {_WHYS.get(row.why, safe(row.why).replace('_', ' '))}"
    if row.probe_in_s is not None:
        text += f"; next try {'now' if row.probe_in_s <= 0 else 'in ' + took(row.probe_in_s)}"
    return text


def _traffic(row: BoardRow) -> str:
    words = [safe(row.window)] if row.window else []
    words.append(f"{row.in_flight:,} in flight" + (f" of {row.limit:,}" if row.limit else ""))
    if row.refused:
        words.append(f"{row.refused:,} refused")
    words.append(f"{row.attempts:,} attempts")
    if row.usd is not None:
        words.append(f"${row.usd:,.2f}" if row.usd >= 1 else f"${row.usd:.4f}")
    words.append("1 process" if row.processes == 1 else f"{row.processes:,} processes")
    return ", ".join(words)


# ---------------------------------------------------------------------- history


@app.command(epilog="Example: undercroft breakers history crm")
def history(
    ctx: typer.Context,
    *,
    service: Annotated[
        str | None,
        typer.Argument(metavar="SERVICE", help="Only of this one.", show_default=False),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many.")] = 50,
    db: Db = DB_DEFAULT,
    as_json: Json = False,
) -> None:
    """Show how services went from state to state, who did it and why; newest last."""
    changes = read_transitions(_db(ctx, db), service, limit=limit)
    if as_json:
        print_json([_as_dict(change) for change in changes])
        return
    console = out()
    if not changes:
        of = f" of {safe(service)}" if service else ""
        console.print(Text(f"No transitions{of} yet: every breaker is as it was at first."))
        return
    for change in changes:
        put(console, _told(change, console.width))


def _as_dict(change: CircuitChanged) -> dict[str, object]:
    return {field: getattr(change, field) for field in change.__struct_fields__}


def _told(change: CircuitChanged, width: int) -> list[Text]:
    mark, style = _LOOKS.get(change.now, ("·", ""))
    room = width - _TIME_WIDTH - _MOVE_WIDTH
    move = Text.assemble(f"{_state(change.was)} → ", (_state(change.now), style))
    why = _WHYS.get(change.why, safe(change.why).replace("_", " "))
    if change.by:
        why = f"{why}, says {safe(change.by)}"
    said = [f"{why}: {safe(change.reason)}" if change.reason else why]
    if change.calls:
        rates = f"{change.failures:,} of {change.calls:,} calls failed"
        said.append(rates + (f", {change.slow:,} slow" if change.slow else ""))
    if change.refused:
        said.append(f"{change.refused:,} refused")
    if change.wait_s and change.now == "open":
        said.append(f"next try after {took(change.wait_s)}")
    head = columns(
        (Text(clock(change.at, date=True), style="dim"), _TIME_WIDTH),
        (Text.assemble((mark, style), " ", (cut(safe(change.service), room - 3), "bold")), room),
        (move, _MOVE_WIDTH),
    )
    return [head, Text(f"    {cut('; '.join(said), width - 4)}", style="dim")]


# ---------------------------------------------------------------------- orders


@app.command(
    "force-open", epilog='Example: undercroft breakers force-open crm --by ada --reason "moving"'
)
def force_open(  # noqa: PLR0913  each parameter is one option
    ctx: typer.Context,
    *,
    service: Service,
    by: By,
    reason: Reason = "",
    db: Db = DB_DEFAULT,
    as_json: Json = False,
) -> None:
    """Stop all calls to a service, in every process, until somebody says otherwise."""
    _order(_db(ctx, db), service, "force-open", by, reason, as_json=as_json)


@app.command("force-closed", epilog="Example: undercroft breakers force-closed crm --by ada")
def force_closed(  # noqa: PLR0913  each parameter is one option
    ctx: typer.Context,
    *,
    service: Service,
    by: By,
    reason: Reason = "",
    db: Db = DB_DEFAULT,
    as_json: Json = False,
) -> None:
    """Let all calls to a service through, however they end; they are only counted."""
    _order(_db(ctx, db), service, "force-closed", by, reason, as_json=as_json)


@app.command(epilog="Example: undercroft breakers reset crm --by ada")
def reset(  # noqa: PLR0913  each parameter is one option
    ctx: typer.Context,
    *,
    service: Service,
    by: By,
    reason: Reason = "",
    db: Db = DB_DEFAULT,
    as_json: Json = False,
) -> None:
    """Close the breaker of a service and count anew, whatever was said or seen before."""
    _order(_db(ctx, db), service, "reset", by, reason, as_json=as_json)


def _order(  # noqa: PLR0913  each parameter is one option
    db: str, service: str, what: str, by: str, reason: str, *, as_json: bool
) -> None:
    for name, value in (("SERVICE", service), ("--by", by)):
        if not value.strip():
            raise CannotRunError(
                name, "it is empty", f"Say: undercroft breakers {what} crm --by me."
            )
    known = {row.service for row in read_services(db)}
    change, written = order_service(db, service, what, by=by, reason=reason)
    if as_json:
        print_json({"written": written, **_as_dict(change)})
        return
    console = out()
    mark, style = _LOOKS.get(change.now, ("·", ""))
    state = _state(change.now)
    if not written:
        text = f"{safe(service)} is {state} already, as {safe(change.by or 'nobody')} said"
        say(console, Text.assemble((mark, style), f" {text}, {clock(change.at, date=True)}."))
        return
    say(console, Text.assemble((mark, style), f" {safe(service)} is {state} now, says {safe(by)}."))
    if service not in known:
        say(console, "No process has told of a service of that name yet; it counts once one "
            "calls it.", 2, "dim")  # fmt: skip
    else:
        say(console, "Live processes follow within a second.", 2, "dim")
    if what != "reset":
        print_command(console, Where(db).again("breakers", "reset", service, "--by", by))


def _db(ctx: typer.Context, db: str) -> str:
    """Return the journal, which may have been named before the subcommand."""
    return str(ctx.obj) if ctx.obj and not _typed(ctx) else db


def _typed(ctx: typer.Context) -> bool:
    """Whether --db stands on the command line of `ctx`, rather than in the environment."""
    source = ctx.get_parameter_source("db")
    return source is not None and source.name == "COMMANDLINE"
