"""The commands that run turns: run, resume, approve, reject, settle."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import typer
from rich.text import Text

from undercroft.app import Runtime
from undercroft.cli.console import complain, err, out
from undercroft.cli.inputs import read_inputs, read_json
from undercroft.cli.load import load_target, load_targets
from undercroft.cli.options import (
    DB_DEFAULT,
    By,
    Db,
    Json,
    Model,
    Reason,
    Secrets,
    Step,
    Targets,
    Turn,
)
from undercroft.cli.outcome import exit_code, print_outcome
from undercroft.cli.plain import print_json
from undercroft.cli.problem import CannotRunError
from undercroft.cli.steps import find_step
from undercroft.cli.where import Where, needs_naming
from undercroft.cli.work import (
    NotedIds,
    model_hint,
    on_turn,
    only_results,
    target_hint,
    with_runtime,
)
from undercroft.errors import DeclarationError, TargetError, UndercroftError
from undercroft.model.outcome import Outcome
from undercroft.model.trace import Trace
from undercroft.queries import read_trace


def run(  # noqa: PLR0913  each parameter is one option
    *,
    target: Annotated[
        str,
        typer.Argument(
            metavar="APP:FLOW",
            help="A workflow or handler: path/to/app.py:flow or package.module:flow.",
            show_default=False,
        ),
    ],
    input_json: Annotated[
        str | None,
        typer.Option(
            "--input",
            metavar="JSON",
            help="Its inputs as one JSON object; `-` reads stdin, `@file.json` a file.",
        ),
    ] = None,
    session: Annotated[
        str | None, typer.Option("--session", metavar="ID", help="The conversation it belongs to.")
    ] = None,
    db: Db = DB_DEFAULT,
    model: Model = None,
    secrets: Secrets = None,
    timeout_s: Annotated[
        float | None,
        typer.Option(
            "--timeout", metavar="SECONDS", help="End the turn as failed after this; 3600."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Run a turn of a workflow or handler until it ends or has to wait."""
    named = (target,) if needs_naming(target) else ()
    where = Where(db, named, model, secrets)
    with only_results(as_json=as_json):
        outcome = _begin(where, target, input_json, session, timeout_s)
    _print_and_exit(outcome, where, as_json=as_json)


def _begin(
    where: Where, target: str, input_json: str | None, session: str | None, timeout_s: float | None
) -> Outcome:
    goal = load_target(target)
    inputs = read_inputs(goal, input_json)

    def begin(rt: Runtime) -> Awaitable[Outcome]:
        return rt.run(goal, session=session, timeout_s=timeout_s, **inputs)

    try:
        return with_runtime(where, [goal], NotedIds(), begin)
    except DeclarationError as error:
        raise model_hint(error, goal, where) from error


def resume(  # noqa: PLR0913  each parameter is one option
    *,
    turn: Annotated[
        str | None,
        typer.Argument(
            metavar="TURN",
            help="A turn's id, the beginning of it, or `last`.",
            show_default=False,
        ),
    ] = None,
    everything: Annotated[
        bool,
        typer.Option("--all", metavar="", help="Every turn that was stopped or killed."),
    ] = False,
    db: Db = DB_DEFAULT,
    model: Model = None,
    targets: Targets = None,
    secrets: Secrets = None,
    as_json: Json = False,
) -> None:
    """Go on with a turn that was stopped or killed; what is recorded does not run again."""
    where = Where(db, tuple(targets or ()), model, secrets)
    if everything == (turn is not None):
        raise CannotRunError(
            "resume", "it takes one turn, or --all", "Name one: undercroft resume last."
        )
    where.must_exist()
    if turn is None:
        _resume_all(where, as_json=as_json)
        return
    trace = read_trace(db, turn)
    with only_results(as_json=as_json):
        outcome = on_turn(where, trace, lambda rt: rt.resume(trace.turn_id))
    _print_and_exit(outcome, where, as_json=as_json)


def _resume_all(where: Where, *, as_json: bool) -> None:
    with only_results(as_json=as_json):
        targets = load_targets(where.targets)
        outcomes = with_runtime(where, targets, NotedIds(), Runtime.recover)
    if as_json:
        print_json(outcomes)
    elif not outcomes:
        out().print(Text("Nothing to resume: every turn has ended or waits for a person."))
    for turn_id, said in outcomes.items() if not as_json else ():
        if isinstance(said, Outcome):
            print_outcome(out(), said, where)
        else:
            complain(target_hint(said) if isinstance(said, TargetError) else said)
            err().print(Text(f"  {turn_id} was left as it is.", style="dim"))
    codes = [exit_code(o) if isinstance(o, Outcome) else 2 for o in outcomes.values()]
    raise typer.Exit(max(codes, default=0))


def approve(  # noqa: PLR0913  each parameter is one option
    *,
    turn: Turn,
    step: Step = None,
    by: By,
    reason: Reason = "",
    fingerprint: Annotated[
        str | None,
        typer.Option(
            "--fingerprint",
            metavar="HEX",
            help="Of what you saw, as the outcome shows it, or its first 8 letters: a yes to "
            "anything else is refused.",
        ),
    ] = None,
    db: Db = DB_DEFAULT,
    model: Model = None,
    targets: Targets = None,
    secrets: Secrets = None,
    as_json: Json = False,
) -> None:
    """Say yes to a step that waits, and go on with its turn. Twice is as good as once.

    The yes binds to the arguments and to what the turn had read. Where that
    has changed, the turn waits again and says what changed.
    """
    where = Where(db, tuple(targets or ()), model, secrets)

    def say_yes(rt: Runtime, turn_id: str, name: str | None) -> Awaitable[Outcome]:
        return rt.approve(turn_id, name, by=by, reason=reason, fingerprint=fingerprint)

    _decide(where, turn, step, say_yes, as_json=as_json)


def reject(  # noqa: PLR0913  each parameter is one option
    *,
    turn: Turn,
    step: Step = None,
    by: By,
    reason: Reason = "",
    db: Db = DB_DEFAULT,
    model: Model = None,
    targets: Targets = None,
    secrets: Secrets = None,
    as_json: Json = False,
) -> None:
    """Say no to a step that waits, and go on with its turn."""
    where = Where(db, tuple(targets or ()), model, secrets)

    def say_no(rt: Runtime, turn_id: str, name: str | None) -> Awaitable[Outcome]:
        return rt.reject(turn_id, name, by=by, reason=reason)

    _decide(where, turn, step, say_no, as_json=as_json)


def settle(  # noqa: PLR0913  each parameter is one option
    *,
    turn: Turn,
    step: Step = None,
    applied: Annotated[
        bool,
        typer.Option(
            "--applied/--not-applied",
            metavar="",
            help="It had happened / it had not, and is done now.",
            show_default=False,
        ),
    ],
    by: By,
    value: Annotated[
        str | None,
        typer.Option(
            "--value", metavar="JSON", help="What the step would have returned, if it happened."
        ),
    ] = None,
    db: Db = DB_DEFAULT,
    model: Model = None,
    targets: Targets = None,
    secrets: Secrets = None,
    as_json: Json = False,
) -> None:
    """Say whether a write in doubt had happened, and go on with its turn."""
    where = Where(db, tuple(targets or ()), model, secrets)
    if value is not None and not applied:
        raise CannotRunError(
            "--value", "a write that did not happen has none", "Leave it out, or say --applied."
        )
    result: Any = None if value is None else read_json("--value", value)

    def say_which(rt: Runtime, turn_id: str, name: str | None) -> Awaitable[Outcome]:
        return rt.settle(turn_id, name, applied=applied, by=by, value=result)

    _decide(where, turn, step, say_which, as_json=as_json)


def _decide(
    where: Where,
    turn: str,
    step: str | None,
    say: Callable[[Runtime, str, str | None], Awaitable[Outcome]],
    *,
    as_json: bool,
) -> None:
    """Hand a person's word to the turn, print how it stands then, and exit."""
    where.must_exist()
    trace = read_trace(where.db, turn)
    name = find_step(trace, step).step_id if step else None
    try:
        with only_results(as_json=as_json):
            outcome = on_turn(where, trace, lambda rt: say(rt, trace.turn_id, name))
    except UndercroftError as error:
        if _words(read_trace(where.db, trace.turn_id)) > _words(trace):
            error.add_note("What you said is recorded, and counts when the turn is resumed.")
        raise
    _print_and_exit(outcome, where, as_json=as_json)


def _words(trace: Trace) -> int:
    """Return how often somebody said something about a step of the turn."""
    return sum(len(step.decisions) for step in trace.steps)


def _print_and_exit(outcome: Outcome, where: Where, *, as_json: bool) -> None:
    if as_json:
        print_json(outcome)
    else:
        print_outcome(out(), outcome, where)
    raise typer.Exit(exit_code(outcome))
