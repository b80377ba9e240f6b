"""The commands that read a journal and check declarations: turns, show, check."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.text import Text

from undercroft.cli.console import colour, columns, err, out, put, say, sign, word
from undercroft.cli.load import load_target
from undercroft.cli.options import DB_DEFAULT, Db, Json, Turn
from undercroft.cli.plain import print_json
from undercroft.cli.problem import CannotRunError
from undercroft.cli.safe import clock, cut, safe, took
from undercroft.cli.show import Page, print_page
from undercroft.cli.steps import find_step, print_step
from undercroft.cli.where import Where
from undercroft.engine.check import check as check_target
from undercroft.engine.check import resources_of
from undercroft.errors import GraphError
from undercroft.layers.conflicts.strength import ResourceRow
from undercroft.layers.sequencing.lint import graph_finding
from undercroft.model.finding import Finding, Severity
from undercroft.model.outcome import TurnStatus
from undercroft.model.trace import Trace
from undercroft.model.turn import TurnHead
from undercroft.queries import audit_journal, list_turns, read_trace, six_answers

_RUNNING_MAX = 10_000
_FENCE_WIDTH = 16


def turns(
    *,
    status: Annotated[
        list[TurnStatus] | None,
        typer.Option("--status", help="Only turns that stand like this. Repeatable."),
    ] = None,
    session: Annotated[
        str | None, typer.Option("--session", metavar="ID", help="Only turns of this conversation.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many.")] = 20,
    db: Db = DB_DEFAULT,
    as_json: Json = False,
) -> None:
    """List turns, newest first."""
    heads = list_turns(db, statuses=tuple(status or ()), session=session, limit=limit + 1)
    shown = heads[:limit]
    if as_json:
        print_json(shown)
        return
    console = out()
    if not shown:
        console.print(Text("No turns like that." if status or session else "No turns yet."))
        return
    put(console, [_turn_row(head, console.width) for head in shown])
    if len(heads) > limit:
        err().print(Text(f"… and older ones: --limit {limit * 5}", style="dim"))


def _turn_row(head: TurnHead, width: int) -> Text:
    status = "killed" if head.status is TurnStatus.RUNNING and not head.held else head.status
    room = width - 28 - 12 - 21 - 8
    # The end of a target's name tells more than its beginning.
    target = safe(head.target)
    target = target if len(target) < room else f"…{target[len(target) - room + 3 :]}"
    return columns(
        (Text(safe(head.turn_id)), 28),
        (Text.assemble(sign(status), " ", (word(status), colour(status))), 12),
        (Text(clock(head.began_at, date=True), style="dim"), 21),
        (Text(target), room),
        (Text(_duration(head), style="dim"), 8),
    )


def _duration(head: TurnHead) -> str:
    if head.ended_at is None or not head.status.final:
        return ""
    return took(head.ended_at - head.began_at)


def show(
    *,
    turn: Turn,
    step: Annotated[
        str | None,
        typer.Option("--step", metavar="STEP", help="Only this step, in full: get_account.2 or 2."),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", metavar="", help="Long lists in full.")
    ] = False,
    db: Db = DB_DEFAULT,
    as_json: Json = False,
) -> None:
    """Explain a turn: what it tried, called, achieved and failed at, and what the user saw."""
    trace = read_trace(db, turn)
    if step is not None:
        found = find_step(trace, step)
        if as_json:
            print_json(found)
        else:
            print_step(out(), trace, found)
    elif as_json:
        print_json(trace)
    else:
        alive = _is_alive(db, trace)
        print_page(Page(out(), trace, six_answers(trace), Where(db), alive, everything))


def _is_alive(db: str, trace: Trace) -> bool:
    """Whether a process is running the turn now."""
    if trace.status.final:
        return False
    running = list_turns(db, statuses=(TurnStatus.RUNNING,), limit=_RUNNING_MAX)
    return any(head.turn_id == trace.turn_id and head.held for head in running)


def check(
    *,
    target: Annotated[
        str,
        typer.Argument(
            metavar="APP:FLOW|JOURNAL",
            help="A workflow or handler: path/to/app.py:flow or package.module:flow. Or a "
            "journal: the path of its file.",
            show_default=False,
        ),
    ],
    as_json: Json = False,
) -> None:
    """Say what is missing in a workflow or handler, before anything runs.

    Of a journal, say what went wrong between its turns: lost updates, stale
    writes, writes by a turn that was not the owner, conflicting steps that
    nothing ordered, and cycles.

    Then list the resources that it writes, and how each keeps a lapsed owner
    from writing: checked by the resource itself, by version, by delay, or
    advisory, which is not at all.
    """
    if ":" not in target and Path(target).is_file():
        _check_journal(target, as_json=as_json)
    if ":" not in target and ("/" in target or target.endswith(".db")):
        raise CannotRunError(
            target,
            "there is no such file",
            "Give the path of a journal, or path/to/app.py:flow.",
        )
    rows: list[ResourceRow] = []
    try:
        loaded = load_target(target)
        findings, rows = check_target(loaded), resources_of(loaded)
    except CannotRunError as error:
        # A graph may fail where it is written, which is while it is imported.
        if not isinstance(error.__cause__, GraphError):
            raise
        findings = [graph_finding(error.__cause__)]
    if as_json:
        print_json({"findings": findings, "resources": rows})
    else:
        _print_findings(target, findings)
        _print_resources(rows)
    raise typer.Exit(1 if findings else 0)


def _check_journal(path: str, *, as_json: bool) -> NoReturn:
    anomalies = audit_journal(path)
    if as_json:
        print_json({"anomalies": anomalies})
    elif not anomalies:
        out().print(Text.assemble(sign("ok"), f" {safe(path)}: nothing went wrong between turns."))
    for anomaly in () if as_json else anomalies:
        steps = ", ".join(f"{step} of {turn}" for turn, step in anomaly.steps)
        say(out(), Text.assemble(("✗ error", "bold red"), f"  {safe(steps)}"))
        say(out(), safe(anomaly.message), 4)
        say(out(), anomaly.rule, 4, "dim")
    raise typer.Exit(1 if anomalies else 0)


def _print_findings(target: str, findings: list[Finding]) -> None:
    console = out()
    if not findings:
        console.print(Text.assemble(sign("ok"), f" {safe(target)}: nothing is missing."))
        return
    for finding in findings:
        wrong = finding.severity is Severity.ERROR
        mark = ("✗ error", "bold red") if wrong else ("! warning", "bold yellow")
        say(console, Text.assemble(mark, f"  {safe(finding.place)}"))
        say(console, safe(finding.message), 4)
        say(console, safe(finding.mend), 4)
        say(console, finding.rule, 4, "dim")
        console.print()
    errors = sum(finding.severity is Severity.ERROR for finding in findings)
    said = f"{_counted(errors, 'error')}, {_counted(len(findings) - errors, 'warning')}"
    console.print(Text(cut(f"{safe(target)}: {said}", console.width)))


def _print_resources(rows: list[ResourceRow]) -> None:
    if not rows:
        return
    console = out()
    room = console.width - _FENCE_WIDTH
    key_width = min(max(len(safe(row.key)) for row in rows), room // 2) + 2
    console.print()
    lines = [("written", "by", "fence"), *((r.key, ", ".join(r.writers), _fence(r)) for r in rows)]
    put(
        console,
        [
            columns(
                (Text(safe(key), style="" if place else "dim"), key_width),
                (Text(safe(by), style="" if place else "dim"), room - key_width),
                (Text(fence, style="" if place else "dim"), _FENCE_WIDTH),
            )
            for place, (key, by, fence) in enumerate(lines)
        ],
    )


def _fence(row: ResourceRow) -> str:
    return f"{row.strength} {row.delay_s:g} s" if row.delay_s else str(row.strength)


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
