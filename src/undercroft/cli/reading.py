"""The commands that read a journal and check declarations: turns, show, check."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.cells import cell_len
from rich.text import Text

from undercroft.cli.agents import handler_of
from undercroft.cli.console import colour, columns, err, out, put, say, sign, word
from undercroft.cli.load import load_any, load_target
from undercroft.cli.moments import Since, Until
from undercroft.cli.options import DB_DEFAULT, Db, Json, Turn
from undercroft.cli.plain import print_json
from undercroft.cli.problem import CannotRunError
from undercroft.cli.prompt import print_bodies, print_prompt, prompt_row
from undercroft.cli.safe import clock, cut, safe, took
from undercroft.cli.show import Page, print_page
from undercroft.cli.spending import total_spent
from undercroft.cli.steps import Detail, find_step, print_step
from undercroft.cli.where import Where
from undercroft.engine.check import check as check_target
from undercroft.engine.check import resources_of
from undercroft.engine.handler import Handler
from undercroft.engine.prompts import Prompt
from undercroft.engine.targets import Target
from undercroft.engine.workflow import Workflow
from undercroft.errors import GraphError
from undercroft.layers.conflicts.strength import ResourceRow
from undercroft.layers.observability.approvals import questions
from undercroft.layers.sequencing.lint import graph_finding
from undercroft.model.event import AnyEvent
from undercroft.model.finding import Finding, Severity
from undercroft.model.outcome import TurnStatus
from undercroft.model.step import MODEL
from undercroft.model.trace import StepTrace, Trace
from undercroft.model.turn import TurnHead
from undercroft.pages.turn import TurnView, turn_page
from undercroft.queries import (
    audit_journal,
    list_turns,
    read_prompt,
    read_turn,
    six_answers,
)

_RUNNING_MAX = 10_000
_FENCE_WIDTH = 16


def turns(  # noqa: PLR0913  what there is to narrow a list by
    *,
    status: Annotated[
        list[TurnStatus] | None,
        typer.Option("--status", help="Only turns that stand like this. Repeatable."),
    ] = None,
    session: Annotated[
        str | None, typer.Option("--session", metavar="ID", help="Only turns of this conversation.")
    ] = None,
    service: Annotated[
        str | None, typer.Option("--service", metavar="NAME", help="Only turns that called it.")
    ] = None,
    text: Annotated[
        str | None,
        typer.Option(
            "--text",
            metavar="TEXT",
            help="Only turns with this in inputs, arguments, results, errors, or what the user "
            "was told, in any case.",
        ),
    ] = None,
    since: Since = None,
    until: Until = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many.")] = 20,
    db: Db = DB_DEFAULT,
    as_json: Json = False,
) -> None:
    """List turns, newest first."""
    heads = list_turns(
        db,
        statuses=tuple(status or ()),
        session=session,
        since=since,
        until=until,
        service=service,
        text=text,
        limit=limit + 1,
    )
    shown = heads[:limit]
    if as_json:
        print_json(shown)
        return
    console = out()
    if not shown:
        asked = (status, session, service, text, since, until)
        narrowed = any(one not in (None, []) for one in asked)
        console.print(Text("No turns like that." if narrowed else "No turns yet."))
        return
    width = console.width
    put(console, [_turn_row(head, width) for head in shown])
    if len(heads) > limit:
        err().print(Text(f"… and older ones: --limit {limit * 5}", style="dim"))


def _turn_row(head: TurnHead, width: int) -> Text:
    status = "killed" if head.status is TurnStatus.RUNNING and not head.held else head.status
    room = width - 28 - 12 - 21 - 8
    # The end of a target's name tells more than its beginning.
    target = safe(head.target)
    target = target if len(target) < room else f"…{target[len(target) - room + 3 :]}"
    mark = sign(status)
    said = _duration(head)
    if said:
        target += " " * max(1, room - cell_len(target))
    # In one piece, and styled where it has to be: there may be ten thousand of them.
    pieces = (
        (f"{cut(safe(head.turn_id), 27):<28}", ""),
        (mark.plain, mark.style),
        (f" {word(status):<10}", colour(status)),
        (f"{clock(head.began_at, date=True):<21}", "dim"),
        (target, ""),
        (said, "dim"),
    )
    return Text.assemble(*pieces, no_wrap=True)


def _duration(head: TurnHead) -> str:
    if head.ended_at is None or not head.status.final:
        return ""
    return took(head.ended_at - head.began_at)


def show(  # noqa: PLR0913  the ways to look at a turn
    *,
    turn: Turn,
    step: Annotated[
        str | None,
        typer.Option("--step", metavar="STEP", help="Only this step, in full: get_account.2 or 2."),
    ] = None,
    prompt: Annotated[
        bool,
        typer.Option("--prompt", metavar="", help="Of a --step that asked a model: what it sent."),
    ] = False,
    body: Annotated[
        bool,
        typer.Option("--body", metavar="", help="Of a --step: all that it was given and gave."),
    ] = False,
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE", help="Write a page to be opened in a browser."),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", metavar="", help="Long lists in full.")
    ] = False,
    db: Db = DB_DEFAULT,
    as_json: Json = False,
) -> None:
    """Explain a turn: what it tried, called, achieved and failed at, and what the user saw."""
    if step is None and (prompt or body):
        raise typer.BadParameter("--prompt and --body are of one step: name it with --step.")
    events, trace = read_turn(db, turn)
    if step is not None:
        found = find_step(trace, step)
        if prompt:
            _show_prompt(
                _prompt_of(db, events, trace, found),
                trace,
                found,
                everything=everything,
                as_json=as_json,
            )
        elif as_json:
            print_json(found)
        elif body:
            print_bodies(out(), found)
        else:
            asked = tuple(one for one in questions(events) if one.n == found.n)
            sent = _prompt_of(db, events, trace, found)
            print_step(out(), trace, found, Detail(sent, asked, everything))
    elif html is not None:
        view = TurnView(
            trace,
            six_answers(trace),
            lambda step: _prompt_of(db, events, trace, step),
            questions(events),
            everything,
            total_spent(trace.steps),
        )
        _write(html, turn_page(view))
        err().print(Text(f"Wrote {safe(str(html))}", style="dim"))
    elif as_json:
        print_json(trace)
    else:
        alive = _is_alive(db, trace)
        print_page(Page(out(), trace, six_answers(trace), Where(db), alive, everything))


def _write(path: Path, page: str) -> None:
    try:
        path.write_text(page, encoding="utf-8", newline="")
    except OSError as error:
        raise CannotRunError(
            str(path), f"it cannot be written ({error})", "Name another."
        ) from None


def _prompt_of(db: str, events: Sequence[AnyEvent], trace: Trace, step: StepTrace) -> Prompt | None:
    if step.kind != MODEL:
        return None
    return read_prompt(db, trace.turn_id, step.n, events=events)


def _show_prompt(
    found: Prompt | None, trace: Trace, step: StepTrace, *, everything: bool, as_json: bool
) -> None:
    if found is None:
        place = f"Step {step.step_id} of turn {trace.turn_id}"
        raise CannotRunError(
            place, "it asked no model", "Its arguments are shown without --prompt."
        )
    if as_json:
        print_json(prompt_row(found))
    else:
        print_prompt(out(), found, everything=everything)


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
            help="A workflow or handler: path/to/app.py:flow or package.module:flow. An agent "
            "of LangChain, LangGraph, pydantic-ai or OpenAI Agents, or a list of tools. Or a "
            "journal: the path of its file.",
            show_default=False,
        ),
    ],
    effects: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="A TOML file that declares what the tools of an agent do.",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Say what is missing in a workflow, handler or agent, before anything runs.

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
        loaded = _checkable(target, effects)
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


def _checkable(target: str, effects: str | None) -> Target:
    """Return what is to be checked: a workflow, a handler, or the tools of an agent."""
    value = load_any(target)
    agent = None if isinstance(value, Workflow | Handler) else handler_of(target, value, effects)
    if agent is None and effects is not None:
        raise CannotRunError(
            target, "it declares its tools itself", "Give --effects for an agent of a framework."
        )
    if agent is None and not isinstance(value, Workflow | Handler):
        raise CannotRunError(
            target,
            f"it is of type {type(value).__name__}: no workflow, no handler, no agent of a "
            "framework that we know, and no list of tools",
            "Name one of these.",
        )
    return load_target(target) if agent is None else agent


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
